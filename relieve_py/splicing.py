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
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, NoneType
from typing import Any

from relieve_py.wire import MAX_BUFFERS, Bytes

SPLICE = 1 << 15
"""Bytes objects from this size on are spliced, if that can be done shortly. Less: more parts of frames, which cost as
much as copying them; more: larger ones are copied into the pickle and out of it."""
PASSED = 1 << 16
"""The others are from this size on. Less is copied by the pickler into its buffer all the same."""
MANY = 64
"""Tuples, lists and dicts with more items are not searched for bytes. More: it is looked for in more of them, which
takes some 50 ns an item; less: what is in them is copied once more."""
DEEP = 3
"""So many levels of them are searched below what is sent: a call, its arguments, and a list among those."""
MARK = 0  # no pickle begins so
_HEAD = struct.Struct("<BI")
_HOLDERS = frozenset({tuple, list, dict})
_SEARCHED = _HOLDERS | {bytes}
_NONE: Mapping[int, int] = MappingProxyType({})
_PLAIN = frozenset({int, float, bool, str, bytes, NoneType})
"""What a tuple may hold besides large bytes, to be pickled in a short way: it refers to nothing."""
ONE_SPLICED = _HEAD.pack(MARK, 1)
"""With this begins the data of what has one large bytes object."""
_ONE = ONE_SPLICED + bytes(4)
"""And with this, if nothing else of it travels beside."""
BARE = _ONE + pickle.PROTO + b"\x05" + pickle.NEXT_BUFFER + pickle.STOP
"""The data of one large bytes object and nothing else."""


def large_bytes(objects: Iterable[Any], deep: int = DEEP) -> Mapping[int, int]:
    """The ids of large bytes objects among these, and in what they hold as far as is searched, with their sizes."""
    found = _NONE
    for obj in objects:
        kind = type(obj)
        if kind not in _SEARCHED:
            continue
        if kind is bytes:
            if len(obj) >= SPLICE:
                found = {**found, id(obj): len(obj)}
        elif obj and deep and len(obj) <= MANY:
            parts = obj.values() if kind is dict else obj
            if not _SEARCHED.isdisjoint(map(type, parts)) and (inside := large_bytes(parts, deep - 1)):
                found = {**found, **inside}
    return found


def dump_shortly(obj: Any, large: Mapping[int, int]) -> tuple[bytes, list[Bytes]] | None:
    """The same as ``dump`` for what most calls with large bytes are: a tuple with them, or one in that, beside what
    cannot refer to them; None for all else. It takes half the time. Raises what pickle raises."""
    found: list[Bytes] = []
    thin = _thin(obj, large, found, True) if type(obj) is tuple else None
    count = len(found)
    if thin is None or count != len(large) or count > MAX_BUFFERS:  # some are elsewhere, or there twice
        return None
    data = pickle.dumps(thin, 5, buffer_callback=callable)  # which says False of any buffer: it is left out
    return struct.pack(f"<BI{count}I", MARK, count, *range(count)) + data, found


def _thin(holder: Any, large: Mapping[int, int], found: list[Bytes], deeper: bool) -> tuple[Any, ...] | None:
    """The same tuple without large bytes, which are added to ``found``; None when it holds what may refer to some."""
    thin = list(holder)
    for place, part in enumerate(holder):
        kind = type(part)
        if kind in _PLAIN:
            if kind is bytes and id(part) in large:
                found.append(part)
                thin[place] = pickle.PickleBuffer(part)
        elif kind not in _HOLDERS:
            return None
        elif part:
            before = len(found)
            inside = _thin(part, large, found, False) if deeper and kind is tuple else None
            if inside is None:
                return None
            if len(found) > before:  # else it stays itself, since it may be there twice
                thin[place] = inside
    return tuple(thin)


class _Written(list[Any]):
    """What a pickler has written. To it this is a file."""

    write = list.append


def dump(
    obj: Any, beside: Callable[[pickle.PickleBuffer], bool], buffers: list[Bytes], large: Mapping[int, int]
) -> tuple[bytes, list[Bytes]]:
    """The data and the buffers of a spliced pickle of ``obj``. ``beside`` puts into ``buffers`` what pickle leaves out;
    ``large`` are the ids of what else is to be, if it has PASSED bytes. Raises what pickle raises."""
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
    if len(buffers) == 1 and data[: len(_ONE)] == _ONE:  # most often
        whole = bytes(buffers[0])
        return whole if data == BARE else pickle.loads(memoryview(data)[len(_ONE) :], buffers=(whole,))
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
