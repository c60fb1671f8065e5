"""Questions of a child to its parent: events whose listener's return value comes back."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

from relieve_py.answers import Encoded
from relieve_py.child.process import take_signals
from relieve_py.serializers import Payload, Serializer
from relieve_py.wire import MAX_QUESTIONS, Frame, Kind


class Answer(Future[Any]):
    """The parent's answer to ``ipc.emit``: a ``concurrent.futures.Future`` that can also be awaited."""

    def result(self, timeout: float | None = None) -> Any:
        """What the listener in the parent returned. Raises what it raised, LookupError when there is none,
        TimeoutError."""
        value, error = self._encoded(timeout).open()
        if error is not None:
            raise error
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the listener raised, or None. Raises TimeoutError."""
        error: BaseException | None = self._encoded(timeout).open()[1]
        return error

    def _encoded(self, timeout: float | None) -> Any:
        if timeout is not None:
            from relieve_py.timeouts import check_timeout

            check_timeout(timeout)
        return super().result(timeout)

    def _invoke_callbacks(self) -> None:
        # Not on the thread that reads: what a callback waits for would never be read.
        if self._done_callbacks:  # type: ignore[attr-defined] # of the base class, which typeshed does not show
            threading.Thread(target=self._run_callbacks, daemon=True).start()

    def _run_callbacks(self) -> None:
        take_signals()  # the thread that reads holds them, and a new thread has the mask of the one that starts it
        super()._invoke_callbacks()  # type: ignore[misc]

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        return asyncio.wrap_future(self).__await__()


class Questions:
    """Those that are not answered."""

    def __init__(self) -> None:
        # Owner: whoever touches _open; also a signal handler that has interrupted that in its own thread.
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._open: dict[int, Answer] = {}
        self._numbers = itertools.count(1)

    def ask(self, answer: Answer | None = None) -> tuple[int, Answer]:
        """The number of a new question, and where its answer will be."""
        answer = answer or Answer()
        with self._lock:
            number = next(self._numbers)
            self._open[number] = answer
        return number, answer

    def wait_for_room(self) -> None:
        """Wait until the parent takes another one. Not on the thread that reads the answers."""
        if len(self._open) >= MAX_QUESTIONS:
            with self._room:
                self._room.wait_for(lambda: len(self._open) < MAX_QUESTIONS)

    def answered(self, serializer: Serializer, frame: Frame) -> None:
        """The parent has answered; it is decoded by whoever asks for it."""
        with self._lock:
            answer = self._open.pop(frame.number, None)
            self._room.notify()
        if answer is not None and answer.set_running_or_notify_cancel():
            payload = Payload.of_frame(frame)
            answer.set_result(Encoded(serializer, payload, "the parent's answer", frame.kind == Kind.ERROR))
