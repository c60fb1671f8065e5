"""How the outcomes of a chunk's items travel: several in one message, or one that has buffers of its own."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
from typing import Any, NamedTuple

from relieve_py.errors import ProtocolError
from relieve_py.serializers import Payload

ATOMS = frozenset({int, float, bool, str, bytes, complex, type(None)})
"""Types of values that cannot change once they are given, and are their own pickle. All others are encoded at once."""

PLAIN, MIXED, SINGLE = range(3)
"""What a message has: atoms; atoms and encoded outcomes; one that has buffers of its own."""
_HEAD = struct.Struct("<BIIId")


class Head(NamedTuple):
    """Whose outcomes a message has."""

    form: int
    first: int
    """The index of the first item, in its chunk."""
    end: int
    """The index behind the last."""
    failures: int
    """How many items of the chunk have failed, once it has ended."""
    seconds: float
    """How long it has run, once it has ended."""


class Sealed(NamedTuple):
    """An outcome that is encoded by itself."""

    kind: int
    """RESULT, ERROR or MISSING; END when there is none, since nobody wants it."""
    data: bytes
    buffers: tuple[bytes, ...]

    @classmethod
    def of(cls, kind: int, payload: Payload) -> Sealed:
        """What was sent by itself."""
        return cls(kind, bytes(payload.data), tuple(map(bytes, payload.buffers)))


class Several:
    """The child's side: outcomes that were not sent yet, of items in a row."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.values: list[Any] = []  # atoms, and what sealed() made
        self._form = PLAIN

    def sealed(self, kind: int, payload: Payload) -> Any:
        """What stands for an encoded outcome among the values."""
        return (int(kind), bytes(payload.data), *map(bytes, payload.buffers))

    def add(self, value: Any) -> None:
        """The next one; an atom may as well be appended to the values."""
        if type(value) is tuple:
            self._form = MIXED
        self.values.append(value)

    def pad(self, end: int) -> int:
        """The last one stands for all others up to ``end``, too; how many that are."""
        more = end - self.first - len(self.values)
        self.values += self.values[-1:] * more
        return more

    def payload(self, end: int, failures: int = 0, seconds: float = 0.0) -> Payload:
        """The message."""
        return Payload(_HEAD.pack(self._form, self.first, end, failures, seconds) + pickle.dumps(self.values, 5))

    def restart(self, first: int) -> None:
        """They were sent."""
        self.first = first
        self.values.clear()
        self._form = PLAIN


def single(index: int, value: Payload) -> Payload:
    """The child's side: the message of one outcome that has buffers or descriptors."""
    head = _HEAD.pack(SINGLE, index, index + 1, 0, 0.0)
    return Payload(head + bytes(value.data), value.buffers, value.descriptors)


def head_of(payload: Payload) -> Head:
    """What a message begins with. Raises ProtocolError."""
    try:
        head = Head(*_HEAD.unpack_from(payload.data))
    except struct.error:
        raise ProtocolError("a message with outcomes is too short") from None
    if head.form not in (PLAIN, MIXED, SINGLE) or head.first > head.end:
        raise ProtocolError("a message with outcomes cannot be understood")
    return head


def outcomes_of(payload: Payload) -> list[Any]:
    """Of a message: values, Sealed ones, and Payloads. Raises what the pickle of a child can raise."""
    head = head_of(payload)
    body = memoryview(payload.data)[_HEAD.size :]
    if head.form == SINGLE:
        return [Payload(body, payload.buffers, payload.descriptors)]
    values: list[Any] = pickle.loads(body)
    if head.form == MIXED:
        values = [_unsealed(value) for value in values]
    if len(values) != head.end - head.first:
        raise ProtocolError(f"a message has {len(values)} outcomes of {head.end - head.first} items")
    return values


def again(count: int) -> bytes:
    """The child's side: the record which says that the one before it stands for so many more."""
    return pickle.dumps((count,), 5)


def outcomes_in(records: bytes, most: int) -> list[Any]:
    """Of the memory that a child has left: the first ones, as far as they can be read."""
    found: list[Any] = []
    stream = io.BytesIO(records)
    load = pickle.Unpickler(stream).load
    with contextlib.suppress(Exception):  # the child may have left anything
        while (missing := most - len(found)) > 0:
            value = load() if stream.tell() < len(records) else (missing,)
            if type(value) is not tuple or len(value) > 1:
                found.append(_unsealed(value))
            elif found:
                found += found[-1:] * min(value[0], missing)
            else:
                break
    return found


def _unsealed(value: Any) -> Any:
    if type(value) is tuple:
        return Sealed(value[0], value[1], value[2:])
    return value
