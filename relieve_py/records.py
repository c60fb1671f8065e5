"""Log records of children, logged again here: by the same loggers, at the same levels, with the task's name."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from relieve_py.log import logger
from relieve_py.strands import Strand

MOST_AHEAD = 10_000
"""Records that wait for log handlers, at most. More: memory while those are slow; less: a burst loses more."""


class Records:
    """Those of one task. ``put`` may be called from any thread, and never waits."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._strand = Strand()
        self._lock = threading.Lock()  # owner: whoever changes the numbers; no signal handler comes here
        self._ahead = self._left_out = 0

    def put(self, payload: bytes | bytearray | memoryview) -> None:
        """A record came. It is left out while too many wait."""
        with self._lock:
            if self._ahead >= MOST_AHEAD:
                self._left_out += 1
                return
            self._ahead += 1
        self._strand.submit(self._log, bytes(payload))

    def _log(self, payload: bytes) -> None:
        """On the strand."""
        try:
            record = _record_of(payload)
        except Exception as error:  # the child's doing
            logger.error("task %r sent a log record that cannot be read: %s", self._task, error)
        else:
            record.task = record.processName = self._task
            found = _logger_for(record.name)
            if found.isEnabledFor(record.levelno):
                found.handle(record)
        finally:
            with self._lock:
                self._ahead -= 1
                left_out, self._left_out = (self._left_out, 0) if self._ahead == 0 else (0, self._left_out)
        if left_out:
            logger.warning("task %r: %d of its log records are left out, since handlers are slow", self._task, left_out)


def _record_of(payload: bytes) -> logging.LogRecord:
    """Raises what a payload that is no record makes it raise."""
    told: dict[str, Any] = json.loads(payload.decode("utf-8", "surrogatepass"))  # never by a codec that a child names
    record = logging.makeLogRecord({**told, "args": None, "exc_info": None})
    for name, kind in (("name", str), ("msg", str), ("levelno", int), ("created", (int, float))):
        if not isinstance(getattr(record, name), kind):
            raise TypeError(f"its {name} is {getattr(record, name)!r}")
    return record


def _logger_for(name: str) -> logging.Logger:
    """The logger of that name, or of the nearest above it: a child's record makes no new one, which would stay."""
    while name:
        found = logging.root.manager.loggerDict.get(name)
        if isinstance(found, logging.Logger):
            return found
        name = name.rpartition(".")[0]
    return logging.root
