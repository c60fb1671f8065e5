"""The open calls of one slot: pure bookkeeping, which the slot locks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from relieve_py.calls import EVENT, Call
from relieve_py.lanes import Lanes

EVENTS_AHEAD = 1000
"""Events that may wait for one child to read them, before whoever sends another has to wait. More: more memory held
for a child that does not read; less: who sends in bursts waits for a child that is only busy."""
EVENT_BYTES_AHEAD = 16 << 20
"""The same in bytes. An event above it goes when all others are below."""


class Unread:
    """How many events a child has yet to read, and how large they are."""

    def __init__(self) -> None:
        self.events = 0
        self.nbytes = 0

    @property
    def full(self) -> bool:
        """True when no more should be sent."""
        return self.events >= EVENTS_AHEAD or self.nbytes >= EVENT_BYTES_AHEAD

    @property
    def slack(self) -> bool:
        """True when who has to wait may go on: not at the first that is read, so that it need not wait at each."""
        return self.events <= EVENTS_AHEAD // 2 and self.nbytes <= EVENT_BYTES_AHEAD // 2

    def count(self, calls: Iterable[Call]) -> None:
        """It is these, and no others."""
        self.events = self.nbytes = 0
        for call in calls:
            self.add(call)

    def add(self, call: Call) -> None:
        """One more, if it is an event."""
        if call.mode is EVENT:
            self.events += 1
            self.nbytes += len(call.payload)

    def remove(self, call: Call) -> None:
        """It was read, or will never be."""
        if call.mode is EVENT:
            self.events -= 1
            self.nbytes -= len(call.payload)


class CallTable:
    """The open calls of one slot: those that wait for a child, and those that are with it."""

    def __init__(self, concurrency: int = 1) -> None:
        self.concurrency = concurrency
        self.waiting = Lanes()
        self.sent: dict[int, Call | None] = {}  # None: abandoned, but the child may still run it
        self.unread = Unread()  # events in waiting and sent
        self.running = 0  # calls in sent; events do not count
        self.finished = 0  # calls that this child has finished
        self._leaving: list[Call] = []  # those that wait no more, and may not count as sent yet
        self._numbers = itertools.count(1)

    @property
    def load(self) -> int:
        """Calls waiting for and running on this slot."""
        return self.running + self.waiting.count

    @property
    def room(self) -> int:
        """How many more calls the child may have at once."""
        return self.concurrency - self.running - self.waiting.count

    def put(self, call: Call) -> None:
        """A new call, behind all of its priority that wait."""
        self.unread.add(call)
        self.waiting.add(call)

    def put_sent(self, call: Call) -> None:
        """A new call or event, which is sent at once."""
        if call.mode is EVENT:
            self.unread.add(call)
        self.begin(call)

    def next(self, busy: bool) -> Call | None:
        """The next call to send, now counted as sent; None when it has to wait."""
        if not self.waiting.count:
            return None
        call = self.waiting.first()
        if call.mode is not EVENT and (self.running >= self.concurrency or busy):
            return None
        self.begin(call)
        self.waiting.pop()  # behind that: see ``mend``
        return call

    def company(self, most: int, fits: Callable[[Call], bool]) -> list[Call]:
        """Up to so many of the calls whose turn it is, which wait no more, as far as they fit in a row. They do not
        count as sent until they, or the bundle of them, ``begin``."""
        found = self.leave([])
        self.waiting.take(most, fits, found)
        return found

    def leave(self, calls: list[Call]) -> list[Call]:
        """The same for calls that need not wait, which are returned."""
        self._leaving = calls
        return calls

    def left(self) -> None:
        """What ``company`` has found counts as sent now, or is over."""
        self._leaving = []

    def begin(self, call: Call) -> None:
        """Count the call as sent, under the next number of this channel."""
        call.number = next(self._numbers)
        self.sent[call.number] = call
        self.running += call.mode is not EVENT

    def abandon(self, call: Call) -> int:
        """Nobody waits for this sent call any more, but it holds its place until the child is done with it.

        Returns its number, or 0 when there is nothing to interrupt: it is not with the child, or it is an event.
        """
        number = call.number
        if not number or self.sent.get(number) is not call or call.mode is EVENT:
            return 0
        self.sent[number] = None
        call.number = 0
        return number

    def finish(self, number: int) -> Call | None:
        """The call with that number, which is over; None when nobody waits for it, or it is over already."""
        if number not in self.sent:
            return None
        call = self.sent[number]
        del self.sent[number]
        if call is not None:
            call.number = 0
            if call.mode is EVENT:
                self.unread.remove(call)
                return call
        self.running -= 1
        self.finished += 1
        return call

    def has(self, call: Call) -> bool:
        """Whether it waits here, or is with the child, by itself or in a bundle."""
        return call.number != 0 or call.within is not None or self.waiting.has(call)

    def mend(self) -> None:
        """A signal handler has raised somewhere in here: what is half done is finished.

        A call that goes is counted as sent before it stops to wait, so that none is in neither place.
        """
        left, self._leaving = self._leaving, []
        for call in left:
            if call.within is not None and not call.within.number:  # in a bundle that was not begun
                call.within = None
        self.waiting.put_back([call for call in left if not self.has(call) and not call.reply.settled()])
        for sent in self.sent.values():
            if sent is not None:
                self.waiting.remove(sent)
        self.running = sum(1 for call in self.sent.values() if call is None or call.mode is not EVENT)
        self.unread.count([*self.waiting, *(call for call in self.sent.values() if call is not None)])

    def drop(self, call: Call) -> bool:
        """Forget a waiting call; False when it is not waiting here."""
        if not self.waiting.remove(call):
            return False
        self.unread.remove(call)
        return True

    def take_waiting(self) -> list[Call]:
        """All that wait, which do so no more."""
        calls = self.waiting.clear()
        for call in calls:
            self.unread.remove(call)
        return calls

    def blames(self, begun: int) -> bool:
        """True when a call had begun that is not over: then that is what died."""
        return any(number <= begun and (call is None or call.mode is not EVENT) for number, call in self.sent.items())

    def lose(self, begun: int) -> tuple[list[Call], list[Call]]:
        """The child is gone: the calls that had begun, and those that never did, each in the order they were sent."""
        sent = [(number, call) for number, call in sorted(self.sent.items()) if call is not None]
        started = [call for number, call in sent if number <= begun or call.mode is EVENT]
        untouched = [call for number, call in sent if number > begun and call.mode is not EVENT]
        self.sent.clear()
        self.running = self.finished = 0
        self._numbers = itertools.count(1)
        for _, call in sent:
            self.unread.remove(call)
            call.number = 0
        return started, untouched

    def requeue(self, calls: list[Call]) -> None:
        """Put calls back before all others of their priority, in that order."""
        for call in calls:
            self.unread.add(call)
        self.waiting.put_back(calls)
