"""Frames to bytes and back: any frames in any pieces, garbage, limits, and the header as it is drawn."""

from __future__ import annotations

import random
import re
import struct
import tracemalloc
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py import wire
from relieve_py.errors import EncodeError, ProtocolError
from relieve_py.wire import (
    HEADER,
    HEADER_BYTES,
    MAX_BUFFERS,
    MAX_DESCRIPTORS,
    MAX_FRAME,
    VERSION,
    Decoder,
    Frame,
    Kind,
    check_size,
    encode,
)

kinds = st.sampled_from(list(Kind))
parts = st.one_of(
    st.binary(max_size=64),
    # around the sizes at which the decoder changes its way: the scratch buffer, half of it, and a joined payload
    st.builds(
        lambda size, byte: bytes([byte]) * size,
        st.sampled_from([0, 1, 4096, 32743, 32744, 32745, 32768, 32769, 65511, 65512, 65536, 65537, 200_000]),
        st.integers(0, 255),
    ),
)
frames = st.builds(
    Frame,
    kind=kinds,
    number=st.integers(0, 2**64 - 1),
    payload=parts,
    buffers=st.lists(parts, max_size=4),
    fds=st.integers(0, MAX_DESCRIPTORS).map(lambda n: [0] * n),
    flags=st.integers(0, 255),
)


def joined(chunks: Iterable[bytes | bytearray | memoryview]) -> bytes:
    return b"".join(bytes(chunk) for chunk in chunks)


def look(frame: Frame) -> tuple[object, ...]:
    """What two equal frames have in common."""
    buffers = [bytes(buffer) for buffer in frame.buffers]
    return frame.kind, frame.number, bytes(frame.payload), buffers, len(frame.fds), frame.flags


def feed(decoder: Decoder, data: bytes, cuts: Sequence[int] = ()) -> list[Frame]:
    """Give the decoder ``data`` in pieces that end at ``cuts``, and no larger than it asks for."""
    found: list[Frame] = []
    start = 0
    for end in [*sorted(cuts), len(data)]:
        while start < end:
            space = decoder.space()
            assert len(space) > 0, "no room to receive into would look like the end of the channel"
            size = min(len(space), end - start)
            space[:size] = data[start : start + size]
            found += decoder.filled(size)
            start += size
    return found


@given(st.data(), st.lists(frames, max_size=5))
def test_frames_cut_into_any_pieces_come_out_the_same(data: st.DataObject, sent: list[Frame]) -> None:
    stream = b"".join(joined(encode(frame)) for frame in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    decoder = Decoder()
    assert [look(frame) for frame in feed(decoder, stream, cuts)] == [look(frame) for frame in sent]
    assert not decoder.midway


def test_a_frame_byte_by_byte() -> None:
    sent = Frame(Kind.CALL, 7, b"payload", [b"one", b"", b"three"], [0, 0], 2)
    stream = joined(encode(sent))
    decoder = Decoder()
    for place in range(len(stream) - 1):
        assert feed(decoder, stream[place : place + 1]) == []
        assert decoder.midway
    (frame,) = feed(decoder, stream[-1:])
    assert look(frame) == look(sent)
    assert not decoder.midway


def test_many_small_frames_arrive_together() -> None:
    stream = b"".join(joined(encode(Frame(Kind.EVENT, n, b"x" * (n % 50)))) for n in range(20_000))
    found = feed(Decoder(), stream)
    assert [frame.number for frame in found] == list(range(20_000))


def test_the_most_buffers_arrive() -> None:
    sent = Frame(Kind.RESULT, 1, b"", [b"%d" % n for n in range(MAX_BUFFERS)])
    (frame,) = feed(Decoder(), joined(encode(sent)))
    assert look(frame) == look(sent)


def test_what_arrived_stays_when_the_decoder_goes_on() -> None:
    """The payload of a small frame is no view of the scratch buffer, which is used again."""
    decoder = Decoder()
    (first,) = feed(decoder, joined(encode(Frame(Kind.EVENT, 1, b"first"))))
    feed(decoder, joined(encode(Frame(Kind.EVENT, 2, b"other"))))
    assert bytes(first.payload) == b"first"


def test_large_parts_are_not_copied_by_encode() -> None:
    payload, buffer = bytes(100_000), bytearray(100_000)
    chunks = encode(Frame(Kind.RESULT, 1, payload, [buffer]))
    assert any(chunk is payload for chunk in chunks)
    assert any(chunk is buffer for chunk in chunks)


def test_buffers_arrive_writable() -> None:
    (frame,) = feed(Decoder(), joined(encode(Frame(Kind.RESULT, 1, b"", [bytes(50_000)]))))
    memoryview(frame.buffers[0])[0] = 1
    assert frame.buffers[0][0] == 1


@pytest.mark.parametrize("large", [False, True])
def test_parts_of_wide_items_travel_by_their_bytes(large: bool) -> None:
    """``len`` of a memoryview counts items, the channel bytes; a serializer of a plug-in may return such a view."""
    doubles = array("d", [1.5, 2.5, 3.5] * (10_000 if large else 1))
    chunks = encode(Frame(Kind.RESULT, 1, memoryview(doubles), [memoryview(doubles)]))
    (frame,) = feed(Decoder(), joined(chunks))
    assert bytes(frame.payload) == doubles.tobytes()
    assert bytes(frame.buffers[0]) == doubles.tobytes()


# -- garbage ---------------------------------------------------------------------------------------


def consume(decoder: Decoder, data: bytes) -> None:
    """Feed until it is used up or refused; each step takes at least one byte, so this ends."""
    try:
        feed(decoder, data)
    except ProtocolError:
        return


@given(st.binary(max_size=300))
def test_garbage_raises_a_protocol_error_or_waits_for_more(data: bytes) -> None:
    consume(Decoder(), data)


headers = st.builds(
    HEADER.pack,
    st.just(VERSION),
    st.one_of(st.sampled_from([int(kind) for kind in Kind]), st.integers(0, 255)),
    st.integers(0, 255),
    st.integers(0, 255),
    st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)),
    st.integers(0, 2**64 - 1),
    st.one_of(st.integers(0, 200), st.integers(0, 2**64 - 1)),
)


