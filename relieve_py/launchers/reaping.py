"""Nothing outlives a child: process groups, orphans, and the sub-reaper to which orphans fall on Linux."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterable

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36  # linux/prctl.h


def dying_with_parent() -> str:
    """Statements at the beginning of a program by which it dies when the thread that made it does, or leaves when the
    channel, its first argument, has ended before: its imports would take long. On Linux; elsewhere none."""
    if sys.platform != "linux":
        return ""
    kill = f"ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGKILL)})"
    look = "channel = select.poll(); channel.register(int(sys.argv[1]), 0)"  # for a hang-up, which needs no asking
    return f"import ctypes, os, select; {kill}; {look}; channel.poll(0) and os._exit(0)"


def outlive_parent() -> None:
    """The end of what ``dying_with_parent`` began: from here on the end of the channel tells it."""
    if sys.platform == "linux":
        _prctl()(_PR_SET_PDEATHSIG, 0)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's. On Linux; elsewhere nothing happens."""
    if sys.platform == "linux":
        _prctl()(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def name_process(name: str | None) -> None:
    """What ``ps`` and ``top`` call this process from now on; None: as the program is called. On Linux; elsewhere it
    does nothing."""
    if sys.platform == "linux":
        _prctl()(_PR_SET_NAME, (os.path.basename(sys.executable) if name is None else name).encode(), 0, 0, 0)


@functools.cache
def _prctl() -> Callable[..., int]:
    """Looked up once, by the server, for all of its children."""
    import ctypes

    function: Callable[..., int] = ctypes.CDLL(None).prctl
    return function


def become_group_leader(pid: int = 0) -> None:
    """Give a child its own process group. Both sides of a fork do it, so that neither has to wait for the other."""
    with contextlib.suppress(OSError):  # it has exec'ed or left already: the other side was first
        os.setpgid(pid, pid)


def kill_group(pid: int) -> None:
    """SIGKILL to the process group of a child that is ours and not reaped, so that the number cannot be another's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_all(pids: Iterable[int]) -> set[int]:
    """SIGKILL to those of these processes that are still there; those that are another user's, and cannot be killed."""
    spared = set()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        except PermissionError:
            spared.add(pid)
    return spared


def children_of(pid: int) -> list[int]:
    """The pids of its children, on Linux; elsewhere none are known."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # each has those that it has made
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def descendants_of(pid: int) -> list[int]:
    """The pids of all that descend from it, nearest first, on Linux; elsewhere none are known."""
    found: list[int] = []
    wave = children_of(pid)
    while wave:
        found += wave
        wave = [grandchild for child in wave for grandchild in children_of(child)]
    return found
