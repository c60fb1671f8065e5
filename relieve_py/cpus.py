"""How many processors this program may use, and how many threads the libraries of a child may start on them."""

from __future__ import annotations

import math
import os
import sys

from relieve_py import cgroups

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""What numerical libraries ask, when they are loaded, for the size of their thread pools."""


def usable_cpus() -> int:
    """How many processors this process may use: the least of what the machine has, what its affinity allows, and what
    its control groups (a container's limit, say) allow it, rounded up to whole ones."""
    quota = _quota() if sys.platform == "linux" else None
    return max(1, min(_scheduled(), math.ceil(quota) if quota is not None else sys.maxsize))


def _scheduled() -> int:
    """How many the scheduler may run it on; from Python 3.13 on also what ``PYTHON_CPU_COUNT`` says."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> float | None:
    """The least share that a group around this process has, in processors; None when none has a limit."""
    group = cgroups.group_of(cgroups.read("/proc/self/cgroup"), "cpu")
    if group is None:
        return None
    folders = cgroups.directories_of(*group, cgroups.read("/proc/self/mountinfo"), "cpu")
    return least_quota(group[0], folders)


def least_quota(version: int, folders: list[str]) -> float | None:
    """The least of the limits in those directories of groups, in processors; None when there is none."""
    shares = []
    for folder in folders:
        if version == 2:
            quota, _, period = cgroups.read(f"{folder}/cpu.max").partition(" ")
        else:
            quota = cgroups.read(f"{folder}/cpu.cfs_quota_us")
            period = cgroups.read(f"{folder}/cpu.cfs_period_us")
        if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) > 0:  # not "max", not -1
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def thread_limits(threads: int | None) -> dict[str, str]:
    """The variables that have libraries start so many threads each; none for None."""
    return {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
