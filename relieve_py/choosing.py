"""How a worker's strategy is asked and told: one thing at a time, where it may block, what it raises caught."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from relieve_py import locks, plugins
from relieve_py.calls import Call
from relieve_py.errors import StrategyError
from relieve_py.interruptions import raised_by_handler
from relieve_py.strands import Strand
from relieve_py.strategies import Candidates, Nobody, Strategy
from relieve_py.supervisor import shared
from relieve_py.tasks import Task


class Chooser:
    """One worker's strategy. ``strategy`` is what the user gave; raises TypeError or ValueError."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = plugins.strategy(strategy)
        self.trusted = bool(getattr(self._strategy, "trusted", False))
        """It may be asked anywhere: it never blocks."""
        self.waits = bool(getattr(self._strategy, "waits", False))
        """All running tasks are candidates, busy ones too, and the call waits for the one chosen."""
        self.alike = self.trusted and bool(getattr(self._strategy, "alike", False))
        """What it says of one call holds for those that wait behind it."""
        self._indexed = self.trusted and bool(getattr(self._strategy, "indexed", False))
        self._hears_starts, self._hears_ends = (_hears(self._strategy, what) for what in ("start", "end"))
        self._lock = locks.new()  # owner: the thread that runs a trusted strategy
        self._strand = Strand()  # where all other strategies run
        self._answers = Answers()

    def forget(self) -> None:
        """In a process that was just forked: whoever held the lock is not there."""
        self._lock = locks.new()
        self._answers = Answers()

    def open(self) -> None:
        """There will be choices again."""
        self._answers.open()

    def close(self) -> None:
        """No choice is waited for any more."""
        if self._answers.close():
            self._strand.submit(self._answers.end)

    def joined(self, task: Task) -> None:
        """A task has joined the worker."""
        self._tell(lambda: self._strategy.push(task))

    def left(self, task: Task) -> None:
        """A task has left the worker."""
        self._tell(lambda: self._strategy.remove(task))

    def started(self, task: Task, calls: Sequence[Call]) -> None:
        """Calls go to a task with another, for which that was chosen."""
        if self._hears_starts:
            for call in calls:
                self._tell(lambda call=call: self._strategy.start(task, call))  # type: ignore[misc]

    def ended(self, task: Task, calls: Sequence[Call]) -> None:
        """Calls that were given to a task have left it."""
        if self._hears_ends:
            for call in calls:
                self._tell(lambda call=call: self._strategy.end(task, call))  # type: ignore[misc]

    def _tell(self, what: Callable[[], object]) -> None:
        """One thing at a time; a strategy that is not ours on a thread where it may block."""
        if self.trusted and self._lock._is_owned():  # a signal handler has interrupted the strategy
            shared().post(self._tell, what)
        elif self.trusted:
            with self._lock:
                what()
        else:
            self._strand.submit(what)

    def run(self, dispatch: Callable[[], object]) -> None:
        """Run what will ask for choices: at once, or, for a strategy that is not ours, where it may block."""
        if self.trusted:
            dispatch()
        else:
            self._strand.submit(dispatch)

    def offered(self, candidates: Candidates[Task]) -> Sequence[Task]:
        """What the strategy is to choose from: all in order, for one that does not know better. Empty when there is
        nobody."""
        return candidates if self._indexed else candidates.ordered()

    def choose(self, offered: Sequence[Task], call: Call) -> Task | None:
        """The strategy's choice, which now counts as taken; None when nobody is left meanwhile. Raises
        StrategyError."""
        try:
            if self.trusted:
                with self._lock:
                    return self._chosen(self._strategy.next(offered, call), offered, call)
            task = self._strategy.next(offered, call)
            if hasattr(task, "__await__"):
                task = self._answers.wait_for(task)
            return self._chosen(task, offered, call)
        except Nobody:
            return None
        except StrategyError:
            raise
        except BaseException as error:  # also SystemExit: nobody else ends for a strategy
            if raised_by_handler(error) or (locks.on_main_thread() and not isinstance(error, Exception)):
                raise
            raise StrategyError(
                f"strategy {self._name!r} raised {type(error).__name__} for {call.title}: {error}", strategy=self._name
            ) from error

    def _chosen(self, task: Any, offered: Sequence[Task], call: Call) -> Task:
        if not self._indexed and not any(task is other for other in offered):
            raise StrategyError(
                f"strategy {self._name!r} chose {task!r}, which is not among the candidates", strategy=self._name
            )
        self._strategy.start(task, call)
        return cast(Task, task)

    @property
    def _name(self) -> str:
        return str(getattr(self._strategy, "name", type(self._strategy).__name__))


def _hears(strategy: Any, what: str) -> bool:
    """Whether a strategy does something when it is told that; those that need not be told save each call that."""
    return getattr(getattr(strategy, what, None), "__func__", None) is not getattr(Strategy, what)


class Closed(RuntimeError):
    """Raised where a choice is waited for, and its worker is stopped."""


class Answers:
    """What strategies that are async answer: waited for on one event loop, on the strand of their worker."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._closed = False

    def open(self) -> None:
        """There may be answers again."""
        self._closed = False

    def close(self) -> bool:
        """Wait no more, from any thread. True when ``end`` has to be called, on the strand."""
        self._closed = True
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self._give_up)
        except RuntimeError:  # it has been ended meanwhile
            return False
        return True

    def _give_up(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def wait_for(self, answer: Awaitable[Any]) -> Any:
        """The answer, once it is there. Raises what it raises, or Closed."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        try:
            return self._loop.run_until_complete(self._wait_for(answer))
        except asyncio.CancelledError:
            raise Closed("the worker was stopped meanwhile") from None
        finally:
            self._waiting = None
            if self._closed:
                self.end()

    async def _wait_for(self, answer: Awaitable[Any]) -> Any:
        self._waiting = asyncio.current_task()
        if self._closed:
            raise asyncio.CancelledError
        return await answer

    def end(self) -> None:
        """On the strand: let the loop go, and what still runs on it."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True) if left else asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
