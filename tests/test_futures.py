"""Futures that make their condition when somebody waits: as those of the standard library, whenever that is."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from relieve_py import futures, locks
from relieve_py.futures import FINISHED, OVER, LateFuture


class Plain(LateFuture):
    """It counts how often it was over."""

    ends = 0

    def _invoke_callbacks(self) -> None:
        self.ends += 1
        super()._invoke_callbacks()


def test_one_that_nobody_waits_for_has_no_condition() -> None:
    future = Plain()
    assert future._move(FINISHED, 5)
    assert future._gate is None
    assert (future.result(), future.exception(), future.ends) == (5, None, 1)


def test_what_is_over_stays_as_it_is() -> None:
    for made_before in (True, False):
        future = Plain()
        if made_before:
            assert future._condition is future._condition
        assert future._move(FINISHED, None, KeyError("first"))
        assert not future._move(FINISHED, 2)
        assert not future._move("CANCELLED_AND_NOTIFIED")
        assert isinstance(future.exception(0), KeyError)
        assert future.ends == 1


def test_those_who_wait_are_woken_however_it_ends() -> None:
    ends: list[tuple[Any, ...]] = [(FINISHED, 1), (FINISHED, None, KeyError()), ("CANCELLED_AND_NOTIFIED",)]
    made = [Plain() for _ in ends]
    begun = threading.Event()
    got: list[Any] = []

    def wait() -> None:
        begun.set()
        got.append(concurrent.futures.wait(made, timeout=20))

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(20)
    for future, end in zip(made, ends, strict=True):
        future._move(*end)
    waiter.join()
    assert got[0].done == set(made)
    assert list(concurrent.futures.as_completed(made, timeout=0)) != []


def test_a_wait_that_begins_as_they_end_counts_each_once() -> None:
    for _ in range(200):
        made = [Plain() for _ in range(20)]
        last, start = Plain(), threading.Barrier(2)

        def settle(made: list[Plain] = made, start: threading.Barrier = start) -> None:
            start.wait()
            for future in made:
                future._move(FINISHED, 1)

        thread = threading.Thread(target=settle)
        thread.start()
        start.wait()
        got = concurrent.futures.wait([*made, last], timeout=0.001)
        assert last in got.not_done
        assert not concurrent.futures.wait(made, timeout=20).not_done
        thread.join()


def made_in_the_middle(monkeypatch: pytest.MonkeyPatch, interlude: Callable[[], object]) -> None:
    """Have that run while the next condition is made, as the collector or a signal handler might."""
    make, left = locks.Condition, [interlude]

    def condition() -> threading.Condition:
        if left:
            left.pop()()
        return make()

    monkeypatch.setattr(locks, "Condition", condition)


def test_whoever_comes_while_one_is_made_may_end_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that settles the other has its condition, and wants the lock of all."""
    future, other = Plain(), Plain()
    gate, settled = other._condition, threading.Event()

    def settle() -> None:
        other._move(FINISHED, 1)
        settled.set()

    def interlude() -> None:
        with gate:
            threading.Thread(target=settle, daemon=True).start()
        assert settled.wait(20)

    made_in_the_middle(monkeypatch, interlude)
    assert future._condition is future._gate
    assert other.result(0) == 1


def test_who_waits_on_the_condition_of_a_handler_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    future = Plain()
    made: list[threading.Condition] = []
    made_in_the_middle(monkeypatch, lambda: made.append(future._condition))
    assert [future._condition] == made


def test_a_waker_is_called_or_refused() -> None:
    future, told = Plain(), list[int]()
    for n in (1, 2):
        assert future._add_waker(functools.partial(told.append, n))
    future._move(FINISHED, 1)
    assert not future._add_waker(functools.partial(told.append, 3))
    assert told == [1, 2]


def test_who_was_interrupted_in_the_middle_of_telling_goes_on_behind_that() -> None:
    future, told = Plain(), list[str]()

    def interrupted() -> None:
        told.append("interrupted")
        raise KeyboardInterrupt

    for waker in (functools.partial(told.append, "before"), interrupted, functools.partial(told.append, "behind")):
        assert future._add_waker(waker)
    with pytest.raises(KeyboardInterrupt):
        future._move(FINISHED, 1)
    future._go_on_telling()
    future._go_on_telling()
    assert told == ["before", "interrupted", "behind"]


def test_a_thread_that_may_have_been_woken_is_woken_again() -> None:
    future, bells = Plain(), [locks.Bell(), locks.Bell()]

    def interrupted() -> None:
        bells[0]()
        raise KeyboardInterrupt

    interrupted.may_repeat = True  # type: ignore[attr-defined]
    future._add_waker(interrupted)
    future._add_waker(bells[1])
    with pytest.raises(KeyboardInterrupt):
        future._move(FINISHED, 1)
    with pytest.raises(KeyboardInterrupt):
        future._go_on_telling()
    assert bells[0].wait(0)
    assert not bells[1].wait(0)
    future._wakers = [bells[0], bells[1]]
    bells[1]()
    future._go_on_telling()
    assert bells[0].wait(0)
    assert bells[1].wait(0)


def test_a_bell_that_was_rung_says_so_to_a_condition_alone() -> None:
    bell = locks.Bell()
    assert not bell.wait(0)
    bell()
    bell()
    with pytest.raises(RuntimeError):
        bell.release()
    assert bell.wait(None)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_change_leaves_no_lock() -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with futures.moving:
            held.set()
            go_on.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    pid = os.fork()
    if pid == 0:
        os._exit(int(Plain()._move(FINISHED, 1)))
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_its_states_are_those_of_the_standard_library() -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    assert future._state == Plain()._state  # type: ignore[attr-defined]
    future.set_result(1)
    assert future._state == FINISHED  # type: ignore[attr-defined]
    assert FINISHED in OVER
