"""How a worker's strategy is asked and told: one thing at a time, where it may block, what it raises caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from relieve_py import locks, plugins
from relieve_py.calls import Call
from relieve_py.errors import StrategyError
from relieve_py.events import Strand
from relieve_py.supervisor import shared
from relieve_py.tasks import Task


class Chooser:
    """One worker's strategy. ``strategy`` is what the user gave; raises TypeError or ValueError."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = plugins.strategy(strategy)
        self._lock = locks.new()  # owner: the thread that runs a trusted strategy
        self._strand = Strand()  # where all other strategies run

    def forget(self) -> None:
        """In a process that was just forked: whoever held the lock is not there."""
        self._lock = locks.new()

    @property
    def waits(self) -> bool:
        """True when all running tasks are candidates, busy ones too, and the call waits for the one chosen."""
        return bool(getattr(self._strategy, "waits", False))

    @property
    def _trusted(self) -> bool:
        return bool(getattr(self._strategy, "trusted", False))

    def joined(self, task: Task) -> None:
        """A task has joined the worker."""
        self._tell(lambda: self._strategy.push(task))

    def left(self, task: Task) -> None:
        """A task has left the worker."""
        self._tell(lambda: self._strategy.remove(task))

    def ended(self, task: Task, call: Call) -> None:
        """A call that was given to a task has left it."""
        self._tell(lambda: self._strategy.end(task, call))

    def _tell(self, what: Callable[[], object]) -> None:
        """One thing at a time; a strategy that is not ours on a thread where it may block."""
        if self._trusted and self._lock._is_owned():  # a signal handler has interrupted the strategy
            shared().post(self._tell, what)
        elif self._trusted:
            with self._lock:
                what()
        else:
            self._strand.submit(what)

    def run(self, dispatch: Callable[[], object]) -> None:
        """Run what will ask for choices: at once, or, for a strategy that is not ours, where it may block."""
        if self._trusted:
            dispatch()
        else:
            self._strand.submit(dispatch)

    def choose(self, candidates: tuple[Task, ...], call: Call) -> Task:
        """The strategy's choice, which now counts as taken. Raises StrategyError."""
        name = getattr(self._strategy, "name", type(self._strategy).__name__)
        try:
            if self._trusted:
                with self._lock:
                    task = self._strategy.next(candidates, call)
                    self._strategy.start(task, call)
            else:
                task = self._strategy.next(candidates, call)
                if task in candidates:
                    self._strategy.start(task, call)
        except Exception as error:
            raise StrategyError(
                f"strategy {name!r} raised {type(error).__name__} for {call.title}: {error}", strategy=name
            ) from error
        if hasattr(task, "__await__") and hasattr(task, "close"):
            task.close()  # a coroutine, which nobody will await
        if task not in candidates:
            raise StrategyError(f"strategy {name!r} chose {task!r}, which is not among the candidates", strategy=name)
        return cast(Task, task)
