"""Cases 12 to 27 of the fault table: what goes wrong while a call runs."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faulting import DEADLINE, Ended, Pool, Row, case, error, make_task, stopped_child_of, value
from processes import signal_child
from sizes import FULL

from relieve_py import CallableTask, CallCancelled, CallTimeout, CloudWorker, RemoteError, ScriptTask, TaskDied

Alone = Callable[..., CallableTask]
ALONE = {"timeout": 2 * DEADLINE}
"""What a call that has a time limit gives comes by the channel, not with that of others by shared memory."""
TOO_LONG = error(CallTimeout, "took longer than 0.1 seconds", timeout=0.1)


@pytest.mark.parametrize(
    "row",
    [
        case(12, "raise_key_error", ends=error(KeyError, "boom")),
        case(13, "leave", 3, ends=error(TaskDied, exit_code=3, signal=None)),
        case(14, "leave_at_once", 0, ends=error(TaskDied, exit_code=0, signal=None)),
        case(15, "leave_at_once", 3, ends=error(TaskDied, exit_code=3, signal=None)),
        case(16, "crash", ends=error(TaskDied, exit_code=None, signal="SIGSEGV")),
        case(17, "kill", ends=error(TaskDied, exit_code=None, signal="SIGKILL")),
        case(24, "raise_base", "KeyboardInterrupt", ends=error(RemoteError, "thrown", type="KeyboardInterrupt")),
        case(24, "raise_base", "GeneratorExit", ends=error(RemoteError, "thrown", type="GeneratorExit")),
        case(24, "raise_base", "OwnBase", ends=error(RemoteError, "thrown", type="faulty.OwnBase")),
        case(24, "raise_base", "CancelledError", ends=error(RemoteError, "thrown")),
        case(25, "allocate_too_much", ends=error(MemoryError)),
        case(26, "recurse", ends=error(RecursionError)),
        case(26, "recurse_in_c", ends=error((RecursionError, TaskDied))),
        case(27, "close_channel", ends=error(TaskDied), **ALONE),
        case(27, "close_everything", ends=error(TaskDied), **ALONE),
        case(27, "close_everything_and_stay", ends=error(TaskDied, signal="SIGKILL")),
        case(27, "write_garbage", 3, ends=error(TaskDied, signal="SIGKILL"), id="write_little_garbage", **ALONE),
        case(27, "write_garbage", 100_000, ends=error(TaskDied, signal="SIGKILL"), **ALONE),
        case(32, "leave_fragile", ends=value(None), ways=("get", "call", "map")),
        case(32, "return_bomb", ends=error(TaskDied, exit_code=9), ways=("get", "call", "map")),
    ],
)
def test_a_call_that_fails_or_ends_its_child_ends_with_one_error(pool: Pool, row: Row) -> None:
    pool.bears(row)


@pytest.mark.parametrize(
    "row",
    [
        case(19, "stop_itself", ends=TOO_LONG, timeout=0.1),
        case(20, "spin", ends=TOO_LONG, timeout=0.1),
        case(21, "spin_in_c", ends=TOO_LONG, timeout=0.1),
        case(22, "read_for_ever", ends=TOO_LONG, timeout=0.1),
        case(22, "lock_for_ever", ends=TOO_LONG, timeout=0.1),
        case(22, "sleep_for_ever", ends=TOO_LONG, timeout=0.1),
        case(22, "await_for_ever", ends=TOO_LONG, timeout=0.1),
        case(22, "swallow_for_ever", ends=TOO_LONG, timeout=0.1),
    ],
)
def test_a_call_that_does_not_come_back_ends_with_its_time(pool: Pool, row: Row) -> None:
    pool.bears(row)


@pytest.mark.fault(19)
def test_a_stopped_child_is_noticed_by_its_heartbeat(pool: Pool, alone: Alone) -> None:
    task = alone(heartbeat=0.4)
    pid = stopped_child_of(task)
    lost = task.get("echo", 1)
    exit = task.wait_for("exit").result(DEADLINE)[0]
    assert (exit.pid, exit.signal, exit.forced) == (pid, "SIGKILL", True)
    assert lost.result(DEADLINE) == 1, "it never began"
    asleep = task.get("stop_itself")
    assert isinstance(asleep.exception(DEADLINE), TaskDied)
    assert task.get("echo", 2).result(DEADLINE) == 2


@pytest.mark.fault(19)
def test_a_child_that_holds_the_interpreter_for_less_than_the_heartbeat_stays(pool: Pool, alone: Alone) -> None:
    task = alone(heartbeat=DEADLINE)
    pid = task.pid
    assert task.get("hold_the_interpreter", 0.5).result(DEADLINE) == 0.5
    assert (task.pid, task.restarts) == (pid, 0)


@pytest.mark.fault(20)
@pytest.mark.parametrize("function", ["spin", "spin_in_c", "swallow_for_ever", "stop_itself"])
def test_a_call_that_does_not_come_back_can_be_cancelled(pool: Pool, alone: Alone, function: str) -> None:
    task = alone()
    reply, after = task.get(function), task.get("echo", 1)
    assert task.call("echo").done() is False
    assert reply.cancel()
    with pytest.raises(CallCancelled):
        reply.result(DEADLINE)
    assert after.result(DEADLINE) == 1


@pytest.mark.fault(22)
def test_an_interrupt_that_wakes_nobody_is_repeated(pool: Pool, alone: Alone) -> None:
    task = alone(kill_timeout=DEADLINE)
    pid = task.pid
    TOO_LONG.check(Ended(error=task.options(timeout=0.1).get("miss_the_interrupt").exception(DEADLINE)))
    assert task.get("echo", 1).result(DEADLINE / 2) == 1
    assert task.pid == pid


@pytest.mark.fault(22)
def test_a_stop_that_wakes_nobody_is_repeated(launcher: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import faulty\nfrom relieve_py import ipc\nipc.send('begun')\nfaulty.miss_the_interrupt()\n")
    task = ScriptTask(program, launcher=launcher, kill_timeout=DEADLINE)
    begun = task.wait_for("begun")
    with task:
        begun.result(DEADLINE)
        exit = task.stop().result(DEADLINE / 2)
        assert (exit.code, exit.forced) == (0, False)


@pytest.mark.fault(17)
def test_children_killed_from_outside_cost_at_most_what_they_ran(pool: Pool) -> None:
    pool.load.forgive(TaskDied)
    for _ in range(3):
        replies = [pool.worker.get("echo", n) for n in range(20)]
        killed = 0
        for task in pool.worker:
            if task.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # killed the time before, and that is not known here yet
                    signal_child(task, signal.SIGKILL)
                killed += 1
        ends = [reply.exception(DEADLINE) for reply in replies]
        lost = [end for end in ends if end is not None]
        assert len(lost) <= killed
        for end in lost:
            assert isinstance(end, TaskDied)
            assert (end.signal, end.method) == ("SIGKILL", "echo")
        assert [reply.result() for reply, end in zip(replies, ends, strict=True) if end is None] == [
            n for n, end in enumerate(ends) if end is None
        ]


@pytest.mark.fault(18)
@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_children_that_kill_each_other(launcher: str, count: int) -> None:
    if launcher == "spawn" and count > 5 and not FULL:
        pytest.skip("so many interpreters take seconds to start: with RELIEVE_FULL only")
    with CloudWorker(make_task(launcher), size=count) as worker:
        tasks = list(worker)
        pids = [task.get("echo").result(DEADLINE) or task.pid for task in tasks]
        victims = [*pids[1:], pids[0]]
        kills = [task.get("kill", victim) for task, victim in zip(tasks, victims, strict=True)]
        others = [worker.get("echo", n) for n in range(2 * count)]
        dead = []
        for reply, pid, victim in zip(kills, pids, victims, strict=True):
            end = reply.exception(DEADLINE)
            assert end is None or isinstance(end, (TaskDied, ProcessLookupError))
            if isinstance(end, TaskDied):
                assert (end.pid, end.signal) == (pid, "SIGKILL")
                dead.append(end.pid)
            elif end is None:
                assert reply.result() == victim
        for n, reply in enumerate(others):  # one whose own kill was done may have run another call when it was killed
            end = reply.exception(DEADLINE)
            assert reply.result() == n if end is None else isinstance(end, TaskDied)
            if isinstance(end, TaskDied):
                dead.append(end.pid)
        assert set(dead) <= set(pids)
        assert len(set(dead)) == len(dead), "each death costs one call"
        assert len({task.get("echo", n).result(DEADLINE) or task.pid for n, task in enumerate(tasks)}) == count
