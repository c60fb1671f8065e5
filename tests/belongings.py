"""What a process has at one moment: the proof that a test leaves nothing behind compares two of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import attrs
import psutil
from processes import descendants

from relieve_py import Worker
from relieve_py.segments import Share

shared_workers: list[Worker] = []
"""Workers that the tests of a module share: their children may be replaced during a test."""


@attrs.frozen
class Belongings:
    """What this process has at one moment."""

    processes: frozenset[tuple[int, str]]
    descriptors: dict[int, str]
    threads: frozenset[str]
    memory: frozenset[str]
    segments: int

    def left_since(self, before: Belongings) -> dict[str, object]:
        """What is here that was not before, by kind; empty when there is nothing."""
        extra = len(self.descriptors) - len(before.descriptors)
        new = {fd: what for fd, what in self.descriptors.items() if before.descriptors.get(fd) != what}
        found: dict[str, object] = {
            "processes": sorted(self.processes - before.processes),
            "descriptors": new if extra > 0 else {},
            "threads": sorted(self.threads - before.threads),
            "shared memory": sorted(self.memory - before.memory),
            "segments": max(0, self.segments - before.segments),
        }
        return {kind: what for kind, what in found.items() if what}


def belongings() -> Belongings:
    """Child processes but the server's own, descriptors, threads but those that come and go, shared memory."""
    return Belongings(
        processes=frozenset(_children()),
        descriptors=dict(_descriptors()),
        threads=frozenset(
            f"{thread.name} ({thread.ident})"
            for thread in threading.enumerate()
            if thread.name != "relieve-io" and not thread.name.startswith("relieve-callbacks")
        ),
        memory=frozenset(_shared_memory()),
        segments=len(Share._all),
    )


def _children() -> Iterator[tuple[int, str]]:
    """All descendants but the server, which is made once, is this process's own child, and has its name in its code;
    but the children that wait in it for a task; and but the members of shared workers, with the servers that they have
    for themselves (by the fork launcher)."""
    here = os.getpid()
    parents = descendants()
    members = {task.pid for worker in shared_workers for task in worker}
    servers = {parent for pid, parent in parents.items() if pid in members}
    for pid, parent in parents.items():
        if pid in members or pid in servers:
            continue
        try:
            child = psutil.Process(pid)
            if child.name() == "relieve-blank":
                continue
            if parent != here or "relieve_py.launchers.server" not in " ".join(child.cmdline()):
                yield pid, "a zombie" if child.status() == psutil.STATUS_ZOMBIE else "a process"
        except psutil.ZombieProcess:  # has no command line any more
            yield pid, "a zombie"
        except psutil.NoSuchProcess:
            continue


def _shared_memory() -> Iterator[str]:
    """What bears the library's name; other names belong to other programs, or to what a child's own code started."""
    if os.path.isdir("/dev/shm"):
        yield from (name for name in os.listdir("/dev/shm") if name.startswith("relieve_py"))


def _descriptors() -> Iterator[tuple[int, str]]:
    """All but those of the segments that running tasks keep to use them again."""
    kept = 2 * len(Share._all)
    for fd, what in _all_descriptors():
        if kept and what.startswith("/memfd:relieve_py_segment"):
            kept -= 1
        else:
            yield fd, what


def _all_descriptors() -> Iterator[tuple[int, str]]:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        try:
            yield int(name), os.readlink(f"{folder}/{name}")
        except OSError:  # the descriptor of this very listing
            continue
