"""Runs the pieces of a batch one after the other: each is begun, done and failed by itself, whatever ends the child."""

from __future__ import annotations

import pickle
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from relieve_py.blackbox import ITEMS_BEGUN, ITEMS_BYTES, ITEMS_DONE, ITEMS_FROM, ITEMS_OF, OUTCOMES, RECALLED
from relieve_py.child.calling import GET, Caller, Interrupted, Request, _encode_result, running
from relieve_py.child.process import leave_with_parent
from relieve_py.outcomes import ATOMS, Several, again, single
from relieve_py.serializers import Payload, decode
from relieve_py.telling import error_payload, missing_payload
from relieve_py.wire import Kind

if TYPE_CHECKING:
    from relieve_py.child.runtime import Child


NOTHING = Payload(b"")
SMALL = 1 << 31
"""Whole numbers below this, on either side of 0, have a pickle that is quickly made: opcode, four bytes, end."""
_PACK_SMALL = struct.Struct("<cic").pack


class ItemRequest(Request):
    """One item that runs, as ``ipc.request()`` gives it."""

    def __init__(self, child: Child, number: int, id: int, method: str | None, created_at: float) -> None:
        super().__init__(child, number, GET, id, method, created_at)
        self._given: tuple[Kind, Payload | None] | None = None
        self._is_given = threading.Event()

    def _answer(self, kind: Kind, payload: Payload | None) -> None:
        if not self.close():
            raise RuntimeError(f"{self._what} was answered already")
        self._given = kind, payload
        self._is_given.set()

    def given(self) -> tuple[Kind, Payload | None]:
        """What the code has answered, once it has."""
        self._is_given.wait()
        assert self._given is not None
        return self._given


class Outcome(BaseException):
    """Raised where a piece has an outcome that is neither a value nor an error of its code."""

    def __init__(self, kind: Kind, payload: Payload = NOTHING) -> None:
        self.kind = kind
        self.payload = payload


def is_plain(function: Any) -> bool:
    """Whether it can be called as it is, and answers by what it returns."""
    return callable(function) and not hasattr(function, "relieve_callback")


