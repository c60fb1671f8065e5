"""Where and with what a run was made, for whoever compares two."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psutil

from benchmarks.suite.peers import peer

ROOT = Path(__file__).parent.parent.parent


def about(peers: Iterable[str]) -> dict[str, object]:
    """The machine, the versions and the date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cpus": os.cpu_count(),
        "memory GiB": round(psutil.virtual_memory().total / 2**30, 1),
        "load before": [round(load, 2) for load in os.getloadavg()],
        "versions": versions(peers),
    }


def commit() -> str:
    """The commit of this tree, with a mark when it was changed since; empty where there is no git."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude", "*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip()


def processor() -> str:
    """Its model, as well as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions(peers: Iterable[str]) -> dict[str, str]:
    """Of every distribution that was measured, and of numpy, whose arrays are sent."""
    names = {peer(name).distribution for name in peers} | {"numpy"}
    found = {}
    for name in sorted(names - {""}):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
