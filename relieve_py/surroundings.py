"""What each child of a task is put into, as its options say: its environment, and what takes its output."""

from __future__ import annotations

import os

import attrs

from relieve_py.cpus import thread_limits
from relieve_py.outlet import Outlet, Tail
from relieve_py.output import INHERIT, Output
from relieve_py.preload import Preload
from relieve_py.supervisor import shared


@attrs.frozen(kw_only=True)
class Surroundings:
    """The same for all children of one task."""

    env: dict[str, str] = attrs.field(factory=dict)
    """Variables added to the parent's environment."""
    threads: int | None = None
    """Threads that each library may start, unless a variable of the user's says otherwise; None: no limit."""
    output: Output = INHERIT
    """Where the output goes."""
    tail: Tail = attrs.field(factory=lambda: Tail(INHERIT.last))
    """Where the last of it is kept."""
    script: str = ""
    """What the script is called, for names of files."""
    preload: Preload | None = None
    """What is imported before they are made; None: nothing."""
    lend: bool = True
    """Whether large parts of messages may lie in memory that it shares, which takes of its address space and files."""

    def environment(self) -> dict[str, str]:
        """The whole environment of a child that is launched now."""
        return {**thread_limits(self.threads), **os.environ, **self.env}

    def outlet(self, task: str) -> Outlet | None:
        """For a child of the task of that name; None when it inherits its streams. Raises OSError."""
        if not self.output.targets:
            return None
        return Outlet(shared(), self.output, self.tail, task, self.script)
