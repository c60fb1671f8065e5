"""The one I/O thread of a process: it sleeps until a descriptor is ready, a timer is due, or work was posted.

Nothing that runs on it may block or be the user's code. What fails on it is logged, and stops nothing else.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from relieve_py import locks, standard
from relieve_py.errors import NotRunning
from relieve_py.log import logger
from relieve_py.poller import make_poller
from relieve_py.strands import Strand, threads
from relieve_py.strands import of_thread as callbacks

LONGEST_WAIT = 3600.0
"""Seconds that one wait lasts at most: the system takes no more than 24 days, and the loop waits again."""


class Timer:
    """A callback that is due at a time. ``cancel`` may come from any thread and after it ran."""

    __slots__ = ("args", "at", "function")

    def __init__(self, at: float, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.at = at
        self.function: Callable[..., object] | None = function
        self.args = args

    def cancel(self) -> None:
        """Do nothing when due."""
        self.function = None
        self.args = ()


class _Errand:
    """What one thread does while another waits for it."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self._deeds = [deed]  # until it is begun, or called off
        self._over = False
        self._error: BaseException | None = None
        self._is_done = locks.Bell()

    def run(self) -> None:
        try:
            if self._deeds:
                self._deeds.pop()()
        except BaseException as error:  # the other's, who has called
            self._error = error
        finally:
            self._over = True
            self._is_done()

    def abandon(self, error: BaseException) -> None:
        """Nobody will do it: whoever waits for it raises that."""
        self._deeds.clear()
        self._error = error
        self._over = True
        self._is_done()

    def wait(self) -> None:
        if not self._is_done.wait(locks.PATIENCE):
            locks.refuse_if_inside()
            self._is_done.wait(None)
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # no cycle through the traceback

    def call_off(self) -> None:
        """Whoever waited was interrupted: have it not done any more. If it is being done, wait for that a moment."""
        try:
            self._deeds.pop()
        except IndexError:
            if not self._over:
                self._is_done.wait(locks.PATIENCE)


