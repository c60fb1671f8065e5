"""What a child tells its task and asks of it, and the answers that go back."""

from __future__ import annotations

import functools
import weakref
from typing import Any

from relieve_py.answers import rebuilt
from relieve_py.birth import Birth
from relieve_py.endings import Owner
from relieve_py.errors import EncodeError, ProtocolError, RelieveError
from relieve_py.lifecycle import Lifecycle
from relieve_py.line import Line
from relieve_py.log import logger
from relieve_py.serializers import Payload, Serializer, encode, first_line
from relieve_py.strands import Strand
from relieve_py.telling import error_payload
from relieve_py.wire import MAX_QUESTIONS, Frame, Kind

MOST_QUESTIONS = 2 * MAX_QUESTIONS
"""What is found wrong. An answer may have been read a moment before it is known here that it was written."""


class _Question:
    """A question of the child. It is there until its answer was written to the channel, whose frame keeps it."""

    __slots__ = ("__weakref__", "number", "owner")

    def __init__(self, number: int) -> None:
        self.number = number
        self.owner: object = None  # of the descriptors in the answer


class Inbox:
    """The one of a slot. What it does for the user, it does on the task's strand."""

    def __init__(self, owner: Owner, life: Lifecycle, line: Line, serializer: Serializer, strand: Strand) -> None:
        self._owner = owner
        self._life = life
        self._line = line
        self._serializer = serializer
        self._strand = strand
        self._child: Birth | None = None  # whose questions are:
        self._asked: weakref.WeakSet[_Question] = weakref.WeakSet()

    def put(self, birth: Birth, frame: Frame) -> None:
        """With the turn to read: an EVENT frame came. With a number it is a question. Raises ProtocolError when its
        child goes on asking and does not read the answers, which would be kept for it."""
        question = self._ask(birth, frame.number) if frame.number else None
        self._strand.submit(self._open, birth, question, Payload.of_frame(frame))

    def _ask(self, birth: Birth, number: int) -> _Question:
        if birth is not self._child:
            self._child, self._asked = birth, weakref.WeakSet()
        if len(self._asked) >= MOST_QUESTIONS:
            raise ProtocolError(f"it asked another question when {MOST_QUESTIONS} had no answer that it had read")
        question = _Question(number)
        self._asked.add(question)
        return question

    def _open(self, birth: Birth, question: _Question | None, payload: Payload) -> None:
        try:
            name, args = rebuilt(self._serializer, payload, "an event")
            name, args = str(name), list(args)
        except Exception as error:  # the child's doing, or its serializer's
            logger.error("task %r sent an event that cannot be rebuilt: %s", self._life.name, error)
            if question is not None:
                self._answer(birth, question, None, error)
            return
        if question is not None:
            self._owner.answer(name, args, functools.partial(self._answer, birth, question))
        else:
            self._owner.deliver(name, args)

    def _answer(self, birth: Birth, question: _Question, value: Any, error: BaseException | None) -> None:
        """On some strand: the answer to a child's question."""
        try:
            kind, payload = self._payload_of(value, error)
        except BaseException as failure:  # code of the user runs there, and the child waits
            refused = EncodeError(f"the answer cannot be sent: {type(failure).__name__}: {first_line(failure)}")
            kind, payload = Kind.ERROR, error_payload(self._serializer, refused)
        frame = payload.to_frame(kind, question.number)
        question.owner, frame.owner = frame.owner, question
        with self._line.lock:
            if birth is self._line.birth:
                self._line.post(frame)

    def _payload_of(self, value: Any, error: BaseException | None) -> tuple[Kind, Payload]:
        if error is None:
            try:
                payload = encode(self._serializer, value, answer=value)
                payload.check()
                return Kind.RESULT, payload
            except RelieveError as failure:
                error = failure
        return Kind.ERROR, error_payload(self._serializer, error)
