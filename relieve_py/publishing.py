"""Both ends of what ``relieve top`` reads: a socket on which a program tells its own user how its workers do.

The socket is in a directory that only the user can enter (0700), is the user's alone (0600), and asks the system who
is at the other end. A connection gets one line of JSON and is closed; nothing is read from it. It is served by a thread
that sleeps until somebody connects, and exists only while a worker is published.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import secrets
import select
import socket
import stat
import struct
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

logger = logging.getLogger("relieve_py")

VERSION = 1
"""Of what is told; another one means other names."""
SLOWEST = 1.0
"""Seconds that the other end may take. Less: a reader on a loaded machine is cut off; more: one that does not read
keeps others waiting for longer."""
_LONGEST_QUEUE = 8


class Published(Protocol):
    """A worker, as it is shown."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for json."""
        ...


# -- where the sockets are -------------------------------------------------------------------------


def folders() -> list[str]:
    """Where sockets of this user may be; programs make theirs in the first."""
    name = f"relieve_py-{os.geteuid()}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [os.path.join(place, name) for place in ([runtime] if runtime else []) + ["/tmp"]]


def is_private(folder: str) -> bool:
    """True when nobody but this user can enter it. Raises OSError when it is not there."""
    about = os.lstat(folder)
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not stat.S_IMODE(about.st_mode) & 0o077


def _private_folder() -> str:
    """The folder for a new socket, made if need be. Raises OSError."""
    folder = folders()[0]
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    if not is_private(folder):
        raise PermissionError(f"{folder} is no directory of this user's own with mode 0700: nothing is published there")
    return folder


def peer_uid(sock: socket.socket) -> int:
    """Who is at the other end. Raises OSError."""
    if sys.platform == "linux":
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    else:  # struct xucred of the BSDs: version, uid, groups; by LOCAL_PEERCRED at SOL_LOCAL
        _, uid = struct.unpack_from("2I", sock.getsockopt(0, 1, 76))
    return int(uid)


# -- the program's end -----------------------------------------------------------------------------


class Publisher:
    """The one of this process: what it shows, and the socket and thread that there are while it shows something."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()  # owner: whoever publishes or stops to, also in a signal handler
        self._shown: dict[int, weakref.finalize[Any, Published]] = {}  # by id(); each hides it when it is gone
        self._socket: socket.socket | None = None
        self._path = ""
        self._waker: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def show(self, worker: Published) -> None:
        """Show it until it is hidden, or nobody has it any more. Raises OSError."""
        key = id(worker)
        with self._lock:
            if key in self._shown:
                return
            if self._socket is None:
                self._open()
            self._shown[key] = weakref.finalize(worker, self._hide, key)
            self._shown[key].atexit = False

    def hide(self, worker: Published) -> None:
        """Show it no more."""
        self._hide(id(worker))
        thread = self._thread
        if thread is not None and not self._shown:
            thread.join(SLOWEST)

    def _hide(self, key: int) -> None:
        # A finalizer may run in the middle of anything on this thread, so it waits for no lock.
        finalizer = self._shown.pop(key, None)
        if finalizer is not None:
            finalizer.detach()
            if not self._shown:
                self._wake_up()

    def _open(self) -> None:
        """Under the lock."""
        path = os.path.join(_private_folder(), f"{os.getpid()}-{secrets.token_hex(4)}.sock")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(path)
            os.chmod(path, 0o600)
            sock.listen(_LONGEST_QUEUE)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        self._socket, self._path = sock, path
        woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._serve, args=(sock, woken), name="relieve-top", daemon=True)
        self._thread.start()
        atexit.register(self._unlink)

    def _wake_up(self) -> None:
        waker = self._waker
        if waker is not None:
            with contextlib.suppress(OSError):  # it was closed this moment
                waker.send(b"\0")

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _serve(self, sock: socket.socket, woken: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if sock.fileno() in ready:
                with contextlib.suppress(OSError), sock.accept()[0] as connection:
                    self._answer(connection)
            if woken.fileno() in ready:
                woken.recv(100)
                with self._lock:
                    if not self._shown:
                        self._close(woken)
                        return

    def _close(self, woken: socket.socket) -> None:
        """Under the lock, on the thread."""
        self._unlink()
        atexit.unregister(self._unlink)
        for sock in (self._socket, self._waker, woken):
            if sock is not None:
                sock.close()
        self._socket = self._waker = self._thread = None

    def _answer(self, connection: socket.socket) -> None:
        """Tell one reader. Raises OSError when it is gone, slow, or a stranger."""
        connection.settimeout(SLOWEST)
        if peer_uid(connection) not in (os.geteuid(), 0):
            raise PermissionError("a stranger")
        connection.sendall(json.dumps(self._snapshot(), default=str).encode() + b"\n")

    def _snapshot(self) -> dict[str, Any]:
        workers = [found[0] for finalizer in list(self._shown.values()) if (found := finalizer.peek()) is not None]
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "program": sys.argv[0] if sys.argv else "",
            "at": time.time(),
            "workers": [told for worker in workers if (told := _told(worker)) is not None],
        }

    def forget(self) -> None:
        """In a process that was just forked: the socket and all that it shows are the original's."""
        for sock in (self._socket, self._waker):
            if sock is not None:
                sock.close()
        atexit.unregister(self._unlink)
        self._reset()


def _told(worker: Published) -> dict[str, Any] | None:
    try:
        return worker.to_dict()
    except Exception:  # one that is being changed by its user in some odd way costs the picture of the others nothing
        logger.debug("a worker cannot be shown", exc_info=True)
        return None


publisher = Publisher()


def asked_for() -> bool:
    """True when the user wants every worker shown."""
    return os.environ.get("RELIEVE_TOP", "") not in ("", "0")


def show_if_asked_for(worker: Published) -> None:
    """Called with each new worker."""
    if asked_for():
        try:
            publisher.show(worker)
        except OSError as error:  # the program is not to fail for that
            logger.warning("RELIEVE_TOP: nothing is shown: %s", error)


# -- the reader's end ------------------------------------------------------------------------------


def snapshots(pid: int | None = None) -> Iterator[dict[str, Any]]:
    """What each program of this user shows now, or only that one. Sockets that nobody serves are removed."""
    for folder in folders():
        try:
            names = sorted(os.listdir(folder)) if is_private(folder) else []
        except OSError:
            continue
        for name in names:
            if name.endswith(".sock") and (pid is None or name.startswith(f"{pid}-")):
                told = _ask(os.path.join(folder, name))
                if told is not None:
                    yield told


def _ask(path: str) -> dict[str, Any] | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(2 * SLOWEST)
        try:
            sock.connect(path)
            told = b"".join(iter(lambda: sock.recv(1 << 16), b""))
            found = json.loads(told)
        except ConnectionRefusedError:  # its program was killed
            with contextlib.suppress(OSError):
                os.unlink(path)
            return None
        except (OSError, ValueError):  # it ends, or cannot answer now
            return None
    return found if found.get("version") == VERSION else None


os.register_at_fork(after_in_child=publisher.forget)
