"""The open calls of one slot: pure bookkeeping, which the slot locks."""

from __future__ import annotations

import itertools
from collections import deque

from relieve_py.calls import Call, Mode


class CallTable:
    """The open calls of one slot: those that wait for a child, and those that are with it."""

    def __init__(self, concurrency: int = 1) -> None:
        self.concurrency = concurrency
        self.waiting: deque[Call] = deque()
        self.sent: dict[int, Call | None] = {}  # None: abandoned, but the child may still run it
        self.running = 0  # calls in sent; events do not count
        self.finished = 0  # calls that this child has finished
        self._numbers = itertools.count(1)

    @property
    def load(self) -> int:
        """Calls waiting for and running on this slot."""
        return self.running + len(self.waiting)

    @property
    def room(self) -> int:
        """How many more calls the child may have at once."""
        return self.concurrency - self.load

    def next(self, busy: bool) -> Call | None:
        """The next call to send, now counted as sent; None when it has to wait."""
        if not self.waiting:
            return None
        call = self.waiting[0]
        if call.mode is not Mode.EVENT and (self.running >= self.concurrency or busy):
            return None
        self.waiting.popleft()
        self.begin(call)
        return call

    def begin(self, call: Call) -> None:
        """Count the call as sent, under the next number of this channel."""
        call.number = next(self._numbers)
        self.sent[call.number] = call
        self.running += call.mode is not Mode.EVENT

    def abandon(self, call: Call) -> int:
        """Nobody waits for this sent call any more, but it holds its place until the child is done with it.

        Returns its number, or 0 when there is nothing to interrupt: it is not with the child, or it is an event.
        """
        number = call.number
        if not number or self.sent.get(number) is not call or call.mode is Mode.EVENT:
            return 0
        self.sent[number] = None
        call.number = 0
        return number

    def finish(self, number: int) -> Call | None:
        """The call with that number, which is over; None when nobody waits for it, or it is over already."""
        if number not in self.sent:
            return None
        call = self.sent.pop(number)
        if call is None or call.mode is not Mode.EVENT:
            self.running -= 1
            self.finished += 1
        if call is not None:
            call.number = 0
        return call

    def drop(self, call: Call) -> bool:
        """Forget a waiting call; False when it is not waiting here."""
        try:
            self.waiting.remove(call)
        except ValueError:
            return False
        return True

    def blames(self, begun: int) -> bool:
        """True when a call had begun that is not over: then that is what died."""
        return any(
            number <= begun and (call is None or call.mode is not Mode.EVENT) for number, call in self.sent.items()
        )

    def lose(self, begun: int) -> tuple[list[Call], list[Call]]:
        """The child is gone: the calls that had begun, and those that never did, each in the order they were sent."""
        sent = [(number, call) for number, call in sorted(self.sent.items()) if call is not None]
        started = [call for number, call in sent if number <= begun or call.mode is Mode.EVENT]
        untouched = [call for number, call in sent if number > begun and call.mode is not Mode.EVENT]
        self.sent.clear()
        self.running = self.finished = 0
        self._numbers = itertools.count(1)
        for _, call in sent:
            call.number = 0
        return started, untouched

    def requeue(self, calls: list[Call]) -> None:
        """Put calls back to the front, in that order."""
        self.waiting.extendleft(reversed(calls))
