"""Peers that are no pools: execnet, whose gateways talk over channels, and anyio, which lends processes to a loop."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite import functions
from benchmarks.suite.peers.base import Peer, Promise

LOOP = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.suite import functions
for name, args in channel:
    channel.send(getattr(functions, name)(*args))
"""
ROOT = Path(functions.__file__).parent.parent.parent


class Sent:
    """What was sent over a channel that answers in order; whoever waits for a later one takes the earlier ones too."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        channel.unanswered.append(self)
        self._values: list[Any] = []

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value."""
        while not self._values:
            value = self._channel.receive(timeout)
            self._channel.unanswered.pop(0)._values.append(value)
        return self._values[0]


class Execnet(Peer):
    """Gateways; each runs a loop that answers what comes over its channel, in order."""

    needs = distribution = "execnet"
    can = frozenset({"trip", "submits", "echo", "start", "kill", "kill busy", "weight", "idle"})
    arrays = False

    def open(self) -> None:
        import execnet

        self._gateways = [execnet.makegateway() for _ in range(self.children)]
        self._channels = [gateway.remote_exec(LOOP.format(root=os.fspath(ROOT))) for gateway in self._gateways]
        for channel in self._channels:
            vars(channel)["unanswered"] = []
        self._turns = itertools.cycle(self._channels)

    def close(self) -> None:
        import execnet

        execnet.default_group.terminate(1.0)

    def submit(self, function: Callable[..., Any], *args: Any) -> Promise:
        channel = next(self._turns)
        channel.send((function.__name__, args))
        return Sent(channel)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        channel = self._channels[0]
        channel.send((function.__name__, args))
        return channel.receive()

    def submits(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        name = function.__name__
        pairs = list(zip(itertools.cycle(self._channels), items, strict=False))
        for channel, item in pairs:
            channel.send((name, (item,)))
        return [channel.receive() for channel, _ in pairs]


class Anyio(Peer):
    """to_process, which keeps its processes until the loop ends; that one runs on a thread of its own meanwhile."""

    needs = distribution = "anyio"
    rounds = 2
    can = frozenset({"trip", "echo"})

    def open(self) -> None:
        from anyio.from_thread import start_blocking_portal

        self._lent = start_blocking_portal()
        self._portal = self._lent.__enter__()

    def close(self) -> None:
        self._lent.__exit__(None, None, None)

    def trips(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """One call after the other within the loop, which is where its users are."""
        from anyio import to_process

        async def run() -> list[Any]:
            return [await to_process.run_sync(function, item) for item in items]

        return self._portal.call(run)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        from anyio import to_process

        return self._portal.call(to_process.run_sync, function, *args)
