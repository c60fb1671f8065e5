"""Children that wait in a server for the launch they are for: forked before, so that a launch is a hand-over only."""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NoReturn

from relieve_py.channel import Channel
from relieve_py.wire import Frame, encode

MOST = 8
"""Blanks that wait at most. More: more tasks of a burst start at once; less: each costs about 3 MB of memory until it
is used."""
LINGER = 0.02
"""Seconds from the last launch to the making of what follows the blanks that were used. Less: it takes processor time
from the children that have just been launched; more: of launches in a row more find no blank."""
BURST = 0.1
"""Seconds after the first of several launches in a row at which they are made all the same."""
PACE = 0.004
"""Seconds from one to the next, about as long as one takes to rehearse. Less: several at once take the processors from
the children that work; more: they are there later."""
CALM = 60.0
"""Seconds without a launch after which only one blank is kept, which is the last thing that a server does unasked.
Less: bursts that come seldom are slower; more: their memory is held for longer."""


class Blank:
    """A child without a task."""

    __slots__ = ("pid", "sock")

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock  # it is told there what it is for; the end of this is its end, too


class Blanks:
    """Those of one server. As many wait as were launched in the last burst, and one at least."""

    def __init__(self, become: Callable[[Channel], NoReturn], made: Callable[[], object]) -> None:
        self._become = become  # in the new process
        self._made = made  # told when there are as many as there should be
        self._waiting: deque[Blank] = deque()
        self._wanted = 1
        self._launches = 0  # since blanks were last made
        self._refill_at: float | None = time.monotonic() + LINGER  # the first launch may have come already
        self._burst_until = self._refill_at
        self._shrink_at: float | None = None

    def __contains__(self, pid: object) -> bool:
        return any(blank.pid == pid for blank in self._waiting)

    def __iter__(self) -> Iterator[Blank]:
        return iter(self._waiting)

    def hand_over(self, frame: Frame, fds: list[int]) -> int | None:
        """Have a blank be what the LAUNCH frame with those descriptors says: its pid. None when none could take it."""
        now = time.monotonic()
        self._launches += 1
        if self._refill_at is None:
            self._burst_until = now + BURST
        self._refill_at = min(now + LINGER, self._burst_until)
        self._shrink_at = now + CALM
        while self._waiting:
            blank = self._waiting.popleft()
            told = _tell(blank.sock, frame, fds)
            blank.sock.close()
            if told:
                return blank.pid
            _kill(blank.pid)  # it is reaped like any other that has ended
        return None

    def due(self) -> float | None:
        """Milliseconds until ``tend`` is to be called; None: not before another launch."""
        times = [at for at in (self._refill_at, self._shrink_at) if at is not None]
        return max(0.0, min(times) - time.monotonic()) * 1000 + 1 if times else None

    def tend(self) -> None:
        """It may be time to make one, or to let some go."""
        now = time.monotonic()
        if self._refill_at is not None and now >= self._refill_at:
            self._wanted = min(MOST, max(self._wanted, self._launches))
            if len(self._waiting) < self._wanted and self._make():
                self._refill_at = now + PACE
            else:
                self._refill_at, self._launches = None, 0
                self._made()
        if self._shrink_at is not None and now >= self._shrink_at:
            self._wanted, self._shrink_at = 1, None
            while len(self._waiting) > 1:
                self._waiting.pop().sock.close()  # by which it leaves

    def _make(self) -> bool:
        """One more; False when the system would not, and it is not tried again before the next launch."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            return False
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            return False
        if pid == 0:
            ours.close()
            self._become(Channel(theirs))
        theirs.close()
        self._waiting.append(Blank(pid, ours))
        return True

    def ended(self, pid: int) -> None:
        """A process has ended: if it was a blank that waited, it is followed by another, though not before a launch, so
        that one that cannot live is not tried for ever."""
        for blank in [blank for blank in self._waiting if blank.pid == pid]:
            self._waiting.remove(blank)
            blank.sock.close()

    def close(self) -> None:
        """In a new process: these are the server's."""
        for blank in self._waiting:
            blank.sock.close()
        self._waiting.clear()

    def kill(self) -> None:
        """The server leaves."""
        for blank in self._waiting:
            _kill(blank.pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


_ATONCE = int(socket.MSG_DONTWAIT) | int(getattr(socket, "MSG_NOSIGNAL", 0))


def _tell(sock: socket.socket, frame: Frame, fds: list[int]) -> bool:
    """Send all of it without waiting; False when that cannot be, since the blank is dead, or frozen."""
    chunks = encode(Frame(frame.kind, frame.number, frame.payload, (), fds))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    try:
        sent: int = sock.sendmsg(chunks, rights, _ATONCE)
        return sent == sum(memoryview(chunk).nbytes for chunk in chunks)
    except OSError:
        return False
