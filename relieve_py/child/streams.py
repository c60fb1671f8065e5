"""The standard streams of a child: on the descriptors that it has, and with a stderr whose bytes are kept."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from relieve_py.blackbox import Ring


class KeptStderr(io.FileIO):
    """Descriptor 2, whose bytes are kept first, so that they are there also when nobody takes them from it."""

    def __init__(self) -> None:
        super().__init__(2, "wb", closefd=False)
        self.name = "<stderr>"
        self.memory: memoryview | None = None  # where they are kept; None: nowhere
        self._ring: Ring | None = None
        self._ahead = b""  # kept, but not taken: whoever writes will try these bytes again

    def write(self, data: Any) -> int:
        """Keep the bytes, then write them."""
        view = memoryview(data).cast("B")
        if self.memory is not None:
            if self._ring is None:
                self._ring = Ring(self.memory)
            known = len(self._ahead) if view[: len(self._ahead)] == self._ahead else 0
            self._ring.keep(view[known:])
        taken: Any = 0
        try:
            taken = super().write(view)
            return taken  # type: ignore[no-any-return] # None when a descriptor that does not block took nothing
        finally:
            self._ahead = bytes(view[taken or 0 :])


def reopen_streams() -> None:
    """New stream objects on 0, 1 and 2: the old ones may hold a lock or unwritten text of the process that forked."""
    unbuffered = bool(sys.flags.unbuffered if hasattr(sys.flags, "unbuffered") else os.environ.get("PYTHONUNBUFFERED"))
    for name, fd in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        old = getattr(sys, f"__{name}__")
        stream: Any
        try:
            raw = KeptStderr() if fd == 2 else io.FileIO(fd, "rb" if fd == 0 else "wb", closefd=False)
        except OSError:  # closed in the parent: closed here
            stream = None
        else:
            stream = _text_stream(raw, old, fd, unbuffered)
        _replace(name, stream)


def buffer_lines() -> None:
    """Write each line of standard output when it is printed: whoever reads the other end of a pipe must have it, also
    when the process is killed."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def kept_stderr() -> KeptStderr | None:
    """The lowest layer of ``sys.stderr``, which is replaced if need be; None when there is no stderr."""
    old = sys.stderr
    if old is None:
        return None
    raw = getattr(old.buffer, "raw", old.buffer)
    if not isinstance(raw, KeptStderr):
        raw = KeptStderr()
        _replace("stderr", _text_stream(raw, old, 2, getattr(old, "write_through", False)))
    return raw


def _text_stream(raw: io.FileIO, old: Any, fd: int, unbuffered: bool) -> Any:
    """The interpreter's text stream over that descriptor, like the old one."""
    buffer: Any = raw
    if fd == 0:
        buffer = io.BufferedReader(raw)
    elif not unbuffered:
        buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer,
        encoding=getattr(old, "encoding", None) or "utf-8",
        errors="backslashreplace" if fd == 2 else getattr(old, "errors", None) or "strict",
        line_buffering=fd == 2 or (fd == 1 and os.isatty(fd)),
        write_through=unbuffered and fd != 0,
    )


_old_streams: list[Any] = []  # never flushed, never closed: they may belong to the process that forked


def _replace(name: str, new: Any) -> None:
    """Put the stream in its place."""
    olds = getattr(sys, f"__{name}__"), getattr(sys, name)
    _old_streams.extend(olds)
    setattr(sys, name, new)
    setattr(sys, f"__{name}__", new)
    if new is not None and "logging" in sys.modules:
        _move_log_handlers(olds, new)


def _move_log_handlers(olds: tuple[Any, ...], new: Any) -> None:
    """Have log handlers that write to one of the old streams write to the new one; the old is not even flushed."""
    import logging

    loggers: list[Any] = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in {handler for logger in loggers for handler in getattr(logger, "handlers", ())}:
        stream = vars(handler).get("stream")  # no attribute of one that always takes the sys.stderr of the moment
        if isinstance(handler, logging.StreamHandler) and stream is not None and any(stream is old for old in olds):
            handler.stream = new
