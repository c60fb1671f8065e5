"""Rows 66 to 96 of the feature table: composition, scheduling, queueing."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import KITCHEN, Heard, T, heard, script

import relieve_py
from relieve_py import (
    CallableTask,
    CloudWorker,
    ElasticSize,
    NotRunning,
    PendingCall,
    QueueWorker,
    ScriptTask,
    State,
    Worker,
    WorkerFull,
)
from relieve_py.strategies import RoundRobin


def hanging(remote: Any, worker: Any = None) -> Any:
    """A call that runs and will not end."""
    began = (worker or remote).wait_for("hanging")
    reply = remote.get("hang")
    began.result(T)
    return reply


# -- composition -----------------------------------------------------------------------------------


@pytest.mark.feature(66)
def test_members_are_added_and_removed_live() -> None:
    with CloudWorker(CallableTask(KITCHEN, name="first")) as worker:
        second = CallableTask(KITCHEN, name="second")
        second.start().result(T)
        worker.add(second)
        assert {worker.get("pid").result(T) for _ in range(2)} == {task.pid for task in worker}
        assert worker.remove("first").result(T).code == 0
        assert list(worker.tasks) == ["second"]
        assert {worker.get("pid").result(T) for _ in range(2)} == {second.pid}
        third = CallableTask(KITCHEN, name="third")
        assert worker.replace(second, third).result(T) is third
        assert (list(worker.tasks), second.state) == (["third"], State.STOPPED)
        assert worker.get("pid").result(T) == third.pid


@pytest.mark.feature(67)
def test_several_scripts_in_one_pool() -> None:
    with Worker(CallableTask(KITCHEN, name="k"), CallableTask(script("task.py"), name="t")) as worker:
        assert worker.task("k").get("add", 1).result(T) == 2
        assert worker.task("t").get("data").result(T) == {"foo": "bar"}


def test_a_call_for_a_script_that_nobody_serves_any_more_fails_while_others_wait(gate: Callable[[], Any]) -> None:
    items, task, place = script("items.py"), CallableTask(script("task.py")), gate()
    with CloudWorker(task, CallableTask(items)) as worker:
        worker.start().result(T)
        holding = heard(worker, "holding")
        held = worker.script(items).get("hold", (-1, place.path))
        holding.wait(1)
        waits = worker.script(items).get("same", 1)
        task.stop().result(T)
        with pytest.raises(NotRunning, match="of the script"):
            worker.script(script("task.py")).get("data").result(T)
        place.open("go on")
        assert (held.result(T), waits.result(T)) == (-1, 1)


@pytest.mark.feature(57, 67)
def test_calls_and_events_are_addressed_to_the_tasks_of_one_script() -> None:
    kitchen, task = CallableTask(KITCHEN, name="k"), CallableTask(script("task.py"), name="t")
    with CloudWorker(kitchen, task) as worker:
        assert [worker.script(KITCHEN).get("add", n).result(T) for n in range(3)] == [1, 2, 3]
        assert worker.script(script("task.py")).get("data").result(T) == {"foo": "bar"}
        assert worker.script(KITCHEN).send("news").result(T) is kitchen
        assert {outcome.task for outcome in worker.send_per_script("news").result(T)} == {"k", "t"}
        with pytest.raises(KeyError, match="its scripts are"):
            worker.script("nothing.py")


@pytest.mark.feature(68)
def test_a_pool_of_fixed_size(cloud: CloudWorker) -> None:
    assert len(cloud) == 2
    assert len({task.pid for task in cloud}) == 2
    assert len(set(cloud.tasks)) == 2


@pytest.mark.feature(69)
def test_a_pool_of_elastic_size() -> None:
    size = ElasticSize(1, 3, grow_after=0.02, shrink_after=0.3)
    worker = CloudWorker(CallableTask(KITCHEN), size=size)
    began, left = Heard(), Heard()
    worker.on("start", began)
    worker.on("exit", left)
    with worker:
        assert len(worker) == 1
        pids = {reply.result(T) for reply in [worker.get("nap", 0.05) for _ in range(20)]}
        assert 1 < len(pids) <= 3
        assert 1 < worker.stats().size <= 3
        assert {record.code for (record,) in left.wait(len(began.wait(2)) - 1)} == {0}, "they were let go"
        assert len(worker) == 1


@pytest.mark.feature(70)
def test_a_pool_is_resized(gate: Callable[[], Any]) -> None:
    held = gate()
    with CloudWorker(CallableTask(KITCHEN), size=1) as worker:
        first = worker.get("wait_for_file", held.path)
        others = [worker.get("pid") for _ in range(10)]
        worker.resize(3).result(T)
        assert {reply.result(T) for reply in others} <= {task.pid for task in worker}
        resized = worker.resize(1)
        held.open()
        assert first.result(T) == "open"
        assert resized.result(T) is worker
        assert [task.state for task in worker] == [State.READY]


def test_nobody_waits_for_a_task_that_was_stopped() -> None:
    with CallableTask(KITCHEN) as task:
        pass
    with pytest.raises(relieve_py.NotRunning):
        task._slot.until_ready()


def test_a_task_that_is_stopping_keeps_no_other_from_being_restarted(gate: Callable[[], Any]) -> None:
    held = gate()
    with Worker(CallableTask(KITCHEN, name="first"), CallableTask(KITCHEN, name="second")) as worker:
        old = worker.task("second").pid
        running = worker.task("first").get("wait_for_file", held.path)
        stopped = worker.task("first").stop()
        restarted = worker.restart()
        held.open()
        with pytest.raises(relieve_py.Stopped, match="first"):
            restarted.result(T)
        assert worker.task("second").pid not in (old, None)
        assert running.result(T) == "open"
        stopped.result(T)


class StartsAtOnce(CallableTask):
    """A task that is started, by whoever sees it, before its worker comes to do so."""

    def clone(self, name: str | None = None) -> StartsAtOnce:
        other = super().clone(name)
        other.start().mark_seen()
        return other


def test_a_pool_is_resized_while_others_start_its_tasks() -> None:
    with CloudWorker(StartsAtOnce(KITCHEN), size=1) as worker:
        worker.resize(3).result(T)
        assert [task.state for task in worker] == [State.READY] * 3


@pytest.mark.feature(71)
def test_the_members_are_listed(cloud: CloudWorker) -> None:
    assert list(cloud.tasks.values()) == list(cloud)
    for name, task in cloud.tasks.items():
        assert task.name == name
        assert task in cloud
        assert name in cloud


@pytest.mark.feature(72)
def test_a_batch_is_run_to_its_exits_so_many_at_a_time() -> None:
    tasks = [ScriptTask(script("waits.py"), name=f"t{n}") for n in range(3)]
    queue = QueueWorker(*tasks, concurrency=2)
    running = [task.wait_for("running") for task in tasks]
    exits = queue.run()
    for reply in running[:2]:
        reply.result(T)
    assert tasks[2].state is State.NEW
    for n, task in enumerate(tasks):
        running[n].result(T)
        task.send("leave", n).result(T)
    assert [exit.code for exit in exits.result(T)] == [0, 1, 2]


@pytest.mark.feature(73)
def test_exit_codes_are_collected() -> None:
    queue = QueueWorker(*(ScriptTask(script("exits.py"), args=(n,)) for n in (3, 0, 7)), concurrency=3)
    assert [(exit.code, exit.ok) for exit in queue.run().result(T)] == [(3, False), (0, True), (7, False)]


@pytest.mark.feature(74)
def test_all_pools_are_ended_at_once(program: Callable[..., Any]) -> None:
    code = f"""
        import relieve_py
        from relieve_py import CallableTask, CloudWorker, Worker
        pools = [CloudWorker(CallableTask({KITCHEN!r}), size=2), Worker(CallableTask({KITCHEN!r}))]
        for pool in pools:
            pool.start().result(20)
        relieve_py.stop_all(0.5)
        print(sorted(task.state.value for pool in pools for task in pool))
    """
    out, err = program(code).communicate(timeout=T)
    assert out == "['stopped', 'stopped', 'stopped']\n", err


@pytest.mark.feature(75)
def test_a_hook_for_every_new_child() -> None:
    born = Heard()

    class Nursery(CloudWorker):
        def on_start(self, event: Any) -> None:
            born(event.pid)

    with Nursery(CallableTask(KITCHEN), size=2) as worker:
        ready = worker.wait_for("ready")
        first = next(iter(worker))
        pids = {task.pid for task in worker}
        first.kill().result(T)
        first.start().result(T)
        ready.result(T)
        assert {*pids, first.pid} == {pid for (pid,) in born.wait(3)}


# -- scheduling ------------------------------------------------------------------------------------


@pytest.mark.feature(76, 77, 78, 79, 80)
@pytest.mark.parametrize("strategy", ["weighted", "round-robin", "least-recently-used", "idle-first", "lowest-rss"])
def test_every_built_in_strategy_serves_a_real_pool(strategy: str) -> None:
    with CloudWorker(CallableTask(KITCHEN), size=2, strategy=strategy) as worker:
        assert list(worker.map("add", range(20))) == list(range(1, 21))


@pytest.mark.feature(81)
def test_calls_go_to_the_child_with_the_fewest_sockets() -> None:
    a, b = (CallableTask(KITCHEN, name=name) for name in "ab")
    with CloudWorker(a, b, strategy="fewest-sockets") as worker:
        a.get("hold_sockets", 5).result(T)
        assert worker.get("pid").result(T) == b.pid


class OnlyNamed(RoundRobin):
    """Lets a call choose among the tasks of one name."""

    name = "only-named"

    def next(self, tasks: Any, call: Any) -> Any:
        return super().next([task for task in tasks if call.key in (None, task.name)] or tasks, call)


@pytest.mark.feature(82, 85)
def test_a_strategy_of_ones_own_narrows_the_candidates() -> None:
    a, b = (CallableTask(KITCHEN, name=name) for name in "ab")
    with CloudWorker(a, b, strategy=OnlyNamed()) as worker:
        assert {worker.options(key="b").get("pid").result(T) for _ in range(3)} == {b.pid}
        assert {worker.get("pid").result(T) for _ in range(4)} == {a.pid, b.pid}


class Answer:
    """Something that has to be awaited."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0).__await__()
        return self.value


