"""Pure: how many short pieces of work are worth being sent together, by what the last ones took."""

from __future__ import annotations

MOST = 1 << 14
"""Pieces that may travel together. More: more memory, and nothing gained."""
MOST_BYTES = 1 << 20
"""Bytes of several that travel together, as far as those before tell."""
GROWTH = 8
"""How many times as many may be sent next: the time of a few says little of that of the others."""


class Rate:
    """``aim``: seconds that those that travel together are to take."""

    def __init__(self, aim: float) -> None:
        self.size = 1
        """How many to send together next."""
        self._aim = aim
        self._seconds: float | None = None  # of one

    def ran(self, count: int, seconds: float, nbytes: float = 0.0) -> None:
        """So many have run in a row, for so long altogether; one has so many bytes."""
        latest = seconds / count
        self._seconds = latest if self._seconds is None else (self._seconds + latest) / 2
        fits = min(self._aim / max(self._seconds, 1e-9), MOST, MOST_BYTES / max(nbytes, 1.0))
        self.size = max(1, min(int(fits), max(self.size, count) * GROWTH))

    def reset(self) -> None:
        """What was sent last could not travel together."""
        self.size = 1
