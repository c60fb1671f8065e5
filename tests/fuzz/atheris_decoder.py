"""A fuzzer guided by coverage (atheris) for what reads bytes: the decoder of frames, texts, and what frames mean.

Not collected by pytest. ``tox -e fuzz`` runs it; so does ``python tests/fuzz/atheris_decoder.py``, with the options of
libFuzzer (``-max_total_time=600``) and folders of inputs to begin with.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable

import atheris

with atheris.instrument_imports(include=["relieve_py"]):
    from relieve_py import wire
    from relieve_py.answers import Encoded
    from relieve_py.errors import ProtocolError, RelieveError
    from relieve_py.messages import exports_of, missing_of, start_error_of
    from relieve_py.serializers import CborSerializer, JsonSerializer, Payload
    from relieve_py.texts import pack, unpack
    from relieve_py.wire import Decoder, Frame, encode

from seeds import frames, with_seeds

LIMIT = 1000
"""The largest frame of the decoder under test, so that inputs reach it."""
SERIALIZERS = (JsonSerializer(), CborSerializer())


def one_input(data: bytes) -> None:
    """Cut the bytes into frames, in pieces that the bytes choose; then read what those frames say."""
    if len(data) < 2:
        return
    found = decoded(data[2:], 1 + data[0] * data[1])
    stream = data[2:]
    again = b"".join(bytes(chunk) for frame in found for chunk in encode(frame))
    assert stream.startswith(again), "what was decoded is not what was sent"
    for frame in found:
        assert len(frame.payload) + sum(map(len, frame.buffers)) <= LIMIT
        read(frame)


def decoded(stream: bytes, step: int) -> list[Frame]:
    """The frames, as far as it makes sense; nothing but a ProtocolError ends that."""
    decoder, found, place = Decoder(LIMIT), list[Frame](), 0
    try:
        while place < len(stream):
            space = decoder.space()
            assert len(space) > 0, "no room to receive into would look like the end of the channel"
            piece = stream[place : place + min(len(space), step)]
            space[: len(piece)] = piece
            found += decoder.filled(len(piece))
            place += len(piece)
    except ProtocolError:
        return found
    return found


def read(frame: Frame) -> None:
    """Everything that is ever made of a frame of a child; nothing but the library's own errors comes of it."""
    for meaning in (exports_of, lambda frame: missing_of(frame, "t"), texts):
        try:
            meaning(frame)
        except (RelieveError, ValueError):
            continue
    for serializer in SERIALIZERS:
        with contextlib.suppress(ProtocolError):
            start_error_of(serializer, frame, "t")
        for is_error in (False, True):
            encoded = Encoded(serializer, Payload.of_frame(frame), "what came", is_error)
            encoded.outline()
            _, error = encoded.open()
            assert error is None or isinstance(error, RelieveError)


def texts(frame: Frame) -> None:
    """There is one way to write them."""
    assert pack(unpack(frame.payload)) == bytes(frame.payload)


def inputs() -> Iterable[bytes]:
    """To begin with: each kind of frame, alone and in a row."""
    for name, data in frames():
        yield bytes([name, 3]) + data
    few = [data for place, data in frames() if place % 20 == 0]
    yield bytes([7, 7]) + b"".join(few)


if __name__ == "__main__":
    wire._LargeFrame.GROW = 50  # so that parts of inputs grow, too
    atheris.Setup(with_seeds(sys.argv, ["-max_len=4096"], inputs()), one_input)
    atheris.Fuzz()
