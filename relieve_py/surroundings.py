"""What each child of a task is put into, as its options say: its environment."""

from __future__ import annotations

import os

import attrs

from relieve_py.cpus import thread_limits


@attrs.frozen(kw_only=True)
class Surroundings:
    """The same for all children of one task."""

    env: dict[str, str] = attrs.field(factory=dict)
    """Variables added to the parent's environment."""
    threads: int | None = None
    """Threads that each library may start, unless a variable of the user's says otherwise; None: no limit."""

    def environment(self) -> dict[str, str]:
        """The whole environment of a child that is launched now."""
        return {**thread_limits(self.threads), **os.environ, **self.env}
