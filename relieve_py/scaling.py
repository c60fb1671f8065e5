"""Does what ``elastic`` decides: a worker has more tasks while calls wait, and fewer while they have little to do."""

from __future__ import annotations

import functools
import weakref
from typing import Any, Protocol

from relieve_py.dispatch import Dispatcher
from relieve_py.elastic import Elasticity
from relieve_py.lifecycle import State
from relieve_py.strands import Strand
from relieve_py.supervisor import Timer, shared
from relieve_py.workers import Worker

COMING = (State.NEW, State.STARTING, State.WAITING, State.ASLEEP)
"""States of tasks that have no child yet for a call that waits, and will have one."""


class Scaled(Protocol):
    """What a worker of elastic size can do. Called on a strand, where user code may run."""

    def grow_by(self, count: int, script: Any) -> None:
        """Add so many tasks of that script, None: of any, and start them."""
        ...

    def shrink_by(self, count: int) -> None:
        """Let so many tasks go, as far as they are idle."""
        ...


class Scaler:
    """The one of a worker of elastic size. It does not keep that."""

    def __init__(self, worker: Worker, scaled: Scaled, dispatcher: Dispatcher, elasticity: Elasticity) -> None:
        self._worker = weakref.ref(worker)
        self._scaled = weakref.ref(scaled)
        self._dispatcher = dispatcher
        self._elasticity = elasticity
        self._strand = Strand()
        self._growing: Timer | None = None  # these two are touched on the strand only
        self._shrinking: Timer | None = None
        self._looks = False  # the strand looks whether to grow, or there is no room for more tasks
        self._ended = False
        dispatcher.elasticity = elasticity
        dispatcher.on_wait = functools.partial(_call_waits, weakref.ref(self))  # no cycle: it would keep tasks

    def end(self) -> None:
        """The size is decided by somebody else from now on."""
        self._ended = True
        self._dispatcher.elasticity = self._dispatcher.on_wait = None

    def call_waits(self) -> None:
        """A call has to wait: sooner or later there have to be more tasks, if that goes on."""
        if not self._looks:
            self._looks = True
            self._strand.submit(self._grow)

    def tasks_changed(self) -> None:
        """A task was added or removed: there may be room for more, or there are some that may be too many later."""
        self._looks = False
        self._strand.submit(self._shrink)

    # -- on the strand -----------------------------------------------------------------------------

    def _grow(self) -> None:
        worker, scaled, dispatcher = self._worker(), self._scaled(), self._dispatcher
        if self._growing is not None:
            self._growing.cancel()
        with dispatcher.lock:
            waiting = dispatcher.backlog.waiting
            if worker is None or scaled is None or self._ended or dispatcher.at_rest or not waiting.count:
                self._looks = False  # the next call that has to wait says so
                return
            now = shared().now()
            head = min(waiting.heads(), key=lambda call: call.made_at)
            coming = sum(
                task.state in COMING for task in worker if head.script is None or task._core.address == head.script
            )
            queued = waiting.of(head.script).count
            more, due = self._elasticity.grow(now, head.made_at, queued, len(worker), coming)
        try:
            if more:
                scaled.grow_by(more, head.script)
        finally:
            self._looks = True
            if due is not None:
                self._growing = shared().at(due, _submit, weakref.ref(self), "_grow")

    def _shrink(self) -> None:
        worker, scaled, dispatcher = self._worker(), self._scaled(), self._dispatcher
        if self._shrinking is not None:
            self._shrinking.cancel()
        if worker is None or scaled is None or self._ended:
            return
        with dispatcher.lock:
            width = max((task._slot.traffic.table.concurrency for task in worker), default=1)
            less, due = self._elasticity.shrink(shared().now(), len(worker), width, dispatcher.backlog.out)
        if less:
            scaled.shrink_by(less)
        if due is not None:
            self._shrinking = shared().at(due, _submit, weakref.ref(self), "_shrink")


def _call_waits(found: weakref.ref[Scaler]) -> None:
    scaler = found()
    if scaler is not None:
        scaler.call_waits()


def _submit(found: weakref.ref[Scaler], what: str) -> None:
    """I/O thread: it is time to look."""
    scaler = found()
    if scaler is not None:
        scaler._strand.submit(getattr(scaler, what))
