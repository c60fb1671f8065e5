"""What a choice costs, by strategy and by the number of tasks, with every task idle, and with all but a hundred busy.

``python benchmarks/strategy_pick.py [--picks 2000] [--json FILE]``. A pick here is all that a worker does for a choice:
``next``, ``start``, the task becomes busy; and later ``end``, and it is looked at again. Every pick is asserted to be
of a task with room. ``scan`` is what each strategy would cost if it looked at all candidates.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable

import attrs

from relieve_py.strategies import BUILT_IN, Candidates, Strategy

SIZES = (10, 100, 1000, 10_000)
IDLE = 100
"""Tasks that have room, in the case where most are busy."""


@attrs.define(eq=False)
class FakeTask:
    """What a strategy sees of a task."""

    name: str
    pid: int
    load: int = 0


@attrs.frozen
class FakeCall:
    """What a strategy sees of a call."""

    key: int
    id: int
    method: str | None = None


class Pool:
    """The tasks of one worker and its strategy."""

    def __init__(self, cls: type[Strategy], size: int, busy: int) -> None:
        options = {"rss": lambda pid: float(pid * 7919 % 1000)} if cls.name == "lowest-rss" else {}
        options |= {"sockets": lambda pid: float(pid * 7919 % 100)} if cls.name == "fewest-sockets" else {}
        self.strategy = cls(**options)  # type: ignore[arg-type] # what each class takes
        self.tasks = [FakeTask(f"task-{n}", n + 1, int(n < busy)) for n in range(size)]
        self.candidates: Candidates[FakeTask] = Candidates(lambda task: self.strategy.waits or task.load == 0)
        self.places = {task.name: place for place, task in enumerate(self.tasks)}
        self.running: deque[tuple[FakeTask, FakeCall]] = deque()
        for task in self.tasks:
            self.strategy.push(task)
            self.candidates.look(task, self.places[task.name])

    def pick(self, number: int) -> None:
        """One call is given to a task, and one that runs has ended."""
        call = FakeCall(number, number)
        task = self.strategy.next(self.candidates, call)
        assert self.strategy.waits or task.load == 0
        self.strategy.start(task, call)
        task.load += 1
        self.running.append((task, call))
        if len(self.running) > 5:
            ended, call = self.running.popleft()
            ended.load -= 1
            self.strategy.end(ended, call)
            self.candidates.look(ended, self.places[ended.name])

    def scan(self, number: int) -> None:
        """The same by looking at each."""
        call = FakeCall(number, number)
        task = self.strategy.next(self.candidates.ordered(), call)
        self.strategy.start(task, call)
        self.strategy.end(task, call)


def micros(what: Callable[[int], None], times: int) -> float:
    """Microseconds of one call, the median of five parts."""
    parts = []
    for part in range(5):
        began = time.perf_counter()
        for number in range(times // 5):
            what(part * times + number)
        parts.append((time.perf_counter() - began) / max(1, times // 5))
    return statistics.median(parts) * 1e6


def measure(picks: int) -> dict[str, dict[str, dict[int, float]]]:
    """Microseconds by strategy, case and size."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for cls in BUILT_IN:
        cases = found.setdefault(cls.name, {"idle": {}, "busy": {}, "scan": {}})
        for size in SIZES:
            for case, busy in (("idle", 0), ("busy", max(0, size - IDLE))):
                pool = Pool(cls, size, busy)
                for number in range(size // 4 if cls.name in ("lowest-rss", "fewest-sockets") else 100):
                    pool.pick(number)  # a strategy that measures has to do that once for each
                cases[case][size] = round(micros(pool.pick, picks), 2)
            cases["scan"][size] = round(micros(Pool(cls, size, 0).scan, max(10, min(picks, 100_000 // size))), 2)
    return found


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picks", type=int, default=2000)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    found = measure(options.picks)
    print(f"{'microseconds a pick':20} {'':5}" + "".join(f"{size:>10,}" for size in SIZES))
    for name, cases in found.items():
        for case, values in cases.items():
            print(f"{name:20} {case:5}" + "".join(f"{values[size]:10.1f}" for size in SIZES))
    if options.json:
        about = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": os.getloadavg()}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"about": about | {"picks": options.picks}, "microseconds": found}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
