"""What the tests of calls and replies share: calls on a fake carrier, and ways to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from relieve_py.answers import Encoded
from relieve_py.calls import Call, CallOptions, Mode
from relieve_py.replies import Reply
from relieve_py.serializers import Payload, PickleSerializer
from relieve_py.strands import Strand
from relieve_py.supervisor import shared
from relieve_py.texts import pack


class FakeCarrier:
    """Stands for the slot that has the call: notes what it is asked."""

    def __init__(self, on_read: Any = None) -> None:
        self.cancelled: list[Call] = []
        self.reads: list[float | None] = []
        self.attended = 0
        self.credits: list[int] = []
        self._on_read = on_read

    def cancel(self, call: Call) -> None:
        self.cancelled.append(call)

    def read_for(self, call: Call, settled: Callable[[], bool], deadline: float | None) -> None:
        self.reads.append(deadline)
        if self._on_read is not None:
            self._on_read(call)

    def attend(self, call: Call) -> None:
        self.attended += 1

    def credit(self, call: Call, items: int) -> None:
        self.credits.append(items)


def make_call(method: str | None = "data", mode: Mode = Mode.GET, carrier: Any = None, sent: bool = False) -> Call:
    call = Call(mode, method, CallOptions(timeout=2.5))
    call.carrier = carrier
    call.number = 7 if sent else 0
    call.make_reply(Strand())
    return call


def make_reply(strand: Strand | None = None) -> Reply:
    return Reply(None, strand or Strand())


def flush(strand: Strand) -> None:
    """Wait until the strand, and before it the I/O thread, have done what was given to them."""
    for give in (shared().post, strand.submit):
        done = threading.Event()
        give(done.set)
        assert done.wait(10)


def later(function: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


PICKLE = PickleSerializer()


def encoded(value: Any) -> Encoded:
    return Encoded(PICKLE, PICKLE.encode(value), "the result of data()")


def told(name: str, text: str, traceback: str, *encoded: bytes) -> Payload:
    """An error as a child tells of it."""
    return Payload(pack((name, text, traceback)), encoded)


def encoded_error(name: str, text: str, traceback: str, *encoded: bytes) -> Encoded:
    return Encoded(PICKLE, told(name, text, traceback, *encoded), "the error", is_error=True)


async def reply_in(reply: Reply) -> Any:
    """The reply's value, by await."""
    return await reply
