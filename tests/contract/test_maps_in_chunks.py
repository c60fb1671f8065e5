"""Items of a map that travel together are calls of their own all the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from moments import Moment
from support import T, heard, script

from relieve_py import CallableTask, CallTimeout, CloudWorker, RelieveError, RemoteError, Stopped, TaskDied, chunking
from relieve_py.blackbox import OUTCOMES, Reader
from relieve_py.chunks import Pace

ITEMS = script("items.py")


@pytest.fixture(autouse=True)
def tens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk has ten items, as far as there are so many."""
    monkeypatch.setattr(Pace, "next_size", lambda self, read: 10)


@pytest.fixture(scope="module")
def task(launcher: str) -> Iterator[CallableTask]:
    """One that tests leave as they found it."""
    with CallableTask(ITEMS, launcher=launcher) as task:
        yield task


@pytest.fixture(scope="module")
def alone() -> Iterator[CallableTask]:
    """The same for what does not depend on the launcher."""
    with CallableTask(ITEMS) as task:
        yield task


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[], Counter[int]]:
    """How often each item ran, by what the items have noted."""
    path = tmp_path / "ran"

    def count() -> Counter[int]:
        return Counter(int(line) for line in path.read_text().splitlines())

    return count


def items_of(tmp_path: Path, what: dict[int, str], count: int = 50) -> list[tuple[str, int, str]]:
    return [(str(tmp_path / "ran"), number, what.get(number, "")) for number in range(count)]


@pytest.mark.parametrize("unordered", [False, True])
def test_all_come(task: CallableTask, unordered: bool) -> None:
    got = list(task.map("same", range(95), unordered=unordered))
    assert sorted(got) == list(range(95))
    assert unordered or got == list(range(95))


def test_all_come_to_a_loop(alone: CallableTask) -> None:
    async def read(unordered: bool) -> list[int]:
        return [value async for value in alone.map("same", range(95), unordered=unordered)]

    assert asyncio.run(read(False)) == list(range(95))
    assert sorted(asyncio.run(read(True))) == list(range(95))


def test_values_of_every_kind_come_at_their_place(task: CallableTask) -> None:
    kinds = [
        ("none", 0), ("text", 3), ("list", 4), ("buffer", 100_000), ("text", OUTCOMES + 1), ("list", 5),
        ("text", OUTCOMES - 100), ("text", 200), ("bytes", 2 * OUTCOMES), ("none", 0), ("text", 7),
    ]  # fmt: skip
    got = list(task.map("make", kinds))
    for (kind, size), value in zip(kinds, got, strict=True):
        expected = {"none": None, "text": "x" * size, "bytes": b"x" * size, "list": [size]}.get(kind, b"x" * size)
        assert (bytes(value) if kind == "buffer" else value) == expected


def test_what_cannot_be_sent_is_the_error_of_its_item(alone: CallableTask) -> None:
    got = list(alone.map("make", [("text", 1), ("generator", 2), ("function", 3), ("text", 4)], return_exceptions=True))
    assert (got[0], got[2](), got[3]) == ("x", 3, "xxxx")
    assert "stream()" in str(got[1])


def test_a_value_is_what_it_was_when_its_item_ended(alone: CallableTask) -> None:
    assert list(alone.map("keep", [1, 2, 3])) == [[1], [1, 2], [1, 2, 3]]
    one, other = alone.map("same", [shared := [1], shared])
    assert one is not other


@pytest.mark.rule(4)
def test_an_error_is_that_of_its_item(task: CallableTask, tmp_path: Path, ran: Callable[[], Counter[int]]) -> None:
    results = task.map("noted", items_of(tmp_path, {13: "raise", 19: "raise", 20: "raise"}), return_exceptions=True)
    got = list(results)
    assert [type(value) for value in got if not isinstance(value, int)] == [ValueError] * 3
    assert [n for n, value in enumerate(got) if isinstance(value, ValueError)] == [13, 19, 20]
    assert ran() == Counter(range(50))


def test_iteration_goes_on_after_an_error(alone: CallableTask, tmp_path: Path) -> None:
    results = alone.map("noted", items_of(tmp_path, {1: "raise"}, 3))
    assert next(results) == 0
    with pytest.raises(ValueError, match="1"):
        next(results)
    assert list(results) == [2]


@pytest.mark.rule(4)
@pytest.mark.parametrize("how", ["die", "leave"])
def test_a_death_costs_its_item(launcher: str, how: str, tmp_path: Path, ran: Callable[[], Counter[int]]) -> None:
    with CallableTask(ITEMS, launcher=launcher) as task:
        got = list(task.map("noted", items_of(tmp_path, dict.fromkeys((0, 13, 14, 49), how)), return_exceptions=True))
    assert [n for n, value in enumerate(got) if isinstance(value, TaskDied)] == [0, 13, 14, 49]
    assert [value for value in got if isinstance(value, int)] == [n for n in range(50) if n not in (0, 13, 14, 49)]
    assert ran() == Counter(range(50))