class Asynchronous(RoundRobin):
    """Asks somebody else, and waits for the answer."""

    name = "asynchronous"

    def next(self, tasks: Any, call: Any) -> Any:
        return Answer(tasks[-1])


@pytest.mark.feature(83)
def test_a_strategy_may_be_async() -> None:
    with CloudWorker(CallableTask(KITCHEN), strategy=Asynchronous()) as worker:
        assert worker.get("echo", 1).result(T) == 1


@pytest.mark.feature(84)
def test_calls_with_the_same_key_stick_to_a_task() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=2, strategy="sticky") as worker:
        for key in "abcdef":
            assert len({worker.options(key=key).get("pid").result(T) for _ in range(3)}) == 1


@pytest.mark.feature(86)
def test_a_child_says_that_it_is_busy_and_ready_again() -> None:
    a, b = (CallableTask(KITCHEN, name=name) for name in "ab")
    with CloudWorker(a, b) as worker:
        a.get("busy_until", "enough").result(T)
        assert {worker.get("pid").result(T) for _ in range(4)} == {b.pid}
        waiting = a.get("echo", "waited")
        a.send("enough").result(T)
        assert waiting.result(T) == "waited"


# -- queueing --------------------------------------------------------------------------------------


@pytest.mark.feature(87)
def test_the_queue_is_first_in_first_out(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with CloudWorker(CallableTask(KITCHEN), size=1) as worker:
        for reply in [worker.get("note", str(notes), str(n)) for n in range(50)]:
            reply.result(T)
    assert notes.read_text().split() == [str(n) for n in range(50)]


@pytest.mark.feature(88)
def test_a_hard_limit_raises() -> None:
    with CloudWorker(CallableTask(KITCHEN, kill_timeout=0.2), max_pending=2, when_full="raise") as worker:
        running = hanging(worker)
        waiting = [worker.get("echo", n) for n in range(2)]
        with pytest.raises(WorkerFull, match="max_pending") as caught:
            worker.get("echo", 3)
        assert caught.value.max_pending == 2
        running.cancel()
        assert [reply.result(T) for reply in waiting] == [0, 1]


@pytest.mark.feature(89)
def test_the_policies_at_capacity() -> None:
    for when_full, lost in (("drop_oldest", 0), ("drop_newest", 1)):
        with CloudWorker(CallableTask(KITCHEN, kill_timeout=0.2), max_pending=1, when_full=when_full) as worker:
            running = hanging(worker)
            replies = [worker.get("echo", n) for n in range(2)]
            with pytest.raises(WorkerFull):
                replies[lost].result(T)
            running.cancel()
            assert replies[1 - lost].result(T) == 1 - lost
    with CloudWorker(CallableTask(KITCHEN, kill_timeout=0.2), max_pending=1, when_full="wait") as worker:
        running = hanging(worker)
        waiting = worker.get("echo", 1)
        done = threading.Event()
        values: list[Any] = []

        def blocked() -> None:
            values.append(worker.get("echo", 2).result(T))
            done.set()

        thread = threading.Thread(target=blocked)
        thread.start()
        assert not done.is_set()
        running.cancel()
        assert waiting.result(T) == 1
        thread.join(T)
        assert values == [2]


@pytest.mark.feature(89)
def test_a_policy_of_ones_own_at_capacity() -> None:
    def policy(call: PendingCall) -> str:
        asked.append(call)
        return "queue" if call.key == "urgent" else "drop_newest"

    asked: list[PendingCall] = []
    with CloudWorker(CallableTask(KITCHEN, kill_timeout=0.2), max_pending=1, when_full=policy) as worker:
        running = hanging(worker)
        kept, dropped = worker.get("echo", 1), worker.get("add", 2, b=3)
        urgent = worker.options(key="urgent").get("echo", 3)
        with pytest.raises(WorkerFull):
            dropped.result(T)
        running.cancel()
        assert (kept.result(T), urgent.result(T)) == (1, 3)
    assert [(call.id, call.mode, call.method) for call in asked] == [
        (dropped.id, "get", "add"),
        (urgent.id, "get", "echo"),
    ]
    assert [call.arguments() for call in asked] == [((2,), {"b": 3}), ((3,), {})]


@pytest.mark.feature(90)
def test_a_bounded_buffer_drops_the_oldest() -> None:
    with CloudWorker(CallableTask(KITCHEN, kill_timeout=0.2), max_pending=3, when_full="drop_oldest") as worker:
        running = hanging(worker)
        replies = [worker.get("echo", n) for n in range(6)]
        running.cancel()
        for reply in replies[:3]:
            with pytest.raises(WorkerFull):
                reply.result(T)
        assert [reply.result(T) for reply in replies[3:]] == [3, 4, 5]
        assert worker.stats().dropped == 3


@pytest.mark.feature(91)
def test_a_retry_goes_to_the_front_of_the_queue(tmp_path: Path) -> None:
    notes = str(tmp_path / "notes")
    with CloudWorker(CallableTask(KITCHEN), size=1, retries=1) as worker:
        first = worker.get("die_once", str(tmp_path / "died"), "first")
        done = Heard()
        first.add_done_callback(lambda reply: done("first"))
        others = [worker.get("note", notes, str(n)) for n in range(5)]
        others[0].add_done_callback(lambda reply: done("other"))
        assert first.result(T) == "first"
        assert [reply.result(T) for reply in others] == [str(n) for n in range(5)]
    assert done.wait(2) == [("first",), ("other",)]


@pytest.mark.feature(92)
def test_a_sender_is_told_of_fullness_and_of_room() -> None:
    with CloudWorker(CallableTask(KITCHEN), max_pending=4) as worker:
        room = worker.wait_for("drain")
        worker.pause()
        sent = [worker.send("news", n) for n in range(4)]
        assert [reply.full for reply in sent] == [False, False, False, True]
        assert worker.full
        assert not worker.room().done()
        worker.resume()
        (record,) = room.result(T)
        assert record.worker == worker.name
        assert worker.room().result(T) is worker
        assert not worker.full
        assert [reply.result(T) for reply in sent] == [next(iter(worker))] * 4


@pytest.mark.feature(93)
def test_a_child_asks_for_a_pause_a_drain_or_its_end() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=1) as worker:
        (task,) = worker
        recycled, ended = worker.wait_for("recycle"), worker.wait_for("exit")
        first = worker.get("ask_for", "drain")
        after = worker.get("pid")
        assert first.result(T) == ended.result(T)[0].pid
        assert recycled.result(T)[0].reason == "drain"
        second = after.result(T)
        assert second not in (first.result(T), None)
        worker.add(CallableTask(KITCHEN, name="other"))
        worker.start().result(T)
        assert task.get("ask_for", "end").result(T) == second
        assert task.wait().result(T).code == 0
        assert task.state is State.STOPPED
        with pytest.raises(relieve_py.Stopped, match=r"its child asked for that, by ipc.end\(\)"):
            task.get("pid").result(T)
        assert worker.get("pid").result(T) == worker.task("other").pid


