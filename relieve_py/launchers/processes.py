"""Processes as this one sees them: a server process, which is its child, and the children of that."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from typing import Protocol

from relieve_py import locks
from relieve_py.launchers.reaping import descendants_of, kill_all, kill_group
from relieve_py.supervisor import Supervisor


class ServerProcess:
    """A server process that was just started: a child of this process, to be reaped here. Raises OSError when it has
    ended and was reaped by a stranger already.

    Everything is called on the I/O thread.
    """

    def __init__(self, pid: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._popen = popen
        self._ended = False
        self._pidfd: int | None = None
        if sys.platform == "linux":
            try:
                self._pidfd = os.pidfd_open(pid)
            except OSError:
                self.kill()
                self._reap()
                raise

    def kill(self) -> None:
        """SIGKILL, if it is not reaped yet. It works on a frozen process, too."""
        if self._ended:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]
            else:
                os.kill(self.pid, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its end; True when it has ended, and is reaped."""
        if self._ended:
            return True
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            ended = bool(poll.poll(seconds * 1000))
        else:
            ended = _ends_within(self.pid, seconds)
        if ended:
            self._reap()
        return ended

    def reap_later(self, supervisor: Supervisor) -> None:
        """Reap it when it has ended, and do not wait for that."""
        if self._ended:
            return
        if self._pidfd is not None:
            supervisor.watch(self._pidfd, lambda: self._reap(supervisor))
        else:
            threading.Thread(target=self._reap, name="relieve-reap", daemon=True).start()

    def _reap(self, supervisor: Supervisor | None = None) -> None:
        if self._popen is not None:
            self._popen.wait()
        else:
            with contextlib.suppress(ChildProcessError):  # a stranger did: what matters was told over the channel
                os.waitpid(self.pid, 0)
        self._ended = True
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            if supervisor is not None:
                supervisor.unwatch(pidfd)
            os.close(pidfd)

    def forget(self) -> None:
        """In a process that was just forked: it belongs to the original."""
        self._ended = True
        if self._popen is not None:
            self._popen.returncode = 0  # so that Popen does not warn of, or wait for, what is not ours
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _ends_within(pid: int, seconds: float) -> bool:
    """Where there are no pidfds: wait so long for the end of a child."""
    queue = select.kqueue()  # type: ignore[attr-defined,unused-ignore] # another platform's
    try:
        exits = select.kevent(  # type: ignore[attr-defined,unused-ignore]
            pid,
            select.KQ_FILTER_PROC,  # type: ignore[attr-defined,unused-ignore]
            select.KQ_EV_ADD,  # type: ignore[attr-defined,unused-ignore]
            select.KQ_NOTE_EXIT,  # type: ignore[attr-defined,unused-ignore]
        )
        return bool(queue.control([exits], 1, seconds))
    except ProcessLookupError:  # it is a zombie
        return True
    finally:
        queue.close()


class Server(Protocol):
    """The server of a child, as that needs it."""

    def send_signal(self, pid: int, signum: int) -> None:
        """Have the server signal its child. Any thread."""
        ...

    def expect_exit(self) -> None:
        """A child was killed: the server has to report its end. Any thread."""
        ...


class ServedProcess:
    """A child of a server."""

    def __init__(self, server: Server, pid: int, pidfd: int | None) -> None:
        self.pid = pid
        self.doomed = False  # it got a SIGKILL, so its end is due
        self.fate: str | None = None  # why it is killed though its task did not want that
        self._server = server
        self._pidfd = pidfd
        self._lock = locks.new()  # owner: whoever uses or closes _pidfd, so that it cannot be another's number

    def signal(self, signum: int) -> None:
        """Send it a signal; by the server where there are no pidfds."""
        with self._lock:
            if self._pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signum)  # type: ignore[attr-defined,unused-ignore]
            else:
                self._server.send_signal(self.pid, signum)
        if signum == signal.SIGKILL:
            self.doomed = True
            self._server.expect_exit()

    def status(self) -> int | None:
        """Its wait status when it has ended and was not reaped; None when that is not so, or cannot be seen."""
        with self._lock:
            if self._pidfd is None:
                return None
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            status = _status_of_zombie(self.pid) if poll.poll(0) else None
            try:  # when it was reaped before that look, somebody else may have the number
                signal.pidfd_send_signal(self._pidfd, 0)  # type: ignore[attr-defined,unused-ignore]
            except ProcessLookupError:
                return None
            return status

    def kill_family(self) -> None:
        """The server is gone, or does nothing: kill the child and its process group, unless it was reaped, and thus the
        number is another's."""
        with self._lock:
            if self._pidfd is None:
                return
            with contextlib.suppress(ProcessLookupError):
                # It is there, so what has its number is below it.
                signal.pidfd_send_signal(self._pidfd, 0)  # type: ignore[attr-defined,unused-ignore]
                below = descendants_of(self.pid)
                kill_group(self.pid)
                kill_all(below)

    def close(self) -> None:
        """Close the pidfd."""
        with self._lock:
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None


def _status_of_zombie(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[49]) if fields[0] == b"Z" else None  # proc(5): the third and the 52nd of them
