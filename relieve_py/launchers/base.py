"""The protocol of launchers: what a slot asks of one, and what it is told."""

from __future__ import annotations

import mmap
import socket
from typing import Protocol

import attrs

from relieve_py.preload import Preload


@attrs.frozen(kw_only=True, eq=False)
class LaunchSpec:
    """What a new child gets. The launcher passes the descriptors on; the slot that made them closes them."""

    name: str
    """The task's name."""
    sock: socket.socket
    """The child's end of the channel."""
    page: mmap.mmap
    """The memory shared with the child (``blackbox``), for a child that shares this process's memory."""
    page_fd: int
    """The same memory as a descriptor, for one that does not."""
    env: dict[str, str]
    """The whole environment of the child."""
    stdout: int | None = None
    """A descriptor that the child gets as its standard output; None: a copy of this process's own."""
    stderr: int | None = None
    """The same for its standard error."""
    preload: Preload | None = None
    """What the child is to have imported already, and shares with others; of a launcher that ``preloads``."""


class Process(Protocol):
    """A child that was launched and has not been reaped."""

    pid: int

    def signal(self, signum: int) -> None:
        """Send it a signal; nothing happens when it is gone. Any thread."""
        ...

    def close(self) -> None:
        """Let go of what refers to the process. Called once, after it was reaped."""
        ...


class Observer(Protocol):
    """Who is told what becomes of a launch. All calls come on the I/O thread, each at most once, ``exited`` last."""

    def launched(self, process: Process) -> None:
        """The child exists."""
        ...

    def waits_for(self, what: str) -> None:
        """The launch cannot be made before that. For the error, should it take too long."""
        ...

    def refused(self, error: Exception) -> None:
        """The system would not make a child, or what was to be imported before cannot be; nothing more follows."""
        ...

    def lost(self) -> None:
        """What was to make the child died meanwhile; a launch on a new channel may be tried. Nothing more follows."""
        ...

    def exited(self, code: int | None, signum: int | None) -> None:
        """The child was reaped; both are None when somebody else did that and nobody knows how it ended."""
        ...


class Launcher(Protocol):
    """Makes children. One instance serves the whole process.

    It may also have ``warm(preload, environment)``, called when a task is made, which has what a launch needs come to
    be meanwhile, and returns at once; and ``preloads = True``, if it heeds ``LaunchSpec.preload``.
    """

    name: str

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        """Begin to make a child; returns at once. Called on the I/O thread only."""
        ...
