"""Eight tasks under load for minutes while children are killed, restarted, added and removed: is anything lost or left?

``python benchmarks/soak.py [--seconds 600] [--seed 1] [--results FOLDER]``, or ``tox -e soak``. Every 50 ms a random
child is killed by SIGKILL; the worker is resized, tasks and the whole worker are restarted and reloaded, children are
recycled, calls are cancelled and time out. What is checked: every call ends exactly once, as ``soak_load.ENDS`` says;
none that is not retried runs twice; the results and the order of ``map`` are right; and when all is quiet, descriptors,
threads, processes, /dev/shm and, within RSS_MARGIN, the memory of the parent are what they were after the first tenth
of the time, which warms everything up.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from soak_load import HANG, Ledger, Load

from relieve_py import CallableTask, CloudWorker, RecyclePolicy, RelieveError, RestartPolicy

TASKS = 8
KILL_EVERY = 0.05
"""Seconds between two kills."""
CALLS_A_SECOND = 100_000 / 600
"""What has to be reached on the whole."""
RSS_MARGIN = 8 << 20
"""Bytes by which the parent may have grown since it was warm: the allocator keeps what a moment of much work took."""
SETTLE = 20.0
"""Seconds for descriptors, threads and processes to become what they were; only what leaks takes so long."""


class Trouble:
    """What befalls the worker meanwhile, each on a thread of its own, until it is stopped."""

    def __init__(self, worker: CloudWorker, ledger: Ledger, seed: int) -> None:
        self._worker = worker
        self._ledger = ledger
        self._seed = seed
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.done: Counter[str] = Counter()

    def begin(self) -> None:
        """Begin all of it."""
        self._stop.clear()
        deeds = {self.kill: 0.0, self.resize: 2.0, self.restart_one: 0.6, self.reload_one: 0.6}
        for deed, longest in {**deeds, self.restart_all: 15.0, self.reload_all: 15.0}.items():
            thread = threading.Thread(target=self._run, args=(deed, longest), name=f"soak-{deed.__name__}")
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """End all of it."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self, deed: Callable[[random.Random], None], longest: float) -> None:
        """Do it every ``longest`` seconds at most; 0 stands for the pace of the kills."""
        chance = random.Random(f"{self._seed}/{deed.__name__}")
        due = time.monotonic()
        while True:
            due = max(due + (chance.uniform(0, longest) if longest else KILL_EVERY), time.monotonic() - 1)
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            try:
                deed(chance)
            except RelieveError as error:  # such as a restart of a task that is being removed
                self.done[f"{deed.__name__}: {type(error).__name__}"] += 1
            except BaseException as error:
                self._ledger.fault(f"{deed.__name__} failed: {error!r}")
                raise

    def kill(self, chance: random.Random) -> None:
        """SIGKILL to some child."""
        chance.choice(list(self._worker)).send_signal(signal.SIGKILL)
        self.done["kills"] += 1

    def resize(self, chance: random.Random) -> None:
        """More tasks, or fewer."""
        self._worker.resize(chance.randint(TASKS // 2, TASKS * 3 // 2)).result(HANG)
        self.done["resizes"] += 1

    def restart_one(self, chance: random.Random) -> None:
        """Another child for some task, in order."""
        chance.choice(list(self._worker)).restart().result(HANG)
        self.done["restarts of a task"] += 1

    def reload_one(self, chance: random.Random) -> None:
        """Another child for some task, without a gap."""
        chance.choice(list(self._worker)).reload().result(HANG)
        self.done["reloads of a task"] += 1

    def restart_all(self, chance: random.Random) -> None:
        """Other children for all tasks."""
        self._worker.restart().result(HANG)
        self.done["restarts of the worker"] += 1

    def reload_all(self, chance: random.Random) -> None:
        """Other children for all tasks, one after the other."""
        self._worker.reload().result(HANG)
        self.done["reloads of the worker"] += 1


def belongings() -> dict[str, Any]:
    """What this process has: numbers by kind, so that they can be compared and shown."""
    gc.collect()
    fds = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of this listing
            fds[os.readlink(f"/proc/self/fd/{name}").rstrip("0123456789[]")] += 1
    names = Counter(thread.name.rstrip("0123456789-_") for thread in threading.enumerate())
    return {
        "descriptors": dict(sorted(fds.items())),
        "threads": dict(sorted(names.items())),
        "processes": len(psutil.Process().children(recursive=True)),
        "shared memory": sorted(os.listdir("/dev/shm")),
    }


def calm(worker: CloudWorker, ledger: Ledger, before: dict[str, Any] | None) -> dict[str, Any]:
    """All calls over, all tasks ready, with children that have had no call: what there is then, as soon as it is what
    was ``before``."""
    worker.resize(TASKS).result(HANG)
    worker.drain().result(HANG)
    worker.reload().result(HANG)  # shared memory that large messages went through is kept for as long as a child lives
    deadline = time.monotonic() + SETTLE
    while True:
        now = belongings()
        quiet = not any(name.startswith("relieve-callbacks") for name in now["threads"])
        ready = all(task.state.value == "ready" for task in worker)
        if quiet and ready and not ledger.replies and (before is None or now == before):
            return now
        if time.monotonic() > deadline:
            if not ready:
                ledger.fault(f"not all tasks are ready: {list(worker)}")
            if ledger.replies:
                ledger.fault(f"{len(ledger.replies)} Replies have not called back: {sorted(ledger.replies)[:10]}")
            return now
        time.sleep(0.05)


def memory() -> int:
    """Bytes of this process. What the C library has at hand but nobody uses goes back first: how much that is depends
    on what its busiest moment was."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def phase(worker: CloudWorker, ledger: Ledger, seed: int, seconds: float, rss: list[int]) -> Counter[str]:
    """So many seconds of calls and trouble; what trouble there was. ``rss`` gets the parent's memory ten times."""
    load, trouble = Load(worker, ledger, seed), Trouble(worker, ledger, seed)
    callers = list(load.callers())
    for caller in callers:
        caller.start()
    trouble.begin()
    for _ in range(10):
        time.sleep(seconds / 10)
        rss.append(psutil.Process().memory_info().rss)
    load.stop.set()
    for caller in callers:
        caller.join()
    trouble.end()
    return trouble.done


def twice(log: Path) -> list[int]:
    """The tokens of calls that may run once only, and ran more often."""
    tokens = array.array("Q")
    with log.open("rb") as file:
        tokens.frombytes(file.read())
    return [token for token, times in Counter(tokens).items() if times > 1 and token % 2 == 0]


def soak(seconds: float, seed: int) -> dict[str, Any]:
    """Run it; the figures, with the faults that were found."""
    ledger, rss = Ledger(), list[int]()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "begun"
        log.touch()
        script = str(Path(__file__).with_name("soak_task.py"))
        policy = RestartPolicy(max_restarts=10_000_000, max_delay=0.05)
        task = CallableTask(
            script,
            env={"SOAK_LOG": str(log)},
            restart=policy,
            recycle=RecyclePolicy(max_calls=300, max_age=30.0),
            heartbeat=10.0,
            kill_timeout=2.0,
        )
        with CloudWorker(task, size=TASKS) as worker:
            worker.on("error", lambda failed: None)
            phase(worker, ledger, seed, seconds / 10, [])
            before, warm = calm(worker, ledger, None), memory()
            warm_calls, begin = ledger.calls, time.monotonic()
            done = phase(worker, ledger, seed + 1, seconds * 9 / 10, rss)
            took = time.monotonic() - begin
            after, end = calm(worker, ledger, before), memory()
        for token in twice(log):
            ledger.fault(f"the call of token {token} ran more than once")
    for kind, was in before.items():
        if after[kind] != was:
            ledger.fault(f"{kind} were {was} and are {after[kind]}")
    if end - warm > RSS_MARGIN:
        ledger.fault(f"the parent grew by {(end - warm) / 2**20:.1f} MiB")
    rate = (ledger.calls - warm_calls) / took
    if rate < CALLS_A_SECOND:
        ledger.fault(f"{rate:.0f} calls a second, fewer than {CALLS_A_SECOND:.0f}")
    ends: dict[str, dict[str, int]] = {}
    for (kind, name), times in sorted(ledger.ends.items()):
        ends.setdefault(kind, {})[name] = times
    mib = [round(size / 2**20, 1) for size in (warm, *rss, end)]
    return {
        "about": {"python": platform.python_version(), "kernel": platform.release(), "cpus": os.cpu_count()},
        "seed": seed,
        "seconds": round(took / 0.9, 1),
        "calls": ledger.calls,
        "calls a second": round(rate, 1),
        "ends": ends,
        "trouble": dict(sorted(done.items())),
        "before": before,
        "after": after,
        "MiB of the parent, warm to end": mib,
        "faults": ledger.faults[:50],
    }


def as_text(figures: dict[str, Any]) -> str:
    """The figures for a reader."""
    mib, faults = figures["MiB of the parent, warm to end"], figures["faults"]
    ends = [
        f"  {kind}: " + ", ".join(f"{times} {name}" for name, times in names.items())
        for kind, names in figures["ends"].items()
    ]
    lines = [
        f"{figures['calls']} calls in {figures['seconds']:.0f} s on {TASKS} tasks, "
        f"{figures['calls a second']:.0f} a second; seed {figures['seed']}, Python {figures['about']['python']}",
        *ends,
        "meanwhile: " + ", ".join(f"{times} {what}" for what, times in figures["trouble"].items()),
        f"descriptors {sum(figures['before']['descriptors'].values())} -> "
        f"{sum(figures['after']['descriptors'].values())}, "
        f"threads {sum(figures['before']['threads'].values())} -> {sum(figures['after']['threads'].values())}, "
        f"processes {figures['before']['processes']} -> {figures['after']['processes']}, "
        f"memory {mib[0]} -> {mib[-1]} MiB (at most {max(mib)})",
        *(faults or ["nothing was lost, nothing ran twice, nothing was left"]),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, and write what was asked for; 1 when there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", metavar="FOLDER", help="where soak.json and soak.txt are written")
    options = parser.parse_args()
    faulthandler.dump_traceback_later(options.seconds * 1.5 + 5 * HANG, exit=True)
    figures = soak(options.seconds, options.seed)
    faulthandler.cancel_dump_traceback_later()
    text = as_text(figures)
    print(text, end="")
    if options.results:
        folder = Path(options.results)
        (folder / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
        (folder / "soak.txt").write_text(text)
    return 1 if figures["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