class Chunk:
    """One chunk while it runs, in the main thread.

    What an item gives is kept in memory that the parent sees until it is sent, so that no outcome is lost when a later
    item ends the child.
    """

    def __init__(self, caller: Caller, number: int, id: int, method: str | None, created_at: float) -> None:
        self._caller = caller
        self._child = caller._child
        self._number = number
        self._id = id
        self._method = method
        self._created_at = created_at
        self._kept = Several(0)
        self._failures = 0
        self._used = 0  # bytes of the outcomes in the shared memory
        self._requests: list[ItemRequest] = []  # of the item that runs, if it has asked for it
        self._is_copy = False  # in a process that an item has forked
        page = self._child.page
        for word in (ITEMS_BEGUN, ITEMS_DONE, ITEMS_BYTES, ITEMS_FROM):
            page[word] = 0
        page[ITEMS_OF] = number  # last: whoever sees this sees no number of a chunk before

    def here(self) -> Request:
        """The request of the item that runs."""
        if not self._requests:
            self._requests.append(self._request(self._child.page[ITEMS_BEGUN] - 1))
        return self._requests[0]

    def _request(self, index: int) -> ItemRequest:
        child = self._child
        request = ItemRequest(child, self._number, self._id + index, self._method, self._created_at)
        child.requests[self._number] = request
        return request

    def may_be_interrupted(self) -> bool:
        """In a signal handler: its parent wants none of its items any more."""
        return True

    def cancel(self, place: int) -> bool:
        """Of items none is cancelled alone."""
        return False

    def let_go(self) -> None:
        """In a process that an item has forked, which is to end as soon as that has returned."""
        self._is_copy = True
        self._requests.append(self._request(0))  # so that the loop, which has no time to ask each time, comes across it

    def run(self, function: Any, items: Any, sealed: bool) -> tuple[Kind, Payload | None]:
        """Run them all, or those up to a recall; the answer with what was not sent before. ``sealed``: some of them are
        encoded."""
        step = self._step_of(function)
        return self._run_by(self._unsealing(step) if sealed else step, items)

    def _run_by(self, step: Any, items: Any) -> tuple[Kind, Payload | None]:
        began = time.perf_counter()
        token = running.set(self)
        self._caller.batch = self
        try:
            end = self._run(step, items)
        finally:
            self._caller.batch = None
            running.reset(token)
        self._kept.pad(end)
        return Kind.RESULT, self._kept.payload(end, self._failures, time.perf_counter() - began)

    def _step_of(self, function: Any) -> Any:
        """What runs one item: the function itself where nothing has to be done around it."""
        caller = self._caller
        if caller.invoke == caller._invoke and callable(function) and not hasattr(function, "relieve_callback"):
            return function

        return lambda item: caller.invoke(function, (item,), {}, self.here())

    def _unsealing(self, step: Any) -> Any:
        serializer = self._child.serializer

        def unseal(item: Any) -> Any:
            return step(decode(serializer, Payload(item[0]), "the arguments") if type(item) is tuple else item)

        return unseal

    def _run(self, step: Any, items: Any) -> int:
        """How many have begun."""
        page, outcomes, number = self._child.page, self._child.outcomes, self._number
        requests, kept, dumps, pack_small = self._requests, self._kept, pickle.dumps, _PACK_SMALL
        last: Any = NOTHING  # what the last record in the memory says
        expected = 1  # the place of the item behind that of the last record
        for place, item in enumerate(items, 1):
            page[ITEMS_BEGUN] = place  # by which those before it are done
            if page[RECALLED] == number:
                page[ITEMS_DONE] = place - 1
                page[ITEMS_BEGUN] = place - 1
                return place - 1
            try:
                value = step(item)
                if value is last and not requests:
                    continue  # as what returns nothing gives each time: that record stands for this one, too
                if requests or type(value) not in ATOMS:
                    last = NOTHING
                    self._keep(place - 1, value)
                    continue
                is_small = type(value) is int and -SMALL <= value < SMALL
                record = pack_small(b"J", value, b".") if is_small else dumps(value, 5)
                begin = self._used  # from here on as _put() does, which would cost a quarter
                end = begin + len(record)
                if place != expected or end > OUTCOMES:
                    self._put(place - 1, value, record)
                else:
                    outcomes[begin:end] = record
                    self._used = page[ITEMS_BYTES] = end
                    kept.values.append(value)
                last, expected = value if self._used else NOTHING, place + 1
            except (SystemExit, Interrupted):
                raise
            except BaseException as error:
                last = NOTHING
                self._fail(place - 1, error)
        page[ITEMS_DONE] = len(items)
        return len(items)

    # -- what is not as simple ---------------------------------------------------------------------

    def _keep(self, index: int, value: Any) -> None:
        """The outcome of an item that has asked for its request, or gives more than a plain value."""
        if self._is_copy:
            leave_with_parent()
        if hasattr(value, "__await__"):
            value = self._caller._await(value)
        if self._requests:
            request = self._requests[0]
            if value is request:
                request.given()  # it comes later; the next item begins behind it
            self._requests.clear()
            if not request.close():
                self._keep_answer(index, *request.given())
                return
        if type(value) in ATOMS:
            self._put(index, value, pickle.dumps(value, 5))
        else:
            self._keep_answer(index, Kind.RESULT, _encode_result(self._child.serializer, value))

    def _fail(self, index: int, error: BaseException) -> None:
        """It raised; what it has answered before holds."""
        if self._is_copy:
            leave_with_parent()
        request = self._requests.pop() if self._requests else None
        if request is not None and not request.close():
            self._keep_answer(index, *request.given())
        elif isinstance(error, Outcome):
            self._keep_answer(index, error.kind, error.payload)
        else:
            self._keep_answer(index, Kind.ERROR, error_payload(self._child.serializer, error))

    def _keep_answer(self, index: int, kind: Kind, payload: Payload | None) -> None:
        """What is encoded already, so that nothing that the code does later changes it."""
        assert payload is not None  # a GET is answered with a value or an error
        payload.check()
        self._failures += kind == Kind.ERROR
        if kind == Kind.RESULT and (payload.buffers or payload.descriptors is not None):
            self._flush(index)
            self._send(single(index, payload), index + 1)
            return
        outcome = self._kept.sealed(kind, payload)
        self._put(index, outcome, pickle.dumps(outcome, 5))

    def _put(self, index: int, outcome: Any, record: bytes) -> None:
        kept, begin, records = self._kept, self._used, record
        if kept.first + len(kept.values) < index:
            records = again(kept.pad(index)) + record
        end = begin + len(records)
        if end > OUTCOMES:
            self._keep_large(index, outcome, record)
            return
        self._child.outcomes[begin:end] = records
        self._used = self._child.page[ITEMS_BYTES] = end
        kept.add(outcome)

    def _keep_large(self, index: int, outcome: Any, record: bytes) -> None:
        """There is no room for it: send what there is, and it, too, if it would never have room."""
        self._flush(index)
        if len(record) <= OUTCOMES:
            self._put(index, outcome, record)
        else:
            self._kept.add(outcome)
            self._flush(index + 1)

    def _flush(self, end: int) -> None:
        """Send the outcomes of the items before ``end`` that were not sent."""
        self._kept.pad(end)
        if self._kept.values:
            self._send(self._kept.payload(end), end)

    def _send(self, payload: Payload, end: int) -> None:
        """Send outcomes: those up to ``end`` are sent then."""
        child = self._child
        child.answer(Kind.ITEM, self._number, payload)
        child.page[ITEMS_FROM] = end
        child.page[ITEMS_BYTES] = self._used = 0
        child.page[ITEMS_DONE] = end
        self._kept.restart(end)