@given(st.lists(st.one_of(headers, st.binary(max_size=80)), max_size=8).map(b"".join), st.integers(0, 1 << 20))
def test_garbage_behind_true_headers_raises_nothing_else(data: bytes, limit: int) -> None:
    consume(Decoder(limit), data)


@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_a_stream_with_one_byte_changed_raises_nothing_else(sent: list[Frame], data: st.DataObject) -> None:
    stream = bytearray(b"".join(joined(encode(frame)) for frame in sent))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    consume(Decoder(), bytes(stream))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (HEADER.pack(VERSION + 1, Kind.CALL, 0, 0, 0, 1, 0), f"version {VERSION + 1}"),
        (HEADER.pack(VERSION, 200, 0, 0, 0, 1, 0), "kind 200"),
        (HEADER.pack(VERSION, Kind.CALL, 0, 0, MAX_BUFFERS + 1, 1, 0), f"{MAX_BUFFERS + 1} buffers"),
        (HEADER.pack(VERSION, Kind.CALL, 0, 0, 0, 1, MAX_FRAME + 1), f"{MAX_FRAME + 1} bytes"),
        (HEADER.pack(VERSION, Kind.CALL, MAX_DESCRIPTORS + 1, 0, 0, 1, 0), f"{MAX_DESCRIPTORS + 1} descriptors"),
        (HEADER.pack(VERSION, Kind.CALL, 0, 0, 2, 1, 1) + struct.pack("<2Q", MAX_FRAME, 1), "4,294,967,298 bytes"),
    ],
    ids=["version", "kind", "buffers", "payload", "descriptors", "sum of buffers"],
)
def test_what_is_wrong_with_a_header_is_said(header: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=re.escape(says)):
        feed(Decoder(), header)


def test_a_frame_above_the_decoders_own_limit_is_refused_by_its_header() -> None:
    whole = joined(encode(Frame(Kind.RESULT, 1, bytes(1001))))
    with pytest.raises(ProtocolError, match="1001 bytes"):
        feed(Decoder(max_frame=1000), whole[:HEADER_BYTES])
    assert len(feed(Decoder(max_frame=1001), whole)) == 1


@pytest.mark.parametrize("nbuffers", [0, 1, MAX_BUFFERS])
def test_a_header_alone_costs_little_memory(nbuffers: int) -> None:
    """It may announce 4 GiB; memory is taken as they arrive."""
    each = MAX_FRAME // (nbuffers + 1)
    header = HEADER.pack(VERSION, Kind.RESULT, 0, 0, nbuffers, 1, each) + struct.pack(
        f"<{nbuffers}Q", *[each] * nbuffers
    )
    decoder = Decoder()
    tracemalloc.start()
    try:
        feed(decoder, header + bytes(10))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoder.midway
    assert peak < 20_000_000


@pytest.mark.parametrize("announced", [MAX_FRAME, (40 << 20) + 3])
def test_memory_is_at_most_twice_what_has_arrived_and_never_above_what_was_announced(announced: int) -> None:
    decoder = Decoder()
    chunk = bytes(1 << 20)
    tracemalloc.start()
    try:
        feed(decoder, HEADER.pack(VERSION, Kind.RESULT, 0, 0, 0, 1, announced))
        arrived = 0
        while arrived < 40 << 20:
            arrived += len(chunk)
            feed(decoder, chunk)
            _, peak = tracemalloc.get_traced_memory()
            assert peak < max(2 * arrived, 1 << 24) + 2 * len(chunk)
        found = feed(decoder, bytes(3))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < announced + 2 * len(chunk)  # of which this test itself has one
    assert [len(frame.payload) for frame in found] == ([announced] if announced < MAX_FRAME else [])


