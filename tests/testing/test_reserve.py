"""Spares: ready before they are needed, no more than were asked for, renewed, let go, and never in a loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relieve_py import CallableTask, CloudWorker, RecyclePolicy, RestartPolicy, State
from relieve_py.reserve import LINGER
from relieve_py.serializers import PickleSerializer, encode
from relieve_py.spare import EARLY
from relieve_py.testing import Simulation
from relieve_py.wire import Kind


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation(exports={"work": lambda: 1}) as sim:
        yield sim


def pids(sim: Simulation) -> set[int]:
    return {child.pid for child in sim.children}


def test_a_death_is_made_good_by_a_child_that_was_there(sim: Simulation) -> None:
    task = CallableTask("work.py", spares=2)
    task.start().result()
    assert len(sim.children) == 1, "the first child goes first"
    sim.advance(LINGER)
    ready = pids(sim)
    assert len(ready) == 3
    sim.child(task).die()
    assert task.get("work").result() == 1
    assert task.pid in ready
    assert task.restarts == 1
    sim.advance(LINGER)
    assert len(sim.children) == 3


def test_spares_are_seen_nowhere(sim: Simulation) -> None:
    seen: list[Any] = []
    worker = CloudWorker(CallableTask("work.py", spares=1), size=2)
    for name in ("start", "ready", "exit", "restart"):
        worker.on(name, lambda event, name=name: seen.append(name))
    worker.start().result()
    sim.advance(1.0)
    assert len(sim.children) == 4
    assert sorted(seen) == ["ready", "ready", "start", "start"]
    assert len(worker.tasks) == worker.stats().size == 2
    worker.stop().result()
    sim.run()
    assert not sim.children
    assert sorted(seen) == ["exit", "exit", "ready", "ready", "start", "start"]


def test_a_spare_that_dies_is_followed_by_another(sim: Simulation) -> None:
    task = CallableTask("work.py", spares=1)
    task.start().result()
    sim.advance(LINGER)
    (spare,) = (child for child in sim.children if child.pid != task.pid)
    spare.die()
    sim.run()
    assert pids(sim) == {task.pid}
    sim.advance(LINGER)
    assert len(sim.children) == 2
    assert spare.pid not in pids(sim)
    assert task.restarts == 0


def test_spares_that_cannot_start_are_tried_ever_more_seldom(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    policy = RestartPolicy(max_restarts=4, within=60.0)
    task = CallableTask("work.py", spares=1, restart=policy)
    task.start().result()
    sim.refuse_launches(1000)
    with caplog.at_level(logging.WARNING, "relieve_py"):
        sim.advance(59.0)
    assert len(caplog.records) == policy.max_restarts + 1
    assert "has lost a spare" in caplog.text
    assert task.state is State.READY
    assert task.get("work").result() == 1


@pytest.mark.parametrize("renew", [CallableTask.restart, CallableTask.reload])
def test_a_restart_and_a_reload_take_none_that_may_be_out_of_date_and_renew_them(
    sim: Simulation, renew: Callable[[CallableTask], Any]
) -> None:
    task = CallableTask("work.py", spares=2)
    task.start().result()
    sim.advance(LINGER)
    old = pids(sim)
    renew(task).result()
    sim.advance(LINGER)
    assert len(sim.children) == 3
    assert not old & pids(sim)


def test_a_child_that_is_recycled_is_followed_by_a_spare_at_once(sim: Simulation) -> None:
    task = CallableTask("work.py", spares=1, recycle=RecyclePolicy(max_calls=1))
    task.start().result()
    sim.advance(LINGER)
    (spare,) = (child for child in sim.children if child.pid != task.pid)
    assert [task.get("work").result() for _ in range(2)] == [1, 1]
    assert task.pid == spare.pid


def test_they_grow_no_older_than_a_child_may(sim: Simulation) -> None:
    task = CallableTask("work.py", spares=1, recycle=RecyclePolicy(max_age=100.0))
    task.start().result()
    seen: set[tuple[int, float]] = set()
    for _ in range(20):
        sim.advance(20.0)
        assert all(sim.now - born <= 101.0 for born in seen_since(sim, seen).values())


def seen_since(sim: Simulation, seen: set[tuple[int, float]]) -> dict[int, float]:
    """When each child that lives was first seen."""
    known = dict(seen)
    for child in sim.children:
        if child.pid not in known:
            seen.add((child.pid, sim.now))
    return {pid: at for pid, at in seen if pid in pids(sim)}


def test_a_task_that_rests_has_none(sim: Simulation) -> None:
    task = CallableTask("work.py", spares=1, recycle=RecyclePolicy(idle=10.0))
    task.start().result()
    sim.advance(5.0)
    assert len(sim.children) == 2
    sim.advance(20.0)
    assert task.state is State.ASLEEP
    assert not sim.children
    assert task.get("work").result() == 1
    sim.advance(1.0)
    assert len(sim.children) == 2


def test_what_a_spare_says_is_kept_up_to_a_bound_and_told_when_it_serves(sim: Simulation) -> None:
    task = CallableTask("work.py", spares=1)
    task.start().result()
    sim.advance(LINGER)
    (spare,) = (child for child in sim.children if child.pid != task.pid)
    heard: list[int] = []
    task.on("said", heard.append)
    for number in range(2 * EARLY):
        payload = encode(PickleSerializer(), ("said", (number,)))
        spare.send(payload.to_frame(Kind.EVENT, 0))
        sim.run()
    assert not heard
    assert len(task._slot._reserve._spares[0].early) == EARLY
    sim.child(task).die()
    sim.run()
    assert task.pid == spare.pid
    assert heard == list(range(2 * EARLY))


def test_without_the_option_there_is_one_child_and_no_timer(sim: Simulation) -> None:
    task = CallableTask("work.py")
    task.start().result()
    sim.advance(1.0)
    assert pids(sim) == {task.pid}
