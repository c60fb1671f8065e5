"""Pure: when a child that works well is replaced all the same, or let go because it has nothing to do."""

from __future__ import annotations

import random
from collections.abc import Callable

from relieve_py.policies import RecyclePolicy


class Upkeep:
    """What one slot knows of the child it has, as far as its RecyclePolicy goes by it."""

    def __init__(self, policy: RecyclePolicy, random: Callable[[], float] = random.random) -> None:
        self.policy = policy
        self._random = random
        self._calls = 0  # that this child was given
        self._idle_since = 0.0
        self._old_at: float | None = None

    def fresh(self, now: float) -> None:
        """Another child is ready."""
        self._calls = 0
        self._idle_since = now
        age = self.policy.max_age
        self._old_at = None if age is None else now + age * (1 - 0.1 * self._random())

    def given(self) -> None:
        """The child was given a call."""
        self._calls += 1

    def worked(self, now: float) -> None:
        """The child has ended its last call."""
        self._idle_since = now

    def full(self, now: float) -> bool:
        """True when this child should get no more calls."""
        return self._used_up or self._old(now)

    def reason(self, now: float, resident: int | None) -> str | None:
        """Why a child that runs no call should be replaced; ``resident`` is its memory in bytes, if known."""
        if self._used_up:
            return "calls"
        if self._old(now):
            return "age"
        if self.policy.rss is not None and resident is not None and resident > self.policy.rss:
            return "rss"
        return None

    def idle(self, now: float) -> float | None:
        """For how many seconds a child that runs no call has been idle, if that is too long."""
        if self.policy.idle is None or now < self._idle_since + self.policy.idle:  # the sum that next_look tells
            return None
        return now - self._idle_since

    def next_look(self, now: float, working: bool) -> float | None:
        """When to look again whether it is too old or idle; None: time changes nothing."""
        looks = []
        if self._old_at is not None and not (working and self._old(now)):  # else the end of its call is looked at
            looks.append(self._old_at)
        if self.policy.idle is not None:
            looks.append((now if working else self._idle_since) + self.policy.idle)
        return min(looks, default=None)

    @property
    def _used_up(self) -> bool:
        return self.policy.max_calls is not None and self._calls >= self.policy.max_calls

    def _old(self, now: float) -> bool:
        return self._old_at is not None and now >= self._old_at
