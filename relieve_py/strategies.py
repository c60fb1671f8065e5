"""Pure choosers of the task for the next call, which see tasks and calls only through two small faces.

A worker makes one instance and then calls it directly, one method at a time: ``push(task)`` when a task
joins, ``next(tasks, call)`` to choose among the candidates, ``start(task, call)`` and ``end(task, call)``
around each call (``end`` always, on failure too), ``remove(task)`` when a task leaves. What is kept of a task
is kept by its name and goes with it.
"""

from __future__ import annotations

import math
import os
import random
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import attrs

RSS_INTERVAL = 0.5
"""Seconds for which a measured RSS is good. Less: more reading of /proc; more: growth is seen later."""


class Candidate(Protocol):
    """What a strategy may read of a task."""

    @property
    def name(self) -> str:
        """The task's name, unique in its worker."""
        ...

    @property
    def load(self) -> int:
        """The calls that wait for this task or run on it."""
        ...

    @property
    def pid(self) -> int | None:
        """The process id of the child, None while there is none."""
        ...


class Keyed(Protocol):
    """What a strategy may read of a call."""

    @property
    def key(self) -> Hashable:
        """What the caller gave with ``options(key=...)``, or None."""
        ...

    @property
    def method(self) -> Any:
        """The name that is called in the child, or None for its default."""
        ...

    @property
    def id(self) -> int:
        """The call's number, unique in this process."""
        ...


T = TypeVar("T", bound=Candidate)

_64_BITS = 2**64 - 1


