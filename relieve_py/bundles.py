"""A Bundle: short calls that waited in one queue and go to a child together."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from relieve_py.batch import Batch, Conclusion, Deed, Outcomes, Ran
from relieve_py.calls import BUNDLE, DEFAULTS, GET, Call
from relieve_py.outcomes import Sealed, outcomes_of
from relieve_py.serializers import Payload
from relieve_py.supervisor import shared
from relieve_py.tally import BATCH, Tally
from relieve_py.wire import Kind

LATENCY = 0.002
"""Seconds that a bundle is to take. Less: more time lost between bundles; more: a result may come later by so much."""


def may_travel_with_others(call: Call) -> bool:
    """Whether it is a plain question: what has a time limit, gives a stream, or is large travels by itself."""
    payload = call.payload
    return (
        call.mode is GET
        and call.timeout is None
        and not call.feeds
        and not payload.buffers
        and payload.descriptors is None
        and len(payload.data) < LARGE
    )


LARGE = 1 << 14
"""Bytes of a call that travels by itself. More: others wait longer behind what has to be copied."""


class Bundle(Batch):
    """Calls as one. ``settle`` is told how some have ended, without the lock."""

    __slots__ = ("_settle_these", "_tally", "calls")

    def __init__(self, calls: list[Call], settle: Callable[[list[Call], list[Any]], object], tally: Tally) -> None:
        super().__init__(BUNDLE, None, DEFAULTS, len(calls))
        self.calls = calls
        self._settle_these = settle
        self._tally = tally
        self.payload = Payload(pickle.dumps([bytes(call.payload.data) for call in calls], 5))
        self.reply = calls[0].reply_of().successor(self)  # nobody has it
        for call in calls:
            call.within = self

    def place_of(self, call: Call) -> int | None:
        """Where it is; None when it is here no more."""
        for place in range(self.taken, self.limit):
            if self.calls[place] is call:
                return place
        return None

    def deliver(self, outcomes: Outcomes, skip: int) -> Deed:
        """Settle these calls."""
        end = self.taken
        return self._settle(outcomes, skip, end)

    def _settle(self, outcomes: Outcomes, skip: int, end: int) -> Deed:
        found = (outcomes if isinstance(outcomes, list) else outcomes_of(outcomes))[skip:]
        over = self.calls[end - len(found) : end]  # in it until they are settled
        now = shared().now()
        for call, outcome in zip(over, found, strict=True):
            if type(outcome) is not Sealed or outcome.kind == Kind.RESULT:  # errors are counted when they are final
                self._tally.recent.append((call.made_at, call.sent_at, now))
        if len(self._tally.recent) >= BATCH:
            self._tally.fold()

        def settle() -> bool:
            self._settle_these(over, found)
            return True

        return settle

    def _let_go(self, first: int, end: int) -> list[Call]:
        calls = self.calls[first:end]
        for call in calls:
            call.within = None
        return calls

    def release(self, first: int) -> tuple[list[Call], Deed]:
        """The others may go to other children."""
        rest = self._let_go(first, self.limit)
        self.limit = first
        return rest, lambda: True

    def conclude(self, outcomes: Outcomes, skip: int, dead: range, rests: list[range], ran: Ran) -> Conclusion:
        """Settle the last ones."""
        gone = self._let_go(dead.start, dead.stop)
        again = [call for rest in rests for call in self._let_go(rest.start, rest.stop)]
        return Conclusion(gone, again, self._settle(outcomes, skip, self.taken), counted=True)


def calls_of(whole: Call) -> list[Call]:
    """The calls of a bundle that are still in it: also those of which it was taken what they gave, and that were not
    settled then. Or a call by itself."""
    return [call for call in whole.calls if call.within is whole] if isinstance(whole, Bundle) else [whole]
