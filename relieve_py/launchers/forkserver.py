"""The default launcher: children forked from the clean server process, in a millisecond or two."""

from __future__ import annotations

from relieve_py.launchers.base import LaunchSpec, Observer
from relieve_py.launchers.connection import connection


class ForkserverLauncher:
    """Children that start with the child runtime loaded and nothing else of the parent."""

    name = "forkserver"

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        """Have the server fork a child."""
        connection().launch(spec, observer, None)
