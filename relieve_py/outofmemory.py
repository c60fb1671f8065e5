"""Whether the kernel killed a child for want of memory.

The kernel counts its out-of-memory kills for each control group, in files that anybody may read: ``memory.events`` of
version 2 and ``memory.oom_control`` of version 1. Elsewhere than on Linux nothing is known.
"""

from __future__ import annotations

import functools
import sys

from relieve_py.cgroups import directories_of, group_of, read


class OutOfMemoryWatch:
    """Whether the kernel's out-of-memory killer ended one child. On one thread only."""

    def __init__(self, pid: int) -> None:
        self._file = _counter_file(read(f"/proc/{pid}/cgroup")) if sys.platform == "linux" else None
        self._before = self._kills()

    def explains_kill(self) -> bool:
        """True when the kernel killed something in the child's group since, and no other child's death is known to be
        that."""
        kills = self._kills()
        if self._file is None or kills is None or self._before is None:
            return False
        known = max(self._before, _explained.get(self._file, 0))
        if kills > known:
            _explained[self._file] = known + 1
        return kills > known

    def _kills(self) -> int | None:
        return oom_kills(read(self._file)) if self._file is not None else None


_explained: dict[str, int] = {}  # by file: up to which of its kills a child's death was explained


def oom_kills(text: str) -> int | None:
    """The count of kills in such a file; None if it has none (before Linux 4.13)."""
    for line in text.splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.isdecimal():
            return int(count)
    return None


@functools.lru_cache(maxsize=64)
def _counter_file(cgroup: str) -> str | None:
    """The file that counts the kills of that group; of the whole system for a process in the root group."""
    group = group_of(cgroup, "memory")
    if group is None:
        return None
    folders = directories_of(*group, read("/proc/self/mountinfo"), "memory")
    name = "memory.events" if group[0] == 2 else "memory.oom_control"
    for file in (*(f"{folder}/{name}" for folder in folders[:1]), "/proc/vmstat"):
        if oom_kills(read(file)) is not None:
            return file
    return None
