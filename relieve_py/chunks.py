"""A Chunk: items of one ``map`` that travel together as one call, so that small ones cost little each."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from relieve_py.answers import Encoded
from relieve_py.batch import Batch, Conclusion, Deed, Outcomes, Ran
from relieve_py.calls import Call, CallOptions, Mode, take_ids
from relieve_py.errors import DecodeError
from relieve_py.interruptions import raised_by_handler
from relieve_py.itemwise import Refused
from relieve_py.outcomes import ATOMS, PLAIN, Sealed, head_of, outcomes_of
from relieve_py.rate import Rate
from relieve_py.replies import Reply
from relieve_py.serializers import Payload, Serializer
from relieve_py.supervisor import shared
from relieve_py.wire import Kind

AIM = 0.01
"""Seconds that a chunk is to take. Less: more time lost between chunks; more: results come in larger lumps, and the
last chunks of a map leave other tasks idle for longer."""
LAST = 16
"""What part of that a chunk takes at least, however few items are left. More: the last chunks end closer together;
less: there are fewer of them, and each costs a message."""


class Pace:
    """Pure: how many items the next chunk of a map is to have."""

    def __init__(self, left: int | None, width: Callable[[], int]) -> None:
        self._left = left  # items that are still to come; None: nobody knows
        self._width = width
        self._rate = Rate(AIM)
        self._nbytes = 0.0  # of one item

    def next_size(self, read: int) -> int:
        """For the next chunk, when the reader has read so many results."""
        shares = 2 * max(1, self._width())
        if self._left is None:  # a source without length may have no end
            share = read // 4 // shares
        else:
            share = min(self._left, max(self._left // shares, self._rate.size // LAST))
        return max(1, min(self._rate.size, share))

    def sent(self, items: int, nbytes: int | None = None) -> None:
        """A chunk was sent, of so many bytes; None: its items travel by themselves."""
        if nbytes is None:
            self._rate.reset()
        else:
            self._nbytes = nbytes / items
        if self._left is not None:
            self._left = max(0, self._left - items)

    def ran(self, items: int, seconds: float) -> None:
        """A chunk has ended, after so long."""
        self._rate.ran(items, seconds, self._nbytes)


class TooLarge(Exception):
    """Raised for an item that has to travel by itself: it has buffers, descriptors or streams."""


class Chunk(Batch):
    """One call of many items of a map. Its Reply gives a Part."""

    __slots__ = ("_are_sealed", "_items", "_options", "_ungiven", "serializer")

    def __init__(self, method: str | None, options: CallOptions, items: list[Any], id: int | None = None) -> None:
        super().__init__(Mode.CHUNK, method, options, len(items))
        self.id = take_ids(len(items)) if id is None else id
        self.serializer: Serializer
        self._items = items  # once encoded: atoms, and pickles of all others in tuples
        self._are_sealed = False  # some of them
        self._options = options
        self._ungiven: list[tuple[Reply, Part]] = []  # what the reader is to have, as it is given

    def encode(self, serializer: Serializer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the items, each encoded by itself. Raises TooLarge, EncodeError, and what encoding an item raises: they
        are to be tried one by one then."""
        self.serializer = serializer
        if not ATOMS.issuperset(map(type, self._items)):
            self._items = [item if type(item) in ATOMS else _sealed(serializer, item) for item in self._items]
            self._are_sealed = True
        self._pack()

    def _pack(self) -> None:
        self.payload = Payload(pickle.dumps((self.method, self.id, self.created_at, self._items, self._are_sealed), 5))
        self.payload.check()

    def _cut(self, first: int, end: int) -> Chunk:
        """These of its items as a chunk of their own, with a Reply. No code of the user runs in here."""
        cut = Chunk(self.method, self._options, self._items[first:end], self.id + first)
        cut.created_at, cut.made_at, cut.home = self.created_at, self.made_at, self.home
        cut.serializer, cut._are_sealed = self.serializer, self._are_sealed
        cut._pack()
        cut.reply = self.reply_of().successor(cut)
        return cut

    def deliver(self, outcomes: Outcomes, skip: int) -> Deed:
        """Give the reader a part, and a Reply for what is left."""
        part = Part(self, outcomes, skip)
        old = self._go_on(part)
        return lambda: self._give_on(old, part)

    def _go_on(self, part: Part) -> Reply:
        old = self.reply_of()
        self.reply = old.successor(self)
        part.followers.insert(0, (self.reply, self.left()))
        self._ungiven.append((old, part))
        return old

    def _give_on(self, reply: Reply, part: Part) -> bool:
        wanted = _give(reply, part)
        self._ungiven.remove((reply, part))  # behind that: what a signal handler has interrupted is seen
        return wanted

    def _give_last(self, reply: Reply, part: Part) -> bool:
        """Also what a signal handler has kept from being given; or another thread is about to give, which is the
        same."""
        for earlier, what in list(self._ungiven):
            _give(earlier, what)
            if shared().here:  # where no other gives any more
                earlier.tell()
        return _give(reply, part)

    def release(self, first: int) -> tuple[list[Call], Deed]:
        """Give the reader a Reply for what is left, and one for those that go elsewhere."""
        rest, part = self._cut(first, self.limit), Part(self, [])
        self.limit = first
        old = self._go_on(part)
        part.followers.append((rest.reply_of(), rest.left()))
        return [rest], lambda: self._give_on(old, part)

    def conclude(self, outcomes: Outcomes, skip: int, dead: range, rests: list[range], ran: Ran) -> Conclusion:
        """Give the reader the last part, with a Reply for each item that has to be seen to elsewhere."""
        part, reply = Part(self, outcomes, skip), self.reply_of()
        part.ran = ran
        gone = [self._cut(place, place + 1) for place in dead]
        for item in gone:
            item.causes, item.deaths = self.causes, self.deaths
        again = [self._cut(rest.start, rest.stop) for rest in rests if rest]
        part.followers += [(cut.reply_of(), cut.left()) for cut in (*gone, *again)]
        return Conclusion([*gone], [*again], lambda: self._give_last(reply, part), counted=False)


