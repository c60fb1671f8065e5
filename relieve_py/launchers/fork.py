"""The launcher that forks this very process, threads and all: the child sees all memory, and inherits all hazards.

Locks that other threads hold at that moment stay locked in the child for ever. Use it for functions over large
data that is
only read, from a program with few threads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

from relieve_py.child import runtime
from relieve_py.child.process import forget_parents_state
from relieve_py.launchers.base import LaunchSpec, Observer
from relieve_py.launchers.connection import Connection, connection
from relieve_py.launchers.reaping import become_group_leader, become_subreaper, descendants_of, kill_group
from relieve_py.supervisor import shared


class ForkLauncher:
    """Children forked from the parent itself, on its I/O thread."""

    name = "fork"

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        """Fork. The server process guards the child: should this process die, it kills it."""
        guard = connection()
        try:
            pid = os.fork()
        except OSError as error:
            observer.refused(error)
            return
        if pid == 0:
            _become(spec)
        become_group_leader(pid)
        observer.launched(ForkedProcess(pid, observer, guard))


def _become(spec: LaunchSpec) -> None:
    """In the new process: be the child."""
    try:
        become_group_leader()
        become_subreaper()
        forget_parents_state()
        os.environ.clear()
        os.environ.update(spec.env)
        runtime.run(spec.sock, spec.page)
    finally:
        os._exit(127)


class ForkedProcess:
    """A child of this process. Its end is seen by its pidfd, or by a thread that waits for it where there is none."""

    def __init__(self, pid: int, observer: Observer, guard: Connection) -> None:
        self.pid = pid
        self._observer = observer
        self._guard = guard
        self._lock = (
            threading.Lock()
        )  # owner: whoever signals or reaps, so that a pid is never signalled after it was reaped
        self._reaped = False
        self._pidfd: int | None = None
        self._supervisor = shared()
        if sys.platform == "linux":
            self._pidfd = os.pidfd_open(pid)
            self._supervisor.watch(self._pidfd, self._on_end)
        else:
            threading.Thread(target=self._wait, name=f"relieve-wait-{pid}", daemon=True).start()
        guard.guard(pid, self._pidfd)

    def signal(self, signum: int) -> None:
        """Send it a signal, and SIGKILL to all below it too: nobody else could find what it leaves behind."""
        with self._lock:
            if self._reaped:
                return
            below = descendants_of(self.pid) if signum == signal.SIGKILL else []
            for pid in (self.pid, *below):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)

    def _wait(self) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self._supervisor.post(self._on_end)
        else:
            code, signum = self._reap()
            self._supervisor.post(self._tell, code, signum)

    def _on_end(self) -> None:
        if self._pidfd is not None:
            self._supervisor.unwatch(self._pidfd)
        self._tell(*self._reap())

    def _reap(self) -> tuple[int | None, int | None]:
        with self._lock:
            kill_group(self.pid)
            self._reaped = True
            try:
                _, status = os.waitpid(self.pid, 0)
            except ChildProcessError:  # a stranger in this process reaped it: nobody can say how it ended
                return None, None
        code = os.waitstatus_to_exitcode(status)
        return (code, None) if code >= 0 else (None, -code)

    def _tell(self, code: int | None, signum: int | None) -> None:
        self._guard.unguard(self.pid)
        self._observer.exited(code, signum)

    def close(self) -> None:
        """Close the pidfd."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
