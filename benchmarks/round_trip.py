"""Round trips and throughput beside the raw limit and the standard library, interleaved, as ratios of one run.

``python benchmarks/round_trip.py [--rounds 5] [--calls 2000] [--json FILE]``. Every result is asserted. The raw limit
is a blocking ping-pong of the same pickled tuple over a socket pair, with nothing else around it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import platform
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from relieve_py import CallableTask, CloudWorker

Run = Callable[[int], float]


def same(value: int) -> int:
    """The function that every contender calls."""
    return value


@contextmanager
def raw() -> Iterator[Run]:
    """The limit: two processes, a socket pair, pickle."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        while data := theirs.recv(65536):
            _, (value,), _ = pickle.loads(data)
            theirs.send(pickle.dumps(value, 5))
        os._exit(0)
    theirs.close()

    def run(calls: int) -> float:
        begin = time.perf_counter()
        for number in range(calls):
            ours.send(pickle.dumps(("same", (number,), {}), 5))
            assert pickle.loads(ours.recv(65536)) == number
        return time.perf_counter() - begin

    yield run
    ours.close()
    os.wait()


@contextmanager
def task() -> Iterator[Run]:
    """One CallableTask, a call at a time."""
    with CallableTask(same) as one:

        def run(calls: int) -> float:
            begin = time.perf_counter()
            for number in range(calls):
                assert one.get(None, number).result() == number
            return time.perf_counter() - begin

        yield run


@contextmanager
def worker_map() -> Iterator[Run]:
    """A CloudWorker of two, by map."""
    with CloudWorker(CallableTask(same), size=2) as worker:

        def run(calls: int) -> float:
            begin = time.perf_counter()
            assert list(worker.map(None, range(calls))) == list(range(calls))
            return time.perf_counter() - begin

        yield run


@contextmanager
def executor() -> Iterator[Run]:
    """ProcessPoolExecutor with one worker, a call at a time."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:

        def run(calls: int) -> float:
            begin = time.perf_counter()
            for number in range(calls):
                assert pool.submit(same, number).result() == number
            return time.perf_counter() - begin

        yield run


@contextmanager
def executor_map() -> Iterator[Run]:
    """ProcessPoolExecutor with two workers, by map as it comes (chunks of one)."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as pool:

        def run(calls: int) -> float:
            begin = time.perf_counter()
            assert list(pool.map(same, range(calls))) == list(range(calls))
            return time.perf_counter() - begin

        yield run


@contextmanager
def pool() -> Iterator[Run]:
    """multiprocessing.Pool with one worker, a call at a time."""
    with multiprocessing.get_context("forkserver").Pool(1) as workers:

        def run(calls: int) -> float:
            begin = time.perf_counter()
            for number in range(calls):
                assert workers.apply(same, (number,)) == number
            return time.perf_counter() - begin

        yield run


CONTENDERS = (raw, task, pool, executor, worker_map, executor_map)


def measure(rounds: int, calls: int) -> dict[str, list[float]]:
    """Microseconds a call of each contender, a figure a round; each round runs all of them, one after the other."""
    figures: dict[str, list[float]] = {contender.__name__: [] for contender in CONTENDERS}
    for _ in range(rounds):
        for contender in CONTENDERS:
            with contender() as run:
                run(max(1, calls // 10))  # warm
                figures[contender.__name__].append(run(calls) / calls * 1e6)
    return figures


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    figures = measure(options.rounds, options.calls)
    limit = statistics.median(figures["raw"])
    print(f"{'':14} {'median us':>10} {'min':>8} {'max':>8} {'x raw':>7}")
    for name, taken in figures.items():
        median = statistics.median(taken)
        print(f"{name:14} {median:10.1f} {min(taken):8.1f} {max(taken):8.1f} {median / limit:7.1f}")
    if options.json:
        about = {"python": platform.python_version(), "cpus": os.cpu_count(), "calls": options.calls}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"about": about, "microseconds a call": figures}, file, indent=1)


if __name__ == "__main__":
    main()
