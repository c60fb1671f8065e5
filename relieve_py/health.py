"""How children are: frozen records, also as plain data."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from relieve_py.tasks import Task

SHORTEST_WINDOW = 0.1
"""Seconds over which ``cpu_percent`` is measured at least. Less: it jumps, since the system counts in hundredths; more:
who asks often learns less often."""


@attrs.frozen(kw_only=True)
class TaskHealth:
    """One child, by psutil. What cannot be known, because there is no child, is None."""

    task: str
    state: str
    pid: int | None
    rss: int | None = None
    """Resident memory in bytes."""
    cpu_seconds: float | None = None
    """User and system time so far."""
    cpu_percent: float | None = None
    """Of one processor, since somebody last asked for the health of this child, or since its launch; above 100 when
    several of its threads work at once."""
    threads: int | None = None
    descriptors: int | None = None
    uptime: float | None = None
    """Seconds since the launch."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for json."""
        return attrs.asdict(self)

    def to_json(self) -> str:
        """The same as a line of JSON."""
        return json.dumps(self.to_dict())


class Sampler:
    """Looks at one child after another of a task, on whatever thread asks."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # owner: whoever looks, also in a signal handler
        self._pid: int | None = None
        self._samples: list[tuple[float, float]] = []  # two at most: when, and cpu_seconds then

    def look(self, task: Task) -> TaskHealth:
        """How its child is now."""
        import psutil

        now, pid, uptime = task._slot.now(), task.pid, task.uptime
        known: dict[str, Any] = {"task": task.name, "state": task.state.value}
        if pid is None or uptime is None:
            return TaskHealth(pid=None, **known)
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                known |= {
                    "rss": process.memory_info().rss,
                    "cpu_seconds": times.user + times.system,
                    "threads": process.num_threads(),
                    "descriptors": process.num_fds(),
                }
        except psutil.Error:  # it ended meanwhile
            return TaskHealth(pid=None, **known)
        percent = self._percent(pid, now - uptime, now, known["cpu_seconds"])
        return TaskHealth(pid=pid, uptime=uptime, cpu_percent=percent, **known)

    def _percent(self, pid: int, launched: float, now: float, used: float) -> float:
        with self._lock:
            if pid != self._pid:
                self._pid, self._samples = pid, [(launched, 0.0)]
            while len(self._samples) > 1 and now - self._samples[-1][0] < SHORTEST_WINDOW:
                self._samples.pop()  # too near to tell anything: this one stands for it
            since, before = self._samples[-1]
            self._samples = [self._samples[-1], (now, used)]
        return 100 * max(0.0, used - before) / max(now - since, SHORTEST_WINDOW)
