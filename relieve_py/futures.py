"""A ``concurrent.futures.Future`` that costs little as long as no thread has to be woken for it.

That of the standard library makes its condition at once: a dozen objects, which take longer to make than all the rest
of a call's handle, and which the garbage collector looks at again and again while thousands of calls wait. This one
makes it when somebody waits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from relieve_py import locks

FINISHED = "FINISHED"
CANCELLED = frozenset({"CANCELLED", "CANCELLED_AND_NOTIFIED"})
OVER = frozenset({FINISHED, *CANCELLED})
"""States of a Future."""

moving = locks.new()
"""The lock of all that belongs to one of these but is made late. Owner: whoever makes that, or changes the state of
one; for a few steps, in which nothing is made and no function called: the collector, or a signal handler, may run then,
and with them code that moves another one. One for all, since another object for each is what this is to avoid. Who also
needs a condition takes that first."""


class LateFuture(Future[Any]):
    """Whoever wants to know of its end adds a waker. It has no done-callbacks: how these run is the subclass's."""

    _gate: threading.Condition | None = None
    _state = "PENDING"
    _result: Any = None
    _exception: BaseException | None = None
    _waiters: list[Any]  # of concurrent.futures.wait() and as_completed(); once there is a gate
    _wakers: list[Callable[[], object]] | None = None

    def __init__(self) -> None:  # instead of that of the base class
        """There is nothing to note before it is over."""

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        """What the base class, and ``wait()`` and ``as_completed()``, wait on."""
        if self._gate is None:
            gate, waiters = locks.Condition(), list[Any]()
            with moving:
                if self._gate is None:
                    self._waiters = waiters
                    self._gate = gate
        return self._gate

    def _move(self, state: str, value: Any = None, error: BaseException | None = None) -> bool:
        """Be over, with that value or error; False when it is."""
        with moving:
            gate = self._gate
            if gate is None:
                if self._state in OVER:
                    return False
                self._result = value
                self._exception = error
                self._state = state
        if gate is not None:
            with gate:
                with moving:
                    if self._state in OVER:
                        return False
                    self._result, self._exception, self._state = value, error, state
                for waiter in self._waiters:
                    self._tell(waiter)
                gate.notify_all()
        self._invoke_callbacks()
        return True

    def _tell(self, waiter: Any) -> None:
        if self._state in CANCELLED:
            waiter.add_cancelled(self)
        elif self._has_failed():
            waiter.add_exception(self)
        else:
            waiter.add_result(self)

    def _has_failed(self) -> bool:
        """Now that it is over: whether it has an error."""
        return self._exception is not None

    def _add_waker(self, waker: Callable[[], object]) -> bool:
        """Have it called by whatever thread moves this; False when it is over."""
        mine = [waker]
        with moving:
            if self._state in OVER:
                return False
            if self._wakers is None:
                self._wakers = mine
            else:
                self._wakers += mine
            return True

    def _wait_until_over(self, seconds: float | None) -> bool:
        """Wait for its end, for so many seconds; False when it has not come by then.

        Not on the condition: what a signal handler raises in the wrong line of that would leave it locked for ever, and
        with it who settles this.
        """
        bell = locks.Bell()
        if not self._add_waker(bell):
            return True
        rung = False
        try:
            rung = bell.wait(seconds)
        finally:
            if not rung:
                self._remove_waker(bell)
        return rung or self._state in OVER

    def _remove_waker(self, waker: Callable[[], object]) -> None:
        """It is wanted no more. It may have been called, or be called this moment."""
        with moving:
            # What the collector adds meanwhile is seen by this loop. One that is over calls those that are left.
            if self._wakers is not None and self._state not in OVER:
                self._wakers = [other for other in self._wakers if other is not waker]

    def _invoke_callbacks(self) -> None:
        """It is over: call the wakers. None joins any more, since that is refused from then on."""
        wakers = self._wakers
        if wakers is None:
            return
        for place, waker in enumerate(wakers):
            waker()
            wakers[place] = _told  # behind that: what a signal handler has interrupted is seen
        self._wakers = None

    def _go_on_telling(self) -> None:
        """It is over, and whoever told the others was interrupted. One that may have been told is told again only if
        that is harmless."""
        wakers = self._wakers or []
        for place, waker in enumerate(wakers):
            if waker is not _told:
                if not getattr(waker, "may_repeat", False):
                    wakers[place] = _told
                break
        self._invoke_callbacks()


def _told() -> None:
    """In the place of a waker that was called."""


def _after_fork() -> None:
    global moving
    moving = locks.new()  # another thread may have had it, which is not in this process


os.register_at_fork(after_in_child=_after_fork)
