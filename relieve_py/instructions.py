"""What the lifecycle of a slot has others do: the slot carries these out, in their order."""

from __future__ import annotations

from typing import Any

import attrs

from relieve_py.errors import RelieveError
from relieve_py.exits import Exit


@attrs.frozen
class Launch:
    """Launch a child for that generation."""

    generation: int


@attrs.frozen
class AskStop:
    """Send the child a STOP frame."""


@attrs.frozen
class Kill:
    """Signal the child of that generation."""

    generation: int
    signum: int


@attrs.frozen
class DumpStacks:
    """Have the child of that generation write down where each of its threads is."""

    generation: int


@attrs.frozen
class Ping:
    """Ask the child whether it is alive."""


@attrs.frozen
class Arm:
    """Call ``timer(name, generation, now)`` at that time; replaces the timer of that name."""

    name: str
    at: float
    generation: int


@attrs.frozen
class Disarm:
    """Forget the timer of that name."""

    name: str


@attrs.frozen
class Emit:
    """Tell the listeners."""

    name: str
    record: Any


@attrs.frozen
class Judge:
    """The child is gone: decide what becomes of the calls it had."""

    exit: Exit


@attrs.frozen
class Refuse:
    """Fail every queued call, and whoever waits for the start, with this error."""

    error: RelieveError


@attrs.frozen
class Settle:
    """Whoever waits for ``"start"`` or ``"stop"`` is answered."""

    what: str
    error: RelieveError | None = None


Instruction = Launch | AskStop | Kill | DumpStacks | Ping | Arm | Disarm | Emit | Judge | Refuse | Settle
