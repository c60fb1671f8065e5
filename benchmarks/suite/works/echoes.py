"""Large arguments to one child and back: by bytes, by an array, and by size."""

from __future__ import annotations

import array
import importlib.util
import os
import statistics
import time
from typing import Any

from benchmarks.suite.peers import Peer
from benchmarks.suite.works import Figures, Sizes, Work, at

KIB, MIB = 1 << 10, 1 << 20
SERIES = "echo by size"
FEW = 5
"""Of fewer echoes each takes so long that one has to do to warm up."""


def some_bytes(size: int) -> bytes:
    """That many, which do not repeat within a page."""
    return (os.urandom(min(size, 64 * KIB)) * (size // (64 * KIB) + 1))[:size]


def some_array(size: int) -> Any:
    """An array of that many bytes: numpy's where there is one."""
    data = some_bytes(size)
    if importlib.util.find_spec("numpy"):
        import numpy

        return numpy.frombuffer(data, dtype="uint8").copy()
    return array.array("B", data)


def echo_ms(pool: Peer, value: Any, times: int) -> float:
    """Median milliseconds of an echo; the first ones, which may make what later ones find, do not count."""
    expected, taken = bytes(memoryview(value)), []
    warm = 1 if times < FEW else 2
    for _ in range(warm + times):
        begin = time.perf_counter()
        back = pool.echo(value)
        taken.append(time.perf_counter() - begin)
        assert bytes(memoryview(back)) == expected
        del back
    return statistics.median(taken[warm:]) * 1e3


def echo(peer: type[Peer], sizes: Sizes) -> Figures:
    """Four echoes; the names say the full size also in a smoke run."""
    small, middle, large, times = sizes["small"], sizes["middle"], sizes["large"], sizes["times"]
    with peer(1) as pool:
        figures: Figures = {
            "echo 64 KiB": echo_ms(pool, some_bytes(small), 40 * times),
            "echo 1 MiB": echo_ms(pool, some_bytes(middle), 10 * times),
            "echo 64 MiB": echo_ms(pool, some_bytes(large), times),
        }
        if peer.arrays:
            figures["echo array"] = echo_ms(pool, some_array(large), times)
    return figures


def by_size(peer: type[Peer], sizes: Sizes) -> Figures:
    """Echoes of bytes of growing size."""
    with peer(1) as pool:
        return {at(SERIES, size): echo_ms(pool, some_bytes(size), times) for size, times in sizes["sizes"]}


SMALL = ((0, 300), (KIB, 300), (16 * KIB, 100), (64 * KIB, 50), (128 * KIB, 50), (256 * KIB, 50))
LARGE = ((MIB, 20), (4 * MIB, 10), (16 * MIB, 5), (64 * MIB, 3))

WORKS = (
    Work(
        name="echo",
        run=echo,
        full={"small": 64 * KIB, "middle": MIB, "large": 64 * MIB, "times": 3},
        quick={"small": 64, "middle": KIB, "large": MIB, "times": 1},
        rounds=3,
    ),
    Work(name="sizes", run=by_size, full={"sizes": SMALL + LARGE}, quick={"sizes": ((0, 1), (KIB, 1))}, rounds=2),
)
LARGEST = (1 << 30, 1)
"""What --large adds to the sizes: some gigabytes of memory are needed on the way."""
