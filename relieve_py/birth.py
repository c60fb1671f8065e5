"""The making of one child: its channel and page, its launch, and what the launcher reports of it."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import tempfile
from typing import Protocol

from relieve_py import standard
from relieve_py.blackbox import BYTES, DUMP_SIGNAL, NO_PROGRESS, STACKS_AT, Progress, Reader
from relieve_py.channel import Channel, pair
from relieve_py.exits import NOTHING, Remains
from relieve_py.launchers.base import Launcher, LaunchSpec, Process
from relieve_py.lending import LendingParent
from relieve_py.limits import NO_LIMITS, Limits
from relieve_py.outlet import Outlet
from relieve_py.outofmemory import OutOfMemoryWatch
from relieve_py.surroundings import Surroundings


class Parent(Protocol):
    """Who is told of a birth, each time with that birth. All calls come on the I/O thread."""

    def born(self, birth: Birth) -> None:
        """The child exists."""
        ...

    def unborn(self, birth: Birth, error: Exception) -> None:
        """The system would not make it."""
        ...

    def lost(self, birth: Birth) -> None:
        """The launcher died over it; it may be tried again."""
        ...

    def died(self, birth: Birth, code: int | None, signum: int | None) -> None:
        """It was reaped."""
        ...


class Cradle:
    """What one child will share with its parent: a channel and some memory. A launcher may have its own kind."""

    box: Reader | None = None  # where the child leaves its last words, if it leaves any
    outlet: Outlet | None = None  # what takes its output; None: it goes where the parent's goes

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        standard.occupy()  # the program may have closed some since the last child
        fd = _page_descriptor()
        try:
            self.box = Reader(fd)
            self.outlet = surroundings.outlet(name)
            ours, self._theirs = pair()
        except BaseException:
            os.close(fd)
            if self.box is not None:
                self.box.close()
            if self.outlet is not None:
                self.outlet.discard()
            raise
        self._page_fd = fd
        self.channel = Channel(ours, lending=LendingParent(surroundings.lend))
        env = surroundings.environment()
        out, err = (self.outlet.end_of(name) if self.outlet else None for name in ("stdout", "stderr"))
        self.spec = LaunchSpec(
            name=name,
            sock=self._theirs,
            page=self.box.memory,
            page_fd=fd,
            env=env,
            stdout=out,
            stderr=err,
            preload=surroundings.preload,
        )

    @property
    def begun(self) -> int:
        """The number of the last call that the child has begun."""
        return self.box.begun if self.box is not None else 0

    def progress(self, number: int) -> Progress:
        """How far the child has come with the batch of that number."""
        return self.box.progress(number) if self.box is not None else NO_PROGRESS

    def recall(self, number: int) -> None:
        """Have it begin no further item of that chunk."""
        if self.box is not None:
            self.box.recall(number)

    def hand_over(self) -> None:
        """The child has its part, or there will be none: close the copies."""
        self._theirs.close()
        if self._page_fd >= 0:
            os.close(self._page_fd)
            self._page_fd = -1
        if self.outlet is not None:
            self.outlet.hand_over()

    def close(self) -> None:
        """Let go of everything."""
        self.hand_over()
        self.channel.close()
        if self.box is not None:
            self.box.close()
        if self.outlet is not None:
            self.outlet.close()


class Birth:
    """One child from launch to exit; the observer of its launcher."""

    def __init__(self, parent: Parent, generation: int, cradle: Cradle) -> None:
        self._parent = parent
        self.cradle = cradle
        self.generation = generation
        self.channel = cradle.channel
        self.process: Process | None = None
        self.leaving = False  # it said so
        self.hung_up = False  # the channel has ended and is not watched any more
        self.exceeded: str | None = None  # the limit for which it is ended
        self.held_up_by: str | None = None  # what its launch has to wait for
        self.reaped = False
        self._abandoned = False
        self._killed = False  # by this library
        self._memory: OutOfMemoryWatch | None = None

    @property
    def begun(self) -> int:
        """The number of the last call that the child has begun."""
        return self.cradle.begun

    @property
    def box(self) -> Reader | None:
        """Where the child leaves its last words; None when it leaves none."""
        return self.cradle.box

    def signal(self, signum: int) -> None:
        """Send the child a signal; nothing happens when there is none."""
        self._killed |= signum == signal.SIGKILL
        if self.process is not None:
            self.process.signal(signum)

    @property
    def can_tell_stacks(self) -> bool:
        """True when the child writes down its stacks once it is asked."""
        return self.box is not None and self.box.welcomes_dump

    def ask_for_stacks(self) -> bool:
        """Have the child write down its stacks, whatever it does, which takes it a moment; False when it cannot."""
        if DUMP_SIGNAL is None or not self.can_tell_stacks:
            return False
        self.signal(DUMP_SIGNAL)
        return True

    @property
    def has_told_stacks(self) -> bool:
        """True once it has begun to write them down."""
        return self.box is not None and self.box.stacks() is not None

    def remains(self, signum: int | None, limits: Limits = NO_LIMITS) -> Remains:
        """What is known of the child once it was reaped. I/O thread only."""
        if self.box is None:
            return NOTHING
        limit = self.exceeded
        if limit is None and signum == signal.SIGXCPU and limits.cpu_seconds is not None:
            limit = "cpu_seconds"
        # What has hung up may have been dying by the kernel's hand before this library sent its signal.
        riddle = signum == signal.SIGKILL and (self.hung_up or not self._killed)
        outlet = self.cradle.outlet
        out, err = (outlet.last_lines(name) if outlet is not None else None for name in ("stdout", "stderr"))
        return Remains(
            stdout=out or (),
            stderr=self.box.stderr_lines() if err is None else err,
            stacks=self.box.stacks(),
            out_of_memory=riddle and self._memory is not None and self._memory.explains_kill(),
            limit=limit,
            allowed=getattr(limits, limit) if limit is not None else None,
        )

    def launch(self, launcher: Launcher) -> None:
        """Have the child made."""
        if self.cradle.outlet is not None:
            self.cradle.outlet.open()
        launcher.launch(self.cradle.spec, self)

    def launched(self, process: Process) -> None:
        """The launcher says: it exists."""
        self.process = process
        self.cradle.hand_over()
        if self._abandoned:
            process.signal(signal.SIGKILL)
            return
        if self.box is not None:
            self._memory = OutOfMemoryWatch(process.pid)
        self._parent.born(self)

    def waits_for(self, what: str) -> None:
        """The launcher says: not before that."""
        self.held_up_by = what

    def refused(self, error: Exception) -> None:
        """The launcher says: the system would not."""
        self.cradle.hand_over()
        if not self._abandoned:
            self._parent.unborn(self, error)

    def lost(self) -> None:
        """The launcher says: what makes children died."""
        self.cradle.hand_over()
        if not self._abandoned:
            self._parent.lost(self)

    def exited(self, code: int | None, signum: int | None) -> None:
        """The launcher says: it was reaped."""
        self.reaped = True
        if self.cradle.outlet is not None:
            self.cradle.outlet.finish(lambda: self._tell_exit(code, signum))
        else:
            self._tell_exit(code, signum)

    def _tell_exit(self, code: int | None, signum: int | None) -> None:
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
        self.cradle.hand_over()
        self.channel.close()
        if self.box is not None:
            self.box.forget()
        if self.cradle.outlet is not None:
            self.cradle.outlet.forget()
        if self.process is not None:
            self.process.close()

    def close(self) -> None:
        """Let go of everything. The channel must not be watched any more."""
        self.hung_up = True
        self.cradle.close()
        if self.process is not None:
            self.process.close()
            self.process = None


_SEALABLE = getattr(os, "MFD_CLOEXEC", 0) | getattr(os, "MFD_ALLOW_SEALING", 0)


def _page_descriptor() -> int:
    """A descriptor of the shared memory, in no file system that can be full, where there is such a thing."""
    fd: int
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("relieve_py", _SEALABLE)
    else:
        fd, path = tempfile.mkstemp(prefix="relieve_py")
        os.unlink(path)
    try:
        os.ftruncate(fd, BYTES)
        os.lseek(fd, STACKS_AT, os.SEEK_SET)  # where the child's faulthandler will write
        if sys.platform == "linux" and hasattr(fcntl, "F_ADD_SEALS"):
            # A child that made it smaller would kill this process when that looks at it; nor do long stacks make it
            # grow.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd
