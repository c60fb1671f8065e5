"""Short calls that waited in a queue travel together, and are calls of their own all the same."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import T, heard, script

from relieve_py import (
    CallableTask,
    CallCancelled,
    CallTimeout,
    CloudWorker,
    MethodNotFound,
    RelieveError,
    RetryPolicy,
    TaskDied,
    chunking,
    locks,
)
from relieve_py.blackbox import OUTCOMES
from relieve_py.bundles import Bundle
from relieve_py.dispatch import Dispatcher
from relieve_py.traffic import Traffic

ITEMS = script("items.py")


@pytest.fixture(autouse=True)
def bundles(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Bundle]]:
    """Those that were made: of up to ten calls, whenever some wait. There has to be one."""
    made: list[Bundle] = []
    make = Bundle.__init__

    def note(bundle: Bundle, *args: Any) -> None:
        make(bundle, *args)
        made.append(bundle)

    monkeypatch.setattr(Bundle, "__init__", note)
    monkeypatch.setattr(Traffic, "appetite", 10)
    yield made
    assert made
    made.clear()  # what a fixture gave is kept until all others are gone, and this has the results of the calls


@pytest.fixture
def held(gate: Callable[[], Any]) -> Callable[[Any], Callable[[], None]]:
    """Have what takes calls busy, so that those that follow wait; gives what ends that."""

    def hold(remote: Any) -> Callable[[], None]:
        place = gate()
        holding = heard(remote, "holding")
        first = remote.get("hold", (-1, place.path))
        holding.wait(1)

        def go_on() -> None:
            place.open("go on")
            assert first.result(T) == -1

        return go_on

    return hold


Held = Callable[[Any], Callable[[], None]]


def together(remote: Any, held: Held, calls: list[tuple[Any, ...]]) -> list[Any]:
    """What calls give that were made while the child was busy: values, and errors as they are."""
    go_on = held(remote)
    replies = [remote.get(*call) for call in calls]
    go_on()
    return [reply.exception(T) or reply.result(T) for reply in replies]


def test_each_gives_what_it_gives(held: Held) -> None:
    with CallableTask(ITEMS) as task:
        calls: list[tuple[Any, ...]] = [("same", n) for n in range(25)]
        calls[3] = ("make", ("text", OUTCOMES + 1))
        calls[5] = ("make", ("list", 2))
        calls[7] = ("make", ("buffer", 100_000))
        calls[9] = ("make", ("generator", 2))
        calls[11] = ("nothing", 1)
        calls[13] = ("noted", ("/dev/null", 13, "raise"))
        calls[15] = ("later", 4)
        calls[17] = ("call_back", 17)
        calls[19] = ("respond", 6)
        got = together(task, held, calls)
    assert got[3] == "x" * (OUTCOMES + 1)
    assert got[5] == [2]
    assert bytes(got[7]) == b"x" * 100_000
    assert "stream()" in str(got[9])
    assert isinstance(got[11], MethodNotFound)
    assert isinstance(got[13], ValueError)
    assert (got[15], got[17], got[19]) == (4, 17, -6)
    assert all(value == n for n, value in enumerate(got) if n % 2 == 0 or n > 19)


def test_each_knows_itself(held: Held) -> None:
    with CallableTask(ITEMS) as task:
        go_on = held(task)
        replies = [task.get("who", n) for n in range(12)]
        go_on()
        assert [reply.result(T) for reply in replies] == [(n, reply.id, "who") for n, reply in enumerate(replies)]


@pytest.mark.rule(4)
@pytest.mark.parametrize("how", ["die", "leave"])
def test_a_death_costs_the_call_that_ran(launcher: str, how: str, held: Held, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with CallableTask(ITEMS, launcher=launcher) as task:
        calls = [("noted", (str(ran), n, how if n in (0, 4, 5, 24) else "")) for n in range(25)]
        got = together(task, held, calls)
    assert [n for n, value in enumerate(got) if isinstance(value, TaskDied)] == [0, 4, 5, 24]
    assert [value for value in got if isinstance(value, int)] == [n for n in range(25) if n not in (0, 4, 5, 24)]
    assert Counter(map(int, ran.read_text().split())) == Counter(range(25))


@pytest.mark.rule(4)
def test_a_death_costs_a_worker_the_call_that_ran(held: Held, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with CloudWorker(CallableTask(ITEMS), size=1) as worker:
        calls = [("noted", (str(ran), n, "die" if n in (3, 17) else "")) for n in range(40)]
        got = together(worker, held, calls)
        assert worker.drain().result(T) is worker
        assert worker.stats().done == 39
    assert [n for n, value in enumerate(got) if isinstance(value, TaskDied)] == [3, 17]
    assert Counter(map(int, ran.read_text().split())) == Counter(range(40))


def test_each_is_tried_again_by_itself(held: Held, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with CallableTask(ITEMS) as task:
        remote = task.options(retries=RetryPolicy(max=1, on=(ValueError,)))
        go_on = held(task)
        what = {3: "die once", 6: "raise"}
        replies = [remote.get("noted", (str(ran), n, what.get(n, ""))) for n in range(9)]
        go_on()
        assert [n for n, reply in enumerate(replies) if reply.exception(T) is not None] == [6]
        assert replies[3].result(T) == 3
    assert Counter(map(int, ran.read_text().split())) == Counter([*range(9), 3, 6])


def test_one_that_is_cancelled_is_left_out_or_interrupted(held: Held) -> None:
    with CallableTask(ITEMS) as task:
        pid, spinning = task.pid, heard(task, "spinning")
        go_on = held(task)
        replies = [task.get("spin", n) for n in range(9)]
        go_on()
        spinning.wait(1)
        assert replies[7].cancel()
        assert replies[5].cancel()
        for n, reply in enumerate(replies):
            if n in (5, 7):
                with pytest.raises(CallCancelled):
                    reply.result(T)
            else:
                assert reply.result(T) == n
        assert task.drain().result(T) is task
        assert (task.pid, task.load) == (pid, 0)


def test_one_that_heeds_no_cancel_is_ended_with_its_child(held: Held, gate: Callable[[], Any]) -> None:
    with CallableTask(ITEMS, kill_timeout=0.2) as task:
        go_on, place = held(task), gate()
        deaf, behind = task.get("stay", place.path), task.get("same", 2)
        go_on()
        with open(place.path) as began:
            assert began.readline() == "\n"
        assert deaf.cancel()
        assert behind.result(T) == 2
        assert task.restarts == 1


def test_a_slow_one_holds_up_no_other(held: Held, gate: Callable[[], Any]) -> None:
    with CloudWorker(CallableTask(ITEMS), size=2) as worker:
        ends, slow = [held(worker), held(worker)], gate()
        replies = [worker.get("hold", (n, slow.path if n == 3 else None)) for n in range(60)]
        for go_on in ends:
            go_on()
        for n, reply in enumerate(replies):
            if n != 3:
                assert reply.result(T) == n
        assert not replies[3].done()
        slow.open("done")
        assert replies[3].result(T) == 3


def test_what_was_done_before_a_slow_one_is_there(held: Held, gate: Callable[[], Any]) -> None:
    with CallableTask(ITEMS) as task:
        go_on, slow = held(task), gate()
        replies = [task.get("hold", (n, slow.path if n == 3 else None)) for n in range(6)]
        go_on()
        assert [reply.result(T) for reply in replies[:3]] == [0, 1, 2]
        slow.open("done")
        assert [reply.result(T) for reply in replies[3:]] == [3, 4, 5]


def test_one_with_a_time_limit_travels_by_itself(held: Held, gate: Callable[[], Any]) -> None:
    with CallableTask(ITEMS) as task:
        go_on, slow = held(task), gate()
        before = [task.get("same", n) for n in range(3)]
        limited = task.options(timeout=0.2).get("hold", (0, slow.path))
        behind = [task.get("same", n) for n in range(3)]
        go_on()
        with pytest.raises(CallTimeout):
            limited.result(T)
        assert [reply.result(T) for reply in before + behind] == [0, 1, 2] * 2


def test_a_stop_finishes_them(launcher: str, held: Held) -> None:
    with CallableTask(ITEMS, launcher=launcher) as task:
        go_on, slow = held(task), heard(task, "holding")
        replies = [task.get("same", n) for n in range(8)]
        go_on()
        assert replies[0].result(T) == 0
        assert task.stop().result(T).code == 0
        assert not slow
        assert [reply.result(T) for reply in replies] == list(range(8))


def test_those_with_the_highest_priority_go_first(held: Held, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with CallableTask(ITEMS) as task:
        go_on = held(task)
        replies = [task.options(priority=n % 3).get("noted", (str(ran), n, "")) for n in range(20)]
        go_on()
        assert [reply.result(T) for reply in replies] == list(range(20))
    assert list(map(int, ran.read_text().split())) == sorted(range(20), key=lambda n: (-(n % 3), n))


@pytest.mark.rule(4)
@pytest.mark.parametrize("method", ["break_down", "close_all"])
def test_when_they_cannot_be_answered_together_what_each_gave_is_there(method: str, held: Held, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with CallableTask(ITEMS, restart=True) as task:
        noted = [("noted", (str(ran), n, "")) for n in range(6)]
        assert together(task, held, [*noted[:3], (method,), *noted[3:]]) == [0, 1, 2, None, 3, 4, 5]
        assert task.drain().result(T) is task
    assert Counter(map(int, ran.read_text().split())) == Counter(range(6))


@pytest.mark.rule(4)
def test_a_copy_that_a_call_has_forked_runs_none_of_the_others(launcher: str, held: Held, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with CallableTask(ITEMS, launcher=launcher) as task:
        got = together(task, held, [("forget_to_leave", (str(ran), n, "")) for n in range(8)])
    assert got == list(range(8))
    assert Counter(map(int, ran.read_text().split())) == Counter(range(8))


def test_what_a_handler_raises_while_they_are_settled_leaves_none_open(
    held: Held, gate: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alarm(BaseException):
        pass

    def interrupt(value: Any) -> bool:
        raise Alarm

    monkeypatch.setattr(chunking, "OVERDUE", 2 * T)  # nobody else gives what is done
    with CallableTask(ITEMS) as task:
        go_on, place = held(task), gate()
        holding = heard(task, "holding")
        first = task.get("hold", (-1, place.path))
        others = [task.get("same", n) for n in range(8)]
        go_on()
        holding.wait(1)
        monkeypatch.setattr(others[3], "settle", interrupt)

        def over() -> bool:
            place.open("go on")
            return others[-1].done()

        with pytest.raises(Alarm):  # as a caller of another call would, who waits in the main thread
            task._slot._line.read_until(over, None)
        assert [first.result(T), *(reply.result(T) for reply in others[:3])] == [-1, 0, 1, 2]
        for reply in others[3:]:
            with pytest.raises(RelieveError, match="signal handler"):
                reply.result(T)
        assert task.drain(T).result(T) is task
        assert task.get("same", 1).result(T) == 1


def test_what_a_handler_raises_while_their_worker_is_told_leaves_none_counted(
    gate: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alarm(BaseException):
        pass

    tell = Dispatcher.ended

    def interrupt_once(dispatcher: Dispatcher, calls: Any, carrier: Any) -> None:
        if len(calls) > 1 and locks.on_main_thread():
            monkeypatch.setattr(Dispatcher, "ended", tell)
            raise Alarm
        tell(dispatcher, calls, carrier)

    monkeypatch.setattr(chunking, "OVERDUE", 2 * T)  # nobody else gives what is done
    with CloudWorker(CallableTask(ITEMS)) as worker:
        (task,), place = worker, gate()
        holding = heard(worker, "holding")
        first = worker.get("hold", (-1, place.path))
        holding.wait(1)
        others = [worker.get("same", n) for n in range(8)]
        monkeypatch.setattr(Dispatcher, "ended", interrupt_once)

        gates = [place]

        def over() -> bool:
            if gates:
                gates.pop().open("go on")
            return others[-1].done()

        with contextlib.suppress(Alarm):  # unless the I/O thread read it
            task._slot._line.read_until(over, None)
        assert [first.result(T), *(reply.result(T) for reply in others)] == [-1, *range(8)]
        assert worker.drain(T).result(T) is worker
        assert worker.stats().running == 0
