"""The making of one child: its channel and page, its launch, and what the launcher reports of it."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import sys
import tempfile
from typing import Protocol

from relieve_py.channel import Channel, pair
from relieve_py.child.runtime import PAGE_BYTES
from relieve_py.launchers.base import Launcher, LaunchSpec, Process


class Parent(Protocol):
    """Who is told of a birth, each time with that birth. All calls come on the I/O thread."""

    def born(self, birth: Birth) -> None:
        """The child exists."""
        ...

    def unborn(self, birth: Birth, error: OSError) -> None:
        """The system would not make it."""
        ...

    def lost(self, birth: Birth) -> None:
        """The launcher died over it; it may be tried again."""
        ...

    def died(self, birth: Birth, code: int | None, signum: int | None) -> None:
        """It was reaped."""
        ...


class Cradle:
    """What one child will share with its parent: a channel and a page. A launcher may have its own kind."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        fd = _page_descriptor()
        try:
            self.page = mmap.mmap(fd, PAGE_BYTES)
            ours, self._theirs = pair()
        except BaseException:
            os.close(fd)
            raise
        self._page_fd = fd
        self.channel = Channel(ours)
        whole = {**os.environ, **env}
        self.spec = LaunchSpec(name=name, sock=self._theirs, page=self.page, page_fd=fd, env=whole)

    @property
    def begun(self) -> int:
        """The number of the last call that the child has begun."""
        return int.from_bytes(self.page[:8], sys.byteorder)

    def hand_over(self) -> None:
        """The child has its part, or there will be none: close the copies."""
        self._theirs.close()
        if self._page_fd >= 0:
            os.close(self._page_fd)
            self._page_fd = -1

    def close(self) -> None:
        """Let go of everything."""
        self.hand_over()
        self.channel.close()
        self.page.close()


class Birth:
    """One child from launch to exit; the observer of its launcher."""

    def __init__(self, parent: Parent, generation: int, cradle: Cradle) -> None:
        self._parent = parent
        self._cradle = cradle
        self.generation = generation
        self.channel = cradle.channel
        self.process: Process | None = None
        self.leaving = False  # it said so
        self.hung_up = False  # the channel has ended and is not watched any more
        self.ready: tuple[str, ...] | None = None  # what it exports, while its launcher has yet to say that it exists
        self._abandoned = False

    @property
    def begun(self) -> int:
        """The number of the last call that the child has begun."""
        return self._cradle.begun

    def launch(self, launcher: Launcher) -> None:
        """Have the child made."""
        launcher.launch(self._cradle.spec, self)

    def launched(self, process: Process) -> None:
        """The launcher says: it exists."""
        self.process = process
        self._cradle.hand_over()
        if self._abandoned:
            process.signal(signal.SIGKILL)
        else:
            self._parent.born(self)

    def refused(self, error: OSError) -> None:
        """The launcher says: the system would not."""
        self._cradle.hand_over()
        if not self._abandoned:
            self._parent.unborn(self, error)

    def lost(self) -> None:
        """The launcher says: what makes children died."""
        self._cradle.hand_over()
        if not self._abandoned:
            self._parent.lost(self)

    def exited(self, code: int | None, signum: int | None) -> None:
        """The launcher says: it was reaped."""
        if not self._abandoned:
            self._parent.died(self, code, signum)

    def move(self, parent: Parent, generation: int) -> None:
        """Another is told from now on what becomes of the child."""
        self._parent = parent
        self.generation = generation

    def abandon(self) -> None:
        """The launcher has taken too long: a child that comes now is killed, and the parent is told nothing more."""
        self._abandoned = True

    def forget(self) -> None:
        """In a process that was just forked: close the copies."""
        self.hung_up = True
        self._cradle.hand_over()
        self.channel.close()
        if self.process is not None:
            self.process.close()

    def close(self) -> None:
        """Let go of everything. The channel must not be watched any more."""
        self.hung_up = True
        self._cradle.close()
        if self.process is not None:
            self.process.close()
            self.process = None


_SEALABLE = getattr(os, "MFD_CLOEXEC", 0) | getattr(os, "MFD_ALLOW_SEALING", 0)


def _page_descriptor() -> int:
    """A descriptor of one page of shared memory, in no file system that can be full, where there is such a thing."""
    fd: int
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("relieve_py", _SEALABLE)
    else:
        fd, path = tempfile.mkstemp(prefix="relieve_py")
        os.unlink(path)
    try:
        os.ftruncate(fd, PAGE_BYTES)
        if sys.platform == "linux" and hasattr(fcntl, "F_ADD_SEALS"):
            # A child that made it smaller would kill this process when that looks at it.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd
