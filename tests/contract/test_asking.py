"""Questions of a child to its parent: from everywhere in the child, to a task's or its worker's listeners."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support import T, script

from relieve_py import CallableTask, CloudWorker
from relieve_py.wire import MAX_QUESTIONS

ASKING = script("asking.py")


def broken() -> None:
    raise KeyError("of the listener")


@pytest.fixture(scope="module")
def release() -> Iterator[threading.Event]:
    """What the listener of "never" waits for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(scope="module", params=["a task", "its worker"])
def listened(request: pytest.FixtureRequest, release: threading.Event) -> Iterator[CloudWorker]:
    """One task, and who answers its questions."""
    task = CallableTask(ASKING, args=[True], concurrency=1 if request.param == "a task" else 3)
    worker = CloudWorker(task)
    who: Any = task if request.param == "a task" else worker
    who.on("double", lambda number: 2 * number)
    who.on("broken", broken)
    who.on("unsendable", threading.Lock)
    who.on("a generator", lambda: (n for n in "ab"))
    with worker:
        yield worker


@pytest.mark.parametrize("method", ["ask", "ask_in_a_loop"])
def test_a_question_is_answered_by_what_the_listener_returns(listened: CloudWorker, method: str) -> None:
    assert listened.get(method, "double", 21).result(T) == 42


def test_many_questions_at_once_each_get_their_own_answer(listened: CloudWorker) -> None:
    assert listened.get("ask_many_at_once", 50).result(T) == list(range(0, 100, 2))
    assert listened.get("from_threads", 8).result(T) == list(range(0, 16, 2))
    replies = [listened.get("ask", "double", n) for n in range(20)]
    assert [reply.result(T) for reply in replies] == list(range(0, 40, 2))


def test_more_questions_than_the_parent_keeps_answers_for_wait_for_those(listened: CloudWorker) -> None:
    assert listened.get("ask_first_and_look_later", 3 * MAX_QUESTIONS).result(T) == sum(range(0, 6 * MAX_QUESTIONS, 2))


def test_it_may_ask_before_it_is_ready_and_in_a_handler(listened: CloudWorker) -> None:
    assert listened.get("at_start").result(T) == [42]
    handled = listened.wait_for("handled")
    listened.send("event", 4)
    assert handled.result(T) == (8,)


@pytest.mark.parametrize("method", ["why_not", "why_not_in_a_loop"])
def test_what_the_listener_raises_is_raised_in_the_child(listened: CloudWorker, method: str) -> None:
    assert listened.get(method, "broken").result(T) == ("KeyError", "'of the listener'")
    error, text = listened.get(method, "nobody").result(T)
    assert (error, "nobody listens to 'nobody'" in text) == ("LookupError", True)
    assert listened.get(method, "a generator").result(T)[0] == "EncodeError"
    assert listened.get("exception_of", "broken").result(T) == "KeyError"


def test_an_answer_has_done_callbacks(listened: CloudWorker) -> None:
    assert listened.get("by_callback", 4).result(T) == [8]


def test_a_question_that_cannot_be_sent_is_an_error_there_and_then(listened: CloudWorker) -> None:
    assert listened.get("unsendable").result(T) == "EncodeError"


@pytest.mark.parametrize("method", ["impatiently", "impatiently_in_a_loop"])
def test_who_asks_need_not_wait_for_ever_and_a_late_answer_harms_nobody(method: str) -> None:
    release = threading.Event()
    with CallableTask(ASKING) as task:
        task.on("never", lambda: release.wait(T))
        task.on("double", lambda number: 2 * number)
        assert task.get(method, "never").result(T) == "no answer"
        task.get("forget", "never").result(T)
        release.set()
        assert task.get("ask", "double", 1).result(T) == 2


def test_the_child_lists_the_calls_that_it_has(listened: CloudWorker) -> None:
    reply = listened.get("ongoing")
    assert reply.result(T) == [(reply.id, "ongoing")]


def test_a_wrong_timeout_says_what_it_has_to_be(listened: CloudWorker) -> None:
    told = listened.get("why_not_within", "never", "1").result(T)
    assert told == ("TypeError", "timeout must be a number of seconds, not '1'")
