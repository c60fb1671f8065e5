"""Large data of calls, results, streams and events: as it was sent, its receiver's own, and gone when it is let go."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import SCRIPTS

from relieve_py import CallableTask, CloudWorker, Limits, TaskDied
from relieve_py.lending import LEND
from relieve_py.segments import Share

LARGE = str(SCRIPTS / "large.py")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no such memory elsewhere")


@pytest.fixture(scope="module")
def large(launcher: str) -> Iterator[CallableTask]:
    """A task that has had large data both ways."""
    with CallableTask(LARGE, launcher=launcher) as task:
        warm(task)
        yield task


def warm(task: CallableTask) -> None:
    """Have large data go both ways until the child lends, too: it is sent its segment soon, but not at once."""
    for _ in range(10_000):
        result = task.get("echo", np.zeros(LEND, "u1")).result()
        if lends(task) or sys.platform != "linux":
            return
        del result
    pytest.fail("the child lends nothing")


def lends(task: CallableTask) -> bool:
    """Whether this process sees something that the child has lent."""
    birth = task._slot.birth
    borrower = birth.channel.lending.borrower if birth is not None and birth.channel.lending is not None else None
    return borrower is not None and bool(borrower._leases)


@pytest.fixture
def task() -> Iterator[CallableTask]:
    """The same of a test's own."""
    with CallableTask(LARGE) as task:
        warm(task)
        yield task


def mappings() -> int:
    """How many segments this process sees."""
    with open("/proc/self/maps") as file:
        return sum("memfd:relieve_py_segment" in line for line in file)


