"""Rows 114 to 132 of the feature table: observability, the end, configuration."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import wait_gone
from support import KITCHEN, T, heard, script

from relieve_py import CallableTask, CloudWorker, Output, ScriptTask, Stopped, TaskDied, hookimpl, register, unregister

# -- observability ---------------------------------------------------------------------------------


@pytest.mark.feature(114)
def test_the_counters_of_a_pool() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=2, retries=1) as worker:
        for reply in [worker.get("echo", n) for n in range(5)]:
            reply.result(T)
        worker.drain().result(T)
        stats = worker.stats()
        assert (stats.worker, stats.size, stats.submitted, stats.running, stats.queued) == (worker.name, 2, 5, 0, 0)
        assert (stats.retried, stats.dropped, stats.restarts, stats.states) == (0, 0, 0, {"ready": 2})
        assert json.loads(json.dumps(stats.to_dict()))["submitted"] == 5


@pytest.mark.feature(115, 116)
def test_memory_cpu_and_uptime_of_each_task(cloud: CloudWorker) -> None:
    for health, task in zip(cloud.health(), cloud, strict=True):
        assert (health.task, health.pid, health.state) == (task.name, task.pid, "ready")
        assert health.rss > 1_000_000
        assert health.cpu_seconds >= 0
        assert 0 <= health.cpu_percent < 1000
        assert health.uptime > 0
        assert health.threads >= 1
        assert health.descriptors >= 3


@pytest.mark.feature(117)
def test_high_water_marks(gate: Callable[[], Any]) -> None:
    door = gate()
    with CloudWorker(CallableTask(KITCHEN), size=1) as worker:
        waiting = worker.wait_for("waiting")
        held = worker.get("wait_for_file", door.path)
        waiting.result(T)
        behind = [worker.get("echo", n) for n in range(3)]
        door.open()
        for reply in (held, *behind):
            reply.result(T)
        assert worker.stats().most_queued == 3


@pytest.mark.feature(118)
def test_debug_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="relieve_py"):
        task = CallableTask(KITCHEN, name="talkative")
        exits = heard(task, "exit")
        with task:
            pass
        exits.wait(1)
    text = caplog.text
    for move in ("new -> starting", "starting -> ready", "ready -> stopping"):
        assert f"'talkative': {move}" in text


class Observer:
    """A plug-in that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    @hookimpl
    def relieve_event(self, task: Any, name: str, record: Any) -> None:
        self.seen.append((task.name, name))


@pytest.mark.feature(119)
def test_a_callback_for_a_logger() -> None:
    observer = Observer()
    register(observer)
    try:
        task = CallableTask(KITCHEN, name="watched")
        exits = heard(task, "exit")
        with task:
            pass
        exits.wait(1)
    finally:
        unregister(observer)
    names = [name for task_name, name in observer.seen if task_name == "watched" and name != "state"]
    assert names == ["start", "ready", "exit"]


@pytest.mark.feature(120)
def test_output_goes_to_a_file_that_is_rotated(tmp_path: Path) -> None:
    with CallableTask(KITCHEN, output=Output(tmp_path / "out.log", max_bytes=50)) as task:
        for _ in range(3):
            task.get("chatter", 20).result(T)
    whole = "".join((tmp_path / f"out.log{end}").read_text() for end in (".2", ".1", ""))
    assert [line for line in whole.splitlines() if set(line) == {"x"}] == ["x" * 20] * 3


@pytest.mark.feature(121)
def test_a_task_as_json_and_as_text(served: CallableTask) -> None:
    told = json.loads(json.dumps(served.to_dict()))
    assert (told["name"], told["kind"], told["state"]) == (served.name, "CallableTask", "ready")
    assert (told["pid"], told["restarts"], told["exit"]) == (served.pid, 0, None)
    assert told["script"] == KITCHEN
    for part in (served.name, "ready", str(served.pid)):
        assert part in repr(served)


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.feature(122)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGABRT])
def test_a_child_is_killed_with_a_chosen_signal(signum: signal.Signals) -> None:
    task = CallableTask(KITCHEN)
    task.start().result(T)
    exit = task.kill(signum).result(T)
    assert (exit.code, exit.signal) == (None, signum.name)


@pytest.mark.feature(123)
def test_a_grace_then_sigkill() -> None:
    task = CallableTask(KITCHEN, kill_timeout=0.2)
    task.get("ignore_sigterm").result(T)
    began = task.wait_for("hanging")
    reply = task.get("hang_uninterruptibly")
    began.result(T)
    exit = task.stop().result(T)
    assert (exit.signal, exit.forced) == ("SIGKILL", True)
    assert exit.uptime > 0.2
    with pytest.raises(TaskDied):
        reply.result(T)


@pytest.mark.feature(124)
def test_a_soft_stop_finishes_the_work(gate: Callable[[], Any]) -> None:
    door = gate()
    task = CallableTask(KITCHEN)
    waiting = task.wait_for("waiting")
    reply = task.get("wait_for_file", door.path)
    waiting.result(T)
    stopped = task.stop()
    door.open("finished")
    assert reply.result(T) == "finished"
    assert stopped.result(T).code == 0


