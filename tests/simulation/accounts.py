"""Strategies that keep accounts of what they are told, and raise now and then if their world says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from worlds import OnPurpose

from relieve_py.strategies import IdleFirst, LeastRecentlyUsed, RoundRobin, Sticky


class Accounts:
    """Each start has one end, and a task is used only between its joining and its leaving."""

    trusted = True

    def __init__(self, raises: Callable[[], bool]) -> None:
        super().__init__()
        self.raises = raises
        self.tasks: set[str] = set()
        self.running: Counter[tuple[str, int]] = Counter()
        self.broken: str | None = None

    def push(self, task: Any) -> None:
        if task.name in self.tasks:
            self.broken = f"rule 2: {task.name} joined twice"
        self.tasks.add(task.name)
        super().push(task)  # type: ignore[misc]

    def remove(self, task: Any) -> None:
        if task.name not in self.tasks:
            self.broken = f"rule 2: {task.name} left and was not there"
        self.tasks.discard(task.name)
        super().remove(task)  # type: ignore[misc]

    def next(self, tasks: Any, call: Any) -> Any:
        if self.raises():
            raise OnPurpose
        return super().next(tasks, call)  # type: ignore[misc]

    def start(self, task: Any, call: Any) -> None:
        if self.raises():
            raise OnPurpose
        self.running[task.name, call.id] += 1
        super().start(task, call)  # type: ignore[misc]

    def end(self, task: Any, call: Any) -> None:
        self.running[task.name, call.id] -= 1
        if self.running[task.name, call.id] < 0:
            self.broken = f"rule 6: the strategy is told twice that call {call.id} has ended on {task.name}"
        super().end(task, call)  # type: ignore[misc]

    @property
    def open(self) -> int:
        """Calls that have begun and not ended."""
        return sum(self.running.values())


class Trusted(Accounts, RoundRobin):
    trusted = True
    indexed = True


class Stranger(Accounts, RoundRobin):
    trusted = False


class StrangeIdle(Accounts, IdleFirst):
    trusted = False


class Recent(Accounts, LeastRecentlyUsed):
    trusted = True
    indexed = True


class Keyed(Accounts, Sticky):
    trusted = True
    indexed = True


STRATEGIES = (Trusted, Stranger, StrangeIdle, Recent, Keyed)
