"""What came back from a child, still encoded: opened by whoever asks for it first, never on the I/O thread."""

from __future__ import annotations

import threading
from typing import Any

from relieve_py.errors import DecodeError, RemoteError, RemoteTraceback, StartError
from relieve_py.interruptions import raised_by_handler
from relieve_py.serializers import Payload, Serializer, decode, first_line
from relieve_py.texts import unpack


class Encoded:
    """A value or an error as it came from the child."""

    __slots__ = ("is_error", "payload", "serializer", "what")

    def __init__(self, serializer: Serializer, payload: Payload, what: str, is_error: bool = False) -> None:
        self.serializer = serializer
        self.payload = payload
        self.what = what
        self.is_error = is_error

    def outline(self) -> BaseException:
        """An error as type, text and traceback only, for a log: no code of the user runs in here."""
        try:
            return _outline(self.payload)
        except DecodeError as error:
            return error

    def open(self) -> tuple[Any, BaseException | None]:
        """The value and None, or None and the error. User code may run in here."""
        try:
            if self.is_error:
                return None, remote_error(self.serializer, self.payload)
            return rebuilt(self.serializer, self.payload, self.what), None
        except DecodeError as error:
            return None, error


def rebuilt(serializer: Serializer, payload: Payload, what: str) -> Any:
    """What a child sent, as an object again. Raises DecodeError, whatever the code that rebuilds it raises.

    What a signal handler raises passes, and a KeyboardInterrupt of the main thread: that is Ctrl-C, as far as anybody
    can tell.
    """
    try:
        return decode(serializer, payload, what)
    except DecodeError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        if raised_by_handler(error):
            raise
        raise DecodeError(f"{what} cannot be rebuilt: {type(error).__name__}: {first_line(error)}") from error


def remote_error(serializer: Serializer, payload: Payload) -> BaseException:
    """The exception that the other side told of. Raises DecodeError. User code may run in here.

    One that cannot be rebuilt, or that is no Exception (a KeyboardInterrupt of a child must not stop this process),
    becomes a RemoteError.
    """
    plain = _outline(payload)
    if not payload.buffers or not serializer.any_object:
        return plain
    try:
        exception = rebuilt(serializer, Payload(payload.buffers[0], payload.buffers[1:]), "the exception")
    except DecodeError:
        return plain
    if not isinstance(exception, Exception):
        return plain
    exception.__cause__ = plain.__cause__
    return exception


def _outline(payload: Payload) -> RemoteError:
    """Type, text and traceback only; no code of the user runs in here. Raises DecodeError."""
    try:
        name, text, traceback = unpack(payload.data)
    except ValueError as error:
        raise DecodeError(f"the child told of an error in a way that is not understood: {error}") from error
    plain = RemoteError(name, text, traceback)
    plain.__cause__ = RemoteTraceback(traceback)
    return plain


def start_error(task: str, serializer: Serializer, payload: Payload) -> StartError:
    """Why the child could not become ready; its cause is the child's exception: as text now, and as itself once
    somebody looks at it. Raises DecodeError."""
    plain = _outline(payload)
    error = StartError(f"task {task!r} could not start: {plain.type}: {plain.text}", task=task)
    error.__cause__ = plain
    error.__dict__["_late"] = serializer, payload
    return error


def complete(error: BaseException) -> None:
    """Make the late cause of an error the exception itself. User code may run in here."""
    late = error.__dict__.pop("_late", None) if isinstance(error, StartError) else None
    if late is not None:
        error.__cause__ = remote_error(*late)
