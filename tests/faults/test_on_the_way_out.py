"""Cases 35 to 43 of the fault table: what goes wrong after a call ran."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import results
from faulting import DEADLINE, Ended, Pool, Row, case, error, value
from sizes import FULL

from relieve_py import CallableTask, DecodeError, EncodeError, RemoteError, TaskDied
from relieve_py.errors import RemoteTraceback

Alone = Callable[..., CallableTask]
SCRIPT = str(Path(__file__).parent / "scripts" / "results.py")
RESULT = ("get", "map")  # the ways that have one


# -- results ---------------------------------------------------------------------------------------


BROKEN = [
    case(35, "result", "generator", ends=error(EncodeError, "generator"), ways=RESULT, id="generator"),
    case(35, "result", "frame", ends=error(EncodeError, "frame"), ways=RESULT, id="frame"),
    case(35, "result", "raises when sent", ends=error(EncodeError, "invalid literal"), ways=RESULT, id="raises"),
    case(35, "result", "interrupts when sent", ends=error(RemoteError, "thrown"), ways=RESULT, id="interrupts"),
    case(36, "result", "leaves when sent", ends=error(TaskDied, exit_code=3), ways=RESULT, id="sys.exit"),
    case(36, "result", "leaves at once when sent", ends=error(TaskDied, exit_code=0), ways=RESULT, id="os._exit"),
    case(37, "result", "crashes when sent", ends=error(TaskDied, signal="SIGSEGV"), ways=RESULT, id="segfault"),
    case(38, "result", "raises when built", ends=error(DecodeError, "invalid literal"), ways=RESULT, id="raises-here"),
    case(38, "result", "raises without text when built", ends=error(DecodeError, "NoText"), ways=RESULT, id="no-text"),
    case(38, "result", "stops when built", ends=error(DecodeError, "thrown"), ways=RESULT, id="stops-here"),
    case(39, "result", "leaves when built", ends=error(DecodeError, "SystemExit"), ways=RESULT, id="sys.exit-here"),
]


@pytest.mark.parametrize("row", BROKEN)
def test_a_result_that_does_harm_where_it_is_sent_or_rebuilt_costs_its_call(pool: Pool, row: Row) -> None:
    pool.bears(row)
    value(None).check(pool.make("call", "result", *row.args))  # which has no result


@pytest.mark.parametrize("row", BROKEN)
def test_an_item_that_does_harm_where_it_is_sent_or_rebuilt_ends_its_stream(pool: Pool, row: Row) -> None:
    stream = pool.worker.stream("items", *row.args)
    assert next(stream) == "first"
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the row says which
        next(stream)
    row.ends.check(Ended(error=caught.value))
    assert list(stream) == []


@pytest.mark.fault(41)
def test_files_locks_and_modules_are_returned(pool: Pool) -> None:
    for way in RESULT:
        with pool.make(way, "result", "file").value as file:
            assert file.read() == Path(SCRIPT).read_text()
        assert pool.make(way, "result", "lock").value.acquire(blocking=False)
        assert pool.make(way, "result", "module").value is os


@pytest.mark.fault(41)
def test_a_generator_is_returned_as_a_stream_and_else_the_error_says_so(pool: Pool) -> None:
    for way in RESULT:
        error(EncodeError, "stream()").check(pool.make(way, "result", "generator"))
    assert list(pool.worker.stream("result", "generator")) == [0, 1, 2]


@pytest.mark.fault(42)
def test_a_child_that_dies_half_way_through_a_large_result(pool: Pool) -> None:
    nbytes = 1 << 30 if FULL else 64 << 20
    error(TaskDied, signal="SIGKILL", method="die_half_way").check(pool.make("get", "die_half_way", nbytes))
    error(TaskDied, signal="SIGKILL").check(pool.make("map", "die_half_way", 1 << 20))


@pytest.mark.fault(38)
@pytest.mark.parametrize("kind", ["raises when built", "leaves when built", "stops when built"])
def test_a_question_that_cannot_be_rebuilt_is_answered_all_the_same(pool: Pool, kind: str) -> None:
    pool.worker.on("question", lambda value: value)
    error(DecodeError, "an event cannot be rebuilt").check(pool.make("get", "ask", kind))
    pool.worker.off("question")


@pytest.mark.fault(35)
@pytest.mark.parametrize("kind", ["generator", "raises when sent", "leaves when sent", "stops when sent"])
def test_an_answer_that_cannot_be_sent_is_an_error_in_the_child(pool: Pool, kind: str) -> None:
    pool.worker.on("question", lambda value: results.OBJECTS[kind]())
    error(EncodeError, "cannot be sent").check(pool.make("get", "ask", "lock"))
    pool.worker.off("question")


# -- exceptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        case(40, "fail", "odd init", ends=error(RemoteError, "odd", type="results.OddInit")),
        case(40, "fail", "unsendable", ends=error(RemoteError, "with a frame", type="results.Unsendable")),
        case(40, "fail", "no text", ends=error(results.NoText)),
        case(40, "fail", "leaves in text", ends=error(TaskDied, exit_code=4)),
        case(40, "fail", "leaves when built", ends=error(RemoteError, "leaving")),
        case(40, "fail", "stops when built", ends=error(RemoteError, "stopping")),
        case(40, "fail", "local", ends=error(Exception, "local")),
        case(40, "fail", "notes", ends=error(ValueError, "noted", __notes__=["a note"])),
        case(40, "fail", "cause", ends=error(ValueError, "0")),
        case(40, "fail", "context", ends=error(ValueError, "in context")),
        case(40, "fail", "deep", ends=error(ValueError, "2999")),
        case(40, "fail", "circle", ends=error(ValueError, "a circle")),
        case(40, "fail", "group", ends=error(ExceptionGroup, "a group (2 sub-exceptions)")),
        case(40, "fail", "stop iteration", ends=error((StopIteration, RuntimeError), "")),
        case(40, "fail", "time", ends=error(TimeoutError, "of its own")),
        case(40, "fail", "cancelled", ends=error(RemoteError, "of its own")),
        case(40, "fail", "huge", ends=error(ValueError, "x" * 9_999)),
    ],
)
def test_an_exception_of_any_kind_arrives(pool: Pool, row: Row) -> None:
    pool.bears(row)


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("odd init", ("OddInit: odd", "raise EXCEPTIONS[kind]()")),
        ("unsendable", ("Unsendable: with a frame", "results.py")),
        ("no text", ("NoText", "raise EXCEPTIONS[kind]()")),
        ("leaves when built", ("LeavesWhenBuilt: leaving", "results.py")),
        ("notes", ("ValueError: noted", "a note")),
        ("cause", ("KeyError: 'the innermost'", "direct cause", "ValueError: 0")),
        ("context", ("KeyError: 'the context'", "another exception occurred", "ValueError: in context")),
        ("group", ("a group (2 sub-exceptions)", "ValueError: 1", "KeyError: 2")),
    ],
)
def test_whatever_becomes_of_an_exception_its_traceback_arrives(pool: Pool, kind: str, texts: tuple[str, ...]) -> None:
    failure = pool.make("get", "fail", kind).error
    assert failure is not None
    assert isinstance(failure.__cause__, RemoteTraceback)
    for text in texts:
        assert text in failure.__cause__.traceback


# -- streams ---------------------------------------------------------------------------------------


@pytest.mark.fault(43)
@pytest.mark.parametrize(("function", "cls"), [("rows_then_raise", KeyError), ("rows_then_die", TaskDied)])
def test_a_generator_that_fails_after_some_items_has_given_them(
    pool: Pool, function: str, cls: type[Exception]
) -> None:
    for n in (0, 5, 100):
        stream = pool.worker.stream(function, n)
        assert [next(stream) for _ in range(n)] == list(range(n))
        with pytest.raises(cls):
            next(stream)
        assert list(stream) == []


@pytest.mark.fault(43)
@pytest.mark.parametrize("how", ["closed", "dropped", "left"])
def test_a_generator_is_closed_when_its_reader_leaves(pool: Pool, alone: Alone, how: str) -> None:
    task = alone(kill_timeout=DEADLINE)
    for n in range(6):
        stream = task.stream("rows", 10**9)
        assert [next(stream) for _ in range(10 * n + 1)] == list(range(10 * n + 1))
        if how == "closed":
            stream.close()
            assert list(stream) == []
        elif how == "left":
            with stream:
                assert next(stream) == 10 * n + 1
        del stream
        gc.collect()
    assert task.get("closed").result(DEADLINE) == 6, "each generator ran its finally"
    assert task.restarts == 0


@pytest.mark.fault(43)
def test_a_slow_reader_gets_every_item_and_holds_nobody_up(pool: Pool) -> None:
    stream, got = pool.worker.stream("rows", 200), []
    pause = threading.Event()  # never set: the reader is slow by itself
    for item in stream:
        got.append(item)
        if item % 40 == 0:
            pause.wait(0.02)
            assert pool.worker.get("echo", item).result(DEADLINE) == item
    assert got == list(range(200))


@pytest.mark.fault(43)
def test_a_generator_that_is_abandoned_by_a_coroutine_is_closed(pool: Pool) -> None:
    async def read() -> int:
        async for item in pool.worker.stream("rows", 10**9):
            if item == 50:
                return item
        return -1

    assert asyncio.run(read()) == 50
    gc.collect()
    assert pool.worker.drain().result(DEADLINE) is pool.worker
