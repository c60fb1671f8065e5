"""Everything under "What a user writes", line by line, on every launcher."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from processes import wait_gone
from support import KITCHEN, Heard, T, heard, script

import relieve_py
from relieve_py import (
    CallableTask,
    CloudWorker,
    Exit,
    ForkTask,
    QueueWorker,
    RestartPolicy,
    ScriptTask,
    State,
    Task,
    Worker,
    fork,
)


@pytest.fixture(scope="module")
def task(launcher: str) -> Iterator[CallableTask]:
    with CallableTask(script("task.py"), launcher=launcher, args=(1, "two")) as task:
        yield task


# -- the module that a user writes -----------------------------------------------------------------


def test_start_gets_the_start_arguments_before_the_task_is_ready(task: CallableTask) -> None:
    assert task.get("started_with").result(T) == (1, "two")


def test_plain_async_and_generator_functions_all_work(task: CallableTask) -> None:
    assert task.get("data").result(T) == {"foo": "bar"}
    assert task.get("fetch", 21).result(T) == 42
    assert list(task.stream("rows", 100)) == list(range(100))


def test_a_function_sends_the_parent_an_event(task: CallableTask) -> None:
    progress = task.wait_for("progress")
    task.call("work").result(T)
    assert progress.result(T) == (3, 10)


def test_stop_runs_on_a_soft_stop(launcher: str) -> None:
    task = CallableTask(script("task.py"), launcher=launcher)
    stopped = task.wait_for("stopped")
    with task:
        pass
    assert stopped.result(T) == ()


def test_a_dict_an_object_and_a_class_can_be_exported(launcher: str) -> None:
    with CallableTask(script("exports_dict.py"), launcher=launcher) as task:
        assert task.get("double", 4).result(T) == 8
        assert task.get("colour").result(T) == "red"
        assert task.get(None, 1).result(T) == ["default", 1]
    with CallableTask(script("exports_object.py"), launcher=launcher) as task:
        assert task.get("up").result(T) == 11
        assert task.get("up", by=5).result(T) == 16
        assert task.get("value").result(T) == 16
    with CallableTask(script("exports_class.py"), launcher=launcher, args=("good day",)) as task:
        assert task.get("greet", "Ann").result(T) == "good day Ann"
        assert task.get(None, "Ann").result(T) == "called Ann"


def test_an_unnamed_call_runs_a_callable_export_or_the_function_default(launcher: str, kitchen: CallableTask) -> None:
    assert kitchen.get().result(T) == ["default"]
    assert kitchen.get(None, 1, 2).result(T) == ["default", 1, 2]
    with CallableTask(script("exports_callable.py"), launcher=launcher) as task:
        assert task.get(None, 6, 7).result(T) == 42


def test_ipc_has_the_name_and_the_arguments(launcher: str) -> None:
    with CallableTask(KITCHEN, name="lunch", args=(1, {"a": 2}), launcher=launcher) as task:
        assert task.get("task_name").result(T) == "lunch"
        assert task.get("argv").result(T) == ([1, {"a": 2}], ["1", "{'a': 2}"])


def test_ipc_on_once_and_off_in_the_child(kitchen: CallableTask) -> None:
    kitchen.get("listen", "a", "job.*").result(T)
    kitchen.get("listen_once", "b").result(T)
    for name, args in (("a", (1, 2)), ("job.done", ()), ("b", (3,)), ("b", (4,)), ("c", ())):
        kitchen.send(name, *args).result(T)
    assert kitchen.get("events").result(T) == [("a", (1, 2)), ("job.*", ()), ("b", (3,))]
    kitchen.get("unlisten", "a").result(T)
    kitchen.send("a", 5).result(T)
    kitchen.send("job.x", 6).result(T)
    assert kitchen.get("events").result(T)[3:] == [("job.*", (6,))]
    kitchen.get("unlisten").result(T)
    kitchen.send("job.x", 7).result(T)
    assert len(kitchen.get("events").result(T)) == 4
    kitchen.get("forget_events").result(T)


def test_ipc_request_knows_the_call_that_is_running(kitchen: CallableTask) -> None:
    before = time.time()
    reply = kitchen.get("request")
    id, created_at, method = reply.result(T)
    assert id == reply.id
    assert before <= created_at <= time.time()
    assert method == "request"


def test_ipc_request_answers_with_or_without_a_value_and_a_second_answer_raises(kitchen: CallableTask) -> None:
    assert kitchen.get("respond_early", 5).result(T) == 5
    assert kitchen.get("ack").result(T) is None
    second = kitchen.wait_for("second")
    assert kitchen.get("respond_twice", 6).result(T) == 6
    kind, text = second.result(T)
    assert kind == "RuntimeError"
    assert "answered already" in text


def test_ipc_requests_lists_what_is_not_answered(kitchen: CallableTask) -> None:
    holding = kitchen.wait_for("holding")
    held = kitchen.get("hold")
    holding.result(T)
    kitchen.send("release", "now").result(T)
    value, ids = held.result(T)
    assert (value, ids) == ("now", [held.id])


def test_ipc_busy_and_ready_ask_for_no_calls_and_for_calls_again(launcher: str) -> None:
    a, b = (CallableTask(KITCHEN, name=name, launcher=launcher) for name in "ab")
    with CloudWorker(a, b) as worker:
        a.get("echo_events", "ping").result(T)
        a.get("busy_until", "enough").result(T)
        pids = {worker.get("pid").result(T) for _ in range(4)}
        assert pids == {b.pid}
        a.send("enough").result(T)
        back = a.wait_for("echo.ping")
        a.send("ping").result(T)
        back.result(T)
        assert {worker.get("pid").result(T) for _ in range(4)} == {a.pid, b.pid}


def test_ipc_is_harmless_to_import_and_call_in_the_parent() -> None:
    from relieve_py import ipc

    ipc.send("progress", 1)
    handler = ipc.on("event", print)
    assert handler is print
    ipc.off()
    ipc.ready()
    ipc.busy()
    assert (ipc.argv, ipc.name, ipc.requests()) == ([], "", [])
    with pytest.raises(LookupError):
        ipc.request()


# -- the task --------------------------------------------------------------------------------------


def test_with_starts_until_ready_and_leaving_stops(launcher: str) -> None:
    task = CallableTask(script("task.py"), launcher=launcher)
    assert task.state is State.NEW
    with task as entered:
        assert entered is task
        assert task.state is State.READY
        pid = task.pid
        assert pid is not None
    assert task.state is State.STOPPED
    assert task.pid is None
    assert wait_gone(pid, 0)


def test_async_with_starts_and_stops(launcher: str) -> None:
    async def main() -> None:
        async with CallableTask(script("task.py"), launcher=launcher) as task:
            assert task.state is State.READY
            assert await task.get("data") == {"foo": "bar"}
            assert [row async for row in task.stream("rows", 5)] == [0, 1, 2, 3, 4]
        assert task.state is State.STOPPED

    asyncio.run(main())


def test_call_gives_none_once_accepted_and_get_the_value(task: CallableTask) -> None:
    assert task.call("data").result(T) is None
    assert task.get("data").result(T) == {"foo": "bar"}


def test_call_settles_before_the_function_has_ended(kitchen: CallableTask, gate: Callable[[], Any]) -> None:
    door = gate()
    done = kitchen.get("echo", "first")
    done.result(T)
    assert kitchen.call("wait_for_file", door.path).result(T) is None
    after = kitchen.get("echo", "after")
    assert not after.done()
    door.open()
    assert after.result(T) == "after"


def test_get_reads_an_attribute(task: CallableTask) -> None:
    assert task.get("NAME").result(T) == "a value"


def test_a_reply_is_a_future_that_can_be_awaited(task: CallableTask) -> None:
    replies = [task.get("fetch", n) for n in range(5)]
    assert all(isinstance(reply, concurrent.futures.Future) for reply in replies)
    done, pending = concurrent.futures.wait(replies, T)
    assert len(done) == 5
    assert not pending
    assert sorted(reply.result() for reply in concurrent.futures.as_completed(replies, T)) == [0, 2, 4, 6, 8]

    async def main() -> None:
        reply = task.get("fetch", 3)
        assert await reply == 6
        assert await reply == 6, "the same object, again"
        assert await asyncio.wrap_future(task.get("fetch", 4)) == 8
        assert await asyncio.gather(*(task.get("fetch", n) for n in range(3))) == [0, 2, 4]

    asyncio.run(main())


def test_the_proxy_is_get_and_dir_lists_what_the_child_exports(task: CallableTask) -> None:
    assert task.remote.data().result(T) == {"foo": "bar"}
    assert task.remote.fetch(2).result(T) == 4
    assert dir(task.remote) == ["data", "fetch", "rows", "started_with", "work"]


def test_options_give_a_call_its_timeout_and_retries(launcher: str, tmp_path: Any) -> None:
    path = str(tmp_path / "died")
    with CallableTask(KITCHEN, launcher=launcher) as task:
        assert task.options(timeout=2, retries=1).get("echo", 1).result(T) == 1
        assert task.options(timeout=20, retries=1).get("die_once", path, "alive").result(T) == "alive"
        with pytest.raises(relieve_py.CallTimeout):
            task.options(timeout=0.1).get("hang").result(T)


def test_a_stream_is_read_sync_and_async(task: CallableTask, kitchen: CallableTask) -> None:
    assert list(task.stream("rows", 3)) == [0, 1, 2]
    assert list(kitchen.stream("async_rows", 3)) == [0, 1, 2]

    async def main() -> list[int]:
        return [row async for row in kitchen.stream("async_rows", 200)]

    assert asyncio.run(main()) == list(range(200))


def test_on_once_off_and_wait_for_and_wildcards(launcher: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher) as task:
        on, once, wild = heard(task, "job.a"), Heard(), heard(task, "job.*")
        task.once("job.a", once)

        @task.on("decorated")
        def decorated(*args: Any) -> None:
            wild("decorated", *args)

        for n in (1, 2):
            task.get("tell", "job.a", n).result(T)
        seen = task.wait_for("*.b")
        task.get("tell", "job.b", 3).result(T)
        assert seen.result(T) == (3,)
        assert (on.wait(2), once.wait(1), wild.wait(3)) == ([(1,), (2,)], [(1,)], [(1,), (2,), (3,)])
        task.off("job.a")
        task.off("decorated", decorated)
        last = task.wait_for("decorated")
        task.get("tell", "job.a", 4).result(T)
        task.get("tell", "decorated", 5).result(T)
        last.result(T)
        assert (on, wild.wait(4)[3:]) == ([(1,), (2,)], [(4,)])
        task.off()
        last = task.wait_for("job.c")
        task.get("tell", "job.c").result(T)
        last.result(T)
        assert len(wild) == 4


def test_send_is_an_event_to_the_child_and_its_reply_gives_the_task(kitchen: CallableTask) -> None:
    kitchen.get("listen", "event").result(T)
    assert kitchen.send("event", 1, 2).result(T) is kitchen
    assert kitchen.get("events").result(T) == [("event", (1, 2))]
    kitchen.get("unlisten").result(T)
    kitchen.get("forget_events").result(T)


def test_restart_stop_and_kill(launcher: str) -> None:
    task = CallableTask(KITCHEN, launcher=launcher)
    assert task.start().result(T) is task
    first = task.pid
    assert task.restart().result(T) is task
    assert task.state is State.READY
    assert task.pid not in (first, None)
    assert task.restarts == 1
    exit = task.stop().result(T)
    assert (exit.code, exit.signal, exit.forced) == (0, None, False)
    task.start().result(T)
    exit = task.kill(signal.SIGTERM).result(T)
    assert (exit.code, exit.signal) == (None, "SIGTERM")
    assert task.state is State.STOPPED
    task.start().result(T)
    assert task.kill().result(T).signal == "SIGKILL"


def test_what_a_task_says_of_itself(launcher: str) -> None:
    task = CallableTask(KITCHEN, name="unique", launcher=launcher)
    assert (task.name, task.state, task.pid, task.restarts, task.started_at, task.exit) == (
        "unique", State.NEW, None, 0, None, None,
    )  # fmt: skip
    before = time.time()
    with task:
        assert task.get("pid").result(T) == task.pid
        assert task.started_at is not None
        assert before - 1 <= task.started_at <= time.time() + 1
        assert task.exit is None
    assert isinstance(task.exit, Exit)
    assert (task.exit.code, task.exit.signal, task.exit.forced) == (0, None, False)
    assert task.exit.uptime > 0


def test_a_name_is_set_once(launcher: str) -> None:
    task = CallableTask(KITCHEN)
    other = CallableTask(KITCHEN)
    assert task.name != other.name
    task.name = "given"
    assert task.name == "given"
    with pytest.raises(AttributeError, match="given"):
        task.name = "again"
    with pytest.raises(AttributeError, match="first"):
        CallableTask(KITCHEN, name="first").name = "second"
    with pytest.raises(ValueError, match="given"):
        Worker(task, CallableTask(KITCHEN, name="given"))


def test_the_first_use_of_a_task_that_was_never_started_starts_it(launcher: str) -> None:
    for use in (
        lambda task: task.get("echo", 1),
        lambda task: task.call("echo", 1),
        lambda task: task.send("event"),
    ):
        task = CallableTask(KITCHEN, launcher=launcher)
        try:
            use(task).result(T)
            assert task.state is State.READY
        finally:
            task.stop().result(T)
    task = CallableTask(KITCHEN, launcher=launcher)
    try:
        assert list(task.stream("rows", 3)) == [0, 1, 2]
    finally:
        task.stop().result(T)


def test_calls_before_it_is_ready_wait_in_order(launcher: str, tmp_path: Any) -> None:
    notes = tmp_path / "notes"
    task = CallableTask(KITCHEN, launcher=launcher)
    replies = [task.get("note", str(notes), str(n)) for n in range(10)]
    assert [reply.result(T) for reply in replies] == [str(n) for n in range(10)]
    assert notes.read_text().split() == [str(n) for n in range(10)]
    task.stop().result(T)


# -- script tasks and forks ------------------------------------------------------------------------


class Attached:
    """An interface that keeps what it was attached to."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def attach(self, task: Task) -> None:
        self.tasks.append(task)


