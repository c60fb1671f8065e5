"""From which size on shared memory pays, and what it is worth to use the same memory again.

``python benchmarks/segments.py [--rounds 5] [--json FILE]``. An echo of an array, in milliseconds, by its size: through
the socket, through memory that is shared and was used before, and through such memory that is fresh each time. These
take turns within each round, and every echo is asserted. Figures are the lower quartile, since others disturb a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from relieve_py import CallableTask, channel, lending

KIB = 1 << 10
SIZES = tuple(size * KIB for size in (16, 32, 48, 64, 96, 128, 256, 1024, 4096, 65536))
NEVER = 1 << 60
WAYS = {"socket": (NEVER, False), "used again": (1, False), "fresh": (1, True)}
"""From which size on is lent, and whether the memory goes back to the system after each echo."""


def lend_from(size: int) -> None:
    """In this process, be it the parent or the child, lend what is larger."""
    lending.LEND = lending.LEND_ONE = channel.LEND = size


def echo(value: Any) -> Any:
    """The child's: the same."""
    return value


def freshen(task: CallableTask) -> None:
    """Give the memory of both ways back to the system, as it happens to what was not used for a while."""
    line = task._core.slot._line
    with line.lock:
        assert line.birth is not None
        for _ in range(2):
            line.birth.channel.tend(True)


def echo_ms(task: CallableTask, value: Any, times: int, fresh: bool) -> list[float]:
    """Milliseconds of each of so many echoes; four before those do not count."""
    taken = []
    for _ in range(4 + times):
        if fresh:
            freshen(task)
        begin = time.perf_counter()
        back = task.get("echo", value).result()
        taken.append((time.perf_counter() - begin) * 1e3)
        assert back[-1] == value[-1]
        assert back.size == value.size
        del back
    return taken[4:]


def measure(rounds: int) -> dict[int, dict[str, float]]:
    """The lower quartile of each way, by size."""
    found: dict[int, dict[str, float]] = {}
    with CallableTask(__file__) as task:
        for size in SIZES:
            value = np.frombuffer(np.random.default_rng(size).bytes(size), "u1")
            taken: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way, (least, fresh) in WAYS.items():
                    lend_from(least)
                    task.get("lend_from", least).result()
                    taken[way] += echo_ms(task, value, max(3, min(100, (16 << 20) // size)), fresh)
            found[size] = {way: statistics.quantiles(all_of_it)[0] for way, all_of_it in taken.items()}
            print(f"{size // KIB:8,} KiB", *(f"{way} {ms:9.3f}" for way, ms in found[size].items()), flush=True)
    return found


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("there is no such memory on this system")
    found = measure(options.rounds)
    if options.json is not None:
        options.json.write_text(json.dumps({str(size): ways for size, ways in found.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
