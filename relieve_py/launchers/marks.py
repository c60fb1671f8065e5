"""By what a process is known to descend from a child, also when all between them have ended: a mark that each process
hands on to those that it starts, on Linux.

The mark is the soft limit of file locks, by the numbers of the server and of its child. No kernel since 2.4.25 reads
that limit, and a program has no reason to change it; variables of the environment, descriptors and sessions do not
survive what daemons do.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys

_RLIMIT_LOCKS = 10  # asm-generic/resource.h
_BITS = 22  # of a process's number, at most
_OURS = 0x7E11 << 2 * _BITS
"""Added to the numbers, so that no limit that somebody has set is taken for a mark."""


def bear_mark() -> bool:
    """Have this process, a child of its server, bear its mark, and whatever will descend from it. False when the system
    does not allow it."""
    if sys.platform != "linux":
        return False
    try:
        hard = resource.getrlimit(_RLIMIT_LOCKS)[1]
        resource.setrlimit(_RLIMIT_LOCKS, (_OURS + (os.getppid() << _BITS) + os.getpid(), hard))
    except (OSError, ValueError):
        return False
    return True


def whose_mark(pid: int, server: int) -> int | None:
    """The number of the child of that server whose mark the process bears; 0: it bears none, or is gone. None: that is
    not to be known, as of another user's."""
    try:
        mark = resource.prlimit(pid, _RLIMIT_LOCKS)[0]  # type: ignore[attr-defined,unused-ignore] # another platform's
    except ProcessLookupError:
        return 0
    except OSError:
        return None
    child: int = mark - _OURS - (server << _BITS)
    return child if 0 < child < 1 << _BITS else 0


def bearers(server: int) -> dict[int, int]:
    """Each process that bears the mark of a child of that server, children too, with the number of that child. None
    where that cannot be seen: without /proc, or descriptors."""
    found: list[int] = []
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            found += [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid: child for pid in found if (child := whose_mark(pid, server))}
