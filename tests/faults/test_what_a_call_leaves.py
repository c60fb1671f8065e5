"""Cases 28 to 34 of the fault table: what a call prints, starts, changes and leaves behind in its child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import IO

import pytest
from faulting import DEADLINE, FAULTY, Pool, Row, case, error, make_task, value
from processes import signal_child, wait_gone, wait_reaped
from sizes import size

from relieve_py import CallableTask, CallTimeout, CloudWorker, OutputLine

Alone = Callable[..., CallableTask]
Program = Callable[..., "subprocess.Popen[str]"]


# -- what it prints --------------------------------------------------------------------------------


class Count(threading.Thread):
    """Reads a pipe to its end and counts the bytes."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__()
        self.pipe, self.nbytes = pipe, 0
        self.start()

    def run(self) -> None:
        while data := self.pipe.read(1 << 20):
            self.nbytes += len(data)


@pytest.mark.fault(28)
@pytest.mark.timeout(120)
def test_a_child_that_prints_without_end(launcher: str, tmp_path: Path) -> None:
    megabytes = size(64, 1024)
    path = tmp_path / "program.py"
    path.write_text(f"""
from relieve_py import CallableTask, CloudWorker

if __name__ == "__main__":
    with CloudWorker(CallableTask({FAULTY!r}, launcher={launcher!r}), size=2) as worker:
        flood = worker.get("print_much", {megabytes})
        for n in range(100):
            assert worker.get("echo", n).result({DEADLINE}) == n
        assert flood.result(100) == {megabytes}
""")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        counts = Count(program.stdout), Count(program.stderr)
        assert program.wait(110) == 0
        for count in counts:
            count.join()
            assert count.nbytes == megabytes << 20


# -- processes of its own --------------------------------------------------------------------------


@pytest.mark.parametrize("row", [case(29, "use_a_process_pool", 3, ends=value([0, 1, 4]))])
def test_a_child_may_use_a_pool_of_its_own(pool: Pool, row: Row) -> None:
    pool.bears(row)


@pytest.mark.fault(29)
@pytest.mark.parametrize("end", ["killed", "stopped"])
@pytest.mark.parametrize("function", ["fork_a_copy", "leave_a_daemon", "start_a_program", "leave_a_process_pool"])
def test_what_a_child_leaves_behind_ends_with_it(pool: Pool, alone: Alone, function: str, end: str) -> None:
    task = alone()
    left = task.get(function).result(DEADLINE)
    os.kill(left, 0)
    assert task.get("echo", 1).result(DEADLINE) == 1
    if end == "killed":
        signal_child(task, signal.SIGKILL)
    else:
        task.restart().result(DEADLINE)
    assert wait_gone(left)
    assert task.get("echo", 2).result(DEADLINE) == 2


@pytest.mark.fault(29)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is init's")
def test_what_a_call_leaves_behind_ends_with_its_own_child_and_leaves_no_zombie(pool: Pool, alone: Alone) -> None:
    first, second = alone(), alone()
    pids = first.pid, second.pid
    ended, *left = (task.get("leave_a_daemon").result(DEADLINE) for task in (first, first, second))
    os.kill(ended, signal.SIGKILL)
    assert wait_reaped(ended), "though its child lives"
    assert (first.pid, second.pid) == pids
    signal_child(first, signal.SIGKILL)
    assert first.get("echo", 1).result(DEADLINE) == 1
    assert wait_reaped(left[0])
    assert not wait_gone(left[1], 0), "its child lives"
    second.restart().result(DEADLINE)
    assert wait_reaped(left[1])


@pytest.mark.fault(29)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is init's")
def test_what_a_child_leaves_behind_ends_with_it_where_limits_cannot_be_set(launcher: str, program: Program) -> None:
    code = f"""
        import os, resource, select, signal
        from relieve_py import CallableTask
        resource.setrlimit(10, (0, 0))
        with CallableTask({FAULTY!r}, launcher={launcher!r}) as task:
            left = os.pidfd_open(task.get("leave_a_daemon").result(20))
            os.kill(task.pid, signal.SIGKILL)
            assert select.select([left], [], [], 20)[0]
            assert task.get("echo", "fine").result(20) == "fine"
        print("fine")
    """
    with program(code) as parent:
        out, err = parent.communicate(timeout=DEADLINE)
    assert out == "fine\n", err


@pytest.mark.fault(29)
def test_a_call_that_returns_twice_is_answered_once(pool: Pool, alone: Alone) -> None:
    """The copy of the child ends, and not its child with it."""
    task = alone()
    pid = task.pid
    copy = task.get("fork_and_return_twice").result(DEADLINE)
    assert copy > 0
    assert wait_gone(copy)
    assert [task.get("echo", n).result(DEADLINE) for n in range(3)] == [0, 1, 2]
    assert (task.pid, task.restarts) == (pid, 0)


