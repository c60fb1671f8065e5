"""What the frames of a child say of itself. The I/O thread reads them, so no serializer is asked, which may be slow or
the user's code."""

from __future__ import annotations

from relieve_py.answers import start_error
from relieve_py.errors import DecodeError, MethodNotFound, ProtocolError, StartError
from relieve_py.serializers import Payload, Serializer
from relieve_py.texts import unpack
from relieve_py.wire import Frame

MAX_NAMES = 1 << 22
"""The most bytes of a message with names of exports. More: a child may keep the I/O thread longer; less: children with
very many exports are refused."""


def exports_of(frame: Frame) -> tuple[str, ...]:
    """The names in a READY frame. Raises ProtocolError."""
    return tuple(_names(frame))


def missing_of(frame: Frame, task: str) -> MethodNotFound:
    """The error in a MISSING frame. Raises ProtocolError."""
    told = _names(frame)
    if not told:
        raise ProtocolError("a message about a missing method is empty")
    asked, names = told[0][1:] if told[0] else None, tuple(told[1:])
    what = f"has no {asked!r}" if asked is not None else "has no default function"
    there = f"it exports: {', '.join(names)}" if names else "it exports nothing"
    return MethodNotFound(f"task {task!r} {what}; {there}", asked=asked, available=names)


def start_error_of(serializer: Serializer, frame: Frame, task: str) -> StartError:
    """The error in a FAILED frame. Raises ProtocolError."""
    try:
        return start_error(task, serializer, Payload.of_frame(frame))
    except DecodeError as error:
        raise ProtocolError(str(error)) from error


def _names(frame: Frame) -> list[str]:
    if len(frame.payload) > MAX_NAMES:
        raise ProtocolError(f"a message with names has {len(frame.payload):,} bytes, which is above {MAX_NAMES:,}")
    try:
        return unpack(frame.payload)
    except ValueError as error:
        raise ProtocolError(f"a message with names is not understood: {error}") from error
