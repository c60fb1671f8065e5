"""Pickles whose large bytes objects are not copied into them, nor out of them into anything but the new object.

pickle's own way of leaving buffers out is for types that ask for it, and bytes do not. But a pickler that writes to a
file passes large bytes on as they are, and an unpickler that reads from one has it fill the new object. So a spliced
pickle is what was written between those (its texture), and those. The data of its payload is::

     MARK (u8) | n (u32) | n x length (u64) | the n pieces of texture, joined

and the first n - 1 of its buffers are the large parts, which belong between the pieces.
"""

from __future__ import annotations

import io
import itertools
import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from relieve_py.wire import MAX_BUFFERS, Bytes, size_of

SPLICE = 1 << 16
"""Bytes objects from this size on are spliced. Less is copied by the pickler into its buffer all the same."""
MANY = 64
"""Tuples, lists and dicts with more items are not searched for bytes. More: it is looked for in more of them, which
takes some 50 ns an item; less: what is in them is copied once more."""
DEEP = 3
"""So many levels of them are searched below what is sent: a call, its arguments, and a list among those."""
MARK = 0  # no pickle begins so
_HEAD = struct.Struct("<BI")
_HOLDERS = frozenset({tuple, list, dict})


def large_bytes(objects: Iterable[Any], deep: int = DEEP) -> set[int]:
    """The ids of large bytes objects among these, and in what they hold as far as is searched."""
    found: set[int] = set()
    for obj in objects:
        kind = type(obj)
        if kind is bytes:
            if len(obj) >= SPLICE:
                found.add(id(obj))
        elif kind in _HOLDERS and deep and 0 < len(obj) <= MANY:
            inside = large_bytes(obj.values() if kind is dict else obj, deep - 1)
            if inside:
                found |= inside
    return found


class _Written(list[Any]):
    """What a pickler has written. To it this is a file."""

    write = list.append


def dump(
    obj: Any, beside: Callable[[pickle.PickleBuffer], bool], buffers: list[Bytes], large: set[int]
) -> tuple[bytes, list[Bytes]]:
    """The texture of the pickle of ``obj`` and its buffers: large parts, and then ``buffers``, where ``beside`` puts
    what is left out. Raises what pickle raises."""
    written = _Written()
    pickle.Pickler(written, 5, buffer_callback=beside).dump(obj)
    pieces: list[list[bytes]] = [[]]
    parts: list[Bytes] = []
    for chunk in written:
        if id(chunk) in large and len(parts) + len(buffers) < MAX_BUFFERS:
            parts.append(chunk)
            pieces.append([])
        else:
            pieces[-1].append(chunk)
    texture = [b"".join(piece) for piece in pieces]
    head = _HEAD.pack(MARK, len(texture)) + struct.pack(f"<{len(texture)}Q", *map(len, texture))
    return head + b"".join(texture), parts + buffers


def is_spliced(data: Bytes) -> bool:
    """True for what ``dump`` has made, False for a pickle."""
    return data[:1] == b"\0"


def load(data: Bytes, buffers: Sequence[Bytes]) -> Any:
    """The object again. Raises what pickle raises, and ValueError for what ``dump`` cannot have made."""
    if len(data) < _HEAD.size:
        raise ValueError("a spliced pickle ends within its head")
    count = _HEAD.unpack_from(data)[1]
    start = _HEAD.size + 8 * count
    if not 0 < count <= len(buffers) + 1 or start > len(data):
        raise ValueError(f"a spliced pickle of {count} pieces comes with {len(buffers)} buffers")
    lengths = struct.unpack_from(f"<{count}Q", data, _HEAD.size)
    return pickle.Unpickler(_Reading(data, start, lengths, buffers), buffers=buffers[count - 1 :]).load()


class _Reading:
    """A spliced pickle as a file. Large parts are only ever asked for by ``readinto``."""

    __slots__ = ("_next", "_parts", "_seams", "_texture", "read", "readline")

    def __init__(self, data: Bytes, start: int, lengths: Sequence[int], parts: Sequence[Bytes]) -> None:
        texture = self._texture = io.BytesIO(data)
        texture.seek(start)
        self.read, self.readline = texture.read, texture.readline
        self._seams = list(itertools.accumulate(lengths[:-1], initial=start))[1:]  # a part is behind each of these
        self._parts = parts
        self._next = 0

    def readinto(self, into: memoryview) -> int:
        """Fill it with the large part that is next, if this is its place, or with texture."""
        n = self._next
        if n == len(self._seams) or self._texture.tell() != self._seams[n]:
            return self._texture.readinto(into)
        self._next += 1
        part = self._parts[n]
        if size_of(part) != len(into):
            raise ValueError(f"a part of {size_of(part)} bytes is where {len(into)} belong")
        into[:] = part
        return len(into)
