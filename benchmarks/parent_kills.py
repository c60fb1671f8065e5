"""SIGKILLs of a parent at random moments, and the processes of it that are left two seconds later: it must be none.

``python benchmarks/parent_kills.py [--kills 108] [--side-by-side 4] [--seed N] [--json FILE]``; Linux only, by /proc.
The kills are shared out over the launchers and over what the parent is doing: launching, idle, with calls running, with
grandchildren (in the child's group, in a session of their own, and daemons). All processes of one parent have the same
mark in the environment that they were executed with, by which they are found wherever they went.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LAUNCHERS = ("forkserver", "spawn", "fork")
MARK = "RELIEVE_PARENT_KILL"
LIMIT = 2.0
"""Seconds after the kill at which nothing may be left."""
LOOK = 0.02
"""Seconds between two looks at what is left; the processes of another's children announce their end to nobody."""

TASK = """
import os, subprocess, time

def nap(seconds):
    time.sleep(seconds)

def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

def family():
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    return os.getpid()
"""

PARENT = """
import logging, random, sys, time
from relieve_py import CallableTask

logging.disable()  # a start that is stopped fails, which here is meant

script, launcher, doing, seed = sys.argv[1:]
chance = random.Random(seed)

def tasks(count=3):
    return [CallableTask(script, launcher=launcher, start_timeout=300) for _ in range(count)]

def started(all):
    for start in [task.start() for task in all]:
        start.result()
    return all

def launching():
    go()
    while True:
        for task in tasks(2):
            task.start()
            time.sleep(chance.uniform(0, 0.03))
            task.stop()

def idle():
    kept = started(tasks())
    go()
    time.sleep(600)

def calling():
    for task, name in zip(started(tasks()), ("nap", "spin", "nap")):
        task.get(name, 600)
    go()
    time.sleep(600)

def family():
    kept = started(tasks(2))
    replies = [task.get("family") for task in kept]
    if chance.random() < 0.5:  # the others are killed while they make it
        [reply.result() for reply in replies]
    go()
    time.sleep(600)

def go():
    print("go", flush=True)

{"launching": launching, "idle": idle, "calling": calling, "family": family}[doing]()
"""
DOINGS = ("launching", "idle", "calling", "family")


def left_of(mark: str) -> list[str]:
    """The processes that have that mark, each as ``pid state command``; zombies have none."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                found.append(
                    f"{name} {state[0]} parent {state[1]} group {state[2]} session {state[3]}: {command[-80:]}"
                )
    return found


def one_kill(folder: Path, launcher: str, doing: str, seed: str) -> dict[str, Any]:
    """Kill one parent, and see what is left and for how long."""
    mark = f"{os.getpid()}-{seed}"
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(folder / "parent.py"), str(folder / "task.py"), launcher, doing, seed],
        env={**os.environ, MARK: mark, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    said = parent.stdout.readline()
    assert said == "go\n", f"the parent of {seed} did not come to its work"
    time.sleep(random.Random(seed).uniform(0, 0.3))
    there = len(left_of(mark))
    parent.send_signal(signal.SIGKILL)
    begin = time.monotonic()
    left = left_of(mark)
    while left and time.monotonic() - begin < LIMIT:
        time.sleep(LOOK)
        left = left_of(mark)
    took = time.monotonic() - begin
    left = left or left_of(mark)  # once more: a process may be made while one looks
    parent.wait()
    parent.stdout.close()
    for line in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)
    return {"launcher": launcher, "doing": doing, "seed": seed, "there": there, "left": left, "seconds": took}


def run(kills: int, side_by_side: int, seed: int) -> list[dict[str, Any]]:
    """So many kills, and what came of each."""
    kinds = itertools.islice(itertools.cycle(itertools.product(DOINGS, LAUNCHERS)), kills)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(side_by_side) as pool:
        folder = Path(name)
        (folder / "task.py").write_text(TASK)
        (folder / "parent.py").write_text(PARENT)
        jobs = [
            pool.submit(one_kill, folder, launcher, doing, f"{seed}-{number}")
            for number, (doing, launcher) in enumerate(kinds)
        ]
        return [job.result() for job in jobs]


def main() -> int:
    """Run, print, and write what was asked for; 1 when anything was left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=108)
    parser.add_argument("--side-by-side", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    done = run(options.kills, options.side_by_side, options.seed)
    print(f"{'launcher':12} {'doing':10} {'kills':>6} {'processes':>10} {'left':>5} {'median s':>9} {'max s':>6}")
    rows = []
    for launcher, doing in itertools.product(LAUNCHERS, DOINGS):
        some = [kill for kill in done if kill["launcher"] == launcher and kill["doing"] == doing]
        if not some:
            continue
        seconds = [kill["seconds"] for kill in some]
        there, left = sum(kill["there"] for kill in some), sum(len(kill["left"]) for kill in some)
        median, longest = statistics.median(seconds), max(seconds)
        print(f"{launcher:12} {doing:10} {len(some):6} {there:10} {left:5} {median:9.3f} {longest:6.3f}")
        row = {"launcher": launcher, "doing": doing, "kills": len(some), "processes": there, "left": left}
        rows.append({**row, "median seconds": round(median, 4), "max seconds": round(longest, 4)})
    bad = [kill for kill in done if kill["left"]]
    for kill in bad:
        print(f"{kill['launcher']} {kill['doing']} {kill['seed']}:", *kill["left"], sep="\n    ")
    if options.json:
        about = {"python": platform.python_version(), "kernel": platform.release(), "cpus": os.cpu_count()}
        about |= {"seed": options.seed, "side by side": options.side_by_side, "limit seconds": LIMIT}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"about": about, "kills": len(done), "left": len(bad), "rows": rows}, file, indent=1)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
