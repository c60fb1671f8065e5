"""What children print, read by the parent line by line, so that it can be marked and kept apart from the rest."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

from relieve_py.cli.loop import CHUNK, Loop

LONGEST_LINE = 1 << 20
"""Bytes after which a line without an end is passed on in parts. Less: parts of other lines may come between."""


class Capture:
    """A pipe. The children of a task write to ``end``; each of their lines is passed on, with its end of line."""

    def __init__(self, loop: Loop, pass_on: Callable[[bytes], object]) -> None:
        self._loop = loop
        self._pass_on = pass_on
        self._fd, theirs = os.pipe()
        os.set_blocking(self._fd, False)
        self.end = io.FileIO(theirs, "wb")
        self._rest = bytearray()
        loop.watch(self._fd, self._read)

    def _read(self) -> bool:
        """Pass on what is there; False when nothing was."""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return False
        self._rest += data
        if b"\n" in data or len(self._rest) > LONGEST_LINE:
            *lines, rest = self._rest.split(b"\n")
            for line in lines:
                self._pass_on(bytes(line) + b"\n")
            self._rest = bytearray(rest)
            if len(rest) > LONGEST_LINE:
                self._pass_rest_on()
        return bool(data)

    def _pass_rest_on(self) -> None:
        if self._rest:
            self._pass_on(bytes(self._rest) + b"\n")
            self._rest.clear()

    def drain(self) -> None:
        """A child has ended: pass on everything it wrote, also a last line that it did not end."""
        while self._read():
            continue
        self._pass_rest_on()

    def close(self) -> None:
        """Read no more."""
        self._loop.unwatch(self._fd)
        os.close(self._fd)
        self.end.close()
