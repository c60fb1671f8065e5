"""The queue of a CloudWorker: pure decisions about what waits, what is out, and what to do when it is full."""

from __future__ import annotations

from collections import deque
from typing import Any

from relieve_py.calls import Call
from relieve_py.table import Unread

WHEN_FULL = ("wait", "raise", "drop_oldest", "drop_newest")


class Backlog:
    """Calls that wait for a task, and a count of those that are out. Not locked: its worker does that."""

    def __init__(self, max_pending: int | None, when_full: str) -> None:
        if max_pending is not None:
            if isinstance(max_pending, bool) or not isinstance(max_pending, int):
                raise TypeError(f"max_pending must be a whole number or None, not {max_pending!r}")
            if max_pending < 1:
                raise ValueError(f"max_pending must be at least 1, not {max_pending!r}")
        if when_full not in WHEN_FULL:
            raise ValueError(f"when_full must be one of {', '.join(WHEN_FULL)}, not {when_full!r}")
        self.max_pending = max_pending
        self.when_full = when_full
        self.waiting: deque[Call] = deque()
        self.unread = Unread()  # events in waiting
        self.out = 0  # calls that are on a task
        self.submitted = self.retried = self.dropped = 0

    @property
    def full(self) -> bool:
        """True when no more calls should be queued."""
        return self.max_pending is not None and len(self.waiting) >= self.max_pending

    @property
    def drained(self) -> bool:
        """True when no call is open."""
        return not (self.waiting or self.out)

    def add(self, call: Call) -> Call | None:
        """Queue a call. Returns the call that has to go instead, with ``drop_oldest`` and ``drop_newest``, or None."""
        self.submitted += 1
        if self.full and self.when_full == "drop_newest":
            self.dropped += 1
            return call
        self.waiting.append(call)
        self.unread.add(call)
        if self.max_pending is not None and len(self.waiting) > self.max_pending and self.when_full == "drop_oldest":
            self.dropped += 1
            return self.pop()
        return None

    def pop(self) -> Call:
        """The first that waits, which does so no more."""
        call = self.waiting.popleft()
        self.unread.remove(call)
        return call

    def put_back(self, calls: list[Call]) -> None:
        """Queue calls again, before all others, in that order."""
        for call in calls:
            self.unread.add(call)
        self.waiting.extendleft(reversed(calls))
        self.retried += sum(1 for call in calls if call.causes)

    def drop(self, call: Call) -> bool:
        """Forget a waiting call; False when it is not waiting."""
        try:
            self.waiting.remove(call)
        except ValueError:
            return False
        self.unread.remove(call)
        return True

    def take_all(self) -> list[Call]:
        """All that wait, which do so no more."""
        calls = list(self.waiting)
        self.waiting.clear()
        self.unread = Unread()
        return calls

    def snapshot(self) -> dict[str, Any]:
        """The numbers, for statistics."""
        return {
            "queued": len(self.waiting),
            "running": self.out,
            "submitted": self.submitted,
            "retried": self.retried,
            "dropped": self.dropped,
        }
