"""Worker: tasks composed, started, told and stopped together."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import os
import signal
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from relieve_py import copies, locks
from relieve_py.calls import Outcome
from relieve_py.ears import Ears
from relieve_py.entering import Entered
from relieve_py.errors import AlreadyRunning, EncodeError, NotRunning, RelieveError, Stopped
from relieve_py.events import Emitter, Failed, Ready, Restarting, Started
from relieve_py.exits import Exit
from relieve_py.lifecycle import State
from relieve_py.listening import Listening
from relieve_py.publishing import show_if_asked_for
from relieve_py.reloading import Reloader
from relieve_py.replies import Reply, gather, one_by_one, results_of
from relieve_py.sight import InSight
from relieve_py.stats import History
from relieve_py.tasks import CallableTask, Task
from relieve_py.timeouts import check_timeout
from relieve_py.waiters import Waiters

logger = logging.getLogger("relieve_py")
_counter = itertools.count(1)


class Worker(Entered, Listening, InSight):
    """Several tasks under one roof: started, told and stopped together, with listeners that also reach tasks added
    later.

    With ``watch=True`` tasks are reloaded when their script changes; with a list of files and directories, also when
    these do. Raises TypeError or ValueError, and ImportError without the extra ``watch``.
    """

    def __init__(self, *tasks: Task, name: str | None = None, watch: bool | Iterable[Any] = False) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"name must be a non-empty string, not {name!r}")
        self.name = name or f"{type(self).__name__.lower()}-{next(_counter)}"
        self._ears = Ears(self)
        self._waiters = Waiters()
        self._lock = locks.Condition(locks.new())  # owner: whoever changes members, waiters or a queue
        self._members: dict[str, Task] = {}
        self._leaving: tuple[Task, ...] = ()  # that were removed, and have a child all the same
        self._history = History()
        self._made_in = copies.here
        self._reloader = Reloader.of(self, watch)
        _all.add(self)
        self.add(*tasks)
        show_if_asked_for(self)

    def _forget(self) -> None:
        """In a process that was just forked: the tasks belong to the original."""
        self._lock = locks.Condition(locks.new())

    def _must_be_mine(self) -> None:
        """Raises NotRunning in a forked copy of the process."""
        if self._made_in is not copies.here:
            raise NotRunning(f"worker {self.name!r} belongs to the process that forked this one")

    # -- members -----------------------------------------------------------------------------------

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by name, in the order they were added; a read-only snapshot."""
        return MappingProxyType(self._members)

    def task(self, name: str) -> Task:
        """The task of that name. Raises KeyError that says what there is."""
        try:
            return self._members[name]
        except KeyError:
            there = ", ".join(self._members) or "none"
            raise KeyError(f"worker {self.name!r} has no task {name!r}; it has: {there}") from None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._members.values())

    def __contains__(self, task: object) -> bool:
        return task in self._members.values() or task in self._members

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {len(self)} tasks>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} {self.name!r} cannot be sent to another process")

    def add(self, *tasks: Task) -> None:
        """Take tasks in, started or not. Raises TypeError for what is no task, ValueError for a name that is taken."""
        self._must_be_mine()
        for task in tasks:
            self._check(task)
            with self._lock:
                if task.name in self._members:
                    raise ValueError(f"worker {self.name!r} has a task named {task.name!r} already")
                self._members = {**self._members, task.name: task}
                self._history.joins(task, len(self._members))
            self._follow(task)
            self._joined(task)
            self._watch_more()

    def remove(self, task: Task | str, timeout: float | None = None) -> Reply:
        """Let a task go: it is stopped, and never restarted. The Reply gives its exit record. Raises KeyError.

        It has ``timeout`` seconds (``kill_timeout``) to finish what it runs, which may be ``math.inf``.
        """
        check_timeout(timeout)
        member = self.task(task if isinstance(task, str) else task.name)
        with self._lock:
            self._members = {name: other for name, other in self._members.items() if other is not member}
            self._leaving = (*self._leaving, member)
            self._history.leaves(member)
        self._left(member)
        stopped = member.stop(timeout)
        stopped.when_settled(lambda: self._unfollow(member))
        return stopped

    def replace(self, old: Task | str, new: Task) -> Reply:
        """Have a task take the place of another: it is started, takes over once it is ready, and the old one finishes
        what it runs, however long that takes, and leaves. In the place of a task that does not run it is not started.

        The Reply gives the new task once the old one is gone. It raises StartError when the new one could not start,
        and KeyError when the old one was removed meanwhile; the new one is then stopped, and no member. Raises
        KeyError, TypeError and ValueError as ``task`` and ``add`` do; the new one may have the name of the old one.
        """
        self._must_be_mine()
        member = self.task(old if isinstance(old, str) else old.name)
        self._check(new)
        if (new.name != member.name and new.name in self._members) or new is member:
            raise ValueError(f"worker {self.name!r} has a task named {new.name!r} already")
        self._follow(new)
        starts = [functools.partial(self._started, new)] if member._slot.life.accepts else []
        steps = [*starts, functools.partial(self._succeeded, member, new)]
        whole = one_by_one(steps, self.emitter.strand, new, self._title("replace()"))
        whole.when_settled(lambda: None if new in self._members.values() else self._turned_away(new))
        return whole

    def _started(self, task: Task) -> Reply:
        """A Reply of the new task, once it is ready, whoever starts it: others may see it already."""
        try:
            return task.start()
        except AlreadyRunning:
            return task._slot.until_ready()

    def _succeeded(self, old: Task, new: Task) -> Reply:
        """The new task is what the old one was. A Reply that settles when the old one is gone."""
        with self._lock:
            if self._members.get(old.name) is not old:
                raise KeyError(f"task {old.name!r} left worker {self.name!r} before {new.name!r} could take its place")
            members = (new if task is old else task for task in self._members.values())
            self._members = {task.name: task for task in members}
            self._leaving = (*self._leaving, old)
            self._history.joins(new, len(self._members))
            self._history.leaves(old)
        self._joined(new)
        self._left(old)
        self._watch_more()
        stopped = old.stop(math.inf)
        stopped.when_settled(lambda: self._unfollow(old))
        return stopped

    def _turned_away(self, task: Task) -> None:
        task.stop().mark_seen()
        task._core.voice.unfollow(self._ears)
        task._followed_by = tuple(other for other in task._followed_by if other is not self)

    def _follow(self, task: Task) -> None:
        task._core.voice.follow(self._ears)
        if task._program:  # it goes on without its user, and so do the hooks of this class
            task._followed_by = (*task._followed_by, self)

    def _unfollow(self, task: Task) -> None:
        with self._lock:
            self._leaving = tuple(other for other in self._leaving if other is not task)
            self._history.left(task)
        task._core.voice.unfollow(self._ears)
        task._followed_by = tuple(other for other in task._followed_by if other is not self)

    def _check(self, task: Any) -> None:
        if not isinstance(task, Task):
            kind = type(self).__name__
            hint = f"; give them one by one, as in {kind}(*tasks)" if isinstance(task, list | tuple) else ""
            raise TypeError(f"{kind} takes tasks, not {task!r}{hint}")
        if self._reloader is not None:
            self._reloader.check(task)

    def _watch_more(self) -> None:
        """Watch what its tasks run, while any of them does."""
        if self._reloader is not None and any(task._slot.life.accepts for task in self):
            self._reloader.begin()

    def _joined(self, task: Task) -> None:
        """A task was added."""

    def _left(self, task: Task) -> None:
        """A task was removed, and will stop."""

    # -- start and stop ----------------------------------------------------------------------------

    def start(self) -> Reply:
        """Start the tasks that are not running. The Reply gives the worker once all are ready, or raises StartError."""
        starts = []
        for task in self:
            if not task._slot.life.accepts and task.state is not State.STOPPING:
                with contextlib.suppress(AlreadyRunning):  # another thread was first
                    starts.append(task.start())
        self._watch_more()
        return self._together("start()", starts, self._all_started)

    def _together(self, what: str, replies: list[Reply], combine: Callable[[list[Reply]], Any]) -> Reply:
        return gather(replies, self.emitter.strand, combine, self._title(what))

    def _title(self, what: str) -> str:
        """What a Reply is of, for messages."""
        return f"{what} of worker {self.name!r}"

    def _all_started(self, replies: list[Reply]) -> Worker:
        for reply in replies:
            reply.result()
        return self

    def stop(self, timeout: float | None = None) -> Reply:
        """Let every child finish and leave. The Reply gives the exit records, in the order of the tasks."""
        check_timeout(timeout)
        return self._end("stop()", lambda task: task.stop(timeout))

    def kill(self, signum: int = signal.SIGKILL) -> Reply:
        """Make every child leave now. The Reply gives the exit records, in the order of the tasks."""
        return self._end("kill()", lambda task: task.kill(signum))

    def _end(self, what: str, end: Callable[[Task], Reply]) -> Reply:
        """Also what was removed and has not left yet; but that has no record here."""
        if self._reloader is not None:
            self._reloader.end()
        tasks = list(self)
        replies = [end(task) for task in (*tasks, *self._leaving)]
        return self._together(what, replies, lambda replies: results_of(replies[: len(tasks)]))

    def restart(self) -> Reply:
        """Restart every task. The Reply gives the worker once all are ready again. It raises StartError; or Stopped
        when a task is being stopped, and the others are restarted all the same."""
        asked = [self._asked(task.restart) for task in self]
        self._watch_more()
        return self._together("restart()", asked, self._all_started)

    def _asked(self, what: Callable[[], Reply]) -> Reply:
        """What it gives; what it raises, as a Reply, so that the other tasks are asked all the same."""
        try:
            return what()
        except RelieveError as error:  # such as Stopped, of a task that somebody stops
            return self._failed(error)

    def reload(self) -> Reply:
        """Replace every child by another, one task after the other, each new one ready before the old one leaves.

        The Reply gives the worker. It raises the StartError of the first task whose new child could not start; that
        task keeps its old child, and those after it are left as they are. A task that is stopped or removed before its
        turn stays so; one that is removed in its turn keeps no other from being reloaded.
        """
        return self.reload_tasks(self)

    def reload_tasks(self, tasks: Iterable[Task]) -> Reply:
        """``reload()`` for these tasks only."""
        steps = [functools.partial(self._reloaded, task, task._slot.life.stops) for task in tasks]
        return one_by_one(steps, self.emitter.strand, self, self._title("reload()"))

    def _reloaded(self, task: Task, stops: int) -> Reply:
        def outcome(replies: list[Reply]) -> Task:
            try:
                results_of(replies)
            except Stopped:
                if task in self._members.values():
                    raise  # else it was removed in its turn
            return task

        stays = task in self._members.values() and task._slot.life.stops == stops
        return self._together("reload()", [self._asked(task.reload)] if stays else [], outcome)

    def drain(self, timeout: float | None = None) -> Reply:
        """A Reply of the worker, once none of its tasks has open calls. Raises TimeoutError when one still has some
        after ``timeout`` seconds."""
        return self._together("drain()", [task.drain(timeout) for task in self], self._all_started)

    # -- events ------------------------------------------------------------------------------------

    @property
    def emitter(self) -> Emitter:
        """Who tells its listeners."""
        return self._ears.emitter

    def wait_for(self, name: str) -> Reply:
        """A Reply of the arguments (a tuple) of the next such event of any task."""
        self._must_be_mine()
        reply = Reply(None, self.emitter.strand, self._title(f"wait_for({name!r})"))
        reply.keeps = self
        return self._waiters.add(name, reply)

    @property
    def _handles_errors(self) -> bool:
        return type(self).on_error is not Worker.on_error

    def tell(self, name: str, record: Any) -> None:
        """An event of the worker itself, told on its strand, in the order of these calls."""
        if self._waiters or self.emitter.listening(name):
            self.emitter.strand.submit(self._tell, name, record)

    def _tell(self, name: str, record: Any) -> None:
        met = self._waiters.met(name)
        self.emitter.emit(name, record)
        for reply in met:
            self.emitter.strand.submit(reply.settle, (record,))

    def send(self, name: str, *args: Any) -> Reply:
        """Send every task an event. The Reply gives an Outcome for each, in the order of the tasks."""
        return self.broadcast(name, *args)

    def broadcast(self, name: str, *args: Any) -> Reply:
        """Send every task an event. The Reply gives an Outcome for each, in the order of the tasks. Raises
        EncodeError."""
        tasks = list(self)
        return self._outcomes(tasks, [task.send(name, *args) for task in tasks])

    def broadcast_get(self, method: str | None = None, /, *args: Any, **kwargs: Any) -> Reply:
        """Call a function on every task. The Reply gives an Outcome for each, errors included, in the order of the
        tasks.

        Raises TypeError when a task serves no calls, EncodeError for arguments that cannot be sent.
        """
        tasks = [self._callable(task) for task in self]
        replies: list[Reply] = []
        for task in tasks:
            try:
                replies.append(task.get(method, *args, **kwargs))
            except EncodeError as error:
                if not replies:
                    raise
                replies.append(self._failed(error))  # a stream among the arguments, which the first task has
        return self._outcomes(tasks, replies)

    def _failed(self, error: RelieveError) -> Reply:
        failed = Reply(None, self.emitter.strand)
        failed.fail(error)
        return failed

    def _callable(self, task: Task) -> CallableTask:
        if not isinstance(task, CallableTask):
            raise TypeError(
                f"task {task.name!r} is a {type(task).__name__}, which serves no calls; a CallableTask does"
            )
        return task

    def _outcomes(self, tasks: Any, replies: list[Reply]) -> Reply:
        names = [task.name for task in tasks]

        def combine(replies: list[Reply]) -> list[Outcome]:
            return [_outcome(name, reply) for name, reply in zip(names, replies, strict=True)]

        return self._together("broadcast", replies, combine)

    # -- sight -------------------------------------------------------------------------------------

    def _numbers(self) -> dict[str, Any]:
        with self._lock:
            numbers = self._history.numbers(list(self))
        open = numbers["queued"] + numbers["running"]
        numbers["submitted"] = open + numbers["done"] + numbers["failed"] + numbers["cancelled"]
        return numbers

    # -- to be overridden --------------------------------------------------------------------------

    def on_start(self, event: Started) -> None:
        """A child was launched. Does nothing here; called like a listener, as are all of these."""

    def on_ready(self, event: Ready) -> None:
        """A child is ready."""

    def on_message(self, name: str, *args: Any) -> None:
        """A child sent an event."""

    def on_exit(self, event: Exit) -> None:
        """A child has ended."""

    def on_restart(self, event: Restarting) -> None:
        """Another child will be launched."""

    def on_error(self, event: Failed) -> None:
        """A called function raised, a child could not start, or a restart budget is spent."""


_all: weakref.WeakSet[Worker] = weakref.WeakSet()


def _after_fork() -> None:
    for worker in list(_all):
        worker._forget()


os.register_at_fork(after_in_child=_after_fork)


def _outcome(task: str, reply: Reply) -> Outcome:
    try:
        return Outcome(task=task, value=reply.result())
    except BaseException as error:
        return Outcome(task=task, error=error)
