"""A server process that fails on command: it cannot fork, dies over a launch, or freezes over one."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from relieve_py import CallableTask
from relieve_py.launchers import connection, fork

NOTHING, FAIL, DIE, FREEZE = range(4)
_DID, _WHAT, _ERRNO, _TIMES, _WHERE = range(5)


class Orders:
    """What processes that fork have to do instead, in memory that they share with this one."""

    def __init__(self, launches_by_server: bool) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._here = os.getpid()
        self._fork = os.fork
        self.launches_by_server = launches_by_server

    def fork(self) -> int:
        """In the place of ``os.fork``: in the server that makes a child, or in this process when it makes a server."""
        in_server = os.getpid() != self._here
        if not self._page[_TIMES] or in_server is not bool(self._page[_WHERE]):
            return self._fork()
        self._page[_TIMES] -= 1
        self._page[_DID] += 1
        if self._page[_WHAT] == FAIL:
            raise OSError(self._page[_ERRNO], os.strerror(self._page[_ERRNO]))
        os.kill(os.getpid(), signal.SIGKILL if self._page[_WHAT] == DIE else signal.SIGSTOP)
        return self._fork()

    def give(self, what: int, times: int = 255, errno: int = 0, in_server: bool = True) -> None:
        """The next forks do that; NOTHING takes the orders back."""
        self._page[_WHAT], self._page[_ERRNO], self._page[_WHERE] = what, errno, in_server
        self._page[_DID] = 0
        self._page[_TIMES] = 0 if what == NOTHING else times

    @property
    def obeyed(self) -> int:
        """How often that was done since the order."""
        return self._page[_DID]


@contextmanager
def servers_under_orders(launcher: str, patch: pytest.MonkeyPatch) -> Iterator[Orders]:
    """What is launched meanwhile comes from servers that take orders; others of this process are left alone."""
    orders = Orders(launcher != "fork")
    patch.setattr(os, "fork", orders.fork)
    patch.setattr(connection, "exec_server", fork.fork_server)  # a copy of this process, which has the orders
    patch.setattr(connection, "_connection", None)
    try:
        yield orders
    finally:
        orders.give(NOTHING)
        made: Any = connection._connection
        if made is not None and made.alive:
            os.kill(made._process.pid, signal.SIGKILL)


def server_of(task: CallableTask) -> int:
    """The pid of the server of its child."""
    assert task.pid is not None
    return int(psutil.Process(task.pid).ppid())
