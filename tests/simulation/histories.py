"""Random histories of the product without processes, threads or time, as a command::

    python tests/simulation/histories.py --count 100000 --jobs 2
    python tests/simulation/histories.py --kind worker --seed 123 --trace

Each history has a seed, and the same seed gives the same history. The first that breaks a rule is told with its seed.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from slot_world import SlotWorld
from worker_world import WorkerWorld
from worlds import LogWatch, World, history

KINDS: dict[str, type[World]] = {"slot": SlotWorld, "worker": WorkerWorld}
SHARES = {"slot": 0.95, "worker": 0.05}
BATCH = 250
"""Histories between two collections of garbage. More: more memory; less: more time."""


def chooser(seed: int) -> Callable[[int], int]:
    """A number below what is asked for, drawn from that seed."""
    draw = random.Random(seed).random
    return lambda below: int(draw() * below)


class Failure(AssertionError):
    """Raised when a history broke a rule; says how to see it again."""


def run_one(kind: str, seed: int) -> None:
    """One history. Raises Failure."""
    try:
        history(KINDS[kind], chooser(seed))
    except Exception as error:
        here = os.path.relpath(__file__)
        again = f"python {here} --kind {kind} --seed {seed} --trace"
        raise Failure(f"history {seed} of kind {kind!r}: {error}; see it again with: {again}") from error


def run_many(kind: str, first: int, count: int) -> int:
    """So many histories; gives how many. Raises Failure."""
    with undisturbed():
        for seed in range(first, first + count):
            run_one(kind, seed)
            if seed % BATCH == 0:
                gc.collect()
    return count


@contextmanager
def undisturbed() -> Iterator[None]:
    """No logs but those that a world looks at, and no collector, which would be a second scheduler."""
    logger, watch = logging.getLogger("relieve_py"), LogWatch()
    before = logger.propagate, gc.isenabled()
    logger.propagate = False
    logger.addHandler(watch)
    gc.disable()
    try:
        yield
    finally:
        logger.propagate = before[0]
        logger.removeHandler(watch)
        if before[1]:
            gc.enable()


def _run_batch(batch: tuple[str, int, int]) -> int:
    return run_many(*batch)


def batches(count: int, first: int) -> list[tuple[str, int, int]]:
    """All of it, in parts that take about as long."""
    parts = []
    for kind, share in SHARES.items():
        many, size = round(count * share), 2000 if kind == "slot" else 250
        parts += [(kind, first + start, min(size, many - start)) for start in range(0, many, size)]
    return parts


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="how many histories")
    parser.add_argument("--jobs", type=int, default=1, help="on how many processes")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--kind", choices=list(KINDS), default="slot", help="of which kind, with --seed")
    parser.add_argument("--seed", type=int, help="this history only")
    parser.add_argument("--trace", action="store_true", help="tell what happens in it")
    options = parser.parse_args()
    if options.seed is not None:
        World.trace = staticmethod(print) if options.trace else None
        with undisturbed():
            run_one(options.kind, options.seed)
        return 0
    began = time.perf_counter()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        done = 0
        try:
            for many in pool.map(_run_batch, batches(options.count, options.first)):
                done += many
        except Failure as failure:
            print(failure, file=sys.stderr)
            pool.shutdown(wait=False, cancel_futures=True)
            return 1
    print(f"{done} histories in {time.perf_counter() - began:.1f} s: every rule held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
