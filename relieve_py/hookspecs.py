"""All that a plug-in author imports: the mark for hook functions, and what each hook is asked and may answer.

A plug-in is a module or an object with functions of these names, marked and taking any of the listed
arguments::

    from relieve_py.hookspecs import hookimpl

    @hookimpl
    def relieve_strategies():
        return {"nearest": Nearest}

It is found by an entry point in the group ``relieve_py``, or given to ``relieve_py.register(plugin)``. Where
two plug-ins give the same name, one registered by hand wins over an installed one, and that over a built-in;
of two of a kind the last registered wins. What a plug-in raises is logged with its name, and the others are
asked all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pluggy

ENTRY_POINT_GROUP = "relieve_py"
"""The group of the entry points under which installed plug-ins are found."""

hookspec = pluggy.HookspecMarker("relieve_py")
hookimpl = pluggy.HookimplMarker("relieve_py")
"""Marks the functions of a plug-in."""

Factory = Callable[[], Any]
"""Makes an instance without arguments: a class, or a function that imports the class when it is wanted."""


@hookspec
def relieve_launchers() -> Mapping[str, Factory] | None:
    """Launchers by the name that users give as ``launcher=``.

    An instance has a ``name`` (str) and ``launch``. The process makes one of each, when it is first wanted.
    """


@hookspec
def relieve_serializers() -> Mapping[str, Factory] | None:
    """Serializers by the name that users give as ``serializer=``.

    An instance has a ``name`` (str), ``any_object`` (bool: whether it carries every Python object or plain
    data only), ``encode(obj)`` that gives a Payload, and ``decode(payload)`` that gives the object. It is
    sent to the child by pickle, so its class must be importable there. A new one is made for each task.
    """


@hookspec
def relieve_strategies() -> Mapping[str, Factory] | None:
    """Strategies by the name that users give as ``strategy=``.

    An instance serves one worker, which calls one method at a time:

    - ``push(task)``: a task has joined; ``remove(task)``: it has left, though its last calls may end later;
    - ``next(tasks, call)``: which of ``tasks`` (a tuple in order of membership, never empty) gets the call;
    - ``start(task, call)``: the call was given to the task; ``end(task, call)``: it is over, in any way.

    Of a task it may read ``name`` (str), ``load`` (int, calls waiting and running) and ``pid`` (int or None);
    of a call, ``key`` (what ``options(key=...)`` gave, or None), ``method`` and ``id`` (int). Its class may
    say ``waits = True``: the candidates are then all running tasks, also busy ones, and the call waits for
    the one that was chosen.
    """


@hookspec
def relieve_containers(task: Any) -> Iterable[str | Callable[..., Any]] | None:
    """Containers to run in the child of ``task`` before it is ready, in addition to the task's own.

    Each is a text ``"package.module:function"`` or a function that the child can import. Asked once, when the
    task is made.
    """


@hookspec
def relieve_interfaces(task: Any) -> Iterable[Any] | None:
    """Interfaces to attach to ``task`` in this process: objects with ``attach(task)``.

    Asked once, when the task is made.
    """


@hookspec
def relieve_event(task: Any, name: str, record: Any) -> None:
    """See what befell ``task``: the ``name`` of the event (such as ``"exit"``) and its frozen ``record``.

    Calls and replies are not told. Any thread may ask, and other observers wait meanwhile: hand long work to
    another thread.
    """