def test_a_script_task_with_all_its_options(launcher: str, tmp_path: Any) -> None:
    interface = Attached()
    task = ScriptTask(
        script("prog.py"),
        name="web",
        args=(8080, None),
        restart=False,
        env={"COLOUR": "blue"},
        cwd=tmp_path,
        containers=["containers:setup", "containers:plain"],
        interfaces=[interface],
        launcher=launcher,
        start_timeout=30,
        kill_timeout=5,
    )
    assert interface.tasks == [task]
    argv, began, contained = task.wait_for("argv"), task.wait_for("began"), task.wait_for("contained")
    task.start().result(T)
    exit = task.wait().result(T)
    assert contained.result(T) == ("web",)
    assert argv.result(T) == ("__main__", ["8080", "None"], [8080, None], "web", str(tmp_path), "blue")
    assert began.result(T) == (8080, None)
    assert (exit.code, task.state) == (0, State.STOPPED)


def test_a_script_task_is_restarted_when_asked(launcher: str) -> None:
    task = ScriptTask(script("waits.py"), restart=True, launcher=launcher)
    pids = []
    running = task.wait_for("running")
    task.start().result(T)
    for n in range(3):
        pids.append(running.result(T)[0])
        running = task.wait_for("running")
        task.send("leave", n).result(T)
    running.result(T)
    assert len(set(pids)) == 3
    assert task.restarts == 3
    task.stop().result(T)


