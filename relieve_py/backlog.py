"""The queue of a CloudWorker: pure decisions about what waits, what is out, and what to do when it is full."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from relieve_py.calls import CHUNK, EVENT, Call
from relieve_py.lanes import Queues
from relieve_py.table import Unread

WHEN_FULL = ("wait", "raise", "drop_oldest", "drop_newest")
ANSWERS = (*WHEN_FULL, "queue")
"""What a policy of the user may answer: the same, or that the call is queued all the same."""


class Backlog:
    """Calls that wait for a task, and a count of those that are out. Not locked: its worker does that."""

    def __init__(self, max_pending: int | None, when_full: str | Callable[[Any], str]) -> None:
        if max_pending is not None:
            if isinstance(max_pending, bool) or not isinstance(max_pending, int):
                raise TypeError(f"max_pending must be a whole number or None, not {max_pending!r}")
            if max_pending < 1:
                raise ValueError(f"max_pending must be at least 1, not {max_pending!r}")
        _check_policy(when_full)
        self.max_pending = max_pending
        self.bounded = max_pending is not None
        self.when_full = when_full
        self.waiting = Queues()
        self.unread = Unread()  # events in waiting
        self.out = 0  # calls that are on a task
        self.submitted = self.retried = self.dropped = 0
        self.most_queued = 0  # at once, ever

    @property
    def full(self) -> bool:
        """True when no more calls should be queued."""
        return self.max_pending is not None and self.waiting.count >= self.max_pending

    @property
    def crowded(self) -> bool:
        """True when whoever sends should hold back: of calls there is no room for more, of events too many wait."""
        return self.full or self.unread.full

    @property
    def roomy(self) -> bool:
        """True when whoever held back may go on: not at the first that leaves, or it would hold back at each."""
        return self.unread.slack and (self.max_pending is None or len(self.waiting) <= self.max_pending // 2)

    @property
    def drained(self) -> bool:
        """True when no call is open."""
        return not (self.waiting or self.out)

    def add(self, call: Call, how: Any = None) -> Call | None:
        """Queue a call. Returns the call that has to go instead, with ``drop_oldest`` and ``drop_newest``, or None: the
        oldest or the newest of the lowest priority that there is.

        ``how`` is what to do when it is full; None: what ``when_full`` says.
        """
        how = self.when_full if how is None else how
        drops = self.bounded and self.full and how in ("drop_oldest", "drop_newest")
        self.submitted += 1
        self.waiting.add(call)
        mode = call.mode
        if mode is EVENT:
            self.unread.add(call)
        elif mode is CHUNK:  # each item is a call of its own
            self.submitted += call.left() - 1
        if drops:
            self.dropped += 1
            victim = self.waiting.least(oldest=how == "drop_oldest")
            self.drop(victim)
            return victim
        if self.waiting.count > self.most_queued:
            self.most_queued = self.waiting.count
        return None

    def goes(self, call: Call) -> None:
        """It is on a task from now on."""
        call.out += 1
        self.out += 1

    def returns(self, call: Call) -> bool:
        """It is on a task less; False when that is known."""
        if not call.out:
            return False
        call.out -= 1
        self.out -= 1
        return True

    def mend(self) -> None:
        """Something was interrupted in the middle: what is counted is counted anew."""
        self.waiting.mend()
        self.unread.count(self.waiting)

    def put_back(self, calls: list[Call]) -> None:
        """Queue calls again, before all others of their priority, in that order."""
        for call in calls:
            self.unread.add(call)
        self.waiting.put_back(calls)
        self.retried += sum(1 for call in calls if call.causes)

    def drop(self, call: Call) -> bool:
        """Forget a waiting call; False when it is not waiting."""
        if not self.waiting.remove(call):
            return False
        self.unread.remove(call)
        return True

    def take_out(self, script: Any, most: int, fits: Callable[[Call], bool], found: list[Call]) -> None:
        """Add to these up to so many of the calls for that script whose turn it is, as far as they fit in a row, which
        no event does; they go to a task with those."""
        before = len(found)
        self.waiting.take(script, most, fits, found)
        for call in found[before:]:
            self.goes(call)

    def take(self, script: Any) -> list[Call]:
        """All that are addressed to that script, None: to none, which wait no more."""
        calls = list(self.waiting.of(script))
        for call in calls:
            self.drop(call)
        return calls

    def take_all(self) -> list[Call]:
        """All that wait, which do so no more."""
        self.unread = Unread()
        return self.waiting.clear()

    def snapshot(self) -> dict[str, Any]:
        """The numbers, for statistics."""
        return {
            "queued": len(self.waiting),
            "running": self.out,
            "submitted": self.submitted,
            "retried": self.retried,
            "dropped": self.dropped,
            "most_queued": self.most_queued,
        }


def _check_policy(when_full: Any) -> None:
    if inspect.iscoroutinefunction(when_full):
        raise TypeError(f"when_full must be answered at once, and {when_full!r} is async")
    if not callable(when_full) and when_full not in WHEN_FULL:
        raise ValueError(
            f"when_full must be one of {', '.join(WHEN_FULL)}, or a function of the call, not {when_full!r}"
        )
