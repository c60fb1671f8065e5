"""What a worker hears of its tasks: their events reach its listeners, its hooks, and whoever waits for one.

A task keeps the ears of its workers, so that their listeners hear it as long as it lives. The ears do not keep the
worker, which keeps its tasks: whom the user has let go is gone without the collector.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from relieve_py.events import HOOKS, Emitter
from relieve_py.lifecycle import State

if TYPE_CHECKING:
    from relieve_py.tasks import Task
    from relieve_py.workers import Worker

_OVER = (State.STOPPED, State.FAILED)


class Ears:
    """The follower that a worker puts on its tasks."""

    def __init__(self, worker: Worker) -> None:
        self._worker = weakref.ref(worker)
        self.emitter = Emitter(worker)

    def hear(self, task: Task | None, name: str, args: tuple[Any, ...], lifecycle: bool) -> bool:
        """An event of a task; called by the task, on its own strand. True when somebody listens to it."""
        worker = self._worker()
        if worker is None:
            return self.emitter.relay(task, name, args)
        if not lifecycle:
            self.emitter.strand.submit(worker.on_message, name, *args)
        elif name in HOOKS:
            self.emitter.strand.submit(getattr(worker, f"on_{name}"), *args)
        met = worker._waiters.met(name)
        heard = self.emitter.relay(task, name, args)
        for reply in met:
            self.emitter.strand.submit(reply.settle, args)
        return heard or bool(met) or (name == "error" and worker._handles_errors)

    def nothing_will_come(self, error: BaseException) -> None:
        """A task has no child left. When none has, nobody need wait for an event; called on that task's strand."""
        worker = self._worker()
        if worker is not None and all(task.state in _OVER for task in worker):
            for reply in worker._waiters.take_all():
                reply.fail(error)
