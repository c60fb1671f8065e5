"""Pure: when a child that works well is replaced all the same, or let go; also because it asks for it."""

from __future__ import annotations

import random
from collections.abc import Callable

from relieve_py.policies import UNCHANGED, RecyclePolicy


class Upkeep:
    """What one slot knows of the child it has, as far as its RecyclePolicy goes by it, and what that child asked for.

    ``busy_timeout``: seconds that the child may ask for no calls; None: for ever.
    """

    def __init__(
        self,
        policy: RecyclePolicy,
        random: Callable[[], float] = random.random,
        busy_timeout: float | None = None,
    ) -> None:
        self.policy = policy
        self.busy_timeout = busy_timeout
        self.on = policy != UNCHANGED  # there is something to look after, beside what the child asks for
        self.busy = False  # the child asked for no calls
        self._busy_until: float | None = None
        self._wish: str | None = None
        self._random = random
        self._calls = 0  # that this child was given
        self._idle_since = 0.0
        self._old_at: float | None = None

    def fresh(self, now: float, waited: float = 0.0) -> None:
        """Another child is ready, and has been so for as many seconds as it ``waited`` for its turn."""
        self._calls = 0
        self._idle_since = now
        age = self.policy.max_age
        self._old_at = None if age is None else now - waited + age * (1 - 0.1 * self._random())

    def gone(self) -> None:
        """The child is dead, and with it what it asked for."""
        self.on = self.policy != UNCHANGED
        self.busy, self._busy_until, self._wish = False, None, None

    def asked(self, what: str, now: float) -> None:
        """The child asks for no more calls (``"busy"``), calls again (``"ready"``), another in its place (``"drain"``),
        or its end (``"end"``)."""
        if what in ("drain", "end"):
            self._wish = "end" if "end" in (what, self._wish) else what
        elif what == "busy" and not self.busy and self.busy_timeout is not None:
            self._busy_until = now + self.busy_timeout
        elif what == "ready":
            self._busy_until = None
        self.busy = what == "busy" or (self.busy and what != "ready")
        self.on = self.on or what != "ready"

    @property
    def wishes(self) -> bool:
        """True when the child wants to go."""
        return self._wish is not None

    def given(self) -> None:
        """The child was given a call."""
        self._calls += 1

    def worked(self, now: float) -> None:
        """The child has ended its last call."""
        self._idle_since = now

    def full(self, now: float) -> bool:
        """True when this child should get no more calls."""
        return self._wish is not None or self._used_up or self._old(now)

    def reason(self, now: float, resident: int | None) -> str | None:
        """Why a child that runs no call should be replaced, or, for ``"end"``, stopped; ``resident`` is its memory in
        bytes, if known."""
        if self._wish is not None:
            return self._wish
        if self._busy_until is not None and now >= self._busy_until:
            return "busy"
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

    def next_look(self, now: float, working: bool, wanted: bool = False) -> float | None:
        """When to look again whether it is too old, idle or busy for too long; None: time changes nothing. ``wanted``:
        calls wait for it, so that it is not let go."""
        looks = []
        if self._old_at is not None and not (working and self._old(now)):  # else the end of its call is looked at
            looks.append(self._old_at)
        if self.policy.idle is not None:
            looks.append((now if working or wanted else self._idle_since) + self.policy.idle)
        if self._busy_until is not None and not (working and now >= self._busy_until):
            looks.append(self._busy_until)
        return min(looks, default=None)

    @property
    def _used_up(self) -> bool:
        return self.policy.max_calls is not None and self._calls >= self.policy.max_calls

    def _old(self, now: float) -> bool:
        return self._old_at is not None and now >= self._old_at
