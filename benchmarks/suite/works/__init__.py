"""What is measured: each work is a function that gets an adapter and sizes, asserts every result and gives figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from benchmarks.suite.peers import Peer

Sizes = Mapping[str, Any]
Figures = dict[str, "float | None"]
"""By the key of a metric; None stands for what never happened."""


@attrs.frozen(kw_only=True)
class Work:
    """One work, and how large it is."""

    name: str
    run: Callable[[type[Peer], Sizes], Figures]
    full: Sizes
    quick: Sizes
    rounds: int = 100
    """At most so many: a work that takes long, or whose figure does not move, has fewer than the others."""
    together: bool = False
    """True when pieces of it can run side by side: they sleep."""
    seconds: float = 120.0
    """Deadline of one piece, with all that an interpreter needs to start and end."""


def at(series: str, place: float) -> str:
    """The key of one point of a series."""
    return f"{series} @ {place:g}" if place < 1e6 else f"{series} @ {place:.0f}"


def share_of(peer: type[Peer], work: str, count: int) -> int:
    """How many items that peer gets."""
    return max(2, int(count * peer.share.get(work, 1.0)))
