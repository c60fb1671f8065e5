"""The launcher of fresh interpreters: slower to start, and nothing is shared with any other process."""

from __future__ import annotations

from collections.abc import Callable

from relieve_py.launchers.base import LaunchSpec, Observer
from relieve_py.launchers.connection import connection, warm
from relieve_py.launchers.interpreter import python_command
from relieve_py.preload import Preload


class SpawnLauncher:
    """Children exec'ed from nothing, with this interpreter's flags. The server process is their parent too."""

    name = "spawn"

    def warm(self, preload: Preload | None, environment: Callable[[], dict[str, str]]) -> None:
        """Have the server there when it is needed."""
        warm(preload, environment)

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        """Have the server exec a child."""
        connection().launch(spec, observer, python_command("relieve_py.child.runtime"))
