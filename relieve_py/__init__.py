"""Supervised child processes with remote calls, and workers that compose them.

Every public name is here, and loaded on first use, so that a child pays for none of them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError("relieve_py needs Linux or macOS: its channels and process groups do not exist on Windows")

if TYPE_CHECKING:
    from relieve_py import ipc as ipc
    from relieve_py.batches import QueueWorker as QueueWorker
    from relieve_py.calls import Outcome as Outcome
    from relieve_py.calls import PendingCall as PendingCall
    from relieve_py.cloud import CloudWorker as CloudWorker
    from relieve_py.cpus import usable_cpus as usable_cpus
    from relieve_py.elastic import ElasticSize as ElasticSize
    from relieve_py.errors import AlreadyRunning as AlreadyRunning
    from relieve_py.errors import CallCancelled as CallCancelled
    from relieve_py.errors import CalledFromHandler as CalledFromHandler
    from relieve_py.errors import CallTimeout as CallTimeout
    from relieve_py.errors import DecodeError as DecodeError
    from relieve_py.errors import EncodeError as EncodeError
    from relieve_py.errors import LimitExceeded as LimitExceeded
    from relieve_py.errors import MethodNotFound as MethodNotFound
    from relieve_py.errors import NotRepeatable as NotRepeatable
    from relieve_py.errors import NotRunning as NotRunning
    from relieve_py.errors import PoisonCall as PoisonCall
    from relieve_py.errors import ProtocolError as ProtocolError
    from relieve_py.errors import RelieveError as RelieveError
    from relieve_py.errors import RemoteError as RemoteError
    from relieve_py.errors import RetriesExhausted as RetriesExhausted
    from relieve_py.errors import StartError as StartError
    from relieve_py.errors import Stopped as Stopped
    from relieve_py.errors import StrategyError as StrategyError
    from relieve_py.errors import TaskDied as TaskDied
    from relieve_py.errors import WorkerFull as WorkerFull
    from relieve_py.events import Event as Event
    from relieve_py.events import current_event as current_event
    from relieve_py.exits import Exit as Exit
    from relieve_py.farewell import stop_all as stop_all
    from relieve_py.feeds import Feed as Feed
    from relieve_py.feeds import feed as feed
    from relieve_py.hookspecs import hookimpl as hookimpl
    from relieve_py.lifecycle import State as State
    from relieve_py.limits import Limits as Limits
    from relieve_py.output import Output as Output
    from relieve_py.output import OutputLine as OutputLine
    from relieve_py.plugins import register as register
    from relieve_py.plugins import unregister as unregister
    from relieve_py.policies import RecyclePolicy as RecyclePolicy
    from relieve_py.policies import RestartPolicy as RestartPolicy
    from relieve_py.policies import RetryPolicy as RetryPolicy
    from relieve_py.replies import Reply as Reply
    from relieve_py.streams import Stream as Stream
    from relieve_py.tasks import CallableTask as CallableTask
    from relieve_py.tasks import ForkTask as ForkTask
    from relieve_py.tasks import ScriptTask as ScriptTask
    from relieve_py.tasks import Task as Task
    from relieve_py.tasks import fork as fork
    from relieve_py.workers import Worker as Worker

_HOMES = {
    "batches": ("QueueWorker",),
    "calls": ("Outcome", "PendingCall"),
    "cloud": ("CloudWorker",),
    "cpus": ("usable_cpus",),
    "elastic": ("ElasticSize",),
    "errors": (
        "AlreadyRunning",
        "CallCancelled",
        "CallTimeout",
        "CalledFromHandler",
        "DecodeError",
        "EncodeError",
        "LimitExceeded",
        "MethodNotFound",
        "NotRepeatable",
        "NotRunning",
        "PoisonCall",
        "ProtocolError",
        "RelieveError",
        "RemoteError",
        "RetriesExhausted",
        "StartError",
        "Stopped",
        "StrategyError",
        "TaskDied",
        "WorkerFull",
    ),
    "events": ("Event", "current_event"),
    "exits": ("Exit",),
    "farewell": ("stop_all",),
    "feeds": ("Feed", "feed"),
    "hookspecs": ("hookimpl",),
    "lifecycle": ("State",),
    "limits": ("Limits",),
    "output": ("Output", "OutputLine"),
    "policies": ("RecyclePolicy", "RestartPolicy", "RetryPolicy"),
    "plugins": ("register", "unregister"),
    "replies": ("Reply",),
    "streams": ("Stream",),
    "tasks": ("CallableTask", "ForkTask", "ScriptTask", "Task", "fork"),
    "workers": ("Worker",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["ipc", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name == "ipc":
        return import_module("relieve_py.ipc")
    if name not in _HOME:
        raise AttributeError(f"module 'relieve_py' has no attribute {name!r}")
    value = getattr(import_module(f"relieve_py.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
