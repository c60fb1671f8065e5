"""The tasks that may be chosen, kept in an order that costs O(log n) to keep and to ask."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any, overload

from relieve_py.strategies.base import Candidate, T

Rank = Callable[[Any], Any]
"""What says which of two tasks is to be chosen: the one with the lower rank."""


class Nobody(LookupError):
    """Raised when none of the candidates can take a call any more."""


class Candidates(Sequence[T]):
    """The tasks of which ``takes(task)`` is true. Not locked: its owner does that.

    Who owns it calls ``look(task, place)`` whenever a task may have come to take calls, or may have a lower rank. That
    one takes none any more, or has a higher rank, is noticed when it is about to be chosen.
    """

    def __init__(self, takes: Callable[[T], bool]) -> None:
        self._takes = takes
        self._places: dict[int, int] = {}  # in the order of membership, of each by its id()
        self._names: dict[str, T] = {}
        self._drawn: list[T] = []  # the same, in any order
        self._drawn_at: dict[int, int] = {}
        self._rank: Rank | None = None
        self._heap: list[tuple[Any, int, int, str]] = []  # rank, place, number, name; of each task one entry counts
        self._entries: dict[str, tuple[Any, int]] = {}  # that one: rank and number
        self._numbers = itertools.count()

    # -- for its owner -----------------------------------------------------------------------------

    def look(self, task: T, place: int) -> None:
        """See whether the task takes calls, and what rank it has now."""
        if not self._takes(task):
            self.discard(task)
            return
        if id(task) not in self._places:
            self._names[task.name] = task
            self._drawn_at[id(task)] = len(self._drawn)
            self._drawn.append(task)
        self._places[id(task)] = place
        if self._rank is not None:
            self._enter(task, self._rank(task))

    def discard(self, task: T) -> None:
        """It takes none; nothing happens when that is known."""
        if self._places.pop(id(task), None) is None:
            return
        self._names.pop(task.name, None)
        self._entries.pop(task.name, None)
        at, last = self._drawn_at.pop(id(task)), self._drawn.pop()
        if last is not task:
            self._drawn[at] = last
            self._drawn_at[id(last)] = at

    def somebody(self) -> bool:
        """True when there is one who takes calls."""
        while self._drawn:
            if self._takes(self._drawn[-1]):
                return True
            self.discard(self._drawn[-1])
        return False

    def ordered(self) -> tuple[T, ...]:
        """All who take calls, in the order of membership. This looks at each."""
        there = sorted(self._drawn, key=lambda task: self._places[id(task)])
        return tuple(task for task in there if self._takes(task))

    # -- for strategies ----------------------------------------------------------------------------

    def lowest(self, rank: Rank) -> T:
        """The one with the lowest rank; of equals, the first by membership. The ranks of those that stay may only rise
        from one ``look`` to the next. Raises Nobody."""
        if self._rank != rank:
            self._rank = rank
            self._rebuild()
        while self._heap:
            value, _, number, name = self._heap[0]
            if self._entries.get(name, (None, -1))[1] != number:
                heapq.heappop(self._heap)
                continue
            task = self._names[name]
            if not self._takes(task):
                self.discard(task)
            elif (now := rank(task)) != value:
                self._enter(task, now)
            else:
                return task
        raise Nobody

    def rerank(self, task: T) -> None:
        """Its rank is lower, or may be."""
        if self._rank is not None and id(task) in self._places:
            self._enter(task, self._rank(task))

    def draw(self, below: Callable[[int], int]) -> T:
        """One by chance: ``below(n)`` gives a number from 0 to n - 1. Raises Nobody."""
        while self._drawn:
            task = self._drawn[below(len(self._drawn))]
            if self._takes(task):
                return task
            self.discard(task)
        raise Nobody

    def named(self, name: str) -> T | None:
        """The one of that name; None when it takes no calls."""
        task = self._names.get(name)
        return task if task is not None and self._takes(task) else None

    def _enter(self, task: T, value: Any) -> None:
        known = self._entries.get(task.name)
        if known is not None and known[0] == value:
            return
        if len(self._heap) > 2 * len(self._drawn) + 64:  # most entries count no more
            self._rebuild()
            return
        number = next(self._numbers)
        self._entries[task.name] = value, number
        heapq.heappush(self._heap, (value, self._places[id(task)], number, task.name))

    def _rebuild(self) -> None:
        assert self._rank is not None
        self._entries = {task.name: (self._rank(task), next(self._numbers)) for task in self._drawn}
        places = self._places
        self._heap = [
            (value, places[id(self._names[name])], number, name) for name, (value, number) in self._entries.items()
        ]
        heapq.heapify(self._heap)

    # -- as a sequence, for what does not know better ----------------------------------------------

    def __bool__(self) -> bool:
        return self.somebody()

    def __len__(self) -> int:
        return len(self.ordered())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self.ordered()[index]

    def __contains__(self, task: object) -> bool:
        return id(task) in self._places and self._takes(task)  # type: ignore[arg-type] # it is one of them


def lowest(tasks: Sequence[T], rank: Callable[[Candidate], Any]) -> T:
    """The first of those with the lowest rank. Raises Nobody."""
    return tasks.lowest(rank) if isinstance(tasks, Candidates) else min(tasks, key=rank)