SIZES = [LEND // 2, LEND - 1, LEND, 8 * LEND + 3]


@pytest.mark.parametrize("size", SIZES)
def test_data_of_any_size_comes_back_equal_and_of_its_type(large: CallableTask, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    array = np.frombuffer(data, "u1")[:size].reshape(1, -1)
    sent: list[Any] = [data[:size], bytearray(data[:size]), memoryview(data)[:size], array, "t" * size]
    sent.append({"a": [data[:size], {"deep": (data[:size],)}], "b": array})
    for value in sent:
        got = large.get("echo", value).result()
        assert type(got) is type(value)
        np.testing.assert_equal(got, value)


@pytest.mark.parametrize("serializer", ["json", "cbor"])
def test_other_serializers_carry_large_data(serializer: str) -> None:
    if serializer == "cbor":
        pytest.importorskip("cbor2")
    with CallableTask(LARGE, serializer=serializer) as task:
        for _ in range(3):
            assert task.get("echo", ["text" * LEND, 1]).result() == ["text" * LEND, 1]


@on_linux
def test_very_large_data_is_copied_in_steps(large: CallableTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relieve_py.segments.STEP", LEND // 4)
    monkeypatch.setattr("relieve_py.segments.AT_ONCE", LEND)
    for size in (8 * LEND, 8 * LEND + 1):
        array = np.arange(size, dtype="u4")
        replies = [large.get("echo", array + n) for n in range(3)]
        for n, reply in enumerate(replies):
            np.testing.assert_array_equal(reply.result(30), array + n)


def test_results_can_be_written_to_and_are_nobody_elses(large: CallableTask) -> None:
    sent = np.zeros(LEND, "u1")
    first = large.get("echo", sent).result()
    second = large.get("echo", sent).result()
    first[:] = 1
    assert not sent.any()
    assert not second.any()
    assert not large.get("echo", sent).result().any()


def test_results_that_are_kept_stay_as_they_are(large: CallableTask) -> None:
    kept = [large.get("filled", LEND + n, n).result() for n in range(40)]
    del kept[::3]
    kept += [large.get("filled", LEND + n, n).result() for n in range(40, 60)]
    assert all((array == array.size - LEND).all() for array in kept)


def test_arguments_that_the_child_keeps_stay_as_they_are(large: CallableTask) -> None:
    for n in range(30):
        large.get("hold", np.full(LEND, n, "u1")).result()
        large.get("echo", np.full(LEND, 255, "u1")).result()
    assert large.get("held").result() == [n * LEND for n in range(30)]


def test_items_of_streams_both_ways(large: CallableTask) -> None:
    kept = list(large.stream("blocks", 50, LEND))
    assert [int(block[0]) for block in kept] == list(range(50))
    assert all((block == n).all() for n, block in enumerate(kept))
    assert large.get("sum_of", iter_blocks()).result() == [n * LEND for n in range(50)]


def iter_blocks() -> Iterator[Any]:
    for n in range(50):
        yield np.full(LEND, n, "u1")


def test_events_questions_and_answers(large: CallableTask) -> None:
    for _ in range(3):
        told = large.wait_for("large")
        large.call("tell", LEND)
        array, data = told.result(30)
        assert (array == 7).all()
        assert data == b"7" * LEND
    large.get("heard").result()
    for n in range(3):
        sum_of = large.wait_for("sum")
        large.send("large", np.full(LEND, n, "u1"))
        assert sum_of.result(30) == (n * LEND, True)
    large.on("large", double)
    try:
        for n in range(3):
            assert (large.get("ask", np.full(LEND, n, "u1")).result() == 2 * n).all()
    finally:
        large.off("large", double)


def double(value: Any, *more: Any) -> Any:
    return value * 2


def test_errors_with_much_inside_arrive_as_themselves(large: CallableTask) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="x") as caught:
            large.get("raise_with", LEND).result()
        assert caught.value.args == (b"x" * LEND,)


def test_results_outlive_the_task(launcher: str) -> None:
    with CallableTask(LARGE, launcher=launcher) as task:
        kept = [task.get("filled", LEND, n).result() for n in range(4)]
    assert all((array == n).all() for n, array in enumerate(kept))
    kept[3][:] = 9
    assert (kept[3] == 9).all()


@on_linux
def test_results_outlive_a_child_that_is_killed_and_their_memory_goes_with_them(task: CallableTask) -> None:
    others = mappings() - 2
    kept = task.get("filled", LEND, 3).result()
    with pytest.raises(TaskDied):
        task.get("die", np.zeros(LEND, "u1")).result()
    again = [task.get("filled", LEND, n).result() for n in range(3)]
    assert (kept == 3).all()
    assert mappings() == others + 2  # the one that is seen, and one that the next child writes to
    del kept, again
    task.stop().result()
    gc.collect()
    assert mappings() == others


@on_linux
def test_a_call_that_is_sent_again_has_its_data(tmp_path: Any) -> None:
    with CloudWorker(CallableTask(LARGE), size=2, retries=1) as worker:
        data = np.arange(LEND, dtype="u4")
        for _ in range(4):
            worker.get("echo", data).result()
        replies = [worker.get("die", data)] + [worker.get("echo", data + n) for n in range(8)]
        for n, reply in enumerate(replies[1:]):
            np.testing.assert_array_equal(reply.result(), data + n)
        with pytest.raises(Exception, match=r"SIGKILL|died"):
            replies[0].result()


@on_linux
def test_a_copy_of_the_child_sees_what_it_was_left(large: CallableTask) -> None:
    large.get("fork_and_drop", np.full(LEND, 5, "u1")).result()
    for _ in range(3):
        large.get("echo", np.full(LEND, 200, "u1")).result()
    assert large.get("seen_by_the_copy").result() == 5 * LEND


@on_linux
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_copy_of_the_parent_sees_the_results_that_it_has(task: CallableTask) -> None:
    array = task.get("filled", LEND, 5).result()
    ready, told = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(ready[0], 1)
        os.write(told[1], b"%d" % int(array.sum()))
        os._exit(0)
    del array
    for _ in range(3):
        task.get("filled", LEND, 200).result()
    os.write(ready[1], b"x")
    assert int(os.read(told[0], 100)) == 5 * LEND
    os.waitpid(pid, 0)
    for fd in (*ready, *told):
        os.close(fd)


# -- when there is none ----------------------------------------------------------------------------


@on_linux
def test_without_such_memory_all_arrives_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relieve_py.segments._make", refuse)
    with CallableTask(LARGE) as task:
        for n in range(3):
            assert (task.get("echo", np.full(LEND, n, "u1")).result() == n).all()
        assert task.get("segments").result() == 0


def refuse(size: int) -> int:
    raise OSError("there is no such memory here")


@on_linux
@pytest.mark.parametrize(
    "limits", [Limits(address_space=4 << 30), Limits(open_files=64)], ids=["address space", "open files"]
)
def test_a_child_whose_mappings_or_files_are_counted_is_given_none(limits: Limits) -> None:
    before = len(Share._all)
    with CallableTask(LARGE, limits=limits) as task:
        for n in range(3):
            assert (task.get("echo", np.full(LEND, n, "u1")).result() == n).all()
        assert task.get("segments").result() == 0
        assert len(Share._all) == before


@on_linux
def test_what_is_only_kept_does_not_count_as_the_childs_memory() -> None:
    """A megabyte each way for each of so many rounds would; what one call needs may."""
    size = 24 << 20
    with CallableTask(LARGE, limits=Limits(rss=160 << 20)) as task:
        array = np.zeros(size, "u1")
        for _ in range(4):
            assert task.get("echo", array).result().size == size
        assert task.restarts == 0


@on_linux
def test_a_child_has_a_segment_each_way_and_no_more(large: CallableTask) -> None:
    for n in range(5):
        large.get("echo", np.zeros(LEND * (n + 1), "u1")).result()
    assert large.get("segments").result() <= 3  # one is mapped, of one the descriptor is kept, too
