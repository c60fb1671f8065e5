"""Sets the limits that a child has of the system, before anything of the user's is loaded."""

from __future__ import annotations

import resource
import signal

from relieve_py.child.lastwords import LastWords

LAST_SECONDS = 1
"""Seconds of processor time between SIGXCPU, which a program can ignore, and the system's SIGKILL."""


def set_limits(limits: dict[str, int], last_words: LastWords) -> None:
    """Set them for this process and what it starts. A limit that is lower already stays. Raises OSError."""
    for name, value in limits.items():
        kind = getattr(resource, name)
        soft, hard = resource.getrlimit(kind)
        highest = value + LAST_SECONDS if name == "RLIMIT_CPU" else value
        try:
            resource.setrlimit(kind, (_lower(value, soft), _lower(highest, hard)))
        except ValueError as error:
            raise OSError(f"the system does not set the limit {name} to {value}: {error}") from None
        if name == "RLIMIT_CPU":
            last_words.dump_on(signal.SIGXCPU, chain=True)


def _lower(value: int, limit: int) -> int:
    return value if limit == resource.RLIM_INFINITY else min(value, limit)
