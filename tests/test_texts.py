"""Texts to bytes and back: any texts, and nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relieve_py.texts import pack, unpack

any_text = st.text(st.characters(exclude_categories=()))  # with lone surrogates, which a name may have


@given(st.lists(any_text, max_size=8))
def test_texts_come_back_as_they_were(texts: list[str]) -> None:
    assert unpack(pack(texts)) == texts
    assert unpack(bytearray(pack(texts))) == texts


@given(st.binary(max_size=60))
@example(b"\xff" * 8)
@example(struct.pack("<Q", 2**64 - 8))
def test_anything_else_raises_a_value_error(data: bytes) -> None:
    try:
        texts = unpack(data)
    except ValueError:
        return
    assert len(pack(texts)) == len(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"1234567", "ends within a length"),
        (struct.pack("<Q", 5) + b"four", "a text of 5 bytes is announced, and 4 are there"),
        (struct.pack("<Q", 2) + b"\xff\xff", "can't decode"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        unpack(data)
