"""The life of a child: boot, become ready, serve what comes over the channel, leave."""

from __future__ import annotations

import _thread
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from relieve_py import ipc
from relieve_py.blackbox import BEGUN
from relieve_py.channel import Channel
from relieve_py.child.asking import Answer, Questions
from relieve_py.child.boot import Objects, Plan, read_objects, read_plan
from relieve_py.child.calling import Caller, Invoke, Request, running
from relieve_py.child.handlers import Handlers
from relieve_py.child.lastwords import LastWords
from relieve_py.child.limiting import set_limits
from relieve_py.child.loading import Exports, load_module, load_program, paths_of_preload, run_container
from relieve_py.child.notice import Notice
from relieve_py.child.outflow import Outflow
from relieve_py.child.process import (
    become_child,
    exit_code_of,
    interrupt,
    leave,
    leave_signals,
    leave_with_parent,
    on_interrupt,
    print_error,
)
from relieve_py.child.receiving import Inbox
from relieve_py.child.sending import Outbox
from relieve_py.child.streams import buffer_lines
from relieve_py.errors import EncodeError
from relieve_py.lending import LendingChild
from relieve_py.serializers import Payload, PickleSerializer, Serializer, decode, encode
from relieve_py.telling import error_payload
from relieve_py.texts import pack
from relieve_py.wire import TELL, Frame, Kind

if TYPE_CHECKING:
    from relieve_py.child.concurrent import ConcurrentCaller
    from relieve_py.child.inflow import Inflow


