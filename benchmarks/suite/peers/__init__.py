"""Whom the suite measures: one adapter each, all with the same few methods."""

from __future__ import annotations

from importlib import import_module

from benchmarks.suite.peers.base import Peer

PLACES = {
    "raw": "raw:Raw",
    "relieve": "relieve:Relieve",
    "relieve worker": "relieve:RelieveWorker",
    "relieve same child": "relieve:RelieveSameChild",
    "relieve spares": "relieve:RelieveSpares",
    "relieve fork": "relieve:RelieveFork",
    "relieve spawn": "relieve:RelieveSpawn",
    "executor fork": "executors:ExecutorFork",
    "executor forkserver": "executors:ExecutorForkserver",
    "executor spawn": "executors:ExecutorSpawn",
    "mp.Pool": "pools:MpPool",
    "mp.Pool by hand": "pools:MpPoolByHand",
    "pebble": "executors:Pebble",
    "loky": "executors:Loky",
    "joblib": "pools:Joblib",
    "mpire": "pools:Mpire",
    "billiard": "pools:Billiard",
    "execnet": "gateways:Execnet",
    "anyio": "gateways:Anyio",
    "Ray": "clusters:Ray",
    "Dask": "clusters:Dask",
}
"""Where each is: a module of this package and a class. Nothing of a peer is imported before one is opened."""


def peer(name: str) -> type[Peer]:
    """The adapter of that name."""
    module, _, attribute = PLACES[name].partition(":")
    found: type[Peer] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found


__all__ = ["PLACES", "Peer", "peer"]
