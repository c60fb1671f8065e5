"""Calls of a function that does nothing: one after the other, many at once, and by map."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite.functions import same
from benchmarks.suite.peers import Peer
from benchmarks.suite.works import Figures, Sizes, Work, share_of

WARM = 10
"""The part of the items that is run before, one in so many."""


def timed(run: Callable[[Any, Sequence[int]], list[Any]], items: Sequence[int], warm: int) -> tuple[float, float]:
    """Microseconds per item: on the clock, and of the parent's processors; once it is warm."""
    assert run(same, range(warm)) == list(range(warm))
    begin, used = time.perf_counter(), time.process_time()
    values = run(same, items)
    took, cpu = time.perf_counter() - begin, time.process_time() - used
    assert values == list(items)
    return took / len(items) * 1e6, cpu / len(items) * 1e6


def trip(peer: type[Peer], sizes: Sizes) -> Figures:
    """Round trips with one child."""
    items = range(share_of(peer, "trip", sizes["calls"]))
    with peer(1) as pool:
        took, cpu = timed(pool.trips, items, max(2, len(items) // WARM))
    return {"trip": took, "trip cpu": cpu}


def submits(peer: type[Peer], sizes: Sizes) -> Figures:
    """Single calls handed over at once to two children."""
    items = range(share_of(peer, "submits", sizes["calls"]))
    with peer(2) as pool:
        took, cpu = timed(pool.submits, items, max(2, len(items) // WARM))
    return {"submits": 1e6 / took, "submits cpu": cpu}


def mapped(peer: type[Peer], sizes: Sizes) -> Figures:
    """A map over two children."""
    items = range(share_of(peer, "map", sizes["items"]))
    with peer(2) as pool:
        took, cpu = timed(pool.map, items, int(len(items) * peer.warm_map))
    return {"map": 1e6 / took, "map cpu": cpu}


WORKS = (
    Work(name="trip", run=trip, full={"calls": 3000}, quick={"calls": 20}),
    Work(name="submits", run=submits, full={"calls": 20_000}, quick={"calls": 40}, rounds=3),
    Work(name="map", run=mapped, full={"items": 200_000}, quick={"items": 200}, rounds=3),
)
