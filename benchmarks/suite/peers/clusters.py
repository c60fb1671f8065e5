"""Peers that are made for many machines, used on this one: Ray and Dask, each with an actor for single calls."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite.peers.base import LIMIT, Peer, Promise


class Runner:
    """The actor: it runs what it is told."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The value of the function."""
        return function(*args)


class RayReply:
    """A reference as a Promise."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value."""
        import ray

        return ray.get(self._reference, timeout=timeout)


class Ray(Peer):
    """Actors of one child each, in a cluster of this machine that outlives them."""

    needs = distribution = "ray"
    rounds = 1
    share = {"trip": 0.2, "submits": 0.1, "map": 0.2, "start": 0.3}  # noqa: RUF012 - nobody changes it
    _started = False

    def open(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        if not Ray._started:
            ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            Ray._started = True
        kind = ray.remote(num_cpus=1, max_restarts=-1)(Runner)
        self._actors = [kind.remote() for _ in range(self.children)]
        self._turn = 0

    def close(self) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)

    def submit(self, function: Callable[..., Any], *args: Any) -> Promise:
        self._turn += 1
        return RayReply(self._actors[self._turn % self.children].run.remote(function, *args))

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        import ray

        actors, count = self._actors, self.children
        values: list[Any] = ray.get(
            [actors[place % count].run.remote(function, item) for place, item in enumerate(items)]
        )
        return values

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        from ray.util.multiprocessing import Pool

        if not hasattr(self, "_pool"):
            self._pool = Pool(self.children)
        values: list[Any] = self._pool.map(function, items)
        return values


class Dask(Peer):
    """A local cluster; an actor for round trips, submit and map as they come."""

    needs, distribution = "distributed", "distributed"
    rounds = 1
    share = {"trip": 0.2, "submits": 0.05, "map": 0.005, "start": 0.3}  # noqa: RUF012 - nobody changes it

    def open(self) -> None:
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(
            n_workers=self.children, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        )
        self._client = Client(self._cluster)
        self._actor: Any = None

    def close(self) -> None:
        self._client.close()
        self._cluster.close()

    def submit(self, function: Callable[..., Any], *args: Any) -> Promise:
        promise: Promise = self._client.submit(function, *args, pure=False)
        return promise

    def echo(self, value: Any) -> Any:
        from benchmarks.suite.functions import same

        return self.submit(same, value).result(LIMIT)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._actor is None:
            self._actor = self._client.submit(Runner, actor=True).result(LIMIT)
        return self._actor.run(function, *args).result(LIMIT)

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        submit = self._client.submit
        values: list[Any] = self._client.gather([submit(function, item, pure=False) for item in items])
        return values

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        values: list[Any] = self._client.gather(self._client.map(function, items, pure=False))
        return values
