"""What a task tells: its listeners, the hooks of its class, whoever waits for an event, and observing plug-ins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from relieve_py import plugins
from relieve_py.answers import complete
from relieve_py.calls import Call
from relieve_py.events import HOOKS, Emitter, Failed, StateChanged
from relieve_py.patterns import matches
from relieve_py.replies import Reply

if TYPE_CHECKING:
    from relieve_py.tasks import Task

logger = logging.getLogger("relieve_py")


class Follower(Protocol):
    """A worker that hears all that its tasks tell. It must not block."""

    @property
    def emitter(self) -> Emitter:
        """Who tells its listeners."""
        ...

    def hear(self, task: Task, name: str, args: tuple[Any, ...], lifecycle: bool) -> bool:
        """An event of that task. True when somebody listens to it."""
        ...

    def nothing_will_come(self, error: BaseException) -> None:
        """A task has no child left, and no other will follow."""
        ...


class Voice:
    """The owner of a slot. Until a task takes it, what there is to tell is kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.emitter = Emitter()
        self.face: Any = None  # the task, for replies
        self._task: Task | None = None  # the same, once what was kept for it is told
        self._kept: list[tuple[str, tuple[Any, ...], bool, bool]] = []
        self._lock = threading.Lock()  # owner: whoever touches _waiting
        self._waiting: list[tuple[str, Reply]] = []
        self._followers: tuple[Follower, ...] = ()

    def take(self, task: Task) -> None:
        """Speak for this task from now on, beginning with what was kept."""
        self.face = self.emitter.source = task
        self.emitter.strand.submit(self._take, task)

    def _take(self, task: Task) -> None:
        self._task = task
        kept, self._kept = self._kept, []
        for name, args, lifecycle, told in kept:
            self._say(name, args, lifecycle, told)

    def follow(self, follower: Follower) -> None:
        """Have a worker hear everything."""
        self._followers = (*self._followers, follower)

    def unfollow(self, follower: Follower) -> None:
        """Have it hear nothing more."""
        self._followers = tuple(other for other in self._followers if other is not follower)

    # -- from the slot -----------------------------------------------------------------------------

    def tell(self, name: str, record: Any, told: bool = False) -> None:
        """A lifecycle event, told on the strand. ``told``: of this error, somebody who waits is told too."""
        self.emitter.strand.submit(self._say, name, (record,), True, told)

    def deliver(self, name: str, args: list[Any]) -> None:
        """An event of the child; on the strand already."""
        self._say(name, tuple(args), False)

    def call_failed(self, call: Call, error: BaseException) -> None:
        """A call failed and nobody waits for its reply."""
        self.tell("error", Failed(task=self.name, method=call.method, error=error))

    def answer(self, name: str, args: list[Any], give: Callable[[Any, BaseException | None], object]) -> None:
        """A question of the child: the first listener of the task answers, or else of a worker, on its own strand."""
        if self.emitter.listening(name):
            self.emitter.ask(self._task, name, tuple(args), give)
            return
        for follower in self._followers:
            if follower.emitter.listening(name):
                follower.emitter.strand.submit(follower.emitter.ask, self._task, name, tuple(args), give)
                return
        give(None, LookupError(f"nobody listens to {name!r} in the parent"))

    # -- on the strand -----------------------------------------------------------------------------

    def _say(self, name: str, args: tuple[Any, ...], lifecycle: bool, told: bool = False) -> None:
        task = self._task
        if task is None:
            self._kept.append((name, args, lifecycle, told))
            return
        if lifecycle:
            self._log(name, args[0])
            if isinstance(args[0], Failed):
                complete(args[0].error)
            if name in HOOKS:
                self._run_hook(task, f"on_{name}", args)
            if plugins.observed():
                plugins.tell(task, name, args[0])
        else:
            self._run_hook(task, "on_message", (name, *args))
        heard = self.emitter.emit(name, *args)
        for follower in self._followers:
            heard = follower.hear(task, name, args, lifecycle) or heard
        heard = self._answer_waiting(name, args) or heard
        if name == "error" and not (heard or told or task._handles_errors):
            failed: Failed = args[0]
            what = f"{failed.method}()" if failed.method else "it"
            logger.error("task %r: %s failed and nobody listens", self.name, what, exc_info=failed.error)

    def _log(self, name: str, record: Any) -> None:
        if isinstance(record, StateChanged):
            logger.debug("task %r: %s -> %s", self.name, record.before.value, record.after.value)
        else:
            logger.debug("task %r: %s %r", self.name, name, record)

    @staticmethod
    def _run_hook(task: Task, hook: str, args: tuple[Any, ...]) -> None:
        try:
            getattr(task, hook)(*args)
        except BaseException:  # also SystemExit: what follows is other people's
            logger.exception("%s of task %r raised", hook, task.name)

    # -- waiting for an event ----------------------------------------------------------------------

    def wait_for(self, name: str) -> Reply:
        """A Reply of the arguments of the next event of that name, which may have a ``*``."""
        reply = Reply(None, self.emitter.strand)
        with self._lock:
            self._waiting = [entry for entry in self._waiting if not entry[1].done()]
            self._waiting.append((name, reply))
        return reply

    def _answer_waiting(self, name: str, args: tuple[Any, ...]) -> bool:
        with self._lock:
            met = [entry for entry in self._waiting if matches(entry[0], name)]
            self._waiting = [entry for entry in self._waiting if entry not in met]
        for _, reply in met:
            reply.settle(args)
        return bool(met)

    def nothing_will_come(self, error: BaseException) -> None:
        """Fail whoever waits for an event: there is no child and none will follow."""
        self.emitter.strand.submit(self._fail_waiting, error)

    def _fail_waiting(self, error: BaseException) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for _, reply in waiting:
            reply.fail(error)
        for follower in self._followers:
            follower.nothing_will_come(error)
