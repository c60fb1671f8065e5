"""How a child ended, and what it left: its last words, and what is known of why."""

from __future__ import annotations

import itertools
import os
import re

import attrs

SHOWN_LINES = 10
"""Lines of its output that the traceback of an error shows; the whole of what was kept is an attribute of the error."""
SHOWN_STACK = 20
"""Lines of a stack that it shows."""
_THREAD = re.compile(r"(Current thread|Thread) 0x")
_PACKAGE = (os.path.dirname(os.path.abspath(__file__)) + os.sep).encode("ascii", "backslashreplace").decode()
"""Its path, as faulthandler writes it."""


@attrs.frozen(kw_only=True)
class Remains:
    """What is known of a dead child beside its status."""

    stdout: tuple[str, ...] = attrs.field(default=(), repr=False)
    """The last lines, at most 50, of its standard output, unless that is inherited or shares a file with the other."""
    stderr: tuple[str, ...] = attrs.field(default=(), repr=False)
    """The last lines, at most 50, that its Python code wrote to ``sys.stderr``; or, by the option ``output``, that
    anything wrote to its standard error."""
    stacks: str | None = attrs.field(default=None, repr=False)
    """The stacks of its threads, as ``faulthandler`` writes them, when it crashed or was asked for them before it was
    killed."""
    out_of_memory: bool = attrs.field(default=False, repr=False)
    """True when the kernel's out-of-memory killer ended it."""
    limit: str | None = attrs.field(default=None, repr=False)
    """The one of its ``Limits`` for which it was killed: ``"rss"`` or ``"cpu_seconds"``."""
    allowed: float | None = attrs.field(default=None, repr=False)
    """What that limit was, in bytes or seconds."""

    def notes(self) -> list[str]:
        """What the traceback of an error shows of the child's last words."""
        shown = []
        for stream, kept in (("stdout", self.stdout), ("stderr", self.stderr)):
            if kept:
                last = "\n".join(f"  {line}" for line in kept[-SHOWN_LINES:])
                shown.append(f"The last that the child wrote to {stream}:\n{last}")
        if self.stacks:
            lines = tuple(current_stack(self.stacks))[:SHOWN_STACK]
            shown.append("Where the child was:\n" + "\n".join(f"  {line}" for line in lines))
        return shown


@attrs.frozen(kw_only=True)
class Exit(Remains):
    """``exit``: a child has ended and was reaped."""

    task: str
    pid: int | None
    """None when the child never came to be."""
    code: int | None
    """The exit code; None when a signal ended it, or nobody knows."""
    signal: str | None
    """The signal's name, such as ``SIGKILL``; None when it exited."""
    forced: bool
    """True when this library ended it by a signal, because it did not react in time or could not be understood."""
    uptime: float
    """Seconds from launch to exit."""
    reason: str | None = None
    """Why this library ended it, in words; None when it did not."""

    @property
    def ok(self) -> bool:
        """True when it exited with code 0."""
        return self.code == 0

    def describe(self) -> str:
        """How it ended, in words."""
        if self.signal is None:
            return "exit code unknown" if self.code is None else f"exit code {self.code}"
        why = self.reason
        if why is None and self.limit is not None:
            why = f"it used more than its limit {self.limit}={self.allowed:g} allows"
        if why is None and self.out_of_memory:
            why = "the kernel's out-of-memory killer ended it"
        return f"killed by {self.signal}" + (f" ({why})" if why else "")


NOTHING = Remains()


def current_stack(stacks: str) -> list[str]:
    """The lines of the last stack that was asked for, or that crashed: of the thread that did, or else the main thread,
    down to where this library called it."""
    lines = stacks.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith("Current thread ")]
    if not begins:
        return lines
    stack = list(itertools.takewhile(bool, lines[begins[-1] :]))
    if all(_PACKAGE in line for line in stack[1:]):  # this library wrote it, in a thread of its own
        main = max(number for number, line in enumerate(lines) if _THREAD.match(line))  # faulthandler's last
        stack = list(itertools.takewhile(bool, lines[main:]))
    theirs = next((number for number, line in enumerate(stack) if number > 0 and _PACKAGE not in line), len(stack))
    ours = next((number for number, line in enumerate(stack) if number > theirs and _PACKAGE in line), len(stack))
    return stack[:ours]
