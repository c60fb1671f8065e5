"""Which descriptors can be read or written: epoll on Linux, kqueue elsewhere, behind one small face."""

from __future__ import annotations

import functools
import select
from collections.abc import Callable


class EpollPoller:
    """Which descriptors are ready, on Linux. Interest may be changed from any thread while another waits."""

    def __init__(self) -> None:
        self._epoll = select.epoll()  # type: ignore[attr-defined,unused-ignore]

    def add(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)  # type: ignore[attr-defined,unused-ignore]

    def change(self, fd: int, read: bool, write: bool) -> None:
        # Without interest, a hang-up is still told; ONESHOT makes that once, so that the thread does not spin on it.
        events = (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)  # type: ignore[attr-defined,unused-ignore]
        self._epoll.modify(fd, events or select.EPOLLONESHOT)  # type: ignore[attr-defined,unused-ignore]

    def switch(self, fd: int) -> tuple[Callable[[], object], Callable[[], object]]:
        """What turns interest in reading on and off, for who does so often."""
        modify = self._epoll.modify
        on, off = select.EPOLLIN, select.EPOLLONESHOT  # type: ignore[attr-defined,unused-ignore]
        return functools.partial(modify, fd, on), functools.partial(modify, fd, off)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def fileno(self) -> int:
        """Can be read while one of them is ready."""
        return int(self._epoll.fileno())

    def wait(self, timeout: float | None) -> list[int]:
        return [fd for fd, _ in self._epoll.poll(-1 if timeout is None else timeout)]

    def close(self) -> None:
        self._epoll.close()


class KqueuePoller:
    """Which descriptors are ready, on macOS and BSD."""

    def __init__(self) -> None:
        self._kqueue = select.kqueue()  # type: ignore[attr-defined,unused-ignore] # another platform's

    def _control(self, fd: int, kind: int, on: bool) -> None:
        flags = select.KQ_EV_ADD if on else select.KQ_EV_DELETE  # type: ignore[attr-defined,unused-ignore]
        try:
            self._kqueue.control([select.kevent(fd, kind, flags)], 0)  # type: ignore[attr-defined,unused-ignore]
        except FileNotFoundError:
            if on:
                raise

    def add(self, fd: int) -> None:
        self.change(fd, True, False)

    def change(self, fd: int, read: bool, write: bool) -> None:
        self._control(fd, select.KQ_FILTER_READ, read)  # type: ignore[attr-defined,unused-ignore]
        self._control(fd, select.KQ_FILTER_WRITE, write)  # type: ignore[attr-defined,unused-ignore]

    def switch(self, fd: int) -> tuple[Callable[[], object], Callable[[], object]]:
        """What turns interest in reading on and off."""
        return functools.partial(self.change, fd, True, False), functools.partial(self.change, fd, False, False)

    def remove(self, fd: int) -> None:
        self.change(fd, False, False)

    def fileno(self) -> int:
        """Can be read while one of them is ready."""
        return int(self._kqueue.fileno())

    def wait(self, timeout: float | None) -> list[int]:
        return [event.ident for event in self._kqueue.control(None, 64, timeout)]

    def close(self) -> None:
        self._kqueue.close()


def make_poller() -> EpollPoller | KqueuePoller:
    """The best this platform has."""
    return EpollPoller() if hasattr(select, "epoll") else KqueuePoller()
