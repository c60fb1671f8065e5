"""The process that makes children and reaps them: with one thread, so that it may fork at any time.

For ``forkserver`` and ``spawn`` there is one, exec'ed and clean, which forks children, or forks and execs fresh
interpreters. For ``fork`` each child has one of its own, forked from the parent for that child. It is the sub-reaper
of its children: when one ends, it kills what that left behind, reaps it exactly once, and reports the status. When
its control channel ends, the parent is gone, and it kills everything and leaves.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn

from relieve_py import standard
from relieve_py.channel import Channel, pair, take_descriptors
from relieve_py.child import runtime
from relieve_py.child.process import forget_parents_state, mask_signals
from relieve_py.child.rehearsal import part_of_the_parent, rehearse
from relieve_py.child.streams import reopen_streams
from relieve_py.launchers.blanks import Blanks
from relieve_py.launchers.marks import bear_mark, whose_mark
from relieve_py.launchers.reaping import (
    become_group_leader,
    become_subreaper,
    children_of,
    descendants_of,
    kill_all,
    kill_group,
    name_process,
    outlive_parent,
)
from relieve_py.wire import Frame, Kind

WAITING = "relieve-blank"
"""How ``ps`` and ``top`` call a child that waits for its task. At most 15 bytes."""

if TYPE_CHECKING:
    from relieve_py.launchers.preloading import Effects


class Server:
    """The loop of the server process."""

    def __init__(self, channel: Channel, clean: bool, effects: Effects | None = None) -> None:
        self._clean = clean  # a fresh interpreter, and not a copy of the parent
        self._effects = effects  # of what was imported
        self._blanks = Blanks(self._wait_for_task, self._practise) if clean else None
        self._channel = channel
        self._env = dict(os.environ)  # what every child inherits
        self._children: dict[int, int] = {}  # pid -> number of its launch
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)

    def run(self, frames: Iterable[Frame] = ()) -> None:
        """Serve until the parent is gone, and first what has come already."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        try:
            for frame in frames:
                self._obey(frame)
            while True:
                if self._blanks is not None:
                    self._blanks.tend()
                for fd, _ in poll.poll(self._blanks.due() if self._blanks is not None else None):
                    if fd == self._wake_read:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_read, 4096)
                        self._reap()
                    else:
                        for frame in self._channel.receive():
                            self._obey(frame)
        except (EOFError, OSError):  # the parent is gone
            self._channel.close()
            self._kill_all()

    # -- what the parent asks ----------------------------------------------------------------------

    def _obey(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.LAUNCH:
                fds = take_descriptors(frame)
                try:
                    self._launch(frame, fds)
                finally:
                    for fd in fds:
                        os.close(fd)
            case Kind.SIGNAL:
                pid, signum = pickle.loads(frame.payload)
                if pid in self._children:  # not reaped, so it is still this child's number
                    os.kill(pid, signum)
            case Kind.PING:
                self._channel.send(Frame(Kind.PONG))

    def _launch(self, frame: Frame, fds: list[int]) -> None:
        command, env = pickle.loads(frame.payload)
        pid = self._blanks.hand_over(frame, fds) if self._blanks is not None and command is None else None
        if pid is None:
            try:
                pid = os.fork()
            except OSError as error:
                refusal = pickle.dumps((error.errno, error.strerror))
                self._channel.send(Frame(Kind.REFUSED, frame.number, refusal))
                return
            if pid == 0:
                self._become(fds, command, env)
            become_group_leader(pid)
        self._children[pid] = frame.number
        pidfds: list[int] = []
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # no descriptors left: the parent signals by way of this process
                pidfds.append(os.pidfd_open(pid))
        try:
            self._channel.send(Frame(Kind.LAUNCHED, frame.number, pickle.dumps(pid), (), pidfds))
        finally:
            for pidfd in pidfds:
                os.close(pidfd)

    def _become(self, fds: list[int], command: list[str] | None, env: dict[str, str]) -> NoReturn:
        """In the new process: be the child."""
        with _no_way_back():
            self._leave_server()
            if command is None:
                self._live(fds, env)
            sock_fd, page_fd = _take_streams(fds)
            os.set_inheritable(sock_fd, True)
            os.set_inheritable(page_fd, True)
            os.execve(command[0], [*command, str(sock_fd), str(page_fd)], env)

    def _wait_for_task(self, channel: Channel) -> NoReturn:
        """In the new process: be a child whose task is yet to come."""
        with _no_way_back():
            self._leave_server()
            name_process(WAITING)
            rehearse()
            reopen_streams()  # these, too, are done once before they count
            self._take_on(dict(self._env))
            while not (frames := channel.receive()):  # all of it, soon, and nothing else
                continue
            fds = take_descriptors(frames[0])
            channel.close()
            name_process(None)
            self._live(fds, pickle.loads(frames[0].payload)[1])

    def _leave_server(self) -> None:
        """In the new process: nothing of the server's stays open, and its signals are a child's."""
        become_group_leader()
        if not bear_mark():
            become_subreaper()  # what it leaves behind stays below it, until it ends
        self._channel.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        if self._blanks is not None:
            self._blanks.close()
        forget_parents_state(clean=self._clean)
        if self._effects is not None:
            self._effects.take_on()

    def _live(self, fds: list[int], env: dict[str, str]) -> NoReturn:
        """In the new process: live, with those descriptors and that environment."""
        sock_fd, page_fd = _take_streams(fds)
        reopen_streams()
        self._take_on(env)
        runtime.run(socket.socket(fileno=sock_fd), page_fd)

    def _take_on(self, env: dict[str, str]) -> None:
        """In the new process: have that environment, by as few changes as it takes."""
        for name in self._env.keys() - env.keys():
            del os.environ[name]
        for name, value in env.items():
            if self._env.get(name) != value:
                os.environ[name] = value
        if self._effects is not None:
            os.environ.update(self._effects.env)

    def _practise(self) -> None:
        """Do for nothing what a launch and an exit will need: a fork leaves this process, too, with pages that are
        copied when they are first written to."""
        with contextlib.suppress(Exception):  # of want of descriptors, which is for the real ones to tell
            self._send_to_itself(Frame(Kind.LAUNCH, 0, pickle.dumps((None, self._env)), (), [0, 1, 2]))
        self._kill_orphans(besides=0)
        self._reap()

    @staticmethod
    def _send_to_itself(frame: Frame) -> None:
        here, there = (Channel(end) for end in pair())
        try:
            here.post(frame)  # what does not fit stays there
            for arrived in there.receive(socket.MSG_DONTWAIT):
                pickle.loads(arrived.payload)
                for fd in take_descriptors(arrived):
                    os.close(fd)
        finally:
            here.close()
            there.close()

    # -- what happens ------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Reap every child that has ended, and first what it left behind: while it is a zombie its group is its own."""
        while (pid := self._ended()) is not None:
            number = self._children.get(pid)
            if number is not None:
                kill_group(pid)
                self._kill_orphans(besides=pid)
            elif self._blanks is not None:
                self._blanks.ended(pid)
            _, status = os.waitpid(pid, 0)
            if number is not None:
                del self._children[pid]
                self._channel.send(Frame(Kind.EXITED, number, pickle.dumps(status)))

    def _ended(self) -> int | None:
        """A child that has ended and is not reaped; None when there is no such."""
        try:
            if hasattr(os, "waitid"):
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                return None if found is None else found.si_pid
        except ChildProcessError:
            return None
        return self._ended_by_polling()

    def _ended_by_polling(self) -> int | None:
        """Where there is no waitid (macOS before 3.13): the status is taken at once, and reported from here."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if not pid:
                return None
            number = self._children.pop(pid, None)
            if number is not None:
                kill_group(pid)
                self._channel.send(Frame(Kind.EXITED, number, pickle.dumps(status)))
            elif self._blanks is not None:
                self._blanks.ended(pid)

    def _kill_orphans(self, besides: int) -> None:
        """Kill what has fallen to this process and was left by no child that lives."""
        ours = {besides, *self._children, *(blank.pid for blank in self._blanks or ())}
        alive = self._children.keys() - {besides}
        for orphan in children_of(os.getpid()):
            left_by = whose_mark(orphan, os.getpid())
            if orphan not in ours and left_by not in alive and (left_by is not None or not alive):
                kill_all([orphan, *descendants_of(orphan)])

    def _kill_all(self) -> None:
        """The parent is gone: nothing of it stays."""
        if self._blanks is not None:
            self._blanks.kill()
        for pid in self._children:
            below = descendants_of(pid)
            kill_group(pid)
            kill_all(below)
        while True:  # ends: all that can be here is killed, and so is what falls to us meanwhile
            spared, left = kill_all(descendants_of(os.getpid())), children_of(os.getpid())
            if left and spared.issuperset(left):
                return
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


@contextlib.contextmanager
def _no_way_back() -> Iterator[None]:
    """In a new process: whatever happens in here, it ends here, and never becomes a second server."""
    try:
        yield
    except EOFError:  # of a child that waits: the server is gone, or does not need it
        os._exit(0)
    except BaseException as error:
        os.write(2, f"relieve_py: the child could not be started: {error!r}\n".encode())
    finally:
        os._exit(127)


def _take_streams(fds: list[int]) -> tuple[int, int]:
    """Put the standard streams in their places; the descriptors of the channel and of the page."""
    sock_fd, page_fd, *streams = fds
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
        os.close(fd)
    return sock_fd, page_fd


def serve(sock: socket.socket) -> None:
    """Be a server on that channel, until the parent is gone."""
    _prepare()
    Server(Channel(sock), clean=False).run()


def _prepare() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    # Whatever the parent blocks: no end of a child would be heard of, and no child would heed SIGTERM.
    mask_signals(set())
    become_subreaper()


def main(control_fd: int, preloads: int = 0) -> None:
    """Be the exec'ed server on that inherited descriptor, until the parent is gone; with ``preloads`` it is told first
    what to import."""
    code = 1
    try:
        standard.occupy()  # those that are closed, or close when a program is executed
        os.set_inheritable(control_fd, False)
        _serve_clean(Channel(socket.socket(fileno=control_fd)), bool(preloads))
        code = 0
    except (EOFError, OSError):  # the parent is gone
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)  # exit functions of what was imported are the children's


def _serve_clean(channel: Channel, preloads: bool) -> None:
    _prepare()
    frames: list[Frame] = []
    effects = None
    if preloads:
        while not frames:
            frames = channel.receive()
        from relieve_py.launchers.preloading import preload

        effects = preload(channel, frames.pop(0))
        _prepare()  # an import may have thought otherwise
    outlive_parent()  # to kill what it leaves behind
    part_of_the_parent()
    gc.collect()
    gc.freeze()  # what is here is shared with every child; a collection there would copy it page by page
    Server(channel, clean=True, effects=effects).run(frames)
