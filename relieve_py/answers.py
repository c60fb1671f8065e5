"""What came back from a child, still encoded: opened by whoever asks for it first, never on the I/O thread."""

from __future__ import annotations

from typing import Any

from relieve_py.errors import DecodeError, RemoteError, RemoteTraceback
from relieve_py.serializers import Payload, Serializer, decode


class Encoded:
    """A value or an error as it came from the child."""

    __slots__ = ("is_error", "payload", "serializer", "what")

    def __init__(self, serializer: Serializer, payload: Payload, what: str, is_error: bool = False) -> None:
        self.serializer = serializer
        self.payload = payload
        self.what = what
        self.is_error = is_error

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