def test_a_program_may_say_itself_when_it_is_ready(launcher: str, gate: Callable[[], Any]) -> None:
    door = gate()
    task = ScriptTask(script("ready_later.py"), args=(door.path,), ready="call", launcher=launcher)
    before = task.wait_for("before")
    started = task.start()
    before.result(T)
    assert task.state is State.STARTING
    assert not started.done()
    ready = task.wait_for("ready")
    door.open()
    assert ready.result(T)[0].task == task.name
    assert started.result(T) is task
    task.wait().result(T)


def test_a_program_stays_while_a_handler_is_registered(launcher: str) -> None:
    with ScriptTask(script("answer.py"), launcher=launcher) as task:
        for n in (1, 2):
            answer = task.wait_for("answer")
            task.send("question", n).result(T)
            assert answer.result(T) == (2 * n,)
        assert task.state is State.READY


def test_a_fork_task_wraps_a_script_that_runs_already(launcher: str) -> None:
    task = ForkTask(fork(script("answer.py"), 1, launcher=launcher))
    assert task.wait_for("argv").result(T) == (1,)
    answer = task.wait_for("answer")
    task.send("question", 21).result(T)
    assert answer.result(T) == (42,)
    with pytest.raises(relieve_py.AlreadyRunning):
        task.start()
    assert task.stop().result(T).code == 0
    for start in (task.start, task.restart):
        with pytest.raises(TypeError, match="ScriptTask"):
            start()


