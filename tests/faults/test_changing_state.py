"""Cases 55 to 61 of the fault table: requests that meet each other, and restarts."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulting import DEADLINE, KILL_TIMEOUT, PATIENT, Pool, make_task
from processes import signal_child
from sizes import size

from relieve_py import (
    CallableTask,
    CloudWorker,
    NotRunning,
    RelieveError,
    RestartPolicy,
    StartError,
    State,
    Stopped,
    TaskDied,
)

pytestmark = pytest.mark.timeout(size(60, 240))

STARTS_FOR_EVER = """
import time
from relieve_py import ipc
def start():
    ipc.send("starting")
    time.sleep(3600)
"""
STOPS_FOR_EVER = """
import time
from relieve_py import ipc
def stop():
    ipc.send("stopping")
    time.sleep(3600)
"""
STARTS_ONCE = """
import os
def start(path):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) > 1:
        os._exit(3)
def echo(value):
    return value
"""


@pytest.fixture
def script(launcher: str, tmp_path: Path) -> Callable[..., CallableTask]:
    """Makes a task of a script of that text, not started."""

    def make(text: str, **options: Any) -> CallableTask:
        path = tmp_path / "script.py"
        path.write_text(text)
        return CallableTask(path, launcher=launcher, **{"kill_timeout": KILL_TIMEOUT, **options})

    return make


def outcome(reply: Any) -> Any:
    """How a Reply ends: its value or its error."""
    try:
        return reply.result(DEADLINE)
    except RelieveError as error:
        return error


# -- 55: stop during start -------------------------------------------------------------------------


@pytest.mark.fault(55)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_stop_during_the_start_ends_it_at_any_moment(pool: Pool, end: str) -> None:
    """At once, and at moments up to that of a start in full."""
    chance = random.Random(55)
    took = 0.0
    for _ in range(size(6, 200)):
        task = make_task(pool.launcher)
        began = time.monotonic()
        started, called = task.start(), task.get("echo", 1)
        time.sleep(chance.random() * took)
        exit = getattr(task, end)().result(DEADLINE)
        assert time.monotonic() - began < 5
        for reply, value in ((started, task), (called, 1)):
            ended = outcome(reply)
            assert ended == value or isinstance(ended, (Stopped, TaskDied)), repr(ended)
        assert task.state is State.STOPPED
        assert task.exit is exit
        if not took:
            task.start().result(DEADLINE)
            took = time.monotonic() - began
            task.stop().result(DEADLINE)


@pytest.mark.fault(55)
def test_a_start_that_never_ends_is_ended_by_a_stop(script: Any) -> None:
    for end, signal_name in (("stop", "SIGTERM"), ("kill", "SIGKILL")):
        task = script(STARTS_FOR_EVER)
        starting = task.wait_for("starting")
        started = task.start()
        starting.result(DEADLINE)
        exit = getattr(task, end)().result(DEADLINE)
        assert exit.signal == signal_name
        with pytest.raises(Stopped):
            started.result(DEADLINE)


# -- 56: restart during restart --------------------------------------------------------------------


@pytest.mark.fault(56)
def test_restarts_during_restarts_all_end_and_no_call_is_lost(pool: Pool) -> None:
    chance = random.Random(56)
    task = make_task(pool.launcher)
    task.restart().result(DEADLINE)
    for _ in range(size(4, 100)):
        asked = [task.restart() for _ in range(3)]
        called = [task.get("echo", n) for n in range(5)]
        time.sleep(chance.random() * 0.01)
        asked.append(task.restart())
        assert [reply.result(DEADLINE) for reply in asked] == [task] * 4
        assert [reply.result(DEADLINE) for reply in called] == list(range(5))
    assert task.state is State.READY
    task.stop().result(DEADLINE)


# -- 57, 58: twice ---------------------------------------------------------------------------------


@pytest.mark.fault(57)
def test_stopping_twice_gives_the_same_exit_and_calls_after_it_are_refused(pool: Pool) -> None:
    task = make_task(pool.launcher)
    task.start().result(DEADLINE)
    stops = [task.stop() for _ in range(3)]
    exit = stops[0].result(DEADLINE)
    assert [reply.result(DEADLINE) for reply in (*stops, task.stop(), task.kill())] == [exit] * 5
    for reply in (task.get("echo", 1), task.call("echo", 1), task.send("event")):
        with pytest.raises(Stopped):
            reply.result(DEADLINE)
    for items in (task.stream("echo", 1), task.map("echo", [1])):
        with pytest.raises(Stopped):
            list(items)
    with CloudWorker(task) as worker:
        assert worker.get("echo", 1).result(DEADLINE) == 1
        worker.stop().result(DEADLINE)
        worker.stop().result(DEADLINE)
        with pytest.raises(NotRunning):
            worker.get("echo", 1).result(DEADLINE)
        worker.start().result(DEADLINE)
        assert worker.get("echo", 1).result(DEADLINE) == 1


@pytest.mark.fault(58)
def test_a_kill_while_it_stops_does_not_wait_for_the_stop(script: Any) -> None:
    task = script(STOPS_FOR_EVER, kill_timeout=30)
    task.start().result(DEADLINE)
    stopping = task.wait_for("stopping")
    stopped = task.stop()
    stopping.result(DEADLINE)
    began = time.monotonic()
    exit = task.kill().result(DEADLINE)
    assert time.monotonic() - began < 5
    assert exit.signal == "SIGKILL"
    assert stopped.result(DEADLINE) == exit


@pytest.mark.fault(58)
def test_stop_and_kill_at_the_same_time_agree(pool: Pool) -> None:
    chance = random.Random(58)
    for _ in range(size(5, 200)):
        task = make_task(pool.launcher)
        task.start().result(DEADLINE)
        replies = [task.stop()]
        time.sleep(chance.random() * 0.004)
        replies += [task.kill(), task.stop(), task.kill(signal.SIGTERM)]
        assert len({id(reply.result(DEADLINE)) for reply in replies}) == 1
        assert (task.state, task.restarts) == (State.STOPPED, 0)


# -- 59: the budget --------------------------------------------------------------------------------


@pytest.mark.fault(59)
def test_a_spent_restart_budget_fails_the_task_and_what_is_queued_with_the_cause(script: Any, tmp_path: Path) -> None:
    budget = RestartPolicy(max_restarts=2, within=60)
    task = script(STARTS_ONCE, args=[str(tmp_path / "starts")], restart=budget)
    failures: list[Any] = []
    task.on("failed", failures.append)
    worker = CloudWorker(task)
    worker.start().result(DEADLINE)
    assert worker.get("echo", 1).result(DEADLINE) == 1
    gone = task.wait_for("exit")
    assert task.pid is not None
    signal_child(task, signal.SIGKILL)
    gone.result(DEADLINE)
    own = [task.get("echo", 1), task.call("echo", 1), task.send("event")]
    queued = [worker.get("echo", n) for n in range(3)]
    for reply in own:
        with pytest.raises((StartError, NotRunning), match="max_restarts=2"):
            reply.result(DEADLINE)
    for reply in queued:
        with pytest.raises(NotRunning, match="exit code 3"):
            reply.result(DEADLINE)
    task.wait().result(DEADLINE)
    assert task.state is State.FAILED
    assert (task.restarts, len(failures)) == (2, 1)
    assert failures[0].code == 3
    worker.stop().result(DEADLINE)


# -- 60: which exits are followed by another child -------------------------------------------------


@pytest.mark.fault(60)
@pytest.mark.parametrize("mode", ["always", "on-failure", "never"])
@pytest.mark.parametrize(
    ("function", "args", "normal"),
    [("leave", (0,), True), ("leave", (3,), False), ("leave_at_once", (0,), True), ("kill", (), False)],
    ids=["exit-0", "exit-3", "at-once-0", "SIGKILL"],
)
def test_each_exit_is_followed_by_what_the_mode_says(
    pool: Pool, mode: str, function: str, args: tuple[int, ...], normal: bool
) -> None:
    task = make_task(pool.launcher, restart=RestartPolicy(mode))
    with pytest.raises(TaskDied):
        task.get(function, *args).result(DEADLINE)
    ended = outcome(task.get("echo", 1))
    if mode == "always" or (mode == "on-failure" and not normal):
        assert (ended, task.restarts) == (1, 1)
        task.stop().result(DEADLINE)
    else:
        assert isinstance(ended, NotRunning)
        assert (task.state, task.restarts) == (State.STOPPED, 0)


# -- 61: order -------------------------------------------------------------------------------------


@pytest.mark.fault(61)
def test_the_order_of_calls_holds_across_restarts(pool: Pool) -> None:
    task = make_task(pool.launcher, restart=PATIENT)
    settled: list[int] = []
    replies = []
    for n in range(size(60, 3000)):
        reply = task.get("kill") if n % 10 == 7 else task.get("echo", n)
        reply.add_done_callback(lambda _, n=n: settled.append(n))
        replies.append(reply)
        if n % 25 == 24:
            outcome(replies[-3])
            task.restart().result(DEADLINE)
    for n, reply in enumerate(replies):
        ended = outcome(reply)
        assert isinstance(ended, TaskDied) if n % 10 == 7 else ended == n
    task.drain().result(DEADLINE)
    task.stop().result(DEADLINE)
    assert settled == list(range(len(replies)))
