"""A simulation: the same pool, the same answers and errors, without processes, threads or time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import relieve_py
import relieve_py.testing
from relieve_py import (
    CallableTask,
    CallTimeout,
    CloudWorker,
    DecodeError,
    MethodNotFound,
    ScriptTask,
    StartError,
    TaskDied,
    WorkerFull,
    ipc,
)
from relieve_py.channel import Channel
from relieve_py.lifecycle import State
from relieve_py.testing import Simulation, Stuck
from relieve_py.testing.pipes import ParentEnd

SCRIPT = str(Path(__file__).parent.parent / "scripts" / "task.py")


class Shop:
    """What children export here."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.heard: list[Any] = []

    def start(self) -> None:
        ipc.on("news", self.heard.append)

    def double(self, n: int) -> int:
        return 2 * n

    def fail(self) -> None:
        raise ValueError("no")

    def leave(self) -> None:
        raise SystemExit(3)

    def die(self, signum: int) -> None:
        self.sim.running.die(signum)

    async def slow(self, seconds: float) -> float:
        await self.sim.sleep(seconds)
        return seconds

    def rows(self, count: int) -> Iterator[int]:
        yield from range(count)

    async def async_rows(self, count: int) -> Any:
        for n in range(count):
            await self.sim.sleep(1)
            yield n

    def tell(self) -> Any:
        ipc.send("progress", 1)
        return ipc.emit("question", 41).result()


@pytest.fixture(params=range(3))
def sim(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(request.param) as simulation:
        simulation.exports = Shop(simulation)
        yield simulation


def test_calls_streams_and_maps_give_what_they_would(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), size=3) as worker:
        assert worker.get("double", 3).result() == 6
        assert worker.call("double", 3).result() is None
        assert list(worker.map("double", range(40))) == [2 * n for n in range(40)]
        assert sorted(worker.map("double", range(40), unordered=True)) == [2 * n for n in range(40)]
        assert list(worker.stream("rows", 100)) == list(range(100))
        assert list(worker.stream("async_rows", 3)) == [0, 1, 2]
        assert sim.now >= 4
        assert len(sim.children) == 3
    assert sim.children == ()


def test_errors_are_what_they_would_be(sim: Simulation) -> None:
    with CallableTask("any.py") as task:
        with pytest.raises(ValueError, match="no"):
            task.get("fail").result()
        with pytest.raises(MethodNotFound):
            task.get("nothing").result()
        with pytest.raises(CallTimeout):
            task.options(timeout=2).get("slow", 60.0).result()
        for signum in (9, 11):
            with pytest.raises(TaskDied) as died:
                task.get("die", signum).result()
            assert died.value.signal == {9: "SIGKILL", 11: "SIGSEGV"}[signum]
        with pytest.raises(TaskDied) as left:
            task.get("leave").result()
        assert left.value.exit_code == 3
        assert task.restarts == 3


def test_events_go_both_ways_and_questions_are_answered(sim: Simulation) -> None:
    heard: list[int] = []
    with CallableTask("any.py") as task:
        task.on("progress", heard.append)
        task.on("question", lambda n: n + 1)
        assert task.get("tell").result() == 42
        assert task.send("news", 7).result() is task
        assert sim.exports.heard == [7]
    assert heard == [1]


def test_a_day_passes_in_no_time(sim: Simulation) -> None:
    began = time.monotonic()
    with CallableTask("any.py") as task:
        asked = sim.now
        assert task.get("slow", 86400.0).result() == 86400.0
        assert sim.now - asked >= 86400.0
        assert task.uptime is not None
        assert task.uptime >= 86400.0
        assert task.started_at is not None
        with pytest.raises(TimeoutError):
            task.get("slow", 10.0).result(timeout=4.0)
    assert time.monotonic() - began < 5


def test_nothing_happens_by_itself_and_no_thread_is_made(sim: Simulation) -> None:
    before = threading.enumerate()
    reply = CallableTask("any.py").get("double", 2)
    assert not reply.done()
    while not reply.done():
        assert sim.step()
    assert reply.result() == 4
    sim.run()
    assert not sim.step()
    assert threading.enumerate() == before


