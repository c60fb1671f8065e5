"""Cases 1 to 11 of the fault table: what goes wrong before a call runs."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import faulty
import pytest
from faulting import DEADLINE, FAULTY, WAYS, Built, Pool, Row, case, error, stopped_child_of, value
from sizes import size

from relieve_py import CallableTask, DecodeError, EncodeError, RemoteError, TaskDied

INTERRUPTS = Built(faulty.raise_base, "KeyboardInterrupt")


class Holder:
    """Something with an unsendable part."""

    def __init__(self, part: Any) -> None:
        self.part = part


@pytest.mark.fault(1)
def test_an_argument_that_cannot_be_sent_is_named_and_no_child_is_touched(pool: Pool) -> None:
    before = [(task.pid, task.restarts) for task in pool.worker]
    unsendable = Holder({"a": [0, (n for n in range(3))]})
    for way in WAYS:
        error(EncodeError, "generator", path="args[0].part['a'][1]").check(pool.make(way, "echo", unsendable))
    results = pool.worker.map("echo", [1, unsendable, 2], return_exceptions=True)
    assert [type(result) for result in results] == [int, EncodeError, int]
    assert [(task.pid, task.restarts) for task in pool.worker] == before


@pytest.mark.parametrize(
    "row",
    [
        case(2, "echo", Built(sys.exit, 3), ends=error(DecodeError, "SystemExit"), accepted=False, id="exit"),
        case(3, "echo", Built(int, "x"), ends=error(DecodeError, "ValueError"), accepted=False, id="raises"),
        case(3, "echo", INTERRUPTS, ends=error(RemoteError, "Keyboard"), accepted=False, id="interrupts"),
        case(4, "echo", Built(os._exit, 0), ends=error(TaskDied, exit_code=0), accepted=False, id="os._exit"),
        case(5, "echo", Built(faulty.crash), ends=error(TaskDied, signal="SIGSEGV"), accepted=False, id="segfault"),
    ],
)
def test_an_argument_that_does_harm_where_it_is_rebuilt_costs_its_call(pool: Pool, row: Row) -> None:
    pool.bears(row)


@pytest.mark.fault(6)
def test_a_hundred_bad_calls_and_then_a_hundred_good_ones(pool: Pool) -> None:
    deadly = 50 if pool.launcher == "forkserver" else 6
    harm = [Built(os._exit, 4)] * deadly + [Built(int, "x")] * (100 - deadly)
    bad = [pool.worker.get("echo", built) for built in harm]
    good = [pool.worker.get("echo", n) for n in range(100)]
    assert [type(reply.exception(DEADLINE)) for reply in bad] == [TaskDied] * deadly + [DecodeError] * (100 - deadly)
    assert [reply.result(DEADLINE) for reply in good] == list(range(100))


@pytest.mark.fault(7)
def test_a_child_that_dies_while_a_large_argument_is_written(pool: Pool, alone: Callable[..., CallableTask]) -> None:
    """It never began the call, so the next child gets it, whole."""
    task = alone()
    pid = stopped_child_of(task)
    data = bytes(size(128 if pool.launcher == "forkserver" else 32, 256) << 20)
    large, items = task.get("size_of", data), task.stream("echo", [1, 2])
    os.kill(pid, signal.SIGKILL)
    assert large.result(DEADLINE) == len(data)
    assert list(items) == [1, 2]
    assert task.restarts == 1


@pytest.mark.fault(8)
def test_code_that_only_the_caller_has_is_sent_by_value(pool: Pool) -> None:
    seven = 7

    class Local:
        def __init__(self) -> None:
            self.value = seven

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Local) and other.value == self.value

        __hash__ = None  # type: ignore[assignment]

    def closure() -> int:
        return seven + 1

    for way in ("get", "map"):
        value(7).check(pool.make(way, "run", lambda: seven))
        value(8).check(pool.make(way, "run", closure))
        value(Local()).check(pool.make(way, "echo", Local()))
        value(Local()).check(pool.make(way, "run", Local))
    value([7, 8]).check(pool.make("stream", "run", lambda: [seven, closure()]))
    value(None).check(pool.make("call", "run", lambda: seven))


@pytest.mark.fault(8)
def test_classes_of_the_main_program_are_sent_by_value(
    launcher: str, program: Callable[..., subprocess.Popen[str]]
) -> None:
    with program(
        f"""
        from relieve_py import CallableTask

        class Mine:
            def __init__(self, n):
                self.n = n
            def double(self):
                return Mine(self.n * 2)

        def add(n):
            return lambda: Mine(n + 1)

        if __name__ == "__main__":
            with CallableTask({FAULTY!r}, launcher={launcher!r}) as task:
                mine = task.get("echo", Mine(4)).result(20)
                print(type(mine) is Mine, mine.n)
                print(next(task.map("run", [Mine(5).double])).n, task.get("run", add(6)).result(20).n)
        """
    ) as parent:
        out, err = parent.communicate(timeout=DEADLINE)
        assert (out, err) == ("True 4\n10 7\n", "")


@pytest.mark.fault(9)
def test_an_argument_that_holds_itself_and_one_that_is_too_deep(pool: Pool) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    for way in ("get", "map"):
        value(True).check(pool.make(way, "same", cycle))
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for way in ("get", "map"):
        error(EncodeError, "args[0]").check(pool.make(way, "echo", deep))


@pytest.mark.fault(10)
def test_a_message_above_the_limit_is_refused_before_it_is_sent(pool: Pool) -> None:
    before = [(task.pid, task.restarts) for task in pool.worker]
    large = memoryview(mmap.mmap(-1, (1 << 32) + 4096))  # only addresses: nothing is touched
    for way in WAYS:
        error(EncodeError, "above the frame limit").check(pool.make(way, "echo", large))
    with pytest.raises(EncodeError, match="above the frame limit"):
        pool.worker.send("event", large)
    assert [(task.pid, task.restarts) for task in pool.worker] == before
