"""Texts to bytes and back: what a child's runtime says of itself, in a form that the I/O thread can read without a
serializer, which may be slow, or the user's code."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_LENGTH = struct.Struct("<Q")


def pack(texts: Iterable[str]) -> bytes:
    """Each text as the length of its UTF-8 (u64, little-endian), and that."""
    parts: list[bytes] = []
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def unpack(data: bytes | bytearray | memoryview) -> list[str]:
    """The texts. Raises ValueError when ``data`` is anything else."""
    view = memoryview(data)
    texts: list[str] = []
    place = 0
    while place < len(view):
        start = place + _LENGTH.size
        if start > len(view):
            raise ValueError("it ends within a length")
        place = start + _LENGTH.unpack_from(view, place)[0]
        if place > len(view):
            raise ValueError(f"a text of {place - start} bytes is announced, and {len(view) - start} are there")
        texts.append(str(view[start:place], "utf-8", "surrogatepass"))
    return texts
