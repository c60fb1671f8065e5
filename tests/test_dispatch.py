"""The queue of a CloudWorker at work: pauses, flushes, fullness, and what is told of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from relieve_py import (
    CallableTask,
    CloudWorker,
    ElasticSize,
    NotRunning,
    PendingCall,
    QueueWorker,
    RecyclePolicy,
    RetryPolicy,
    ScriptTask,
    State,
    Stopped,
    TaskDied,
    WorkerFull,
    ipc,
)
from relieve_py.calls import DEFAULTS, Call, Mode
from relieve_py.events import Available, Unavailable
from relieve_py.supervisor import shared
from relieve_py.testing import Simulation


class Shop:
    """What the children export."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

        self.places: list[str] = []

    def echo(self, value: Any) -> Any:
        return value

    def place(self) -> int:
        self.places.append("place")
        return len(self.places)

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


@pytest.mark.parametrize("delay", [0.0, 3600.0])
def test_a_call_that_ends_between_two_tries_says_why_another_was_needed(sim: Simulation, delay: float) -> None:
    with CloudWorker(CallableTask("any.py"), retries=RetryPolicy(max=1, delay=delay)) as worker:
        reply = worker.get("nap", 5.0)
        later(1.0, worker.pause)
        later(2.0, sim.child(next(iter(worker))).die)
        later(4.0, worker.stop)
        error = reply.exception()
        assert isinstance(error, Stopped)
        assert isinstance(error.__cause__, TaskDied)


def test_what_waits_in_a_pause_fails_when_no_task_is_left_for_it(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), size=2) as worker:
        worker.pause()
        waiting = worker.get("echo", 1)
        for task in worker:
            task.stop().result()
        with pytest.raises(NotRunning):
            waiting.result()


def test_a_sleeper_is_not_woken_for_calls_that_wait_in_a_pause(sim: Simulation) -> None:
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


# -- priority --------------------------------------------------------------------------------------


def notes_of(worker: Any, *priorities: int) -> list[Any]:
    """Replies of calls with these priorities, made in this order; each gives its place among those that ran."""
    return [worker.options(priority=priority).get("place") for priority in priorities]


@pytest.mark.parametrize("kind", ["worker", "sticky worker", "task"])
def test_of_calls_that_wait_the_one_with_the_highest_priority_goes_first(sim: Simulation, kind: str) -> None:
    task = CallableTask("any.py")
    strategy = "sticky" if kind == "sticky worker" else "round-robin"
    with task if kind == "task" else CloudWorker(task, strategy=strategy) as face:
        running = face.get("nap", 1.0)
        sim.run()
        replies = notes_of(face, 0, 5, -1, 5, 0)
        assert [reply.result() for reply in replies] == [3, 1, 5, 2, 4]
        assert running.result() == 1.0


def test_a_call_that_is_tried_again_goes_before_its_equals(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), retries=1) as worker:
        running = worker.options(priority=1).get("nap", 1.0)
        sim.run()
        same, higher = notes_of(worker, 1, 2)
        sim.child(next(iter(worker))).die()
        running.when_settled(lambda: sim.exports.places.append("tried again"))
        assert (higher.result(), same.result(), running.result()) == (1, 3, 1.0)
        assert sim.exports.places == ["place", "tried again", "place"]


def test_the_lowest_priority_is_dropped_first(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), max_pending=2, when_full="drop_oldest") as worker:
        dropped: list[int] = []
        worker.on("drop", lambda event: dropped.append(event.call.priority))
        worker.get("nap", 1.0).mark_seen()
        sim.run()
        for reply in notes_of(worker, 1, 0, 2, 0, 3):
            reply.mark_seen()
        sim.run()
        assert dropped == [0, 0, 1]


# -- a full queue ----------------------------------------------------------------------------------


def filled(sim: Simulation, when_full: Any) -> CloudWorker:
    """A worker whose one task is busy for a second, and whose queue of two is full."""
    worker = CloudWorker(CallableTask("any.py"), max_pending=2, when_full=when_full)
    for _ in range(3):
        worker.get("nap", 1.0).mark_seen()
        sim.run()
    return worker


def test_a_policy_of_the_user_may_answer_with_each_of_the_others(sim: Simulation) -> None:
    for answer in ("wait", "raise", "drop_oldest", "drop_newest", "queue"):
        with filled(sim, lambda call, answer=answer: answer) as worker:
            if answer == "raise":
                with pytest.raises(WorkerFull, match="max_pending"):
                    worker.get("echo", 1)
                continue
            asked, reply = sim.now, worker.get("echo", 1)
            stats = worker.stats()
            if answer == "drop_newest":
                with pytest.raises(WorkerFull):
                    reply.result()
            else:
                assert reply.result() == 1
            waited = sim.now - asked
            assert (stats.queued, stats.dropped, round(waited)) == {
                "wait": (2, 0, 3),
                "drop_oldest": (2, 1, 2),
                "drop_newest": (2, 1, 0),
                "queue": (3, 0, 3),
            }[answer]


