"""What a signal handler of the program may do while the main thread waits for an answer."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import T, script

import relieve_py
from relieve_py import CallableTask, CloudWorker, RelieveError

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
