"""What came back from a child, still encoded: opened by whoever asks for it first, never on the I/O thread."""

from __future__ import annotations

from typing import Any

from relieve_py.errors import DecodeError, RemoteError, RemoteTraceback, StartError
from relieve_py.serializers import Payload, Serializer, decode


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
            name, text, traceback, _ = decode(self.serializer, self.payload, self.what)
        except (DecodeError, TypeError, ValueError) as error:
            return error
        plain = RemoteError(str(name), str(text), str(traceback))
        plain.__cause__ = RemoteTraceback(str(traceback))
        return plain

    def open(self) -> tuple[Any, BaseException | None]:
        """The value and None, or None and the error. User code may run in here."""
        try:
            value = decode(self.serializer, self.payload, self.what)
            if self.is_error:
                return None, remote_error(self.serializer, value)
        except DecodeError as error:
            return None, error
        return value, None


def remote_error(serializer: Serializer, told: Any) -> BaseException:
    """The exception that a child told of as ``(type, text, traceback, encoded exception or None)``.

    One that cannot be rebuilt, or that is no Exception (a KeyboardInterrupt of a child must not stop this process),
    becomes a RemoteError.
    """
    try:
        name, text, traceback, data = told
        plain = RemoteError(str(name), str(text), str(traceback))
    except (TypeError, ValueError) as error:
        raise DecodeError(f"the child told of an error in a way that is not understood: {error}") from error
    if data is None or not serializer.any_object:
        plain.__cause__ = RemoteTraceback(plain.traceback)
        return plain
    try:
        rebuilt = decode(serializer, Payload(data), "the exception")
    except DecodeError:
        rebuilt = None
    exception: BaseException = rebuilt if isinstance(rebuilt, Exception) else plain
    exception.__cause__ = RemoteTraceback(plain.traceback)
    return exception


def with_late_cause(error: StartError, serializer: Serializer, told: tuple[Any, ...]) -> StartError:
    """Give it the child's exception as its cause: as text now, and as itself once somebody looks at it."""
    plain = remote_error(serializer, (*told[:3], None))
    error.__cause__ = plain
    error.__dict__["_late"] = serializer, told
    return error


def complete(error: BaseException) -> None:
    """Make the late cause of an error the exception itself. User code may run in here."""
    late = error.__dict__.pop("_late", None) if isinstance(error, StartError) else None
    if late is not None:
        error.__cause__ = remote_error(*late)
