"""What a user may say of a task, checked at construction: each wrong option is refused by name."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import attrs

from relieve_py.limits import NO_LIMITS, Limits
from relieve_py.output import INHERIT, Output, as_output
from relieve_py.policies import UNCHANGED, RecyclePolicy, RestartPolicy

MOST_AT_ONCE = 1000
"""The largest ``concurrency``: each call has a thread. Above it a thread costs more than another child would."""

MOST_SPARES = 100
"""The largest ``spares``: each is a process with all that ``start()`` makes."""


class TaskKeywords(TypedDict, total=False):
    """The keyword arguments of every task; TaskOptions says what each means."""

    name: str | None
    args: Iterable[Any]
    restart: bool | RestartPolicy | None
    env: Mapping[str, str] | None
    cwd: str | os.PathLike[str] | None
    containers: Iterable[Any]
    interfaces: Iterable[Any]
    launcher: Any
    serializer: Any
    ready: str | None
    start_timeout: float | None
    kill_timeout: float
    concurrency: int
    heartbeat: float | None
    busy_timeout: float | None
    recycle: RecyclePolicy
    limits: Limits | None
    dump_stacks: bool
    threads: int | None
    output: Any
    log: int | str | None
    preload: bool | Iterable[str | os.PathLike[str]]
    spares: int


def _seconds(allow_none: bool) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and allow_none:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{attribute.name} must be a number of seconds, not {value!r}")
        if not 0 <= value < float("inf"):
            raise ValueError(f"{attribute.name} must be a number of seconds from 0 on, not {value!r}")

    return check


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) else tuple(value)


def _is_tuple(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple):
        raise TypeError(f"{attribute.name} must be a list or tuple, not {value!r}")


def _fits_in_an_environment(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _as_dict(env: Any) -> Any:
    return dict(env) if isinstance(env, Mapping) else env or {}


def _as_level(level: Any) -> Any:
    if not isinstance(level, str):
        return level
    known = logging.getLevelNamesMapping()
    if level not in known:
        raise ValueError(f"log must be one of {', '.join(known)}, a number or None, not {level!r}")
    return known[level]


def _as_modules(preload: Any) -> Any:
    if isinstance(preload, (str, bytes)) or not isinstance(preload, Iterable):
        return preload
    return tuple(os.fspath(each) if isinstance(each, os.PathLike) else each for each in preload)


def _as_limits(limits: Any) -> Any:
    return NO_LIMITS if limits is None else limits


def _as_path(cwd: Any) -> Any:
    return os.fspath(cwd) if isinstance(cwd, os.PathLike) else cwd


@attrs.frozen(kw_only=True)
class TaskOptions:
    """The options of every task."""

    name: str | None = attrs.field(default=None)
    """Unique within its worker; made from the script's name if not given."""
    args: tuple[Any, ...] = attrs.field(default=(), converter=_as_tuple, validator=_is_tuple)
    """The start arguments: given to the script's ``start()``, and ``sys.argv`` of a program."""
    restart: bool | RestartPolicy | None = attrs.field(default=None)
    """When a child that ended is followed by another; None is the default of the kind of task."""
    env: dict[str, str] = attrs.field(factory=dict, converter=_as_dict)
    """Variables added to the parent's environment, as it is at each launch."""
    cwd: str | None = attrs.field(default=None, converter=_as_path)
    """The child's working directory; None is the parent's, as it is at the first launch."""
    containers: tuple[Any, ...] = attrs.field(default=(), converter=_as_tuple, validator=_is_tuple)
    """Run inside the child before it is ready: ``"pkg.mod:name"`` or callables."""
    interfaces: tuple[Any, ...] = attrs.field(default=(), converter=_as_tuple, validator=_is_tuple)
    """Attached to the task in the parent: objects with ``attach(task)``."""
    launcher: Any = "forkserver"
    """``"forkserver"``, ``"spawn"``, ``"fork"``, the name of a plug-in's, or a launcher."""
    serializer: Any = "pickle"
    """``"pickle"``, ``"json"``, ``"cbor"``, the name of a plug-in's, or a serializer."""
    ready: str | None = attrs.field(default=None)
    """``"call"``: a program is ready when it calls ``ipc.ready()``; None: once it begins to run."""
    start_timeout: float | None = attrs.field(default=30.0, validator=_seconds(allow_none=True))
    """Seconds a child may take to become ready; None: for ever."""
    kill_timeout: float = attrs.field(default=5.0, validator=_seconds(allow_none=False))
    """Seconds a child gets to leave, or to give up a cancelled call, before SIGTERM, and a moment later SIGKILL."""
    concurrency: int = attrs.field(default=1)
    """Calls that a child runs at once. 1: one after another, in its main thread. Above it each has a thread, and
    coroutines run on the event loop of the main thread; a death, or a call that does not react to its cancellation,
    then costs all that run."""
    heartbeat: float | None = attrs.field(default=None, validator=_seconds(allow_none=True))
    """A ready child that gives no sign of life for so many seconds (it was stopped, or never frees the interpreter
    lock) is replaced; one that is silent for less than half of it never is. None: it is not asked."""
    busy_timeout: float | None = attrs.field(default=None, validator=_seconds(allow_none=True))
    """Seconds that a child may stay out of the rotation by ``ipc.busy()``; it is then replaced, after the call that it
    runs. None: for ever."""
    recycle: RecyclePolicy = attrs.field(default=UNCHANGED)
    """When a child that works well is replaced by a fresh one, or let go because it is idle."""
    limits: Limits = attrs.field(default=NO_LIMITS, converter=_as_limits)
    """What a child may use at most; None is no limit."""
    dump_stacks: bool = attrs.field(default=True)
    """Have a child write down its stacks, for the error, when a call passes its ``timeout``, and before it is ended
    because it does not react. One that lets no other thread run is asked by a real-time signal
    (``relieve_py.blackbox.DUMP_SIGNAL``); where there are none (macOS), no child is asked."""

    threads: int | None = attrs.field(default=None)
    """Threads that each numerical library in a child (OpenMP, OpenBLAS, MKL, ...) may start, set by its variable, such
    as ``OMP_NUM_THREADS``, before the child starts. A variable that is set already, in ``env`` or in the parent's
    environment, stays. None: as many as the library likes, which is most often one for each processor."""

    output: Output = attrs.field(default=INHERIT, converter=as_output)
    """Where what the children print goes: ``"inherit"``, ``"capture"``, ``"log"``, a path, a function of each line, or
    an ``Output``, which says more of it."""

    log: int | None = attrs.field(default=None, converter=_as_level)
    """The level, such as ``"INFO"`` or ``logging.INFO``, from which on the child's log records are sent to the parent,
    and logged there by the loggers of the same names; ``record.task`` is the task's name. None: they stay in the
    child."""

    preload: tuple[str, ...] | bool = attrs.field(default=(), converter=_as_modules)
    """Modules by their dotted names, and scripts by their paths, that are imported once, in a server process of their
    own, and shared by all children of the task, which then start without importing them again. True: what the task's
    script imports at its top. With the launcher ``forkserver`` only."""

    spares: int = attrs.field(default=0)
    """Children of a ``CallableTask`` that are kept ready beside the one that serves, their ``start()`` done, to take
    its place when it dies."""

    @name.validator
    def _named(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and (not isinstance(value, str) or not value):
            raise TypeError(f"name must be a non-empty string, not {value!r}")

    @env.validator
    def _strings(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, dict) or not all(isinstance(part, str) for pair in value.items() for part in pair):
            raise TypeError(f"env must be a mapping of strings to strings, not {value!r}")
        wrong = [part for pair in value.items() for part in pair if not _fits_in_an_environment(part)]
        if wrong or any("=" in key or not key for key in value):
            raise ValueError(f"env has a name or a value that no environment can hold: {value!r}")

    @cwd.validator
    def _path(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not isinstance(value, str):
            raise TypeError(f"cwd must be a path, not {value!r}")

    @restart.validator
    def _policy(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not isinstance(value, (bool, RestartPolicy)):
            raise TypeError(f"restart must be True, False or a RestartPolicy, not {value!r}")

    @concurrency.validator
    def _at_once(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"concurrency must be a whole number, not {value!r}")
        if not 1 <= value <= MOST_AT_ONCE:
            raise ValueError(f"concurrency must be from 1 to {MOST_AT_ONCE}, not {value!r}")

    @heartbeat.validator
    @busy_timeout.validator
    def _beats(self, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not value > 0:
            raise ValueError(f"{attribute.name} must be above 0 seconds, not {value!r}")

    @recycle.validator
    def _recycles(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, RecyclePolicy):
            raise TypeError(f"recycle must be a RecyclePolicy, not {value!r}")

    @ready.validator
    def _when(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in (None, "call"):
            raise ValueError(f"ready must be 'call' or None, not {value!r}")

    @limits.validator
    def _limiting(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, Limits):
            raise TypeError(f"limits must be Limits(...) or None, not {value!r}")

    @dump_stacks.validator
    def _yes_or_no(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"dump_stacks must be True or False, not {value!r}")

    @log.validator
    def _level(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"log must be a level of the module logging, or None, not {value!r}")
        if value is not None and value < 0:
            raise ValueError(f"log must be a level from 0 on, not {value!r}")

    @preload.validator
    def _importable(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool):
            return
        if not isinstance(value, tuple):
            raise TypeError(f"preload must be True, False or a list of modules, not {value!r}")
        for each in value:
            if not isinstance(each, str) or not each:
                raise TypeError(f"preload must name modules or paths of scripts; {each!r} is neither")
            if not each.endswith(".py") and not all(part.isidentifier() for part in each.split(".")):
                raise ValueError(f"preload: {each!r} is neither the dotted name of a module nor a path ending in .py")

    @spares.validator
    def _so_many(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"spares must be a whole number, not {value!r}")
        if not 0 <= value <= MOST_SPARES:
            raise ValueError(f"spares must be from 0 to {MOST_SPARES}, not {value!r}")

    @threads.validator
    def _whole(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"threads must be a whole number or None, not {value!r}")
        if value < 1:
            raise ValueError(f"threads must be at least 1, not {value!r}")

    @containers.validator
    def _runnable(self, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
        for container in value:
            if not isinstance(container, str) and not callable(container):
                raise TypeError(f"containers must be 'pkg.mod:name' or callables; {container!r} is neither")

    @interfaces.validator
    def _attachable(self, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
        for interface in value:
            if not callable(getattr(interface, "attach", None)):
                raise TypeError(f"interfaces must have a method attach(task); {interface!r} has none")


def read_options(kind: str, keywords: Mapping[str, Any]) -> TaskOptions:
    """The options that a user gave to that kind of task. Raises TypeError or ValueError that names the wrong one."""
    known = [field.name for field in attrs.fields(TaskOptions)]
    for keyword in keywords:
        if keyword not in known:
            raise TypeError(f"{kind} has no option {keyword!r}; its options are: {', '.join(known)}")
    return TaskOptions(**keywords)