class Bundle(Chunk):
    """Calls that came together, each with a method and arguments of its own. One may be cancelled alone."""

    def __init__(self, caller: Caller, number: int) -> None:
        super().__init__(caller, number, 0, None, 0.0)
        self._dropped: set[int] = set()  # places; under the caller's lock
        self._interruptible = -1  # the place of the call whose code runs, from its first line to its last

    def run_calls(self, calls: list[bytes]) -> tuple[Kind, Payload | None]:
        """Run them all, or those up to a recall."""
        caller = self._caller
        with caller._lock:
            caller.batch = self
            self._dropped |= caller.dropped_pieces.pop(self._number, set())
            caller.dropped_pieces.clear()  # of bundles that were over when their cancels came
        return self._run_by(self._call, calls)

    def cancel(self, place: int) -> bool:
        """Watching thread, under the caller's lock: nobody wants that one. True when it runs, and has to be
        interrupted."""
        self._dropped.add(place)
        return self._interruptible == place

    def may_be_interrupted(self) -> bool:
        """In a signal handler: the code of a call runs that nobody wants."""
        return self._interruptible in self._dropped

    def _request(self, index: int) -> ItemRequest:
        return super()._request(0)

    def _call(self, data: bytes) -> Any:
        child, caller = self._child, self._caller
        place = child.page[ITEMS_BEGUN] - 1
        if place in self._dropped:
            raise Outcome(Kind.END)
        self._method, self._id, self._created_at, args, kwargs = decode(
            child.serializer, Payload(data), "the arguments"
        )
        try:
            function = child.exports.find(self._method)
        except LookupError:
            raise Outcome(Kind.MISSING, missing_payload(self._method, child.exports.names())) from None
        caller._interrupt = 0  # one that came too late for the call before
        try:
            try:
                self._interruptible = place
                if place in self._dropped:  # since the look above, when it could not be interrupted yet
                    raise Interrupted
                if caller.invoke == caller._invoke and is_plain(function):
                    value = function(*args, **kwargs)
                else:
                    value = caller.invoke(function, args, kwargs, self.here())
                return caller._await(value) if hasattr(value, "__await__") else value
            finally:
                self._interruptible = -1
        except Interrupted:
            self._interruptible = -1
            raise Outcome(Kind.END) from None