@pytest.mark.parametrize("size", [99, 100, 101, 199, 201, 12_345])
def test_a_part_that_grows_arrives_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire._LargeFrame, "GROW", 100)
    parts = [random.Random(size + place).randbytes(size + place) for place in range(3)]
    stream = joined(encode(Frame(Kind.RESULT, 1, parts[0], parts[1:])))
    for step in (1, 7, 150, len(stream)):
        (frame,) = feed(Decoder(), stream, range(0, len(stream), step))
        assert [frame.payload, *frame.buffers] == parts


# -- limits ----------------------------------------------------------------------------------------


def test_a_message_above_the_frame_limit_is_refused_by_name() -> None:
    check_size(MAX_FRAME, 0, 0)
    with pytest.raises(EncodeError, match=f"{MAX_FRAME + 1:,} bytes is above the frame limit of {MAX_FRAME:,} bytes"):
        check_size(MAX_FRAME + 1, 0, 0)


def test_encode_counts_payload_and_buffers_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME", 1000)
    encode(Frame(Kind.RESULT, 1, bytes(1000)))
    encode(Frame(Kind.RESULT, 1, bytes(500), [bytes(500)]))
    with pytest.raises(EncodeError, match="1,001 bytes"):
        encode(Frame(Kind.RESULT, 1, bytes(1001)))
    with pytest.raises(EncodeError, match="1,001 bytes"):
        encode(Frame(Kind.RESULT, 1, bytes(500), [bytes(501)]))


def test_too_many_buffers_are_refused_by_name() -> None:
    encode(Frame(Kind.RESULT, 1, b"", [b""] * MAX_BUFFERS))
    with pytest.raises(EncodeError, match=f"{MAX_BUFFERS + 1:,} buffers is above the limit of {MAX_BUFFERS:,}"):
        encode(Frame(Kind.RESULT, 1, b"", [b""] * (MAX_BUFFERS + 1)))


@pytest.mark.parametrize("buffers", [(), (b"x",)], ids=["payload only", "with a buffer"])
def test_too_many_descriptors_are_refused_by_name(buffers: tuple[bytes, ...]) -> None:
    encode(Frame(Kind.CALL, 1, b"", buffers, [0] * MAX_DESCRIPTORS))
    with pytest.raises(EncodeError, match=f"{MAX_DESCRIPTORS + 1} descriptors is above the limit of {MAX_DESCRIPTORS}"):
        encode(Frame(Kind.CALL, 1, b"", buffers, [0] * (MAX_DESCRIPTORS + 1)))


def test_the_table_of_the_most_buffers_fits_the_scratch_buffer() -> None:
    assert HEADER_BYTES + 8 * MAX_BUFFERS <= Decoder.SCRATCH


# -- the picture -----------------------------------------------------------------------------------


def test_the_header_is_as_it_is_drawn() -> None:
    """The picture of the docstring gives each field's first byte and name; what encode writes agrees."""
    lines = (wire.__doc__ or "").splitlines()
    picture = next(place for place, line in enumerate(lines) if line.strip().startswith("0 "))
    offsets = [int(number) for number in lines[picture].split()]
    names = [name.strip() for name in lines[picture + 2].strip().strip("|").split("|")]
    assert names == ["VERSION", "kind", "nfds", "flags", "nbuffers (u32)", "number (u64)", "payload bytes (u64)"]
    assert offsets == [0, 1, 2, 3, 4, 8, 16, 24]

    written = joined(encode(Frame(Kind.ITEM, 0x0102030405060708, b"abc", [b"de"], [0, 0, 0], 9)))
    values = dict(
        zip(
            names,
            [int.from_bytes(written[a:b], "little") for a, b in pairwise(offsets)],
            strict=True,
        )
    )
    assert values == {
        "VERSION": VERSION,
        "kind": Kind.ITEM,
        "nfds": 3,
        "flags": 9,
        "nbuffers (u32)": 1,
        "number (u64)": 0x0102030405060708,
        "payload bytes (u64)": 3,
    }
    assert written[offsets[-1] :] == struct.pack("<Q", 2) + b"abc" + b"de"


def test_kinds_fit_their_byte_and_have_one_name_each() -> None:
    assert len({int(kind) for kind in Kind}) == len(Kind.__members__)
    assert all(0 < kind < 256 for kind in Kind)


def test_a_frame_shows_what_it_is() -> None:
    assert repr(Frame(Kind.CALL, 3, b"abc", [b""])) == "<Frame CALL 3: 3 bytes, 1 buffers, 0 fds>"
    assert repr(Frame(99, 3)) == "<Frame 99 3: 0 bytes, 0 buffers, 0 fds>"
