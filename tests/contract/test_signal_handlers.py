"""What a signal handler of the program may do while the main thread waits for an answer."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from support import T, script

import relieve_py
from relieve_py import CallableTask, CalledFromHandler, CloudWorker, RelieveError, locks
from relieve_py.slot import Slot

NAPPING = script("napping.py")
MEANWHILE: dict[str, Callable[[CallableTask, CallableTask], object]] = {
    "stops it": lambda task, other: task.stop(0.05).result(T),
    "kills it": lambda task, other: task.kill().result(T),
    "restarts it": lambda task, other: task.kill().result(T) and task.start().result(T),
    "stops all": lambda task, other: relieve_py.stop_all(0.05),
    "has a thread stop it": lambda task, other: in_a_thread(lambda: task.stop(0.05).result(T)),
    "waits for the stop in another way": lambda task, other: concurrent.futures.wait([task.stop(0.05)], T),
    "calls it": lambda task, other: task.options(timeout=T).get("pid").cancel(),
    "calls another": lambda task, other: other.get("pid").result(T),
    "reads a stream of another": lambda task, other: list(other.stream("trickle", 0.01)),
    "cancels nothing and goes on": lambda task, other: None,
}


def in_a_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@contextlib.contextmanager
def handled(handler: Callable[[], object]) -> Iterator[None]:
    """Calls ``handler()`` in the main thread at SIGUSR1."""
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def once_it_waits(task: CallableTask) -> threading.Thread:
    """Send the main thread the signal when it reads the channel of that task."""
    main, turns = threading.get_ident(), task._slot._line._turns
    pause = threading.Event()  # never set: that a thread begins to wait is announced to nobody

    def send() -> None:
        for _ in range(10_000):
            wake = turns._waiting
            if wake is not None and wake.polling:
                signal.pthread_kill(main, signal.SIGUSR1)
                return
            pause.wait(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("how", ["nap", "trickle"])
@pytest.mark.parametrize("what", MEANWHILE)
def test_a_handler_runs_while_the_main_thread_waits(what: str, how: str) -> None:
    done: list[str] = []
    with CallableTask(NAPPING, kill_timeout=0.3) as task, CallableTask(NAPPING) as other:

        def handler() -> None:
            MEANWHILE[what](task, other)
            done.append(what)

        with handled(handler):
            running: Any = task.get("nap", 0.3) if how == "nap" else task.stream("trickle", 0.3)
            sender = once_it_waits(task)
            with contextlib.suppress(RelieveError):  # if it was stopped
                running.result(T) if how == "nap" else list(running)
            sender.join()
        assert done == [what]


def test_a_handler_gets_an_answer_on_the_very_channel_that_the_main_thread_waits_for() -> None:
    got: list[int] = []
    with CallableTask(NAPPING) as task:
        with handled(lambda: got.append(task.get("pid").result(T))):
            running = task.get("nap", 0.2)
            sender = once_it_waits(task)
            assert running.result(T) == task.pid
            sender.join()
        assert got == [task.pid]


def test_a_handler_stops_the_worker_that_the_main_thread_waits_for() -> None:
    stopped: list[Any] = []
    with CloudWorker(CallableTask(NAPPING, kill_timeout=0.1), size=2) as worker:
        first = next(iter(worker))
        with handled(lambda: stopped.append(worker.stop(0.05).result(T))):
            running = worker.get("nap", 30)
            sender = once_it_waits(first)
            with pytest.raises(RelieveError):
                running.result(T)
            sender.join()
    assert len(stopped) == 1


# -- a handler that comes in the middle of the library's own work ----------------------------------

MUST_NOT: dict[str, Callable[[CallableTask], object]] = {
    "stop": lambda task: task.stop(),
    "restart": lambda task: task.restart(),
    "get": lambda task: task.get("pid"),
    "send": lambda task: task.send("event"),
    "drain": lambda task: task.drain(),
    "send_signal": lambda task: task.send_signal(signal.SIGURG),
}


@pytest.mark.parametrize("what", MUST_NOT)
def test_a_handler_that_calls_a_task_whose_lock_its_thread_has_is_told_what_to_do(what: str) -> None:
    refused = pytest.raises(CalledFromHandler, match="raise an exception in the handler")
    with CallableTask(NAPPING) as task:
        with handled(lambda: MUST_NOT[what](task)), task._slot._lock, refused:
            signal.raise_signal(signal.SIGUSR1)
        assert task.get("pid").result(T) == task.pid


@pytest.mark.parametrize("what", ["get", "cancel", "pause"])
def test_so_is_one_that_calls_a_worker_whose_lock_its_thread_has(what: str) -> None:
    with CloudWorker(CallableTask(NAPPING), size=1) as worker:
        waiting = [worker.get("nap", 0.1), worker.get("pid")]
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: worker.get("pid"),
            "cancel": waiting[1].cancel,
            "pause": worker.pause,
        }
        with handled(calls[what]), worker._dispatcher.mutex, pytest.raises(CalledFromHandler):
            signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("how", ["exit", "answer", "item"])
def test_a_handler_that_waits_for_others_who_need_a_lock_of_its_thread_is_told_so(how: str) -> None:
    with CallableTask(NAPPING, kill_timeout=0.1) as task, CallableTask(NAPPING, kill_timeout=0.1) as other:
        waits: dict[str, Callable[[], object]] = {
            "exit": lambda: other.wait().result(T),
            "answer": lambda: other.get("nap", 0.4).result(T),
            "item": lambda: next(other.stream("trickle", 1)),
        }
        with handled(waits[how]), task._slot._lock, pytest.raises(CalledFromHandler):
            signal.raise_signal(signal.SIGUSR1)


def test_a_long_wait_of_the_main_thread_is_no_handler() -> None:
    with CallableTask(NAPPING) as task, CloudWorker(CallableTask(NAPPING), size=1) as worker:
        seconds = 1.5 * locks.PATIENCE
        assert task.get("nap", seconds).result(T) == task.pid
        assert len(list(task.stream("trickle", seconds))) > 0
        replies = [worker.get("nap", seconds) for _ in range(2)]
        assert replies[1].result(T) == replies[0].result(T)


class Alarm:
    """Handlers that raise, in the ways in which one may be written."""

    def by_itself(self, signum: int, frame: object) -> None:
        raise TimeoutError("of the program")

    def by_another(self, *args: object) -> None:
        self.by_itself(0, None)


def ask(task: CallableTask, alarms: list[Any]) -> None:
    """Until one of them has gone off, which takes that it is the main thread that reads."""
    while alarms:
        task.get("pid").result(T)


@pytest.mark.parametrize("handler", [Alarm().by_itself, Alarm().by_another])
def test_what_a_handler_raises_while_an_answer_is_read_is_no_fault_of_the_child(
    handler: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard, alarms = Slot.heard, [signal.SIGUSR1]

    def interrupted(slot: Slot, *args: Any) -> None:
        if alarms and threading.current_thread() is threading.main_thread():
            signal.raise_signal(alarms.pop())
        heard(slot, *args)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with CallableTask(NAPPING, restart=True) as task:
            task.get("pid").result(T)
            monkeypatch.setattr(Slot, "heard", interrupted)
            with pytest.raises(TimeoutError, match="of the program"):
                ask(task, alarms)
            assert task.get("pid").result(T)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "broke the protocol" not in caplog.text
    assert "was interrupted by a signal handler" in caplog.text


def test_handlers_at_any_moment_hang_nothing() -> None:
    """What they ask is done, or refused by name."""
    ends: list[str] = []
    over, main, chance = threading.Event(), threading.get_ident(), Random(1)

    def disturb() -> None:
        while not over.wait(chance.random() * 0.004):
            signal.pthread_kill(main, signal.SIGUSR1)

    with CallableTask(NAPPING, kill_timeout=0.1) as task, CallableTask(NAPPING) as other:

        def handler() -> None:
            if len(ends) > 20 or running:
                return
            running.append(True)  # one at a time, or they would never come to an end
            try:
                other.get("pid").result(T)
                task.get("pid").result(T)
                other.restart().result(T)
                ends.append("done")
            except CalledFromHandler:
                ends.append("refused")
            running.clear()

        running: list[bool] = []
        sender = threading.Thread(target=disturb)
        with handled(handler):
            sender.start()
            while len(ends) <= 20:
                assert task.get("pid").result(T) == task.pid
            over.set()
            sender.join()
    assert "done" in ends


def test_an_answer_that_came_in_time_counts_though_a_handler_kept_it_from_being_read() -> None:
    """As it is when the whole process was stopped for a while (Ctrl-Z)."""
    settled = threading.Event()
    with CallableTask(NAPPING) as task, handled(lambda: settled.wait(T)):  # until its time is over, and longer
        running = task.options(timeout=1.5).get("nap", 0.2)
        running.add_done_callback(lambda reply: settled.set())
        sender = once_it_waits(task)
        assert running.result(T) == task.pid
        sender.join()


def test_a_call_that_gave_up_in_time_is_heard_before_its_child_is_ended() -> None:
    over = threading.Event()
    with CallableTask(NAPPING, kill_timeout=1.5) as task:
        running = task.get("nap", 30)

        def handler() -> None:
            running.cancel()
            task.drain().add_done_callback(lambda reply: over.set())
            over.wait(T)  # until its kill_timeout is over

        with handled(handler):
            sender = once_it_waits(task)
            with pytest.raises(concurrent.futures.CancelledError):
                running.result(T)
            sender.join()
        assert task.restarts == 0
