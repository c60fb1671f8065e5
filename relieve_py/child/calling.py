"""Runs the calls of a child: plain, async and generator functions, callbacks and late answers, and their
interruption."""

from __future__ import annotations

import contextvars
import pickle
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from relieve_py.blackbox import BEGUN, FINISHED
from relieve_py.child.outflow import Outflow
from relieve_py.child.process import interrupt
from relieve_py.errors import EncodeError
from relieve_py.serializers import Payload, Serializer, cannot_send, decode_frame, encode
from relieve_py.telling import error_payload, missing_payload
from relieve_py.wire import Frame, Kind

if TYPE_CHECKING:
    from relieve_py.child.chunk import Chunk
    from relieve_py.child.runtime import Child

_RESULT = Kind.RESULT  # to look up a member of an enum takes a while
GET, CALL, STREAM, CHUNK, BUNDLE = 0, 1, 2, 4, 5  # the flags of a CALL frame


class Interrupted(BaseException):
    """Raised in the main thread when the parent has no more use for the call that runs."""


class Request:
    """The call that runs, as ``ipc.request()`` gives it."""

    def __init__(self, child: Child, number: int, mode: int, id: int, method: str | None, created_at: float) -> None:
        self.id = id
        self.method = method
        self.created_at = created_at
        self.mode = mode  # GET, CALL or STREAM
        self._child = child
        self._number = number
        self._unanswered = [True]  # whoever takes this out answers, in whatever thread or signal handler

    @property
    def answered(self) -> bool:
        """It was answered."""
        return not self._unanswered

    def __repr__(self) -> str:
        return f"<Request {self.id} {self.method or 'default'}>"

    def here(self) -> Request:
        """Itself, as what runs."""
        return self

    def ack(self) -> None:
        """Answer without a value."""
        self.respond(None)

    def respond(self, value: Any = None) -> None:
        """Answer with that value, or with the items of that iterable if the call is a stream. Raises RuntimeError the
        second time, EncodeError for what cannot be sent."""
        if self.mode == GET:
            payload = encode(self._child.serializer, value, result=value)
            self._answer(Kind.RESULT, payload)
            return
        if self.mode == STREAM and value is not None:
            for item in value:
                self.write(item)
        self._answer(Kind.END, None)

    def write(self, item: Any) -> None:
        """Send one item of a stream. Raises TypeError when the call asks for none, RuntimeError when it is over."""
        if self.mode != STREAM:
            raise TypeError(f"{self._what} asks for no items: it was made with get() or call(), not with stream()")
        self.send_item(encode(self._child.serializer, item, item=item))

    def send_item(self, payload: Payload) -> None:
        """Send an item when the reader has room for it. Raises RuntimeError when nobody reads any more."""
        outflow = self._child.outflows.get(self._number)
        if outflow is None:
            outflow = self._child.outflows.setdefault(self._number, Outflow())
        outflow.wait_for_room(len(payload))
        if self.answered:
            self._child.outflows.pop(self._number, None)
            raise RuntimeError(f"{self._what} was answered already")
        self._child.answer(Kind.ITEM, self._number, payload)

    @property
    def _what(self) -> str:
        return f"call {self.id} of {self.method or 'the default function'}"

    def fail(self, error: BaseException) -> None:
        """Answer with an error. Raises RuntimeError when it was answered."""
        self._answer(Kind.ERROR, error_payload(self._child.serializer, error))

    def _answer(self, kind: Kind, payload: Payload | None) -> None:
        if not self.close():
            raise RuntimeError(f"{self._what} was answered already")
        self._child.answer(kind, self._number, payload)

    def close(self) -> bool:
        """Count it as answered; False when it was."""
        try:
            self._unanswered.pop()
        except IndexError:
            return False
        self._child.requests.pop(self._number, None)
        if self.mode == STREAM and (outflow := self._child.outflows.pop(self._number, None)) is not None:
            outflow.let_go()
        return True


Invoke = Callable[[Any, Any, Any, Request], Any]
"""Calls ``function(*args, **kwargs)`` for a request, and returns its value, its items, or the request."""


