"""From the SIGKILL of an idle task to its next answer, and where that time goes.

``python benchmarks/next_call.py [--kills 200] [--launcher forkserver] [--json FILE]``. The task is killed while it runs
nothing; the call is made at once, as by a user who has seen nothing of it. The parts are told by the task's lifecycle
events and by the child's clock, which on Linux and macOS is the parent's.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

from relieve_py import CallableTask, RestartPolicy

SCRIPT = """
import time
loaded = time.monotonic()
def same(value): return value
def loaded_at(): return loaded
"""
EVENTS = ("exit", "start", "ready")
GOAL_MS = 10.0


def one_kill(task: CallableTask, number: int) -> dict[str, float]:
    """Milliseconds from the kill to each step."""
    seen: dict[str, float] = {}
    told = threading.Event()

    def note(name: str) -> None:
        seen[name] = time.monotonic()
        if name == EVENTS[-1]:
            told.set()

    for name in EVENTS:
        task.once(name, functools.partial(lambda name, event: note(name), name))
    before = task.pid
    begin = time.monotonic()
    task.send_signal(signal.SIGKILL)
    # Should the child have begun the call before it died, that is tried again.
    assert task.options(retries=1).get("same", number).result(30) == number
    note("answer")
    assert task.pid != before, "the child that was killed has answered"
    seen["loaded"] = task.get("loaded_at").result(30)
    assert told.wait(30)
    return {name: (seen[name] - begin) * 1000 for name in (*EVENTS, "loaded", "answer")}


def measure(kills: int, launcher: str) -> dict[str, list[float]]:
    """Milliseconds from the kill to each step, for each kill."""
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "next_call_task.py"
        script.write_text(SCRIPT)
        policy = RestartPolicy(max_restarts=10 * kills, max_delay=0.0)
        with CallableTask(str(script), launcher=launcher, restart=policy) as task:
            assert task.get("same", 0).result() == 0
            for number in range(kills):
                for name, value in one_kill(task, number).items():
                    taken.setdefault(name, []).append(value)
    return taken


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--launcher", default="forkserver")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    taken = measure(options.kills, options.launcher)
    print(f"{'ms from the kill to':20} {'median':>8} {'p90':>8} {'max':>8}")
    for name, values in taken.items():
        p90 = statistics.quantiles(values, n=10)[-1]
        print(f"{name:20} {statistics.median(values):8.2f} {p90:8.2f} {max(values):8.2f}")
    if options.json:
        about = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": os.getloadavg()}
        about |= {"kills": options.kills, "launcher": options.launcher}
        rounded = {name: [round(value, 2) for value in values] for name, values in taken.items()}
        medians = {name: round(statistics.median(values), 2) for name, values in taken.items()}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"about": about, "median milliseconds": medians, "milliseconds": rounded}, file)
            file.write("\n")


if __name__ == "__main__":
    main()
