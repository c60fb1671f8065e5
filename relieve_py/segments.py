"""Memory that the two ends of a channel share: one writes into it, the other looks at that, and it is used again.

A segment is a file in memory, of a size that is sealed, so that nobody can make it smaller under who looks at it. It
begins with a page of numbers (u64); the rest is lent in blocks, see ``blocks``. Number 0 is ``TAKEN`` once the reader
has the segment. Number ``slot`` of a block is set to its ``use`` by the reader when the last view of it is gone. The
writer looks there when it wants memory: nobody is woken to be told.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import pickle
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from relieve_py import cgroups
from relieve_py.blocks import Block, Blocks, gaps
from relieve_py.errors import ProtocolError
from relieve_py.interruptions import raised_by_handler
from relieve_py.wire import Bytes, size_of

PAGE = mmap.PAGESIZE
TAKEN = 1
ALIGN = 64
"""Each part of a block begins at a multiple of this, for what computes with vectors."""
MOST = 256 << 20
"""The most bytes of one segment, of which a channel has one each way. More: larger parts need no copying through the
socket; less: less memory is kept between two uses, and the other threads wait for a shorter copy."""
LEAST = 1 << 20
"""A segment that could only be smaller is not made."""
OF_ALL = 4
"""All segments of a process together may have one part in so many of the memory of its machine or control group."""
OF_WHAT_IS_LEFT = 8
"""Each new segment may have one part in so many of what the others leave of that."""
STEP = 64 << 20
"""Bytes that are copied while no other thread can run: some 10 milliseconds. Less: memcpy takes a third longer for
pieces that could be in the cache as a whole; more: the others wait for longer."""
AT_ONCE = 64 << 20
"""Bytes that are copied while nobody else can use the channel. Less: more looks at it; more: the I/O thread, which
serves all children, may wait for longer."""


def padded(nbytes: int) -> int:
    """How far the next part of a block is from one of that size."""
    return -(-nbytes // ALIGN) * ALIGN


# -- making ----------------------------------------------------------------------------------------


class Share:
    """A new segment, and what its process may not give to others while it is there. ``fd`` is the caller's.

    Raises OSError when there is none to be had: the system knows none, there is no memory or descriptor to spare, or a
    limit is in the way.
    """

    _all: ClassVar[dict[int, int]] = {}

    def __init__(self) -> None:
        most = min(MOST, (_memory() // OF_ALL - sum(list(self._all.values()))) // OF_WHAT_IS_LEFT)
        if most < LEAST:
            raise OSError(errno.ENOMEM, "the segments of this process have all the memory that they may")
        self.size = PAGE + (1 << most.bit_length() - 1)  # of few sizes, since ctypes keeps a type for each
        self.fd = _make(self.size)
        self._all[id(self)] = self.size

    def __del__(self) -> None:
        self._all.pop(id(self), None)


def _make(size: int) -> int:
    import fcntl
    import resource

    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "this system has no memory that can be shared without a name")
    if cgroups.read("/proc/sys/vm/overcommit_memory").strip() == "2":
        # Pages are counted when they are first touched, and who touches one above the limit is killed by SIGBUS.
        raise OSError(errno.ENOMEM, "this system gives no memory that may not be used")
    fd: int = os.memfd_create("relieve_py_segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if most != resource.RLIM_INFINITY and fd > most // 2:
            raise OSError(errno.EMFILE, "the other descriptors are for the program")
        os.ftruncate(fd, size)
        os.pwrite(fd, bytes(PAGE), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


@functools.cache
def _memory() -> int:
    """The bytes of memory that there are for this process and others."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    group = cgroups.group_of(cgroups.read("/proc/self/cgroup"), "memory")
    if group is not None:
        for folder in cgroups.directories_of(*group, cgroups.read("/proc/self/mountinfo"), "memory"):
            for name in ("memory.max", "memory.limit_in_bytes"):
                limit = cgroups.read(f"{folder}/{name}").strip()
                if limit.isdigit():
                    sizes.append(int(limit))
    return min(sizes)


_NOT_TAKEN = memoryview(bytes(8)).cast("Q")


# -- the end that writes ---------------------------------------------------------------------------


