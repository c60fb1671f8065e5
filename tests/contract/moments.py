"""The moments at which CPython runs signal handlers, one after the other, so that a test need not hit them by luck:
when a call of C code returns, when a function begins and, as far as this can be watched, when a loop goes round."""

from __future__ import annotations

import dis
import functools
import signal
import sys
import threading
from types import CodeType, FrameType, TracebackType
from typing import Any

OURS = ("relieve_py", "concurrent", "threading", "asyncio")
"""In whose code there are moments."""


class Moment:
    """A context in which ``error`` is raised at the moment of that number, as a handler would; ``where`` is None when
    there was none. What CPython drops, as anything that is raised in a finalizer, is ``dropped``."""

    def __init__(self, number: int, error: BaseException) -> None:
        self.where: str | None = None
        self.dropped = False
        self.error = error
        self._left = number

    def __enter__(self) -> Moment:
        self._hook, sys.unraisablehook = sys.unraisablehook, self._drop
        self._handled = signal.signal(signal.SIGUSR2, self._handler)
        self._moments = _Moments(self._come)
        self._moments.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._moments.end()
        signal.signal(signal.SIGUSR2, self._handled)
        sys.unraisablehook = self._hook

    def _drop(self, args: Any) -> None:
        if args.exc_value is self.error:
            self.dropped = True
        else:
            self._hook(args)

    def _come(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left < 0 and self.where is None:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
            self._handler(signal.SIGUSR2, frame)

    def _handler(self, signum: int, frame: FrameType | None) -> None:
        raise self.error


def _is_ours(frame: FrameType) -> bool:
    return bool(frame.f_globals.get("__name__", "").startswith(OURS))


if sys.version_info >= (3, 12):

    class _Moments:
        def __init__(self, come: Any) -> None:
            self._come = come

        def begin(self) -> None:
            self._thread, monitoring = threading.get_ident(), sys.monitoring
            events = monitoring.events
            monitoring.use_tool_id(monitoring.DEBUGGER_ID, "moments")
            for event in (events.PY_START, events.C_RETURN):
                monitoring.register_callback(monitoring.DEBUGGER_ID, event, self._came)
            monitoring.set_events(monitoring.DEBUGGER_ID, events.PY_START | events.CALL)

        def end(self) -> None:
            sys.monitoring.set_events(sys.monitoring.DEBUGGER_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.DEBUGGER_ID)

        def _came(self, code: CodeType, *_: Any) -> None:
            self._tell(sys._getframe(1))

        def _tell(self, frame: FrameType) -> None:
            if threading.get_ident() == self._thread and _is_ours(frame):
                self._come(frame)

else:  # the steps of the code tell it: what comes behind one that looks for signals
    _LOOKS = frozenset(dis.opmap[name] for name in ("CALL", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD"))

    @functools.cache
    def _guards(code: CodeType) -> list[Any]:
        return dis.Bytecode(code).exception_entries  # type: ignore[attr-defined, no-any-return]

    def _guard_of(code: CodeType, offset: int) -> int | None:
        return next((entry.target for entry in _guards(code) if entry.start <= offset < entry.end), None)

    class _Moments:
        def __init__(self, come: Any) -> None:
            self._come = come
            self._last: dict[FrameType, tuple[int, int] | None] = {}  # of each frame its last step, if that called none
            # One for all frames, kept here: when it raises, CPython 3.11 lets go of it, and may call it once more.
            self._tracer = self._trace

        def begin(self) -> None:
            sys.settrace(self._tracer)

        def end(self) -> None:
            sys.settrace(None)
            self._last.clear()
            del self._tracer  # which refers to this

        def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
            if event == "call":
                if not _is_ours(frame):
                    return None
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
                if frame.f_back is not None:
                    self._last[frame.f_back] = None
                self._last[frame] = None
                self._come(frame)  # a function begins
            elif event == "return":
                self._last.pop(frame, None)
            elif event == "opcode":
                self._step(frame)
            return self._tracer

        def _step(self, frame: FrameType) -> None:
            code, at = frame.f_code, frame.f_lasti
            last, self._last[frame] = self._last.get(frame), (code.co_code[at], at)
            # What would be raised in the last step is raised in this one, which must make no difference.
            if last is not None and last[0] in _LOOKS and _guard_of(code, last[1]) == _guard_of(code, at):
                self._come(frame)
