"""The bare machine: forked children and socket pairs, pickle, memory copies, and nothing around them."""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite import functions
from benchmarks.suite.peers.base import Peer

SHARED = 1 << 30
"""Bytes of each of the two shared buffers by which an echo goes: the largest argument for which there is a limit."""
SUBMITTED_TOGETHER = 500
"""Calls in a message when calls come one by one: more do not make it faster."""
SIZE = struct.Struct("<Q")


def send(pipe: socket.socket, data: bytes) -> None:
    """One message of any size."""
    pipe.sendall(SIZE.pack(len(data)))
    pipe.sendall(data)


def receive(pipe: socket.socket) -> bytes:
    """One message of any size."""
    (size,) = SIZE.unpack(pipe.recv(SIZE.size, socket.MSG_WAITALL))
    return pipe.recv(size, socket.MSG_WAITALL)


class Child:
    """One forked child: a socket pair for single calls, one for batches, and two shared buffers."""

    def __init__(self, there: mmap.mmap, back: mmap.mmap) -> None:
        self.calls, their_calls = socket.socketpair()
        self.bulk, their_bulk = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.calls.close()
            self.bulk.close()
            try:
                serve(their_calls, their_bulk, there, back)
            finally:
                os._exit(0)
        their_calls.close()
        their_bulk.close()

    def end(self) -> None:
        """Kill and reap it: it has nothing to lose."""
        self.calls.close()
        self.bulk.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def serve(calls: socket.socket, bulk: socket.socket, there: mmap.mmap, back: mmap.mmap) -> None:
    """What the child does: single calls; batches of calls, chunks of a map, and echoes when it is told so."""
    while data := calls.recv(65536):
        name, args, _ = pickle.loads(data)
        if name == "batch":
            batch = pickle.loads(receive(bulk))
            send(bulk, pickle.dumps([getattr(functions, called)(*given) for called, given, _ in batch], 5))
        elif name == "chunk":
            function = getattr(functions, args[0])
            send(bulk, pickle.dumps([function(item) for item in pickle.loads(receive(bulk))], 5))
        elif name in ("bytes", "view"):
            with memoryview(there) as whole, whole[: args[0]] as view:
                back[: args[0]] = bytes(view) if name == "bytes" else view
            calls.send(data)
        else:
            calls.send(pickle.dumps(getattr(functions, name)(*args), 5))


class Raw(Peer):
    """The limit: what a library does beside this is what it costs."""

    can = frozenset({"trip", "submits", "map", "echo", "start", "weight", "idle", "sizes"})

    def open(self) -> None:
        self._there, self._back = mmap.mmap(-1, SHARED), mmap.mmap(-1, SHARED)
        self._all = [Child(self._there, self._back) for _ in range(self.children)]

    def close(self) -> None:
        for child in self._all:
            child.end()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._one(0, function.__name__, args)

    def _one(self, place: int, name: str, args: tuple[Any, ...]) -> Any:
        calls = self._all[place].calls
        calls.send(pickle.dumps((name, args, {}), 5))
        return pickle.loads(calls.recv(65536))

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        calls: list[Any] = [(function.__name__, (item,), {}) for item in items]
        return self._batches(("batch", (), {}), calls, SUBMITTED_TOGETHER)

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self._batches(("chunk", (function.__name__,), {}), items, -(-len(items) // (4 * self.children)))

    def _batches(self, what: Any, items: Sequence[Any], step: int) -> list[Any]:
        """The children take batches in turn. None has two at once: a full pipe in both directions would never move."""
        head, values = pickle.dumps(what, 5), list[Any]()
        starts = range(0, len(items), step)
        for number, start in enumerate(starts):
            child = self._all[number % self.children]
            if number >= self.children:
                values += pickle.loads(receive(child.bulk))
            child.calls.send(head)
            send(child.bulk, pickle.dumps(items[start : start + step], 5))
        for number in range(max(0, len(starts) - self.children), len(starts)):
            values += pickle.loads(receive(self._all[number % self.children].bulk))
        return values

    def echo(self, value: Any) -> Any:
        """bytes are copied into shared memory and out of it on both sides; of an array each side takes a view."""
        with memoryview(value) as whole, whole.cast("B") as view:
            size = view.nbytes
            self._there[:size] = view
        self._one(0, "bytes" if isinstance(value, bytes) else "view", (size,))
        return self._back[:size] if isinstance(value, bytes) else memoryview(self._back)[:size]

    def pids(self) -> list[int]:
        return [self._one(place, "pid", ()) for place in range(self.children)]
