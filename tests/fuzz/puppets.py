"""Children that the test plays itself: a launcher whose children are the other end of a channel, without a process."""

from __future__ import annotations

import contextlib
import mmap
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

import attrs

from relieve_py.channel import Channel
from relieve_py.launchers.base import LaunchSpec, Observer
from relieve_py.supervisor import shared
from relieve_py.texts import pack
from relieve_py.wire import HEADER, VERSION, Frame, Kind

PATIENCE = 10.0
"""Seconds after which something hangs, on a machine that does much else."""


def frame_bytes(
    kind: int, number: int = 0, payload: bytes = b"", buffers: Sequence[bytes] = (), nfds: int = 0, flags: int = 0
) -> bytes:
    """A frame as it would be sent, with nothing checked."""
    lengths = b"".join(len(buffer).to_bytes(8, "little") for buffer in buffers)
    head = HEADER.pack(VERSION, kind, nfds, flags, len(buffers), number, len(payload))
    return b"".join((head, lengths, payload, *buffers))


READY = frame_bytes(Kind.READY, 0, pack(["something"]))


# -- what a hostile child does ---------------------------------------------------------------------


@attrs.frozen
class Send:
    """Write these bytes, with so many descriptors beside the first."""

    data: bytes
    nfds: int = 0


@attrs.frozen
class Begin:
    """Write that number into the shared page."""

    number: int


@attrs.frozen
class Shut:
    """Shut down a direction of the channel."""

    how: int


Action = Send | Begin | Shut


class Puppet:
    """A child without a process: its end of the channel and its page, and death when it is signalled."""

    def __init__(self, spec: LaunchSpec, observer: Observer, pid: int) -> None:
        self.pid = pid
        self.over = threading.Event()
        self._observer = observer
        self._lock = threading.Lock()  # owner: whoever uses or closes the socket
        self._sock = spec.sock.dup()
        self._sock.setblocking(False)
        self._page = mmap.mmap(spec.page_fd, mmap.PAGESIZE)
        self._honest: Channel | None = None

    # what the slot asks

    def signal(self, signum: int) -> None:
        """Any signal is the end."""
        self.die(None, signum)

    def close(self) -> None:
        """Nothing refers to a process."""

    # what the test plays

    def die(self, code: int | None, signum: int | None) -> None:
        """Be dead, and reaped."""
        with self._lock:
            if self.over.is_set():
                return
            self.over.set()
            if self._honest is not None:
                shared().unwatch(self._sock.fileno())
            self._sock.close()
            self._page.close()
        shared().post(self._observer.exited, code, signum)

    def act(self, action: Action) -> None:
        """Do it, unless it is dead."""
        match action:
            case Send(data, nfds):
                self.send(data, nfds)
            case Begin(number):
                self.begin(number)
            case Shut(how):
                self.shut(how)

    def begin(self, number: int) -> None:
        """Write that number into the page, as one that begins a call does."""
        with self._lock:
            if not self.over.is_set():
                self._page[:8] = number.to_bytes(8, sys.byteorder)

    def shut(self, how: int) -> None:
        """Shut down a direction of the channel."""
        with self._lock, contextlib.suppress(OSError):
            self._sock.shutdown(how)

    def hear(self, until: Callable[[Frame], bool]) -> list[int]:
        """Read until a frame is the one that is waited for; the kinds of all of them."""
        channel, kinds, deadline = Channel(self._sock), [], time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            select.select([self._sock], [], [], 0.1)
            for frame in channel.receive():
                kinds.append(frame.kind)
                if until(frame):
                    return kinds
        raise AssertionError(f"only these came: {kinds}")

    def send(self, data: bytes, nfds: int = 0) -> None:
        """Write everything, as fast as the parent reads it."""
        view, fds = memoryview(data), [2] * nfds
        deadline = time.monotonic() + PATIENCE
        while view and not self.over.is_set():
            assert time.monotonic() < deadline, "the parent does not read"
            try:
                with self._lock:
                    sent = socket.send_fds(self._sock, [view], fds) if fds else self._sock.send(view)
            except BlockingIOError:
                select.select([], [self._sock], [], 0.05)
                continue
            except (OSError, ValueError):  # it was killed meanwhile, or the parent has closed its end
                return
            view, fds = view[sent:], []

    # what an honest child does

    def be_honest(self, payload: bytes) -> None:
        """Answer each call with that payload, on the I/O thread."""
        with self._lock:
            if not self.over.is_set():
                self._honest = Channel(self._sock)
                shared().watch(self._sock.fileno(), lambda: self._obey(payload))

    def _obey(self, payload: bytes) -> None:
        assert self._honest is not None
        try:
            frames = self._honest.receive()
        except EOFError:
            self.die(0, None)
            return
        for frame in frames:
            for kind in _ANSWERS.get((frame.kind, frame.flags), ()):
                said = pack(["something"]) if kind == Kind.READY else payload if kind in _WITH_PAYLOAD else b""
                self._honest.post(Frame(kind, frame.number, said))
            if frame.kind == Kind.STOP:
                self.die(0, None)


GET, CALL, STREAM, EVENT = range(4)  # the flags of what the parent sends
_WITH_PAYLOAD = frozenset({Kind.RESULT, Kind.ITEM})
_ANSWERS = {
    (Kind.BOOT, 0): (Kind.READY,),
    (Kind.CALL, GET): (Kind.RESULT,),
    (Kind.CALL, CALL): (Kind.ACCEPTED, Kind.END),
    (Kind.CALL, STREAM): (Kind.ITEM, Kind.END),
    (Kind.EVENT, EVENT): (Kind.DELIVERED,),
    (Kind.CANCEL, 0): (Kind.END,),
}


class PuppetLauncher:
    """Makes puppets. The first ``hostile`` ones are handed to the test, the others are honest."""

    name = "puppet"

    def __init__(self, honest_payload: bytes, hostile: int = 1) -> None:
        self.hostile = hostile
        self.made: list[Puppet] = []
        self.there = threading.Event()
        self._payload = honest_payload

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        """On the I/O thread, as every launch."""
        puppet = Puppet(spec, observer, 10_000_000 + len(self.made))
        self.made.append(puppet)
        observer.launched(puppet)
        if len(self.made) > self.hostile:
            puppet.be_honest(self._payload)
        else:
            self.there.set()
