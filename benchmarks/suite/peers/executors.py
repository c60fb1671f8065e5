"""Peers whose calls are futures: ProcessPoolExecutor by each start method, pebble, loky."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite.peers.base import LIMIT, Peer, Promise


class ExecutorFork(Peer):
    """ProcessPoolExecutor, whose default on Linux is fork until Python 3.13."""

    can = Peer.can | {"tasks", "queue", "memory", "sizes", "await", "load"}
    share = {"submits": 0.5, "map": 0.05, "queue": 0.1, "memory": 0.1, "await": 0.25}  # noqa: RUF012 - nobody changes it
    method = "fork"
    most_children = 100

    def open(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self._pool: Any = ProcessPoolExecutor(self.children, mp_context=multiprocessing.get_context(self.method))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[..., Any], *args: Any) -> Promise:
        promise: Promise = self._pool.submit(function, *args)
        return promise

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        submit = self._pool.submit
        return [future.result() for future in [submit(function, item) for item in items]]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self._pool.map(function, items))


class ExecutorForkserver(ExecutorFork):
    """The default from Python 3.14 on."""

    can = Peer.can
    method = "forkserver"
    smoked = False
    rounds = 2


class ExecutorSpawn(ExecutorFork):
    """The default on macOS."""

    can = Peer.can
    method = "spawn"
    smoked = False
    rounds = 2


class Loky(ExecutorFork):
    """The executor below joblib."""

    needs = distribution = "loky"
    rounds = 2
    can = Peer.can | {"await", "load"}

    def open(self) -> None:
        from loky import ProcessPoolExecutor

        self._pool = ProcessPoolExecutor(self.children)

    def close(self) -> None:
        self._pool.shutdown(kill_workers=True)


class Pebble(ExecutorFork):
    """A pool whose tasks can time out; it replaces children that died."""

    needs = distribution = "pebble"
    can = Peer.can | {"await", "load"}

    def open(self) -> None:
        from pebble import ProcessPool

        self._pool = ProcessPool(self.children)

    def close(self) -> None:
        self._pool.stop()
        self._pool.join(LIMIT)

    def submit(self, function: Callable[..., Any], *args: Any) -> Promise:
        promise: Promise = self._pool.schedule(function, args=args)
        return promise

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        schedule = self._pool.schedule
        return [future.result() for future in [schedule(function, args=(item,)) for item in items]]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self._pool.map(function, items).result())
