"""Choosers that go by what is measured of the children."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence

import attrs

from relieve_py.strategies.base import Candidate, Keyed, Strategy, T
from relieve_py.strategies.candidates import Candidates

RSS_INTERVAL = 0.5
"""Seconds for which a measured RSS is good. Less: more reading of /proc; more: growth is seen later."""
LOOKS = 16
"""Children that are measured for one choice at most. Less: among many whose measure has grown old, one that has grown
may be taken; more: such a choice takes longer."""


def resident_set(pid: int) -> float:
    """Bytes of a process that are in RAM; infinite when that cannot be read, as of one that is gone."""
    import psutil  # only this strategy pays for it

    try:
        return float(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return math.inf


SOCKETS_INTERVAL = 0.5
"""Seconds between two counts of a child's sockets. Less: newer counts; more: less work, it costs a look at each one."""


def sockets_held(pid: int) -> float:
    """Sockets that a process holds, of every kind; infinite when that cannot be read, as of one that is gone."""
    held = 0
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                held += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
            except OSError:  # closed since the list was made
                continue
    except OSError:
        return math.inf if os.path.isdir("/proc/self") else _sockets_by_psutil(pid)
    return float(held)


def _sockets_by_psutil(pid: int) -> float:
    """Where there is no /proc; it sees only sockets that are bound or connected."""
    import psutil  # only this strategy pays for it

    try:
        return float(len(psutil.Process(pid).net_connections(kind="all")))
    except psutil.Error:
        return math.inf


@attrs.frozen(kw_only=True)
class _Sample:
    """What was measured of one child at one time."""

    pid: int
    """The child: after a restart of the task it is another one."""
    value: float
    """Bytes, or a count."""
    taken: float
    """Seconds on the strategy's clock."""


class _Lowest(Strategy):
    """The child of which least is measured; among equals, the least loaded. Those that cannot be measured come last."""

    def __init__(
        self, measure: Callable[[int], float], ours: bool, clock: Callable[[], float], interval: float
    ) -> None:
        self._measure_pid = measure
        self._clock = clock
        self._interval = interval
        self._samples: dict[str, _Sample] = {}
        # A function of the user may block or raise.
        self.trusted = type(self).trusted and ours and clock is time.monotonic

    def push(self, task: Candidate) -> None:
        self._samples.pop(task.name, None)

    def remove(self, task: Candidate) -> None:
        self._samples.pop(task.name, None)

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        now = self._clock()
        if isinstance(tasks, Candidates):
            chosen: T = self._next_of_many(tasks, now)
            return chosen
        return min(tasks, key=lambda task: (self._measure(task, now), task.load))

    def _next_of_many(self, tasks: Candidates[T], now: float) -> T:
        self._measure_oldest(tasks, now)
        for _ in range(LOOKS):
            task = tasks.lowest(self._rank)
            if self._fresh(task, now) is not None or task.pid is None:
                break
            self._measure(task, now)
            tasks.rerank(task)
        return tasks.lowest(self._rank)

    def _rank(self, task: Candidate) -> tuple[float, int]:
        """By what is known; what was never measured comes first, so that it is."""
        sample = self._samples.get(task.name)
        known = sample is not None and sample.pid == task.pid
        return (sample.value if known and sample is not None else math.inf if task.pid is None else -1.0), task.load

    def _measure_oldest(self, tasks: Candidates[T], now: float) -> None:
        """Once a choice, so that one whose measure has fallen comes up again."""
        name = next(iter(self._samples), None)
        task = tasks.named(name) if name is not None else None
        if task is not None and self._fresh(task, now) is None:
            self._measure(task, now)
            tasks.rerank(task)
        elif name is not None and task is None:  # it takes no calls: another is looked at next time
            self._samples[name] = self._samples.pop(name)

    def _fresh(self, task: Candidate, now: float) -> _Sample | None:
        sample = self._samples.get(task.name)
        if sample is None or sample.pid != task.pid or now - sample.taken >= self._interval:
            return None
        return sample

    def _measure(self, task: Candidate, now: float) -> float:
        pid = task.pid
        if pid is None:
            return math.inf
        sample = self._fresh(task, now)
        if sample is None:
            sample = _Sample(pid=pid, value=self._measure_pid(pid), taken=now)
            self._samples.pop(task.name, None)
            self._samples[task.name] = sample  # at the end: the oldest comes first
        return sample.value


class LowestRSS(_Lowest):
    """The child with the least memory in RAM; among equals, the least loaded.

    ``rss(pid)`` gives bytes and is asked at most once an ``interval`` (seconds on ``clock``) for each child.
    Those that cannot be measured come last.
    """

    name = "lowest-rss"
    trusted = True
    indexed = True
    alike = True

    def __init__(
        self,
        *,
        rss: Callable[[int], float] = resident_set,
        clock: Callable[[], float] = time.monotonic,
        interval: float = RSS_INTERVAL,
    ) -> None:
        super().__init__(rss, rss is resident_set, clock, interval)


class FewestSockets(_Lowest):
    """The child that holds the fewest sockets; among equals, the least loaded.

    ``sockets(pid)`` counts them and is asked at most once an ``interval`` (seconds on ``clock``) for each child.
    Those that cannot be counted come last.
    """

    name = "fewest-sockets"
    trusted = True
    indexed = True
    alike = True

    def __init__(
        self,
        *,
        sockets: Callable[[int], float] = sockets_held,
        clock: Callable[[], float] = time.monotonic,
        interval: float = SOCKETS_INTERVAL,
    ) -> None:
        super().__init__(sockets, sockets is sockets_held, clock, interval)
