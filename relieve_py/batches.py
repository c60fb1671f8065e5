"""QueueWorker: a batch of tasks, each run to its exit, so many at a time."""

from __future__ import annotations

from collections import deque
from typing import Any

from relieve_py.errors import AlreadyRunning, RelieveError
from relieve_py.replies import Reply, results_of
from relieve_py.tasks import ForkTask, Task
from relieve_py.timeouts import check_timeout
from relieve_py.workers import Worker


class QueueWorker(Worker):
    """Runs each task to its exit, at most ``concurrency`` at a time; ``concurrency`` may be set while it runs."""

    def __init__(self, *tasks: Task, concurrency: int = 1, name: str | None = None) -> None:
        self._concurrency = _checked_concurrency(concurrency)
        self._runs: deque[tuple[Task, int, Reply]] = deque()  # and how often the task had been stopped by then
        self._running: set[str] = set()
        super().__init__(*tasks, name=name)

    def _check(self, task: Any) -> None:
        super()._check(task)
        if isinstance(task, ForkTask):
            raise TypeError(
                f"QueueWorker starts its tasks, and ForkTask {task.name!r} cannot be started: use ScriptTask"
            )

    @property
    def concurrency(self) -> int:
        """How many tasks run at a time."""
        return self._concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._concurrency = _checked_concurrency(value)
        self._launch_next()

    def run(self, *names: str) -> Reply:
        """Run those tasks, or all, each to its exit. The Reply gives their exit records in the order they were added.

        A task that is removed or stopped before its turn is not run; None stands in its place. Raises KeyError for a
        name that is not there, AlreadyRunning for a task that runs or waits to run, EncodeError for start arguments.
        """
        chosen = [self.task(name) for name in names] or list(self)
        chosen = [task for task in self if task in chosen]
        for task in chosen:
            task._core.encode_now()
        with self._lock:
            waiting = {task.name for task, _, _ in self._runs}
            for task in chosen:
                if task.name in waiting | self._running or task._slot.life.accepts:
                    raise AlreadyRunning(f"task {task.name!r} runs, or waits to run, already", task=task.name)
            exits = [Reply(None, self.emitter.strand) for _ in chosen]
            stops = [task._slot.life.stops for task in chosen]
            self._runs.extend(zip(chosen, stops, exits, strict=True))
        self._launch_next()
        return self._together("run()", exits, results_of)

    def _launch_next(self) -> None:
        while True:
            with self._lock:
                if not self._runs or len(self._running) >= self._concurrency:
                    return
                task, stops, exit = self._runs.popleft()
                wanted = task.name in self._members and task._slot.life.stops == stops
                if wanted:
                    self._running.add(task.name)
            if wanted:
                self._launch(task, exit)
            else:
                exit.settle(None)

    def _launch(self, task: Task, exit: Reply) -> None:
        try:
            task.start().mark_seen()  # a failed start is an exit too, and an ``error`` event
        except RelieveError as error:  # somebody else has started it meanwhile
            with self._lock:
                self._running.discard(task.name)
            exit.fail(error)
        else:
            task.wait().when_settled(lambda: self._finished(task, exit))

    def _finished(self, task: Task, exit: Reply) -> None:
        with self._lock:
            self._running.discard(task.name)
        exit.settle(task.exit)
        self._launch_next()

    def stop(self, timeout: float | None = None) -> Reply:
        """Run no more tasks, and let the running ones finish and leave. The Reply gives the exit records."""
        check_timeout(timeout)
        with self._lock:
            never, self._runs = list(self._runs), deque()
        for _, _, exit in never:
            exit.settle(None)
        return super().stop(timeout)

    def _enter(self) -> Reply | None:
        return None  # run() starts them


def _checked_concurrency(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"concurrency must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"concurrency must be at least 1, not {value!r}")
    return value
