"""What a call costs where there are many: of tasks, of calls that wait, of coroutines; and how late answers are."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import psutil

from benchmarks.suite.functions import meet, same
from benchmarks.suite.meeting import meeting
from benchmarks.suite.peers import Peer
from benchmarks.suite.peers.base import LIMIT
from benchmarks.suite.works import Figures, Sizes, Work, at, share_of
from benchmarks.suite.works.calls import timed

CHILDREN = 2


def tasks(peer: type[Peer], sizes: Sizes) -> Figures:
    """Round trips while that many children are there, all but one idle."""
    figures: Figures = {}
    for children in sizes["children"]:
        if children <= peer.most_children:
            with peer(children) as pool:
                assert len(set(pool.pids())) == children
                figures[at("trip by tasks", children)], _ = timed(pool.trips, range(sizes["calls"]), 2 * children)
    return figures


def queue(peer: type[Peer], sizes: Sizes) -> Figures:
    """Microseconds for each of that many calls that all wait before the first one runs, handing over included."""
    figures: Figures = {}
    with peer(CHILDREN) as pool:
        queued(pool, 10)
        for calls in sizes["calls"]:
            if calls <= share_of(peer, "queue", sizes["calls"][-1]):
                figures[at("queued call", calls)] = queued(pool, calls)[0]
    return figures


def memory(peer: type[Peer], sizes: Sizes) -> Figures:
    """Bytes by which the parent grows for each call that waits."""
    with peer(CHILDREN) as pool:
        queued(pool, 100)
        return {"memory of a call": queued(pool, share_of(peer, "memory", sizes["calls"]))[1]}


def queued(pool: Peer, calls: int) -> tuple[float, float]:
    """Microseconds and bytes of each call."""
    with meeting() as place:
        held = [pool.submit(meet, place.folder) for _ in range(CHILDREN)]
        place.wait_for(CHILDREN)
        gc.collect()
        before, begin = psutil.Process().memory_info().rss, time.perf_counter()
        replies = [pool.submit(same, number) for number in range(calls)]
        submitted = time.perf_counter() - begin
        grown = psutil.Process().memory_info().rss - before
        begin = time.perf_counter()
        place.open()
        values = [reply.result() for reply in replies]
        took = submitted + time.perf_counter() - begin
        assert values == list(range(calls))
        assert len({reply.result(LIMIT) for reply in held}) == CHILDREN
    return took / calls * 1e6, grown / calls


def under_await(peer: type[Peer], sizes: Sizes) -> Figures:
    """Calls a second by coroutines, of which each makes one call after the other."""
    figures: Figures = {}
    with peer(CHILDREN) as pool:
        for coroutines in sizes["coroutines"]:
            each = max(1, share_of(peer, "await", sizes["calls"]) // coroutines)

            async def caller(first: int, each: int = each) -> int:
                for number in range(first, first + each):
                    assert await pool.awaited(same, number) == number
                return each

            async def all_callers(coroutines: int = coroutines, each: int = each) -> int:
                return sum(await asyncio.gather(*(caller(place * each) for place in range(coroutines))))

            begin = time.perf_counter()
            calls = asyncio.run(all_callers())
            figures[at("calls under await", coroutines)] = calls / (time.perf_counter() - begin)
    return figures


def load(peer: type[Peer], sizes: Sizes) -> Figures:
    """Milliseconds from the moment at which a call was due to its value, at a rate that no answer can slow down."""
    rate, count = sizes["rate"], int(sizes["rate"] * sizes["seconds"])
    done, over = dict[int, float](), threading.Event()

    def note(number: int) -> None:
        done[number] = time.perf_counter()
        if len(done) == count:
            over.set()

    with peer(CHILDREN) as pool:
        pool.submits(same, range(100))
        begin = time.perf_counter()
        for number in range(count):
            if (early := begin + number / rate - time.perf_counter()) > 0:
                time.sleep(early)
            pool.submit_with(note, same, number)
        assert over.wait(LIMIT), f"{count - len(done)} calls of {count} have no value"
    late = sorted((done[number] - begin - number / rate) * 1e3 for number in range(count))
    return {f"latency {name}": late[int(part * len(late))] for name, part in PARTS.items()}


PARTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}

WORKS = (
    Work(
        name="tasks",
        run=tasks,
        full={"children": (1, 10, 100, 1000), "calls": 2000},
        quick={"children": (1, 3), "calls": 10},
        rounds=2,
        seconds=300.0,
    ),
    Work(
        name="queue",
        run=queue,
        full={"calls": (1, 10, 100, 1000, 10_000, 100_000)},
        quick={"calls": (1, 10)},
        rounds=2,
    ),
    Work(
        name="long queue",
        run=queue,
        full={"calls": (1_000_000,)},
        quick={"calls": (20,)},
        rounds=2,
        seconds=200.0,
    ),
    Work(name="memory", run=memory, full={"calls": 100_000}, quick={"calls": 100}, rounds=2),
    Work(
        name="await",
        run=under_await,
        full={"coroutines": (100, 10_000), "calls": 40_000},
        quick={"coroutines": (2, 20), "calls": 40},
        rounds=2,
    ),
    Work(name="load", run=load, full={"rate": 2000, "seconds": 5.0}, quick={"rate": 500, "seconds": 0.1}, rounds=2),
)
