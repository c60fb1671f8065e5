"""The strategy itself; nothing here knows relieve_py, so it is tested without a process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any


class Latency:
    """The recent seconds per call of one task: a moving average that believes a slow call at once.

    A slower call than the average replaces it; a faster one pulls it down by and by, and so does time alone,
    so that a task that was slow is tried again. After the "Peak EWMA" load balancer of Twitter's Finagle.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._value: float | None = None
        self._seen = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """A call took so many ``seconds`` and ended at ``now``."""
        if self._value is None or seconds >= self._value:
            self._value = seconds
        else:
            kept = math.exp((self._seen - now) / self._memory)
            self._value = self._value * kept + seconds * (1 - kept)
        self._seen = now

    def at(self, now: float) -> float | None:
        """Seconds per call as expected at ``now``; None before the first call has ended."""
        if self._value is None:
            return None
        return self._value * math.exp((self._seen - now) / self._memory)


class PeakEwma:
    """Chooses the task that should be done first: recent seconds per call, times the calls it would have.

    ``memory`` is in seconds of ``clock``. Less: a slow child is tried again sooner; more: one odd call counts
    longer.
    """

    name = "peak-ewma"
    waits = False

    def __init__(self, memory: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        if memory <= 0:
            raise ValueError(f"memory must be more than 0 seconds, not {memory!r}")
        self._memory = memory
        self._clock = clock
        self._latencies: dict[str, Latency] = {}
        self._began: dict[int, float] = {}

    def push(self, task: Any) -> None:
        self._latencies[task.name] = Latency(self._memory)

    def remove(self, task: Any) -> None:
        self._latencies.pop(task.name, None)

    def start(self, task: Any, call: Any) -> None:
        self._began[call.id] = self._clock()

    def end(self, task: Any, call: Any) -> None:
        began = self._began.pop(call.id, None)
        latency = self._latencies.get(task.name)  # None: the task was removed while it ran its last calls
        if began is not None and latency is not None:
            now = self._clock()
            latency.observe(now - began, now)

    def next(self, tasks: Sequence[Any], call: Any) -> Any:
        now = self._clock()
        return min(tasks, key=lambda task: self._expected(task, now))

    def _expected(self, task: Any, now: float) -> tuple[float, int]:
        """Seconds until the call would be done there, and the load to part equals."""
        latency = self._latencies.get(task.name)
        seconds = latency.at(now) if latency is not None else None
        if seconds is None:  # a newcomer gets one call at once, and no more until that has told how long it takes
            return (math.inf if task.load else 0.0), task.load
        return seconds * (task.load + 1), task.load
