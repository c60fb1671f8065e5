"""The end: every task of the process stopped, at the user's word or at the interpreter's exit."""

from __future__ import annotations

import atexit
import contextlib
import signal
import threading

from relieve_py.errors import RelieveError
from relieve_py.launchers import connection
from relieve_py.replies import Reply
from relieve_py.slot import all_slots
from relieve_py.strands import threads
from relieve_py.supervisor import shared
from relieve_py.timeouts import check_timeout

UNKILLABLE = 2.0
"""Seconds beyond its own timeout that a child may hold up the exit: the system may not carry out even a SIGKILL."""

_registered = False


def stop_all(timeout: float | None = None) -> None:
    """Stop every task of this process and wait until all children are gone.

    Each may finish what it runs for ``timeout`` seconds (its own ``kill_timeout`` if None), and is then killed.
    """
    check_timeout(timeout)
    _wait([slot.stop(timeout) for slot in all_slots()])


def kill_all() -> None:
    """Kill every child of this process with SIGKILL and wait until all are gone."""
    _wait([slot.kill(signal.SIGKILL) for slot in all_slots()])


def _wait(replies: list[Reply]) -> None:
    for reply in replies:
        with contextlib.suppress(RelieveError):
            reply.result()


def at_exit() -> None:
    """Have everything stopped when the interpreter exits; called with every new task, and done once."""
    global _registered
    if not _registered:
        _registered = True
        atexit.register(_leave)


def _leave() -> None:
    """At exit: stop all, settle what waits, and end the server processes; bounded by the tasks' own timeouts."""
    stops = [(slot, slot.stop()) for slot in all_slots()]
    for _, stopped in stops:
        stopped.mark_seen()
        stopped.when_settled(threads.nudge)
    patience = max((slot.life.kill_timeout for slot, _ in stops), default=0.0) + UNKILLABLE
    threads.help(lambda: all(stopped.done() for _, stopped in stops), patience)
    closed = threading.Event()

    def close() -> None:
        try:
            connection.close()
        finally:
            closed.set()

    shared().post(close)
    closed.wait(UNKILLABLE)
