"""A child that is about to be killed is told so, and then dies of what killed it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from support import T, heard, script

from relieve_py import CallableTask, TaskDied, ipc
from relieve_py.testing import Simulation


@pytest.fixture
def task() -> Any:
    return CallableTask(script("noticing.py"), kill_timeout=0.1, restart=False)


@pytest.mark.feature(126)
def test_one_that_does_not_leave_in_time_is_told_before_it_is_killed(task: CallableTask) -> None:
    told, hanging = heard(task, "told"), task.wait_for("hanging")
    task.get("arm", "one", "", "two").result(T)
    reply = task.get("hang")
    hanging.result(T)
    exit = task.stop().result(T)
    assert told.wait(2) == [("one",), ("two",)]
    assert (exit.signal, exit.forced) == ("SIGTERM", True)
    assert "SystemExit: not me" in exit.stderr
    assert isinstance(reply.exception(T), TaskDied)


def test_one_that_is_killed_by_sigterm_is_told_and_one_by_sigkill_is_not(task: CallableTask) -> None:
    for signum, expected in ((signal.SIGTERM, [("end",)]), (signal.SIGKILL, [])):
        told = heard(task, "told")
        task.start().result(T)
        task.get("arm", "end").result(T)
        assert task.kill(signum).result(T).signal == signal.Signals(signum).name
        assert told == expected
        task.off("told")


def test_a_soft_stop_in_time_is_none(task: CallableTask) -> None:
    told = heard(task, "told")
    task.get("arm", "end").result(T)
    assert task.stop(T).result(T).code == 0
    assert told == []


def test_a_handler_that_was_there_runs_after_it(task: CallableTask, tmp_path: Path) -> None:
    told = heard(task, "told")
    task.get("handled_before", str(tmp_path)).result(T)
    exit = task.kill(signal.SIGTERM).result(T)
    assert (exit.code, told.wait(1)) == (5, [("first",)])


def test_a_process_that_the_child_forks_is_not_concerned(task: CallableTask) -> None:
    told = heard(task, "told")
    task.get("arm", "end").result(T)
    assert task.get("fork_and_end_it").result(T) == -signal.SIGTERM
    assert told == []
    task.kill().result(T)


def test_wrong_use(task: CallableTask) -> None:
    with pytest.raises(TypeError, match="before_kill takes a function"):
        ipc.before_kill(3)  # type: ignore[arg-type]
    assert "main thread" in task.get("arm_in_a_thread").result(T)
    task.kill().result(T)


class Cook:
    def hang(self) -> None:
        ipc.before_kill(lambda: ipc.send("told", "simulated"))
        ipc.send("hanging")


def test_a_simulated_child_is_told_too() -> None:
    with Simulation():
        task = CallableTask(Cook)
        told = heard(task, "told")
        task.get("hang").result()
        assert task.kill(signal.SIGTERM).result().signal == "SIGTERM"
    assert told == [("simulated",)]
