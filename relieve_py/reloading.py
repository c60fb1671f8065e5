"""A worker whose tasks are reloaded when their scripts change."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from relieve_py.errors import RelieveError
from relieve_py.events import Reloaded
from relieve_py.lifecycle import State
from relieve_py.replies import Reply
from relieve_py.supervisor import shared
from relieve_py.tasks import Task
from relieve_py.watching import Watch, file_of, watched_paths


class Watched(Protocol):
    """What is watched of a worker, and done with it."""

    name: str

    def __iter__(self) -> Any: ...

    def reload_tasks(self, tasks: Iterable[Task]) -> Reply:
        """Replace their children, one after the other."""
        ...

    def tell(self, name: str, record: Any) -> None:
        """An event of the worker."""
        ...


class Reloader:
    """The one of a worker with ``watch``. It does not keep that. Raises what ``watched_paths`` raises."""

    @staticmethod
    def of(worker: Watched, watch: Any) -> Reloader | None:
        """None when nothing is to be watched."""
        paths = watched_paths(watch)
        return Reloader(worker, paths) if paths is not None else None

    def __init__(self, worker: Watched, paths: tuple[str, ...]) -> None:
        self._worker = weakref.ref(worker)
        self._paths = paths
        self._watch = Watch(_weakly(self))
        # By way of the I/O thread: the collector may run this in the middle of a lock.
        weakref.finalize(worker, shared().post_from_finalizer, self._watch.end).atexit = False

    def check(self, task: Task) -> None:
        """Raises ValueError for a task whose script is no file."""
        if script_of(task) is None:
            raise ValueError(
                f"watch: {task._slot.script!r} of task {task.name!r} is no file that a child reads: objects are sent"
            )

    def begin(self) -> None:
        """The worker runs, or has other tasks."""
        worker = self._worker()
        if worker is not None:
            scripts = (script_of(task) for task in worker)
            self._watch.begin([*self._paths, *(script for script in scripts if script is not None)])

    def end(self) -> None:
        """The worker is being stopped."""
        self._watch.end()

    def changed(self, paths: frozenset[str]) -> None:
        """On a thread of the watch, which goes on when this is done: these files have changed."""
        worker = self._worker()
        if worker is None:
            return
        scripts = {task: script_of(task) for task in worker}
        others = paths - set(scripts.values())  # what any of them may have imported
        over = (State.NEW, State.STOPPED, State.STOPPING)
        tasks = [task for task, script in scripts.items() if (others or script in paths) and task.state not in over]
        error: BaseException | None = None
        try:
            worker.reload_tasks(tasks).result()
        except RelieveError as failure:
            error = failure
        worker.tell("reload", Reloaded(worker=worker.name, paths=tuple(sorted(paths)), error=error))


def _weakly(reloader: Reloader) -> Callable[[frozenset[str]], None]:
    found = weakref.ref(reloader)

    def changed(paths: frozenset[str]) -> None:
        there = found()
        if there is not None:
            there.changed(paths)

    return changed


def script_of(task: Task) -> str | None:
    """The file that a task runs, or imports."""
    return file_of(*task._core.found)
