"""What tests do to processes: list those below this one, wait for the end of one, signal the child of a task."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator

import psutil

from relieve_py import Task

PATIENCE = 20.0
"""Seconds after which an end that should come at once counts as missing."""


def wait_gone(pid: int | None, seconds: float = PATIENCE) -> bool:
    """Wait until that process has ended (also as a zombie); False when it has not in that time."""
    assert pid, "there was no process"
    if not hasattr(os, "pidfd_open"):
        _, alive = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], seconds)
        return not alive
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def wait_reaped(pid: int, seconds: float = PATIENCE) -> bool:
    """Wait until that process is no more, not even as a zombie; False when it still is then."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while psutil.pid_exists(pid):
        if time.monotonic() > deadline:
            return False
        pause.wait(0.01)  # it is told to nobody but its parent
    return True


def signal_child(task: Task, signum: int) -> int:
    """Send the child of that task a signal, as a stranger would; its pid. A task without a child fails the test: to the
    system, 0 is everybody in the group of this process."""
    pid = task.pid
    assert pid, f"{task!r} has no child"
    os.kill(pid, signum)
    return pid


def descendants() -> dict[int, int]:
    """The pids of all processes below this one, zombies too, each with its parent's.

    Every test asks twice or more: to look at each process of the machine, as psutil has to, would cost the suite half a
    minute.
    """
    if not os.path.exists("/proc/thread-self/children"):
        return dict(_descendants_anywhere())
    found = dict(_below(os.getpid()))
    # The kernel passes over a child when the one before it, or the thread that made it, ends while they are listed. Who
    # has ended is not there the next time: two lists that are equal have passed over nobody.
    while (again := dict(_below(os.getpid()))) != found:
        found = again
    return found


def _below(parent: int) -> Iterator[tuple[int, int]]:
    for child in _children_of(parent):
        yield child, parent
        yield from _below(child)


def _children_of(pid: int) -> list[int]:
    found: list[str] = []
    for thread in _threads_of(pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
            found += file.read().split()
    return [int(child) for child in found]


def _threads_of(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended
        return []


def _descendants_anywhere() -> Iterator[tuple[int, int]]:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            yield child.pid, child.ppid()
