"""Reply: the caller's handle on a call, a future that can also be awaited."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from relieve_py import copies, futures, locks
from relieve_py.answers import Encoded, complete
from relieve_py.errors import CallCancelled, NotRunning
from relieve_py.futures import CANCELLED, FINISHED, OVER, LateFuture
from relieve_py.log import logger
from relieve_py.loops import Waiter
from relieve_py.strands import Strand
from relieve_py.supervisor import shared, stand_aside
from relieve_py.timeouts import check_timeout

if TYPE_CHECKING:
    from relieve_py.calls import Call


class Reply(LateFuture):
    """The caller's handle on a call: a ``concurrent.futures.Future`` that can also be awaited.

    Done-callbacks run on the task's callback thread, never on the I/O thread. A Reply that fails and is never looked at
    is logged.
    """

    _what = "it"  # when it is no call's
    _call: Call | None = None  # until this is settled
    _id: int | None = None
    _method: str | None = None
    _seen = False
    _opening: locks.Lock = None  # owner: the thread that decodes what came

    def __init__(self, call: Call | None, strand: Strand, what: str = "it") -> None:
        # Not by way of the base classes, and nothing that is so for all of them: each call makes one.
        if call is not None:
            self._call = call
            self._id = call.id
            self._method = call.method
        else:
            self._what = what
        self._strand = strand
        self._made_in = copies.here

    full = False
    """True when the worker's queue was full once it had taken this: hold back until its ``drain`` event."""
    keeps: object = None
    """Until this is settled: whom the user need not keep meanwhile. For the library."""
    asked_by_listener = False
    """Whoever waits may hold up the strand. For the library."""

    def __reduce__(self) -> Any:
        raise TypeError(f"the Reply of {self._title} cannot be sent to another process: send its result()")

    # -- for the library ---------------------------------------------------------------------------

    def settle(self, value: Any) -> bool:
        """Give it its value, or an Encoded; False when it is settled already."""
        return self._move(FINISHED, value)

    def fail(self, error: BaseException) -> bool:
        """Give it its error; False when it is settled already."""
        return self._move(FINISHED, None, error)

    def settled(self) -> bool:
        """The same as ``done()``, of a reply of this process."""
        return self._state in OVER

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        if self._made_in is not copies.here:
            self._disown()
        return super()._condition

    def _has_failed(self) -> bool:
        result = self._result
        return self._exception is not None or (type(result) is Encoded and result.is_error)

    def _disown(self) -> None:
        """In a forked copy of the process: whoever would have settled this is not there."""
        last = self._gate, self._opening, self._wakers, self._call, self.keeps
        with futures.moving:  # of several threads one does this
            if self._made_in is copies.here:
                return
            self._gate = self._opening = self._wakers = None
            self._call = self.keeps = None
            self._made_in = copies.here
        del last  # what goes with these may run code of the user
        if self._state not in OVER:
            self.fail(NotRunning(f"{self._title} belongs to the process that forked this one"))

    @property
    def _title(self) -> str:
        """What it is of, for messages."""
        return f"call {self._id} of {self._method or 'the default function'}" if self._id else self._what

    @property
    def nbytes(self) -> int:
        """How large the arguments of its call are; 0 once it is settled."""
        call = self._call
        return len(call.payload) if call is not None else 0

    def as_it_came(self) -> Any:
        """Its value, once it is settled, without a look into what is encoded; None if it has none."""
        return self._result if self._state == FINISHED else None

    def successor(self, call: Call) -> Reply:
        """Another one for the same caller."""
        return Reply(call, self._strand)

    def mark_seen(self) -> None:
        """Somebody takes care of its error: do not log it."""
        self._seen = True

    def when_settled(self, waker: Callable[[], object]) -> None:
        """Call ``waker`` on whatever thread settles this; it must be quick and belong to the library."""
        if self.done() or not self._add_waker(waker):
            waker()
        else:
            self._attend()

    def tell(self) -> None:
        """It is settled, and whoever did that may have been kept from telling those who wait."""
        self._call = self.keeps = None
        self._go_on_telling()

    def _invoke_callbacks(self) -> None:
        self._call = self.keeps = None
        if self._wakers is not None:
            super()._invoke_callbacks()

    # -- for the caller ----------------------------------------------------------------------------

    @property
    def id(self) -> int | None:
        """The call's id, unique in this process."""
        return self._id

    def done(self) -> bool:
        """True when there is a value or an error, or it was cancelled."""
        if self._made_in is not copies.here:
            self._disown()
        return self._state in OVER  # a look at one attribute, which takes no lock

    def cancelled(self) -> bool:
        """True when it was cancelled before it was settled."""
        return self._state in CANCELLED

    def result(self, timeout: float | None = None) -> Any:
        """The value, waiting up to ``timeout`` seconds. Raises the call's error, CallCancelled, or TimeoutError."""
        if self._state == FINISHED:
            result = self._result  # looked at first: once that is opened, there is an error or none
            if type(result) is not Encoded and self._exception is None:
                self._seen = True
                return result
        if not self.done():
            timeout = self._read(timeout)
        error = self._outcome(timeout)
        try:
            if error is not None:
                raise error
            return self._result
        finally:
            del self, error  # no cycle through the traceback, as in the base class

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error, or None when there is a value. Raises CallCancelled, or TimeoutError after ``timeout`` seconds."""
        if not self.done():
            timeout = self._read(timeout)
        return self._outcome(timeout)

    def _outcome(self, timeout: float | None) -> BaseException | None:
        """Its error or None, decoded, waiting for it if need be."""
        self._seen = True
        if self._state != FINISHED:
            if self._state == "PENDING" and locks.on_main_thread():
                timeout = self._wait_a_moment(timeout)
            if not self._wait_until_over(timeout):
                going_on = "; it goes on, unless you cancel() it" if self._id else ""
                raise TimeoutError(f"{self._title} is not over yet{going_on}")
            if self._state in CANCELLED:
                raise self._cancelled()
        if type(self._result) is Encoded:
            self._open()
        if self._exception is not None:
            complete(self._exception)
        return self._exception

    def _wait_a_moment(self, timeout: float | None) -> float | None:
        """Then make sure that this is no signal handler that waits for itself; return what is left of ``timeout``."""
        if timeout is not None and timeout <= locks.PATIENCE:
            return timeout
        if self._wait_until_over(locks.PATIENCE):
            return timeout
        locks.refuse_if_inside()
        return timeout - locks.PATIENCE if timeout is not None else None

    def cancel(self) -> bool:
        """Drop the call if it is queued, interrupt it if it runs. False when it is settled already."""
        if self._made_in is not copies.here:
            self._disown()
        call = self._call
        if not self._move("CANCELLED_AND_NOTIFIED"):  # so that wait() and as_completed() count it as done
            return self.cancelled()
        if call is not None and call.carrier is not None:
            call.carrier.cancel(call)
        return True

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn(reply)`` on the task's callback thread when this is settled."""
        self._seen = True
        self.when_settled(functools.partial(self._strand.submit, fn, self))

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done():
            waiter = Waiter()
            self.when_settled(waiter.wake)
            try:
                yield from waiter.future
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.result()

    def __del__(self) -> None:
        if self._seen or self._state != FINISHED or self._made_in is not copies.here:
            return
        error = self._exception
        if error is None and type(self._result) is Encoded and self._result.is_error:
            error = self._result.outline()
        if error is not None:
            # By way of the I/O thread: the collector may run this in the middle of a lock that the strand needs.
            shared().post_from_finalizer(self._strand.submit, _log_unseen, self._title, error)

    def _attend(self) -> None:
        """Somebody waits without reading."""
        call = self._call
        if call is not None and call.carrier is not None and call.number:
            call.carrier.attend(call)

    def _read(self, timeout: float | None) -> float | None:
        """Read the channel on this thread while that is possible; return what is left of ``timeout``."""
        if timeout is not None:
            check_timeout(timeout)
        stand_aside()
        supervisor, call = shared(), self._call
        deadline = supervisor.now() + timeout if timeout is not None else None
        if call is not None and call.carrier is not None and call.number:
            call.carrier.read_for(call, self.settled, deadline)
        if self._state not in OVER:
            supervisor.help_until(self.done, deadline)
        return max(0.0, deadline - supervisor.now()) if deadline is not None else None

    def _open(self) -> Any:
        """Decode what came, once."""
        made = threading.RLock()
        with futures.moving:
            if self._opening is None:
                self._opening = made
            opening = self._opening
        with opening:
            encoded = self._result
            if type(encoded) is Encoded:
                value, error = encoded.open()
                self._exception = error
                self._result = value  # last: who sees it takes no lock any more
            return self._result

    def _cancelled(self) -> CallCancelled:
        if self._id is None:
            return CallCancelled("it was cancelled")
        what = f"{self._method}()" if self._method else "the default function"
        return CallCancelled(f"call {self._id} of {what} was cancelled", call_id=self._id, method=self._method)


