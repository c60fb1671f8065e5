"""Rows 23 to 45 of the feature table: remote calls."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import traceback
from typing import Any

import kitchen as kitchen_module
import pytest
from support import KITCHEN, T

from relieve_py import (
    CallableTask,
    CallCancelled,
    CallTimeout,
    CloudWorker,
    MethodNotFound,
    RemoteError,
    Reply,
    RetryPolicy,
)


@pytest.mark.feature(23)
def test_a_call_with_its_result(served: CallableTask) -> None:
    assert served.get("add", 1, b=2).result(T) == 3


@pytest.mark.feature(24)
def test_a_call_that_is_fired_and_forgotten(served: CallableTask) -> None:
    told = served.wait_for("told")
    assert served.call("tell", "told", 1).result(T) is None
    assert told.result(T) == (1,)


@pytest.mark.feature(25)
def test_a_remote_attribute_is_read(served: CallableTask) -> None:
    assert served.get("COLOUR").result(T) == "red"


@pytest.mark.feature(26)
def test_the_default_function(served: CallableTask) -> None:
    assert served.get(None, 1).result(T) == ["default", 1]


@pytest.mark.feature(27)
def test_a_named_method(served: CallableTask) -> None:
    assert served.get("echo", "named").result(T) == "named"


@pytest.mark.feature(28)
def test_a_request_is_answered_with_respond(served: CallableTask) -> None:
    assert served.get("respond_early", {"a": 1}).result(T) == {"a": 1}


@pytest.mark.feature(29)
def test_a_request_is_acknowledged_without_data(served: CallableTask) -> None:
    assert served.get("ack").result(T) is None


@pytest.mark.feature(30)
def test_a_second_answer_is_guarded_against(served: CallableTask) -> None:
    second = served.wait_for("second")
    assert served.get("respond_twice", 1).result(T) == 1
    assert second.result(T)[0] == "RuntimeError"
    second = served.wait_for("second")
    assert served.get("by_callback_twice", 2).result(T) == 2
    assert "answered already" in second.result(T)[0]


@pytest.mark.feature(31)
def test_a_plain_function_returns(served: CallableTask) -> None:
    assert served.get("add", 5).result(T) == 6


@pytest.mark.feature(32)
def test_an_async_function_in_the_child(served: CallableTask) -> None:
    assert served.get("later", 5).result(T) == 5


@pytest.mark.feature(33)
def test_a_callback_style_function_in_the_child(served: CallableTask) -> None:
    assert served.get("by_callback", 5).result(T) == 5
    with pytest.raises(ValueError, match="no luck"):
        served.get("by_callback_error", "no luck").result(T)


@pytest.mark.feature(34)
def test_exceptions_reach_the_caller(served: CallableTask) -> None:
    with pytest.raises(ValueError, match="out of milk"):
        served.get("fail", "out of milk").result(T)
    with pytest.raises(RemoteError, match="not for the parent"):
        served.get("interrupt_itself").result(T)


@pytest.mark.feature(35)
def test_the_type_and_the_traceback_of_an_exception_are_kept(served: CallableTask) -> None:
    with pytest.raises(ValueError, match="broken") as caught:
        served.get("fail").result(T)
    text = "".join(traceback.format_exception(caught.value))
    assert "raise ValueError(text)" in text
    assert "kitchen.py" in text
    with pytest.raises(RemoteError, match="sealed") as remote:
        served.get("fail_unsendably", "sealed").result(T)
    assert remote.value.type.endswith("Unsendable")
    assert remote.value.text == "sealed"
    assert "fail_unsendably" in remote.value.traceback


@pytest.mark.feature(36)
def test_own_attributes_of_an_exception_are_kept(served: CallableTask) -> None:
    with pytest.raises(kitchen_module.Odd, match="odd 7") as caught:
        served.get("fail_oddly", 7, "seven").result(T)
    assert (caught.value.code, caught.value.detail) == (7, "seven")


@pytest.mark.feature(37)
def test_a_missing_method_is_a_clear_error(served: CallableTask) -> None:
    with pytest.raises(MethodNotFound, match=r"has no 'ecco'; it exports: .*echo"):
        served.get("ecco").result(T)


@pytest.mark.feature(38)
def test_the_interface_of_the_child_is_discovered(served: CallableTask) -> None:
    assert {"echo", "add", "later"} <= set(served.exports)
    assert list(served.exports) == dir(served.remote)
    assert "start" not in served.exports


@pytest.mark.feature(39)
def test_a_proxy_of_methods(served: CallableTask) -> None:
    assert served.remote.add(2, b=3).result(T) == 5


@pytest.mark.feature(40)
def test_a_call_has_a_timeout() -> None:
    with CallableTask(KITCHEN) as task:
        for method in ("hang", "forever"):
            with pytest.raises(CallTimeout, match=r"0\.1 seconds") as caught:
                task.options(timeout=0.1).get(method).result(T)
            assert caught.value.timeout == 0.1
        assert task.get("echo", 1).result(T) == 1
        assert task.restarts == 0, "what can be interrupted costs no child"


@pytest.mark.feature(41)
def test_options_for_single_calls(served: CallableTask) -> None:
    bound = served.options(timeout=5).options(retries=RetryPolicy(max=1, on=ValueError))
    assert bound.get("add", 1).result(T) == 2
    assert bound.remote.add(2).result(T) == 3
    assert list(bound.map("add", [1, 2])) == [2, 3]


@pytest.mark.feature(42)
def test_a_cap_on_the_calls_in_flight_of_a_task() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=2) as worker:
        pids = {task.pid for task in worker}
        ended = []
        replies = [worker.get("nap", 0.05) for _ in range(6)]
        for reply in replies:
            ended.append(reply.result(T))
            assert max(task.load for task in worker) <= 1
        assert set(ended) == pids


@pytest.mark.feature(43)
def test_requests_have_ids_and_times(served: CallableTask) -> None:
    before = time.time()
    first, second = served.get("request"), served.get("request")
    ids = [first.result(T)[0], second.result(T)[0]]
    assert ids == [first.id, second.id]
    assert ids[0] != ids[1]
    assert before <= first.result()[1] <= second.result()[1] <= time.time()


@pytest.mark.feature(44)
def test_the_child_lists_its_ongoing_requests(served: CallableTask) -> None:
    holding = served.wait_for("holding")
    held = served.get("hold")
    holding.result(T)
    served.send("release", 1).result(T)
    assert held.result(T) == [1, [held.id]]


@pytest.mark.feature(45)
def test_callbacks_and_futures(served: CallableTask) -> None:
    called: list[Any] = []
    done = threading.Event()
    reply = served.get("echo", 1)
    reply.add_done_callback(lambda settled: (called.append(settled.result()), done.set()))
    assert done.wait(T)
    assert called == [1]

    async def main() -> list[Any]:
        return await asyncio.gather(served.get("echo", 2), asyncio.wrap_future(served.get("echo", 3)))

    assert asyncio.run(main()) == [2, 3]


@pytest.mark.feature(24)
def test_what_a_forgotten_call_raises_is_an_error_event_and_else_a_log_record(caplog: pytest.LogCaptureFixture) -> None:
    with CallableTask(KITCHEN) as task:
        errors = task.wait_for("error")
        task.on("error", lambda event: None)
        task.call("fail", "heard").result(T)
        (event,) = errors.result(T)
        assert (event.method, str(event.error)) == ("fail", "heard")
        task.off("error")
        told = task.wait_for("after")
        task.call("fail", "unheard").result(T)
        task.get("tell", "after").result(T)
        told.result(T)
    assert "unheard" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.feature(23)
def test_large_arguments_and_results_arrive_whole(served: CallableTask) -> None:
    data = bytes(range(256)) * 40_000
    assert served.get("echo", data).result(T) == data


def test_a_call_that_is_cancelled_while_its_answer_is_at_hand_leaves_once() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=1) as worker:
        (task,) = worker
        answering, made = task._slot.traffic._answering, queue.SimpleQueue[Reply]()
        over = answering._over

        def late(*answer: Any) -> None:
            made.get(timeout=T).cancel()
            over(*answer)

        answering._over = late  # type: ignore[method-assign]
        reply = worker.get("module_name")
        made.put(reply)
        with pytest.raises(CallCancelled):
            reply.result(T)
        worker.drain(T).result(T)
        answering._over = over  # type: ignore[method-assign]
        assert worker._dispatcher.backlog.out == 0
        assert worker.get("module_name").result(T) == "kitchen"


def test_a_method_that_is_named_by_an_object_of_another_class_is_that_of_the_same_name() -> None:
    class Name(str):
        """One that the child cannot import."""

    with CallableTask(KITCHEN) as task:
        assert task.get(Name("add"), 1).result(T) == 2
        assert list(task.map(Name("add"), range(3))) == [1, 2, 3]
