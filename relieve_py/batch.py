"""Several pieces of work that travel as one call, and are begun, done and lost one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from relieve_py.calls import Call, CallOptions, Mode
from relieve_py.serializers import Payload

Deed = Callable[[], bool]
"""Gives outcomes to who waits for them, without a lock. False when nobody does, who then wants none of the others."""
Outcomes = Payload | list[Any]
"""As they came, or as a dead child has left them."""
Ran = tuple[int, float]
"""How many pieces were run, and how many seconds that took; ``(0, 0.0)`` when nobody knows."""


class Conclusion(NamedTuple):
    """What becomes of a batch that is over."""

    dead: list[Call]
    """The pieces that a death has cost, each as a call."""
    again: list[Call]
    """What has to be sent again."""
    give: Deed
    counted: bool
    """These calls are counted as out by their home, as the batch is not; else they are new."""


class Batch(Call, ABC):
    """One call of many pieces. Everything here is under the lock of the slot that has it."""

    __slots__ = ("count", "limit", "taken")

    def __init__(self, mode: Mode, method: str | None, options: CallOptions, count: int) -> None:
        super().__init__(mode, method, options)
        self.count = count
        self.limit = count  # those from there on are none of its any more
        self.taken = 0  # outcomes that were given to who waits for them

    def left(self) -> int:
        """How many pieces are open."""
        return self.limit - self.taken

    @abstractmethod
    def deliver(self, outcomes: Outcomes, skip: int) -> Deed:
        """Give those behind the first ``skip``, which are counted as taken already; others will follow."""

    @abstractmethod
    def release(self, first: int) -> tuple[list[Call], Deed]:
        """Have it run those before ``first`` only; the others as calls that are to be sent elsewhere."""

    @abstractmethod
    def conclude(self, outcomes: Outcomes, skip: int, dead: range, rests: list[range], ran: Ran) -> Conclusion:
        """Give the last outcomes. ``dead`` have died; ``rests`` never began."""
