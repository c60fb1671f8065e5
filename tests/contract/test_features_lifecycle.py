"""Rows 1 to 22 of the feature table: the life of a task."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from processes import signal_child
from support import KITCHEN, Heard, T, heard, script

from relieve_py import (
    CallableTask,
    CloudWorker,
    ForkTask,
    RecyclePolicy,
    Reply,
    RestartPolicy,
    ScriptTask,
    StartError,
    State,
    Task,
    Worker,
    fork,
)


@pytest.mark.feature(1)
def test_wrap_an_existing_process() -> None:
    child = fork(script("waits.py"))
    task = ForkTask(child)
    (pid,) = task.wait_for("running").result(T)
    assert task.pid == pid
    task.send("leave", 3).result(T)
    assert task.wait().result(T).code == 3


@pytest.mark.feature(2)
@pytest.mark.parametrize("target", [KITCHEN, Path(KITCHEN), "kitchen"])
def test_spawn_from_a_script_or_a_module_path(target: Any) -> None:
    with CallableTask(target) as task:
        assert task.get("module_name").result(T) == "kitchen"
    program = ScriptTask("prog" if target == "kitchen" else script("prog.py"))
    argv = program.wait_for("argv")
    program.start().result(T)
    assert argv.result(T)[0] == "__main__"
    program.wait().result(T)


@pytest.mark.feature(3)
def test_explicit_start() -> None:
    task = CallableTask(KITCHEN)
    assert task.state is State.NEW
    assert task.start().result(T) is task
    assert task.state is State.READY
    task.stop().result(T)


@pytest.mark.feature(4)
def test_eager_start() -> None:
    child = fork(script("answer.py"))
    task = ForkTask(child)
    task.wait_for("argv").result(T)
    task.stop().result(T)
    with Worker(CallableTask(KITCHEN), CallableTask(KITCHEN)) as worker:
        assert all(task.state is State.READY for task in worker), "before any call"


@pytest.mark.feature(5)
def test_lazy_start_on_demand() -> None:
    task = CallableTask(KITCHEN)
    assert task.get("echo", 1).result(T) == 1
    task.stop().result(T)


@pytest.mark.feature(6)
def test_structured_start_arguments() -> None:
    args = (1, {"nested": [1, {"two": (3,)}]}, b"bytes", None)
    with CallableTask(KITCHEN, args=args) as task:
        assert task.get("start_args").result(T) == args


@pytest.mark.feature(7)
def test_a_unique_name_that_is_set_once() -> None:
    task = CallableTask(KITCHEN)
    task.name = "once"
    with pytest.raises(AttributeError):
        task.name = "twice"
    with pytest.raises(ValueError, match="once"):
        Worker(task, CallableTask(KITCHEN, name="once"))


@pytest.mark.feature(8)
def test_a_ready_handshake() -> None:
    task = CallableTask(KITCHEN)
    ready = task.wait_for("ready")
    task.start().result(T)
    (event,) = ready.result(T)
    assert (event.task, event.pid) == (task.name, task.pid)
    assert "echo" in event.exports
    assert event.took > 0
    task.stop().result(T)


@pytest.mark.feature(9)
def test_a_failure_to_start_is_reported_to_the_caller() -> None:
    task = CallableTask(script("broken_start.py"))
    with pytest.raises(StartError, match="no such thing to start with"):
        task.get("anything").result(T)


@pytest.mark.feature(10)
def test_the_scripts_start_hook_runs_in_the_child() -> None:
    with CallableTask(script("task.py"), args=(5,)) as task:
        assert task.get("started_with").result(T) == (5,)


@pytest.mark.feature(11)
def test_an_exported_class_is_instantiated() -> None:
    with CallableTask(script("exports_class.py"), args=("hi",)) as task:
        assert task.get("greet", "you").result(T) == "hi you"


@pytest.mark.feature(12)
def test_manual_restart() -> None:
    with CallableTask(KITCHEN) as task:
        pid = task.pid
        task.restart().result(T)
        assert task.get("pid").result(T) == task.pid != pid


@pytest.mark.feature(13)
@pytest.mark.parametrize(
    ("mode", "code", "restarted"),
    [("always", 0, True), ("always", 3, True), ("on-failure", 0, False), ("on-failure", 3, True), ("never", 3, False)],
)
def test_automatic_restart_after_exit(mode: str, code: int, restarted: bool) -> None:
    task = ScriptTask(script("waits.py"), restart=RestartPolicy(mode))
    running = task.wait_for("running")
    task.start().result(T)
    running.result(T)
    after = task.wait_for("restart" if restarted else "exit")
    task.send("leave", code).result(T)
    after.result(T)
    if not restarted:
        assert task.wait().result(T).code == code
    assert task.restarts == int(restarted)
    task.stop().result(T)


@pytest.mark.feature(14)
def test_a_restart_is_delayed() -> None:
    with CallableTask(KITCHEN, restart=RestartPolicy(delay=0.2)) as task:
        restart, ready = task.wait_for("restart"), task.wait_for("ready")
        signal_child(task, signal.SIGKILL)
        assert restart.result(T)[0].delay == pytest.approx(0.2)
        ready.result(T)
        assert task.exit is not None
        assert task.exit.signal == "SIGKILL"


@pytest.mark.feature(15)
def test_restarts_are_limited_in_number_within_a_period() -> None:
    task = CallableTask(KITCHEN, restart=RestartPolicy(max_restarts=1, within=60))
    task.on("ready", lambda event: os.kill(event.pid, signal.SIGKILL))
    failed = task.wait_for("failed")
    task.start().result(T)
    failed.result(T)
    assert (task.state, task.restarts) == (State.FAILED, 1)


@pytest.mark.feature(16)
def test_the_count_of_restarts_and_the_time_of_the_start() -> None:
    with CallableTask(KITCHEN) as task:
        first = task.started_at
        task.restart().result(T)
        assert task.restarts == 1
        assert first is not None
        assert task.started_at is not None
        assert task.started_at > first


@pytest.mark.feature(17)
def test_stop_without_restart() -> None:
    task = CallableTask(KITCHEN, restart=True)
    restarts = heard(task, "restart")
    task.start().result(T)
    task.stop().result(T)
    assert (task.state, restarts) == (State.STOPPED, [])


@pytest.mark.feature(18)
def test_a_process_is_recycled_after_so_many_calls(launcher: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher, recycle=RecyclePolicy(max_calls=2)) as task:
        pids = [reply.result(T) for reply in [task.get("pid") for _ in range(6)]]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]
        assert len(set(pids)) == 3
        assert task.restarts >= 2  # the third child may be on its way out


@pytest.mark.feature(18)
def test_a_process_is_recycled_by_its_age_and_by_its_memory() -> None:
    with CallableTask(KITCHEN, recycle=RecyclePolicy(max_age=0.1)) as task:
        pid = task.pid
        assert task.get("nap", 0.2).result(T) == pid  # never in the middle of a call
        assert task.get("pid").result(T) != pid
    with CallableTask(KITCHEN, recycle=RecyclePolicy(rss=1)) as task:
        assert len({task.get("pid").result(T) for _ in range(3)}) == 3


def test_a_recycled_program_is_followed_by_another() -> None:
    with ScriptTask(script("waits.py"), recycle=RecyclePolicy(max_age=0.1)) as task:
        assert [task.wait_for("recycle").result(T)[0].reason for _ in range(2)] == ["age", "age"]
    with pytest.raises(ValueError, match="max_calls and idle"):
        ScriptTask(script("waits.py"), recycle=RecyclePolicy(max_calls=1, idle=1))


@pytest.mark.feature(19)
def test_an_idle_child_is_reaped_and_started_again_on_demand(launcher: str) -> None:
    asleep = threading.Event()
    task = CallableTask(KITCHEN, launcher=launcher, recycle=RecyclePolicy(idle=0.1))
    task.on("state", lambda move: move.after is State.ASLEEP and asleep.set())
    starts = heard(task, "start")
    with task:
        assert asleep.wait(T)
        assert task.exit is not None
        assert task.exit.code == 0
        ((first,),) = starts.wait(1)[:1]
        assert task.get("pid").result(T) != first.pid


def test_a_stopped_child_is_replaced_within_its_heartbeat() -> None:
    with CallableTask(KITCHEN, heartbeat=2, restart=RestartPolicy(max_delay=0.1)) as task:
        assert task.get("hold_the_lock", 0.3).result(T) is None  # and is left alone
        pid, exited = task.pid, task.wait_for("exit")
        task.send_signal(signal.SIGSTOP)
        (exit,) = exited.result(T)
        assert (exit.pid, exit.signal, exit.forced) == (pid, "SIGKILL", True)
        assert exit.reason == "it gave no sign of life for 2 s (heartbeat)"
        assert task.get("pid").result(T) != pid


@pytest.mark.feature(19)
def test_a_worker_wakes_as_many_sleepers_as_it_needs() -> None:
    worker = CloudWorker(CallableTask(KITCHEN, recycle=RecyclePolicy(idle=0.1)), size=3)
    asleep = threading.Semaphore(0)
    worker.on("state", lambda move: move.after is State.ASLEEP and asleep.release())
    with worker:
        for _ in worker:
            assert asleep.acquire(timeout=T)
        assert worker.get("echo", 1).result(T) == 1
        assert [task.restarts for task in worker].count(1) == 1
        assert sorted(reply.result(T) for reply in [worker.get("echo", n) for n in range(9)]) == list(range(9))


@pytest.mark.feature(20)
@pytest.mark.xfail(strict=True, raises=TypeError, reason="surviving the manager")
def test_a_task_survives_its_manager_and_is_attached_again() -> None:
    CallableTask(KITCHEN, failsafe=True)


class Notes:
    """An interface that counts the exits of its task."""

    def __init__(self) -> None:
        self.exits = Heard()

    def attach(self, task: Task) -> None:
        task.on("exit", self.exits)


@pytest.mark.feature(21)
def test_an_interface_is_attached_to_its_task() -> None:
    interface = Notes()
    task = CallableTask(KITCHEN, interfaces=[interface])
    with task:
        pass
    assert [event.task for (event,) in interface.exits.wait(1)] == [task.name]


def container(ipc: Any) -> None:
    os.environ["CONTAINED"] = f"in {ipc.name}"


@pytest.mark.feature(22)
def test_containers_run_inside_the_child_before_it_is_ready() -> None:
    with CallableTask(KITCHEN, name="pot", containers=[container]) as task:
        assert task.get("env", "CONTAINED").result(T) == "in pot"
    with CallableTask(KITCHEN, containers=["containers:plain"]) as task:
        assert task.get("env", "CONTAINED").result(T) == "yes"
    assert "CONTAINED" not in os.environ


def test_a_wait_that_is_asked_for_while_the_last_child_goes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    task, stopped = CallableTask(KITCHEN, restart=False), threading.Event()
    task.on("state", lambda move: move.after in (State.STOPPED, State.FAILED) and stopped.set())
    task.start().result(T)
    make_reply = task._slot._reply

    def late(what: str) -> Reply:
        os.kill(task.pid or 0, signal.SIGKILL)
        assert stopped.wait(T)
        return make_reply(what)

    monkeypatch.setattr(task._slot, "_reply", late)
    assert task.wait().result(T).signal == "SIGKILL"
