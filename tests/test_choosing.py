"""How strategies are asked: those that are async, and those that choose badly."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relieve_py import CallableTask, CloudWorker, StrategyError
from relieve_py.strategies import Filtered, Strategy
from relieve_py.strategies.recency import RoundRobin
from relieve_py.testing import Simulation
from relieve_py.traffic import Traffic

TASK = Path(__file__).parent / "scripts" / "task.py"
T = 20


class Asks(Strategy):
    """Asks somebody else, as ``answer(tasks, call)`` says."""

    name = "asks"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def next(self, tasks: Any, call: Any) -> Any:  # type: ignore[override] # as it may be
        await asyncio.sleep(0)
        return await self.answer(tasks, call) if asyncio.iscoroutinefunction(self.answer) else self.answer(tasks, call)


def echo(value: Any) -> Any:
    return value


@pytest.mark.feature(83)
def test_each_call_goes_to_the_task_that_an_async_strategy_answers_with() -> None:
    with Simulation(exports=echo) as simulation:
        tasks = [CallableTask("x.py", name=name) for name in "abc"]
        worker = CloudWorker(*tasks, strategy=Asks(lambda tasks, call: next(t for t in tasks if t.name == call.key)))
        worker.start().result()
        for key in "cabbac":
            assert worker.options(key=key).get(None, key).result() == key
        assert [task._slot.traffic.table.finished for task in tasks] == [2, 2, 2]
        worker.stop().result()
        assert not simulation.children


@pytest.mark.feature(83)
@pytest.mark.rule(12)
@pytest.mark.parametrize("answer", ["raises", "stopped", "stranger"])
def test_a_bad_answer_costs_the_call_a_named_error_and_nothing_else(answer: str) -> None:
    answers: dict[str, Any] = {
        "raises": lambda tasks, call: tasks[99],
        "stopped": lambda tasks, call: stopped,
        "stranger": lambda tasks, call: None,
    }
    with Simulation(exports=echo):
        stopped, good = (CallableTask("x.py", name=name) for name in ("stopped", "good"))
        bad = answers[answer]
        worker = CloudWorker(
            stopped, good, strategy=Asks(lambda tasks, call: bad(tasks, call) if call.key else tasks[0])
        )
        worker.start().result()
        stopped.stop().result()
        for _ in range(2):
            with pytest.raises(StrategyError, match="asks"):
                worker.options(key="bad").get(None, 1).result()
            assert worker.get(None, 2).result() == 2
        worker.stop().result()


@pytest.mark.feature(83)
def test_a_worker_is_stopped_though_the_answer_never_comes_and_works_again() -> None:
    asked = threading.Event()

    async def never(tasks: Any, call: Any) -> Any:
        if call.key != "ever":
            return tasks[0]
        asked.set()
        await asyncio.Event().wait()

    worker = CloudWorker(CallableTask(TASK), strategy=Asks(never))
    with worker:
        assert worker.get("data").result(T)
        lost = worker.options(key="ever").get("data")
        waiting = worker.get("data")
        assert asked.wait(T)
        worker.stop().result(T)
        with pytest.raises(StrategyError, match="stopped"):
            lost.result(T)
        assert waiting.exception(T) is not None
        worker.start().result(T)
        assert worker.get("data").result(T)


@pytest.mark.feature(85)
def test_a_call_waits_for_those_who_are_admitted_and_fails_when_nobody_is() -> None:
    with Simulation(exports={"nap": lambda n: n}) as simulation:
        tasks = [CallableTask("x.py", name=name) for name in ("eu-1", "us-1")]
        worker = CloudWorker(*tasks, strategy=Filtered(lambda task, call: task.name.startswith(call.key)))
        worker.start().result()
        eu = worker.options(key="eu")
        assert [reply.result() for reply in [eu.get("nap", n) for n in range(4)]] == [0, 1, 2, 3]
        assert [task.stats().done for task in tasks] == [4, 0]
        with pytest.raises(StrategyError, match="admitted"):
            worker.options(key="asia").get("nap", 1).result()
        worker.stop().result()
        assert not simulation.children


@pytest.mark.parametrize("alike", [False, True])
def test_only_a_strategy_that_does_not_look_at_calls_chooses_for_several(
    alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Traffic, "appetite", 10)
    chosen: list[int] = []

    class Own(RoundRobin):
        trusted = indexed = True

        def next(self, tasks: Any, call: Any) -> Any:
            chosen.append(call.id)
            return super().next(tasks, call)

    class Alike(Own):
        trusted = indexed = alike = True

    with Simulation(exports={"nap": lambda n: n}):
        worker = CloudWorker(CallableTask("x.py"), size=2, strategy=Alike() if alike else Own())
        replies = [worker.get("nap", n) for n in range(40)]
        assert [reply.result() for reply in replies] == list(range(40))
        assert (len(chosen) < 40) is alike
        assert len(set(chosen)) == len(chosen)
        assert sum(task.stats().done for task in worker) == 40


# -- what a strategy is told -----------------------------------------------------------------------


class Counts(RoundRobin):
    """Goes by which calls begin and end."""

    trusted = indexed = alike = True

    def __init__(self) -> None:
        super().__init__()
        self.told = Counter[str]()

    def start(self, task: Any, call: Any) -> None:
        self.told["start"] += 1

    def end(self, task: Any, call: Any) -> None:
        self.told["end"] += 1


@pytest.mark.parametrize("strategy", [Counts(), Asks(lambda tasks, call: tasks[0])])
def test_a_strategy_that_hears_is_told_of_each_call_and_another_of_none(strategy: Any) -> None:
    with Simulation(exports=echo), CloudWorker(CallableTask("x.py"), size=2, strategy=strategy) as worker:
        ends = count_of(worker._dispatcher.chooser, "_tell")
        for _ in range(2):  # the second time they travel together
            assert [reply.result() for reply in [worker.get(None, n) for n in range(100)]] == [*range(100)]
        worker.drain().result()
        if isinstance(strategy, Counts):
            assert strategy.told == {"start": 200, "end": 200}
        else:
            assert not ends


def count_of(what: Any, name: str) -> list[Any]:
    """What that method of it is called with from now on."""
    seen: list[Any] = []
    method = getattr(what, name)

    def noted(*args: Any) -> Any:
        seen.append(args)
        return method(*args)

    setattr(what, name, noted)
    return seen
