"""What the user's own code does in a simulated child: it is loaded and called in this process, step by step."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from relieve_py import ipc
from relieve_py.blackbox import Progress
from relieve_py.child.asking import Answer as Answered
from relieve_py.child.asking import Questions
from relieve_py.child.boot import Objects, Plan, read_objects, read_plan
from relieve_py.child.loading import Exports, load_module
from relieve_py.outcomes import ATOMS, Several
from relieve_py.patterns import matches
from relieve_py.serializers import Payload, PickleSerializer, Serializer, decode, encode
from relieve_py.telling import error_payload, missing_payload
from relieve_py.testing.children import Answer, SimulatedChild, Wait
from relieve_py.testing.scheduler import Scheduler
from relieve_py.texts import pack
from relieve_py.wire import Frame, Kind

GET, CALL, STREAM, CHUNK = 0, 1, 2, 4  # the flags of a CALL frame


class Sleep:
    """What an async function of a simulated child awaits, to take time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __await__(self) -> Generator[float, None, None]:
        yield self._seconds


class Code:
    """The code of one child, and the ``ipc`` of that code while it runs."""

    running: Code | None = None
    """Whose code runs at the moment."""

    def __init__(self, scheduler: Scheduler, exports: Any, child: SimulatedChild) -> None:
        self.name = child.name
        self.argv: list[Any] = []
        self.child = child
        self._scheduler = scheduler
        self._given = exports  # instead of what its script has
        self._exports = Exports({}, ())
        self._serializer: Serializer = PickleSerializer()
        self._handlers: list[tuple[str, Callable[..., Any], bool]] = []
        self._questions = Questions()
        self._before_kill: list[Callable[[], object]] = []

    @contextmanager
    def _here(self) -> Iterator[None]:
        """While it runs, what it does with ``ipc`` is this child's."""
        before, Code.running = Code.running, self
        ipc._set_runtime(self)
        try:
            yield
        finally:
            Code.running = before
            ipc._set_runtime(before)

    # -- as the child has it performed -------------------------------------------------------------

    def start(self, boot: Frame) -> Generator[Wait, None, Payload]:
        """Load what it is to export, and run its ``start()``."""
        yield None
        plan, objects = read_plan(boot), read_objects(boot)
        self._serializer, self.argv = objects.serializer, list(objects.args)
        with self._here():
            self._exports = Exports(self._source(plan, objects), objects.args)
            start = self._exports.start()
            result = start(*objects.args) if start is not None else None
        yield from self._finish(result)
        return Payload(pack(self._exports.names()))

    def _source(self, plan: Plan, objects: Objects) -> Any:
        if plan.program:
            raise TypeError("a simulation has no programs: only the children of CallableTasks are simulated")
        if self._given is not None:
            return self._given
        if plan.kind == "object":
            return objects.target
        before = list(sys.path)
        try:
            return load_module(plan.kind, plan.script)
        finally:
            sys.path[:] = before

    def stop(self) -> Generator[Wait, None, None]:
        """Run its ``stop()``."""
        stop = self._exports.stop()
        if stop is not None:
            with self._here():
                result = stop()
            yield from self._finish(result)

    def warned(self) -> None:
        """Run what is to run before a kill; what it raises is lost, as is what a real child prints of it."""
        functions, self._before_kill = self._before_kill, []
        with self._here():
            for function in functions:
                with suppress(BaseException):
                    function()

    def failure(self, error: BaseException) -> Payload:
        """What the parent is told of an error."""
        return error_payload(self._serializer, error)

    def perform(self, frame: Frame) -> Generator[Wait, None, Answer]:
        """Run a call."""
        yield None
        method, _, _, args, kwargs = decode(self._serializer, Payload.of_frame(frame), "the arguments")
        try:
            function = self._exports.find(method)
        except LookupError:
            return Kind.MISSING, missing_payload(method, self._exports.names())
        if frame.flags == CHUNK:
            return (yield from self._chunk(frame.number, function, args))
        if frame.flags == CALL:
            self.child.send(Frame(Kind.ACCEPTED, frame.number))
        with self._here():
            result = function(*args, **kwargs) if callable(function) else function
        result = yield from self._finish(result)
        if frame.flags == STREAM:
            yield from self._stream(frame.number, result)
        if frame.flags != GET:
            return Kind.END, None
        return Kind.RESULT, encode(self._serializer, result, result=result)

    def _chunk(self, number: int, function: Any, items: list[Any]) -> Generator[Wait, None, Answer]:
        """Run items one after the other; what each gave is kept where the parent sees it."""
        child, kept, records, failures = self.child, Several(0), b"", 0
        began = self._scheduler.now()
        for index, item in enumerate(items):
            child.progress = Progress(index + 1, 0, index, records)
            if child.recalled == number:
                child.progress = Progress(index, 0, index, records)
                break
            yield None
            try:
                with self._here():
                    result = function(self._item(item))
                result = yield from self._finish(result)
                outcome = result if type(result) in ATOMS else kept.sealed(Kind.RESULT, self._serializer.encode(result))
            except Exception as error:
                failures += 1
                outcome = kept.sealed(Kind.ERROR, self.failure(error))
            kept.add(outcome)
            records += pickle.dumps(outcome, 5)
            child.progress = Progress(index + 1, 0, index + 1, records)
        return Kind.RESULT, kept.payload(len(kept.values), failures, self._scheduler.now() - began)

    def _item(self, item: Any) -> Any:
        return decode(self._serializer, Payload(item[0]), "the arguments") if type(item) is tuple else item

    def _finish(self, result: Any) -> Generator[Wait, None, Any]:
        """Wait for what an async function returned; it may await Sleep and what is made of that."""
        if not hasattr(result, "__await__"):
            return result
        steps = result.__await__()
        error: BaseException | None = None
        while True:
            try:
                with self._here():
                    wait = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            try:
                if wait is not None and not isinstance(wait, float | int):
                    raise TypeError(f"code of a simulated child awaits Simulation.sleep() only, not {wait!r}")
                yield wait
            except BaseException as thrown:  # an interrupt: the function may still tidy up
                error = thrown

    def _stream(self, number: int, items: Any) -> Generator[Wait, None, None]:
        outflow = self.child.outflows[number]
        for item in self._items(items):
            item = yield from self._finish(item)
            if item is _END:
                return
            payload = encode(self._serializer, item, result=item)
            while not outflow.has_room():
                yield outflow.has_room
            outflow.sent(len(payload))
            self.child.send(payload.to_frame(Kind.ITEM, number))
            yield None

    def _items(self, items: Any) -> Iterator[Any]:
        """One after the other; of an async generator, what gives each."""
        if hasattr(items, "__aiter__"):
            iterator = items.__aiter__()
            while True:
                yield _next_of(iterator)
        source: Iterator[Any] = iter(items)
        while True:
            with self._here():
                item = next(source, _END)
            yield item

    # -- what the parent says ----------------------------------------------------------------------

    def told(self, frame: Frame) -> None:
        """An event of the parent, or its answer to a question."""
        if frame.kind != Kind.EVENT:
            self._questions.answered(self._serializer, frame)
            return
        name, args = decode(self._serializer, Payload.of_frame(frame), "the event")
        heard = [entry for entry in self._handlers if matches(entry[0], name)]
        self._handlers = [entry for entry in self._handlers if not (entry[2] and entry in heard)]
        with self._here():
            for _, handler, _ in heard:
                handler(*args)

    # -- as its ipc --------------------------------------------------------------------------------

    def send(self, name: str, args: tuple[Any, ...]) -> None:
        """An event to the parent."""
        self.child.send(encode(self._serializer, (name, args), args=args).to_frame(Kind.EVENT, 0))

    def emit(self, name: str, args: tuple[Any, ...]) -> Answered:
        """A question to the parent."""
        payload = encode(self._serializer, (name, args), args=args)
        number, answer = self._questions.ask(_SimulatedAnswer(self._scheduler))
        self.child.send(payload.to_frame(Kind.EVENT, number))
        return answer

    def on(self, name: str, handler: Callable[..., Any], once: bool) -> None:
        """Register a handler."""
        self._handlers = [*self._handlers, (name, handler, once)]

    def off(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        """Remove handlers."""
        self._handlers = [
            entry
            for entry in self._handlers
            if (name is not None and entry[0] != name) or (handler is not None and entry[1] != handler)
        ]

    def available(self, yes: bool) -> None:
        """Whether calls are welcome."""
        self.child.send(Frame(Kind.IDLE if yes else Kind.BUSY))

    def open_stream(self, number: int, binary: bool) -> Any:
        """Raises LookupError: a simulated child is given plain arguments."""
        raise LookupError("streams among the arguments of a call are not simulated")

    def go(self, for_good: bool) -> None:
        """Ask for the child's end."""
        self.child.send(Frame(Kind.RETIRE if for_good else Kind.DRAIN))

    def before_kill(self, function: Callable[[], object]) -> None:
        """Have it run before a SIGTERM ends the child."""
        self._before_kill.append(function)

    def request(self) -> ipc.Request:
        """Raises LookupError: a simulated child answers with what its functions return."""
        raise LookupError("ipc.request() is not simulated: a function answers with what it returns")

    def all_requests(self) -> list[ipc.Request]:
        """None."""
        return []


async def _next_of(iterator: Any) -> Any:
    try:
        return await iterator.__anext__()
    except StopAsyncIteration:
        return _END


_END: Any = object()


class _SimulatedAnswer(Answered):
    """Whoever waits for it has the simulation go on."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def result(self, timeout: float | None = None) -> Any:
        """As outside a simulation, on its clock."""
        deadline = None if timeout is None else self._scheduler.now() + timeout
        self._scheduler.help_until(self.done, deadline)
        return super().result(0)
