"""A Chunk: items of one ``map`` that travel together as one call, so that small ones cost little each."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from relieve_py.answers import Encoded
from relieve_py.calls import Call, CallOptions, Mode, take_ids
from relieve_py.errors import DecodeError
from relieve_py.itemwise import Refused
from relieve_py.outcomes import ATOMS, Sealed, outcomes_of
from relieve_py.replies import Reply
from relieve_py.serializers import Payload, Serializer

AIM = 0.01
"""Seconds that a chunk is to take. Less: more time lost between chunks; more: results come in larger lumps, and the
last chunks of a map leave other tasks idle for longer."""
MOST_ITEMS = 1 << 14
"""Items of one chunk. More: more memory, and nothing gained."""
MOST_BYTES = 1 << 20
"""Bytes of one chunk that is larger than one item, as far as the one before tells."""
SOME = 16
"""Items that are taken ahead of the reader from a source that may have no end; once many are read, a quarter of that.
More: faster at first; less: less is taken in vain when the reader leaves."""
GROWTH = 8
"""How many times as large the next chunk may be: the time of a few items says little of that of the others."""


class Pace:
    """Pure: how many items the next chunk of a map is to have, by what the last ones took."""

    def __init__(self, left: int | None, width: Callable[[], int]) -> None:
        self._left = left  # items that are still to come; None: nobody knows
        self._width = width
        self._size = 1
        self._seconds: float | None = None  # of one item
        self._nbytes = 0.0  # of one item

    def next_size(self, read: int) -> int:
        """For the next chunk, when the reader has read so many results."""
        ahead = max(SOME, read // 4) if self._left is None else self._left
        return max(1, min(self._size, ahead // (2 * max(1, self._width()))))

    def sent(self, items: int, nbytes: int | None = None) -> None:
        """A chunk was sent, of so many bytes; None: its items travel by themselves."""
        if nbytes is None:
            self._size = 1
        else:
            self._nbytes = nbytes / items
        if self._left is not None:
            self._left = max(0, self._left - items)

    def ran(self, items: int, seconds: float) -> None:
        """A chunk has ended, after so long."""
        latest = seconds / items
        self._seconds = latest if self._seconds is None else (self._seconds + latest) / 2
        fits = min(AIM / max(self._seconds, 1e-9), MOST_ITEMS, MOST_BYTES / max(self._nbytes, 1.0))
        self._size = max(1, min(int(fits), max(self._size, items) * GROWTH))


class TooLarge(Exception):
    """Raised for an item that has to travel by itself: it has buffers, descriptors or streams."""


class Chunk(Call):
    """One call of many items. Its Reply gives a Part."""

    __slots__ = ("_items", "_options", "limit", "serializer", "taken")

    def __init__(self, method: str | None, options: CallOptions, items: list[Any], id: int | None = None) -> None:
        super().__init__(Mode.CHUNK, method, options)
        self.id = take_ids(len(items)) if id is None else id
        self.limit = len(items)  # those from there on are none of its any more
        self.taken = 0  # outcomes that were given to the reader
        self.serializer: Serializer
        self._items = items  # once encoded: atoms, and pickles of all others in tuples
        self._options = options

    def encode(self, serializer: Serializer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the items, each encoded by itself. Raises TooLarge, EncodeError, and what encoding an item raises: they
        are to be tried one by one then."""
        self.serializer = serializer
        self._items = [item if type(item) in ATOMS else _sealed(serializer, item) for item in self._items]
        self._pack()

    def _pack(self) -> None:
        self.payload = Payload(pickle.dumps((self.method, self.id, self.created_at, self._items, None), 5))
        self.payload.check()

    def cut(self, first: int, end: int) -> Chunk:
        """These of its items as a chunk of their own, with a Reply. No code of the user runs in here."""
        part = Chunk(self.method, self._options, self._items[first:end], self.id + first)
        part.created_at, part.made_at, part.home = self.created_at, self.made_at, self.home
        part.serializer = self.serializer
        part._pack()
        part.reply = self.reply_of().successor(part)
        return part

    def reply_of(self) -> Reply:
        """Its Reply, which is no stream."""
        assert isinstance(self.reply, Reply)
        return self.reply

    def left(self) -> int:
        """How many items its Reply stands for."""
        return self.limit - self.taken


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
        self.ran = 0, 0.0
        """How many items the chunk ran, and for how long, once it has ended."""
        self._serializer = chunk.serializer
        self._title = chunk.title
        self._outcomes = outcomes
        self._skip = skip

    def open(self) -> list[Any]:
        """The outcomes: values, and Refused for those that failed. Code of the user may run in here. Raises DecodeError
        when nothing of it can be understood."""
        try:
            found = self._outcomes if isinstance(self._outcomes, list) else outcomes_of(self._outcomes)
        except Exception as error:
            raise DecodeError(f"results of {self._title} cannot be understood: {error}") from error
        if self._skip:
            found = found[self._skip :]
        if not ATOMS.issuperset(map(type, found)):
            found = [self._unsealed(outcome) for outcome in found]
        return found

    def _unsealed(self, outcome: Any) -> Any:
        if type(outcome) is Sealed:
            payload, is_error = Payload(outcome.data, outcome.buffers), outcome.is_error
        elif type(outcome) is Payload:
            payload, is_error = outcome, False
        else:
            return outcome
        value, error = Encoded(self._serializer, payload, f"the result of {self._title}", is_error).open()
        return value if error is None else Refused(error)
