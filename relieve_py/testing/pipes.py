"""A channel in memory: frames that are under way between a parent and a simulated child, in order, each way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from relieve_py.errors import ProtocolError
from relieve_py.testing.scheduler import Scheduler, Source
from relieve_py.wire import Frame, check_size

GARBAGE = Frame(0)
"""Stands for bytes that are no frame."""


class Reader(Protocol):
    """The child at the other end."""

    def look(self) -> None:
        """See whether there is something to do now."""
        ...


class Pipe:
    """Both directions of one channel."""

    __slots__ = ("child_closed", "down", "parent_closed", "up")

    def __init__(self) -> None:
        self.down: deque[Frame] = deque()  # to the child
        self.up: deque[Frame] = deque()  # to the parent
        self.parent_closed = self.child_closed = False


class ParentEnd(Source):
    """The parent's end, with the face of a ``Channel``: it never blocks, and may take more than there is room for."""

    __slots__ = ("_fd", "_out", "_pipe", "_room", "_scheduler", "broken", "child", "on_ready", "reads", "writes")

    def __init__(self, scheduler: Scheduler, pipe: Pipe, room: int) -> None:
        self.place = -1
        self.on_ready: Callable[[], object] | None = None
        self.reads = self.writes = False
        self.child: Reader | None = None
        self.broken: ProtocolError | None = None  # after the frames that were received came something else
        self._scheduler = scheduler
        self._pipe = pipe
        self._room = room  # frames that may be under way to the child
        self._out: deque[Frame] = deque()
        self._fd = scheduler.next_number()
        scheduler.ends[self._fd] = self

    # -- what a Channel does -----------------------------------------------------------------------

    def fileno(self) -> int:
        """A number that stands for a descriptor; -1 once closed."""
        return self._fd

    @property
    def queued(self) -> int:
        """Frames that wait for room; of a Channel, bytes."""
        return len(self._out)

    def post(self, frame: Frame) -> bool:
        """Send it, or keep it until there is room; True when nothing is kept. Raises EncodeError."""
        check_size(len(frame.payload), len(frame.buffers), len(frame.fds))
        self._out.append(frame)
        return self.flush()

    def flush(self) -> bool:
        """Send what there is room for; True when nothing is left."""
        pipe, out = self._pipe, self._out
        if pipe.child_closed or pipe.parent_closed:
            out.clear()
            return True
        sent = False
        while out and len(pipe.down) < self._room:
            pipe.down.append(out.popleft())
            sent = True
        if sent and self.child is not None:
            self.child.look()
        return not out

    def readable(self) -> bool:
        """True when ``receive`` has something to say."""
        return not self._pipe.parent_closed and (bool(self._pipe.up) or self._pipe.child_closed)

    def expect_no_more(self) -> None:
        """The child is dead, and nobody else has its end."""

    def receive(self, flags: int = 0) -> list[Frame]:
        """Some of the frames that have come, in order. Raises EOFError after the last, ProtocolError for garbage."""
        if self.broken is not None:
            raise self.broken
        up = self._pipe.up
        if not up:
            if self._pipe.child_closed:
                raise EOFError("the other side is gone")
            return []
        frames: list[Frame] = []
        for _ in range(1 + (self._scheduler.choose(len(up)) if len(up) > 1 else 0)):
            frame = up.popleft()
            if frame is GARBAGE:
                self.broken = ProtocolError("a frame of version 71 arrived; this side speaks version 1")
                break
            frames.append(frame)
        self.look()
        return frames

    def attend(self, wake: Callable[[], object]) -> None:
        """Nothing is lent: there is one memory."""

    def tend(self, late: bool) -> bool:
        """Nothing is lent."""
        return False

    @property
    def kept(self) -> int:
        """Nothing is kept."""
        return 0

    def close(self) -> None:
        """No more of it."""
        if self._fd < 0:
            return
        del self._scheduler.ends[self._fd]
        self._fd = -1
        self._out.clear()
        self._pipe.parent_closed = True
        self._scheduler.rest(self)
        if self.child is not None:
            self.child.look()

    # -- in the simulation -------------------------------------------------------------------------

    def look(self) -> None:
        """See whether the parent has to be told that it can read or write."""
        pipe = self._pipe
        if self.on_ready is None or pipe.parent_closed:
            ready = False
        elif self.reads and (pipe.up or pipe.child_closed):
            ready = True
        else:
            ready = self.writes and (len(pipe.down) < self._room or pipe.child_closed)
        if ready:
            self._scheduler.wake(self)
        else:
            self._scheduler.rest(self)

    def step(self) -> None:
        """Tell the parent."""
        assert self.on_ready is not None
        self.on_ready()
        self.look()


class ChildEnd:
    """The child's end."""

    __slots__ = ("_parent", "_pipe")

    def __init__(self, pipe: Pipe, parent: ParentEnd) -> None:
        self._pipe = pipe
        self._parent = parent

    @property
    def readable(self) -> bool:
        """True when there is a frame, or the parent is gone."""
        return bool(self._pipe.down) or self._pipe.parent_closed

    def receive(self) -> Frame | None:
        """The next frame; None when the parent is gone."""
        if not self._pipe.down:
            return None
        frame = self._pipe.down.popleft()
        self._parent.look()
        return frame

    def send(self, frame: Frame) -> None:
        """To the parent."""
        if not self._pipe.parent_closed and not self._pipe.child_closed:
            self._pipe.up.append(frame)
            self._parent.look()

    def close(self) -> None:
        """The parent finds the end after what was sent."""
        self._pipe.child_closed = True
        self._pipe.down.clear()
        self._parent.look()
