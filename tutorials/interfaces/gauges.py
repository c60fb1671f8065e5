"""Two interfaces: objects that are attached to a task in the parent, and follow it through all its children."""

import json
from pathlib import Path
from typing import Any

from relieve_py import Event, Exit, Task, current_event


class Journal:
    """Writes the life of every task that it is attached to into one file, a line of JSON for each step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def attach(self, task: Task) -> None:
        """Called once for each task, when that is made."""
        for name in ("start", "ready", "restart", "exit"):
            task.on(name, self._write)

    def _write(self, record: Any) -> None:
        event: Event = current_event()
        line = {"task": event.source.name, "event": event.name}
        if isinstance(record, Exit):
            line["how"] = record.describe()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class FuelGauge:
    """Counts what the child burns, and stops the task when the tank is empty."""

    def __init__(self, litres: int) -> None:
        self.litres = litres

    def attach(self, task: Task) -> None:
        """A gauge has a tank of its own: it serves one task."""
        self.task = task
        task.on("burnt", self._burnt)

    def _burnt(self, litres: int) -> None:
        self.litres -= litres
        if self.litres <= 0:
            self.task.stop()
