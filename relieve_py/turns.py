"""Who reads a channel: the I/O thread, or a caller that waits for an answer on it and so saves a hand-off between
threads."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

from relieve_py.supervisor import LONGEST_WAIT


class Wake:
    """Wakes a thread that waits in ``Turns.wait``. Closed with its thread."""

    def __init__(self) -> None:
        self._read = self._write = -1
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self.pid = os.getpid()
        self.poll = select.poll()
        self.poll.register(self._read, select.POLLIN)

    def set(self) -> None:
        """Wake it, now or when it next waits."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def clear(self) -> None:
        """Be ready to be woken again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def __del__(self) -> None:
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)


class _OfThread(threading.local):
    wake: Wake | None = None


_of_thread = _OfThread()


def _my_wake() -> Wake:
    wake = _of_thread.wake
    if wake is None or wake.pid != os.getpid():  # a forked process shares the pipe with its parent: it needs its own
        wake = _of_thread.wake = Wake()
    return wake


class Turns:
    """The turn to read one slot's channel."""

    def __init__(self) -> None:
        self._turn = threading.Lock()  # owner: the thread that reads the channel
        self._waiting: Wake | None = None  # of a caller that has the turn

    @property
    def caller_reads(self) -> bool:
        """True while a caller has the turn, so that the I/O thread should not look at the channel."""
        return self._waiting is not None

    def take(self) -> bool:
        """Take the turn; False when another thread has it."""
        return self._turn.acquire(blocking=False)

    def take_to_wait(self) -> bool:
        """Take the turn as a caller that will wait in ``wait``."""
        try:
            wake = _my_wake()
        except OSError:  # no descriptors left: the I/O thread reads
            return False
        if not self._turn.acquire(blocking=False):
            return False
        self._waiting = wake
        return True

    def give_back(self) -> None:
        """End the turn."""
        self._waiting = None
        self._turn.release()

    def nudge(self) -> None:
        """Something happened elsewhere that the caller who has the turn may be waiting for."""
        wake = self._waiting
        if wake is not None and wake is not _of_thread.wake:
            wake.set()

    def wait(self, fd: int, done: Callable[[], bool], read: Callable[[], bool], deadline: float | None) -> None:
        """Read until ``done()``, the deadline, or ``read()`` says that there is nothing more to read."""
        wake = self._waiting
        assert wake is not None
        wake.poll.register(fd, select.POLLIN)
        try:
            while not done():
                left = LONGEST_WAIT if deadline is None else min(max(0.0, deadline - time.monotonic()), LONGEST_WAIT)
                ready = [found for found, _ in wake.poll.poll(left * 1000)]
                if ready and ready != [fd]:
                    wake.clear()
                    if done():
                        return
                if fd in ready and not read():
                    return
                if deadline is not None and time.monotonic() >= deadline:
                    return
        finally:
            wake.poll.unregister(fd)
