"""Objects to payloads and back: pickle 5 with out-of-band buffers, dill for what pickle cannot, json, cbor.

A Payload is what a frame carries of an object: ``data``, large ``buffers`` that are not copied into it, and
``descriptors`` (sockets and files are handed over as descriptors and arrive as the same Python type).

``pickle`` tries three ways, each slower and stronger than the one before: plain ``pickle.dumps``; a pickler that knows
descriptors, memoryviews, and functions and classes that the other side cannot import (each of those is sent by value,
with dill); and dill for the whole object.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
from collections.abc import Sequence
from types import FunctionType, ModuleType, NoneType
from typing import Any, Protocol, runtime_checkable

from relieve_py import wire
from relieve_py.byvalue import dump_by_value
from relieve_py.errors import DecodeError, EncodeError
from relieve_py.interruptions import raised_by_handler
from relieve_py.reducing import Representation, RichPickler, StreamInside, arriving, leaving, put_beside
from relieve_py.splicing import BARE, DEEP, MANY, PASSED, SPLICE, dump, dump_shortly, is_spliced, large_bytes, load
from relieve_py.wire import Bytes, Frame, check_size, size_of


class Descriptors:
    """File descriptors with an owner: closed when the last reference to this object goes."""

    __slots__ = ("fds",)

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds

    def take(self) -> list[int]:
        """The descriptors, which are the caller's from now on."""
        fds, self.fds = self.fds, []
        return fds

    def __del__(self) -> None:
        while self.fds:
            try:
                os.close(self.fds.pop())
            except OSError:  # closed by someone else: nothing of ours is left to close
                continue


class Payload:
    """What travels of one object. ``descriptors`` is None or the owner of the descriptors that go with it."""

    __slots__ = ("buffers", "data", "descriptors")

    def __init__(self, data: Bytes, buffers: Sequence[Bytes] = (), descriptors: Descriptors | None = None) -> None:
        self.data = data
        self.buffers = buffers
        self.descriptors = descriptors

    @classmethod
    def of_frame(cls, frame: Frame) -> Payload:
        """What a frame that came carries, with the owner of its descriptors."""
        owner = frame.owner
        if owner is not None and not isinstance(owner, Descriptors):
            owner = None
        return cls(frame.payload, frame.buffers, owner)

    def to_frame(self, kind: int, number: int, flags: int = 0) -> Frame:
        """The frame that carries it; it keeps the descriptors open until it is sent."""
        fds = self.descriptors.fds if self.descriptors is not None else ()
        return Frame(kind, number, self.data, self.buffers, fds, flags, self.descriptors)

    def check(self) -> None:
        """Raise EncodeError, naming the limit, when it may not travel."""
        if type(self.data) is bytes and not self.buffers and self.descriptors is None:  # as most are
            if len(self.data) > wire.MAX_FRAME:
                check_size(len(self.data), 0, 0)
            return
        check_size(len(self), len(self.buffers), len(self.descriptors.fds) if self.descriptors is not None else 0)

    def copy(self) -> Payload:
        """The same with descriptors of its own, so that decoding it takes none away."""
        if self.descriptors is None:
            return self
        return Payload(self.data, self.buffers, Descriptors([os.dup(fd) for fd in self.descriptors.fds]))

    def __len__(self) -> int:
        nbytes = size_of(self.data)
        return nbytes + sum(map(size_of, self.buffers)) if self.buffers else nbytes


@runtime_checkable
class Serializer(Protocol):
    """Turns objects into payloads. An instance is sent to the child by pickle, so its class must be importable there.

    ``name`` is how users ask for it. ``any_object`` says whether it carries every Python object (so that exceptions
    and code can travel as themselves) or only plain data; the latter is for children that are not trusted.
    """

    name: str
    any_object: bool

    def encode(self, obj: Any) -> Payload:
        """The payload of ``obj``. Raises any exception when it cannot be carried."""
        ...

    def decode(self, payload: Payload) -> Any:
        """The object again. Raises any exception when ``payload`` is not valid."""
        ...


_ATOMS = frozenset({int, float, bool, str, NoneType})
"""What has no parts, and means the same on the other side."""


