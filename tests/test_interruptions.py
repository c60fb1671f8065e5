"""Whether an exception was raised by a signal handler."""

from __future__ import annotations

import errno
import functools
import signal
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from relieve_py.interruptions import broke_system_call, raised_by_handler


def fail(*_: Any) -> None:
    raise TimeoutError("of the program")


class Alarm:
    def __call__(self, signum: int, frame: Any) -> None:
        fail()

    def method(self, signum: int, frame: Any) -> None:
        del frame
        fail()


@pytest.fixture(params=[fail, Alarm(), Alarm().method, functools.partial(fail, "more"), lambda signum, frame: fail()])
def handler(request: pytest.FixtureRequest) -> Iterator[Any]:
    before = signal.signal(signal.SIGUSR1, request.param)
    yield request.param
    signal.signal(signal.SIGUSR1, before)


def raised(function: Any, *args: Any) -> BaseException:
    with pytest.raises(TimeoutError) as caught:
        function(*args)
    return caught.value


def test_what_a_handler_raises_is_recognized(handler: Any) -> None:
    assert raised_by_handler(raised(signal.raise_signal, signal.SIGUSR1))


def test_what_others_raise_is_not(handler: Any) -> None:
    def other() -> None:
        raise TimeoutError

    assert not raised_by_handler(raised(other))
    assert not raised_by_handler(TimeoutError())


def test_a_function_that_handles_no_signal_is_no_handler() -> None:
    assert not raised_by_handler(raised(fail))


def test_a_handler_that_claims_to_have_any_attribute_is_looked_at_and_no_more() -> None:
    before = signal.signal(signal.SIGUSR1, mock.Mock())
    try:
        assert not raised_by_handler(raised(fail))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_breaks_a_system_call_is_told_from_what_that_says(handler: Any) -> None:
    assert broke_system_call(TimeoutError("of an alarm"))
    assert not broke_system_call(TimeoutError(errno.ETIMEDOUT, "of the system"))
    assert broke_system_call(raised(signal.raise_signal, signal.SIGUSR1))


def test_no_handler_runs_in_another_thread(handler: Any) -> None:
    found: list[bool] = []

    def elsewhere() -> None:
        found.append(raised_by_handler(raised(handler, 0, None)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]
