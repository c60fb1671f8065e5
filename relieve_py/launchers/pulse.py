"""Notices a server process that has stopped answering: frozen by a signal, or stuck in the system."""

from __future__ import annotations

from typing import Protocol

from relieve_py.supervisor import Supervisor

INTERVAL = 1.0
"""Seconds between two looks at a server that owes an answer. While it owes none nobody looks."""
PATIENCE = 5
"""Looks in a row that find it silent, before it is given up. Less: a machine that is overloaded loses children; more: a
frozen server holds up launches and exits for longer. These are looks and not seconds because a machine that was
asleep, the parent included, passes many seconds at once, and one look."""
FIRST_PATIENCE = 60
"""The same before an exec'ed server has said anything: it has an interpreter to start."""

IMPORT_PATIENCE = 600
"""The same for one that imports what its children are to share. Less: imports that take so long cannot be had; more: a
module that never comes to an end is given up later. Whoever waits for a task has its start_timeout."""


class Server(Protocol):
    """Whose pulse is felt."""

    def owes(self) -> bool:
        """True while it has to answer something."""
        ...

    def ping(self) -> None:
        """Ask it whether it is there. Any frame of it is an answer."""
        ...

    def look_around(self) -> None:
        """It has not answered the last time: what it should tell may be seen without it."""
        ...

    def give_up(self) -> None:
        """It does not answer."""
        ...


class Pulse:
    """Looks after one server while it owes an answer. I/O thread only."""

    def __init__(self, server: Server, supervisor: Supervisor, first_patience: int) -> None:
        self._server = server
        self._supervisor = supervisor
        self._patience = first_patience
        self._silent = 0  # looks since it said something
        self._looking = False

    def expect(self) -> None:
        """The server owes an answer from now on."""
        if not self._looking:
            self._looking = True
            self._silent = 0
            self._again()

    def heard(self) -> None:
        """The server said something."""
        self._silent = 0
        self._patience = PATIENCE

    def _again(self) -> None:
        self._supervisor.at(self._supervisor.now() + INTERVAL, self._look)

    def _look(self) -> None:
        self._looking = self._server.owes()
        if not self._looking:
            return
        self._silent += 1
        if self._silent > self._patience:
            self._looking = False
            self._server.give_up()
        else:
            if self._silent > 1:
                self._server.look_around()
            self._server.ping()
            self._again()
