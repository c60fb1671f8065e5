"""Who reads a channel: the I/O thread, or a caller that waits for an answer on it and so saves a hand-off between
threads."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

from relieve_py import copies, locks
from relieve_py.interruptions import broke_system_call
from relieve_py.supervisor import LONGEST_WAIT, of_thread


class Wake:
    """Wakes a thread that waits in ``Turns.wait``. Closed with its thread."""

    def __init__(self) -> None:
        self._read = self._write = -1
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self.made_in = copies.here
        self.of_main = threading.current_thread() is threading.main_thread()
        self.polling = False  # what runs on its thread meanwhile is a signal handler
        self._polled = -1, select.poll()  # what was waited for last, and what waits for that and for news

    def set(self) -> None:
        """Wake it, now or when it next waits."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def clear(self) -> None:
        """Be ready to be woken again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def wait(self, fd: int, seconds: float, stand_aside: Callable[[], object] | None) -> list[tuple[int, int]]:
        """Which can be read of its own descriptor and ``fd``, as ``poll`` tells it.

        ``stand_aside()`` is called by a signal handler that waits, too."""
        if fd != self._polled[0]:  # most often it is that of the last wait
            poll = select.poll()
            poll.register(self._read, select.POLLIN)
            poll.register(fd, select.POLLIN)
            self._polled = fd, poll  # in one step: Ctrl-C in the middle of this must leave nobody deaf
        self.polling, of_thread.stand_aside = True, stand_aside
        try:
            return self._polled[1].poll(seconds * 1000)
        finally:
            self.polling, of_thread.stand_aside = False, None

    def __del__(self) -> None:
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)


class _OfThread(threading.local):
    wake: Wake | None = None


_of_thread = _OfThread()


def _my_wake() -> Wake:
    wake = _of_thread.wake
    if wake is None or wake.made_in is not copies.here:  # a copy shares the pipe of the original: it needs its own
        wake = _of_thread.wake = Wake()
    return wake


class Turns:
    """The turn to read one slot's channel, and the place of the one caller that waits for it.

    The caller has the turn only while it reads, not while it sleeps: in the main thread a signal handler may run then,
    for as long as it likes.
    """

    def __init__(self) -> None:
        self._turn = locks.new()  # owner: the thread that reads the channel
        self._place = locks.new()  # owner: the caller that waits for the channel
        self._waiting: Wake | None = None  # of that caller

    @property
    def caller_reads(self) -> bool:
        """True while a caller waits, so that the I/O thread need not look at the channel."""
        return self._waiting is not None

    def has_place(self) -> bool:
        """True while this thread is the caller that waits, or was kept from leaving by what a signal handler raised."""
        return bool(self._place._is_owned())

    @property
    def main_thread_reads(self) -> bool:
        """True while that caller is the main thread."""
        wake = self._waiting
        return wake is not None and wake.of_main

    def take(self) -> bool:
        """Take the turn; False when this or another thread has it. Where a signal handler may raise, call ``drop``
        behind it, too."""
        return not self._turn._is_owned() and bool(self._turn.acquire(blocking=False))

    def give_back(self) -> None:
        """End the turn."""
        self._turn.release()

    @property
    def mine(self) -> bool:
        """This thread has the turn, as far as it has not been kept from giving it back."""
        return bool(self._turn._is_owned())

    def drop(self) -> None:
        """End the turn, if this thread has it."""
        if self._turn._is_owned():
            self._turn.release()

    def take_place(self) -> bool:
        """Become the caller that will wait in ``wait``; False when another is, or this thread waits, or reads. Where a
        signal handler may raise, look at ``has_place`` behind it."""
        try:
            wake = _my_wake()
        except OSError as error:
            if broke_system_call(error):
                raise
            return False  # no descriptors left: the I/O thread reads
        if wake.polling or self._waiting is wake or self._turn._is_owned() or not self._place.acquire(blocking=False):
            return False
        self._waiting = wake
        return True

    def leave_place(self) -> None:
        """Wait no more."""
        wake, self._waiting = self._waiting, None
        if wake is not None and wake.polling:  # in a signal handler: there is nothing to wait for below it any more
            wake.set()
        self._place.release()

    def nudge(self) -> None:
        """Something happened elsewhere that the caller who waits may be waiting for."""
        wake = self._waiting
        if wake is None:
            return
        if wake is not _of_thread.wake or not self._turn._is_owned():  # else it is in the middle of reading, and looks
            wake.set()

    def wait(
        self,
        fd: int,
        done: Callable[[], bool],
        read: Callable[[], bool],
        deadline: float | None,
        stand_aside: Callable[[], object] | None = None,
    ) -> None:
        """Read until ``done()``, the deadline, or ``read()`` says that there is nothing more to read. It was not done
        when this thread had its place already.

        ``stand_aside()`` is called when a signal handler runs in the middle and waits for something itself, which may
        come on this very channel: it leaves the place, and then this returns.
        """
        wake = self._waiting
        assert wake is not None
        longest = locks.PATIENCE if wake.of_main else LONGEST_WAIT
        while True:
            left = longest if deadline is None else min(max(0.0, deadline - time.monotonic()), longest)
            ready = wake.wait(fd, left, stand_aside)
            if self._waiting is not wake:
                return
            if not ready and longest < LONGEST_WAIT:
                longest = LONGEST_WAIT
                locks.refuse_if_inside(but=self._place)
            if len(ready) > 1 or (ready and ready[0][0] != fd):
                wake.clear()
                if done():
                    return
                ready = [(which, events) for which, events in ready if which == fd]
            if ready:
                with self._turn:
                    if not read():
                        return
            if done() or (deadline is not None and time.monotonic() >= deadline):
                return