@pytest.mark.feature(93)
def test_a_program_asks_for_another_run_and_for_its_end() -> None:
    task = ScriptTask(script("waits.py"), kill_timeout=1)
    runs = Heard()
    task.on("running", runs)
    with task:
        runs.wait(1)
        task.send("ask", "drain").result(T)
        runs.wait(2)
        task.send("ask", "end").result(T)
        task.wait().result(T)
        assert (task.state, task.restarts) == (State.STOPPED, 1)


@pytest.mark.feature(94)
def test_a_child_that_stays_paused_is_replaced() -> None:
    with CallableTask(KITCHEN, busy_timeout=0.1) as task:
        recycled = task.wait_for("recycle")
        task.get("busy_until", "never").result(T)
        assert task.get("echo", 1).result(T) == 1
        assert recycled.result(T)[0].reason == "busy"


@pytest.mark.feature(95)
def test_a_flush_finishes_what_there_is_and_refuses_the_new(gate: Callable[[], Any]) -> None:
    held = gate()
    with CloudWorker(CallableTask(KITCHEN), size=1, max_pending=2) as worker:
        running, waiting = worker.get("wait_for_file", held.path), worker.get("echo", 1)
        flushed = worker.flush()
        with pytest.raises(relieve_py.Stopped, match=r"was flushed: it takes no calls until resume\(\)"):
            worker.get("echo", 2).result(T)
        assert not flushed.done()
        held.open()
        assert flushed.result(T) is worker
        assert (running.result(0), waiting.result(0)) == ("open", 1)
        worker.resume()
        assert worker.get("echo", 3).result(T) == 3


@pytest.mark.feature(96)
def test_dispatch_is_paused_and_resumed(cloud: CloudWorker) -> None:
    running = cloud.get("nap", 0.05)
    cloud.pause()
    assert cloud.paused
    waiting = [cloud.get("echo", n) for n in range(3)]
    assert running.result(T) in {task.pid for task in cloud}
    assert [task.load for task in cloud] == [0, 0]
    assert not any(reply.done() for reply in waiting)
    drained = cloud.drain()
    cloud.resume()
    assert not cloud.paused
    assert [reply.result(T) for reply in waiting] == [0, 1, 2]
    assert drained.result(T) is cloud


def test_round_robin_spreads_calls_evenly(cloud: CloudWorker) -> None:
    counts = Counter(cloud.get("pid").result(T) for _ in range(20))
    assert set(counts.values()) == {10}
