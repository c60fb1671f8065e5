"""Pure: when a worker of elastic size takes tasks in, and when it lets some go."""

from __future__ import annotations

import math
from typing import Any

import attrs


def _whole(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"size: {attribute.name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"size: {attribute.name} must be at least 1, not {value!r}")


def _seconds(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"size: {attribute.name} must be a number of seconds, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"size: {attribute.name} must be more than 0 seconds, not {value!r}")


@attrs.frozen
class ElasticSize:
    """How many tasks a worker has: at least ``min``, and up to ``max`` while calls have to wait. Wrong values raise
    TypeError or ValueError."""

    min: int = attrs.field(validator=_whole)
    """Tasks that are always there."""
    max: int = attrs.field(validator=_whole)
    """Tasks that there are at most."""
    grow_after: float = attrs.field(default=0.1, validator=_seconds, kw_only=True)
    """Seconds that a call may wait before tasks are added, at most as many as there are. Less: more tasks for a short
    burst; more: a burst waits longer."""
    shrink_after: float = attrs.field(default=30.0, validator=_seconds, kw_only=True)
    """Seconds during which not all tasks were needed at once, before those that are too many are let go. Less: more
    starts of children; more: idle children are kept longer."""

    @max.validator
    def _in_order(self, attribute: attrs.Attribute[Any], value: int) -> None:
        if value < self.min:
            raise ValueError(f"size: max must be at least min, which is {self.min}, not {value!r}")


def size_of(size: Any) -> ElasticSize:
    """What a user gave as ``size``: a number, a pair, or an ElasticSize. Raises TypeError or ValueError."""
    if isinstance(size, ElasticSize):
        return size
    if isinstance(size, tuple):
        if len(size) != 2:
            raise ValueError(f"size must be a number, (min, max) or ElasticSize(...), not {size!r}")
        return ElasticSize(*size)
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size must be a whole number, (min, max) or ElasticSize(...), not {size!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size!r}")
    return ElasticSize(size, size)


class Elasticity:
    """What one worker knows of how many tasks it needs. Not locked: its dispatcher does that."""

    def __init__(self, size: ElasticSize) -> None:
        self.size = size
        self._grown_at = -math.inf
        self._peak = 0  # calls that were with tasks at once, in this period
        self._waited = False  # a call had to wait, in this period
        self._period_ends: float | None = None

    def waits(self) -> None:
        """A call has to wait."""
        self._waited = True

    def out(self, calls: int) -> None:
        """So many calls are with tasks."""
        if calls > self._peak:
            self._peak = calls

    def grow(self, now: float, made_at: float, queued: int, tasks: int, coming: int) -> tuple[int, float | None]:
        """How many tasks to add, and when to look again; None: there is no more to add.

        ``made_at``: since when the next of the ``queued`` calls waits; ``coming``: how many of the tasks are not ready.
        """
        if tasks >= self.size.max:
            return 0, None
        due = max(made_at, self._grown_at) + self.size.grow_after
        if now < due:
            return 0, due
        more = max(0, min(queued - coming, tasks, self.size.max - tasks))
        self._grown_at = now  # or has looked for it: the pace is the same
        return more, now + self.size.grow_after

    def shrink(self, now: float, tasks: int, width: int, out: int) -> tuple[int, float | None]:
        """How many tasks are too many, and when to look again; None: there are none to let go.

        ``width``: calls that one task runs at once; ``out``: calls that are with tasks now.
        """
        if tasks <= self.size.min:
            self._period_ends = None
            return 0, None
        if self._period_ends is None:
            self._begin_period(now, out)
        assert self._period_ends is not None
        if now < self._period_ends:
            return 0, self._period_ends
        needed = tasks if self._waited else math.ceil(self._peak / width)
        less = tasks - max(self.size.min, needed)
        self._begin_period(now, out)
        return less, self._period_ends if tasks - less > self.size.min else None

    def _begin_period(self, now: float, out: int) -> None:
        self._peak, self._waited = out, False
        self._period_ends = now + self.size.shrink_after
