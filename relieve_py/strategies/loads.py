"""Choosers that go by how many calls a task has."""

from __future__ import annotations

import random
from collections.abc import Sequence

from relieve_py.strategies.base import Candidate, Keyed, Strategy, T
from relieve_py.strategies.candidates import Candidates, lowest


def load_of(task: Candidate) -> int:
    """Its calls, waiting and running."""
    return task.load


class IdleFirst(Strategy):
    """The first idle task in order of membership, and the least loaded when none is idle.

    The last members get work only when all before them have some, so a worker that is too large shows it at
    its end.
    """

    name = "idle-first"
    trusted = True
    indexed = True
    alike = True

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        return lowest(tasks, load_of)


class Random(Strategy):
    """Any candidate, each as likely. The same ``seed`` makes the same choices."""

    name = "random"
    trusted = True
    indexed = True
    alike = True

    def __init__(self, seed: int | None = None) -> None:
        self._below = random.Random(seed).randrange

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        return tasks.draw(self._below) if isinstance(tasks, Candidates) else tasks[self._below(len(tasks))]


class TwoChoices(Random):
    """Of two candidates by chance, the one with the least calls waiting and running. The same ``seed`` draws the same.

    The longest queue is then nearly as short as with ``Weighted``, at the cost of two looks. Source: Mitzenmacher, "The
    power of two choices in randomized load balancing", IEEE Transactions on Parallel and Distributed Systems 12(10),
    2001.
    """

    name = "two-choices"
    trusted = True
    indexed = True
    alike = True

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        first, second = super().next(tasks, call), super().next(tasks, call)
        return second if second.load < first.load else first
