"""Where lines of output end up: files that are rotated, the logging system, functions. Run on strands, so they may
block."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from relieve_py.output import Output, OutputLine, is_path

logger = logging.getLogger("relieve_py.output")
_LEVELS = {"stdout": logging.INFO, "stderr": logging.WARNING}


class Sink(Protocol):
    """Takes lines of one task's streams."""

    def take(self, stream: str, lines: list[bytes]) -> None:
        """Lines without their ends, in order."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


class LogSink:
    """Each line a record of the logger ``relieve_py.output``, with the attributes ``task`` and ``stream``."""

    def __init__(self, task: str) -> None:
        self._task = task

    def take(self, stream: str, lines: list[bytes]) -> None:
        """Log them."""
        level = _LEVELS[stream]
        if logger.isEnabledFor(level):
            for line in lines:
                text = line.decode("utf-8", "replace")
                logger.log(level, "%s: %s", self._task, text, extra={"task": self._task, "stream": stream})

    def close(self) -> None:
        """Nothing is open."""


class FunctionSink:
    """Each line to a function of the user's. What that raises is logged."""

    def __init__(self, task: str, function: Callable[[OutputLine], object]) -> None:
        self._task = task
        self._function = function

    def take(self, stream: str, lines: list[bytes]) -> None:
        """Call the function for each."""
        for line in lines:
            text = line.decode("utf-8", "replace")
            try:
                self._function(OutputLine(task=self._task, stream=stream, text=text, at=time.time()))
            except BaseException:  # also SystemExit: the next line is not to be lost
                logging.getLogger("relieve_py").exception("the function for output of task %r raised", self._task)

    def close(self) -> None:
        """Nothing is open."""


class RotatedFile:
    """A file to which the tasks of this process append lines, and which is renamed when it is too large or old."""

    def __init__(self, path: str) -> None:
        self.users = 0  # under _files_lock
        self._path = path
        self._lock = threading.Lock()  # owner: whoever writes
        self._fd = -1
        self._size = 0
        self._since = 0.0

    def write(self, lines: list[bytes], options: Output) -> None:
        """Append them. Raises OSError."""
        data = b"".join(line + b"\n" for line in lines)
        with self._lock:
            if self._fd < 0:
                self._open()
            if options.max_bytes is not None and self._size + len(data) > options.max_bytes:
                self._write_in_parts(lines, options)
                return
            self._rotate_if_due(len(data), options)
            self._append(data)

    def _write_in_parts(self, lines: list[bytes], options: Output) -> None:
        """They do not all fit: as many as do, then into the next file. A line that is too long has one to itself."""
        part = bytearray()
        for line in lines:
            if part and self._size + len(part) + len(line) + 1 > (options.max_bytes or 0):
                self._append(part)
                part = bytearray()
            if not part:
                self._rotate_if_due(len(line) + 1, options)
            part += line + b"\n"
        self._append(part)

    def _rotate_if_due(self, coming: int, options: Output) -> None:
        large = options.max_bytes is not None and self._size + coming > options.max_bytes
        old = options.every is not None and time.monotonic() - self._since >= options.every
        if self._size and (large or old):
            self._rotate(options.keep)

    def _rotate(self, keep: int) -> None:
        os.close(self._fd)
        self._fd = -1
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, keep + 1))]
        with contextlib.suppress(FileNotFoundError):  # somebody has taken it away
            if keep == 0:
                os.unlink(self._path)
        for number in range(keep, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(names[number - 1], names[number])
        self._open()

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._size = os.fstat(self._fd).st_size
        self._since = time.monotonic()

    def _append(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self._size += written
            view = view[written:]

    def close(self) -> None:
        """Nobody writes any more."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


_files: dict[str, RotatedFile] = {}
_files_lock = threading.Lock()  # owner: whoever opens or lets go a file of _files


class FileSink:
    """A file, maybe shared with other tasks. When it cannot be written, that is logged once, until it can again."""

    def __init__(self, path: str, options: Output) -> None:
        self._path = os.path.abspath(path)
        self._options = options
        self._failed = False
        with _files_lock:
            self._file = _files.setdefault(self._path, RotatedFile(self._path))
            self._file.users += 1

    def take(self, stream: str, lines: list[bytes]) -> None:
        """Append them."""
        try:
            self._file.write(lines, self._options)
            self._failed = False
        except OSError as error:
            if not self._failed:
                logging.getLogger("relieve_py").warning("output of children is lost: %s: %s", self._path, error)
            self._failed = True

    def close(self) -> None:
        """The last user closes the file."""
        with _files_lock:
            self._file.users -= 1
            if self._file.users == 0:
                del _files[self._path]
                self._file.close()


def sink_for(target: Any, options: Output, task: str, script: str) -> Sink | None:
    """What takes the lines for that target; None when they are only to be kept."""
    if target == "capture":
        return None
    if target == "log":
        return LogSink(task)
    if is_path(target):
        # Not str.format: a path may have other braces.
        return FileSink(target.replace("{task}", task).replace("{script}", script), options)
    return FunctionSink(task, target)


def _after_fork() -> None:
    """The files are the original's; so are the locks, which a thread of it may hold."""
    global _files_lock
    _files_lock = threading.Lock()
    for file in _files.values():
        file._lock = threading.Lock()
        file.close()
    _files.clear()


os.register_at_fork(after_in_child=_after_fork)
