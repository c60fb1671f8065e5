"""Looks, while a child works, whether it has more memory than its limit allows."""

from __future__ import annotations

from collections.abc import Callable

from relieve_py.birth import Birth
from relieve_py.footprint import resident_bytes
from relieve_py.line import Line
from relieve_py.supervisor import Supervisor

LOOK_EVERY = 0.1
"""Seconds between two looks at a child that works. Less: more of the I/O thread's time, some 10 µs each; more: a child
is above its limit for longer, and takes more of what others need."""


class MemoryGuard:
    """The one of a slot whose ``Limits`` name an ``rss``. It sleeps while the child has nothing to do."""

    def __init__(
        self,
        line: Line,
        supervisor: Supervisor,
        most: int,
        works: Callable[[], bool],
        exceeded: Callable[[Birth, int], object],
    ) -> None:
        self._line = line
        self._supervisor = supervisor
        self._most = most
        self._works = works  # asked under the lock
        self._exceeded = exceeded  # told on the I/O thread, without the lock, of the child and its bytes
        self._awake = False

    def attend(self) -> None:
        """Under the lock: the child has something to do."""
        if not self._awake:
            self._awake = True
            self._supervisor.at(self._supervisor.now() + LOOK_EVERY, self._look)

    def _look(self) -> None:
        """I/O thread: it is time."""
        with self._line.lock:
            birth = self._line.birth
            pid = birth.process.pid if birth is not None and birth.process is not None else None
            self._awake = False
            if birth is None or not self._works():
                return
            self.attend()
        size = resident_bytes(pid) if pid is not None else None
        if size is not None and (size := size - birth.channel.kept) > self._most:
            self._exceeded(birth, size)
