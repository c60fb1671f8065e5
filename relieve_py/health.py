"""How children and workers are: frozen records, also as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from relieve_py.tasks import Task


@attrs.frozen(kw_only=True)
class TaskHealth:
    """One child, by psutil. What cannot be known, because it is gone, is None."""

    task: str
    state: str
    pid: int | None
    rss: int | None
    """Resident memory in bytes."""
    cpu_seconds: float | None
    """User and system time so far."""
    threads: int | None
    descriptors: int | None
    uptime: float | None
    """Seconds since the launch."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for json."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class WorkerStats:
    """The numbers of a CloudWorker at one moment."""

    worker: str
    size: int
    """Tasks."""
    states: dict[str, int]
    """How many tasks are in each state."""
    queued: int
    """Calls that wait for a task, or for their retry."""
    running: int
    """Calls that are on a task."""
    submitted: int
    """Calls so far."""
    retried: int
    """Tries after the first, so far."""
    dropped: int
    """Calls given up for want of room, so far."""
    restarts: int
    """Restarts of all tasks, so far."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for json."""
        return attrs.asdict(self)


def health_of(task: Task) -> TaskHealth:
    """How its child is now."""
    import psutil

    pid = task.pid
    numbers: dict[str, Any] = {"rss": None, "cpu_seconds": None, "threads": None, "descriptors": None}
    if pid is not None:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                numbers = {
                    "rss": process.memory_info().rss,
                    "cpu_seconds": times.user + times.system,
                    "threads": process.num_threads(),
                    "descriptors": process.num_fds(),
                }
        except psutil.Error:  # it ended meanwhile
            pid = None
    return TaskHealth(task=task.name, state=task.state.value, pid=pid, uptime=task.uptime, **numbers)
