"""A condition on which task may get which call, before any strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from relieve_py.strategies.base import Candidate, Keyed, Strategy, T
from relieve_py.strategies.recency import Weighted


class Filtered(Strategy):
    """Only tasks for which ``admits(task, call)`` is true; of those, the one that ``strategy`` chooses.

    All running tasks are asked about, busy ones too, and the call waits for the one chosen; so ``strategy`` should go
    by the load, as Weighted does. When none is admitted, the call fails with StrategyError. Raises TypeError for what
    cannot be called.
    """

    name = "filtered"
    waits = True

    def __init__(self, admits: Callable[[Any, Any], object], strategy: Strategy | None = None) -> None:
        if not callable(admits):
            raise TypeError(f"admits must be a function of a task and a call, not {admits!r}")
        if strategy is not None and not callable(getattr(strategy, "next", None)):
            raise TypeError(f"strategy must be an instance of a strategy, not {strategy!r}")
        self._admits = admits
        self._strategy = strategy if strategy is not None else Weighted()

    def push(self, task: Candidate) -> None:
        self._strategy.push(task)

    def remove(self, task: Candidate) -> None:
        self._strategy.remove(task)

    def start(self, task: Candidate, call: Keyed) -> None:
        self._strategy.start(task, call)

    def end(self, task: Candidate, call: Keyed) -> None:
        self._strategy.end(task, call)

    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        admitted = [task for task in tasks if self._admits(task, call)]
        if not admitted:
            raise LookupError("no task that runs is admitted")
        return self._strategy.next(admitted, call)