def test_what_befalls_children_from_outside(sim: Simulation) -> None:
    task = CallableTask("any.py", kill_timeout=2.0)
    task.start().result()
    pid = task.pid
    sim.child(task).die()
    assert task.get("double", 1).result() == 2
    assert task.pid != pid
    child = sim.child(task)
    child.ignore()
    stopped = task.stop()
    sim.advance(1.0)
    assert not stopped.done()
    exit = stopped.result()
    assert (exit.signal, exit.forced) == ("SIGKILL", True)
    with pytest.raises(LookupError, match="stopped"):
        sim.child(task)


def test_a_frozen_child_answers_when_it_is_thawed(sim: Simulation) -> None:
    task = CallableTask("any.py")
    task.start().result()
    sim.child(task).freeze()
    reply = task.get("double", 1)
    sim.advance(100.0)
    assert not reply.done()
    with pytest.raises(Stuck):
        reply.result()
    sim.child(task).thaw()
    assert reply.result() == 2


def test_garbage_costs_the_child(sim: Simulation) -> None:
    task = CallableTask("any.py")
    task.start().result()
    running = task.get("slow", 5.0)
    sim.run()
    sim.child(task).garble()
    assert isinstance(running.exception(), TaskDied)
    assert task.get("double", 1).result() == 2


def test_launches_are_refused_or_lost(sim: Simulation) -> None:
    sim.refuse_launches()
    with pytest.raises(StartError, match="could not be launched"):
        CallableTask("any.py").start().result()
    sim.lose_launches(2)
    assert CallableTask("any.py").get("double", 1).result() == 2


def test_a_full_worker_waits_for_room(sim: Simulation) -> None:
    worker = CloudWorker(CallableTask("any.py"), size=1, max_pending=2)
    replies = [worker.get("slow", 1.0) for _ in range(6)]
    assert sim.now >= 3.0
    assert [reply.result() for reply in replies] == [1.0] * 6
    refusing = CloudWorker(CallableTask("any.py"), size=1, max_pending=1, when_full="raise")
    refusing.get("slow", 1.0)
    with pytest.raises(WorkerFull):
        [refusing.get("slow", 1.0) for _ in range(3)]


def test_a_listener_may_wait_too(sim: Simulation) -> None:
    task, other = CallableTask("any.py"), CallableTask("other.py")
    doubled: list[int] = []
    task.on("ready", lambda _: doubled.append(other.get("double", 4).result()))
    task.start().result()
    task.stop().result()
    assert doubled == [8]


# -- the same seed ---------------------------------------------------------------------------------


def story(seed: int) -> list[str]:
    """A trace of some calls and deaths."""
    lines: list[str] = []
    with Simulation(seed, trace=lines.append) as sim:
        sim.exports = Shop(sim)
        worker = CloudWorker(CallableTask("any.py", name="t"), size=3, retries=2)
        replies = [worker.get("slow", 1.0) for _ in range(5)]
        sim.advance(0.5)
        for child in sim.children[:2]:
            child.die()
        assert [reply.result() for reply in replies] == [1.0] * 5
    return lines


def test_the_same_seed_gives_the_same_history() -> None:
    first = story(7)
    assert story(7) == first
    assert any(story(seed) != first for seed in range(8, 12))
    assert any("is sent signal 9" in line for line in first)


# -- what it takes the place of --------------------------------------------------------------------


def test_children_have_their_own_script_unless_others_are_given() -> None:
    with Simulation(), CallableTask(SCRIPT) as task:
        assert task.get("data").result() == {"foo": "bar"}
        assert "data" in task.exports


def test_a_class_is_made_in_each_child() -> None:
    class Counter:
        def __init__(self) -> None:
            self.n = 0

        def count(self) -> int:
            self.n += 1
            return self.n

    with Simulation() as sim, CallableTask(Counter) as task:
        assert [task.get("count").result() for _ in range(2)] == [1, 2]
        sim.child(task).die()
        assert task.get("count").result() == 1


