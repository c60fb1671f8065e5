"""Calls of a function that does nothing: one after the other, many at once, and by map."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite.functions import cpu, pid, same
from benchmarks.suite.peers import Peer
from benchmarks.suite.works import Figures, Sizes, Work, share_of

WARM = 10
"""The part of the items that is run before, one in so many."""


def timed(run: Callable[[Any, Sequence[int]], list[Any]], items: Sequence[int], warm: int) -> tuple[float, float]:
    """Microseconds per item: on the clock, and of the parent's processors; once it is warm."""
    assert run(same, range(warm)) == list(range(warm))
    begin, used = time.perf_counter(), time.process_time()
    values = run(same, items)
    took, used = time.perf_counter() - begin, time.process_time() - used
    assert values == list(items)
    return took / len(items) * 1e6, used / len(items) * 1e6


def trip(peer: type[Peer], sizes: Sizes) -> Figures:
    """Round trips with one child."""
    items = range(share_of(peer, "trip", sizes["calls"]))
    with peer(1) as pool:
        assert pool.trips(same, range(max(2, len(items) // WARM)))
        before = pool.call(cpu)
        took, ours = timed(pool.trips, items, 2)
        theirs = (pool.call(cpu) - before) / (len(items) + 2) * 1e6
        figures: Figures = {"trip": took, "trip cpu": ours, "trip child cpu": theirs}
        for key, places in places_of_two().items():
            pin(os.getpid(), places[0])
            pin(pool.call(pid), places[1])
            figures[key], _ = timed(pool.trips, items[: len(items) // 2], 2)
    return figures


def places_of_two() -> dict[str, tuple[int, int]]:
    """By key of a metric: the processors of parent and child; none where they cannot be chosen."""
    if sys.platform != "linux":
        return {}
    one, *others = sorted(os.sched_getaffinity(0))
    return {"trip on one": (one, one)} | ({"trip on two": (one, others[0])} if others else {})


def pin(process: int, cpu: int) -> None:
    """Have all threads of a process run on that processor; threads that they make later will, too."""
    for thread in os.listdir(f"/proc/{process}/task"):
        os.sched_setaffinity(int(thread), {cpu})


def submits(peer: type[Peer], sizes: Sizes) -> Figures:
    """Single calls handed over at once to two children."""
    items = range(share_of(peer, "submits", sizes["calls"]))
    with peer(2) as pool:
        took, ours = timed(pool.submits, items, max(2, len(items) // WARM))
    return {"submits": 1e6 / took, "submits cpu": ours}


def mapped(peer: type[Peer], sizes: Sizes) -> Figures:
    """A map over two children."""
    items = range(share_of(peer, "map", sizes["items"]))
    with peer(2) as pool:
        took, ours = timed(pool.map, items, int(len(items) * peer.warm_map))
    return {"map": 1e6 / took, "map cpu": ours}


WORKS = (
    Work(name="trip", run=trip, full={"calls": 3000}, quick={"calls": 20}),
    Work(name="submits", run=submits, full={"calls": 20_000}, quick={"calls": 40}, rounds=3),
    Work(name="map", run=mapped, full={"items": 200_000}, quick={"items": 200}, rounds=3),
)
