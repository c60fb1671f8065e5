"""The parent's connection to the server process: launches asked for, children made, exits reported."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from relieve_py.channel import Channel, pair, take_descriptors
from relieve_py.errors import ProtocolError
from relieve_py.events import log_later
from relieve_py.launchers.base import LaunchSpec, Observer
from relieve_py.launchers.reaping import descendants_of, kill_group
from relieve_py.serializers import Descriptors
from relieve_py.supervisor import Supervisor, shared
from relieve_py.wire import Frame, Kind

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_HOME = os.path.dirname(_PACKAGE)


def interpreter_command() -> list[str]:
    """This interpreter with the flags it was given (-W, -X, -O, -I, ...), except those of debugging."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # as multiprocessing does
    return [sys.executable, *(flag for flag in flags if flag != "-d" and not flag.startswith("-Ximporttime"))]


def python_command(module: str) -> list[str]:
    """A command that calls ``module.main`` with the integers that are appended to it."""
    # -c puts the working directory first, where a file may have the name of a standard module. And this very package
    # must be the one that is imported, wherever else there is another.
    lines = (
        "import sys",
        f"sys.path[:] = [p for p in sys.path if p] + [{_HOME!r}]",
        "from importlib.util import module_from_spec, spec_from_file_location as spec_of",
        f"spec = spec_of('relieve_py', {_PACKAGE!r} + '/__init__.py', submodule_search_locations=[{_PACKAGE!r}])",
        "sys.modules['relieve_py'] = module_from_spec(spec)",
        "spec.loader.exec_module(sys.modules['relieve_py'])",
        f"from {module} import main",
        "main(*map(int, sys.argv[1:]))",
    )
    return [*interpreter_command(), "-c", "; ".join(lines)]


