"""What the tests of the serializers share: a journey as over a channel, and objects that make trouble."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any

from relieve_py.serializers import (
    Descriptors,
    Payload,
    PickleSerializer,
    Serializer,
    decode,
    encode,
)

PICKLE = PickleSerializer()


def round_trip(obj: Any, serializer: Serializer = PICKLE) -> Any:
    return decode(serializer, travel(encode(serializer, obj)), "it")


def travel(payload: Payload) -> Payload:
    """As over a channel: other memory, other descriptors."""
    buffers = [bytearray(buffer) for buffer in payload.buffers]
    fds = [] if payload.descriptors is None else [os.dup(fd) for fd in payload.descriptors.fds]
    return Payload(bytes(payload.data), buffers, Descriptors(fds) if fds else None)


def open_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))


class Unpicklable:
    """Refused by pickle and by dill."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("it will not go")


class Interrupting:
    """Encodes, and raises a signal while it is decoded."""

    def __reduce__(self) -> Any:
        return signal.raise_signal, (signal.SIGUSR1,)


class Exploding:
    """Encodes, and raises while it is decoded."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return explode, (self.how,)


def explode(how: str) -> Any:
    if how == "exit":
        sys.exit(3)
    raise ZeroDivisionError("while decoding\nand a second line")
