"""Pickles whose large bytes objects are not copied into them, nor out of them into anything but the new object.

pickle's own way of leaving buffers out is for types that ask for it, and bytes do not. But a pickler that writes to a
file passes large bytes on as they are, behind the opcode that announces them. In a spliced pickle they are left out,
and that opcode is another: the one that takes the next buffer. So the data of its payload is::

     MARK (u8) | n (u32) | n x index (u32) | pickle

and those of its buffers are bytes objects for whoever reads it.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable, Sequence, Set
from types import NoneType
from typing import Any

from relieve_py.wire import MAX_BUFFERS, Bytes

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
_SEARCHED = _HOLDERS | {bytes}
_NONE: Set[int] = frozenset()
_PLAIN = frozenset({int, float, bool, str, NoneType})
"""Of what a tuple may hold besides large bytes, to be pickled in a short way: none of it refers to them, or to it."""
BARE = _HEAD.pack(MARK, 1) + bytes(4) + pickle.PROTO + b"\x05" + pickle.NEXT_BUFFER + pickle.STOP
"""The data of one large bytes object and nothing else."""


def large_bytes(objects: Iterable[Any], deep: int = DEEP) -> Set[int]:
    """The ids of large bytes objects among these, and in what they hold as far as is searched."""
    found: Set[int] = _NONE
    for obj in objects:
        kind = type(obj)
        if kind is bytes:
            if len(obj) >= SPLICE:
                found = found | {id(obj)}
        elif kind in _HOLDERS and obj and deep and len(obj) <= MANY:
            parts = obj.values() if kind is dict else obj
            if not _SEARCHED.isdisjoint(map(type, parts)):
                found = found | large_bytes(parts, deep - 1)
    return found


class _NotPlain(Exception):
    """Raised for a tuple that holds something else."""


def dump_shortly(obj: Any, large: Set[int]) -> tuple[bytes, list[Bytes]] | None:
    """The same as ``dump`` for what most calls with large bytes are: a tuple with them, or one in that, beside what
    cannot refer to them; None for all else. It takes half the time. Raises what pickle raises."""
    found: list[Bytes] = []
    try:
        thin = _thin(obj, large, found, 2) if type(obj) is tuple else None
    except _NotPlain:
        return None
    if thin is None or len(found) != len(large) or len(found) > MAX_BUFFERS:
        return None  # some are elsewhere, or there twice
    data = pickle.dumps(thin, 5, buffer_callback=_left_out)
    count = len(found)
    return struct.pack(f"<BI{count}I", MARK, count, *range(count)) + data, found


def _thin(holder: tuple[Any, ...], large: Set[int], found: list[Bytes], deep: int) -> tuple[Any, ...]:
    """The same tuple without large bytes, which are added to ``found``. Raises _NotPlain."""
    parts: list[Any] = []
    for part in holder:
        kind = type(part)
        if kind in _PLAIN:
            parts.append(part)
        elif kind is bytes:
            if id(part) in large:
                found.append(part)
                part = pickle.PickleBuffer(part)
            parts.append(part)
        elif kind in _HOLDERS and not part:
            parts.append(part)
        elif kind is tuple and deep > 1:
            before = len(found)
            thin = _thin(part, large, found, deep - 1)
            parts.append(thin if len(found) > before else part)  # itself, since it may be there twice
        else:
            raise _NotPlain
    return tuple(parts)


def _left_out(buffer: pickle.PickleBuffer) -> None:
    """pickle's buffer_callback: it travels beside."""


class _Written(list[Any]):
    """What a pickler has written. To it this is a file."""

    write = list.append


def dump(
    obj: Any, beside: Callable[[pickle.PickleBuffer], bool], buffers: list[Bytes], large: Set[int]
) -> tuple[bytes, list[Bytes]]:
    """The data and the buffers of a spliced pickle of ``obj``. ``beside`` puts into ``buffers`` what pickle leaves out;
    ``large`` are the ids of what else is to be. Raises what pickle raises."""
    written = _Written()

    def aside(buffer: pickle.PickleBuffer) -> bool:
        if beside(buffer):
            return True
        written.append(None)
        return False

    pickle.Pickler(written, 5, buffer_callback=aside).dump(obj)
    others = iter(buffers)
    room = MAX_BUFFERS - len(buffers)
    texture: list[bytes] = []
    parts: list[Bytes] = []
    indexes: list[int] = []
    for chunk in written:
        if chunk is None:
            parts.append(next(others))
        elif id(chunk) in large and len(indexes) < room and texture[-1].endswith(announcement := _announcement(chunk)):
            texture[-1] = texture[-1][: -len(announcement)] + pickle.NEXT_BUFFER
            indexes.append(len(parts))
            parts.append(chunk)
        else:
            texture.append(chunk)
    return struct.pack(f"<BI{len(indexes)}I", MARK, len(indexes), *indexes) + b"".join(texture), parts


def _announcement(chunk: bytes) -> bytes:
    """What pickle writes before it."""
    if len(chunk) < 1 << 32:
        return pickle.BINBYTES + struct.pack("<I", len(chunk))
    return pickle.BINBYTES8 + struct.pack("<Q", len(chunk))


def is_spliced(data: Bytes) -> bool:
    """True for what ``dump`` has made, False for a pickle."""
    return data[:1] == b"\0"


def all_spliced(data: Bytes, buffers: Sequence[Bytes]) -> bool:
    """True for what ``dump`` has made, if all of its buffers will be bytes objects."""
    return data[: _HEAD.size] == _HEAD.pack(MARK, len(buffers))


def load(data: Bytes, buffers: Sequence[Bytes]) -> Any:
    """The object again. Raises what pickle raises, and ValueError for what ``dump`` cannot have made."""
    if data == BARE and len(buffers) == 1:
        return bytes(buffers[0])
    count = _HEAD.unpack_from(data)[1] if len(data) >= _HEAD.size else len(data)
    start = _HEAD.size + 4 * count
    if count > len(buffers) or start > len(data):
        raise ValueError(f"a spliced pickle of {len(data)} bytes has {count} parts, and {len(buffers)} buffers")
    parts: list[Any] = list(buffers)
    for index in struct.unpack_from(f"<{count}I", data, _HEAD.size):
        if index >= len(parts):
            raise ValueError(f"a part of a spliced pickle is buffer {index} of {len(parts)}")
        parts[index] = bytes(parts[index])
    return pickle.loads(memoryview(data)[start:], buffers=parts)
