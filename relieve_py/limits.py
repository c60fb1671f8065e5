"""What a child may use at most, and how it is told that it used more."""

from __future__ import annotations

import math
from typing import Any

import attrs

FEWEST_FILES = 16
"""Open files that a child needs for itself: its streams, its channel, and what it reads its script from."""


def _positive(number: str) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None:
            return
        kinds = (int, float) if attribute.name == "cpu_seconds" else int
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise TypeError(f"{attribute.name} must be {number} or None, not {value!r}")
        if not 0 < value < 2**63:
            raise ValueError(f"{attribute.name} must be {number} above 0, not {value!r}")

    return check


@attrs.frozen
class Limits:
    """What one child may use at most; None is no limit. Each child of a task starts anew.

    A child that has more memory than ``rss`` while it works, or uses up its ``cpu_seconds``, is killed, and the call
    that it ran fails with ``LimitExceeded``. At the other two limits the system refuses what is asked for: the child's
    code gets a MemoryError or an OSError (EMFILE), and goes on.
    """

    rss: int | None = attrs.field(default=None, validator=_positive("a number of bytes"))
    """Bytes of resident memory. It is looked at several times a second while the child starts, runs its program or
    a call, so a child can have more for a moment; ``address_space`` cannot be exceeded even for that long."""
    cpu_seconds: float | None = attrs.field(default=None, validator=_positive("a number of seconds"))
    """Seconds of processor time, of all threads and all calls together, rounded up to whole ones."""
    open_files: int | None = attrs.field(default=None, validator=_positive("a number of files"))
    """Open descriptors, at least 16."""
    address_space: int | None = attrs.field(default=None, validator=_positive("a number of bytes"))
    """Bytes of virtual memory: code, libraries and what is only mapped count, too. Not enforced by macOS."""

    @open_files.validator
    def _enough(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and value < FEWEST_FILES:
            raise ValueError(f"open_files must be at least {FEWEST_FILES}, not {value!r}: a child needs some itself")

    @property
    def of_the_system(self) -> dict[str, int]:
        """Those that the child sets for itself: names of ``resource`` and their values."""
        asked = {
            "RLIMIT_CPU": None if self.cpu_seconds is None else math.ceil(self.cpu_seconds),
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_AS": self.address_space,
        }
        return {name: value for name, value in asked.items() if value is not None}


NO_LIMITS = Limits()
