"""What the frames of a child mean; only plain data is decoded here, so that no user code runs on the I/O thread."""

from __future__ import annotations

from typing import Any

from relieve_py.answers import with_late_cause
from relieve_py.errors import DecodeError, MethodNotFound, ProtocolError, StartError
from relieve_py.serializers import Payload, Serializer, decode
from relieve_py.wire import Frame


def exports_of(serializer: Serializer, frame: Frame) -> tuple[str, ...]:
    """The names in a READY frame. Raises ProtocolError."""
    return tuple(map(str, _plain(serializer, frame)))


def missing_of(serializer: Serializer, frame: Frame, task: str) -> MethodNotFound:
    """The error in a MISSING frame. Raises ProtocolError."""
    told = _plain(serializer, frame)
    if len(told) != 2 or not isinstance(told[1], (list, tuple)):
        raise ProtocolError("a message about a missing method is not understood")
    asked, names = told[0], tuple(map(str, told[1]))
    what = f"has no {asked!r}" if asked is not None else "has no default function"
    there = f"it exports: {', '.join(names)}" if names else "it exports nothing"
    return MethodNotFound(f"task {task!r} {what}; {there}", asked=asked, available=names)


def start_error_of(serializer: Serializer, frame: Frame, task: str) -> StartError:
    """The error in a FAILED frame. Raises ProtocolError."""
    told = _plain(serializer, frame)
    if len(told) != 4:
        raise ProtocolError("a message about a failed start is not understood")
    name, text, traceback = map(str, told[:3])
    error = StartError(f"task {task!r} could not start: {name}: {text}", task=task)
    return with_late_cause(error, serializer, (name, text, traceback, told[3]))


def _plain(serializer: Serializer, frame: Frame) -> Any:
    """Plain data that the child runtime itself sent. Raises ProtocolError for anything else."""
    try:
        told = decode(serializer, Payload.of_frame(frame), "a message of the child")
    except DecodeError as error:
        raise ProtocolError(str(error)) from error
    if not isinstance(told, (list, tuple)):
        raise ProtocolError(f"a message of the child is a {type(told).__name__}")
    return told
