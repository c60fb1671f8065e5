"""The queue of a CloudWorker at work: pauses, flushes, fullness, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relieve_py import CallableTask, CloudWorker, NotRunning, State, Stopped
from relieve_py.events import Available, Unavailable
from relieve_py.supervisor import shared
from relieve_py.testing import Simulation


class Shop:
    """What the children export."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    def echo(self, value: Any) -> Any:
        return value

    async def nap(self, seconds: float) -> float:
        await self.sim.sleep(seconds)
        return seconds


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation() as simulation:
        simulation.exports = Shop(simulation)
        yield simulation


def later(seconds: float, do: Any) -> None:
    """Have it done while the test waits for something else."""
    shared().at(shared().now() + seconds, do)


# -- pause and flush -------------------------------------------------------------------------------


def test_who_waits_for_room_is_refused_by_a_flush(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), max_pending=1) as worker:
        running = worker.get("nap", 5.0)
        sim.run()
        waiting = worker.get("nap", 5.0)
        flushed: list[Any] = []
        later(1.0, lambda: flushed.append(worker.flush(timeout=2.0)))
        with pytest.raises(Stopped, match="was flushed"):
            worker.get("nap", 5.0).result()
        with pytest.raises(TimeoutError, match="still has open calls after 2 seconds"):
            flushed[0].result()
        assert (running.result(), waiting.result()) == (5.0, 5.0)


def test_a_flush_ends_a_pause_and_a_start_ends_a_flush(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py")) as worker:
        worker.pause()
        waiting = worker.get("echo", 1)
        sim.run()
        assert not waiting.done()
        assert worker.flush().result() is worker
        assert waiting.result() == 1
        assert not worker.paused
        worker.stop().result()
        worker.start().result()
        assert worker.get("echo", 2).result() == 2


def test_a_pause_outlives_a_stop_and_a_start(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py")) as worker:
        worker.pause()
        worker.stop().result()
        worker.start().result()
        waiting = worker.get("echo", 1)
        sim.run()
        assert not waiting.done()
        worker.resume()
        assert waiting.result() == 1


def test_a_call_that_is_tried_again_in_a_pause_waits_at_the_front(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), retries=1) as worker:
        done: list[str] = []
        first, second = worker.get("nap", 5.0), worker.get("echo", 2)
        first.add_done_callback(lambda _: done.append("first"))
        second.add_done_callback(lambda _: done.append("second"))
        sim.run()
        worker.pause()
        sim.child(next(iter(worker))).die()
        sim.run()
        assert (first.done(), second.done()) == (False, False)
        worker.resume()
        assert (first.result(), second.result()) == (5.0, 2)
        sim.run()
        assert done == ["first", "second"]


def test_what_waits_in_a_pause_fails_when_no_task_is_left_for_it(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), size=2) as worker:
        worker.pause()
        waiting = worker.get("echo", 1)
        for task in worker:
            task.stop().result()
        with pytest.raises(NotRunning):
            waiting.result()


def test_a_sleeper_is_not_woken_for_calls_that_wait_in_a_pause(sim: Simulation) -> None:
    from relieve_py import RecyclePolicy

    with CloudWorker(CallableTask("any.py", recycle=RecyclePolicy(idle=1.0))) as worker:
        task = next(iter(worker))
        sim.advance(2.0)
        assert task.state is State.ASLEEP
        worker.pause()
        waiting = worker.get("echo", 1)
        sim.run()
        assert task.state is State.ASLEEP
        worker.resume()
        assert waiting.result() == 1


# -- available and unavailable ---------------------------------------------------------------------


def told(worker: CloudWorker) -> list[Any]:
    """What a worker tells of its availability, as (record's class, reason or None)."""
    records: list[Any] = []
    worker.on("*available", lambda record: records.append((type(record), getattr(record, "reason", None))))
    return records


def test_it_is_told_once_that_calls_wait_and_once_that_none_does(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), size=2) as worker:
        records = told(worker)
        replies = [worker.get("nap", 1.0) for _ in range(7)]
        sim.run()
        assert records == [(Unavailable, "busy")]
        for reply in replies[:-1]:
            reply.result()
        assert replies[-1].result() == 1.0
        sim.run()
        assert records == [(Unavailable, "busy"), (Available, None)]
        for _ in range(3):
            worker.get("echo", 1).result()
        sim.run()
        assert len(records) == 2, "a call that need not wait is nothing to tell of"


def test_the_reason_is_told_too(sim: Simulation) -> None:
    worker = CloudWorker(CallableTask("any.py"), size=2)
    records = told(worker)
    worker.get("echo", 1).result()
    sim.run()
    assert records == [(Unavailable, "down"), (Available, None)]
    worker.pause()
    reply = worker.get("echo", 2)
    sim.run()
    worker.resume()
    assert reply.result() == 2
    sim.run()
    assert records[2:] == [(Unavailable, "paused"), (Available, None)]


def test_a_cancel_of_the_last_that_waits_makes_it_available(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), size=1) as worker:
        records = told(worker)
        worker.pause()
        reply = worker.get("echo", 2)
        worker.resume()
        assert reply.result() == 2
        running = worker.get("nap", 5.0)
        waiting = worker.get("echo", 1)
        sim.run()
        waiting.cancel()
        sim.run()
        assert [kind for kind, _ in records] == [Unavailable, Available, Unavailable]
        running.result()
        sim.run()
        assert [kind for kind, _ in records] == [Unavailable, Available, Unavailable, Available]
