"""Where Linux keeps what a process may use, and what its kernel has counted: the files of its control groups.

A process may be in a group of version 2 and, by controller, in others of version 1. Elsewhere there are none.
"""

from __future__ import annotations

import os


def group_of(cgroup: str, controller: str) -> tuple[int, str] | None:
    """The version and path of the group that has that controller, of the text of a process's ``/proc/PID/cgroup``."""
    found = None
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return 1, path
        if line.startswith("0::"):
            found = 2, path
    return found


def directories_of(version: int, path: str, mountinfo: str, controller: str) -> list[str]:
    """Where the files of that group are, and then of each group around it, by the text of ``/proc/self/mountinfo``.
    Nothing when they are not mounted."""
    for line in mountinfo.splitlines():
        mount, _, system = line.partition(" - ")
        root, point = mount.split(" ")[3:5]
        kind, _, options = system.split(" ", 2)
        wanted = kind == "cgroup2" if version == 2 else kind == "cgroup" and controller in options.split(",")
        if wanted and (root == "/" or path == root or path.startswith(root + "/")):
            top = _unescaped(point)
            below = path if root == "/" else path.removeprefix(root)
            return _upwards(top, os.path.normpath(f"{top}/{below}"))
    return []


def _upwards(top: str, folder: str) -> list[str]:
    """The folder, and those above it up to the top."""
    folders = [folder]
    while folders[-1].startswith(f"{top}/"):
        folders.append(os.path.dirname(folders[-1]))
    return folders


def _unescaped(point: str) -> str:
    """Spaces and the like are written as octal numbers."""
    for code in ("\\040", "\\011", "\\012", "\\134"):
        point = point.replace(code, chr(int(code[1:], 8)))
    return point


def read(path: str) -> str:
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
