"""Peers made like multiprocessing.Pool: itself, itself tuned by hand, billiard, mpire; and joblib, which only maps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite.peers.base import LIMIT, Peer, Promise

CHUNKS_BY_HAND = (2, 8, 32, 128)
"""How many chunks whoever tunes a map by hand tries; the fastest is taken."""


class Got:
    """An AsyncResult as a Promise."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value."""
        return self._result.get(timeout)


class MpPool(Peer):
    """multiprocessing.Pool with its default start method."""

    can = Peer.can | {"sizes", "load", "queue", "memory"}
    share = {"queue": 0.1, "memory": 0.1}  # noqa: RUF012 - nobody changes it

    def open(self) -> None:
        import multiprocessing

        self._pool: Any = multiprocessing.Pool(self.children)

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()

    def submit(self, function: Callable[..., Any], *args: Any) -> Promise:
        return Got(self._pool.apply_async(function, args))

    def submit_with(self, done: Callable[[Any], None], function: Callable[..., Any], *args: Any) -> None:
        """Hand over one call; ``done`` gets its value."""
        self._pool.apply_async(function, args, callback=done)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._pool.apply_async(function, args).get()

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        submit = self._pool.apply_async
        return [result.get() for result in [submit(function, (item,)) for item in items]]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        values: list[Any] = self._pool.map(function, items)
        return values


class MpPoolByHand(MpPool):
    """The same with the chunk size for which its map is fastest here."""

    can = frozenset({"map"})
    warm_map = 1.0  # it is tuned for the number of items that follows
    _chunks = 0

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        if not self._chunks:
            taken: dict[int, float] = {}
            for chunks in CHUNKS_BY_HAND * 2:
                begin = time.perf_counter()
                self._map(function, items, chunks)
                taken[chunks] = min(taken.get(chunks, LIMIT), time.perf_counter() - begin)
            self._chunks = min(taken, key=taken.__getitem__)
        return self._map(function, items, self._chunks)

    def _map(self, function: Callable[[Any], Any], items: Sequence[Any], chunks: int) -> list[Any]:
        values: list[Any] = self._pool.map(function, items, chunksize=-(-len(items) // chunks))
        return values


class Billiard(MpPool):
    """The pool below Celery."""

    needs = distribution = "billiard"
    rounds = 2
    can = Peer.can

    def open(self) -> None:
        import billiard

        self._pool = billiard.Pool(self.children)


class Mpire(MpPool):
    """A pool with many conveniences."""

    needs = distribution = "mpire"
    rounds = 2
    can = Peer.can

    def open(self) -> None:
        from mpire import WorkerPool

        self._pool = WorkerPool(self.children, use_dill=False)


class Joblib(Peer):
    """Parallel, which has no single calls."""

    needs = distribution = "joblib"
    rounds = 2
    can = frozenset({"map"})

    def open(self) -> None:
        import joblib

        self._pool: Any = joblib.Parallel(self.children)
        self._pool.__enter__()

    def close(self) -> None:
        self._pool.__exit__(None, None, None)

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        import joblib

        one = joblib.delayed(function)
        values: list[Any] = self._pool(one(item) for item in items)
        return values
