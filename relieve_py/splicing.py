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


def load(data: Bytes, buffers: Sequence[Bytes]) -> Any:
    """The object again. Raises what pickle raises, and ValueError for what ``dump`` cannot have made."""
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
