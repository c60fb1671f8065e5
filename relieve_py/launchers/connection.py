"""The parent's connection to the server process: launches asked for, children made, exits reported."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import logging
import os
import pickle
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable

from relieve_py.channel import Channel, pair, take_descriptors
from relieve_py.errors import ProtocolError
from relieve_py.launchers import pulse
from relieve_py.launchers.base import LaunchSpec, Observer, Process
from relieve_py.launchers.interpreter import python_command
from relieve_py.launchers.marks import bearers
from relieve_py.launchers.processes import ServedProcess, ServerProcess
from relieve_py.launchers.reaping import dying_with_parent, kill_all
from relieve_py.log import logger
from relieve_py.preload import Preload
from relieve_py.serializers import Descriptors
from relieve_py.strands import log_later
from relieve_py.supervisor import Supervisor, shared
from relieve_py.wire import Frame, Kind

LEAVING = 1.0
"""Seconds that a server has to kill its children and leave, before it is killed. More: one that is frozen holds up the
exit of the program for longer; less: what its children left behind may outlive it on a slow machine."""


IDLE = 30.0
"""Seconds that a server which has imported something for its children is kept without any. Less: who starts tasks now
and then waits for the imports each time; more: their memory is held for longer."""


def exec_server(theirs: socket.socket, env: dict[str, str] | None = None) -> ServerProcess:
    """A server that is clean: a fresh interpreter, with that environment, or this process's own; with one of its own it
    is first told what to import. Raises OSError."""
    command = python_command("relieve_py.launchers.server", dying_with_parent())
    popen = subprocess.Popen(
        [*command, str(theirs.fileno()), str(int(env is not None))],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        process_group=0,  # what the terminal sends is the parent's business
    )
    return ServerProcess(popen.pid, popen)


class _Nobody:
    """Who is told of a child whose end was told before."""

    def launched(self, process: Process) -> None: ...
    def waits_for(self, what: str) -> None: ...
    def refused(self, error: Exception) -> None: ...
    def lost(self) -> None: ...
    def exited(self, code: int | None, signum: int | None) -> None: ...


_NOBODY = _Nobody()


class Connection:
    """One server process. Everything here runs on the I/O thread, unless it says otherwise."""

    def __init__(
        self,
        supervisor: Supervisor,
        start: Callable[[socket.socket], ServerProcess],
        first_patience: int,
        preload: Preload | None = None,
    ) -> None:
        self.supervisor = supervisor
        self._importing: str | None = None  # what it imports before it can launch anything
        self._stamps: list[tuple[str, int, int]] = []  # of the files that it has imported
        self._brief = preload is not None  # it ends when it has no children
        self.alive = True
        self._numbers = itertools.count(1)
        self._launching: dict[int, Observer] = {}
        self._children: dict[int, tuple[ServedProcess, Observer]] = {}
        self._pulse = pulse.Pulse(self, supervisor, first_patience)
        ours, theirs = pair()
        self._channel = Channel(ours, lossy=True)  # a launch must not fail for want of a pidfd
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
        supervisor.watch(ours.fileno(), self._on_ready)
        if preload is not None:
            self._importing = "its preload"
            order = preload.modules, preload.script, preload.sys_path, preload.cwd
            self._post(Frame(Kind.PRELOAD, 0, pickle.dumps(order)))

    def launch(self, spec: LaunchSpec, observer: Observer, command: list[str] | None) -> None:
        """Ask for a child: forked from the server, or exec'ed as ``command``. Raises OSError."""
        number = next(self._numbers)
        payload = pickle.dumps((command, spec.env))
        copies = Descriptors([])  # the spec is closed when the child is there, which may be before this was written
        for fd in (spec.sock.fileno(), spec.page_fd):
            copies.fds.append(os.dup(fd))
        for standard, wanted in enumerate((None, spec.stdout, spec.stderr)):
            copies.fds.append(_existing(standard if wanted is None else wanted))
        self._launching[number] = observer
        if self._importing is not None:
            observer.waits_for(self._what_it_does())
        self._post(Frame(Kind.LAUNCH, number, payload, (), copies.fds, 0, copies))
        self._pulse.expect()

    def send_signal(self, pid: int, signum: int) -> None:
        """Have the server signal a child. Any thread."""
        self.supervisor.post(self._post, Frame(Kind.SIGNAL, 0, pickle.dumps((pid, signum))))

    def expect_exit(self) -> None:
        """A child was killed: its end is due. Any thread."""
        self.supervisor.post(self._pulse.expect)

    def _post(self, frame: Frame) -> None:
        """Send it; what the socket does not take now goes when it can, since this thread must not wait."""
        if self.alive and not self._channel.post(frame):
            self.supervisor.interest(self._channel.fileno(), True, True)

    # -- is it there? ------------------------------------------------------------------------------

    def owes(self) -> bool:
        """True while launches or the ends of killed children are due."""
        return self.alive and (bool(self._launching) or any(child.doomed for child, _ in self._children.values()))

    def ping(self) -> None:
        """Ask it whether it is there."""
        self._post(Frame(Kind.PING))

    def look_around(self) -> None:
        """It is busy, or frozen: tell of killed children that are dead, as far as that can be seen from here."""
        dead = []
        for number, (process, observer) in list(self._children.items()):
            status = process.status() if process.doomed and observer is not _NOBODY else None
            if status is not None:
                self._children[number] = process, _NOBODY
                dead.append(process)
                self.supervisor.post(observer.exited, *_decode_status(status))
        self._kill_families(dead)

    def give_up(self) -> None:
        """It is frozen: a server that dies can be replaced, one that does nothing cannot."""
        if self.alive:
            self._on_death("does not answer and is killed")

    # -- what the server says ----------------------------------------------------------------------

    def _on_ready(self) -> None:
        if self._channel.queued and self._channel.flush():
            self.supervisor.interest(self._channel.fileno(), True, False)
        try:
            frames = self._channel.receive()
        except (EOFError, ProtocolError):
            self._on_death("died")
            return
        if frames and self._importing is None:
            self._pulse.heard()
        for frame in frames:
            try:
                self._handle(frame)
            except Exception:  # an observer may be a plug-in's, and what comes next is another's
                logger.exception("relieve_py failed at the news of a child; please report this")

    def _handle(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.LAUNCHED:
                observer = self._launching.pop(frame.number)
                pidfds = [fd for fd in take_descriptors(frame) if fd >= 0]
                process = ServedProcess(self, pickle.loads(frame.payload), pidfds[0] if pidfds else None)
                self._children[frame.number] = process, observer
                observer.launched(process)
            case Kind.REFUSED:
                self._launching.pop(frame.number).refused(OSError(*pickle.loads(frame.payload)))
            case Kind.EXITED:
                process, observer = self._children.pop(frame.number)
                process.close()
                self._look_whether_idle()
                observer.exited(*_decode_status(pickle.loads(frame.payload)))
            case Kind.IMPORTING:
                self._importing = repr(str(frame.payload, "utf-8"))
                for observer in self._launching.values():
                    observer.waits_for(self._what_it_does())
            case Kind.IMPORTED:
                refusal, self._stamps = pickle.loads(frame.payload)
                self._importing = None
                if refusal is not None:
                    self._refuse_all(RuntimeError(refusal))
                    self.retire()
                else:
                    self._look_whether_idle()

    # -- what it has imported ----------------------------------------------------------------------

    def _what_it_does(self) -> str:
        return f"the import of {self._importing} in the server process (preload)"

    def _refuse_all(self, error: Exception) -> None:
        launching, self._launching = self._launching, {}
        for observer in launching.values():
            self.supervisor.post(observer.refused, error)

    @property
    def outdated(self) -> bool:
        """True when a file that it has imported has changed since."""
        return any(stamp != _stamp_of(stamp[0]) for stamp in self._stamps)

    def end_with_children(self) -> None:
        """Nothing more will be launched: it ends with its last child."""
        self._brief = True
        self._end_if_idle()

    def _look_whether_idle(self) -> None:
        if self._brief and not self._children:
            self.supervisor.at(self.supervisor.now() + IDLE, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if not self._children and not self._launching:
            self.retire()

    def _on_death(self, how: str) -> None:
        """The server died. Its children are nobody's now, so nobody could tell how they end: they go with it."""
        assert self._process is not None
        pid = self._process.pid
        if self._importing is not None:
            self._refuse_all(RuntimeError(f"preload: the server process {how} over the import of {self._importing}"))
        log_later(logging.WARNING, "the server process of relieve_py (pid %d) %s; its children are killed", pid, how)
        self.hang_up()
        self._process.kill()
        self._process.reap_later(self.supervisor)
        launching, self._launching = self._launching, {}
        children, self._children = self._children, {}
        for observer in launching.values():
            self.supervisor.post(observer.lost)
        for process, _ in children.values():
            if not process.doomed and process.status() is None:  # else it has ended for a reason of its own
                process.fate = f"its server process (pid {pid}) {how}"
        self._kill_families([process for process, _ in children.values()])
        for process, observer in children.values():
            process.close()
            self.supervisor.post(observer.exited, None, signal.SIGKILL)

    def _kill_families(self, processes: list[ServedProcess]) -> None:
        """The server is gone, or does nothing: kill these of its children, and whatever they have left behind."""
        if not processes:
            return
        for process in processes:
            process.kill_family()
        assert self._process is not None
        pids = {process.pid for process in processes}
        kill_all(pid for pid, child in bearers(self._process.pid).items() if child in pids)

    def hang_up(self) -> None:
        """Let the server read the end of its channel: it kills what it has, and leaves."""
        if self.alive:
            self.alive = False
            self.supervisor.unwatch(self._channel.fileno())
            self._channel.close()

    def close(self, deadline: float) -> None:
        """After ``hang_up``: wait for the server until then, and kill it if it has not left."""
        assert self._process is not None
        if not self._process.ends_within(max(0.0, deadline - time.monotonic())):
            self._process.kill()
            self._kill_families([process for process, _ in self._children.values()])
            self._process.ends_within(LEAVING)

    def retire(self) -> None:
        """Let the server end, and reap it when it has."""
        if not self.alive:  # it was its own death, and it is reaped
            return
        self.hang_up()
        assert self._process is not None
        self._process.reap_later(self.supervisor)
        self.supervisor.at(time.monotonic() + LEAVING, self._process.kill)

    def forget(self) -> None:
        """In a process that was just forked: the server belongs to the original."""
        self.alive = False
        self._channel.close()
        if self._process is not None:
            self._process.forget()
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
_preloaded: dict[Preload, Connection] = {}


def connection(spec: LaunchSpec | None = None) -> Connection:
    """The connection of this process to a server that can launch that, made on first use and again when the server
    died. Raises OSError. I/O thread only."""
    global _connection
    if spec is not None and spec.preload is not None:
        return _preloaded_for(spec.preload, lambda: spec.env)
    if _connection is None or not _connection.alive:
        _connection = Connection(shared(), exec_server, pulse.FIRST_PATIENCE)
    return _connection


def _preloaded_for(preload: Preload, environment: Callable[[], dict[str, str]]) -> Connection:
    """A server with that preload, as its files are now."""
    for key, each in list(_preloaded.items()):
        if not each.alive:
            del _preloaded[key]
        elif key == preload and each.outdated:
            _preloaded.pop(key).end_with_children()
    if preload not in _preloaded:
        start = functools.partial(exec_server, env=environment())
        _preloaded[preload] = Connection(shared(), start, pulse.IMPORT_PATIENCE, preload)
    return _preloaded[preload]


def warm(preload: Preload | None, environment: Callable[[], dict[str, str]]) -> None:
    """Have a server for that started, unless there is one. Any thread; returns at once. What keeps it from being is
    told at a launch."""
    made = _connection if preload is None else _preloaded.get(preload)
    if made is None or not made.alive:
        shared().post(_warm, preload, environment)


def _warm(preload: Preload | None, environment: Callable[[], dict[str, str]]) -> None:
    with contextlib.suppress(OSError):
        connection() if preload is None else _preloaded_for(preload, environment)


def _stamp_of(path: str) -> tuple[str, int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return path, info.st_mtime_ns, info.st_size


def close() -> None:
    """End every server of this process. I/O thread only."""
    global _connection
    servers = list(_connections)
    for each in servers:
        each.hang_up()
    deadline = time.monotonic() + LEAVING
    for each in servers:
        each.close(deadline)
    _connection = None
    _preloaded.clear()


def _after_fork() -> None:
    global _connection
    for each in list(_connections):
        each.forget()
    _connections.clear()
    _connection = None
    _preloaded.clear()


os.register_at_fork(after_in_child=_after_fork)
