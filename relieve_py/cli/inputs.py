"""Where the inputs come from: the arguments, or standard input, taken only as far as they are wanted."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable

import attrs

from relieve_py.cli.failures import WrongUse, quoted
from relieve_py.cli.loop import CHUNK, Loop


@attrs.frozen(kw_only=True)
class Input:
    """One input."""

    number: int
    """Counted from 1."""
    text: str
    """Without the end of the line. Bytes that are no text are kept as surrogates, as in file names."""
    end: int
    """How far the source has come with this one, in the unit of its ``total``."""
    kind: str
    """``"line"`` or ``"argument"``."""

    def __str__(self) -> str:
        return f"{self.kind} {self.number} {quoted(self.text)}"


class Source:
    """Inputs, as far as they were read. With a descriptor, ``fill()`` reads more of them."""

    def __init__(self, arguments: Iterable[str] = (), fd: int | None = None, separator: bytes = b"\n") -> None:
        self.fd = fd
        self.total: int | None = None
        """How much there is to come, in inputs or in bytes; None while nobody knows."""
        self._separator = separator
        self._ready: deque[tuple[str, int]] = deque((text, end) for end, text in enumerate(arguments, 1))
        self._rest: list[bytes] = []
        self._read = self._taken = 0
        self._kind = "argument" if fd is None else "line"
        if fd is None:
            self.total = len(self._ready)
        else:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                self.total = max(0, status.st_size - os.lseek(fd, 0, os.SEEK_CUR))

    @property
    def ended(self) -> bool:
        """True when nothing more will come."""
        return self.fd is None and not self._ready

    @property
    def hungry(self) -> bool:
        """True when the next input has to be read first."""
        return self.fd is not None and not self._ready

    def take(self) -> Input | None:
        """The next input; None when none is at hand."""
        if not self._ready:
            return None
        text, end = self._ready.popleft()
        self._taken += 1
        return Input(number=self._taken, text=text, end=end, kind=self._kind)

    def fill(self) -> None:
        """Read once from the descriptor, which must be readable or a file. Raises OSError."""
        assert self.fd is not None
        data = os.read(self.fd, CHUNK)
        if not data:
            self.close()
            return
        *lines, rest = data.split(self._separator)
        for line in lines:
            self._rest.append(line)
            self._add(b"".join(self._rest), 1)
            self._rest = []
        if rest:
            self._rest.append(rest)

    def _add(self, line: bytes, ended_by: int) -> None:
        self._read += len(line) + ended_by
        if self._separator == b"\n" and line.endswith(b"\r"):
            line = line[:-1]
        self._ready.append((os.fsdecode(line), self._read))

    def close(self) -> None:
        """The descriptor has come to its end: what is left is the last line."""
        self.fd = None
        if self._rest:
            self._add(b"".join(self._rest), 0)
            self._rest = []


class Intake:
    """Takes inputs from a source while there is room for them, and waits for more when none is at hand."""

    def __init__(self, loop: Loop, source: Source, room: Callable[[], bool], submit: Callable[[Input], object]) -> None:
        self.source = source
        self._loop = loop
        self._room = room
        self._submit = submit
        self._closed = False

    @property
    def ended(self) -> bool:
        """True when no more inputs will be submitted."""
        return self._closed or self.source.ended

    def take(self) -> None:
        """Submit what is at hand, as far as there is room."""
        while not self._closed and self._room() and (input := self.source.take()) is not None:
            self._submit(input)
        fd = self.source.fd
        if fd is None:
            return
        if not self._closed and self.source.hungry and self._room():
            self._loop.watch(fd, self._fill)
        else:
            self._loop.unwatch(fd)

    def _fill(self) -> None:
        fd = self.source.fd
        assert fd is not None
        try:
            self.source.fill()
        except OSError as error:
            raise WrongUse(f"standard input cannot be read: {error.strerror}") from error
        if self.source.fd is None:
            self._loop.unwatch(fd)
        self.take()

    def close(self) -> None:
        """Submit nothing more."""
        self._closed = True
        if self.source.fd is not None:
            self._loop.unwatch(self.source.fd)


def open_source(arguments: tuple[str, ...], null: bool) -> Source:
    """The arguments if there are any, and standard input otherwise. Raises WrongUse."""
    if arguments:
        return Source(arguments)
    try:
        if os.isatty(0):
            raise WrongUse("no input: give arguments, or lines on standard input, which is a terminal")
        return Source(fd=0, separator=b"\0" if null else b"\n")
    except OSError:
        raise WrongUse("no input: there are no arguments, and standard input is closed") from None
