"""Locks on which a signal handler cannot wait for the very thread that it interrupted.

Python runs handlers on the main thread, between any two steps of the library's own code, also where that holds a lock.
So its locks may be taken again by the thread that has them, at no cost, and who would find what they guard half done
looks first: `refuse_if_mine` where a call comes in, `refuse_if_inside` where the main thread has waited for a moment.
"""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

from relieve_py.errors import CalledFromHandler

PATIENCE = 0.1
"""Seconds that the main thread waits before it looks whether it is a signal handler that waits for itself. Less: more
waits are interrupted once by that look; more: a handler learns later that it must not wait."""

Lock = Any
"""A ``threading.RLock``, whose type has no public name."""

_all: dict[int, weakref.ref[Any]] = {}
_main = threading.main_thread().ident


def new() -> Lock:
    """A lock that ``refuse_if_inside`` knows."""
    lock = threading.RLock()
    key = id(lock)
    _all[key] = weakref.ref(lock, lambda _: _all.pop(key, None))
    return lock


class Bell:
    """What one thread waits for, and another rings."""

    may_repeat = True
    """Ringing it twice does no harm."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.release()

    def release(self) -> None:
        """Ring it. Raises RuntimeError when it was rung, as a Condition expects of its waiters."""
        self._lock.release()

    def wait(self, seconds: float | None) -> bool:
        """Whether it was rung within so many seconds; None: wait until it is."""
        return self._lock.acquire(True, -1 if seconds is None else min(max(0.0, seconds), threading.TIMEOUT_MAX))


class Condition(threading.Condition):
    """One whose ``with`` is that of its lock, which ``new`` has made: no handler can raise between the taking of the
    lock and the ``with``, or between the letting go and the waiting, so that it would never be given back."""

    __enter__ = property(operator.attrgetter("_lock.__enter__"))
    __exit__ = property(operator.attrgetter("_lock.__exit__"))

    def wait(self, timeout: float | None = None) -> bool:
        """As that of the base class."""
        lock: Lock = self._lock  # type: ignore[attr-defined]
        if not lock._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        bell = Bell()
        waiters: deque[Bell] = self._waiters  # type: ignore[attr-defined]
        state, rung = (1, threading.get_ident()), False
        waiters.append(bell)
        try:
            state = lock._release_save()
            rung = bell.wait(timeout)
        finally:
            lock._acquire_restore(state)  # before anything at which a handler could run
            if not rung:
                with contextlib.suppress(ValueError):
                    waiters.remove(bell)
        return rung


def on_main_thread() -> bool:
    """True where signal handlers run."""
    return threading.get_ident() == _main


def refuse_if_mine(lock: Lock) -> None:
    """Raises CalledFromHandler when this thread has the lock: it is in a signal handler, and must not go on."""
    if lock._is_owned():
        raise _refusal()


def refuse_if_inside(but: Lock = None) -> None:
    """Raises CalledFromHandler when this thread, which waits, has any other lock: who needs that cannot go on."""
    for found in list(_all.copy().values()):
        lock = found()
        if lock is not None and lock is not but:
            refuse_if_mine(lock)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:  # the lock of a Reply is in no list: there are too many of them
        # Not in the user's code: until CPython 3.13 a look at f_locals keeps what they are while the function runs.
        if frame.f_globals.get("__name__", "").partition(".")[0] in ("relieve_py", "concurrent"):
            condition = getattr(frame.f_locals.get("self"), "_condition", None)
            if condition is not None:
                refuse_if_mine(condition)
        frame = frame.f_back


def wait_for(condition: threading.Condition, done: Callable[[], object]) -> None:
    """Wait until ``done()``, looked at whenever the condition is notified. Raises CalledFromHandler."""
    with condition:
        over = condition.wait_for(done, PATIENCE)
    if not over:
        refuse_if_inside()
        with condition:
            condition.wait_for(done)


def _refusal() -> CalledFromHandler:
    return CalledFromHandler(
        "a signal handler has interrupted relieve_py in the middle of its own work, and calls or waits for it on the "
        "same thread: raise an exception in the handler, set a flag, or have another thread do it"
    )


def _after_fork() -> None:
    global _main
    _main = threading.get_ident()


os.register_at_fork(after_in_child=_after_fork)
