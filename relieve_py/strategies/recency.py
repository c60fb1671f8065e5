"""Choosers that go by when a task was last chosen or used."""

from __future__ import annotations

from collections.abc import Sequence

from relieve_py.strategies.base import Candidate, Keyed, Strategy, T
from relieve_py.strategies.candidates import lowest


class _Recency(Strategy):
    """Knows in which order the members were last touched. Joining counts as a touch."""

    trusted = True
    indexed = True
    alike = True

    def __init__(self) -> None:
        self._touched: dict[str, int] = {}  # when, by count
        self._count = 0

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

    def _when(self, task: Candidate) -> int:
        return self._touched.get(task.name, 0)


class RoundRobin(_Recency):
    """Each in turn: of the candidates, the one chosen longest ago. A newcomer goes to the end of the line."""

    name = "round-robin"
    trusted = True
    indexed = True
    alike = True

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        task = lowest(tasks, self._when)
        self._touch(task)
        return task


class LeastRecentlyUsed(_Recency):
    """The task that has been unused for longest; a task is in use from the choice until its call has ended.

    RoundRobin looks at when a task was chosen. This one also lets a task rest after a long call.
    """

    name = "least-recently-used"
    trusted = True
    indexed = True
    alike = True

    def start(self, task: Candidate, call: Keyed) -> None:
        self._touch(task)

    def end(self, task: Candidate, call: Keyed) -> None:
        self._touch(task)

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        task = lowest(tasks, self._when)
        self._touch(task)
        return task


class Weighted(_Recency):
    """The least calls waiting and running; among equals, the one that was chosen longest ago."""

    name = "weighted"
    trusted = True
    indexed = True
    alike = True

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        task = lowest(tasks, self._rank)
        self._touch(task)
        return task

    def _rank(self, task: Candidate) -> tuple[int, int]:
        return task.load, self._when(task)
