"""A child that is about to be killed is told so, and then dies of what killed it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import T, heard

from relieve_py import CallableTask, TaskDied, ipc
from relieve_py.testing import Simulation


def arm(*texts: str) -> None:
    """Tell the parent each of these in the end; one that is empty raises."""
    for text in texts:

        def tell(text: str = text) -> None:
            if not text:
                raise SystemExit("not me")
            ipc.send("told", text)

        ipc.before_kill(tell)


def hang() -> None:
    ipc.send("hanging")
    while True:
        time.sleep(60)


def handled_before(path: str) -> None:
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(5))
    arm("first")


def fork_and_end_it() -> int:
    up, says_so = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(says_so, b"!")
        signal.pause()
    os.read(up, 1)
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def arm_in_a_thread() -> str:
    found: list[str] = []

    def try_it() -> None:
        try:
            arm("never")
        except ValueError as error:
            found.append(str(error))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return found[0]


class functions:  # a script
    arm = staticmethod(arm)
    hang = staticmethod(hang)
    handled_before = staticmethod(handled_before)
    fork_and_end_it = staticmethod(fork_and_end_it)
    arm_in_a_thread = staticmethod(arm_in_a_thread)


@pytest.fixture
def task() -> Any:
    return CallableTask(functions, kill_timeout=0.1, restart=False)


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
