"""The streams among the arguments of one slot's calls: what the child asks of them, and their ends."""

from __future__ import annotations

import functools

from relieve_py.calls import Call
from relieve_py.errors import ProtocolError
from relieve_py.feeds import feed_of, was_made
from relieve_py.line import Line
from relieve_py.table import CallTable
from relieve_py.wire import FED_OVER, Frame, Kind


class Feeding:
    """Those of one slot."""

    def __init__(self, line: Line, table: CallTable) -> None:
        self._line = line
        self._table = table
        self._late: set[int] = set()  # streams that were asked for when their call was over

    def asked(self, frame: Frame) -> None:
        """With the turn to read: the child reads a stream among the arguments of a call, or wants no more of it. Raises
        ProtocolError."""
        feed = feed_of(frame.number)
        call = feed.call if feed is not None else None
        items = int.from_bytes(frame.payload, "little")
        if feed is None or call is None or self._table.sent.get(call.number) is not call:
            if frame.kind == Kind.TAKE and items == 0:
                self._asked_late(frame.number)
        elif frame.kind == Kind.TAKE:
            feed.taken(items, functools.partial(self._post_for, call))
        elif feed.over():
            self._post_for(call, Frame(Kind.FED, frame.number))

    def _asked_late(self, number: int) -> None:
        """The child begins to read a stream whose call is over. Raises ProtocolError for one that it was not given, or
        was told of before: it may not have this side answer as often as it likes."""
        if number in self._late or not was_made(number):
            raise ProtocolError(f"stream {number} was asked for, which is none among the arguments of a call")
        self._late.add(number)
        with self._line.lock:
            self._line.post(Frame(Kind.FED, number, flags=FED_OVER))

    def _post_for(self, call: Call, frame: Frame) -> None:
        """Send an item for a call that the child has, not if it has it no more; and the end of a stream."""
        with self._line.lock:
            if frame.kind == Kind.FED or (call.number and self._table.sent.get(call.number) is call):
                self._line.post(frame)

    def ended(self, call: Call) -> None:
        """The call has left this slot. What was read of its streams is gone; others it may take elsewhere."""
        for feed in call.feeds:
            if feed.begun and feed.over():
                with self._line.lock:
                    self._line.post(Frame(Kind.FED, feed.number, flags=FED_OVER))