@pytest.mark.rule(4)
def test_a_death_costs_its_item_where_all_give_the_same(tmp_path: Path, ran: Callable[[], Counter[int]]) -> None:
    what = {**dict.fromkeys((0, 13, 14, 49), "die"), 27: "raise"}
    with CallableTask(ITEMS) as task:
        got = list(task.map("done", items_of(tmp_path, what), return_exceptions=True))
    assert [n for n, value in enumerate(got) if isinstance(value, TaskDied)] == [0, 13, 14, 49]
    assert isinstance(got[27], ValueError)
    assert [n for n, value in enumerate(got) if value is None] == [n for n in range(50) if n not in what]
    assert ran() == Counter(range(50))


@pytest.mark.rule(4)
def test_an_item_that_died_is_tried_again_alone(tmp_path: Path, ran: Callable[[], Counter[int]]) -> None:
    with CloudWorker(CallableTask(ITEMS), size=2, retries=1) as worker:
        assert list(worker.map("noted", items_of(tmp_path, {13: "die once", 27: "die once"}))) == list(range(50))
        assert worker.stats().retried == 2
    assert ran() == Counter([*range(50), 13, 27])


@pytest.mark.parametrize("how", ["die", "raise"])
def test_an_item_that_harms_on_arrival_is_found(how: str) -> None:
    from items import Bomb

    with CallableTask(ITEMS) as task:
        got = list(task.map("same", [0, 1, Bomb(how), 3, 4], return_exceptions=True))
    assert [*got[:2], *got[3:]] == [0, 1, 3, 4]
    assert isinstance(got[2], TaskDied if how == "die" else Exception)


def test_others_go_on_while_an_item_is_slow(gate: Callable[[], Any]) -> None:
    with CloudWorker(CallableTask(ITEMS), size=2) as worker:
        holding, held = heard(worker, "holding"), gate()
        results = worker.map("hold", [(n, held.path if n == 3 else None) for n in range(40)], unordered=True)
        got = [next(results) for _ in range(39)]  # those of its chunk before and behind it, too
        holding.wait(1)
        held.open("done")
        assert [*sorted(got), *results] == [*(n for n in range(40) if n != 3), 3]


def test_what_is_done_before_a_slow_item_comes_at_once(gate: Callable[[], Any]) -> None:
    with CallableTask(ITEMS) as task:
        held = gate()
        results = task.map("hold", [(n, held.path if n == 3 else None) for n in range(10)])
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        held.open("done")
        assert list(results) == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.rule(4)
def test_what_was_given_early_is_not_given_again(gate: Callable[[], Any]) -> None:
    with CallableTask(ITEMS) as task:
        held = gate()
        results = task.map("hold", [(n, held.path if n == 3 else None) for n in range(10)], return_exceptions=True)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        task.send_signal(9)
        died, *others = results
        assert isinstance(died, TaskDied)
        assert others == [4, 5, 6, 7, 8, 9]


class Within(Moment):
    """Only those moments that are within the settling of what a chunk has given last."""

    def _come(self, frame: FrameType) -> None:
        caller: FrameType | None = frame
        while caller is not None and caller.f_code is not chunking.Chunking.finished.__code__:
            caller = caller.f_back
        if caller is not None:
            super()._come(frame)


