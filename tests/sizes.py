"""How much of the large cases runs: what proves the same in a moment, or, with RELIEVE_FULL set, all of it."""

from __future__ import annotations

import os

FULL = bool(os.environ.get("RELIEVE_FULL"))


def size(quick: int, full: int) -> int:
    """How many times, how many calls, ..."""
    return full if FULL else quick
