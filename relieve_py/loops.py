"""Answers that coroutines wait for, read by their event loop itself.

A hand-off from the I/O thread costs a coroutine as much as its call: each of the two threads has to take the
interpreter from the other. So the loop reads a channel itself once the I/O thread has woken it twice in a row for what
came there. Other code may keep a loop from reading; when it does not come round, the I/O thread reads again.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable

from relieve_py import supervisor
from relieve_py.interruptions import raised_by_handler
from relieve_py.log import logger
from relieve_py.poller import make_poller

QUICK = 0.002
"""Seconds within which two answers must come for a loop to read the next, and within which it must come round while it
does. Less: channels change hands more often; more: answers wait for longer when a loop is kept busy."""


class _OfThread(threading.local):
    reads: LoopReader | None = None
    """The loop that runs here, while it reads channels."""
    woke: weakref.ref[LoopReader] | None = None
    """The loop that was woken last from here."""


of_thread = _OfThread()


class LoopReader:
    """One event loop as a reader of channels. It is there as long as the loop is open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._poller = make_poller()
        self._channels: dict[int, tuple[Callable[[], object], Callable[[], object]]] = {}  # by descriptor
        self._rounds = self._rounds_seen = 0
        self._is_watched = False
        self.has_released = False  # a coroutine of its own, since that was looked at
        self._loop = weakref.ref(loop)
        self.reference = weakref.ref(self)
        loop.add_reader(self._poller.fileno(), self._read)  # which keeps this; a loop that is closed keeps nothing

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> LoopReader | None:
        """That of the loop, which runs on this thread; None if it is of a kind that cannot read."""
        if supervisor.of_thread.stand_in is not None:
            return None
        found = _all.get(id(loop))
        if found is not None and found._loop() is loop:
            return found
        try:
            made = _all[id(loop)] = LoopReader(loop)
        except (NotImplementedError, RuntimeError, TypeError):  # no readers, closed, or not of asyncio
            return None
        except OSError as error:
            if raised_by_handler(error):
                raise
            return None  # there is no room for a descriptor more
        return made

    def take(self, fd: int, read: Callable[[], object], give_back: Callable[[], object]) -> None:
        """I/O thread: have the loop call ``read()`` whenever the descriptor can be read, until ``leave``. If it does
        not come round, ``give_back()`` is called on the I/O thread. Raises OSError."""
        self._poller.add(fd)
        self._channels[fd] = read, give_back
        if not self._is_watched:
            self._is_watched = True
            self._look_soon()

    def leave(self, fd: int) -> None:
        """Any thread: the loop does not read that one any more."""
        if self._channels.pop(fd, None) is not None:
            self._poller.remove(fd)

    def _look_soon(self) -> None:
        io_thread = supervisor.shared()
        io_thread.at(io_thread.now() + QUICK, _look_at, self.reference)

    def _look(self) -> None:
        """I/O thread: has the loop come round since the last look?"""
        if self._rounds != self._rounds_seen:
            self._rounds_seen = self._rounds
            self._look_soon()
            return
        self._is_watched = False
        for _, give_back in list(self._channels.values()):
            give_back()

    def _read(self) -> None:
        """In the loop: a channel can be read, or could when it was looked at."""
        self._rounds += 1
        of_thread.reads = self
        try:
            for fd in self._poller.wait(0.0):
                if (channel := self._channels.get(fd)) is not None:
                    channel[0]()
        finally:
            of_thread.reads = None

    def __del__(self) -> None:
        if (poller := getattr(self, "_poller", None)) is not None:
            poller.close()


def _look_at(reference: weakref.ref[LoopReader]) -> None:
    if (reader := reference()) is not None:
        reader._look()


_all: weakref.WeakValueDictionary[int, LoopReader] = weakref.WeakValueDictionary()


class Waiter:
    """What a coroutine waits for and any thread may give."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = LoopReader.of(self._loop)
        self.future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> None:
        """Let the coroutine go on."""
        reader = self._reader
        if reader is not None and of_thread.reads is reader:
            reader.has_released = True
            self._release()
            return
        try:
            self._loop.call_soon_threadsafe(self._release)
        except RuntimeError:  # the loop was closed: nobody waits any more
            logger.debug("an answer came after its event loop was closed")
        else:
            of_thread.woke = reader.reference if reader is not None else None

    wake.may_repeat = True  # type: ignore[attr-defined]  # see LateFuture

    def _release(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


def _after_fork() -> None:
    _all.clear()  # what these poll is polled by the original


os.register_at_fork(after_in_child=_after_fork)
