"""Calls that wait for the time of their retry: known by name, so that a stop or a cancel finds them."""

from __future__ import annotations

from relieve_py import locks
from relieve_py.calls import Call, Home
from relieve_py.supervisor import Timer, shared


class Delays:
    """The calls of one home that are tried again later."""

    def __init__(self) -> None:
        self._lock = locks.new()  # owner: whoever touches _waiting; nothing else is done under it
        self._waiting: dict[int, tuple[Call, Timer]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, calls: list[Call], delay: float, home: Home) -> None:
        """Resubmit them to that home after ``delay`` seconds."""
        supervisor = shared()
        due = supervisor.now() + delay
        with self._lock:
            for call in calls:
                self._waiting[call.id] = call, supervisor.at(due, self._due, call, home)

    def _due(self, call: Call, home: Home) -> None:
        """I/O thread."""
        if self.drop(call):
            home.resubmit([call])

    def has(self, call: Call) -> bool:
        """Whether it waits here."""
        return call.id in self._waiting

    def drop(self, call: Call) -> bool:
        """Forget a call; False when it does not wait here."""
        with self._lock:
            found = self._waiting.pop(call.id, None)
        if found is not None:
            found[1].cancel()
        return found is not None

    def take_all(self) -> list[Call]:
        """All that wait, which do so no more."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for _, timer in waiting.values():
            timer.cancel()
        return [call for call, _ in waiting.values()]
