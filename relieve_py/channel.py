"""Frames over a socket, with descriptors: both ends of the channel between parent and child.

The parent's end never blocks: ``post`` takes a frame at once and ``flush`` writes what is left when the socket has
room. The child's end blocks. Nothing here locks: one thread may receive while another sends, and who else may call is
the business of the owner.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence

from relieve_py.errors import ProtocolError
from relieve_py.interruptions import broke_system_call
from relieve_py.lending import LEND, Lending, LendingChild, LendingParent, Underway, is_large
from relieve_py.serializers import Descriptors
from relieve_py.wire import (
    JOIN_BELOW,
    MAX_DESCRIPTORS,
    WISH,
    Bytes,
    Decoder,
    Frame,
    Kind,
    check_size,
    encode,
    encode_small,
    size_of,
)

_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
_CLOEXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
_CTRUNC = int(socket.MSG_CTRUNC)  # as the flag that it is, each look at it would cost 2 µs
_NOSIGNAL = int(getattr(socket, "MSG_NOSIGNAL", 0))
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})
_LOST = "descriptors were lost on the way: the limit of open files may be reached"
_ONCE = (_NOSIGNAL,)
_CHUNKS_A_WRITE = 64
"""How many chunks one sendmsg takes; the kernel's limit (IOV_MAX) is 1024, and the gain ends well below."""
_Begun = tuple[Sequence[Bytes], list[int], "_Begun | None"]
"""Chunks; how many bytes of them each system call has taken, so nothing while that went to none; and what a signal
handler came in the middle of when it began this, of which nothing went."""


def pair() -> tuple[socket.socket, socket.socket]:
    """The parent's end, which does not block, and the child's, which does. Neither is inherited by other programs."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    return ours, theirs


def take_descriptors(frame: Frame) -> list[int]:
    """The descriptors of a frame that came, which are the caller's from now on."""
    return frame.owner.take() if isinstance(frame.owner, Descriptors) else []