class Running(Protocol):
    """What runs: a call, or one item after the other."""

    def here(self) -> Request:
        """The request of the code that asks."""
        ...


running: contextvars.ContextVar[Running] = contextvars.ContextVar("relieve_py.request")


class Caller:
    """Runs one call at a time in the main thread."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.invoke: Invoke = self._invoke  # a container may put itself around it
        self._lock = threading.Lock()  # owner: whoever touches _current, _wanted or _async_task
        self._current = 0  # the number of the call whose user code runs
        self._interrupt = 0  # the number of the call to interrupt
        self._async_task: tuple[Any, Any] | None = None
        self._runner: Any = None
        self._dropped: set[int] = set()
        self.batch: Chunk | None = None  # that runs; under the lock
        self.dropped_pieces: dict[int, set[int]] = {}  # of bundles that have not begun; under the lock

    # -- from the watching thread ------------------------------------------------------------------

    def cancel(self, number: int) -> bool:
        """Interrupt that call if it runs, or drop it when its turn comes. True when the main thread has to be woken."""
        request = self._child.requests.get(number)
        with self._lock:
            if self._current != number:
                if request is None:
                    self._dropped.add(number)
                elif request.close():  # its function has returned; the answer was to come later
                    self._child.answer(Kind.END, number, None)
                return False
            return self._interrupt_running(number)

    def cancel_piece(self, number: int, place: int) -> bool:
        """The same for one call of a bundle."""
        with self._lock:
            if self.batch is None or self._current != number:
                self.dropped_pieces.setdefault(number, set()).add(place)
                return False
            if not self.batch.cancel(place):
                return False
            return self._interrupt_running(number)

    def _interrupt_running(self, number: int) -> bool:
        """Under the lock. True when the main thread has to be woken."""
        self._interrupt = number
        if self._async_task is None:
            return True
        loop, task = self._async_task
        loop.call_soon_threadsafe(task.cancel)
        return False

    @property
    def unheeded(self) -> bool:
        """True while the main thread has yet to take note of an interruption."""
        return self._interrupt > 0 and self._interrupt == self._current and self._async_task is None

    def interrupt_again(self) -> None:
        """The main thread took no note of an interrupt."""
        interrupt(self._child.main_thread)

    def stop_soon(self) -> None:
        """A STOP came. The main thread, which reads between two calls, sees that for itself."""

    # -- in the main thread ------------------------------------------------------------------------

    def interrupted(self) -> None:
        """Runs as signal handler in the main thread; raises if the call to interrupt is still the one that runs."""
        if not self._interrupt or self._interrupt != self._current:
            return
        if self.batch is not None and not self.batch.may_be_interrupted():
            return
        if importing(sys._getframe(1)):
            # An import that is broken off leaves half a module behind, which breaks every later use of it.
            return
        self._interrupt = 0
        raise Interrupted

    def run(self, frame: Frame) -> None:
        """Run a CALL frame and answer it. SystemExit passes: it ends the child, and with it the call."""
        child, number = self._child, frame.number
        child.page[BEGUN] = number  # begun: from here on the call dies with this child
        answer: tuple[Kind, Payload | None] | None
        child.inbox.watch_a_call()
        try:
            try:
                with self._lock:
                    self._current = number  # from here on it can be interrupted
                    dropped = self._was_dropped(number) if self._dropped else False
                answer = (Kind.END, None) if dropped else self._perform(frame)
            finally:
                self._current = 0  # an interrupt from here on does nothing; one within this line is caught below
        except Interrupted:
            answer = Kind.END, None
        except SystemExit:
            child.leaving()
            raise
        except BaseException as error:
            answer = Kind.ERROR, error_payload(child.serializer, error)
        child.inbox.call_is_over()
        self._interrupt = 0
        request = child.requests.get(number)
        if answer is not None and (request is None or request.close()):
            child.answer(answer[0], number, answer[1])
        child.page[FINISHED] = number

    def _was_dropped(self, number: int) -> bool:
        """Under the lock: before it began."""
        dropped = number in self._dropped
        self._dropped = {later for later in self._dropped if later > number}
        return dropped

    def _perform(self, frame: Frame) -> tuple[Kind, Payload | None] | None:
        """Call the function; its answer, or None when that comes later."""
        child, number, mode = self._child, frame.number, frame.flags
        if mode == BUNDLE:
            from relieve_py.child.chunk import Bundle

            return Bundle(self, number).run_calls(pickle.loads(frame.payload))
        method, id, created_at, args, kwargs = decode_frame(child.serializer, frame, "the arguments")
        frame.payload, frame.buffers = b"", ()  # the memory that they lay in can be used again while the call runs
        try:
            function = child.exports.find(method)
        except LookupError:
            return Kind.MISSING, missing_payload(method, child.exports.names())
        if mode != GET:
            if mode == CHUNK:
                from relieve_py.child.chunk import Chunk

                return Chunk(self, number, id, method, created_at).run(function, args, kwargs)
            if mode == CALL:
                child.answer(Kind.ACCEPTED, number, None)
        request = Request(child, number, mode, id, method, created_at)
        child.requests[number] = request
        token = running.set(request)
        try:
            result = self.invoke(function, args, kwargs, request)
            if result is request:
                return None
            if mode != GET:
                if mode == STREAM:
                    self._stream(request, result)
                return Kind.END, None
            return _RESULT, _encode_result(child.serializer, result)
        finally:
            running.reset(token)

    def _invoke(self, function: Any, args: Any, kwargs: Any, request: Request) -> Any:
        if not callable(function):
            if args or kwargs:
                raise TypeError(f"{request.method!r} is no function, it takes no arguments")
            return function
        if getattr(function, "relieve_callback", False):
            function(*args, _done(request), **kwargs)
            return request
        result = function(*args, **kwargs)
        if hasattr(result, "__await__"):
            return self._await(result)
        return result

    def _await(self, awaitable: Any) -> Any:
        """Run it on this child's event loop, which lives from call to call."""
        import asyncio

        async def wait() -> Any:
            task = asyncio.current_task()
            with self._lock:
                self._async_task = asyncio.get_running_loop(), task
                if self._interrupt:
                    raise Interrupted
            return await awaitable

        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(wait(), context=contextvars.copy_context())
        except asyncio.CancelledError:
            if self._interrupt:
                raise Interrupted from None
            raise
        finally:
            self._async_task = None
            if hasattr(awaitable, "close"):
                awaitable.close()  # if it was never begun; does nothing to one that is over

    def _stream(self, request: Request, items: Any) -> None:
        """Send each item when the reader has room for it."""
        step = self._steps(items)
        try:
            for item in step:
                request.send_item(_encode_result(self._child.serializer, item))
        finally:
            step.close()

    def _steps(self, items: Any) -> Any:
        """The items of any iterable, sync or async, as a generator that closes what it reads."""
        if hasattr(items, "__aiter__"):
            iterator = items.__aiter__()
            try:
                while True:
                    try:
                        yield self._await(iterator.__anext__())
                    except StopAsyncIteration:
                        return
            finally:
                if hasattr(iterator, "aclose"):
                    self._await(iterator.aclose())
        iterator = iter(items)
        try:
            yield from iterator
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    def let_go(self) -> None:
        """In a process that user code forked: what the call that runs does there is its own, and no other follows."""
        if self.batch is not None:
            self.batch.let_go()

    def close(self) -> None:
        """End the event loop, if there is one."""
        if self._runner is not None:
            self._runner.close()


def importing(frame: FrameType | None) -> bool:
    """True while that frame, or one that it serves, imports a module."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _done(request: Request) -> Callable[..., None]:
    def done(value: Any = None, *, error: BaseException | None = None) -> None:
        if error is not None:
            request.fail(error)
        else:
            request.respond(value)

    return done


def _encode_result(serializer: Serializer, result: Any) -> Payload:
    try:
        return serializer.encode(result)
    except Exception as error:
        refused = (
            error if isinstance(error, EncodeError) else cannot_send(serializer, result, error, {"result": result})
        )
        if hasattr(result, "__next__") or hasattr(result, "__anext__"):
            raise EncodeError(f"{refused}; read its items with stream() instead", path=refused.path) from None
        if refused is error:
            raise
        raise refused from error
