"""Who reads the channel of a child: its main thread or the one that watches.

While the main thread is idle it reads for itself, so that a call needs no hand-off between threads. While it runs the
user's code, the watching thread reads: it queues calls, handles what cannot wait (cancel, stop, events, the parent's
death), and is silent otherwise.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable

from relieve_py.channel import Channel
from relieve_py.child.process import leave_with_parent
from relieve_py.poller import make_poller
from relieve_py.wire import Frame, Kind

_CALL, _BOOT = int(Kind.CALL), int(Kind.BOOT)  # to look up a member of an enum takes a while
_DONTWAIT = int(socket.MSG_DONTWAIT)
INTERRUPT_AGAIN = 0.02
"""Seconds until the main thread is interrupted again if it took no note: the signal does not wake it if it comes in the
moment before a system call that blocks, and is put off during an import. Less: more of them; more: later."""


class Inbox:
    """The receiving side of a child's channel. ``handle`` is called with what is for no one in particular, by whoever
    reads."""

    def __init__(self, channel: Channel, handle: Callable[[Frame], object]) -> None:
        self._channel = channel
        self._handle = handle
        self._reading = threading.Lock()  # owner: the thread that receives
        self._frames: deque[Frame] = deque()  # for the main thread
        self.take: Callable[[Frame], object] = self._frames.append
        """What becomes of a call."""
        self.stopping = False
        """No more will be asked of the main thread than what is here."""
        self._watching = False
        self._poller = make_poller()
        self._poller.add(channel.fileno())
        self._listen, self._ignore = self._poller.switch(channel.fileno())
        self._ignore()
        self.watched = _Watched(self)
        """A context: user code runs in the main thread."""

    def next_frame(self) -> Frame | None:
        """The next frame for the main thread; None when it has to leave."""
        frames = self._frames
        while not frames:
            if self.stopping:
                return None
            if self._watching:
                self.watch(False)
            with self._reading:
                if not frames and not self.stopping:
                    self._receive(0)
        return frames.popleft()

    def _receive(self, flags: int) -> None:
        """Read once; under _reading, so that frames are sorted in the order they came."""
        try:
            frames = self._channel.receive(flags)
        except EOFError:
            leave_with_parent()
        for frame in frames:
            if frame.kind == _CALL:
                self.take(frame)
            elif frame.kind == _BOOT:
                self._frames.append(frame)
            else:
                self._handle(frame)

    def watch(self, yes: bool) -> None:
        """Have the watching thread read, or be silent."""
        self._watching = yes
        if yes:
            self._listen()
        else:
            self._ignore()

    def watch_a_call(self) -> None:
        """Have the watching thread read, until ``call_is_over``."""
        if not self._watching:
            self._watching = True
            self._listen()

    def call_is_over(self) -> None:
        """Have it be silent, unless another call follows at once."""
        if not self._frames:
            self._watching = False
            self._ignore()

    def serve(self, unheeded: Callable[[], bool], interrupt_again: Callable[[], object]) -> None:
        """The life of the watching thread. While something is ``unheeded`` by the main thread, that is interrupted
        again."""
        while True:
            if not self._poller.wait(INTERRUPT_AGAIN if unheeded() else None):
                interrupt_again()
            with self._reading:
                if self._watching:
                    self._receive(_DONTWAIT)

    def close(self) -> None:
        """Nobody reads any more."""
        self._poller.close()


class _Watched:
    """Made once, since it is entered often."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __enter__(self) -> None:
        self._inbox.watch(True)

    def __exit__(self, *exc_info: object) -> None:
        self._inbox.watch(False)