class Strategy(ABC):
    """Base of the strategies here, and a convenience for others: only ``next`` must be written."""

    name: str = ""
    """How users ask for it."""
    waits: bool = False
    """True: all running tasks are candidates, busy ones too, and the call waits for the one chosen."""
    trusted: bool = False
    """True: it never blocks or raises, so any thread may call it. A subclass must say so itself."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Trust is in the code that was read, and a subclass brings code of its own.
        if "trusted" not in cls.__dict__:
            cls.trusted = False

    def push(self, task: Candidate) -> None:  # noqa: B027 - optional
        """A task has joined the worker."""

    def remove(self, task: Candidate) -> None:  # noqa: B027 - optional
        """A task has left the worker. Its last calls may end after this."""

    def start(self, task: Candidate, call: Keyed) -> None:  # noqa: B027 - optional
        """``call`` was given to ``task``."""

    def end(self, task: Candidate, call: Keyed) -> None:  # noqa: B027 - optional
        """``call`` is over on ``task``: done, failed, timed out, cancelled, or its child died."""

    @abstractmethod
    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        """The one of ``tasks`` that gets ``call``. ``tasks`` is in order of membership and never empty."""


class _Recency(Strategy):
    """Knows in which order the members were last touched. Joining counts as a touch."""

    trusted = True

    def __init__(self) -> None:
        # When each was touched, by count; the one touched longest ago comes first.
        self._touched: OrderedDict[str, int] = OrderedDict()
        self._count = 0
        self._place = 0  # among the candidates, of the last choice: the next one is likely its neighbour

    def push(self, task: Candidate) -> None:
        if task.name not in self._touched:
            self._count += 1
            self._touched[task.name] = self._count

    def remove(self, task: Candidate) -> None:
        self._touched.pop(task.name, None)

    def _touch(self, task: Candidate) -> None:
        if task.name in self._touched:  # calls of a removed task still end, and must not bring its name back
            self._count += 1
            self._touched[task.name] = self._count
            self._touched.move_to_end(task.name)

    def _when(self, task: Candidate) -> int:
        return self._touched.get(task.name, 0)

    def _longest_ago(self, tasks: Sequence[T]) -> T:
        """The candidate touched longest ago, found in one step while the candidates stay the same."""
        place = (self._place + 1) % len(tasks)
        if tasks[place].name != next(iter(self._touched), None):
            place = min(range(len(tasks)), key=lambda index: self._when(tasks[index]))
        self._place = place
        return tasks[place]


class RoundRobin(_Recency):
    """Each in turn: of the candidates, the one chosen longest ago. A newcomer goes to the end of the line."""

    name = "round-robin"
    trusted = True

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        task = self._longest_ago(tasks)
        self._touch(task)
        return task


class LeastRecentlyUsed(_Recency):
    """The task that has been unused for longest; a task is in use from the choice until its call has ended.

    RoundRobin looks at when a task was chosen. This one also lets a task rest after a long call.
    """

    name = "least-recently-used"
    trusted = True

    def start(self, task: Candidate, call: Keyed) -> None:
        self._touch(task)

    def end(self, task: Candidate, call: Keyed) -> None:
        self._touch(task)

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        task = self._longest_ago(tasks)
        self._touch(task)
        return task


class Weighted(_Recency):
    """The least calls waiting and running; among equals, the one that was chosen longest ago."""

    name = "weighted"
    trusted = True

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        task = min(tasks, key=lambda task: (task.load, self._when(task)))
        self._touch(task)
        return task


class IdleFirst(Strategy):
    """The first idle task in order of membership, and the least loaded when none is idle.

    The last members get work only when all before them have some, so a worker that is too large shows it at
    its end.
    """

    name = "idle-first"
    trusted = True

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        for task in tasks:
            if not task.load:
                return task
        return _least_loaded(tasks)


def _least_loaded(tasks: Sequence[T]) -> T:
    return min(tasks, key=lambda task: task.load)


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
        return min(tasks, key=lambda task: (self._measure(task, now), task.load))

    def _measure(self, task: Candidate, now: float) -> float:
        pid = task.pid
        if pid is None:
            return math.inf
        sample = self._samples.get(task.name)
        if sample is None or sample.pid != pid or now - sample.taken >= self._interval:
            sample = _Sample(pid=pid, value=self._measure_pid(pid), taken=now)
            self._samples[task.name] = sample
        return sample.value


class LowestRSS(_Lowest):
    """The child with the least memory in RAM; among equals, the least loaded.

    ``rss(pid)`` gives bytes and is asked at most once an ``interval`` (seconds on ``clock``) for each child.
    Those that cannot be measured come last.
    """

    name = "lowest-rss"
    trusted = True

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

    def __init__(
        self,
        *,
        sockets: Callable[[int], float] = sockets_held,
        clock: Callable[[], float] = time.monotonic,
        interval: float = SOCKETS_INTERVAL,
    ) -> None:
        super().__init__(sockets, sockets is sockets_held, clock, interval)


class Sticky(Strategy):
    """Calls with equal keys go to the same task; a call without a key goes to the least loaded.

    Rendezvous hashing: each task has a score for the key, and the highest wins. So a task that joins takes
    1/n of the keys, evenly from all others, and one that leaves gives its own to all others; no other key
    moves. Keys that are text or numbers go to the task of the same name in every run. Source: Thaler and
    Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1),
    1998.
    """

    name = "sticky"
    waits = True
    trusted = True

    def __init__(self) -> None:
        self._digests: dict[str, int] = {}

    def push(self, task: Candidate) -> None:
        self._digests[task.name] = _digest(task.name)

    def remove(self, task: Candidate) -> None:
        self._digests.pop(task.name, None)

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        if call.key is None:
            return _least_loaded(tasks)
        key = _mix(_hash_of(call.key))
        return max(tasks, key=lambda task: _mix(key ^ self._digest_of(task.name)))

    def _digest_of(self, name: str) -> int:
        digest = self._digests.get(name)
        return _digest(name) if digest is None else digest


def _hash_of(key: Hashable) -> int:
    """A number that is the same for equal keys. Python's own differs from run to run for text."""
    # A kind of str with another idea of equality must keep its own hash.
    if isinstance(key, str) and type(key).__hash__ is str.__hash__:
        return _digest(str(key))
    return hash(key)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _mix(number: int) -> int:
    """64 bits, each of which depends on every bit of ``number`` (MurmurHash3 by A. Appleby, fmix64).

    Scores must be independent. Cheaper mixing, such as the hash of a tuple, favours some tasks tenfold.
    """
    number &= _64_BITS
    number = (number ^ number >> 33) * 0xFF51AFD7ED558CCD & _64_BITS
    number = (number ^ number >> 33) * 0xC4CEB9FE1A85EC53 & _64_BITS
    return number ^ number >> 33


class Random(Strategy):
    """Any candidate, each as likely. The same ``seed`` makes the same choices."""

    name = "random"
    trusted = True

    def __init__(self, seed: int | None = None) -> None:
        self._choice = random.Random(seed).choice

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        return self._choice(tasks)


BUILT_IN: tuple[type[Strategy], ...] = (
    RoundRobin,
    Weighted,
    LeastRecentlyUsed,
    IdleFirst,
    LowestRSS,
    FewestSockets,
    Sticky,
    Random,
)
"""Every strategy of this module, each made without arguments."""
