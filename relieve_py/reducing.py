"""What pickle cannot reduce, or not to what the other side can use: descriptors, memoryviews, streams, and code that it
cannot import. And which buffers travel beside a pickle."""

from __future__ import annotations

import io
import os
import pickle
import sys
import threading
from collections.abc import Callable
from types import (
    AsyncGeneratorType,
    CellType,
    CodeType,
    FunctionType,
    GeneratorType,
    MappingProxyType,
    ModuleType,
)
from typing import Any

from relieve_py.byvalue import dump_by_value, importable, load_by_value, reduce_class
from relieve_py.errors import DecodeError
from relieve_py.wire import MAX_BUFFERS, Bytes

OUT_OF_BAND = 16384
"""Buffers from this many bytes on travel beside the pickle. Less: more parts a frame; more: more copying."""


def put_beside(buffer: pickle.PickleBuffer, buffers: list[Bytes]) -> bool:
    """pickle's buffer_callback: False takes the buffer out of band. Small and strided ones stay in the pickle."""
    try:
        raw = buffer.raw()
    except BufferError:
        return True
    if raw.nbytes < OUT_OF_BAND or len(buffers) >= MAX_BUFFERS:
        return True
    buffers.append(_beside_the_view(raw) if isinstance(raw.obj, memoryview) else raw)
    return False


def _beside_the_view(raw: memoryview) -> Bytes:
    """The bytes of a memoryview through another view of the same memory, and not through that view.

    Before Python 3.13 the process crashes when the collector finds a view and a view of it in one cycle, as in the
    traceback of an error.
    """
    view: memoryview = raw.obj  # type: ignore[assignment]
    try:
        return memoryview(view).cast("B")
    except (TypeError, ValueError):  # a format that cast() does not know
        return raw.tobytes()


class Streamed:
    """What is not sent but streamed, item by item; see ``feeds``."""


class StreamInside(TypeError):
    """Raised by PickleSerializer for an object with a stream in it, outside ``encode_streamed``."""


Representation = Callable[[Any], Any]


class _Leaving(threading.local):
    """How this thread represents streams in what it encodes."""

    represent: Representation | None = None


leaving = _Leaving()


def _reduce_stream(obj: Any) -> Any:
    if leaving.represent is not None:
        return leaving.represent(obj)
    raise StreamInside(f"cannot pickle {type(obj).__name__!r} object: it goes only with a call, as an argument")


class _Arriving(threading.local):
    """The descriptors of the payload that this thread decodes; those left over are closed by their owner."""

    fds: list[int] | None = None


arriving = _Arriving()


class RichPickler(pickle.Pickler):
    """pickle that also knows descriptors, memoryviews, and code that the other side cannot import."""

    def __init__(self, file: io.BytesIO, buffers: list[Bytes], fds: list[int]) -> None:
        super().__init__(file, 5, buffer_callback=lambda buffer: put_beside(buffer, buffers))
        self._fds = fds

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type):
            return NotImplemented if importable(obj) else reduce_class(obj)
        if isinstance(obj, FunctionType):
            return NotImplemented if importable(obj) else (load_by_value, (dump_by_value(obj),))
        if isinstance(obj, (ModuleType, CodeType, CellType, MappingProxyType)):
            return load_by_value, (dump_by_value(obj),)
        if isinstance(obj, (GeneratorType, AsyncGeneratorType, Streamed)):
            return _reduce_stream(obj)
        return _reduce_plain(obj, self._fds)


def _reduce_plain(obj: Any, fds: list[int]) -> Any:
    """How memoryviews and objects around a descriptor travel; NotImplemented for all else."""
    if isinstance(obj, memoryview):
        # Of another order than C's, a copy: the bytes alone would not tell which is which.
        buffer = pickle.PickleBuffer(obj if obj.c_contiguous else obj.tobytes())
        return _rebuild_memoryview, (buffer, _native_format(obj), obj.shape)
    socket = sys.modules.get("socket")
    if socket is not None and isinstance(obj, socket.socket):
        if hasattr(obj, "getpeercert"):
            raise TypeError("an SSL socket cannot be sent: its session stays in this process")
        return _rebuild_socket, (_give(obj.fileno(), fds), obj.family, obj.type, obj.proto, obj.gettimeout())
    if isinstance(obj, io.TextIOWrapper):
        obj.flush()
        if obj.seekable():
            obj.seek(obj.tell())  # gives back what the decoder has read ahead
        binary = obj.buffer
        return _rebuild_text, (binary, obj.encoding, obj.errors, obj.line_buffering)
    if isinstance(obj, (io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom)):
        if obj.writable():
            obj.flush()
        if obj.seekable():
            os.lseek(obj.fileno(), obj.tell(), os.SEEK_SET)  # gives back what the buffer has read ahead
        raw = obj if isinstance(obj, io.FileIO) else obj.raw
        mode = getattr(raw, "mode", "rb")
        return _rebuild_file, (_give(obj.fileno(), fds), mode, type(obj) is not io.FileIO)
    return NotImplemented


def _give(fd: int, fds: list[int]) -> int:
    """Keep a copy of ``fd`` for the journey; return its place among the descriptors."""
    if fd < 0:
        raise ValueError("it is closed")
    fds.append(os.dup(fd))
    return len(fds) - 1


def _take(index: int) -> int:
    """The descriptor at that place of the payload being decoded, now the caller's."""
    fds = arriving.fds
    if fds is None or index >= len(fds):
        raise DecodeError("a descriptor is missing from the message")
    return os.dup(fds[index])


def _native_format(view: memoryview) -> str:
    """The format by which the other side makes the same view, where only native ones can be made. numpy's of what is
    not aligned says that it has the machine's order and the standard's sizes. Raises TypeError when there is none."""
    order = "<" if sys.byteorder == "little" else ">"
    native = view.format[1:] if view.format[:1] in ("=", order) else view.format
    try:  # with other memory of that kind, lest the traceback refers to views of the user's, see _beside_the_view
        some = _rebuild_memoryview(bytes(16), native, (16 // view.itemsize,)) if view.itemsize else None
        if some is not None and some.itemsize == view.itemsize:
            if not view.nbytes:
                _rebuild_memoryview(b"", native, view.shape or ())
            return native
    except (TypeError, ValueError):
        pass
    raise TypeError(
        f"cannot send a memoryview of format {view.format!r} and shape {view.shape}: cast() does not know it"
    )


def _rebuild_memoryview(buffer: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(buffer).cast("B")
    return view if format == "B" and len(shape) == 1 else view.cast(format, shape)  # type: ignore[call-overload]


def _rebuild_socket(index: int, family: int, type: int, proto: int, timeout: float | None) -> Any:
    import socket

    sock = socket.socket(family, type, proto, fileno=_take(index))
    sock.settimeout(timeout)
    return sock


def _rebuild_file(index: int, mode: str, buffered: bool) -> Any:
    return open(_take(index), mode, buffering=-1 if buffered else 0, closefd=True)


def _rebuild_text(binary: Any, encoding: str, errors: str, line_buffering: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(binary, encoding, errors, line_buffering=line_buffering)
