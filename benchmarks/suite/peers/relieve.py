"""This library: a CallableTask for one child, a CloudWorker for more, with the options that nobody gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite import functions
from benchmarks.suite.peers.base import LIMIT, Peer, Promise
from relieve_py import CallableTask, CloudWorker


class Relieve(Peer):
    """With the default launcher."""

    distribution = "relieve-py"
    can = Peer.can | {"queue", "long queue", "memory", "sizes", "await", "load", "storm"}
    promises = True
    launcher = "forkserver"
    least_of_a_worker = 2
    strategy = "round-robin"
    spares = 0

    def open(self) -> None:
        task = CallableTask(functions.__file__, launcher=self.launcher, spares=self.spares)
        self.pool: Any = task
        if self.children >= self.least_of_a_worker:
            self.pool = CloudWorker(task, size=self.children, strategy=self.strategy)
        self.pool.start()

    def close(self) -> None:
        self.pool.stop().result(LIMIT)

    def submit(self, function: Callable[..., Any], *args: Any) -> Promise:
        reply: Promise = self.pool.get(function.__name__, *args)
        return reply

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.get(function.__name__, *args).result()

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        name, get = function.__name__, self.pool.get
        return [reply.result() for reply in [get(name, item) for item in items]]

    async def awaited(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self.pool.get(function.__name__, *args)

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(function.__name__, items))


class RelieveWorker(Relieve):
    """A CloudWorker also where there is one child."""

    can = frozenset({"trip", "tasks"})
    least_of_a_worker = 1


class RelieveSameChild(RelieveWorker):
    """With calls that go to one child as long as that is idle, so that it stays warm whatever others are there."""

    can = frozenset({"tasks"})
    strategy = "idle-first"


class RelieveSpares(Relieve):
    """With a child that is ready beside each that serves."""

    can = frozenset({"kill", "kill busy", "storm"})
    spares = 1


class RelieveFork(Relieve):
    """By fork of this very process."""

    can = frozenset({"trip", "start", "kill", "kill busy", "weight", "idle", "storm"})
    launcher = "fork"


class RelieveSpawn(RelieveFork):
    """By a new interpreter for each child."""

    launcher = "spawn"
    smoked = False
