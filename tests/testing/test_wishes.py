"""What children ask for: no calls for a while, another in their place, their end; in a simulation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relieve_py import CallableTask, CloudWorker, NotRunning, RecyclePolicy, State, Stopped, ipc
from relieve_py.testing import Simulation


class Shop:
    """What the children export."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.wish_at_start: str | None = None

    def start(self) -> None:
        wish, self.wish_at_start = self.wish_at_start, None
        if wish is not None:
            getattr(ipc, wish)()

    def echo(self, value: Any) -> Any:
        return value

    async def ask(self, what: str, seconds: float = 0.0) -> int:
        getattr(ipc, what)()
        await self.sim.sleep(seconds)
        return self.sim.running.pid


@pytest.fixture(params=range(3))
def sim(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(request.param) as simulation:
        simulation.exports = Shop(simulation)
        yield simulation


@pytest.mark.parametrize("wish", ["drain", "end", "busy"])
def test_the_call_in_which_it_asks_is_finished_first(sim: Simulation, wish: str) -> None:
    with CallableTask("any.py", kill_timeout=1.0, busy_timeout=2.0) as task:
        pid = task.pid
        assert task.get("ask", wish, 30.0).result() == pid
        sim.advance(3.0)
        assert task.exit is not None
        assert task.exit.code == 0
        assert task.state is (State.STOPPED if wish == "end" else State.READY)
        assert task.pid != pid


def test_calls_that_wait_go_to_the_next_child(sim: Simulation) -> None:
    with CallableTask("any.py") as task:
        replies = [task.get("ask", "drain"), *(task.get("echo", n) for n in range(3))]
        assert [reply.result() for reply in replies[1:]] == [0, 1, 2]
        assert task.restarts == 1


def test_calls_that_wait_for_a_child_that_ends_itself_fail_or_go_to_another_task(sim: Simulation) -> None:
    with CallableTask("any.py") as task:
        first, second = task.get("ask", "end"), task.get("echo", 1)
        with pytest.raises(Stopped):
            second.result()
        assert isinstance(first.result(), int)
    with CloudWorker(CallableTask("any.py"), size=2, strategy="sticky") as worker:
        asked = worker.get("ask", "end", 1.0)
        rest = [worker.options(key=n).get("echo", n) for n in range(8)]
        assert [reply.result() for reply in rest] == list(range(8))
        assert isinstance(asked.result(), int)
        for task in list(worker):
            if task.state is State.READY:
                task.get("ask", "end").result()
        sim.run()
        with pytest.raises(NotRunning):
            worker.get("echo", 1).result()


def test_a_task_whose_child_ended_itself_can_be_started_again(sim: Simulation) -> None:
    task = CallableTask("any.py")
    task.get("ask", "end").result()
    sim.run()
    assert task.start().result() is task
    assert task.get("echo", 1).result() == 1
    task.stop().result()
    with pytest.raises(Stopped, match=r"was stopped; start\(\)"):
        task.get("echo", 1).result()


def test_a_child_may_ask_while_it_starts(sim: Simulation) -> None:
    sim.exports.wish_at_start = "drain"
    with CallableTask("any.py") as task:
        sim.run()
        assert task.restarts == 1
        sim.exports.wish_at_start = "end"
        task.restart()
        sim.run()
        assert task.state is State.STOPPED


def test_a_child_that_is_busy_at_its_start_gets_no_calls_until_it_is_ready(sim: Simulation) -> None:
    sim.exports.wish_at_start = "busy"
    with CallableTask("any.py", busy_timeout=5.0) as task:
        waiting = task.get("echo", 1)
        sim.advance(4.0)
        assert not waiting.done()
        sim.advance(2.0)
        assert waiting.result() == 1
        assert task.restarts == 1


def test_an_event_is_no_work_that_keeps_a_child(sim: Simulation) -> None:
    with CallableTask("any.py", busy_timeout=1.0) as task:
        task.get("ask", "busy").result()
        assert task.send("news").result() is task
        sim.advance(1.5)
        assert task.restarts == 1


def test_a_busy_child_for_which_a_call_waits_is_not_put_to_sleep(sim: Simulation) -> None:
    with CallableTask("any.py", recycle=RecyclePolicy(idle=0.5), busy_timeout=3.0) as task:
        task.get("ask", "busy").result()
        waiting = task.get("echo", 1)
        sim.advance(2.0)
        assert task.state is State.READY
        assert waiting.result() == 1