def _sealed(serializer: Serializer, item: Any) -> tuple[bytes]:
    payload = serializer.encode(item)
    if payload.buffers or payload.descriptors is not None:
        raise TooLarge
    return (bytes(payload.data),)


class Part:
    """What the Reply of a chunk gives: outcomes of its first items, and the Replies of the others."""

    def __init__(self, chunk: Chunk, outcomes: Payload | list[Any], skip: int = 0) -> None:
        self.followers: list[tuple[Reply, int]] = []
        """In the order of the items: Replies of chunks, which give Parts, and how many items each stands for."""
        self.ran: Ran = 0, 0.0
        """How many items the chunk ran, and for how long, once it has ended."""
        self._serializer = chunk.serializer
        self._title = chunk.title
        self._outcomes = outcomes
        self._skip = skip

    @property
    def is_plain(self) -> bool:
        """Whether all outcomes are known to be values that need no further look."""
        return not isinstance(self._outcomes, list) and head_of(self._outcomes).form == PLAIN

    def open(self) -> list[Any]:
        """The outcomes: values, and Refused for those that failed. Code of the user may run in here. Raises DecodeError
        when nothing of it can be understood."""
        try:
            found = self._outcomes if isinstance(self._outcomes, list) else outcomes_of(self._outcomes)
        except Exception as error:
            if raised_by_handler(error):
                raise
            raise DecodeError(f"results of {self._title} cannot be understood: {error}") from error
        if self._skip:
            found = found[self._skip :]
        if not self.is_plain:
            found = [self._unsealed(outcome) for outcome in found]
        return found

    def _unsealed(self, outcome: Any) -> Any:
        if type(outcome) is Sealed:
            payload, is_error = Payload(outcome.data, outcome.buffers), outcome.kind == Kind.ERROR
        elif type(outcome) is Payload:
            payload, is_error = outcome, False
        else:
            return outcome
        value, error = Encoded(self._serializer, payload, f"the result of {self._title}", is_error).open()
        return value if error is None else Refused(error)


def _give(reply: Reply, part: Part) -> bool:
    """Give the reader a part; False when nobody reads any more, who then wants none of the others."""
    if reply.settle(part) or reply.as_it_came() is part:
        return True
    for follower, _ in part.followers:
        follower.mark_seen()
        follower.cancel()
    return False
