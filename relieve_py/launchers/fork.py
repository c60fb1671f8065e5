"""The launcher that forks this very process, threads and all: the child sees all memory, and inherits all hazards.

Locks that other threads hold at that moment stay locked in the child for ever. Use it for functions over large data
that is only read, from a program with few threads.

The process is forked twice: into a server for this one child, which forks the child. So the child is reaped, and what
it leaves behind is killed, in the same way as that of any other launcher.
"""

from __future__ import annotations

import os
import socket

from relieve_py.launchers import pulse
from relieve_py.launchers.base import LaunchSpec, Observer, Process
from relieve_py.launchers.connection import Connection
from relieve_py.launchers.processes import ServerProcess
from relieve_py.launchers.reaping import become_group_leader
from relieve_py.launchers.server import serve
from relieve_py.supervisor import shared


class ForkLauncher:
    """Children forked from the parent, on its I/O thread."""

    name = "fork"

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        """Fork a server, and have it fork the child."""
        try:
            connection = Connection(shared(), fork_server, pulse.PATIENCE)
        except OSError as error:
            observer.refused(error)
            return
        try:
            connection.launch(spec, OnlyChild(observer, connection), None)
        except BaseException:
            connection.retire()
            raise


def fork_server(theirs: socket.socket) -> ServerProcess:
    """A server that is a copy of this process. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        try:
            become_group_leader()
            serve(theirs)
        finally:
            os._exit(0)
    become_group_leader(pid)
    return ServerProcess(pid)


class OnlyChild:
    """Observer of a server's only child: with it, the server ends."""

    def __init__(self, observer: Observer, connection: Connection) -> None:
        self._observer = observer
        self._connection = connection

    def launched(self, process: Process) -> None:
        """The child exists."""
        self._observer.launched(process)

    def waits_for(self, what: str) -> None:
        """It waits for something."""
        self._observer.waits_for(what)

    def refused(self, error: Exception) -> None:
        """The system would not make it."""
        self._connection.retire()
        self._observer.refused(error)

    def lost(self) -> None:
        """The server died over it."""
        self._observer.lost()

    def exited(self, code: int | None, signum: int | None) -> None:
        """It was reaped."""
        self._connection.retire()
        self._observer.exited(code, signum)
