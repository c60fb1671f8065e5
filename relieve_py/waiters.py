"""Who waits for an event: Replies of the next one of a name."""

from __future__ import annotations

from relieve_py import locks
from relieve_py.patterns import matches
from relieve_py.replies import Reply


class Waiters:
    """Who waits for an event of one task or worker. Each Reply keeps that, and that keeps these."""

    def __init__(self) -> None:
        self._lock = locks.new()  # owner: whoever touches _waiting
        self._waiting: list[tuple[str, Reply]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, name: str, reply: Reply) -> Reply:
        """One more, who is told of the next event of that name, which may have a ``*``."""
        with self._lock:
            self._waiting = [entry for entry in self._waiting if not entry[1].done()]
            self._waiting.append((name, reply))
        return reply

    def met(self, name: str) -> list[Reply]:
        """Those whom such an event has to be told, and who wait no more."""
        if not self._waiting:
            return []
        with self._lock:
            met = [entry for entry in self._waiting if matches(entry[0], name)]
            self._waiting = [entry for entry in self._waiting if entry not in met]
        return [reply for _, reply in met]

    def take_all(self) -> list[Reply]:
        """All, who wait no more."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return [reply for _, reply in waiting]
