"""Calls with equal keys go to the same task, by consistent hashing."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b, shake_128
from struct import Struct

from relieve_py.strategies.base import Candidate, Keyed, Strategy, T
from relieve_py.strategies.candidates import Candidates, lowest
from relieve_py.strategies.loads import load_of

_64_BITS = 2**64 - 1
PROBES = 21
"""Places on the ring at which a task is looked for, of which the nearest to one counts. Less: a choice is quicker;
more: keys are spread more evenly."""
POINTS = 4
"""Points of each task. Less: a task joins more quickly; more: keys are spread more evenly."""
_probes, _points = Struct(f"<{PROBES}Q"), Struct(f"<{POINTS}Q")


class Sticky(Strategy):
    """Calls with equal keys go to the same task; a call without a key goes to the least loaded.

    Each task has some points on a ring, and a key some probes; the point that follows a probe most closely wins. So a
    task that joins takes 1/n of the keys from all others, and one that leaves gives its own to all others; no other key
    moves. Keys that are text or numbers go to the task of the same name in every run. Source: Appleton and O'Reilly,
    "Multi-probe consistent hashing", arXiv:1505.00062, 2015.
    """

    name = "sticky"
    waits = True
    trusted = True
    indexed = True

    def __init__(self) -> None:
        self._ring: list[tuple[int, str]] = []  # of the members

    def push(self, task: Candidate) -> None:
        for point in _points_of(task.name):
            insort(self._ring, point)

    def remove(self, task: Candidate) -> None:
        for point in _points_of(task.name):
            at = bisect_left(self._ring, point)
            if at < len(self._ring) and self._ring[at] == point:
                del self._ring[at]

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        if call.key is None:
            return lowest(tasks, load_of)
        if isinstance(tasks, Candidates):
            return _nearest(self._ring, tasks.named, call.key) or lowest(tasks, load_of)
        named = {task.name: task for task in tasks}
        ring = sorted(point for name in named for point in _points_of(name))
        return _nearest(ring, named.get, call.key) or tasks[0]


def _nearest(ring: list[tuple[int, str]], find: Callable[[str], T | None], key: Hashable) -> T | None:
    """The task whose point follows a probe of the key most closely; None when ``find`` finds none on the ring."""
    best: T | None = None
    nearest = _64_BITS + 1
    for probe in _probes.unpack(shake_128(_hash_of(key).to_bytes(8, "little")).digest(_probes.size)):
        at = bisect_left(ring, (probe, ""))
        for step in range(len(ring)):
            point, name = ring[(at + step) % len(ring)]
            distance = (point - probe) & _64_BITS
            if distance >= nearest:
                break
            task = find(name)
            if task is not None:
                best, nearest = task, distance
                break
    return best


def _points_of(name: str) -> list[tuple[int, str]]:
    return [(point, name) for point in _points.unpack(blake2b(_bytes(name), digest_size=_points.size).digest())]


def _hash_of(key: Hashable) -> int:
    """64 bits that are the same for equal keys. Python's own hash differs from run to run for text."""
    # A kind of str with another idea of equality must keep its own hash.
    if isinstance(key, str) and type(key).__hash__ is str.__hash__:
        return _digest(str(key))
    return hash(key) & _64_BITS


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(_bytes(text), digest_size=8).digest(), "big")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