@pytest.mark.fault(29)
def test_the_copy_says_what_it_should_do_instead() -> None:
    lines: list[str] = []
    told = threading.Event()

    def hear(line: OutputLine) -> None:
        lines.append(line.text)
        told.set()

    with CallableTask(FAULTY, output=hear) as task:
        copy = task.get("fork_and_return_twice").result(DEADLINE)
        assert wait_gone(copy)
        assert told.wait(DEADLINE)
    assert len(lines) == 1, "no traceback of the library"
    assert "have it os._exit()" in lines[0]


# -- what it changes -------------------------------------------------------------------------------


@pytest.mark.fault(30)
def test_a_child_that_replaces_its_signal_handlers_cannot_be_interrupted_and_is_replaced(
    pool: Pool, alone: Alone
) -> None:
    task = alone()
    assert task.get("replace_handlers").result(DEADLINE) is None
    pid = task.pid
    with pytest.raises(CallTimeout):
        task.options(timeout=0.1).get("sleep_for_ever").result(DEADLINE)
    assert task.get("echo", 1).result(DEADLINE) == 1
    assert task.pid != pid


@pytest.mark.fault(23)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_child_that_ignores_signals_is_killed_in_time(pool: Pool, alone: Alone, signum: int) -> None:
    task = alone()
    assert task.get("ignore_signals").result(DEADLINE) is None
    assert task.get("echo", 1).result(DEADLINE) == 1
    exit = task.kill(signum).result(DEADLINE)
    assert (exit.signal, exit.forced) == ("SIGKILL", True)


@pytest.mark.fault(31)
def test_what_a_child_changes_of_its_surroundings_ends_with_it(pool: Pool, alone: Alone) -> None:
    task = alone()
    before = task.get("surroundings").result(DEADLINE)
    task.get("change_surroundings").result(DEADLINE)
    assert task.get("surroundings").result(DEADLINE) == ("/", {}, [], 0o777)
    assert task.get("echo", 1).result(DEADLINE) == 1
    task.restart().result(DEADLINE)
    assert task.get("surroundings").result(DEADLINE) == before


@pytest.mark.fault(32)
def test_a_child_that_crashes_between_two_calls_costs_none(pool: Pool, alone: Alone) -> None:
    task = alone()
    exited = task.wait_for("exit")
    assert task.get("hide_bomb").result(DEADLINE) == "hidden"
    task.send("now").mark_seen()
    assert exited.result(DEADLINE)[0].code == 9
    assert task.get("echo", 1).result(DEADLINE) == 1
    assert task.restarts == 1


@pytest.mark.fault(33)
def test_a_thread_left_running_holds_nothing_up(pool: Pool, alone: Alone) -> None:
    task = alone()
    assert task.get("leave_a_thread").result(DEADLINE) is None
    assert [task.get("echo", n).result(DEADLINE) for n in range(3)] == [0, 1, 2]
    began = time.monotonic()
    exit = task.stop(0.1).result(DEADLINE)
    assert exit.forced
    assert time.monotonic() - began < DEADLINE / 2


@pytest.mark.fault(33)
def test_a_call_runs_in_a_main_thread_like_any_other(pool: Pool) -> None:
    """A thread that it starts is joined before the child leaves, unless it was made a daemon."""
    value(("MainThread", False, True, False)).check(pool.make("get", "main_thread"))


# -- who waits for whom ----------------------------------------------------------------------------


@pytest.mark.fault(34)
def test_a_call_that_asks_its_parent_which_waits_for_the_same_child_ends_with_its_time(
    pool: Pool, alone: Alone
) -> None:
    task = alone()
    task.on("deep", lambda: task.get("echo", 5).result(DEADLINE))
    ended = task.options(timeout=0.2).get("ask", "deep")
    with pytest.raises(CallTimeout):
        ended.result(DEADLINE)
    assert task.get("echo", 1).result(DEADLINE) == 1
    task.on("mirror", lambda: "image")
    assert task.get("ask", "mirror").result(DEADLINE) == "image"


@pytest.mark.fault(34)
def test_all_children_ask_their_parent_which_waits_for_any_of_them(launcher: str) -> None:
    with CloudWorker(make_task(launcher), size=2) as worker:
        worker.on("cross", lambda: wait([worker.get("echo", 5)], DEADLINE))
        asked = [worker.options(timeout=0.3).get("ask", "cross") for _ in range(2)]
        for reply in asked:
            assert isinstance(reply.exception(DEADLINE), CallTimeout)
        assert worker.get("echo", 1).result(DEADLINE) == 1
        assert worker.drain().result(DEADLINE) is worker


@pytest.mark.parametrize("row", [case(34, "ask", "nobody", ends=error(LookupError, "nobody listens"))])
def test_a_call_that_asks_when_nobody_listens(pool: Pool, row: Row) -> None:
    pool.bears(row)