def add_and_tell(a: int, b: int) -> None:
    relieve_py.ipc.send("sum", a + b)


def test_a_fork_task_wraps_a_function_with_arguments(launcher: str) -> None:
    task = ForkTask(fork(add_and_tell, 1, 2, launcher=launcher))
    total = task.wait_for("sum")
    assert total.result(T) == (3,)
    assert task.wait().result(T).code == 0


def test_fork_starts_the_child_at_once(launcher: str) -> None:
    child = fork(script("waits.py"), launcher=launcher)
    task = ForkTask(child)
    (pid,) = task.wait_for("running").result(T)
    assert pid == task.pid
    task.send("leave", 9).result(T)
    assert task.wait().result(T).code == 9


# -- workers ---------------------------------------------------------------------------------------


def test_a_cloud_worker_with_all_its_options(launcher: str) -> None:
    worker = CloudWorker(
        CallableTask(KITCHEN, launcher=launcher), size=3, strategy="round-robin", max_pending=1000, when_full="wait",
        retries=1,
    )  # fmt: skip
    with worker:
        pids = {task.pid for task in worker.tasks.values()}
        assert len(pids) == 3
        assert {worker.get("pid").result(T) for _ in range(3)} == pids
        assert worker.call("echo", 1).result(T) is None
        assert worker.stats().size == 3
    assert all(task.state is State.STOPPED for task in worker)


