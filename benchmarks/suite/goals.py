"""What this library wants to reach, and whether a run says that it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from benchmarks.suite.figures import OURS, RAW, best_peer, medians, times_worse

EXECUTORS = ("executor fork", "executor forkserver", "executor spawn")


@attrs.frozen(kw_only=True)
class Goal:
    """One of them: a figure that is at most ``limit``, or at most ``limit`` times worse than that of another."""

    key: str
    text: str
    limit: float
    than: tuple[str, ...] = ()
    """Of several the best one; none for a limit in the figure's unit."""
    who: str = OURS
    """In which form this library has to reach it."""


@attrs.frozen(kw_only=True)
class Verdict:
    """What a run says of a goal."""

    goal: Goal
    value: float
    """The median of this library."""
    beside: float | None
    """The median of who it is compared with."""
    reached: float
    """What stands against the limit of the goal."""

    @property
    def holds(self) -> bool:
        """True when it is reached."""
        return self.reached <= self.goal.limit

    @property
    def missed_by(self) -> float | None:
        """How many times the limit it is; None where the limit is 0."""
        return self.reached / self.goal.limit if self.goal.limit else None


GOALS = (
    Goal(key="trip", text="at most 1.6 x raw", than=(RAW,), limit=1.6),
    Goal(key="trip on two", text="at most 1.6 x raw", than=(RAW,), limit=1.6),
    Goal(key="submits", text="20 x ProcessPoolExecutor", than=EXECUTORS, limit=1 / 20),
    Goal(key="submits", text="4 x execnet", than=("execnet",), limit=1 / 4),
    Goal(key="map", text="at least mp.Pool tuned by hand", than=("mp.Pool by hand",), limit=1.0),
    Goal(key="echo 64 KiB", text="at most 2 x raw", than=(RAW,), limit=2.0),
    Goal(key="echo 1 MiB", text="at most 2 x raw", than=(RAW,), limit=2.0),
    Goal(key="echo 64 MiB", text="at most 1.2 x raw", than=(RAW,), limit=1.2),
    Goal(key="echo array", text="at most 1.5 x raw", than=(RAW,), limit=1.5),
    Goal(key="start 1", text="5 ms", limit=5.0),
    Goal(key="start 8", text="25 ms", limit=25.0),
    Goal(key="kill", text="5 ms", limit=5.0),
    Goal(key="kill", text="5 ms, with `spares=1`", limit=5.0, who="relieve spares"),
    Goal(key="memory of a child", text="4 MB", limit=4.0),
    Goal(key="wake-ups", text="none", limit=0.0),
)


def verdicts(figures: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Of each goal that the run can judge."""
    found = (verdict(goal, figures.get(goal.key, {})) for goal in GOALS)
    return [one for one in found if one is not None]


def verdict(goal: Goal, cells: Mapping[str, Any]) -> Verdict | None:
    """None when who is judged, or who it is compared with, was not measured."""
    values = medians(cells)
    if goal.who not in values:
        return None
    value = values[goal.who]
    if not goal.than:
        return Verdict(goal=goal, value=value, beside=None, reached=value)
    other = RAW if goal.than == (RAW,) else best_peer(goal.key, cells, among=goal.than)
    reached = times_worse(goal.key, value, values[other]) if other in values else None
    if other is None or reached is None:
        return None
    return Verdict(goal=goal, value=value, beside=values[other], reached=reached)


def lost(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, float]]:
    """Where a peer wins: key, the best peer, and how many times better it is; the clearest first.

    Of a series only the point at which it wins by most.
    """
    found: list[tuple[str, str, float]] = []
    for key, cells in figures.items():
        values, best = medians(cells), best_peer(key, cells)
        if OURS in values and best is not None:
            worse = times_worse(key, values[OURS], values[best])
            if worse is not None and worse > 1:
                found.append((key, best, worse))
    found.sort(key=lambda one: -one[2])
    first = {one[0].partition(" @ ")[0]: one for one in reversed(found)}
    return [one for one in found if first[one[0].partition(" @ ")[0]] is one]