def test_what_a_handler_raises_while_a_rest_is_sent_again_leaves_no_item_open(
    gate: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recalled, recall = threading.Event(), Reader.recall

    def recall_and_tell(box: Reader, number: int) -> None:
        recall(box, number)
        recalled.set()

    monkeypatch.setattr(Reader, "recall", recall_and_tell)
    monkeypatch.setattr(chunking, "OVERDUE", 0.01)
    monkeypatch.setattr(chunking, "RECALL_GRACE", 2 * T)  # the child is the first to say how far it has come
    with CloudWorker(CallableTask(ITEMS)) as worker:
        (task,) = worker
        for number in itertools.count(step=3):
            held, closed, moment = gate(), [True], Within(number, TimeoutError("of the program"))
            results = worker.map(
                "hold", [(n, held.path if n == 3 else None) for n in range(10)], return_exceptions=True
            )
            got = [next(results)]

            def over(open: Callable[[], None] = held.open, closed: list[bool] = closed) -> bool:
                if closed:
                    closed.clear()
                    assert recalled.wait(T)
                    recalled.clear()
                    open()
                return task._slot.traffic.table.running == 0

            with contextlib.suppress(TimeoutError), moment:
                task._slot._line.read_until(over, None)
            got += results
            assert len(got) == 10, moment.where
            assert all(value == n or isinstance(value, RelieveError) for n, value in enumerate(got)), moment.where
            assert worker.drain(T).result(T) is worker, moment.where
            if moment.where is None:
                break
    assert number > 10


def test_each_item_knows_itself(alone: CallableTask) -> None:
    got = list(alone.map("who", range(35)))
    assert [item for item, _, _ in got] == list(range(35))
    assert len({id for _, id, _ in got}) == 35
    assert {method for _, _, method in got} == {"who"}


def test_an_item_may_answer_by_its_request(alone: CallableTask) -> None:
    for n, value in enumerate(alone.map("respond", range(30), return_exceptions=True)):
        expected = -n if n % 3 == 0 else ValueError(n) if n % 3 == 1 else TypeError("too late") if n % 2 else n
        assert repr(value) == repr(expected)


def test_items_may_be_answered_by_callback(alone: CallableTask) -> None:
    assert list(alone.map("call_back", range(25))) == list(range(25))


def test_items_of_an_async_function_run_one_after_the_other(alone: CallableTask) -> None:
    got = list(alone.map("later", range(25), return_exceptions=True))
    assert [n for n, value in enumerate(got) if isinstance(value, ValueError)] == [3, 13, 23]
    assert got[4:13] == list(range(4, 13))


def test_a_method_that_is_missing_is_the_error_of_each_item(alone: CallableTask) -> None:
    got = list(alone.map("nothing", range(25), return_exceptions=True))
    assert [type(error).__name__ for error in got] == ["MethodNotFound"] * 25


def test_a_map_that_is_left_interrupts_its_item() -> None:
    with CallableTask(ITEMS) as task:
        pid, spinning = task.pid, heard(task, "spinning")
        with task.map("spin", range(20)) as results:
            assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
            spinning.wait(1)
        assert list(task.map("same", range(12))) == list(range(12))
        assert task.pid == pid
        assert task.load == 0


def test_a_stop_lets_a_chunk_end_and_fails_what_waits(gate: Callable[[], Any]) -> None:
    worker = CloudWorker(CallableTask(ITEMS), size=1)
    with worker:
        holding, held = heard(worker, "holding"), gate()
        results = worker.map("hold", [(n, held.path if n == 0 else None) for n in range(20)], return_exceptions=True)
        first = asyncio.run(_begin(results, holding, worker, held))
        got = [first, *results]
    assert got[0] == 0
    assert {type(value) for value in got[1:]} <= {int, Stopped}
    assert len(got) == 20
    assert any(isinstance(value, Stopped) for value in got)


async def _begin(results: Any, holding: Any, worker: CloudWorker, held: Any) -> Any:
    first = asyncio.ensure_future(anext(results))
    await asyncio.to_thread(holding.wait, 1)
    stopping = worker.stop()
    await asyncio.to_thread(held.open, "done")
    value = await first
    await stopping
    return value


def test_items_with_a_time_limit_travel_alone(gate: Callable[[], Any]) -> None:
    with CallableTask(ITEMS) as task:
        held = gate()
        items = [(n, held.path if n == 1 else None) for n in range(12)]
        got = list(task.options(timeout=0.3).map("hold", items, return_exceptions=True))
        assert isinstance(got[1], CallTimeout)
        assert [*got[:1], *got[2:]] == [0, *range(2, 12)]


def test_statistics_count_items() -> None:
    with CloudWorker(CallableTask(ITEMS), size=2) as worker:
        list(worker.map("later", range(100), return_exceptions=True))
        stats = worker.stats()
    assert (stats.done, stats.failed) == (90, 10)


def test_json_children_are_sent_one_item_at_a_time() -> None:
    with CallableTask(ITEMS, serializer="json") as task:
        assert list(task.map("same", range(25))) == list(range(25))
        with pytest.raises(RemoteError):
            next(task.map("later", [3]))


@pytest.mark.rule(4)
def test_a_copy_that_an_item_has_forked_runs_none_of_the_others(
    task: CallableTask, tmp_path: Path, ran: Callable[[], Counter[int]]
) -> None:
    assert list(task.map("forget_to_leave", items_of(tmp_path, {}, 25))) == list(range(25))
    assert ran() == Counter(range(25))


def test_what_runs_the_first_chunk_is_there_already_in_a_child_that_is_forked() -> None:
    with CallableTask(ITEMS) as forked:
        assert forked.get("has_imported", "relieve_py.child.chunk").result(T)
