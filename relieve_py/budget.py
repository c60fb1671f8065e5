"""Counts the deaths of one task's children against its RestartPolicy. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque

from relieve_py.exits import Exit
from relieve_py.policies import RestartPolicy

HEALTHY_UPTIME = 10.0
"""Seconds after which a child counts as healthy, so that the next restart is not a step of a crash loop."""
KILLED_STARTS = 2
"""Children that a signal may end before the first was ready, and another is tried. More: a script that kills itself
fails later; less: the system, which may kill what it likes, fails a task for good."""


class RestartBudget:
    """What is left of it, from one ``start()`` to the next."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.start_anew()

    def start_anew(self) -> None:
        """The user starts the task: what was does not count."""
        self._deaths: deque[float] = deque()  # those that count, within the window
        self._in_a_row = 0
        self._killed_starts = 0

    def may_start_again(self) -> bool:
        """A signal ended a child before the first was ready: True when another may be tried."""
        self._killed_starts += 1
        return self._killed_starts <= KILLED_STARTS

    def count(self, exit: Exit, now: float, blamed: bool, worked: bool) -> None:
        """A child is to be followed by another. ``blamed``: a call was running, which then is what died; ``worked``: it
        had finished one before."""
        if blamed or worked or exit.uptime >= HEALTHY_UPTIME:
            self._in_a_row = 0
        if not blamed:
            self._in_a_row += 1
            if not exit.ok:
                self._deaths.append(now)
        while self._deaths and self._deaths[0] < now - self._policy.within:
            self._deaths.popleft()

    def count_spare(self, now: float) -> None:
        """A child has ended that was to follow another."""
        self._in_a_row += 1
        self._deaths.append(now)
        while self._deaths[0] < now - self._policy.within:
            self._deaths.popleft()

    def spent(self) -> str | None:
        """Why no other child may follow; None when one may."""
        if len(self._deaths) <= self._policy.max_restarts:
            return None
        times = "once" if len(self._deaths) == 1 else f"{len(self._deaths)} times"
        return (
            f"died {times} within {self._policy.within:g} seconds, which is more than its "
            f"RestartPolicy allows (max_restarts={self._policy.max_restarts})"
        )

    def delay(self, blamed: bool, jitter: float) -> float:
        """Seconds until the next child; ``jitter`` is in [0, 1)."""
        return self._policy.delay_before(1 if blamed else self._in_a_row, jitter)
