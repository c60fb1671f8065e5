"""The functions that ``relieve map`` calls for each file of a tree: take its checksum, or compare it."""

from __future__ import annotations

import zlib

BLOCK = 1 << 20
"""Bytes read at a time, so that the size of a file does not matter."""


def crc32(path: str) -> str:
    """The line of an .sfv file for that file: its name and its CRC-32."""
    return f"{path} {_sum(path):08X}"


def verify(line: str) -> str:
    """Compare a file with its line: ``OK name``, ``MISMATCH name`` or ``MISSING name``."""
    path, _, wanted = line.rpartition(" ")
    try:
        found = _sum(path)
    except FileNotFoundError:
        return f"MISSING {path}"
    return f"OK {path}" if found == int(wanted, 16) else f"MISMATCH {path}"


def _sum(path: str) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return value