class Channel:
    """One end of a channel. ``sock`` is owned: ``close`` closes it."""

    def __init__(self, sock: socket.socket, lossy: bool = False, lending: Lending | None = None) -> None:
        self._sock = sock
        self.lending = lending  # the way of large parts; None: all go through the socket
        self._lossy = lossy  # frames bring one descriptor at most, which may be -1: there was no room for it
        self._decoder = Decoder()
        self._arrived: deque[int] = deque()  # descriptors whose frame is not complete yet
        self._out: deque[tuple[memoryview, Frame | None]] = deque()  # the frame is named where its descriptors go
        self._underway: Underway | None = None  # goes behind all that is in _out
        self.queued = 0  # bytes in _out and of that
        self.begun: _Begun | None = None  # by ``send`` or ``send_whole``, and not known to have gone as a whole

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._sock.fileno()

    # -- receiving: one thread at a time -----------------------------------------------------------

    @property
    def broken(self) -> ProtocolError | None:
        """What ``receive`` will raise: behind the frames that it returned last came something else."""
        return self._decoder.broken

    def readable(self) -> bool:
        """True when ``receive`` has something to say at once, if only that the other side is gone."""
        if self._sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def expect_no_more(self) -> None:
        """The other side is dead: only what has come is received, whoever else has its end and goes on writing."""
        if sys.platform == "linux":  # elsewhere this would lose what has come
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RD)

    def receive(self, flags: int = 0) -> list[Frame]:
        """Read once and return the frames that are complete; on a socket that does not block, maybe none.

        ``flags`` may be MSG_DONTWAIT. Raises EOFError when the other side is gone, ProtocolError when it does not
        speak the protocol, or announces more than there is memory for. Descriptors are closed with their frame, unless
        somebody takes them from its owner.
        """
        decoder = self._decoder
        if decoder.broken is not None:
            raise decoder.broken
        try:
            nbytes, ancillary, flags, _ = self._sock.recvmsg_into([decoder.space()], _ANCILLARY, _CLOEXEC | flags)
        except BlockingIOError:
            return []
        except OSError as error:
            if broke_system_call(error):
                raise
            raise EOFError(f"the other side is gone: {error}") from error
        if ancillary or flags & _CTRUNC:
            self._take_descriptors(ancillary, flags)
        if nbytes == 0:
            raise EOFError("the other side is gone")
        try:
            frames = decoder.filled(nbytes)
        except MemoryError:
            raise ProtocolError("a frame needs more memory than there is") from None
        if self._arrived or decoder.announced:
            self._hand_out_descriptors(frames)
        for frame in frames:
            if frame.flags >= WISH:
                return self._make_whole(frames)
        return frames

    def _make_whole(self, frames: list[Frame]) -> list[Frame]:
        """The frames with the parts of them that came by another way, without those that are about that way."""
        whole: list[Frame] = []
        for frame in frames:
            try:
                if frame.flags < WISH or self._take_lent(frame):
                    whole.append(frame)
            except ProtocolError as error:
                if not whole:
                    raise
                self._decoder.broken = error
                break
        return whole

    def _take_lent(self, frame: Frame) -> bool:
        if self.lending is None:
            raise ProtocolError(f"a frame with flags {frame.flags:#x} came where nothing is lent")
        return self.lending.came(frame)

    def _hand_out_descriptors(self, frames: list[Frame]) -> None:
        """Each frame gets what it announces; what is left can only be for the one that is not complete."""
        # Looked at before any frame has its own, so that close() finds them all.
        announced = sum(len(frame.fds) for frame in frames)
        if announced > len(self._arrived):
            if -1 in self._arrived:
                raise ProtocolError(_LOST)
            raise ProtocolError("a frame announces descriptors that did not come")
        if len(self._arrived) - announced > (MAX_DESCRIPTORS if self._decoder.midway else 0):
            raise ProtocolError("descriptors came that no frame announces")
        for frame in frames:
            if frame.fds:
                owner = Descriptors([self._arrived.popleft() for _ in frame.fds])
                frame.fds, frame.owner = owner.fds, owner
                if -1 in owner.fds and not self._lossy and frame.kind != Kind.SEGMENT:
                    raise ProtocolError(_LOST)

    def _take_descriptors(self, ancillary: list[tuple[int, int, bytes]], flags: int) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                if not _CLOEXEC:
                    for fd in fds:
                        os.set_inheritable(fd, False)
                self._arrived.extend(fds)
        if flags & _CTRUNC:
            self._arrived.append(-1)

    # -- sending: one thread at a time -------------------------------------------------------------

    def post(self, frame: Frame) -> bool:
        """Send what goes at once and keep the rest for ``flush``; True when nothing is left.

        Raises EncodeError when the frame may not travel; a lost connection is found by the receiving side.
        """
        payload = frame.payload
        at_once = not self._out and self._underway is None
        if at_once and type(payload) is bytes and len(payload) <= JOIN_BELOW and not frame.buffers and not frame.fds:
            return self._post_chunk(encode_small(frame.kind, frame.number, payload, frame.flags))
        if self._underway is not None:
            check_size(size_of(frame.payload) + sum(map(size_of, frame.buffers)), len(frame.buffers), len(frame.fds))
            self._underway.behind.append(frame)
            return False
        if self.lending is not None and (frame.buffers or len(frame.payload) >= LEND) and is_large(frame):
            return self._post_large(frame, self.lending)
        return self._post(frame)

    def _post_large(self, frame: Frame, lending: Lending) -> bool:
        if (lent := lending.lend_one(frame)) is not None:
            return self._post(lent)
        if not isinstance(lending, LendingParent):
            assert isinstance(lending, LendingChild)
            return self._post(lending.lend(frame))
        begun = lending.begin(frame)
        self._pay()
        if isinstance(begun, Frame):
            return self._post(begun)
        self._underway = begun
        self.queued += begun.left
        return False

    def _post_chunk(self, chunk: bytes) -> bool:
        """A whole frame, with none before it."""
        try:
            sent = self._sock.send(chunk, _NOSIGNAL)
        except OSError as error:
            if broke_system_call(error):
                raise
            sent = 0  # flush finds out why
        if sent == len(chunk):
            return True
        self._out.append((memoryview(chunk)[sent:], None))
        self.queued += len(chunk) - sent
        return self._flush()

    def _post(self, frame: Frame | bytes) -> bool:
        """A frame, or one as a chunk, behind all that is left to send."""
        first: Frame | None = None
        if isinstance(frame, Frame):
            first, chunks = frame, encode(frame)
        elif not self._out:
            return self._post_chunk(frame)
        else:
            chunks = [frame]
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            self._out.append((view, first))
            self.queued += view.nbytes
            first = None
        return self._flush()

    def _pay(self) -> None:
        while isinstance(self.lending, LendingParent) and self.lending.owed:
            self._post(self.lending.owed.popleft())

    def attend(self, wake: Callable[[], object]) -> None:
        """``wake`` is called, by whoever sends or receives, when ``tend`` has to be called soon."""
        if isinstance(self.lending, LendingParent):
            self.lending.attend(wake)

    def tend(self, late: bool) -> bool:
        """See ``LendingParent.tend``; and send what that owes."""
        again = isinstance(self.lending, LendingParent) and self.lending.tend(late)
        self._pay()
        return again

    @property
    def kept(self) -> int:
        """Bytes of memory that count as the child's, and are there only to be used again."""
        return self.lending.kept if isinstance(self.lending, LendingParent) else 0

    def flush(self) -> bool:
        """Write what the socket takes now; True when nothing is left."""
        underway = self._underway
        if underway is None:
            return self._flush()
        left = underway.left
        frame = underway.step()
        self.queued -= left - (underway.left if frame is None else 0)
        if frame is not None:
            self._underway = None
            self._post(frame)
            while underway.behind:
                self.post(underway.behind.popleft())
        return self._flush() and self._underway is None

    def _flush(self) -> bool:
        while self._out:
            try:
                sent = self._write()
            except BlockingIOError:
                return False
            except OSError as error:
                if broke_system_call(error):
                    raise
                if error.errno not in _GONE or sys.platform == "linux":
                    self._shut_down()  # what has come can still be read; on macOS it could not
                self._out.clear()  # nobody will read this; receive() tells the owner
                self._underway = None
                self.queued = 0
                return True
            self._drop(sent)
        return True

    def _shut_down(self) -> None:
        """Have both sides find the end of the channel."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def send(self, frame: Frame) -> None:
        """Send the whole frame, on a socket that blocks. Raises OSError when the other side is gone.

        A signal handler that runs meanwhile may raise, but not send. What went of the frame is known then, and
        ``finish`` sends the rest; whatever is sent next does so first.
        """
        self.finish()
        if isinstance(self.lending, LendingChild) and (frame.buffers or len(frame.payload) >= LEND) and is_large(frame):
            if (lent := self.lending.lend_one(frame)) is not None:
                if not self.send_whole(lent):
                    self.finish()
                return
            frame = self.lending.lend(frame)
        views = [memoryview(chunk).cast("B") for chunk in encode(frame)]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", frame.fds))] if frame.fds else []
        noted: list[int] = []
        below, self.begun = self.begun, (views, noted, self.begun)
        try:
            noted += map(self._sock.sendmsg, (views[:_CHUNKS_A_WRITE],), (rights,), _ONCE)
        finally:
            if not noted:
                self.begun = below
        self.finish()

    def send_whole(self, chunk: bytes) -> bool:
        """Send a frame that is one chunk, on a socket that blocks; False when part of it went, and ``finish`` has to
        send the rest. Not while the channel is ``midway``. Raises OSError when the other side is gone.

        A signal handler may do the same in the middle of this, and may raise.
        """
        # Handlers run between calls, and in the middle of a system call that was interrupted, which has sent nothing
        # then. So one call of C code that sends and notes leaves no moment at which it is not known what went.
        noted: list[int] = []
        size, below = len(chunk), self.begun
        self.begun = (chunk,), noted, below
        try:
            noted += map(self._sock.send, (chunk,), _ONCE)
        finally:
            if not noted or noted[0] == size:
                self.begun = below
        return noted[0] == size

    @property
    def midway(self) -> bool:
        """Part of a frame went, or all of it and that was not looked at yet."""
        return self.begun is not None and bool(self.begun[1])

    def finish(self) -> None:
        """Send what is left of a frame that was begun."""
        while self.begun is not None and self.begun[1]:
            chunks, noted, below = self.begun
            rest = _behind(chunks, sum(noted))
            if not rest:
                self.begun = below
                return
            noted = [0]
            self.begun = rest, noted, below
            noted += map(self._sock.sendmsg, (rest[:_CHUNKS_A_WRITE],), ((),), _ONCE)

    @property
    def lost(self) -> bool:
        """Nobody reads what is sent: the other side is gone, or this one was closed."""
        if self._sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._sock.fileno(), 0)
        return bool(poll.poll(0))

    def _write(self) -> int:
        """One sendmsg; descriptors go with the first byte of their frame, so a new frame with some starts a new
        message."""
        first, frame = self._out[0]
        rights = []
        if frame is not None and frame.fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", frame.fds))]
        chunks = [first]
        for view, later in self._out:
            if view is first:
                continue
            if len(chunks) == _CHUNKS_A_WRITE or (later is not None and later.fds):
                break
            chunks.append(view)
        sent: int = self._sock.sendmsg(chunks, rights, _NOSIGNAL)
        return sent

    def _drop(self, sent: int) -> None:
        """Forget ``sent`` bytes of what was queued."""
        self.queued = max(0, self.queued - sent)
        while self._out and sent >= self._out[0][0].nbytes:
            sent -= self._out.popleft()[0].nbytes
        if sent:
            view, _ = self._out[0]
            self._out[0] = (view[sent:], None)

    def close(self) -> None:
        """Close the socket and every descriptor that no frame has claimed."""
        self._sock.close()
        if self.lending is not None:
            self.lending.close()
        self._out.clear()
        self._underway = None
        self.queued = 0
        while self._arrived:
            fd = self._arrived.popleft()
            if fd >= 0:
                os.close(fd)


def _behind(chunks: Sequence[Bytes], sent: int) -> list[Bytes]:
    """What is left of these when so many bytes of them were sent."""
    rest: list[Bytes] = []
    for chunk in chunks:
        nbytes = size_of(chunk)
        if sent < nbytes:
            rest.append(memoryview(chunk)[sent:] if sent else chunk)
        sent = max(0, sent - nbytes)
    return rest