def test_cloud_send_reaches_the_next_task_and_broadcast_all(cloud: CloudWorker) -> None:
    first, second = (cloud.send("event", n).result(T) for n in range(2))
    assert {first, second} == set(cloud.tasks.values())
    outcomes = cloud.broadcast("event").result(T)
    assert [outcome.task for outcome in outcomes] == list(cloud.tasks)
    assert all(outcome.error is None for outcome in outcomes)


def test_broadcast_get_gives_an_outcome_for_each_task(cloud: CloudWorker) -> None:
    outcomes = cloud.broadcast_get("pid").result(T)
    assert {outcome.task: outcome.result() for outcome in outcomes} == {task.name: task.pid for task in cloud}
    outcomes = cloud.broadcast_get("fail", "no").result(T)
    assert [type(outcome.error) for outcome in outcomes] == [ValueError, ValueError]
    with pytest.raises(ValueError, match="no"):
        outcomes[0].result()


def test_map_is_ordered_or_unordered_and_goes_on_after_an_error(cloud: CloudWorker) -> None:
    assert list(cloud.map("add", range(50))) == list(range(1, 51))
    assert sorted(cloud.map("add", range(50), unordered=True)) == list(range(1, 51))
    results = cloud.map("add", [1, "x", 3])
    assert next(results) == 2
    with pytest.raises(TypeError):
        next(results)
    assert list(results) == [4]
    mixed = list(cloud.map("add", [1, "x", 3], return_exceptions=True))
    assert (mixed[0], type(mixed[1]), mixed[2]) == (2, TypeError, 4)

    async def main() -> list[int]:
        return [out async for out in cloud.map("add", range(20))]

    assert asyncio.run(main()) == list(range(1, 21))