def test_a_program_is_refused_by_name() -> None:
    with Simulation(), pytest.raises(StartError, match="has no programs"):
        ScriptTask(SCRIPT).start().result()


def test_a_wait_for_nothing_is_told() -> None:
    with Simulation():
        task = CallableTask(SCRIPT)
        with pytest.raises(Stuck):
            task.wait_for("never").result()


def test_only_one_at_a_time_and_afterwards_all_is_real() -> None:
    with Simulation(), pytest.raises(RuntimeError, match="open on this thread"), Simulation():
        raise AssertionError
    with CallableTask(SCRIPT) as task:
        assert task.pid is not None
        assert task.pid < 1 << 24
        assert task.get("data").result() == {"foo": "bar"}


def test_leaving_it_by_an_error_ends_what_was_left() -> None:
    def fail() -> None:
        made.append(CallableTask(SCRIPT))
        made[0].start().result()
        raise ZeroDivisionError

    made: list[CallableTask] = []
    with pytest.raises(ZeroDivisionError), Simulation():
        fail()
    task = made[0]
    assert task.state is State.STOPPED
    assert task.exit is not None


def test_a_task_of_it_does_nothing_afterwards() -> None:
    with Simulation():
        task = CallableTask(SCRIPT)
    with pytest.raises(RuntimeError, match="is over"):
        task.start()
    relieve_py.stop_all()


def test_another_launcher_has_no_place_in_it() -> None:
    from relieve_py.launchers.forkserver import ForkserverLauncher

    with Simulation(), pytest.raises(StartError, match="no launcher of its own"):
        CallableTask(SCRIPT, launcher=ForkserverLauncher()).start().result()


def test_the_parents_end_does_what_a_channel_does() -> None:
    of_child = {"send", "send_whole", "midway", "finish", "lost"}
    asked = {name for name in vars(Channel) if not name.startswith("_")} - of_child
    assert asked <= set(dir(ParentEnd))


def test_the_names_are_there() -> None:
    for name in relieve_py.testing.__all__:
        assert getattr(relieve_py.testing, name).__doc__


@pytest.mark.parametrize("unordered", [False, True])
def test_a_pipe_is_fed_and_read_and_costs_a_dead_child_its_item_only(unordered: bool) -> None:
    for seed in range(10):
        with Simulation(seed) as sim:
            sim.exports = Shop(sim)
            with CloudWorker(CallableTask(SCRIPT), size=2) as worker:
                results = list(worker.pipe(range(20), "double", unordered=unordered))
                assert sorted(results) == list(range(0, 40, 2))
                results = list(worker.pipe([9, 9], "die", return_exceptions=True))
                assert [type(result) for result in results] == [TaskDied] * 2


def test_a_stream_among_arguments_is_not_simulated_and_says_so() -> None:
    with Simulation() as sim:
        sim.exports = Shop(sim)
        task = CallableTask(SCRIPT)
        with pytest.raises(DecodeError, match="a stream among the arguments"):
            task.get("double", (n for n in range(3))).result()
        assert task.get("double", 2).result() == 4


@pytest.mark.fault(64)
def test_a_task_or_worker_that_nobody_has_any_more_ends_its_calls_and_then_its_children() -> None:
    ended: list[int] = []

    def note(n: int) -> int:
        ended.append(n)
        return n

    with Simulation(4, exports=note) as simulation:
        task = CallableTask("note.py")
        replies = [task.get(None, n) for n in range(3)]
        worker = CloudWorker(CallableTask("note.py"), size=2)
        for n in range(3, 9):
            worker.call(None, n)
        del task, worker
        simulation.run()
        assert [reply.result() for reply in replies] == [0, 1, 2]
        assert sorted(ended) == list(range(9))
        assert simulation.children == ()
        kept = CallableTask("note.py")
        kept.start().result()
    del kept  # when the simulation is over