def test_a_policy_runs_on_the_callers_thread_and_under_no_lock(sim: Simulation) -> None:
    def policy(call: PendingCall) -> str:
        threads.append(threading.get_ident())
        assert worker.stats().queued == 2
        worker.resize(2)
        assert call.arguments() == ((1,), {})
        return "wait"

    threads: list[int] = []
    with filled(sim, policy) as worker:
        assert worker.get("echo", 1).result() == 1
        assert threads == [threading.get_ident()]


def test_what_a_policy_raises_is_the_callers_and_costs_no_room(sim: Simulation) -> None:
    def policy(call: PendingCall) -> str:
        raise ZeroDivisionError

    with filled(sim, policy) as worker:
        with pytest.raises(ZeroDivisionError):
            worker.get("echo", 1)
        assert worker.stats().queued == 2
        assert worker.drain().result() is worker


def test_an_answer_that_is_none_is_refused_by_name(sim: Simulation) -> None:
    with (
        filled(sim, lambda call: None) as worker,
        pytest.raises(TypeError, match=r"^when_full must answer .* not None"),
    ):
        worker.get("echo", 1)


def test_a_policy_that_is_async_is_refused_by_name() -> None:
    async def policy(call: PendingCall) -> str:
        return "wait"

    with pytest.raises(TypeError, match=r"^when_full must be answered at once"):
        CloudWorker(CallableTask("any.py"), max_pending=1, when_full=policy)  # type: ignore[arg-type]


def test_who_holds_back_is_told_of_room_once_half_is_free(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), max_pending=4) as worker:
        drains: list[Any] = []
        worker.on("drain", drains.append)
        replies = []
        while not worker.full:
            replies.append(worker.get("nap", 1.0))
            sim.run()
        assert [reply.full for reply in replies] == [False] * 4 + [True]
        room = worker.room()
        sim.advance(1.5)
        assert (worker.stats().queued, room.done(), drains) == (3, False, [])
        sim.advance(1.0)
        assert (worker.stats().queued, room.result(), len(drains)) == (2, worker, 1)
        sim.advance(5.0)
        assert len(drains) == 1
        assert worker.room().done()


def test_room_comes_also_by_a_cancel_and_by_a_stop(sim: Simulation) -> None:
    with filled(sim, "raise") as worker:
        room, waiting = worker.room(), worker.get("nap", 1.0) if not worker.full else None
        assert waiting is None
        worker.stop().result()
        assert room.result() is worker
    with CloudWorker(CallableTask("any.py"), max_pending=1) as worker:
        worker.pause()
        waiting = worker.get("echo", 1)
        assert waiting.full
        room = worker.room()
        waiting.cancel()
        assert room.result() is worker