@pytest.mark.feature(125)
def test_a_hard_stop() -> None:
    task = CallableTask(KITCHEN)
    began = task.wait_for("hanging")
    reply = task.get("hang")
    began.result(T)
    pid = task.pid
    assert task.kill().result(T).signal == "SIGKILL"
    assert wait_gone(pid, 0)
    with pytest.raises(TaskDied):
        reply.result(T)


@pytest.mark.feature(126)
def test_hooks_in_the_child_for_a_soft_and_a_hard_stop() -> None:
    task = CallableTask(script("task.py"))
    soft = task.wait_for("stopped")
    with task:
        pass
    assert soft.result(T) == ()
    task = CallableTask(KITCHEN)
    task.get("leave_now", signal.SIGTERM).result(T)
    hard = task.wait_for("hard stop")
    exit = task.kill(signal.SIGTERM).result(T)
    assert hard.result(T) == ()
    assert exit.code == 9


@pytest.mark.feature(127)
def test_sigint_is_ignored_and_can_be_overridden() -> None:
    with CallableTask(KITCHEN) as task:
        task.send_signal(signal.SIGINT)
        assert task.get("pid").result(T) == task.pid
        task.get("on_signal", signal.SIGINT).result(T)
        told = task.wait_for("signal")
        task.send_signal(signal.SIGINT)
        assert told.result(T) == ("SIGINT",)
        assert task.restarts == 0


@pytest.mark.feature(128)
def test_children_die_with_the_manager(program: Callable[..., Any]) -> None:
    with program(
        f"""
        import relieve_py
        task = relieve_py.CallableTask({KITCHEN!r})
        task.start().result(20)
        print(task.pid, flush=True)
        input()
        """
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    assert wait_gone(pid, 2)


@pytest.mark.feature(129)
def test_new_work_is_refused_when_stopping(gate: Callable[[], Any]) -> None:
    door = gate()
    worker = CloudWorker(CallableTask(KITCHEN), size=1)
    waiting = worker.wait_for("waiting")
    reply = worker.get("wait_for_file", door.path)
    waiting.result(T)
    queued = worker.get("echo", 1)
    stopped = worker.stop()
    for refused in (queued, worker.get("echo", 2), next(iter(worker)).get("echo", 3)):
        with pytest.raises(Stopped):
            refused.result(T)
    door.open("done")
    assert reply.result(T) == "done"
    assert [exit.code for exit in stopped.result(T)] == [0]


# -- configuration ---------------------------------------------------------------------------------


@pytest.mark.feature(130)
def test_options_are_validated_by_name() -> None:
    with pytest.raises(TypeError, match=r"'colour'; its options are: .*kill_timeout"):
        CallableTask(KITCHEN, colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="start_timeout"):
        CallableTask(KITCHEN, start_timeout=-1)
    with pytest.raises(TypeError, match="restart"):
        ScriptTask(KITCHEN, restart="yes")  # type: ignore[arg-type]


@pytest.mark.feature(131)
def test_working_directory_environment_and_interpreter_options(launcher: str, tmp_path: Path) -> None:
    os.environ["FROM_PARENT"] = "inherited"
    try:
        with CallableTask(KITCHEN, cwd=tmp_path, env={"COLOUR": "blue"}, launcher=launcher) as task:
            assert task.get("cwd").result(T) == str(tmp_path)
            assert task.get("env", "COLOUR").result(T) == "blue"
            assert task.get("env", "FROM_PARENT").result(T) == "inherited"
            warnings, _, path = task.get("interpreter").result(T)
            assert warnings == sys.warnoptions
            assert set(filter(None, sys.path)) <= set(path)
    finally:
        del os.environ["FROM_PARENT"]
    assert "COLOUR" not in os.environ


@pytest.mark.feature(131)
def test_a_child_has_the_environment_of_its_launch(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")  # which the server process was made with
    monkeypatch.setenv("HOME", "/elsewhere")
    with CallableTask(KITCHEN, launcher=launcher) as task:
        assert task.get("env", "PATH").result(T) is None
        assert task.get("env", "HOME").result(T) == "/elsewhere"


@pytest.mark.feature(131)
def test_flags_of_the_interpreter_are_inherited(launcher: str, program: Callable[..., Any]) -> None:
    code = f"""
        import relieve_py, sys
        with relieve_py.CallableTask({KITCHEN!r}, launcher={launcher!r}) as task:
            warnings, options, path = task.get("interpreter").result(20)
        print(warnings == sys.warnoptions and len(warnings) > 0, options.get("utf8"))
    """
    out, err = program(code, flags=["-X", "utf8"]).communicate(timeout=T)
    assert out == "True True\n", err


@pytest.mark.feature(132)
def test_debug_flags_are_not_inherited(launcher: str, program: Callable[..., Any]) -> None:
    code = f"""
        import relieve_py, sys, threading
        def trace(frame, event, arg):
            return None
        sys.settrace(trace)
        sys.setprofile(trace)
        threading.settrace(trace)
        with relieve_py.CallableTask({KITCHEN!r}, launcher={launcher!r}) as task:
            print(task.get("debugger").result(20))
    """
    out, err = program(code, flags=["-X", "importtime"]).communicate(timeout=T)
    assert out == "(True, True, 0, 0)\n", err
