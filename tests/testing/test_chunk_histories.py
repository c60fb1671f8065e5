"""Maps in random histories: children die anywhere, items are slow, and every item is accounted for."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from relieve_py import CallableTask, CloudWorker, RestartPolicy, TaskDied
from relieve_py.testing import Simulation
from relieve_py.testing.children import SimulatedChild

ITEMS = 60
OFTEN = RestartPolicy(max_restarts=1000, within=1.0)


class History:
    """What the items of one map do, by chance: return, raise, take their time, or kill a child, be it their own."""

    def __init__(self, seed: int, tasks: int, retries: int) -> None:
        self.draw = random.Random(f"chunks {seed}")
        self.kills = 0
        self.ran: Counter[int] = Counter()
        self.raises: set[int] = set()
        self.sim = Simulation(seed, exports={"f": self.item})
        self.tasks, self.retries = tasks, retries

    async def item(self, number: int) -> list[int] | int:
        self.ran[number] += 1
        what = self.draw.random()
        if what < 0.1:
            await self.sim.sleep(self.draw.choice((0.01, 0.06, 0.3)))
        elif what < 0.2 and self.kills < 12:
            self.kills += 1
            self.draw.choice(self.sim.children).die()
        elif what < 0.25:
            self.raises.add(number)
            raise ValueError(number)
        return number if number % 2 else [number]

    def run(self, unordered: bool) -> list[object]:
        with self.sim:
            task = CallableTask("any", restart=OFTEN)
            worker = CloudWorker(task, size=self.tasks, retries=self.retries)
            remote = worker.options(poison_after=None)
            got = list(remote.map("f", range(ITEMS), unordered=unordered, return_exceptions=True))
            assert worker.drain().result() is worker
            assert not any(task.load for task in worker)
        return got


@pytest.mark.rule(4)
@pytest.mark.parametrize("first", range(0, 100, 50))
def test_each_item_runs_once_at_most_and_is_told_how_it_ended(first: int) -> None:
    for seed in range(first, first + 50):
        history = History(seed, tasks=1 + seed % 3, retries=0)
        unordered = seed % 2 == 1
        got = history.run(unordered)
        assert len(got) == ITEMS, seed
        values = [value[0] if isinstance(value, list) else value for value in got if isinstance(value, list | int)]
        died = sum(isinstance(value, TaskDied) for value in got)
        raised = {value.args[0] for value in got if isinstance(value, ValueError)}
        assert unordered or values == sorted(values), seed
        assert set(history.ran.values()) <= {1}, seed
        assert died <= history.kills, seed
        assert raised <= history.raises, seed
        assert len(set(values)) + len(raised) + died == ITEMS, seed
        assert {*values, *raised} <= {*history.ran}, seed


@pytest.mark.rule(4)
def test_with_retries_all_come() -> None:
    for seed in range(1000, 1050):
        history = History(seed, tasks=2, retries=20)
        got = history.run(seed % 2 == 1)
        values = {value[0] if isinstance(value, list) else value for value in got if isinstance(value, list | int)}
        raised = {value.args[0] for value in got if isinstance(value, ValueError)}
        assert len(got) == ITEMS
        assert values | raised == set(range(ITEMS)), seed
        assert sum(history.ran.values()) <= ITEMS + history.kills, seed


@pytest.mark.rule(4)
@pytest.mark.parametrize("seed", range(20))
def test_what_was_recalled_before_it_began_is_not_sent_again_with_the_rest(seed: int) -> None:
    """A child that does nothing for a while is given a chunk, which is recalled, and then the child dies."""
    draw, ran = random.Random(seed), Counter[int]()
    doomed: list[SimulatedChild] = []

    def item(number: int) -> int:
        ran[number] += 1
        if number in (20, 40) and (others := [child for child in sim.children if not child.running]):
            idle = draw.choice(others)
            idle.freeze()
            doomed.append(idle)
            sim._scheduler.at(sim.now + draw.choice((0.01, 0.06, 1.0)), idle.die)
        return number

    sim = Simulation(seed, exports={"f": item})
    with sim, CloudWorker(CallableTask("any", restart=OFTEN), size=4) as worker:
        got = list(worker.map("f", range(ITEMS), return_exceptions=True))
    assert doomed
    died = [n for n, value in enumerate(got) if isinstance(value, TaskDied)]
    assert [value for n, value in enumerate(got) if n not in died] == [n for n in range(ITEMS) if n not in died]
    assert len(died) <= len(doomed)
    assert set(ran.values()) == {1}