def _log_unseen(what: str, error: BaseException) -> None:
    logger.error("%s failed and nobody asked for the result", what, exc_info=error)


PATIENCE = 5.0
"""Seconds that listeners may hold up the news that their task or worker is done. Less: a slow one's last lines come
after it; more: one that blocks for ever delays it more."""


def settle_in_order(strand: Strand, settle: Callable[[], object], at_once: bool) -> None:
    """Settle after the listeners of all that happened before have run; ``at_once`` if the waiter is one of them."""
    if at_once or strand.idle:
        settle()
        return
    supervisor = shared()
    timer = supervisor.at(supervisor.now() + PATIENCE, settle)

    def in_turn() -> None:
        timer.cancel()
        settle()

    strand.submit(in_turn)


def fail_after(reply: Reply, timeout: float | None, what: str) -> None:
    """Fail it with a TimeoutError if it is not settled after so many seconds; never, if None."""
    if timeout is None:
        return
    check_timeout(timeout)
    if reply.settled():
        return
    supervisor = shared()
    error = TimeoutError(f"{what} after {timeout:g} seconds")
    timer = supervisor.at(supervisor.now() + timeout, reply.fail, error)
    reply.when_settled(timer.cancel)


def one_by_one(steps: Iterable[Callable[[], Reply]], strand: Strand, value: Any, what: str) -> Reply:
    """One Reply for steps of which each begins when the Reply of the one before is settled: ``value``, or the first
    error."""
    whole, left = Reply(None, strand, what), iter(list(steps))
    whole.asked_by_listener = strand.here

    def go_on(last: Reply | None) -> None:
        try:
            if last is not None:
                last.result()
            step = next(left, None)
            running = step() if step is not None else None
        except Exception as error:  # becomes the error of the whole
            settle_in_order(strand, functools.partial(whole.fail, error), whole.asked_by_listener)
            return
        if running is None:
            settle_in_order(strand, functools.partial(whole.settle, value), whole.asked_by_listener)
        else:
            running.when_settled(lambda: Strand().submit(go_on, running))

    go_on(None)
    return whole


def results_of(replies: list[Reply]) -> list[Any]:
    """What each of these settled replies gives. Raises the first error."""
    return [reply.result() for reply in replies]


def gather(replies: list[Reply], strand: Strand, combine: Callable[[list[Reply]], Any], what: str = "it") -> Reply:
    """One Reply for several: when all are settled, it has what ``combine(replies)`` returns, or raises. That is
    library code."""
    together = Reply(None, strand, what)
    asked_by_listener = strand.here
    left = [len(replies)]
    lock = locks.new()  # owner: whoever counts one down

    def one_settled() -> None:
        with lock:
            left[0] = still = left[0] - 1
        if still > 0:
            return
        for reply in replies:
            reply.mark_seen()
        Strand().submit(finish)  # results are decoded there, which may run code of the user

    def finish() -> None:
        try:
            value = combine(replies)
        except Exception as error:  # becomes the error of the whole
            settle_in_order(strand, functools.partial(together.fail, error), asked_by_listener)
        else:
            settle_in_order(strand, functools.partial(together.settle, value), asked_by_listener)

    if not replies:
        left[0] = 1
        one_settled()
    for reply in replies:
        reply.when_settled(one_settled)
    return together