def test_map_takes_no_more_of_its_source_than_keeps_the_children_busy(cloud: CloudWorker) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        n = 0
        while True:
            taken.append(n)
            yield n
            n += 1

    results = cloud.map("add", source())
    assert [next(results) for _ in range(10)] == list(range(1, 11))
    assert len(taken) <= 10 + 4 * len(cloud)
    results.close()


def test_resize_stats_health_and_drain() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=1) as worker:
        assert worker.resize(3).result(T) is worker
        assert len(worker) == 3
        assert all(task.state is State.READY for task in worker)
        worker.resize(2).result(T)
        assert len(worker) == 2
        for n in range(20):
            worker.call("echo", n)
        assert worker.drain().result(T) is worker
        stats = worker.stats()
        assert (stats.queued, stats.running, stats.submitted, stats.size) == (0, 0, 20, 2)
        assert stats.states == {"ready": 2}
        for health in worker.health():
            assert health.rss > 1_000_000
            assert health.state == "ready"
            assert health.pid == worker.task(health.task).pid


def test_a_queue_worker_runs_each_task_to_its_exit(launcher: str) -> None:
    tasks = [ScriptTask(script("exits.py"), name=f"t{n}", args=(n,), launcher=launcher) for n in range(5)]
    queue = QueueWorker(*tasks, concurrency=2)
    exits = queue.run().result(T)
    assert [exit.code for exit in exits] == [0, 1, 2, 3, 4]
    assert [exit.task for exit in exits] == [task.name for task in tasks]
    assert [exit.code for exit in queue.run("t3", "t1").result(T)] == [1, 3], "in the order they were added"


def test_the_concurrency_of_a_queue_worker_can_be_set_while_it_runs(launcher: str) -> None:
    tasks = [ScriptTask(script("waits.py"), name=f"t{n}", launcher=launcher) for n in range(4)]
    queue = QueueWorker(*tasks, concurrency=1)
    running = [task.wait_for("running") for task in tasks]
    exits = queue.run()
    running[0].result(T)
    assert [task.state for task in tasks[1:]] == [State.NEW] * 3
    queue.concurrency = 3
    for reply in running[1:3]:
        reply.result(T)
    assert tasks[3].state is State.NEW
    queue.concurrency = 1
    for task, code in zip(tasks[:2], (5, 6), strict=True):
        task.send("leave", code).result(T)
        task.wait().result(T)
    assert tasks[3].state is State.NEW
    tasks[2].send("leave", 7).result(T)
    running[3].result(T)
    tasks[3].send("leave", 8).result(T)
    assert [exit.code for exit in exits.result(T)] == [5, 6, 7, 8]


def test_tasks_is_a_read_only_mapping_and_task_looks_one_up(cloud: CloudWorker) -> None:
    name, task = next(iter(cloud.tasks.items()))
    assert cloud.task(name) is task
    with pytest.raises(TypeError):
        cloud.tasks["other"] = task  # type: ignore[index]
    with pytest.raises(KeyError, match=name):
        cloud.task("nobody")


def test_worker_send_reaches_every_task_and_listeners_tasks_added_later(launcher: str) -> None:
    first = CallableTask(KITCHEN, name="first", launcher=launcher)
    with Worker(first) as worker:
        events = heard(worker, "echo.ping")
        later = CallableTask(KITCHEN, name="later", launcher=launcher)
        worker.add(later)
        later.start().result(T)
        for task in worker:
            task.get("echo_events", "ping").result(T)
        both = [task.wait_for("echo.ping") for task in worker]
        outcomes = worker.send("ping", 1).result(T)
        assert [(outcome.task, outcome.error) for outcome in outcomes] == [("first", None), ("later", None)]
        for reply in both:
            reply.result(T)
        worker.remove(first).result(T)
    assert events.wait(2) == [(1,), (1,)]


