"""What became of the calls of one task, counted, and how long they took; pure."""

from __future__ import annotations

import threading
from typing import Any

from relieve_py.sketch import Sketch

BATCH = 64
"""Calls that are counted at a time. Less: more time for each; more: a longer pause for each so many-th call, which is
some 20 µs now."""


class Tally:
    """One slot's, as long as that lives."""

    def __init__(self) -> None:
        self.recent: list[tuple[float, float, float]] = []
        """When calls that have given a value were made, sent and answered. Whoever appends calls ``fold`` at times, all
        under the slot's lock."""
        self.done = self.failed = self.retried = self.cancelled = 0
        self.most_queued = 0
        self.latency = Sketch()
        self.queue_time = Sketch()
        self._lock = threading.RLock()  # owner: whoever counts what is no value; a signal handler may do so in between

    def fold(self) -> None:
        """Under the slot's lock: count what is recent."""
        recent = self.recent
        if not recent:
            return
        self.done += len(recent)
        self.latency.add([answered - made for made, _, answered in recent])
        self.queue_time.add([sent - made for made, sent, _ in recent])
        recent.clear()

    def has_failed(self) -> None:
        """A call has failed for good."""
        with self._lock:
            self.failed += 1

    def have_failed(self, count: int) -> None:
        """So many items have failed."""
        with self._lock:
            self.failed += count

    def is_retried(self) -> None:
        """A try has failed, and the call is tried again."""
        with self._lock:
            self.retried += 1

    def were_cancelled(self, count: int) -> None:
        """So many calls that waited or ran were cancelled."""
        with self._lock:
            self.cancelled += count

    def numbers(self) -> dict[str, Any]:
        """For statistics, when it is folded."""
        return {
            "done": self.done,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "retried": self.retried,
            "most_queued": self.most_queued,
            "latency": self.latency.percentiles(),
            "queue_time": self.queue_time.percentiles(),
        }

    def merge(self, other: Tally) -> None:
        """Take what another has counted, which is folded. Not locked: this one is nobody else's."""
        for name in ("done", "failed", "retried", "cancelled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.most_queued = max(self.most_queued, other.most_queued)
        self.latency.merge(other.latency)
        self.queue_time.merge(other.queue_time)

    def take_back(self, other: Tally) -> None:
        """Forget what another has counted, all of which was merged; but not what is the most or longest."""
        for name in ("done", "failed", "retried", "cancelled"):
            setattr(self, name, getattr(self, name) - getattr(other, name))
        self.latency.take_back(other.latency)
        self.queue_time.take_back(other.queue_time)
