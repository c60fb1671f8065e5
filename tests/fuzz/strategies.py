"""What a hostile child may send, for hypothesis: from plain noise to frames that are almost right."""

from __future__ import annotations

import json
import pickle
import socket

import cbor2
from bombs import BOMBS
from hypothesis import strategies as st
from puppets import Action, Begin, Send, Shut, frame_bytes

from relieve_py.wire import HEADER, MAX_BUFFERS, MAX_DESCRIPTORS, MAX_FRAME, VERSION, Kind

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
said = st.one_of(
    plain,
    st.tuples(st.text(max_size=8), st.lists(plain, max_size=3)),  # an event
    st.tuples(st.sampled_from(["something", "answer", None, ""]), st.lists(st.text(max_size=5), max_size=4)),  # MISSING
    st.tuples(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), plain),  # an error
)
"""Things that make some sense, or none."""

odd_texts = st.sampled_from(
    [
        b"",
        b"nul",
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b"[" + b"9" * 5000 + b"]",
        b"[1e999, NaN, -Infinity]",
        b'["\\ud800", "\\u0000"]',
        b'{"__class__": "os.system", "py/object": "builtins.exec", "__reduce__": ["exit"]}',
        b"\xff\xfe\x00\x00",
        b"[]" + b" " * 100_000,
        b"\x9b" + b"\xff" * 8,  # cbor: a list of 2**64 - 1 items
        b"\x9a\x7f\xff\xff\xff",  # cbor: one of 2**31 - 1
        b"\x5b\x7f" + b"\xff" * 7,  # cbor: so many bytes
        b"\x81" * 100_000,  # cbor: deep
        b"\xd8\x1c\x81\xd8\x1d\x00",  # cbor: a list that holds itself
        b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",  # cbor: a decimal with a huge exponent
        b"\xc5\x82\x1b\x00\x00\x00\xff\xff\xff\xff\xff\x01",  # cbor: a bigfloat with one
        b"\xd8\x23\x78\x1a" + b"(" * 13 + b")+" * 6 + b")",  # cbor: a bad pattern
        b"\x80\x05N.",
        b"\x80\x05" + b"(" * 100_000,
        b"\x80\x05\x8e" + b"\xff" * 8,  # pickle: so many bytes
        b"\x80\x05\x97.",  # pickle: a buffer that is not there
    ]
)


def payloads() -> st.SearchStrategy[bytes]:
    """Of any serializer, whole or cut short, and what was made by none."""
    whole = st.one_of(
        said.map(lambda value: json.dumps(value).encode()),
        said.map(cbor2.dumps),
        said.map(lambda value: pickle.dumps(value, 5)),
        st.sampled_from(sorted(BOMBS.values())),
        odd_texts,
        st.binary(max_size=100),
    )
    return whole | st.builds(lambda data, end: data[: end % (len(data) + 1)], whole, st.integers(0, 1000))


kinds = st.sampled_from(list(Kind)) | st.integers(0, 255)
numbers = st.sampled_from([0, 1, 1, 1, 2, 3, 4, 2**32, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)

frames = st.builds(
    frame_bytes,
    kind=kinds,
    number=numbers,
    payload=payloads(),
    buffers=st.lists(payloads(), max_size=2),
    nfds=st.sampled_from([0, 0, 0, 1, MAX_DESCRIPTORS, 255]),
    flags=st.integers(0, 255),
)
headers = st.builds(
    HEADER.pack,
    st.sampled_from([VERSION, VERSION, VERSION, 0, 2, 255]),
    kinds,
    st.sampled_from([0, 0, 1, MAX_DESCRIPTORS, 255]),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, MAX_BUFFERS, MAX_BUFFERS + 1, 2**32 - 1]),
    numbers,
    st.sampled_from([0, 1, 65536, 1 << 24, MAX_FRAME, MAX_FRAME + 1, 2**63, 2**64 - 1]),
)
noise = st.binary(max_size=200)
mutated = st.builds(
    lambda data, place, byte: bytes([*data[: place % len(data)], byte, *data[place % len(data) + 1 :]]),
    frames,
    st.integers(0, 100),
    st.integers(0, 255),
)
from_child = [Kind.EVENT, Kind.DELIVERED, *range(Kind.READY, Kind.LEAVING + 1)]
plausible = st.builds(
    frame_bytes,
    kind=st.sampled_from(from_child),
    number=st.sampled_from([0, 1, 1, 2, 3]),
    payload=said.map(lambda value: json.dumps(value).encode()) | payloads(),
)
"""Frames that a child may send, at the wrong time or with the wrong content."""

sends = st.builds(
    Send, st.one_of(plausible, plausible, frames, mutated, headers, noise), st.sampled_from([0] * 6 + [1, 3, 250])
)
actions: st.SearchStrategy[Action] = st.one_of(
    sends,
    sends,
    sends,
    sends,
    st.builds(Begin, st.sampled_from([0, 1, 2, 2**64 - 1])),
    st.builds(Shut, st.sampled_from([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])),
)
