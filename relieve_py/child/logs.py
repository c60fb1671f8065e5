"""Sends the log records of a child to its parent, by a handler at the root of its loggers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

_PLAIN = (str, int, float, bool, type(None))
_LEFT_BEHIND = frozenset({"msg", "args", "exc_info", "processName"})


class Forwarder(logging.Handler):
    """Has each record sent as JSON, with its message and its traceback as text."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send it. What cannot be made a text is told as logging does it, on stderr."""
        try:
            self._send(json.dumps(self._told(record)).encode())
        except Exception:
            self.handleError(record)

    @staticmethod
    def _told(record: logging.LogRecord) -> dict[str, Any]:
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        told = {
            name: value if isinstance(value, _PLAIN) else repr(value)
            for name, value in vars(record).items()
            if name not in _LEFT_BEHIND
        }
        return {**told, "msg": record.getMessage()}


def forward(level: int, send: Callable[[bytes], object]) -> Callable[[], None]:
    """Have all records from that level on sent; returns what ends that, in a process that user code forks.

    Handlers that are there already are copies of the parent's (``launcher="fork"``), which the records reach anyway.
    """
    handler = Forwarder(send)
    known = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(each for each in known if isinstance(each, logging.Logger))]  # and no placeholders
    ends = [each for each in loggers if each is logging.root or (each.handlers and not each.propagate)]
    for each in loggers:
        each.handlers.clear()
    for each in ends:
        each.addHandler(handler)
    logging.root.setLevel(level)

    def let_go() -> None:
        for each in ends:
            each.removeHandler(handler)

    return let_go
