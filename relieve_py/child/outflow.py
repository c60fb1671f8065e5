"""Outflow: the items of a stream that a child sends, as fast as their reader takes them."""

from __future__ import annotations

import threading
from collections import deque

from relieve_py.wire import STREAM_BYTES, STREAM_WINDOW


class Outflow:
    """What is on its way of one stream."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())  # owner: whoever touches the fields below
        self._flight: deque[int] = deque()  # the size of each item that is not taken yet
        self._nbytes = 0  # of those
        self._over = False

    def credit(self, items: int) -> None:
        """So many were taken."""
        with self._changed:
            for _ in range(min(items, len(self._flight))):
                self._nbytes -= self._flight.popleft()
            self._changed.notify_all()

    def let_go(self) -> None:
        """Nobody reads any more, so nobody need wait for that."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for_room(self, size: int) -> None:
        """Wait until an item of so many bytes may be sent, and count it as sent."""
        with self._changed:
            self._changed.wait_for(self.has_room)
            self.sent(size)

    def sent(self, size: int) -> None:
        """Count an item of so many bytes as sent."""
        self._flight.append(size)
        self._nbytes += size

    def has_room(self) -> bool:
        """Another item may be sent."""
        return self._over or (len(self._flight) < STREAM_WINDOW and self._nbytes < STREAM_BYTES)