def test_who_reads_no_room_may_wait_for_it_in_a_listener(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py"), max_pending=1) as worker:
        heard: list[Any] = []
        worker.once("unavailable", lambda _: heard.append(worker.room().result()))
        worker.pause()
        worker.get("echo", 1)
        later(1.0, worker.resume)
        sim.advance(2.0)
        assert heard == [worker]


def test_a_dropped_call_has_its_files_until_nobody_wants_them(tmp_path: Any) -> None:
    path = tmp_path / "text"
    path.write_text("hello")
    worker = CloudWorker(CallableTask("any.py"), max_pending=1, when_full="drop_newest")
    worker.pause()
    worker._dispatcher.open()
    dropped: list[Any] = []
    done = threading.Event()
    worker.on("drop", lambda event: (dropped.append(event.call), done.set()))
    with path.open() as file:
        calls = [Call(Mode.GET, "read", DEFAULTS) for _ in range(2)]
        for call in calls:
            call.encode(next(iter(worker))._core.serializer, (file,), {})
            worker._intake.submit(call, next(iter(worker))._core.serializer).mark_seen()
    assert done.wait(10)
    for _ in range(2):
        (copy,), _ = dropped[0].arguments()
        with copy:
            assert copy.read() in ("hello", "")  # they share a place in the file
    worker.stop().result(10)


# -- several scripts -------------------------------------------------------------------------------


class Two:
    """Exports for two scripts: each child says whose it is."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    async def nap(self, seconds: float) -> str:
        await self.sim.sleep(seconds)
        return str(ipc.name)


def two(sim: Simulation, **options: Any) -> CloudWorker:
    """One task of each of two scripts."""
    sim.exports = Two(sim)
    return CloudWorker(CallableTask("a.py", name="a"), CallableTask("b.py", name="b"), **options)


def test_a_call_goes_to_a_task_of_the_script_that_it_is_addressed_to(sim: Simulation) -> None:
    with two(sim) as worker:
        assert {worker.script("b.py").get("nap", 0.0).result() for _ in range(3)} == {"b"}
        assert list(worker.script("a.py").map("nap", [0.0] * 3)) == ["a"] * 3
        assert {worker.get("nap", 0.0).result() for _ in range(4)} == {"a", "b"}
        assert worker.script("b.py").send("news").result().name == "b"
        assert worker.script("b.py").options(timeout=5, priority=2).get("nap", 0.0).result() == "b"
        assert "nap" in dir(worker.script("a.py").remote)


def test_a_call_does_not_wait_behind_those_for_another_script(sim: Simulation) -> None:
    with two(sim) as worker:
        busy = [worker.script("a.py").get("nap", 10.0) for _ in range(3)]
        other = worker.script("b.py").get("nap", 1.0)
        either = worker.get("nap", 1.0)
        assert (other.result(), either.result()) == ("b", "b")
        assert not any(reply.done() for reply in busy)
        assert [reply.result() for reply in busy] == ["a"] * 3


def test_calls_for_a_script_of_which_no_task_is_left_fail_alone(sim: Simulation) -> None:
    with two(sim) as worker:
        face = worker.script("a.py")
        running, waiting = face.get("nap", 5.0), face.get("nap", 5.0)
        held = worker.script("b.py").get("nap", 10.0)
        sim.run()
        worker.remove("a").mark_seen()
        with pytest.raises(NotRunning, match="of the script that it was addressed to"):
            waiting.result()
        with pytest.raises(NotRunning):
            face.get("nap", 0.0).result()
        with pytest.raises(KeyError, match=r"no task of script .*a\.py.*its scripts are: .*b\.py"):
            worker.script("a.py")
        assert (running.result(), held.result()) == ("a", "b")


def test_a_sleeping_task_is_woken_for_a_call_of_its_script(sim: Simulation) -> None:
    sim.exports = Two(sim)
    recycle = RecyclePolicy(idle=1.0)
    a, b = (CallableTask(f"{name}.py", name=name, recycle=recycle) for name in "ab")
    with CloudWorker(a, b) as worker:
        sim.advance(2.0)
        assert worker.script("b.py").get("nap", 0.0).result() == "b"
        assert (a.state, b.state) == (State.ASLEEP, State.READY)


def test_an_elastic_worker_adds_tasks_of_the_script_for_which_calls_wait_and_keeps_one_of_each(sim: Simulation) -> None:
    with two(sim, size=ElasticSize(2, 6, grow_after=1.0, shrink_after=5.0)) as worker:
        replies = [worker.script("b.py").get("nap", 4.0) for _ in range(12)]
        for reply in replies:
            reply.result()
        scripts = Counter(task._slot.script.rpartition("/")[2] for task in worker)
        assert scripts == {"a.py": 1, "b.py": 5}
        sim.advance(20.0)
        assert list(worker.tasks) == ["a", "b"]


def test_objects_are_scripts_too(sim: Simulation) -> None:
    class One:
        def which(self) -> int:
            return 1

    class Other:
        def which(self) -> int:
            return 2

    sim.exports = None
    with CloudWorker(CallableTask(One), CallableTask(Other)) as worker:
        assert [worker.script(which).get("which").result() for which in (One, Other, One)] == [1, 2, 1]


# -- timeouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["1", True, float("nan"), 10**400], ids=["text", "bool", "nan", "huge"])
def test_a_wrong_timeout_is_refused_by_name_and_nothing_is_done(sim: Simulation, timeout: Any) -> None:
    with CloudWorker(CallableTask("any.py"), size=2) as worker, CallableTask("other.py") as task:
        first = next(iter(worker))
        for ask in (worker.stop, worker.drain, worker.flush, lambda t: worker.remove(first, t), task.stop, task.drain):
            with pytest.raises((TypeError, ValueError), match="timeout must be a number of seconds"):
                ask(timeout)
        assert len(worker) == 2
        assert [worker.get("echo", 1).result(), task.get("echo", 2).result()] == [1, 2]


def test_there_is_no_wrong_timeout_for_a_batch_either(sim: Simulation) -> None:
    queue = QueueWorker(ScriptTask("any.py"))
    with pytest.raises(ValueError, match="timeout"):
        queue.stop(float("nan"))


@pytest.mark.parametrize("timeout", [0, -1])
def test_what_is_idle_is_drained_in_no_time(sim: Simulation, timeout: float) -> None:
    with CloudWorker(CallableTask("any.py"), size=2) as worker, CallableTask("other.py") as task:
        sim.run()
        assert worker.drain(timeout).result() is worker
        assert worker.flush(timeout).result() is worker
        assert task.drain(timeout).result() is task