class Child:
    """This process, as its parent's child. One per process."""

    def __init__(self, sock: socket.socket, last_words: LastWords) -> None:
        self.page = last_words.numbers
        self.outcomes = last_words.outcomes
        self._last_words = last_words
        self.serializer: Serializer = PickleSerializer()
        self.name = ""
        self.argv: list[Any] = []
        self.requests: dict[int, Request] = {}
        self.exports = Exports({}, ())
        self._channel = Channel(sock, lending=LendingChild())
        self._outbox = Outbox(self._channel)
        self.inbox = Inbox(self._channel, self._handle)
        self._notice = Notice()
        self._log_no_more: Callable[[], object] = int  # ends what sends log records
        self._in_program = False
        self._told_ready = self._said_busy = False
        self._handlers = Handlers()
        self._questions = Questions()
        self.outflows: dict[int, Outflow] = {}  # streams that are sent
        self.inflows: dict[int, Inflow] = {}  # streams among arguments that are read
        self._caller = Caller(self)
        self._concurrent: ConcurrentCaller | None = None  # that caller, when it runs many calls at once
        self.main_thread = threading.get_ident()

    # -- the life ----------------------------------------------------------------------------------

    def live(self) -> int:
        """Everything from the first frame to the exit code."""
        os.register_at_fork(after_in_child=self._let_go)
        on_interrupt(self._interrupted)
        # Thread.start() would wait until the thread runs, which takes milliseconds when the processors are busy.
        _thread.start_new_thread(self._watch, ())
        return self.act()

    def act(self) -> int:
        """The same, without what makes it last: the thread that watches, and the hooks."""
        try:
            frame = self.inbox.next_frame()
            if frame is None or frame.kind != Kind.BOOT:
                leave_with_parent()
            if self.inbox.stopping:
                return 0
            with self.inbox.watched:
                plan = read_plan(frame)
                objects = self._prepare(plan, frame)
                if plan.program:
                    code = self._run_program(plan, objects)
                    return code if code is not None else self._leave_softly()
                self._become_ready(plan, objects)
            self._serve()
        except SystemExit as error:
            if not self._told_ready and not self.inbox.stopping:
                self._tell_failed(error)
            return exit_code_of(error)
        except BaseException as error:
            if self._told_ready:
                raise
            self._tell_failed(error)
            return 1
        return self._leave_softly()

    def _prepare(self, plan: Plan, frame: Frame) -> Objects:
        """Take on what the parent says: names, paths, the ``ipc`` of user code, containers."""
        self.name = plan.name
        if plan.line_buffered:
            buffer_lines()
        if plan.dump_stacks:
            self._last_words.welcome_dump()
        if plan.limits:
            set_limits(plan.limits, self._last_words)
        sys.path[:] = [*plan.sys_path, *paths_of_preload]
        if plan.cwd is not None:
            os.chdir(plan.cwd)
        if plan.log_level is not None:
            self._forward_logs(plan.log_level)
        if plan.concurrency > 1:
            from relieve_py.child.concurrent import ConcurrentCaller

            self._caller = self._concurrent = ConcurrentCaller(self)
            self._outbox.uninterrupted = self._concurrent.uninterrupted
            self.inbox.take = self._concurrent.begin
            if self.inbox.stopping:  # which was told the other one, maybe
                self._concurrent.stop_soon()
        objects = read_objects(frame)
        self.serializer = objects.serializer
        self.argv = list(objects.args)
        sys.argv = [plan.script, *map(str, objects.args)]
        ipc._set_runtime(self)
        for container in objects.containers:
            run_container(container, ipc)
        return objects

    def _forward_logs(self, level: int) -> None:
        from relieve_py.child.logs import forward

        self._log_no_more = forward(level, lambda record: self.answer(Kind.RECORD, 0, Payload(record)))

    def leaving(self) -> None:
        """A call has ended this child. Threads that go on may not keep it, and the call, for ever: the parent looks."""
        self.answer(Kind.LEAVING, 0, None)

    def _become_ready(self, plan: Plan, objects: Objects) -> None:
        source = objects.target if plan.kind == "object" else load_module(plan.kind, plan.script)
        self.exports = Exports(source, objects.args)
        start = self.exports.start()
        if start is not None:
            self._finish(start(*objects.args))
        self._tell_ready()

    def _run_program(self, plan: Plan, objects: Objects) -> int | None:
        """Run the script, or the function, as a program; its exit code, or None when it has to leave softly."""
        body = self._load_body(plan, objects)
        self._handlers.keeping = True
        self._in_program = True  # from here on, STOP interrupts
        if self.inbox.stopping:
            return None
        if not plan.ready_on_call:
            self._tell_ready()
        try:
            body()
        except SystemExit as error:
            return None if self.inbox.stopping else exit_code_of(error)
        except BaseException as error:
            if not self._told_ready:
                self._tell_failed(error)
            print_error(error)
            return 1
        finally:
            self._in_program = self._handlers.keeping = False
        if self._told_ready and self._handlers.any:
            self._serve()
            return None
        return None if self.inbox.stopping else 0

    def _load_body(self, plan: Plan, objects: Objects) -> Callable[[], None]:
        if plan.kind == "object":
            self.exports = Exports({"stop": getattr(objects.target, "stop", None)}, ())
            return lambda: self._finish(objects.target(*objects.args))
        code, main = load_program(plan.kind, plan.script)
        self.exports = Exports(main, ())
        return lambda: self._run_main(code, main.__dict__, objects.args)

    def _run_main(self, code: Any, namespace: dict[str, Any], argv: tuple[Any, ...]) -> None:
        exec(code, namespace)
        start = namespace.get("start")
        if callable(start):
            self._finish(start(*argv))

    def _finish(self, result: Any) -> None:
        """Wait for what an async hook returned."""
        if hasattr(result, "__await__"):
            self._caller._await(result)

    def _leave_softly(self) -> int:
        """The script's ``stop()``, then the end."""
        stop = self.exports.stop()
        if stop is not None:
            with self.inbox.watched:
                try:
                    self._finish(stop())
                except SystemExit as error:
                    return exit_code_of(error)
                except BaseException as error:
                    print_error(error)
                    return 1
        self._caller.close()
        return 0

    # -- receiving ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Run calls until a STOP came and all calls before it are done."""
        if self._concurrent is not None:
            with self.inbox.watched:
                self._concurrent.serve()
            return
        self.inbox.watch(False)
        while (frame := self.inbox.next_frame()) is not None:
            if self._handlers.unsettled:
                self.inbox.watch(True)
                self.settle_events()
            self._caller.run(frame)

    def settle_events(self) -> None:
        """Wait until the events that came before a call are handled."""
        self._handlers.settle()

    def _handle(self, frame: Frame) -> None:
        """What is no call, on the thread that reads."""
        match frame.kind:
            case Kind.EVENT:
                self._handlers.put(
                    lambda: self._decode_event(frame), lambda: self.answer(Kind.DELIVERED, frame.number, None)
                )
            case Kind.CANCEL:
                if self._cancel(frame):
                    interrupt(self.main_thread)
            case Kind.RESULT | Kind.ERROR:
                self._questions.answered(self.serializer, frame)
            case Kind.CREDIT if (outflow := self.outflows.get(frame.number)) is not None:
                outflow.credit(int.from_bytes(frame.payload, "little"))
            case Kind.PING:
                self.answer(Kind.PONG, 0, None)
            case Kind.STOP:
                self.inbox.stopping = True
                self._caller.stop_soon()
                if self._in_program:
                    interrupt(self.main_thread)
            case Kind.FEED | Kind.FED:
                self._feed(frame)

    def _cancel(self, frame: Frame) -> bool:
        """True when the main thread has to be woken."""
        number = frame.number
        if frame.flags & TELL and (number in self.requests or number > self.page[BEGUN]):  # else it is over
            self._last_words.tell_stacks()
        if len(frame.payload):
            return self._caller.cancel_piece(frame.number, int.from_bytes(frame.payload, "little"))
        return self._caller.cancel(frame.number)

    def _feed(self, frame: Frame) -> None:
        """An item of a stream among arguments, or its end."""
        inflow = self.inflows.get(frame.number)
        if inflow is not None:
            if frame.kind == Kind.FED:
                del self.inflows[frame.number]
            inflow.arrived(frame)

    def _decode_event(self, frame: Frame) -> tuple[str, list[Any]]:
        payload = Payload.of_frame(frame)
        name, args = decode(self.serializer, payload, "the event")
        return name, list(args)

    def _watch(self) -> None:
        leave_signals()
        self.inbox.serve(self._is_unheeded, self._interrupt_again)

    def _is_unheeded(self) -> bool:
        return self._caller.unheeded or (self.inbox.stopping and self._in_program)

    def _interrupt_again(self) -> None:
        if self._caller.unheeded:
            self._caller.interrupt_again()
        if self.inbox.stopping and self._in_program:
            interrupt(self.main_thread)

    def _interrupted(self) -> None:
        """In the main thread, as signal handler."""
        if self._outbox.slow:
            return  # it will be repeated
        if self.inbox.stopping and self._in_program:
            self._in_program = False
            raise SystemExit(0)
        self._caller.interrupted()

    # -- sending -----------------------------------------------------------------------------------

    def answer(self, kind: Kind, number: int, payload: Payload | None) -> None:
        """Send a frame about that call. A frame that is too large becomes an error frame."""
        try:
            self._outbox.send(kind, number, payload)
        except EncodeError as error:
            self.answer(Kind.ERROR, number, error_payload(self.serializer, error))
        except OSError:
            if threading.get_ident() == self.main_thread and not self._channel.lost:
                raise  # of a signal handler, or for want of something
            leave_with_parent()

    def _tell_ready(self) -> None:
        self._told_ready = True
        self.answer(Kind.READY, 0, Payload(pack(self.exports.names())))

    def _tell_failed(self, error: BaseException) -> None:
        self.answer(Kind.FAILED, 0, error_payload(self.serializer, error))

    def retire(self) -> None:
        """After ``act``, where the process goes on: nothing of this child stays."""
        ipc._set_runtime(None)
        self._last_words.let_go()
        self.inbox.close()
        self._channel.close()

    def _let_go(self) -> None:
        """In a process that user code forked: the channel stays with this child."""
        self._channel.close()
        self._caller.let_go()
        self._last_words.let_go()
        self._log_no_more()
        self._notice.let_go()
        ipc._set_runtime(None)

    # -- for what tests programs against this library ----------------------------------------------

    def around_calls(self, wrap: Callable[[Invoke], Invoke]) -> None:
        """Have every call from now on go through ``wrap(invoke)``, where ``invoke`` is its way so far."""
        self._caller.invoke = wrap(self._caller.invoke)

    def spoil(self, garbage: bytes) -> None:
        """Write to the channel what is no frame."""
        self._outbox.spoil(garbage)

    # -- ipc ---------------------------------------------------------------------------------------

    def send(self, name: str, args: tuple[Any, ...]) -> None:
        """An event to the parent."""
        self.answer(Kind.EVENT, 0, encode(self.serializer, (name, args), args=args))

    def emit(self, name: str, args: tuple[Any, ...]) -> Answer:
        """An event to the parent that is answered."""
        payload = encode(self.serializer, (name, args), args=args)
        self._questions.wait_for_room()
        number, answer = self._questions.ask()
        self.answer(Kind.EVENT, number, payload)
        return answer

    def on(self, name: str, handler: Callable[..., Any], once: bool) -> None:
        """Register a handler of the parent's events."""
        self._handlers.add(name, handler, once)

    def off(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        """Remove handlers."""
        self._handlers.remove(name, handler)

    def available(self, yes: bool) -> None:
        """Tell the parent whether calls are welcome; the first yes is what ``ready="call"`` waits for."""
        if yes and not self._told_ready:
            self._tell_ready()
            if not self._said_busy:
                return
        self._said_busy = not yes
        self.answer(Kind.IDLE if yes else Kind.BUSY, 0, None)

    def go(self, for_good: bool) -> None:
        """Ask the parent for this child's end."""
        self.answer(Kind.RETIRE if for_good else Kind.DRAIN, 0, None)

    def open_stream(self, number: int, binary: bool) -> Any:
        """What stands for a stream among the arguments of a call."""
        from relieve_py.child.inflow import Inflow, InflowFile

        inflow = Inflow(self, number)
        return InflowFile.open(inflow) if binary else inflow

    def before_kill(self, function: Callable[[], object]) -> None:
        """Have it run when this child is about to be killed."""
        self._notice.add(function)

    def request(self) -> ipc.Request:
        """The call that runs. Raises LookupError outside a call."""
        try:
            return running.get().here()
        except LookupError:
            raise LookupError("no call runs here: ipc.request() is for a function that is called by a parent") from None

    def all_requests(self) -> list[ipc.Request]:
        """The calls that are not answered."""
        return list(self.requests.values())


_STRAY = "a process that a call has forked by os.fork() went on behind that call, and ends here; have it os._exit()"


def main(channel_fd: int, page_fd: int) -> NoReturn:
    """Be a child on these inherited descriptors, until the end of the process."""
    os.set_inheritable(channel_fd, False)
    os.set_inheritable(page_fd, False)
    run(socket.socket(fileno=channel_fd), page_fd)


def run(sock: socket.socket, page_fd: int) -> NoReturn:
    """Be a child on this channel and page, until the end of the process."""
    code, pid = 1, os.getpid()
    try:
        become_child()
        child = Child(sock, LastWords(page_fd))
        code = child.live()
        child.inbox.watch(True)  # what threads that are joined now ask the parent can still be answered
    except BaseException as error:
        if os.getpid() == pid:
            import traceback

            traceback.print_exception(error)
        elif sys.stderr is not None:
            sys.stderr.write(f"relieve_py: {_STRAY}\n")
    finally:
        signal.signal(signal.SIGURG, signal.SIG_IGN)
        leave(code)
