"""A child that runs many calls at once: plain functions on threads, coroutines on one loop."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import T, heard, script

from relieve_py import CallableTask, CallCancelled, CallTimeout, CloudWorker, TaskDied
from relieve_py.child.concurrent import ConcurrentCaller
from relieve_py.child.runtime import Child

MANY = script("many.py")


@pytest.fixture(scope="module")
def many(launcher: str) -> Iterator[CallableTask]:
    """A task of four calls at once, which tests leave as they found it."""
    with CallableTask(MANY, concurrency=4, launcher=launcher, kill_timeout=T) as task:
        yield task


@pytest.mark.feature(42)
def test_plain_functions_run_on_threads_beside_one_another(many: CallableTask) -> None:
    names = [reply.result(T) for reply in [many.get("meet", 4) for _ in range(4)]]
    assert len(set(names)) == 4


def test_coroutines_share_the_loop_of_the_main_thread(many: CallableTask) -> None:
    replies = [many.get("meet_async", 4) for _ in range(4)]
    assert [reply.result(T) for reply in replies] == [(1, True)] * 4


def test_a_call_runs_with_no_signal_held_back(many: CallableTask) -> None:
    """A process that it starts would inherit that, and could then not be terminated."""
    assert many.get("mask").result(T) == []


def test_no_more_run_than_the_task_allows(many: CallableTask, gate: Callable[[], Any]) -> None:
    gates = [gate() for _ in range(4)]
    held = [many.get("hold", each.path) for each in gates]
    fifth = many.get("who")
    gates[0].open("done")
    assert held[0].result(T) == "done"
    assert isinstance(fifth.result(T), int)
    assert not any(reply.done() for reply in held[1:])
    for each in gates[1:]:
        each.open("done")
    assert [reply.result(T) for reply in held] == ["done"] * 4


def test_each_call_knows_itself(many: CallableTask) -> None:
    replies = [many.get(name) for name in ("who", "who_async") * 6]
    assert [reply.result(T) for reply in replies] == [reply.id for reply in replies]


def test_streams_go_side_by_side(many: CallableTask) -> None:
    streams = [many.stream(name, 300) for name in ("count", "count_async") * 2]
    assert [[next(stream) for _ in range(300)] for stream in streams] == [list(range(300))] * 4
    assert [list(stream) for stream in streams] == [[]] * 4


def test_an_error_is_the_error_of_its_call(many: CallableTask) -> None:
    wrong, right = many.get("fail", "no"), many.get("who")
    assert isinstance(right.result(T), int)
    with pytest.raises(ValueError, match="no"):
        wrong.result(T)


@pytest.mark.parametrize(("endless", "how"), [("spin", "timed out"), ("forever", "cancelled")])
def test_a_call_that_is_given_up_is_interrupted_and_no_other(launcher: str, endless: str, how: str) -> None:
    with CallableTask(MANY, concurrency=2, launcher=launcher, kill_timeout=T) as task:
        began, ended = heard(task, "spinning"), heard(task, "spun")
        beside = task.get("forever", "other")
        given_up = task.options(timeout=0.5 if how == "timed out" else None).get(endless, "this")
        assert sorted(began.wait(2)) == [("other",), ("this",)]
        if how == "cancelled":
            given_up.cancel()
        with pytest.raises(CallTimeout if how == "timed out" else CallCancelled):
            given_up.result(T)
        assert ended.wait(1) == [("this",)]
        assert isinstance(task.get("who").result(T), int)  # its place is free
        assert not beside.done()
        assert task.restarts == 0
        beside.cancel()


def test_an_interrupt_in_the_middle_of_a_message_leaves_the_channel_whole(launcher: str) -> None:
    with CallableTask(MANY, concurrency=2, launcher=launcher, kill_timeout=T) as task:
        began, chat = heard(task, "spinning"), heard(task, "chat")
        for times in range(1, 11):
            talking = task.get("chatter", times)
            began.wait(times)
            chat.wait(len(chat) + 3)
            talking.cancel()
            assert isinstance(task.get("who").result(T), int)
        assert task.restarts == 0
        assert {len(text) for (text,) in chat} == {100_000}


def test_a_stream_whose_reader_left_gives_its_place_back(launcher: str) -> None:
    with CallableTask(MANY, concurrency=2, launcher=launcher, kill_timeout=T) as task:
        for name in ("count", "count_async") * 3:
            stream = task.stream(name, 10**9)
            assert next(stream) == 0
            stream.close()
        names = [reply.result(T) for reply in [task.get("meet", 2), task.get("meet", 2)]]
        assert len(set(names)) == 2
        assert task.restarts == 0


def test_a_thread_that_cannot_be_interrupted_is_ended_with_its_child(launcher: str) -> None:
    with CallableTask(MANY, concurrency=2, launcher=launcher, kill_timeout=0.1) as task:
        began = heard(task, "spinning")
        beside, asleep = task.get("forever", "other"), task.get("sleep", 1000)
        began.wait(2)
        asleep.cancel()
        with pytest.raises(TaskDied):
            beside.result(T)
        assert isinstance(task.get("who").result(T), int)
        assert task.restarts == 1


@pytest.mark.rule(4)
def test_a_death_costs_what_ran_and_no_call_that_waited(launcher: str, gate: Callable[[], Any]) -> None:
    with CallableTask(MANY, concurrency=3, launcher=launcher) as task:
        began = heard(task, "spinning")
        running = [task.get("forever", n) for n in range(2)]
        began.wait(2)
        dying = task.get("die")
        waiting = [task.get("who") for _ in range(5)]
        for reply in (*running, dying):
            with pytest.raises(TaskDied) as died:
                reply.result(T)
            assert died.value.call_id == reply.id
        assert [reply.result(T) for reply in waiting] == [reply.id for reply in waiting]
        assert len(began) == 2


def test_a_stop_waits_for_all_that_run(launcher: str, gate: Callable[[], Any]) -> None:
    gates = [gate() for _ in range(2)]
    task = CallableTask(MANY, concurrency=2, launcher=launcher, kill_timeout=T)
    held = [task.get("hold", each.path) for each in gates]
    gates[0].open("done")
    assert held[0].result(T) == "done"
    stopping = task.stop()
    gates[1].open("done")
    assert held[1].result(T) == "done"
    assert stopping.result(T).code == 0


@pytest.mark.parametrize("how", ["leave", "leave_async", "leave_by_a_task"])
def test_a_call_that_ends_its_child_ends_the_others(launcher: str, how: str) -> None:
    with CallableTask(MANY, concurrency=3, launcher=launcher, kill_timeout=T) as task:
        began = heard(task, "spinning")
        beside = task.get("forever", "other")
        began.wait(1)
        leaving = task.get(how, 3)
        for reply in (leaving, beside):
            with pytest.raises(TaskDied, match="exit code 3"):
                reply.result(T)
        assert isinstance(task.get("who").result(T), int)


@pytest.mark.skipif(sys.platform != "linux", reason="only there a limit of memory keeps threads from being made")
def test_a_call_for_which_there_is_no_thread_is_told_so() -> None:
    with CallableTask(MANY, concurrency=2) as task:  # a child of the fork launcher has what its parent's threads left
        began = heard(task, "spinning")
        task.get("want_threads").result(T)
        for _ in range(20):  # each follows the answer to the one before, whose thread may not be back yet
            task.get("who").result(T)
        beside = task.get("forever", "other")  # on the thread that is there
        began.wait(1)
        with pytest.raises(RuntimeError, match="thread"):
            task.get("who").result(T)
        assert not beside.done()
        beside.cancel()
        assert task.get("noted").exception(T) is not None  # there is a thread again


@pytest.mark.rule(4)
def test_a_call_that_comes_to_a_child_that_leaves_goes_to_the_next(launcher: str, gate: Callable[[], Any]) -> None:
    with CallableTask(MANY, concurrency=2, launcher=launcher, kill_timeout=T) as task:
        leaving, held = heard(task, "spinning"), gate()
        beside, last = task.get("hold", held.path), task.get("leave_late", 0.3)
        late = task.get("who")  # waits for a place, which is there before the child is gone
        leaving.wait(1)
        held.open("done")
        assert beside.result(T) == "done"
        assert late.result(T) == late.id
        assert last.exception(T) is not None
        assert task.restarts == 1


def test_a_stop_that_comes_in_the_first_moments_is_heard(
    gate: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the child is one that runs many calls at once. It is a copy of this process, with what is patched here."""
    prepare, place = ConcurrentCaller.__init__, gate()

    def prepare_late(caller: ConcurrentCaller, child: Child) -> None:
        pause = threading.Event()
        with open(place.path) as file:
            file.readline()
        while not child.inbox.stopping:
            pause.wait(0.01)
        pause.wait(0.05)  # until that was told
        prepare(caller, child)

    monkeypatch.setattr(ConcurrentCaller, "__init__", prepare_late)
    task = CallableTask(MANY, concurrency=2, launcher="fork")
    task.start().mark_seen()
    place.open("the child is there")
    try:
        assert task.stop(math.inf).result(T).code == 0
    finally:
        task.kill().result(T)


def test_events_that_came_before_a_call_are_handled_before_it(many: CallableTask) -> None:
    for value in range(10):
        many.send("note", value)
        assert many.get("noted").result(T) == value


def test_a_worker_fills_all_places(launcher: str) -> None:
    with CloudWorker(CallableTask(MANY, concurrency=3, launcher=launcher), size=2, strategy="weighted") as worker:
        assert [reply.result(T) for reply in [worker.get("meet", 3) for _ in range(6)]]
        assert sorted(worker.map("double", range(20))) == [2 * n for n in range(20)]
