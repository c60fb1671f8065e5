"""What a child sends: whole and once, whichever thread sends it, and whatever a signal handler does meanwhile.

Handlers run in the main thread, between any two steps of what follows, and may send, raise, or end the process. What a
handler has sent is on the channel when ``send`` returns to it, and an exception leaves no frame half-sent. Most frames
are one chunk that goes in one system call, where it is always known whether it went. During others no handler runs.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from relieve_py.channel import Channel
from relieve_py.child.process import hold_signals, mask_signals, masked_signals
from relieve_py.serializers import Payload
from relieve_py.wire import JOIN_BELOW, Frame, encode_small

_NOTHING = nullcontext()


class Outbox:
    """The sending side of a child's channel. It is made in the main thread."""

    def __init__(self, channel: Channel) -> None:
        self.uninterrupted: Callable[[], AbstractContextManager[None]] = lambda: _NOTHING
        """Around what another thread than the main one sends: nobody interrupts that."""
        self.slow = False
        """The main thread sends what may need several system calls, and holds signals meanwhile."""
        self._channel = channel
        self._main = threading.get_ident()
        self._writing = threading.RLock()  # owner: the thread that sends, also from a handler in the middle of that
        self._meanwhile: deque[Frame] = deque()  # sent by handlers of signals that are not held

    def send(self, kind: int, number: int, payload: Payload | None) -> None:
        """Send a frame. Raises EncodeError when it may not travel, OSError when the parent is gone, and what signal
        handlers raise; it went then, or did not."""
        if payload is None:
            data: bytes = b""
        elif (
            type(payload.data) is bytes
            and len(payload.data) <= JOIN_BELOW
            and not payload.buffers
            and payload.descriptors is None
        ):
            data = payload.data
        else:
            self._send_large(payload.to_frame(kind, number))
            return
        chunk = encode_small(kind, number, data)
        channel = self._channel
        if threading.get_ident() != self._main:
            with self.uninterrupted(), self._writing:
                channel.finish()
                if not channel.send_whole(chunk):
                    channel.finish()
            return
        if self.slow:
            self._meanwhile.append(Frame(kind, number, data))
            return
        try:
            with self._writing:
                if channel.begun is not None and channel.midway:  # this is a handler, or one has raised
                    self._send_slowly(None)
                if not channel.send_whole(chunk):
                    self._send_slowly(None)
        except BaseException:
            if channel.midway:
                self._send_slowly(None)
            raise

    def _send_large(self, frame: Frame) -> None:
        if threading.get_ident() != self._main:
            with self.uninterrupted(), self._writing:
                self._channel.send(frame)
        elif self.slow:
            self._meanwhile.append(frame)
        else:
            self._send_slowly(frame)

    def _send_slowly(self, frame: Frame | None) -> None:
        """In the main thread: the rest of what was begun, and that frame."""
        mask: set[int] | None = None
        try:
            mask = masked_signals()
            hold_signals()  # a handler that is due runs here, all others when everything is sent
            self.slow = True
            if frame is not None:
                with self._writing:
                    self._channel.send(frame)
        finally:
            self.slow = True
            try:
                with self._writing:
                    self._channel.finish()
                    while self._meanwhile:
                        self._channel.send(self._meanwhile.popleft())
            finally:
                self.slow = False
                if mask is not None:
                    mask_signals(mask)

    def spoil(self, garbage: bytes) -> None:
        """Write to the channel what is no frame."""
        with self._writing:
            os.write(self._channel.fileno(), garbage)