# -- names and hooks -------------------------------------------------------------------------------

NAMES = [
    "ipc",
    "Task",
    "ForkTask",
    "ScriptTask",
    "CallableTask",
    "Worker",
    "QueueWorker",
    "CloudWorker",
    "fork",
    "RestartPolicy",
    "RetryPolicy",
    "RelieveError",
    "StartError",
    "NotRunning",
    "AlreadyRunning",
    "Stopped",
    "TaskDied",
    "CallTimeout",
    "CallCancelled",
    "MethodNotFound",
    "WorkerFull",
    "PoisonCall",
    "RetriesExhausted",
    "EncodeError",
    "DecodeError",
    "ProtocolError",
    "RemoteError",
]


def test_every_name_is_exported() -> None:
    for name in NAMES:
        assert name in relieve_py.__all__
        assert name in dir(relieve_py)
        assert getattr(relieve_py, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        relieve_py.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("StartError", RuntimeError),
        ("AlreadyRunning", RuntimeError),
        ("TaskDied", RuntimeError),
        ("CallTimeout", TimeoutError),
        ("CallCancelled", concurrent.futures.CancelledError),
        ("MethodNotFound", AttributeError),
        ("EncodeError", ValueError),
        ("DecodeError", ValueError),
        *((name, relieve_py.RelieveError) for name in NAMES[NAMES.index("RelieveError") :]),
    ],
)
def test_every_error_has_its_base(name: str, base: type[Exception]) -> None:
    assert issubclass(getattr(relieve_py, name), base)


def test_policies_have_their_fields_in_order() -> None:
    restart = RestartPolicy("on-failure", 3, 10, 0.5, 3, 20)
    assert (restart.mode, restart.max_restarts, restart.within) == ("on-failure", 3, 10)
    assert (restart.delay, restart.backoff, restart.max_delay) == (0.5, 3, 20)
    retry = relieve_py.RetryPolicy(max=2, on=ValueError, delay=1, backoff=2)
    assert (retry.max, retry.on, retry.delay, retry.backoff) == (2, (ValueError,), 1, 2)


HOOKS = ("on_start", "on_ready", "on_message", "on_exit", "on_restart", "on_error")


def hooked(base: type) -> tuple[type, list[tuple[str, Any]], threading.Event]:
    """A subclass that notes every hook, and an event that is set when all were called."""
    calls: list[tuple[str, Any]] = []
    everything = threading.Event()

    def note(name: str) -> Callable[..., None]:
        def hook(self: Any, *args: Any) -> None:
            calls.append((name, args))
            if {called for called, _ in calls} == set(HOOKS) and name == "on_exit":
                everything.set()

        return hook

    return type("Hooked", (base,), {name: note(name) for name in HOOKS}), calls, everything


def test_the_hooks_of_a_task_do_nothing_and_are_called_like_listeners(launcher: str) -> None:
    cls, calls, everything = hooked(CallableTask)
    task = cls(KITCHEN, launcher=launcher)
    with task:
        task.get("tell", "note", 1).result(T)
        failed = task.wait_for("error")
        task.call("fail").result(T)
        failed.result(T)
        task.restart().result(T)
    assert everything.wait(T)
    assert [name for name, _ in calls] == [
        "on_start", "on_ready", "on_message", "on_error", "on_exit", "on_restart", "on_start", "on_ready", "on_exit",
    ]  # fmt: skip
    assert ("on_message", ("note", 1)) in calls
    (error,) = next(args for name, args in calls if name == "on_error")
    assert isinstance(error.error, ValueError)


def test_the_hooks_of_a_worker_are_called_for_every_task(launcher: str) -> None:
    cls, calls, everything = hooked(Worker)
    task = CallableTask(KITCHEN, launcher=launcher)
    with cls(task):
        task.get("tell", "note", 1).result(T)
        task.call("fail").result(T)
        task.restart().result(T)
    assert everything.wait(T)
    assert {name for name, _ in calls} == set(HOOKS)
