"""What a task tells: its listeners, the hooks of its class, whoever waits for an event, and observing plug-ins."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from relieve_py import plugins
from relieve_py.answers import complete
from relieve_py.calls import Call
from relieve_py.events import HOOKS, Emitter, Failed, StateChanged
from relieve_py.log import logger

if TYPE_CHECKING:
    from relieve_py.tasks import Task


class Follower(Protocol):
    """A worker that hears all that its tasks tell. It must not block."""

    @property
    def emitter(self) -> Emitter:
        """Who tells its listeners."""
        ...

    def hear(self, task: Task | None, name: str, args: tuple[Any, ...], lifecycle: bool) -> bool:
        """An event of that task, None once the user has let it go. True when somebody listens to it."""
        ...

    def nothing_will_come(self, error: BaseException) -> None:
        """A task has no child left, and no other will follow."""
        ...


def _nobody() -> None:
    return None


class Voice:
    """The owner of a slot. Until a task takes it, what there is to tell is kept.

    It does not keep the task: a slot with a child is kept by the supervisor, and whom the user has let go has to go all
    the same.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.emitter = Emitter()
        self._task: Callable[[], Task | None] = _nobody
        self._taken = False  # what was kept for the task is told
        self._kept: list[tuple[str, tuple[Any, ...], bool, bool]] = []
        self._followers: tuple[Follower, ...] = ()

    @property
    def face(self) -> Any:
        """The task, for replies; None once the user has let it go."""
        return self._task()

    def take(self, task: Task, keep: bool) -> None:
        """Speak for this task from now on, beginning with what was kept, and ``keep`` it while there is a child."""
        self._task = (lambda: task) if keep else weakref.ref(task)
        self.emitter.strand.submit(self._take)

    def _take(self) -> None:
        self._taken = True
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
            self.emitter.ask(self.face, name, tuple(args), give)
            return
        for follower in self._followers:
            if follower.emitter.listening(name):
                follower.emitter.strand.submit(follower.emitter.ask, self.face, name, tuple(args), give)
                return
        give(None, LookupError(f"nobody listens to {name!r} in the parent"))

    # -- on the strand -----------------------------------------------------------------------------

    def _say(self, name: str, args: tuple[Any, ...], lifecycle: bool, told: bool = False) -> None:
        if not self._taken:
            self._kept.append((name, args, lifecycle, told))
            return
        task = self._task()
        if lifecycle:
            self._log(name, args[0])
            if isinstance(args[0], Failed):
                complete(args[0].error)
        if task is not None:
            self._show(task, name, args, lifecycle)
        heard = self.emitter.relay(task, name, args)
        for follower in self._followers:
            heard = follower.hear(task, name, args, lifecycle) or heard
        for reply in task._waiters.met(name) if task is not None else ():
            reply.settle(args)
            heard = True
        if name == "error" and not (heard or told or (task is not None and task._handles_errors)):
            failed: Failed = args[0]
            what = f"{failed.method}()" if failed.method else "it"
            logger.error("task %r: %s failed and nobody listens", self.name, what, exc_info=failed.error)

    def _show(self, task: Task, name: str, args: tuple[Any, ...], lifecycle: bool) -> None:
        """To the hooks of its class, and to plug-ins."""
        if not lifecycle:
            self._run_hook(task, "on_message", (name, *args))
            return
        if name in HOOKS:
            self._run_hook(task, f"on_{name}", args)
        if plugins.observed():
            plugins.tell(task, name, args[0])

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

    def nothing_will_come(self, error: BaseException) -> None:
        """Fail whoever waits for an event: there is no child and none will follow."""
        self.emitter.strand.submit(self._fail_waiting, error)

    def _fail_waiting(self, error: BaseException) -> None:
        task = self._task()
        for reply in task._waiters.take_all() if task is not None else ():
            reply.fail(error)
        for follower in self._followers:
            follower.nothing_will_come(error)
