"""Whether the kernel killed a child for want of memory.

The kernel counts its out-of-memory kills for each control group, in files that anybody may read: ``memory.events`` of
version 2 and ``memory.oom_control`` of version 1. Elsewhere than on Linux nothing is known.
"""

from __future__ import annotations

import functools
import os
import sys


class OutOfMemoryWatch:
    """Whether the kernel's out-of-memory killer ended one child. On one thread only."""

    def __init__(self, pid: int) -> None:
        self._file = _counter_file(_read(f"/proc/{pid}/cgroup")) if sys.platform == "linux" else None
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
        return oom_kills(_read(self._file)) if self._file is not None else None


_explained: dict[str, int] = {}  # by file: up to which of its kills a child's death was explained


def oom_kills(text: str) -> int | None:
    """The count of kills in such a file; None if it has none (before Linux 4.13)."""
    for line in text.splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.isdecimal():
            return int(count)
    return None


def memory_group(cgroup: str) -> tuple[int, str] | None:
    """The version and path of the group that counts a process's memory, of the text of its ``/proc/PID/cgroup``."""
    found = None
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            return 1, path
        if line.startswith("0::"):
            found = 2, path
    return found


def group_directory(version: int, path: str, mountinfo: str) -> str | None:
    """Where the files of that group are, by the text of ``/proc/self/mountinfo``; None when they are not mounted."""
    for line in mountinfo.splitlines():
        mount, _, system = line.partition(" - ")
        root, point = mount.split(" ")[3:5]
        kind, _, options = system.split(" ", 2)
        wanted = kind == "cgroup2" if version == 2 else kind == "cgroup" and "memory" in options.split(",")
        below = path if root == "/" else path.removeprefix(root)
        if wanted and (root == "/" or path == root or path.startswith(root + "/")):
            return os.path.normpath(_unescaped(point) + "/" + below)
    return None


def _unescaped(point: str) -> str:
    """Spaces and the like are written as octal numbers."""
    for code in ("\\040", "\\011", "\\012", "\\134"):
        point = point.replace(code, chr(int(code[1:], 8)))
    return point


@functools.lru_cache(maxsize=64)
def _counter_file(cgroup: str) -> str | None:
    """The file that counts the kills of that group; of the whole system for a process in the root group."""
    group = memory_group(cgroup)
    if group is None:
        return None
    folder = group_directory(*group, _read("/proc/self/mountinfo"))
    name = "memory.events" if group[0] == 2 else "memory.oom_control"
    for file in ([f"{folder}/{name}"] if folder is not None else []) + ["/proc/vmstat"]:
        if oom_kills(_read(file)) is not None:
            return file
    return None


def _read(path: str) -> str:
    """A small file of the kernel's; empty when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return b"".join(iter(lambda: os.read(fd, 65536), b"")).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