class PickleSerializer:
    """pickle protocol 5, and dill where pickle cannot."""

    name = "pickle"
    any_object = True

    def encode(self, obj: Any) -> Payload:
        kind = type(obj)
        if kind in _ATOMS:
            return Payload(pickle.dumps(obj, 5))
        if kind is bytes and len(obj) >= SPLICE:
            return Payload(BARE, (obj,))
        buffers: list[Bytes] = []

        def beside(buffer: pickle.PickleBuffer) -> bool:
            return put_beside(buffer, buffers)

        large = large_bytes(obj, DEEP - 1) if kind is tuple and len(obj) <= MANY else large_bytes((obj,))
        try:
            if large and (short := dump_shortly(obj, large)) is not None:
                data, buffers = short
            elif large and max(large.values()) >= PASSED:
                data, buffers = dump(obj, beside, buffers, large)
            else:
                data = pickle.dumps(obj, 5, buffer_callback=beside)
        except Exception as error:
            if raised_by_handler(error):
                raise
            return _encode_rich(obj)
        if data.rfind(b"_main__") >= 0:  # of MAINS, whose names mean another thing there; (`in` takes longer)
            return _encode_rich(obj)
        return Payload(data, buffers or ())  # an empty list of its own costs each call that waits

    def decode(self, payload: Payload) -> Any:
        data = payload.data
        if is_spliced(data):  # never with descriptors
            return load(data, payload.buffers)
        if payload.descriptors is None:
            return pickle.loads(data, buffers=payload.buffers)
        arriving.fds = payload.descriptors.fds
        try:
            return pickle.loads(payload.data, buffers=payload.buffers)
        finally:
            arriving.fds = None


def encode_call(
    serializer: Serializer, call: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Payload:
    """``serializer.encode(call)``, which has these arguments, and atoms. Most calls have atoms as arguments, too: they
    refer to nothing, and hold nothing that has to be looked for."""
    if not kwargs and type(serializer) is PickleSerializer and _ATOMS.issuperset(map(type, args)):
        return Payload(pickle.dumps(call, 5))
    return serializer.encode(call)


class JsonSerializer:
    """json: plain data only; nothing that arrives is ever executed. Tuples arrive as lists."""

    name = "json"
    any_object = False

    def encode(self, obj: Any) -> Payload:
        import json

        return Payload(json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))

    def decode(self, payload: Payload) -> Any:
        import json

        return json.loads(bytes(payload.data).decode("utf-8", "surrogatepass"))


class CborSerializer:
    """cbor, by cbor2: plain data with bytes, dates, decimals and sets. Tuples arrive as lists."""

    name = "cbor"
    any_object = False

    def __init__(self) -> None:
        try:
            importlib.import_module("cbor2")
        except ImportError as error:
            raise ImportError(
                "the cbor serializer needs cbor2: pip install 'relieve-py[cbor]'", name="cbor2"
            ) from error

    def encode(self, obj: Any) -> Payload:
        import cbor2

        return Payload(cbor2.dumps(obj))

    def decode(self, payload: Payload) -> Any:
        import cbor2

        return cbor2.loads(bytes(payload.data))


def encode(serializer: Serializer, obj: Any, /, **named_parts: Any) -> Payload:
    """``serializer.encode(obj)``; raises EncodeError that names the part that cannot be carried.

    ``named_parts`` are the parts of ``obj`` under the names that its owner knows them by.
    """
    try:
        return serializer.encode(obj)
    except EncodeError:
        raise
    except Exception as error:
        if raised_by_handler(error):
            raise
        raise cannot_send(serializer, obj, error, named_parts) from error


def cannot_send(serializer: Serializer, obj: Any, error: Exception, named_parts: dict[str, Any]) -> EncodeError:
    """The error that names the part of ``obj`` for which ``serializer.encode(obj)`` raised that."""
    named, culprit = "the message", obj
    for name, part in named_parts.items():
        if not _encodes(serializer, part):
            path, culprit = _find_culprit(serializer, part)
            named = name + path
            break
    return EncodeError(
        f"{named} cannot be sent with the {serializer.name} serializer: "
        f"{type(culprit).__name__} object: {first_line(error)}",
        path=named,
    )


