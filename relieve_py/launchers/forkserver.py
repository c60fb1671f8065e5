"""The default launcher: children forked from the clean server process, in a millisecond or two."""

from __future__ import annotations

from collections.abc import Callable

from relieve_py.launchers.base import LaunchSpec, Observer
from relieve_py.launchers.connection import connection, warm
from relieve_py.preload import Preload


class ForkserverLauncher:
    """Children that start with the child runtime loaded and nothing else of the parent."""

    name = "forkserver"
    preloads = True

    def warm(self, preload: Preload | None, environment: Callable[[], dict[str, str]]) -> None:
        """Have the server there when it is needed."""
        warm(preload, environment)

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        """Have the server fork a child."""
        connection(spec).launch(spec, observer, None)