class Supervisor:
    """The I/O thread and what it watches. All methods may be called from any thread unless they say otherwise."""

    def __init__(self) -> None:
        standard.occupy()
        self._poller = make_poller()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller.add(self._wake_read)
        self._timers: list[tuple[float, int, Timer]] = []
        self._timers_lock = locks.new()  # owner: whoever touches _timers
        self._compact_at = 100
        self._compacting = False
        self._order = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="relieve-io", daemon=True)
        self._thread.start()
        self._ident = self._thread.ident

    @property
    def here(self) -> bool:
        """True on the I/O thread."""
        return threading.get_ident() == self._ident

    now = staticmethod(time.monotonic)  # itself: it is asked for each call
    """The time that timers go by, in seconds."""

    @staticmethod
    def chance() -> float:
        """What delays are jittered by: a random number in [0, 1)."""
        return random.random()

    def help_until(self, done: Callable[[], bool], deadline: float | None) -> None:
        """This thread is about to wait until ``done()``, or the deadline. Nothing to do: the I/O thread does it all."""

    # -- descriptors -------------------------------------------------------------------------------

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call ``callback()`` on the I/O thread while ``fd`` can be read."""
        self._callbacks[fd] = callback
        self._poller.add(fd)

    def interest(self, fd: int, read: bool, write: bool) -> None:
        """Change what is watched for. The descriptor must be watched."""
        self._poller.change(fd, read, write)

    def unwatch(self, fd: int) -> None:
        """Watch it no more; before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._poller.remove(fd)

    # -- work and timers ---------------------------------------------------------------------------

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Run ``function(*args)`` on the I/O thread, soon, in the order of posting."""
        if self._closed:
            return
        self._posted.append((function, args))
        if not self.here:
            self._wake()

    def post_from_finalizer(self, function: Callable[..., object], *args: Any) -> None:
        """The same for what the collector may run anywhere: also on the I/O thread, when that has just seen that there
        is nothing to do and is about to sleep."""
        if not self._closed:
            self._posted.append((function, args))
            self._wake()

    def perform(self, deed: Callable[[], object]) -> None:
        """Do it now, and raise what it raises. The main thread has the I/O thread do it, and waits: signal handlers run
        on the main thread alone, so that what one raises comes before it or behind it, never in the middle. For who has
        no lock. Raises CalledFromHandler."""
        if self._closed or not locks.on_main_thread() or sys.is_finalizing():  # when other threads run no more
            deed()
            return
        errand = _Errand(deed)
        _errands.add(errand)
        try:
            self.post(errand.run)
            errand.wait()
        except BaseException:  # of a signal handler: whoever takes it that this was not done does it again
            errand.call_off()
            raise
        finally:
            _errands.discard(errand)

    def at(self, when: float, function: Callable[..., object], *args: Any) -> Timer:
        """Run ``function(*args)`` on the I/O thread at ``when`` (of ``now()``)."""
        timer = Timer(when, function, args)
        self._set(timer)
        return timer

    def _set(self, timer: Timer) -> None:
        with self._timers_lock:
            if self._compacting:  # a signal handler came in the middle of that
                self.post(self._set, timer)
                return
            if len(self._timers) >= self._compact_at:
                self._compact()
            heapq.heappush(self._timers, (timer.at, next(self._order), timer))
            first = self._timers[0][2] is timer
        if first and not self.here:
            self._wake()

    def at_once_later(self, function: Callable[[], object]) -> None:
        """Run it on the I/O thread in a moment."""
        self.at(time.monotonic() + 0.05, function)

    def _compact(self) -> None:
        """Under the lock: leave out cancelled timers; often enough that they are never much more than the others."""
        self._compacting = True
        try:
            self._timers = [entry for entry in self._timers if entry[2].function is not None]
        finally:  # a signal handler may raise
            heapq.heapify(self._timers)
            self._compact_at = 2 * len(self._timers) + 100
            self._compacting = False

    def _wake(self) -> None:
        if self._wake_write < 0:  # the copy of a forked process
            return
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:  # the pipe is full: the thread is about to wake anyway
            return

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        callbacks.put_off = put_off = deque[Strand]()
        while not self._closed:
            # A process that was stopped (SIGSTOP) for longer than it would wait is told of nothing: it looks again, so
            # that no timer is run before what came in time.
            self._heed(self._poller.wait(self._until_next_timer()) or self._poller.wait(0.0))
            self._run_posted()
            self._run_timers()
            while put_off:  # what was decided is done: now others may be told of it
                threads.begin(put_off.popleft())
        self._poller.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # Each a function of its own: what it has called is forgotten when it returns, and not kept while the thread sleeps.

    def _heed(self, ready: list[int]) -> None:
        for fd in ready:
            if fd == self._wake_read:
                self._drain_wakes()
            elif (callback := self._callbacks.get(fd)) is not None:
                self._guarded(callback)

    def _run_posted(self) -> None:
        for _ in range(len(self._posted)):
            function, args = self._posted.popleft()
            self._guarded(function, *args)

    def _drain_wakes(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return

    def _until_next_timer(self) -> float | None:
        if self._posted:
            return 0.0
        with self._timers_lock:
            while self._timers and self._timers[0][2].function is None:
                heapq.heappop(self._timers)
            if not self._timers:
                return None
            return min(max(0.0, self._timers[0][0] - time.monotonic()), LONGEST_WAIT)

    def _run_timers(self) -> None:
        now = time.monotonic()
        while True:
            with self._timers_lock:
                if not self._timers or self._timers[0][0] > now:
                    return
                timer = heapq.heappop(self._timers)[2]
                function, args = timer.function, timer.args
            if function is not None:
                self._guarded(function, *args)

    @staticmethod
    def _guarded(function: Callable[..., object], *args: Any) -> None:
        try:
            function(*args)
        except Exception:
            logger.exception("relieve_py failed on its I/O thread; please report this")

    def close(self) -> None:
        """End the thread. Not from the thread itself."""
        self._closed = True
        self._wake()
        self._thread.join()

    def forget(self) -> None:
        """In a process that was just forked: close the copies of the descriptors; the thread does not exist here."""
        self._closed = True
        self._poller.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)
        self._wake_write = -1


class _OfThread(threading.local):
    stand_in: Supervisor | None = None
    """What all that is made on this thread takes for the shared supervisor; for ``testing``, which has no threads."""
    stand_aside: Callable[[], object] | None = None
    """Has another thread read the channel for which this one waits at the moment."""


of_thread = _OfThread()


def stand_aside() -> None:
    """Called by what will wait, or have others wait. If this thread is in the middle of waiting for a channel, then
    this is a signal handler, and what it waits for may come on that channel: the I/O thread reads it from now on."""
    hand_over = of_thread.stand_aside
    if hand_over is not None:
        of_thread.stand_aside = None
        hand_over()


_shared: Supervisor | None = None
_shared_lock = locks.new()  # owner: whoever makes or forgets the shared supervisor


def shared() -> Supervisor:
    """The supervisor of this process, made on first use."""
    global _shared
    if of_thread.stand_in is not None:
        return of_thread.stand_in
    if _shared is None:
        with _shared_lock:
            if _shared is None:
                _shared = Supervisor()
                threads.starved = functools.partial(_shared.at_once_later, threads.try_again)  # type: ignore[method-assign]
    return _shared


_errands: set[_Errand] = set()  # for which the main thread waits; more than one, if it does so in signal handlers


def _after_fork() -> None:
    """The copy that ``os.fork`` makes has no I/O thread: forget it, and make another when one is asked for."""
    global _shared, _shared_lock
    for errand in _errands.copy():
        errand.abandon(NotRunning("this process was forked, by a signal handler, from one that was about to do that"))
    _shared_lock = locks.new()
    if _shared is not None:
        _shared.forget()
        _shared = None


os.register_at_fork(after_in_child=_after_fork)
