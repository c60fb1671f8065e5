"""What a child answers, and what becomes of its calls by that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from relieve_py.answers import Encoded
from relieve_py.batch import Batch
from relieve_py.blackbox import Progress
from relieve_py.calls import BUNDLE, CALL, CHUNK, EVENT, GET, STREAM, Call, result_of
from relieve_py.chunking import Chunking
from relieve_py.endings import Endings, Owner
from relieve_py.errors import ProtocolError
from relieve_py.feeding import Feeding
from relieve_py.lifecycle import Lifecycle
from relieve_py.line import Line
from relieve_py.messages import missing_of
from relieve_py.outcomes import Sealed
from relieve_py.serializers import Payload, Serializer
from relieve_py.streams import Items
from relieve_py.table import CallTable
from relieve_py.tally import Tally
from relieve_py.wire import Frame, Kind

LATER = object()  # the call has left the child, and whether it has ended is decided elsewhere

_ANSWERS_TO = {
    GET: frozenset({Kind.RESULT, Kind.ERROR, Kind.MISSING}),
    CALL: frozenset({Kind.ACCEPTED, Kind.END, Kind.ERROR, Kind.MISSING}),
    STREAM: frozenset({Kind.ITEM, Kind.END, Kind.ERROR, Kind.MISSING}),
    EVENT: frozenset({Kind.DELIVERED}),
    CHUNK: frozenset({Kind.RESULT, Kind.ITEM, Kind.END, Kind.ERROR, Kind.MISSING}),
    BUNDLE: frozenset({Kind.RESULT, Kind.ITEM, Kind.ERROR}),
}
_RESULT = int(Kind.RESULT)  # to look up a member of an enum takes a while
_ANSWERS = frozenset().union(*_ANSWERS_TO.values())


class Asker(Protocol):
    """Who has sent the calls."""

    def over(
        self, call: Call | None, frame: Frame, settle: Callable[[Call, Frame], object], well: bool = False
    ) -> None:
        """The call with that number has ended in the child: count it as out, and settle it. None: nobody wants it any
        more, or it is over already."""
        ...

    def left(self, call: Call) -> None:
        """A call that was settled later has left this slot."""
        ...

    def left_together(self, calls: list[Call]) -> None:
        """The same of calls that travelled together."""
        ...


class Answering:
    """The answers of one slot's children. With the turn to read, unless it is said otherwise."""

    def __init__(
        self,
        asker: Asker,
        owner: Owner,
        life: Lifecycle,
        line: Line,
        table: CallTable,
        serializer: Serializer,
        endings: Endings,
        chunking: Chunking,
        feeding: Feeding,
        tally: Tally,
    ) -> None:
        self._over = asker.over
        self._left = asker.left
        self._left_together = asker.left_together
        self._owner = owner
        self._life = life
        self._line = line  # whose lock it is
        self._table = table
        self._serializer = serializer
        self._endings = endings
        self._chunking = chunking
        self._feeding = feeding
        self._tally = tally
        self.undecided = 0  # calls that raised, and may be tried again; under the lock

    def answered(self, frame: Frame) -> bool:
        """An answer of the child; False when the frame is none. Raises ProtocolError."""
        kind = frame.kind
        if kind not in _ANSWERS:
            if kind != Kind.TAKE and kind != Kind.ENOUGH:
                return False
            self._feeding.asked(frame)
            return True
        call = self._table.sent.get(frame.number)
        if call is not None and kind not in _ANSWERS_TO[call.mode]:
            raise ProtocolError(f"what was sent as {call.mode.name} was answered by a frame of kind {kind}")
        if kind == _RESULT:  # as most are
            self._over(call, frame, self._give, True)
            return True
        match kind:
            case Kind.ITEM | Kind.ACCEPTED:
                self._underway(call, frame)
            case Kind.ERROR if call is not None and call.mode >= CHUNK:
                progress = self._chunking.progress(frame.number)
                self._over(call, frame, functools.partial(self._break_off, progress))
            case Kind.ERROR:
                self._over(call, frame, self._raise)
            case Kind.MISSING:
                error = missing_of(frame, self._life.name)
                self._over(call, frame, lambda call, _: self._endings.give_up(call, error))
            case _:  # END, DELIVERED
                self._over(call, frame, self._end, kind == Kind.END)
        return True

    def _underway(self, call: Call | None, frame: Frame) -> None:
        """A call was accepted, or sent an item."""
        if call is None:
            return
        if frame.kind == Kind.ACCEPTED:
            call.reply.settle(None)
        elif isinstance(call, Batch):
            self._chunking.underway(call, frame)
        elif isinstance(call.reply, Items) and not call.reply.item(self._encoded(frame, call)):
            raise ProtocolError("a stream went on without room for its items")

    def settle_together(self, calls: list[Call], outcomes: list[Any]) -> None:
        """Without the lock: this is what became of calls that travelled together."""
        over: list[Call] = []
        try:
            self._settle_each(calls, outcomes, over)
        finally:  # also if a signal handler raises
            self._left_together(over)
        for call in over:  # last: what is interrupted before that is found in its bundle
            call.within = None

    def _settle_each(self, calls: list[Call], outcomes: list[Any], over: list[Call]) -> None:
        """Add those to ``over`` of which it is not decided later."""
        for call, outcome in zip(calls, outcomes, strict=True):
            kind = type(outcome)
            if kind is not Sealed and kind is not Payload:
                call.reply.settle(outcome)
            elif self._settle_encoded(call, outcome) is LATER:
                continue
            over.append(call)

    def _settle_encoded(self, call: Call, outcome: Sealed | Payload) -> object:
        if isinstance(outcome, Payload):
            return call.reply.settle(Encoded(self._serializer, outcome, result_of(call.method)))
        if outcome.kind == Kind.MISSING:
            self._endings.give_up(call, missing_of(Frame(Kind.MISSING, payload=outcome.data), self._life.name))
        elif outcome.kind != Kind.END:
            is_error = outcome.kind == Kind.ERROR
            payload = Payload(outcome.data, outcome.buffers)
            encoded = Encoded(self._serializer, payload, result_of(call.method), is_error)
            return self._raised(call, encoded) if is_error else call.reply.settle(encoded)
        return None

    def _give(self, call: Call, frame: Frame) -> None:
        """What it returned; of a batch, its last outcomes."""
        if call.mode is GET:
            call.reply.settle(self._encoded(frame, call))
        else:
            assert isinstance(call, Batch)
            self._chunking.finished(call, frame)

    def _end(self, call: Call, frame: Frame) -> None:
        call.reply.settle(self._owner.face if frame.kind == Kind.DELIVERED else None)

    def _break_off(self, progress: Progress, call: Call, frame: Frame) -> None:
        """A batch that the child could not go on with."""
        assert isinstance(call, Batch)
        sealed = Sealed.of(frame.kind, Payload.of_frame(frame))
        self._chunking.failed(call, progress, lambda piece: self.settle_together([piece], [sealed]))

    def _raise(self, call: Call, frame: Frame) -> object:
        return self._raised(call, self._encoded(frame, call, is_error=True))

    def _raised(self, call: Call, encoded: Encoded) -> object:
        """The user's code raised. While it is open whether the call is tried again, the call is, too."""
        if not self._endings.must_decide(call):
            self._tally.has_failed()
            return call.reply.settle(encoded)
        with self._line.lock:
            self.undecided += 1
        call.within = None  # from now on it may come into another bundle
        self._endings.decide(call, encoded, self._decided)
        return LATER

    def _decided(self, call: Call) -> None:
        with self._line.lock:
            self.undecided -= 1
        self._left(call)

    def _encoded(self, frame: Frame, call: Call, is_error: bool = False) -> Encoded:
        return Encoded(self._serializer, Payload.of_frame(frame), result_of(call.method), is_error)
