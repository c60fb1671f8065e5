"""What can be seen of a worker: its numbers, its children's health and last output, and all of it as plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from relieve_py.health import TaskHealth
from relieve_py.output import OutputLine
from relieve_py.publishing import publisher
from relieve_py.stats import WorkerStats, states_of

if TYPE_CHECKING:
    from relieve_py.tasks import Task


class InSight(ABC):
    """The part of a worker that looks at its tasks and changes nothing."""

    name: str

    @abstractmethod
    def __iter__(self) -> Iterator[Task]:
        """Its tasks."""

    @abstractmethod
    def _must_be_mine(self) -> None:
        """Raises NotRunning in a forked copy of the process."""

    @abstractmethod
    def _numbers(self) -> dict[str, Any]:
        """What it and its tasks have counted."""

    def stats(self) -> WorkerStats:
        """The numbers of its tasks so far, and of its queue: calls, restarts, percentiles of times."""
        tasks = list(self)
        return WorkerStats(worker=self.name, size=len(tasks), states=states_of(tasks), **self._numbers())

    def health(self) -> tuple[TaskHealth, ...]:
        """How each child is now, by psutil, in the order of the tasks. They are looked at on this thread."""
        return tuple(task.health() for task in self)

    def output(self, script: str | None = None) -> tuple[OutputLine, ...]:
        """The last lines that its children printed, as far as the tasks' option ``output`` keeps them, in the order
        they were read; with ``script``, a name as in ``"task"`` for ``task.py``, only those of that script's tasks."""
        tasks = [task for task in self if script is None or task._core.script == script]
        return tuple(sorted((line for task in tasks for line in task.output()), key=lambda line: line.at))

    def to_dict(self) -> dict[str, Any]:
        """What it is, its numbers, and each task with its numbers and health, as plain data for json."""
        return {
            "name": self.name,
            "kind": type(self).__name__,
            "stats": self.stats().to_dict(),
            "tasks": [
                {**task.to_dict(), "stats": task.stats().to_dict(), "health": task.health().to_dict()} for task in self
            ],
        }

    def publish(self) -> None:
        """Show this worker to ``relieve top`` of the same user, until ``unpublish()``. Raises OSError.

        With the environment variable ``RELIEVE_TOP=1`` every worker is shown.
        """
        self._must_be_mine()
        publisher.show(self)

    def unpublish(self) -> None:
        """Show it no more."""
        publisher.hide(self)
