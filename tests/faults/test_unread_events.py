"""Case 11 of the fault table: thousands of events to a child that does not read them. Who sends waits, memory stays
bounded, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulting import DEADLINE, Pool, make_task, stopped_child_of, waits_inside

from relieve_py import CallableTask, CloudWorker, NotRunning, Reply, Stopped, TaskDied
from relieve_py.child.handlers import AHEAD
from relieve_py.table import EVENT_BYTES_AHEAD, EVENTS_AHEAD

NEVER_READY = str(Path(__file__).parent.parent / "scripts" / "never_ready.py")
Alone = Callable[..., CallableTask]


class Sender:
    """Sends so many events from a thread of its own."""

    def __init__(self, send: Callable[[int], Reply], count: int) -> None:
        self.sent: list[Reply] = []
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(send, count))
        self.thread.start()

    def _run(self, send: Callable[[int], Reply], count: int) -> None:
        try:
            for n in range(count):
                self.sent.append(send(n))
        except BaseException as error:
            self.error = error

    def has_to_wait(self, function: str = "wait_for_slack") -> None:
        waits_inside(self.thread, function)

    def goes_on(self) -> list[BaseException | None]:
        """It ends; how each event ended."""
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive(), "it still waits"
        assert self.error is None
        return [reply.exception(DEADLINE) for reply in self.sent]


@pytest.mark.fault(11)
def test_who_sends_to_a_child_that_does_not_read_waits_until_that_is_dead(pool: Pool, alone: Alone) -> None:
    task = alone()
    pid = stopped_child_of(task)
    sender = Sender(lambda n: task.send("event", bytes(1000), n), 3 * EVENTS_AHEAD)
    sender.has_to_wait()
    assert len(sender.sent) == EVENTS_AHEAD
    os.kill(pid, signal.SIGKILL)
    ends = sender.goes_on()
    lost = [error for error in ends if error is not None]
    assert ends[: len(lost)] == lost, "what was sent to the dead child, and nothing else"
    assert len(lost) == EVENTS_AHEAD
    assert {type(error) for error in lost} == {TaskDied}


@pytest.fixture
def task() -> Any:
    with make_task("forkserver") as task:
        yield task


@pytest.mark.fault(11)
def test_who_waits_goes_on_when_the_child_reads(task: CallableTask) -> None:
    pid = stopped_child_of(task)
    sender = Sender(lambda n: task.send("event", n), 5 * EVENTS_AHEAD)
    sender.has_to_wait()
    os.kill(pid, signal.SIGCONT)
    assert sender.goes_on() == [None] * 5 * EVENTS_AHEAD


@pytest.mark.fault(11)
def test_large_events_are_counted_by_their_bytes(task: CallableTask) -> None:
    pid = stopped_child_of(task)
    quarter = bytes(EVENT_BYTES_AHEAD // 4)
    sender = Sender(lambda n: task.send("event", quarter), 12)
    sender.has_to_wait()
    assert len(sender.sent) == 4
    os.kill(pid, signal.SIGCONT)
    assert sender.goes_on() == [None] * 12


@pytest.mark.fault(11)
def test_who_waits_goes_on_when_the_task_stops(task: CallableTask) -> None:
    stopped_child_of(task)
    sender = Sender(lambda n: task.send("event", n), EVENTS_AHEAD + 1)
    sender.has_to_wait()
    task.stop(0).result(DEADLINE)
    ends = sender.goes_on()
    assert {type(error) for error in ends[:-1]} == {TaskDied}
    assert isinstance(ends[-1], Stopped)


@pytest.mark.fault(11)
def test_events_before_the_child_is_ready_count_too(task: CallableTask) -> None:
    task.stop().result(DEADLINE)
    task.start()
    sender = Sender(lambda n: task.send("event", n), 2 * EVENTS_AHEAD)
    assert sender.goes_on() == [None] * 2 * EVENTS_AHEAD


@pytest.mark.fault(11)
def test_cancelled_events_that_never_went_make_room() -> None:
    task = CallableTask(NEVER_READY)
    starting = task.start()
    sent = [task.send("event", n) for n in range(EVENTS_AHEAD)]
    sender = Sender(lambda n: task.send("last"), 1)
    sender.has_to_wait()
    assert all(reply.cancel() for reply in sent)
    sender.thread.join(DEADLINE)
    assert not sender.thread.is_alive()
    task.kill().result(DEADLINE)
    assert starting.exception(DEADLINE) is not None


@pytest.mark.fault(11)
def test_under_an_event_loop_the_replies_wait(task: CallableTask) -> None:
    pid = stopped_child_of(task)

    async def send() -> list[Any]:
        replies = [task.send("event", n) for n in range(EVENTS_AHEAD + 500)]
        assert not any(reply.done() for reply in replies)
        os.kill(pid, signal.SIGCONT)
        return await asyncio.wait_for(asyncio.gather(*replies), DEADLINE)

    assert asyncio.run(send()) == [task] * (EVENTS_AHEAD + 500)


@pytest.mark.fault(11)
def test_a_listener_never_waits_so_a_child_that_waits_for_it_is_answered(task: CallableTask, tmp_path: Path) -> None:
    """Its handlers hold up 2,000 events, one of them waits for an answer, and who answers sends as many more."""
    task.get("ask_in_a_handler", "more").result(DEADLINE)
    answered = task.wait_for("answered")

    @task.on("more")
    def more() -> str:
        for n in range(2 * EVENTS_AHEAD + AHEAD):
            task.send("event", n)
        return "enough"

    task.send("go").result(DEADLINE)
    assert answered.result(DEADLINE) == ("enough",)


@pytest.mark.fault(11)
def test_a_child_whose_handlers_are_slow_holds_back_who_sends(task: CallableTask, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    task.get("listen_slowly", str(tmp_path / "pipe")).result(DEADLINE)
    heard = task.wait_for("heard")
    sender = Sender(lambda n: task.send("slow", n), EVENTS_AHEAD + AHEAD + 500)
    pause, deadline = threading.Event(), time.monotonic() + DEADLINE
    while sum(reply.done() for reply in list(sender.sent)) < AHEAD:  # before that it waits now and then
        assert time.monotonic() < deadline
        pause.wait(0.01)
    sender.has_to_wait()
    assert AHEAD < len(sender.sent) <= AHEAD + EVENTS_AHEAD + 2
    (tmp_path / "pipe").write_text("go on")
    assert sender.goes_on() == [None] * (EVENTS_AHEAD + AHEAD + 500)
    task.send("slow", -1).result(DEADLINE)
    assert heard.result(DEADLINE) == (-1,)


# -- through a worker ------------------------------------------------------------------------------


@pytest.mark.fault(11)
def test_a_worker_sends_to_the_children_that_read() -> None:
    with CloudWorker(make_task("forkserver"), size=2) as worker:
        stuck, other = worker
        pid = stopped_child_of(stuck)
        replies = [worker.send("event", n) for n in range(3 * EVENTS_AHEAD)]
        assert sum(not reply.done() for reply in replies[:EVENTS_AHEAD]) > 0
        last = [worker.send("event", n) for n in range(10)]
        assert [reply.result(DEADLINE) for reply in last] == [other] * 10
        os.kill(pid, signal.SIGCONT)
        assert {reply.exception(DEADLINE) for reply in replies} == {None}


@pytest.mark.fault(11)
@pytest.mark.parametrize("strategy", ["round-robin", "sticky"])
def test_who_sends_by_a_worker_waits_when_no_child_reads(strategy: str) -> None:
    with CloudWorker(make_task("forkserver"), size=2, strategy=strategy) as worker:
        pids = [stopped_child_of(task) for task in worker]
        sender = Sender(lambda n: worker.send("event", n), 4 * EVENTS_AHEAD)
        sender.has_to_wait("send")
        assert len(sender.sent) <= 3 * EVENTS_AHEAD
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert sender.goes_on() == [None] * 4 * EVENTS_AHEAD


@pytest.mark.fault(11)
def test_who_sends_by_a_worker_goes_on_when_that_stops() -> None:
    worker = CloudWorker(make_task("forkserver"), size=1)
    with worker:
        (task,) = worker
        stopped_child_of(task)
        sender = Sender(lambda n: worker.send("event", n), 2 * EVENTS_AHEAD + 1)
        sender.has_to_wait("send")
        worker.stop(0).result(DEADLINE)
        ends = sender.goes_on()
        assert all(isinstance(error, (TaskDied, NotRunning)) for error in ends)
