"""Every call is counted once, as what became of it, and its times with it."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from support import KITCHEN, T, script

from relieve_py import CallableTask, CloudWorker, Reply, ScriptTask, Stopped, Worker, WorkerFull
from relieve_py.calls import CallOptions
from relieve_py.chunks import Chunk
from relieve_py.supervisor import shared


def settled(*replies: Reply) -> None:
    for reply in replies:
        with contextlib.suppress(Exception):
            reply.result(T)


@pytest.mark.feature(114)
def test_a_task_counts_what_becomes_of_its_calls(gate: Callable[[], Any]) -> None:
    door = gate()
    with CallableTask(KITCHEN) as task:
        waiting = task.wait_for("waiting")
        held = task.get("wait_for_file", door.path)
        waiting.result(T)
        behind = [task.get("echo", n) for n in range(3)]
        assert behind[0].cancel()
        now = task.stats()
        assert (now.task, now.state, now.running, now.queued, now.most_queued) == (task.name, "ready", 1, 2, 3)
        door.open()
        settled(held, *behind[1:], task.get("fail"), task.get("no_such"))
        settled(task.options(retries=1, poison_after=None).get("kill_itself"))
        settled(task.options(timeout=0.05).get("hang"), task.call("fail"), task.call("echo"))
        list(task.stream("rows", 3))
        task.send("no call").result(T)
        task.drain().result(T)
        stats = task.stats()
    assert (stats.done, stats.failed, stats.cancelled, stats.retried, stats.restarts) == (5, 5, 1, 1, 2)
    assert (stats.queued, stats.running, stats.latency.count) == (0, 0, 5)


@pytest.mark.feature(114, 117)
def test_a_worker_counts_every_call_once(gate: Callable[[], Any]) -> None:
    door = gate()
    with CloudWorker(CallableTask(KITCHEN), size=2, max_pending=4, when_full="drop_newest", retries=1) as worker:
        waiting = worker.wait_for("waiting")
        held = [worker.get("wait_for_file", door.path), worker.get("hang")]
        waiting.result(T)
        queued = [worker.get("echo", n) for n in range(6)]
        assert queued[0].cancel()
        settled(worker.options(queue_timeout=0.01).get("echo"))
        assert held[1].cancel()
        door.open()
        settled(held[0], *queued[1:])
        settled(worker.get("fail"), worker.get("kill_itself"))
        worker.drain().result(T)
        stats = worker.stats()
    assert stats.submitted == stats.done + stats.failed + stats.cancelled + stats.dropped == 11
    assert (stats.done, stats.failed, stats.cancelled, stats.dropped) == (4, 3, 2, 2)
    assert (stats.most_queued, stats.retried) == (4, 1)
    assert isinstance(queued[5].exception(), WorkerFull)


def test_times_are_from_the_making_of_a_call(gate: Callable[[], Any]) -> None:
    door = gate()
    with CloudWorker(CallableTask(KITCHEN), size=1) as worker:
        waiting = worker.wait_for("waiting")
        before = time.monotonic()
        held = worker.get("wait_for_file", door.path)
        behind = worker.get("echo")
        made = time.monotonic()
        waiting.result(T)
        waited = time.monotonic() - made
        door.open()
        settled(held, behind)
        worker.drain().result(T)
        took = time.monotonic() - before
        stats = worker.stats()
        assert (stats.latency.count, stats.queue_time.count) == (2, 2)
        assert waited <= stats.queue_time.longest <= stats.latency.longest <= took
        assert next(iter(worker)).stats().latency == stats.latency


def test_what_a_task_counted_stays_when_it_is_removed_and_counts_once_when_it_returns() -> None:
    one, two = CallableTask(KITCHEN, name="one"), CallableTask(KITCHEN, name="two")
    with Worker(one, two) as worker:
        settled(*(task.get("echo") for task in (one, one, two)), two.get("fail"))
        two.restart().result(T)
        before = worker.stats()
        assert (before.submitted, before.done, before.failed, before.restarts) == (4, 3, 1, 1)
        worker.remove(two).result(T)
        for _ in range(2):
            assert attrs.evolve(worker.stats(), size=2, states={"ready": 2}) == before
            worker.add(two)
            after = worker.stats()
            assert (after.done, after.failed, after.restarts, after.size) == (3, 1, 1, 2)
            worker.remove(two).result(T)


@pytest.mark.feature(121)
def test_stats_health_and_tasks_as_json(cloud: CloudWorker) -> None:
    settled(cloud.get("echo"))
    told = json.loads(cloud.stats().to_json())
    assert told["latency"]["count"] == told["done"] >= 1
    assert json.loads(next(iter(cloud)).stats().to_json())["state"] == "ready"
    assert json.loads(next(iter(cloud)).health().to_json())["pid"] > 0
    whole = json.loads(json.dumps(cloud.to_dict()))
    assert (whole["name"], whole["kind"], whole["stats"]["size"]) == (cloud.name, "CloudWorker", 2)
    for told, task in zip(whole["tasks"], cloud, strict=True):
        assert (told["name"], told["health"]["pid"], told["stats"]["state"]) == (task.name, task.pid, "ready")
    program = ScriptTask(KITCHEN)
    assert program.health().pid is None
    assert json.loads(program.stats().to_json())["done"] == 0
    assert json.loads(json.dumps(program.to_dict()))["pid"] is None


def test_a_pool_that_shrinks_and_grows_counts_on() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=3) as worker:
        settled(*(worker.get("echo", n) for n in range(30)))
        worker.resize(1).result(T)
        worker.resize(2).result(T)
        next(iter(worker)).send_signal(signal.SIGURG)  # which changes nothing
        settled(*(worker.get("echo", n) for n in range(10)))
        worker.drain().result(T)
        stats = worker.stats()
    assert (stats.submitted, stats.done, stats.latency.count) == (40, 40, 40)
    assert (stats.size, stats.largest) == (2, 3)


@pytest.mark.feature(114)
def test_each_item_of_a_map_is_a_call_also_where_items_travel_together() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=2) as worker:
        assert list(worker.map("echo", range(500))) == list(range(500))
        whole = worker.stats()
        with worker.map("echo", range(100_000)) as left_early:
            assert next(left_early) == 0
        worker.drain().result(T)
        stats = worker.stats()
    assert (whole.submitted, whole.done) == (500, 500)
    assert 500 < stats.submitted < 100_500
    assert stats.submitted == stats.done + stats.failed + stats.cancelled


@pytest.mark.feature(114)
@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_items_that_wait_together_are_counted_one_by_one(how: str) -> None:
    with CloudWorker(CallableTask(KITCHEN)) as worker:
        assert list(worker.map("echo", range(500))) == list(range(500))
        worker.pause()
        chunk = Chunk("echo", CallOptions(), list(range(25)))
        reply = worker._submit(chunk, (), {})
        assert isinstance(reply, Reply)
        if how == "cancelled":
            assert reply.cancel()
        else:
            worker.stop().result(T)
            assert isinstance(reply.exception(T), Stopped)
        stats = worker.stats()
    assert (stats.submitted, stats.done, stats.cancelled + stats.failed) == (525, 500, 25)


class Cancels:
    """A strategy in whose hands calls are cancelled, and that then chooses a task or raises."""

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    def push(self, task: Any) -> None: ...

    def remove(self, task: Any) -> None: ...

    def start(self, task: Any, call: Any) -> None: ...

    def end(self, task: Any, call: Any) -> None: ...

    def next(self, tasks: Any, call: Any) -> Any:
        if call.method == "nap":
            call.reply.cancel()
        if self._fails and call.method == "nap":
            raise LookupError("no task will do")
        return tasks[0]


@pytest.mark.feature(114)
@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_is_cancelled_on_its_way_to_a_task_counts_as_cancelled(fails: bool) -> None:
    with CloudWorker(CallableTask(KITCHEN), strategy=Cancels(fails)) as worker:
        replies = [worker.get("nap", 0), worker.get("echo", 1)]
        settled(*replies)
        worker.drain().result(T)
        stats = worker.stats()
    assert replies[0].cancelled()
    assert (stats.submitted, stats.done, stats.cancelled, stats.failed) == (2, 1, 1, 0)


@pytest.mark.feature(116)
def test_cpu_percent_is_of_the_time_since_the_last_look() -> None:
    with CallableTask(script("burn.py")) as task:
        task.get("burn", 0.2).result(T)
        at_work = task.health()
        assert at_work.cpu_seconds >= 0.17, "the system counts hundredths, and cuts off the rest"
        assert at_work.cpu_percent == pytest.approx(100 * at_work.cpu_seconds / at_work.uptime, rel=0.2)
        for _ in range(3):
            task.health()  # too soon after the last to tell anything new
        time.sleep(0.3)  # what is measured is idle time
        assert task.health().cpu_percent < at_work.cpu_percent / 2


def test_health_is_looked_at_without_the_io_thread(cloud: CloudWorker) -> None:
    """It is held up meanwhile; and a task without a child has a health, too."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(T)

    shared().post(hold)
    try:
        assert held.wait(T)
        assert [health.state for health in cloud.health()] == ["ready", "ready"]
    finally:
        go_on.set()
