"""What tests do to processes: wait for the end of one, and send a signal to the child of a task."""

from __future__ import annotations

import os
import select

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


def signal_child(task: Task, signum: int) -> int:
    """Send the child of that task a signal, as a stranger would; its pid. A task without a child fails the test: to the
    system, 0 is everybody in the group of this process."""
    pid = task.pid
    assert pid, f"{task!r} has no child"
    os.kill(pid, signum)
    return pid
