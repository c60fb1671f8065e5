"""What random histories found, each as the shortest story that shows it."""

from __future__ import annotations

from typing import Any

import pytest

from relieve_py import (
    CallableTask,
    CloudWorker,
    NotRunning,
    RetryPolicy,
    Stopped,
    TaskDied,
)
from relieve_py.lifecycle import State
from relieve_py.policies import RecyclePolicy
from relieve_py.testing import Simulation
from relieve_py.upkeep import Upkeep


def same(value: Any) -> Any:
    return value


def die() -> None:
    world().running.die()


async def slow(seconds: float) -> float:
    await world().sleep(seconds)
    return seconds


EXPORTS = {"same": same, "die": die, "slow": slow}
_worlds: list[Simulation] = []


def world() -> Simulation:
    return _worlds[-1]


@pytest.fixture(params=range(5))
def sim(request: pytest.FixtureRequest) -> Any:
    """A simulation, with several seeds."""
    with Simulation(request.param, exports=EXPORTS) as simulation:
        _worlds.append(simulation)
        yield simulation
        _worlds.pop()


def test_a_retry_that_is_due_while_the_task_sleeps_wakes_it(sim: Simulation) -> None:
    task = CallableTask("any", recycle=RecyclePolicy(idle=0.5))
    died = task.options(retries=RetryPolicy(max=1, delay=5.0)).get("die")
    sim.advance(2.0)
    assert task.state is State.ASLEEP
    assert "died" in str(died.exception(20.0))


def test_a_reload_of_a_task_that_goes_to_rest_meanwhile_settles(sim: Simulation) -> None:
    class Starting:
        children = 0

        async def start(self) -> None:
            Starting.children += 1
            await sim.sleep(3.0 if Starting.children == 2 else 0.0)

    task = CallableTask("any", recycle=RecyclePolicy(idle=1.0))
    sim.exports = Starting
    task.start().result()
    reloaded = task.reload()
    sim.advance(2.0)
    assert task.state is State.ASLEEP
    assert reloaded.result(20.0) is task
    assert Starting.children == 2


def test_a_child_is_idle_at_the_moment_at_which_it_is_looked_at() -> None:
    upkeep = Upkeep(RecyclePolicy(idle=1.0))
    upkeep.fresh(3.049845)
    look = upkeep.next_look(3.049845, working=False)
    assert look is not None
    assert upkeep.idle(look) is not None


def test_a_task_that_was_never_started_takes_the_calls_that_no_other_will(sim: Simulation) -> None:
    worker = CloudWorker(CallableTask("any", restart=False), size=2)
    first, second = worker
    assert first.get("same", 1).result() == 1  # not by way of the worker, which has started none
    assert second.state is State.NEW
    with pytest.raises(TaskDied):
        worker.get("die").result(9.0)
    assert worker.get("same", 2).result(9.0) == 2


def test_a_worker_restarts_the_others_when_one_is_being_stopped(sim: Simulation) -> None:
    class Leaving:
        async def stop(self) -> None:
            await sim.sleep(1.0)

    sim.exports = Leaving
    worker = CloudWorker(CallableTask("any"), size=3)
    worker.start().result()
    first, second, third = worker
    second.stop().mark_seen()
    restarted = worker.restart()
    with pytest.raises(Stopped):
        restarted.result(9.0)
    assert [task.restarts for task in (first, second, third)] == [1, 0, 1]


@pytest.mark.parametrize("leave", ["remove", "stop"])
def test_a_rolling_restart_passes_over_who_has_left_meanwhile(sim: Simulation, leave: str) -> None:
    worker = CloudWorker(CallableTask("any"), size=2)
    worker.start().result()
    last = list(worker)[1]
    reloaded = worker.reload()
    if leave == "remove":
        worker.remove(last).mark_seen()
    else:
        last.stop().mark_seen()
    assert reloaded.result(9.0) is worker
    sim.run()
    assert last.state is State.STOPPED
    assert len(sim.children) == 1


def test_who_waits_behind_a_call_that_is_cancelled_goes_at_once(sim: Simulation) -> None:
    worker = CloudWorker(CallableTask("any"), size=1)
    worker.start().result()
    running, queued = worker.get("slow", 100.0), worker.get("same", 1)
    event = worker.send("news")
    sim.run()
    assert not event.done()
    queued.cancel()
    sim.run()
    assert event.done()
    assert not running.done()


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_an_event_behind_a_call_that_will_not_run_goes_at_once(sim: Simulation, how: str) -> None:
    task = CallableTask("any")
    running = task.get("slow", 100.0)
    queued = task.options(queue_timeout=5.0).get("same", 1)
    event = task.send("news")  # before there is a child, so that all three are in one queue
    sim.run()
    assert not event.done()
    if how == "cancelled":
        queued.cancel()
    else:
        sim.advance(6.0)
    sim.run()
    assert event.done()
    assert not running.done()


def test_calls_fail_at_once_when_a_stop_takes_the_place_of_the_restart_of_the_only_task(sim: Simulation) -> None:
    worker = CloudWorker(CallableTask("any", kill_timeout=100.0), size=1)
    worker.start().result()
    (task,) = worker
    sim.child(task).ignore()  # so that it is a long way out
    restarted = task.restart()
    waiting = worker.get("same", 1)
    sim.run()
    assert not waiting.done()
    stopped = task.stop()
    sim.run()
    assert isinstance(waiting.exception(0), NotRunning)
    assert not stopped.done()
    for reply in (restarted, stopped):
        reply.mark_seen()


def test_a_drain_ends_when_no_task_is_left_for_the_last_calls(sim: Simulation) -> None:
    worker = CloudWorker(CallableTask("any", restart=False), size=1)
    died, left = worker.get("die"), worker.get("same", 1)
    assert worker.drain().result(9.0) is worker
    assert isinstance(died.exception(), TaskDied)
    assert isinstance(left.exception(), NotRunning)


def test_a_reply_that_comes_before_any_callback_ran_gives_the_task(sim: Simulation) -> None:
    task = CallableTask("any")
    assert task._slot.owner.face is task  # what replies give; the strand that tells of the task has not run
    assert task.start().result() is task


def test_who_waits_for_a_task_that_has_ended_is_told(sim: Simulation) -> None:
    task = CallableTask("any", restart=False)
    task.start().result()
    task.stop().result()
    with pytest.raises(NotRunning):
        task._slot.until_ready()