def encode_streamed(serializer: Serializer, obj: Any, represent: Representation, /, **named_parts: Any) -> Payload:
    """Like ``encode``, where streams are not carried but represented: ``represent(stream)`` says how to make on the
    other side what stands for it, or is NotImplemented."""
    leaving.represent = represent
    try:
        return encode(serializer, obj, **named_parts)
    finally:
        leaving.represent = None


def decode(serializer: Serializer, payload: Payload, what: str) -> Any:
    """``serializer.decode(payload)``; raises DecodeError that names ``what``."""
    try:
        return serializer.decode(payload)
    except DecodeError:
        raise
    except (Exception, SystemExit) as error:
        if raised_by_handler(error):
            raise
        raise _cannot_rebuild(what, error) from error


def decode_frame(serializer: Serializer, frame: Frame, what: str) -> Any:
    """The same for what a frame that came carries."""
    if type(serializer) is not PickleSerializer or frame.owner is not None:
        return decode(serializer, Payload.of_frame(frame), what)
    try:
        if is_spliced(frame.payload):
            return load(frame.payload, frame.buffers)
        return pickle.loads(frame.payload, buffers=frame.buffers)
    except DecodeError:
        raise
    except (Exception, SystemExit) as error:
        if raised_by_handler(error):
            raise
        raise _cannot_rebuild(what, error) from error


def _cannot_rebuild(what: str, error: BaseException) -> DecodeError:
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = "; make that module importable here, or return plain data"
    return DecodeError(f"{what} cannot be rebuilt: {type(error).__name__}: {first_line(error)}{hint}")


def first_line(error: BaseException) -> str:
    """The first line of its text, also when it has none to give."""
    try:
        return (str(error).splitlines() or [""])[0]
    except Exception as broken:
        return f"<its __str__ raised {type(broken).__name__}>"


# -- the stronger ways -----------------------------------------------------------------------------


def _encode_rich(obj: Any) -> Payload:
    fds: list[int] = []
    owner = Descriptors(fds)  # closes what was taken when encoding fails half-way
    buffers: list[Bytes] = []
    file = io.BytesIO()
    try:
        RichPickler(file, buffers, fds).dump(obj)
    except StreamInside:
        raise  # dill cannot send it either
    except Exception as error:
        if raised_by_handler(error):
            raise
        try:
            return Payload(dump_by_value(obj))
        except Exception as later:
            raise later if raised_by_handler(later) else error from None
    # Not getbuffer(): the collector may close the file before its view, and that is an error nobody can catch.
    return Payload(file.getvalue(), buffers, owner if fds else None)


# -- the part that cannot be sent ------------------------------------------------------------------


def _find_culprit(serializer: Serializer, obj: Any) -> tuple[str, Any]:
    """The path below ``obj`` of the smallest part that cannot be sent, and that part."""
    path, seen = "", {id(obj)}
    for _ in range(32):  # deeper than that, the outer parts of the path are help enough
        for step, part in _parts(obj):
            if id(part) not in seen and not _encodes(serializer, part):
                seen.add(id(part))
                path, obj = path + step, part
                break
        else:
            return path, obj
    return path, obj


def _parts(obj: Any) -> list[tuple[str, Any]]:
    if isinstance(obj, dict):
        return [(f"[{key!r}]", value) for key, value in obj.items()]
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [(f"[{i}]", value) for i, value in enumerate(obj)]
    if isinstance(obj, (type, FunctionType, ModuleType)) or _refuses(obj):
        return []
    held = [(f".{name}", value) for name, value in getattr(obj, "__dict__", {}).items()]
    for cls in type(obj).__mro__:
        names = cls.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(obj, name):
                held.append((f".{name}", getattr(obj, name)))
    return held


def _refuses(obj: Any) -> bool:
    """Whether it says by itself that it cannot be sent, whatever it consists of."""
    try:
        obj.__reduce_ex__(5)
    except Exception:
        return True
    return False


def _encodes(serializer: Serializer, part: Any) -> bool:
    try:
        serializer.encode(part)
    except Exception:
        return False
    return True