class Lender:
    """Writes into a segment. ``fd`` is owned. Raises OSError when the segment cannot be mapped.

    What it is asked while another thread, or the code that a signal handler has interrupted, is in here, it refuses.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        size = os.fstat(fd).st_size
        self._map: mmap.mmap | None = mmap.mmap(fd, size)
        self._view = memoryview(self._map)
        self._marks = self._view[:PAGE].cast("Q")
        self._blocks = Blocks(PAGE, size, PAGE)
        self._warm = PAGE  # below it there is memory, so that copying is fastest; above it the system makes it faster
        self._busy = threading.Lock()  # owner: whoever is in here; nobody waits for it

    def lend(self, parts: Sequence[Bytes]) -> Block | None:
        """Copy the parts into one block, each at a multiple of ALIGN in it; None when that is not possible now."""
        if not self._busy.acquire(False):
            return None
        try:
            block = self._take(parts)
            if block is None:
                return None
            if len(parts) == 1 and block.end <= self._warm:
                self._write_at_once(block, parts[0])
            else:
                deque(self._write(block, parts), 0)  # to its end
            return block
        except OSError as error:
            if raised_by_handler(error):
                raise
            return None
        finally:
            self._busy.release()

    def begin(self, parts: Sequence[Bytes]) -> Copying | None:
        """The same, a step at a time; nothing else may be lent meanwhile."""
        if not self._busy.acquire(False):
            return None
        try:
            block = self._take(parts)
        finally:
            self._busy.release()
        return Copying(block, self._write(block, parts)) if block is not None else None

    def _take(self, parts: Sequence[Bytes]) -> Block | None:
        if self._marks[0] != TAKEN:
            return None
        nbytes = 0
        for part in parts:
            nbytes += padded(size_of(part))
        return self._blocks.take_marked(nbytes, self._marks)

    @property
    def kept(self) -> int:
        """Bytes of memory that are there and not lent."""
        if self._busy.acquire(False):
            self._look()
            self._busy.release()
        return self._warm - PAGE - sum(block.end - block.start for block in self._blocks.lent)

    def trim(self, end: int) -> None:
        """Give the memory that is not lent, and lies at ``end`` or above, back to the system."""
        if sys.platform == "linux" and self._map is not None and self._busy.acquire(False):
            try:
                self._look()
                for start, stop in gaps(self._blocks.lent, max(end, PAGE), self._warm, PAGE):
                    self._map.madvise(mmap.MADV_REMOVE, start, stop - start)
                self._warm = max([min(self._warm, end), *(block.end for block in self._blocks.lent)])
            finally:
                self._busy.release()

    def close(self) -> None:
        """Let go of the segment."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._marks = _NOT_TAKEN
        self._view = memoryview(b"")
        self._map = None

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()

    def _look(self) -> None:
        """Which blocks were given back?"""
        self._blocks.give_back_marked(self._marks)

    def _write_at_once(self, block: Block, part: Bytes) -> None:
        """Copy the only part to where there is memory, in few steps. When that fails, the block is lent no more."""
        memory, (start, _, slot, use) = self._map, block
        assert memory is not None
        try:
            memory[start : start + size_of(part)] = part
        except BaseException:
            self._marks[slot] = use  # as if the reader had given it back
            raise

    def _write(self, block: Block, parts: Sequence[Bytes]) -> Iterator[int]:
        """Copy the parts, a piece at a time; gives how many bytes each piece has. When that fails, or is given up, the
        block is lent no more."""
        place = block.start
        try:
            for part in parts:
                nbytes, done = size_of(part), 0
                source = memoryview(part).cast("B") if nbytes else memoryview(b"")
                while done < nbytes:
                    end, warm = min(done + STEP, nbytes), self._warm - place
                    if done < warm:
                        end = min(end, warm)
                        self._view[place + done : place + end] = source[done:end]
                    else:
                        end = done + os.pwrite(self._fd, source[done:end], place + done)
                        self._warm = max(self._warm, -(-(place + end) // PAGE) * PAGE)
                    yield end - done
                    done = end
                place += padded(nbytes)
        except BaseException:
            if self._map is not None:
                self._marks[block.slot] = block.use  # as if the reader had given it back
            raise


class Copying:
    """Parts on their way into a block."""

    def __init__(self, block: Block, pieces: Iterator[int]) -> None:
        self.block = block
        self.left = block.end - block.start
        """Bytes that are not copied yet."""
        self._pieces = pieces

    def step(self) -> bool:
        """Copy at most AT_ONCE bytes; True when all are there. Raises OSError when there is no memory."""
        least = self.left - AT_ONCE
        for nbytes in self._pieces:
            self.left -= nbytes
            if 0 < self.left <= least:
                return False
        self.left = 0
        return True


# -- the end that reads ----------------------------------------------------------------------------


class _Lease(weakref.ref[Any]):
    """Watches over what all views of one block have in common."""

    __slots__ = ("block", "copied")

    block: Block
    copied: bool
    """A copy of this process, made by fork, sees the block, too."""


class Borrower:
    """Looks at what was written into a segment. ``fd`` stays the caller's. Raises OSError when it cannot be mapped."""

    def __init__(self, fd: int) -> None:
        try:
            import ctypes
        except ImportError as error:
            raise OSError(errno.ENOSYS, f"there is no ctypes: {error}") from error
        self._size = os.fstat(fd).st_size
        self._map: mmap.mmap | None = mmap.mmap(fd, self._size)
        self._marks = memoryview(self._map)[:PAGE].cast("Q")
        self._exporter: Any = ctypes.c_char * self._size
        self._hide: Any = ctypes.pythonapi["PyObject_GC_UnTrack"]  # with [], a function of its own
        self._hide.argtypes, self._hide.restype = (ctypes.py_object,), None
        self._leases: dict[int, _Lease] = {}
        self._copied: list[Block] = []  # that a copy of this process, made by fork, may see for ever
        self._last_use = TAKEN
        self._pid = os.getpid()
        self._closed = False
        _borrowers[id(self)] = self
        self._marks[0] = TAKEN

    def borrow(self, block: Block) -> memoryview:
        """A view of the block, in which one may write. It is given back when the last view of it is gone. Raises
        ProtocolError for one that cannot be lent."""
        start, end, slot, _ = block
        memory = self._accept(block)
        # An exporter for each block: of a memoryview one cannot be told when the last view of its memory goes.
        exporter = self._exporter.from_buffer(memory)
        # In a cycle that the collector finds, it would call back for all that is weakly referred to before it runs the
        # finalizers of what sees the block. Of what it does not know it cannot say that it is gone before it is.
        self._hide(exporter)
        view = pickle.PickleBuffer(exporter).raw()
        lease = _Lease(exporter, self._returned)
        lease.block, lease.copied = block, False
        self._leases[slot] = lease
        return view[start:end]

    def copy(self, block: Block, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """The parts of the block, which have these lengths; it is given back at once. Raises ProtocolError for one that
        cannot be lent."""
        start, _, slot, use = block
        memory, parts = self._accept(block), []
        for length in lengths:
            parts.append(memory[start : start + length])
            start += padded(length)
        self._marks[slot] = use
        return tuple(parts)

    def _accept(self, block: Block) -> mmap.mmap:
        """The memory in which the block is. Raises ProtocolError."""
        start, end, slot, use = block
        memory = self._map
        if memory is None or not (
            PAGE <= start < end <= self._size and start % PAGE == 0 and 0 < slot < len(self._marks)
        ):
            raise ProtocolError(f"no block of a segment of {self._size} bytes: {block}")
        if slot in self._leases or use <= self._last_use:
            raise ProtocolError(f"a block of a segment was lent that is lent already: {block}")
        self._last_use = use
        return memory

    def pin(self) -> None:
        """This process is about to be copied, and the copy has the views, too: what is lent is not used again."""
        for lease in list(self._leases.values()):
            lease.copied = True

    def close(self) -> None:
        """Nothing more will be borrowed. The memory that is not lent goes back to the system, whoever has it mapped."""
        self._closed = True
        if self._pid != os.getpid():
            self._map, self._marks = None, _NOT_TAKEN  # what is lent to the original is still on its way to it
        elif self._leases or self._copied:
            seen = sorted([*self._copied, *(lease.block for lease in list(self._leases.values()))])
            for start, stop in gaps(seen, PAGE, self._size, PAGE):
                self._free(start, stop)
        self._let_go()

    def _returned(self, lease: Any) -> None:
        """The last view of a block is gone. Called anywhere, also by the collector."""
        block, marks = lease.block, self._marks
        if self._pid != os.getpid():
            return  # the original still sees it
        if lease.copied:
            self._copied.append(block)
        self._leases.pop(block.slot, None)
        if lease.copied:
            return
        if self._closed:
            self._free(block.start, -(-block.end // PAGE) * PAGE)
            self._let_go()
        else:
            marks[block.slot] = block.use

    def _free(self, start: int, stop: int) -> None:
        memory = self._map
        if sys.platform == "linux" and memory is not None:
            memory.madvise(mmap.MADV_REMOVE, start, stop - start)

    def _let_go(self) -> None:
        if not self._leases:
            self._marks = _NOT_TAKEN
            self._map = None


_borrowers: weakref.WeakValueDictionary[int, Borrower] = weakref.WeakValueDictionary()


def _pin_all() -> None:
    for found in _borrowers.valuerefs():
        borrower = found()
        if borrower is not None:
            borrower.pin()


# After it, too: what another thread has borrowed since is in the copy as well.
os.register_at_fork(before=_pin_all, after_in_parent=_pin_all)