class ServedProcess:
    """A child of the server."""

    def __init__(self, server: Connection, pid: int, pidfd: int | None) -> None:
        self.pid = pid
        self._server = server
        self._pidfd = pidfd
        self._lock = threading.Lock()  # owner: whoever uses or closes _pidfd, so that it cannot be another's number

    def signal(self, signum: int) -> None:
        """Send it a signal; by the server where there are no pidfds."""
        with self._lock:
            if self._pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signum)  # type: ignore[attr-defined,unused-ignore]
                return
        self._server.supervisor.post(self._server.signal, self.pid, signum)

    def kill_family(self) -> None:
        """The server is gone: kill the child and its process group, if it is still alive and thus the number its
        own."""
        with self._lock:
            if self._pidfd is None:
                return
            with contextlib.suppress(ProcessLookupError):
                # It lives, so what has its number is below it.
                signal.pidfd_send_signal(self._pidfd, 0)  # type: ignore[attr-defined,unused-ignore]
                below = descendants_of(self.pid)
                kill_group(self.pid)
                for pid in below:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the pidfd."""
        with self._lock:
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None


class ServerProcess(Protocol):
    """A server process, as the one that started it sees it."""

    pid: int

    def kill(self) -> None:
        """SIGKILL, if it is not reaped yet."""
        ...

    def wait(self) -> object:
        """Reap it."""
        ...


def exec_server(theirs: socket.socket) -> ServerProcess:
    """A server that is clean: a fresh interpreter. Raises OSError."""
    os.set_inheritable(theirs.fileno(), True)
    return subprocess.Popen(
        [*python_command("relieve_py.launchers.server"), str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        process_group=0,  # what the terminal sends is the parent's business
    )


class Connection:
    """One server process. Everything here runs on the I/O thread."""

    def __init__(self, supervisor: Supervisor, start: Callable[[socket.socket], ServerProcess]) -> None:
        self.supervisor = supervisor
        self.alive = True
        self._numbers = itertools.count(1)
        self._launching: dict[int, Observer] = {}
        self._children: dict[int, tuple[ServedProcess, Observer]] = {}
        ours, theirs = pair()
        self._channel = Channel(ours)
        self._process: ServerProcess | None = None
        _connections.add(self)  # before a fork, whose copy must not hold our end open
        try:
            self._process = start(theirs)
        except BaseException:
            self.alive = False
            _connections.discard(self)
            self._channel.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        supervisor.watch(ours.fileno(), self._on_ready)

    def launch(self, spec: LaunchSpec, observer: Observer, command: list[str] | None) -> None:
        """Ask for a child: forked from the server, or exec'ed as ``command``. Raises OSError."""
        number = next(self._numbers)
        payload = pickle.dumps((command, spec.env))
        copies = Descriptors([])  # the spec is closed when the child is there, which may be before this was written
        for fd in (spec.sock.fileno(), spec.page_fd):
            copies.fds.append(os.dup(fd))
        for fd in (0, 1, 2):
            copies.fds.append(_existing(fd))
        self._launching[number] = observer
        self._post(Frame(Kind.LAUNCH, number, payload, (), copies.fds, 0, copies))

    def signal(self, pid: int, signum: int) -> None:
        """Have the server signal a child."""
        self._post(Frame(Kind.SIGNAL, 0, pickle.dumps((pid, signum))))

    def _post(self, frame: Frame) -> None:
        """Send it; what the socket does not take now goes when it can, since this thread must not wait."""
        if self.alive and not self._channel.post(frame):
            self.supervisor.interest(self._channel.fileno(), True, True)

    # -- what the server says ----------------------------------------------------------------------

    def _on_ready(self) -> None:
        if self._channel.queued and self._channel.flush():
            self.supervisor.interest(self._channel.fileno(), True, False)
        try:
            frames = self._channel.receive()
        except (EOFError, ProtocolError):
            self._on_death()
            return
        for frame in frames:
            self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        told: Any = pickle.loads(frame.payload)
        match frame.kind:
            case Kind.LAUNCHED:
                observer = self._launching.pop(frame.number)
                pidfds = take_descriptors(frame)
                process = ServedProcess(self, told, pidfds[0] if pidfds else None)
                self._children[frame.number] = process, observer
                observer.launched(process)
            case Kind.REFUSED:
                self._launching.pop(frame.number).refused(OSError(*told))
            case Kind.EXITED:
                process, observer = self._children.pop(frame.number)
                process.close()
                observer.exited(*_decode_status(told))

    def _on_death(self) -> None:
        """The server died. Its children are nobody's now, so nobody could tell how they end: they go with it."""
        message = "the server process of relieve_py (pid %d) died; its children are killed"
        log_later(logging.WARNING, message, self.pid)
        self.alive = False
        self.supervisor.unwatch(self._channel.fileno())
        self._channel.close()
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        launching, self._launching = self._launching, {}
        children, self._children = self._children, {}
        for observer in launching.values():
            self.supervisor.post(observer.lost)
        for process, observer in children.values():
            process.kill_family()
            process.close()
            self.supervisor.post(observer.exited, None, signal.SIGKILL)

    def close(self) -> None:
        """End the server, and with it all its children, and reap it."""
        if not self.alive:
            return
        self.alive = False
        self.supervisor.unwatch(self._channel.fileno())
        self._channel.close()
        assert self._process is not None
        self._process.wait()

    def retire(self) -> None:
        """Let the server end, and reap it when it has."""
        if not self.alive:  # it was its own death, and it is reaped
            return
        self.alive = False
        self.supervisor.unwatch(self._channel.fileno())
        self._channel.close()
        assert self._process is not None
        if sys.platform == "linux":
            pidfd = os.pidfd_open(self.pid)
            self.supervisor.watch(pidfd, lambda: self._reap(pidfd))
        else:
            threading.Thread(target=self._process.wait, name="relieve-reap", daemon=True).start()

    def _reap(self, pidfd: int) -> None:
        self.supervisor.unwatch(pidfd)
        os.close(pidfd)
        assert self._process is not None
        self._process.wait()

    def forget(self) -> None:
        """In a process that was just forked: the server belongs to the original."""
        self.alive = False
        self._channel.close()
        if isinstance(self._process, subprocess.Popen):
            self._process.returncode = 0  # so that Popen does not warn of, or wait for, what is not ours
        for process, _ in self._children.values():
            process.close()


def _existing(fd: int) -> int:
    """A copy of one of the standard streams, or of the null device where it is closed."""
    try:
        return os.dup(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return os.open(os.devnull, os.O_RDWR)


def _decode_status(status: int) -> tuple[int | None, int | None]:
    """Exit code and signal of a wait status; one of the two is None."""
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (None, -code)


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_connection: Connection | None = None


def connection() -> Connection:
    """The connection of this process, made on first use and again when the server died. I/O thread only."""
    global _connection
    if _connection is None or not _connection.alive:
        _connection = Connection(shared(), exec_server)
    return _connection


def close() -> None:
    """End every server of this process. I/O thread only."""
    global _connection
    for each in list(_connections):
        each.close()
    _connection = None


def _after_fork() -> None:
    global _connection
    for each in list(_connections):
        each.forget()
    _connections.clear()
    _connection = None


os.register_at_fork(after_in_child=_after_fork)
