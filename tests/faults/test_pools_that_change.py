"""Cases 62, 63 and 68 of the fault table: cancels, recycling, and tasks that come and go, under load."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faulting import DEADLINE, Load, make_task
from sizes import size

from relieve_py import AlreadyRunning, CallCancelled, CloudWorker, RecyclePolicy, State, TaskDied

pytestmark = pytest.mark.timeout(size(60, 240))


def make_worker(launcher: str, tasks: int, recycle: RecyclePolicy | None = None, **options: Any) -> CloudWorker:
    """Not started."""
    settings = {} if recycle is None else {"recycle": recycle}
    return CloudWorker(make_task(launcher, **settings), size=tasks, **options)


def is_whole(worker: CloudWorker, tasks: int) -> None:
    """It has its size, every task serves, and nothing is open."""
    assert [task.get("echo", n).result(DEADLINE) for n, task in enumerate(worker)] == list(range(tasks))
    assert worker.drain().result(DEADLINE) is worker
    stats = worker.stats()
    assert (stats.size, stats.running, stats.queued) == (tasks, 0, 0)


@pytest.mark.fault(62)
def test_cancels_that_race_completion_and_death_leave_every_call_with_one_end(launcher: str) -> None:
    """4 tasks, children killed meanwhile, cancels at random moments; 10,000 calls with RELIEVE_FULL."""
    chance = random.Random(62)
    settled = [0] * size(300, 10_000)
    with make_worker(launcher, 4) as worker:

        def count(n: int) -> None:
            settled[n] += 1

        def cancel_some(replies: list[Any]) -> None:
            for reply in chance.sample(replies, len(replies)):
                if chance.random() < 0.6:
                    reply.cancel()

        ends = {"value": 0, "cancelled": 0, "died": 0}
        for start in range(0, len(settled), 50):
            replies = [worker.get("nap", (chance.random() * 0.002, n)) for n in range(start, start + 50)]
            for n, reply in enumerate(replies, start):
                reply.add_done_callback(lambda _, n=n: count(n))
            canceller = threading.Thread(target=cancel_some, args=[replies])
            canceller.start()
            victim = chance.choice(list(worker)).pid
            if victim is not None:
                with contextlib.suppress(ProcessLookupError):  # it is dead, of the blow before
                    os.kill(victim, signal.SIGKILL)
            for n, reply in enumerate(replies, start):
                try:
                    assert reply.result(DEADLINE) == n
                    ends["value"] += 1
                except CallCancelled:
                    ends["cancelled"] += 1
                except TaskDied:
                    ends["died"] += 1
            canceller.join()
        is_whole(worker, 4)
    assert settled == [1] * len(settled)
    assert sum(ends.values()) == len(settled)
    assert ends["value"]
    assert ends["cancelled"]


@pytest.mark.fault(63)
def test_recycling_under_a_full_queue_loses_no_call(launcher: str) -> None:
    """Every third call ends a child; 1,000 recycles with RELIEVE_FULL."""
    worker = make_worker(launcher, 2, RecyclePolicy(max_calls=3), max_pending=4)
    recycled: list[Any] = []
    worker.on("recycle", recycled.append)
    calls = 3 * size(8, 1000)

    def produce(first: int) -> list[int]:
        replies = [worker.get("echo", n) for n in range(first, calls, 4)]  # each waits for room in the queue
        return [reply.result(DEADLINE) for reply in replies]

    with worker:
        with ThreadPoolExecutor(4) as producers:
            got = [n for values in producers.map(produce, range(4)) for n in values]
        assert sorted(got) == list(range(calls))
        assert list(worker.map("echo", range(12))) == list(range(12)), "in order"
        is_whole(worker, 2)
    assert len(recycled) >= calls // 3
    assert {record.reason for record in recycled} == {"calls"}


@pytest.mark.fault(68)
def test_tasks_are_added_removed_and_resized_under_load(launcher: str) -> None:
    chance = random.Random(68)
    with make_worker(launcher, 2) as worker:
        load = Load(worker)
        try:
            for n in range(size(6, 100)):
                task = make_task(launcher, name=f"guest-{n}")
                worker.add(task)
                with contextlib.suppress(AlreadyRunning):  # a call of the load was first
                    task.start().result(DEADLINE)
                assert task.get("echo", n).result(DEADLINE) == n
                leaving = worker.resize(chance.choice([2, 4]))
                exit = None if task.name not in worker.tasks else worker.remove(task).result(DEADLINE)
                assert leaving.result(DEADLINE) is worker
                assert exit is None or exit.code == 0
                assert task.wait().result(DEADLINE)
                assert task.state is State.STOPPED
            worker.resize(2).result(DEADLINE)
        finally:
            load.stop()
        is_whole(worker, 2)
        load.settled_once()
