"""Rows 46 to 65 of the feature table: messages and events."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from processes import signal_child
from support import KITCHEN, Heard, T, heard, script

from relieve_py import (
    CallableTask,
    CloudWorker,
    ForkTask,
    QueueWorker,
    RecyclePolicy,
    ScriptTask,
    State,
    Worker,
    WorkerFull,
    current_event,
    fork,
    ipc,
)
from relieve_py.events import Available, Unavailable


@pytest.mark.feature(46)
def test_named_events_to_the_child_with_any_arguments(served: CallableTask) -> None:
    served.get("listen", "news").result(T)
    served.send("news", 1, {"two": 2}, None).result(T)
    assert served.get("events").result(T) == [("news", (1, {"two": 2}, None))]
    served.get("unlisten").result(T)
    served.get("forget_events").result(T)


@pytest.mark.feature(47)
def test_named_events_to_the_parent(served: CallableTask) -> None:
    news = served.wait_for("news")
    served.get("tell", "news", 1, [2]).result(T)
    assert news.result(T) == (1, [2])


@pytest.mark.feature(48)
def test_the_child_asks_the_parent_and_gets_a_reply() -> None:
    with CallableTask(KITCHEN) as task:
        task.on("price", lambda fruit: {"apple": 3}[fruit])
        assert task.get("ask", "price", "apple").result(T) == 3
        with pytest.raises(KeyError, match="pear"):
            task.get("ask", "price", "pear").result(T)
        with pytest.raises(LookupError, match="nobody"):
            task.get("ask", "nobody").result(T)


@pytest.mark.feature(49)
def test_raw_messages_both_ways(served: CallableTask) -> None:
    served.get("echo_events", "raw").result(T)
    raw = b"\x00\xff" * 1000
    back = served.wait_for("echo.raw")
    served.send("raw", raw).result(T)
    assert back.result(T) == (raw,)
    served.get("unlisten").result(T)


@pytest.mark.feature(50)
def test_wildcard_events(served: CallableTask) -> None:
    jobs = heard(served, "job.*")
    last = served.wait_for("*.last")
    for name in ("job.a", "other.b", "job.last"):
        served.get("tell", name, name).result(T)
    last.result(T)
    served.off("job.*")
    assert jobs.wait(2) == [("job.a",), ("job.last",)]


@pytest.mark.feature(51)
def test_once_off_and_remove_all(served: CallableTask) -> None:
    once = Heard()
    on, kept = heard(served, "x"), heard(served, "y")
    served.once("x", once)

    def tell(name: str, n: int) -> None:
        got = served.wait_for(name)
        served.get("tell", name, n).result(T)
        got.result(T)

    tell("x", 1)
    tell("x", 2)
    served.off("x")
    tell("x", 3)
    tell("y", 4)
    served.off()
    tell("y", 5)
    assert (once.wait(1), on.wait(2), kept.wait(1)) == ([(1,)], [(1,), (2,)], [(4,)])


@pytest.mark.feature(52)
def test_an_event_is_awaited(served: CallableTask) -> None:
    import asyncio

    async def main() -> Any:
        waiting = served.wait_for("awaited")
        await served.call("tell", "awaited", 1)
        return await waiting

    assert asyncio.run(main()) == (1,)


@pytest.mark.feature(53)
def test_listeners_registered_before_the_start() -> None:
    task = ScriptTask(script("prog.py"), args=(1,))
    began = heard(task, "began")
    done = task.wait_for("began")
    task.start().result(T)
    assert done.result(T) == (1,)
    assert began.wait(1) == [(1,)]
    task.wait().result(T)


@pytest.mark.feature(54)
def test_listeners_of_a_worker_hear_every_task() -> None:
    with Worker(CallableTask(KITCHEN, name="a")) as worker:
        sources = Heard()
        worker.on("note", lambda: sources(current_event().source.name))
        later = CallableTask(KITCHEN, name="b")
        worker.add(later)
        for task in worker:
            note = worker.wait_for("note")
            task.get("tell", "note").result(T)
            note.result(T)
        assert sources.wait(2) == [("a",), ("b",)]


@pytest.mark.feature(55)
def test_a_message_is_broadcast(cloud: CloudWorker) -> None:
    cloud.broadcast_get("listen", "all").result(T)
    outcomes = cloud.broadcast("all", 1).result(T)
    assert [outcome.value for outcome in outcomes] == list(cloud.tasks.values())
    assert [out.value for out in cloud.broadcast_get("events").result(T)] == [[("all", (1,))]] * 2
    cloud.broadcast_get("unlisten").result(T)
    cloud.broadcast_get("forget_events").result(T)


@pytest.mark.feature(56)
def test_a_broadcast_call_gives_every_outcome(tmp_path: Any) -> None:
    with CloudWorker(CallableTask(KITCHEN), size=2) as worker:
        outcomes = worker.broadcast_get("fail_once", str(tmp_path / "raised"), 1).result(T)
        assert [outcome.task for outcome in outcomes] == list(worker.tasks)
        values = [outcome.error or outcome.value for outcome in outcomes]
        assert {type(value) for value in values} <= {int, ConnectionError}
        first = next(iter(worker))
        signal_child(first, signal.SIGSTOP)
        replies = worker.broadcast_get("echo", 1)
        signal_child(first, signal.SIGKILL)
        assert [outcome.value for outcome in replies.result(T)][1] == 1


@pytest.mark.feature(57)
def test_one_message_per_script() -> None:
    tasks = [CallableTask(KITCHEN), CallableTask(KITCHEN), CallableTask(script("task.py"))]
    with CloudWorker(*tasks) as worker:
        outcomes = worker.send_per_script("event").result(T)
        assert [outcome.task.split("-")[0] for outcome in outcomes] == ["kitchen", "task"]


@pytest.mark.feature(58)
def test_one_named_member_is_addressed(cloud: CloudWorker) -> None:
    for name, task in cloud.tasks.items():
        assert cloud.task(name).get("pid").result(T) == task.pid


@pytest.mark.feature(59)
def test_delivery_is_confirmed(served: CallableTask) -> None:
    assert served.send("event").result(T) is served


@pytest.mark.feature(60)
def test_protocol_and_user_messages_are_kept_apart(served: CallableTask) -> None:
    names = ["READY", "RESULT", "stop_", "BOOT", "\x00\xff", "relieve"]
    got = Heard()
    served.on("*", lambda *args: got(*args) if args and args[0] in names else None)
    last = served.wait_for("relieve")
    for name in names:
        served.get("tell", name, name).result(T)
    last.result(T)
    served.off("*")
    assert got.wait(len(names)) == [(name,) for name in names]
    assert served.get("chatter", 200_000).result(T) == 200_000


@pytest.mark.feature(61)
def test_lifecycle_events_of_a_process() -> None:
    task = CallableTask(KITCHEN)
    seen = Heard()
    for name in ("start", "ready", "restart", "exit", "error"):
        task.on(name, lambda event, name=name: seen(name))
    with task:
        ready = task.wait_for("ready")
        signal_child(task, signal.SIGKILL)
        ready.result(T)
        error = task.wait_for("error")
        task.call("fail").result(T)
        error.result(T)
        last = task.wait_for("exit")
    last.result(T)
    assert " ".join(name for (name,) in seen.wait(8)) == "start ready exit restart start ready error exit"
    with pytest.raises(ValueError, match="lifecycle"):
        task.send("exit")


@pytest.mark.feature(62)
def test_every_change_of_state_is_an_event() -> None:
    task = CallableTask(KITCHEN)
    moves = Heard()
    task.on("state", lambda event: moves(event.before, event.after))
    with task:
        pass
    assert moves.wait(4) == [
        (State.NEW, State.STARTING),
        (State.STARTING, State.READY),
        (State.READY, State.STOPPING),
        (State.STOPPING, State.STOPPED),
    ]


@pytest.mark.feature(63)
def test_a_pool_tells_when_it_is_available_and_when_it_is_not(cloud: CloudWorker) -> None:
    unavailable, available = cloud.wait_for("unavailable"), cloud.wait_for("available")
    heard_both = heard(cloud, "*available")
    replies = [cloud.get("nap", 0.01) for _ in range(10)]
    (record,) = unavailable.result(T)
    assert (record.worker, record.reason) == (cloud.name, "busy")
    for reply in replies:
        reply.result(T)
    (record,) = available.result(T)
    assert record.worker == cloud.name
    assert record.after > 0
    assert [type(event) for (event,) in heard_both] == [Unavailable, Available]
    cloud.off("*available")


@pytest.mark.feature(64)
def test_recycling_and_idleness_are_events() -> None:
    with CallableTask(KITCHEN, recycle=RecyclePolicy(max_calls=1, idle=0.2)) as task:
        recycled, idle = heard(task, "recycle"), heard(task, "idle")
        pid = task.get("pid").result(T)
        assert [(event.task, event.pid, event.reason) for (event,) in recycled.wait(1)] == [(task.name, pid, "calls")]
        ((event,),) = idle.wait(1)
        assert event.seconds >= 0.2
        assert event.pid != pid


@pytest.mark.feature(65)
def test_a_dropped_call_is_an_event() -> None:
    with CloudWorker(CallableTask(KITCHEN, kill_timeout=0.2), max_pending=1, when_full="drop_oldest") as worker:
        dropped = heard(worker, "drop")
        began = worker.wait_for("hanging")
        running = worker.get("hang")
        began.result(T)
        victim, kept = worker.get("echo", 1), worker.get("echo", 2)
        with pytest.raises(WorkerFull):
            victim.result(T)
        running.cancel()
        assert kept.result(T) == 2
    assert [(event.worker, event.call_id, event.method) for (event,) in dropped.wait(1)] == [
        (worker.name, victim.id, "echo")
    ]
    assert [event.call.arguments() for (event,) in dropped] == [((1,), {})]


def test_a_queue_worker_hears_its_tasks_too() -> None:
    queue = QueueWorker(ScriptTask(script("prog.py"), args=("x",)))
    began = queue.wait_for("began")
    queue.run().result(T)
    assert began.result(T) == ("x",)


def test_a_handler_in_the_child_runs_with_no_signal_held_back() -> None:
    """What it starts would inherit that, and could then not be terminated."""

    def program() -> None:
        def tell() -> None:
            ipc.send("mask", [int(signum) for signum in signal.pthread_sigmask(signal.SIG_BLOCK, [])])

        ipc.on("go", tell)

    task = ForkTask(fork(program))
    mask = task.wait_for("mask")
    task.send("go").result(T)
    assert mask.result(T) == ([],)
    task.stop().result(T)
