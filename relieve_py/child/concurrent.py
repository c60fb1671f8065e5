"""Runs many calls of a child at once: each on a thread, and coroutines on the event loop of the main thread."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from relieve_py.blackbox import BEGUN
from relieve_py.child.calling import Caller, Interrupted, importing
from relieve_py.child.process import leave_signals, print_error, take_signals
from relieve_py.serializers import Payload
from relieve_py.telling import error_payload
from relieve_py.wire import Frame, Kind

if TYPE_CHECKING:
    from relieve_py.child.runtime import Child

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc


class _Running:
    """One call, from when it came until its function has returned. Under the caller's lock."""

    __slots__ = ("asked", "task", "thread", "unwanted")

    def __init__(self) -> None:
        self.thread = 0  # that runs the user's code, and may be interrupted
        self.task: asyncio.Task[Any] | None = None  # that runs it instead
        self.unwanted = False  # the parent has no more use for it
        self.asked = False  # the thread was interrupted


class ConcurrentCaller(Caller):
    """Runs each call that comes at once: the parent sends no more than the task's ``concurrency``."""

    def __init__(self, child: Child) -> None:
        super().__init__(child)
        # Not a ThreadPoolExecutor: where the system gives no thread it loses count of those that are idle.
        self._work: SimpleQueue[Frame | None] = SimpleQueue()
        self._threads = 0  # that take from there; under the lock
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._calls: dict[int, _Running] = {}
        self._here = threading.local()  # .running: the call of this thread
        self._open = 0  # calls that came and are not over
        self._stopping = False
        self._over = asyncio.Event()
        self._exit: BaseException | None = None  # what a call has ended this child with

    # -- in the main thread ------------------------------------------------------------------------

    def serve(self) -> None:
        """Run the event loop until a STOP came and all calls are over. Raises the SystemExit of a call, and what a task
        of the user has ended the loop with."""

        async def until_over() -> None:
            await self._over.wait()

        try:
            self._runner.run(until_over())
        except BaseException as error:
            self._leave(error)  # or the calls would wait for a loop that runs no more
        for _ in range(self._threads):  # they are joined, after the calls that they run
            self._work.put(None)
        if self._exit is not None:
            self.close()  # coroutines that go on are cancelled
            raise self._exit

    def interrupted(self) -> None:
        """No call runs in the main thread."""

    # -- in the watching thread --------------------------------------------------------------------

    def begin(self, frame: Frame) -> None:
        """Have a CALL frame run."""
        with self._lock:
            if self._exit is not None:
                return  # this child leaves; as it never began, the next child gets the call
            self._child.page[BEGUN] = frame.number  # begun: from here on the call dies with this child
            self._calls[frame.number] = _Running()
            self._open += 1
            error = self._need_thread()
        if error is None:
            self._work.put(frame)
        else:
            self._end(frame.number, (Kind.ERROR, error_payload(self._child.serializer, error)))

    def _need_thread(self) -> RuntimeError | None:
        """Under the lock: have as many threads as calls. One that has answered takes the next, also when it is not
        back yet. What the system says when it gives no thread."""
        if len(self._calls) > self._threads:
            try:
                threading.Thread(target=self._take_calls, name=f"relieve-call_{self._threads}").start()
            except RuntimeError as error:
                return error
            self._threads += 1
        return None

    def stop_soon(self) -> None:
        """A STOP came: leave when all calls are over."""
        with self._lock:
            self._stopping = True
            self._look_whether_over()

    def cancel(self, number: int) -> bool:
        """Interrupt that call, wherever it runs."""
        with self._lock:
            running = self._calls.get(number)
            if running is not None:
                running.unwanted = True
                self._interrupt_one(running)
        if running is None:
            request = self._child.requests.get(number)
            if request is not None and request.close():  # its function has returned; the answer was to come later
                self._child.answer(Kind.END, number, None)
        outflow = self._child.outflows.get(number)
        if outflow is not None:
            outflow.let_go()  # no thread that waits for room can be interrupted
        return False

    @property
    def unheeded(self) -> bool:
        """True while an interrupt had to be put off."""
        return any(call.unwanted and call.thread and not call.asked for call in list(self._calls.values()))

    def interrupt_again(self) -> None:
        """Interrupt what could not be interrupted before."""
        with self._lock:
            for running in self._calls.values():
                if running.unwanted:
                    self._interrupt_one(running)

    def _interrupt_one(self, running: _Running) -> None:
        """Under the lock."""
        if running.task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: this child leaves
                self._loop.call_soon_threadsafe(running.task.cancel)
        elif running.thread and not running.asked and not importing(sys._current_frames().get(running.thread)):
            running.asked = True
            _raise_in_thread(ctypes.c_ulong(running.thread), ctypes.py_object(Interrupted))

    # -- on the thread of a call -------------------------------------------------------------------

    def _take_calls(self) -> None:
        leave_signals()
        while (frame := self._work.get()) is not None:
            try:
                self._run(frame)
            except BaseException as error:  # the thread stays, and may not be counted in vain
                print_error(error)

    def _run(self, frame: Frame) -> None:
        take_signals()  # a process that a call starts has the mask of its thread
        try:
            self._run_call(frame)
        finally:
            leave_signals()  # while it waits, they are the main thread's, which may hold them

    def _run_call(self, frame: Frame) -> None:
        child, number = self._child, frame.number
        running = self._here.running = self._calls[number]
        answer: tuple[Kind, Payload | None] | None = Kind.END, None
        try:
            try:
                child.settle_events()
                if self._may_be_interrupted(running):
                    answer = self._perform(frame)
            finally:
                self._let_go(running)
        except Interrupted:
            answer = Kind.END, None
        except SystemExit as error:
            self._leave(error)
            return
        except BaseException as error:
            answer = Kind.ERROR, error_payload(child.serializer, error)
        self._let_go(running)  # again: an interrupt may have come on the way into the first
        self._end(number, answer)

    def _end(self, number: int, answer: tuple[Kind, Payload | None] | None) -> None:
        """The function has returned, or will never be called; None: the answer comes later."""
        with self._lock:
            del self._calls[number]
        request = self._child.requests.get(number)
        if answer is not None and (request is None or request.close()):
            self._child.answer(answer[0], number, answer[1])
        with self._lock:
            self._open -= 1
            self._look_whether_over()

    def _may_be_interrupted(self, running: _Running) -> bool:
        """From here on; False when nobody wants the call any more."""
        with self._lock:
            running.thread = 0 if running.unwanted else threading.get_ident()
            return not running.unwanted

    @contextlib.contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """While this thread is in the middle of a frame. Raises Interrupted behind it."""
        running: _Running | None = getattr(self._here, "running", None)
        if running is None or not running.thread:
            yield
            return
        self._let_go(running)
        yield
        if not self._may_be_interrupted(running):
            raise Interrupted

    def _let_go(self, running: _Running) -> None:
        """The user's code has returned: an interrupt may not hit what follows."""
        while True:
            try:
                with self._lock:
                    thread, running.thread = running.thread, 0
                    if running.asked and thread:
                        _raise_in_thread(ctypes.c_ulong(thread), None)
                return
            except Interrupted:
                continue

    def _await(self, awaitable: Any) -> Any:
        """Run it on the event loop, and wait here."""
        if threading.get_ident() == self._child.main_thread:  # start() or stop() of the script
            return super()._await(awaitable)
        running: _Running = self._here.running
        self._let_go(running)  # the thread only waits from here on; it is the task that is interrupted

        async def wait() -> tuple[Any, BaseException | None]:
            with self._lock:
                running.task = asyncio.current_task()
                unwanted = running.unwanted
            try:
                if not unwanted:
                    return await awaitable, None
            except (SystemExit, KeyboardInterrupt) as error:
                return None, error  # raised here, they would end the loop before this call hears of them
            finally:
                running.task = None
                if hasattr(awaitable, "close"):
                    awaitable.close()  # if it was never begun; does nothing to one that is over
            raise Interrupted

        try:
            result, ended = asyncio.run_coroutine_threadsafe(wait(), self._loop).result()
        except BaseException:
            if self._exit is not None:  # another call has ended this child, and this one dies with it
                raise self._exit from None
            if running.unwanted:
                raise Interrupted from None
            raise
        if ended is not None:
            raise ended
        if not self._may_be_interrupted(running):
            raise Interrupted
        return result

    def _leave(self, error: BaseException) -> None:
        """A call has ended this child, and with it the others."""
        self._child.leaving()
        with self._lock:
            self._exit = self._exit or error
            self._wake_main()

    def _look_whether_over(self) -> None:
        """Under the lock."""
        if self._stopping and not self._open:
            self._wake_main()

    def _wake_main(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the main thread is on its way out
            self._loop.call_soon_threadsafe(self._over.set)
