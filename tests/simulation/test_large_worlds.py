"""Worlds of hundreds of tasks, or with RELIEVE_FULL of 10,000, which no one machine could fork."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from sizes import size

from relieve_py import CallableTask, CloudWorker, RestartPolicy, TaskDied
from relieve_py.testing import Simulation

TASKS = size(200, 10_000)


@pytest.mark.timeout(size(60, 240))
@pytest.mark.parametrize("strategy", ["round-robin", "weighted"])
def test_every_call_ends_once_while_children_die_and_the_pool_changes(strategy: str) -> None:
    begun: Counter[int] = Counter()
    chance = random.Random(3)

    async def work(n: int) -> int:
        begun[n] += 1
        await simulation.sleep(chance.random())
        return n

    with Simulation(5, exports=work) as simulation:
        template = CallableTask("work.py", restart=RestartPolicy(max_restarts=100, delay=0.01))
        worker = CloudWorker(template, size=TASKS, strategy=strategy)
        replies: list[Any] = [worker.options(key=n % 997).get(None, n) for n in range(TASKS)]
        for _ in range(5):
            simulation.advance(0.1)
            for child in chance.sample(simulation.children, TASKS // 50):
                child.die()
        worker.resize(TASKS - 20)
        replies += [worker.options(key=n % 997).get(None, n) for n in range(TASKS, TASKS + 20)]
        worker.drain().result()
        assert all(reply.done() for reply in replies)
        died = {n for n, reply in enumerate(replies) if isinstance(reply.exception(), TaskDied)}
        assert 0 < len(died) < TASKS
        assert [reply.result() for n, reply in enumerate(replies) if n not in died] == [
            n for n in range(len(replies)) if n not in died
        ]
        assert set(begun.values()) == {1}, "at most once"
        assert len(worker) == TASKS - 20
        worker.stop().result()
        assert not simulation.children
