"""The numbers of tasks and workers so far: frozen records, also as plain data."""

from __future__ import annotations

import collections
import json
import weakref
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from relieve_py.sketch import Percentiles
from relieve_py.tally import Tally

if TYPE_CHECKING:
    from relieve_py.tasks import Task


@attrs.frozen(kw_only=True)
class Stats:
    """What a task and a worker both count. Events are no calls."""

    queued: int
    """Calls that wait for a child, or for their retry."""
    running: int
    """Calls that are with a child."""
    done: int
    """Calls that have given a value, so far."""
    failed: int
    """Calls that have failed for good, so far: by an exception, a death, a timeout or a refusal."""
    cancelled: int
    """Calls that were cancelled, so far."""
    retried: int
    """Tries after the first, so far."""
    restarts: int
    """Restarts, so far."""
    most_queued: int
    """The most calls that have ever waited at once."""
    latency: Percentiles
    """Seconds from making a call to its answer, of those that are ``done``."""
    queue_time: Percentiles
    """Seconds of them before the call was first sent to a child."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for json."""
        return attrs.asdict(self)

    def to_json(self) -> str:
        """The same as a line of JSON."""
        return json.dumps(self.to_dict())


@attrs.frozen(kw_only=True)
class TaskStats(Stats):
    """The numbers of a task at one moment."""

    task: str
    state: str


@attrs.frozen(kw_only=True)
class WorkerStats(Stats):
    """The numbers of a worker at one moment: those of its tasks, also of those that it had, and of its queue."""

    worker: str
    size: int
    """Tasks."""
    largest: int
    """The most tasks that it has ever had."""
    states: dict[str, int]
    """How many tasks are in each state."""
    submitted: int
    """Calls so far; for a CloudWorker also events that one task gets."""
    dropped: int = 0
    """Calls given up for want of room, so far."""


class History:
    """What the tasks have counted that a worker had, and has no more. Not locked: its worker does that."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._restarts = self._largest = 0
        self._leaving: list[Task] = []
        self._gone: weakref.WeakKeyDictionary[Task, tuple[Tally, int]] = weakref.WeakKeyDictionary()

    def leaves(self, task: Task) -> None:
        """It is removed, and counts until it has stopped."""
        self._leaving.append(task)

    def left(self, task: Task) -> None:
        """It has stopped."""
        self._leaving.remove(task)
        self._gone[task] = counted, restarts = task._slot.traffic.counted(), task.restarts
        self._tally.merge(counted)
        self._restarts += restarts

    def joins(self, task: Task, size: int) -> None:
        """It is a member, maybe again, one of so many: all that it has ever counted counts as a member's."""
        self._largest = max(self._largest, size)
        if (known := self._gone.pop(task, None)) is not None:
            self._tally.take_back(known[0])
            self._restarts -= known[1]

    def numbers(self, members: Collection[Task]) -> dict[str, Any]:
        """Of all tasks so far."""
        tasks = [*members, *(task for task in self._leaving if task not in members)]
        whole, restarts = Tally(), self._restarts
        whole.merge(self._tally)
        for task in tasks:
            whole.merge(task._slot.traffic.counted())
            restarts += task.restarts
        tables = [task._slot.traffic.table for task in tasks]
        return {
            "largest": self._largest,
            "restarts": restarts,
            "queued": sum(len(table.waiting) for table in tables),
            "running": sum(table.running for table in tables),
            **whole.numbers(),
        }


def stats_of(task: Task) -> TaskStats:
    """Its numbers now."""
    traffic = task._slot.traffic
    return TaskStats(
        task=task.name,
        state=task.state.value,
        restarts=task.restarts,
        queued=len(traffic.table.waiting),
        running=traffic.table.running,
        **traffic.counted().numbers(),
    )


def states_of(tasks: Iterable[Task]) -> dict[str, int]:
    """How many are in each state."""
    return dict(collections.Counter(task.state.value for task in tasks))
