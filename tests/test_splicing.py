"""Large bytes objects are not copied into a pickle, and arrive as they were, wherever they are."""

from __future__ import annotations

import contextlib
import pickle
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serializing import PICKLE, round_trip, travel

from relieve_py import splicing
from relieve_py.serializers import Payload, decode, encode
from relieve_py.splicing import DEEP, MANY, PASSED, SPLICE, large_bytes
from relieve_py.wire import MAX_BUFFERS

LARGE = bytes(range(256)) * (PASSED // 256)
leaves = st.one_of(
    st.sampled_from([LARGE, LARGE[:-1], LARGE + b"x", b"", "text" * PASSED, None]),
    st.integers(),
    st.binary(max_size=20),
    st.sampled_from([LARGE, LARGE + b"y"]).map(bytearray),
    st.sampled_from([LARGE, b"small"]).map(pickle.PickleBuffer),
)
objects = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def plain(obj: Any) -> Any:
    """With the content of buffers in their place."""
    if isinstance(obj, (pickle.PickleBuffer, memoryview)):
        return bytes(obj)
    if isinstance(obj, dict):
        return {key: plain(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return type(obj)(map(plain, obj))
    return bytes(obj) if isinstance(obj, bytearray) else obj


@given(objects)
def test_whatever_holds_large_bytes_arrives_equal(obj: Any) -> None:
    assert plain(round_trip(obj)) == plain(obj)


@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: (it,), lambda it: [{"a": (it,)}]])
def test_large_bytes_are_not_copied(wrap: Any) -> None:
    payload = encode(PICKLE, wrap(LARGE))
    assert payload.buffers[0] is LARGE
    assert len(payload.data) < 200


def test_the_same_bytes_twice_are_sent_once_and_arrive_as_one() -> None:
    payload = encode(PICKLE, [LARGE, LARGE])
    assert len(payload.buffers) == 1
    first, second = decode(PICKLE, travel(payload), "it")
    assert first is second


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The long way is noted here."""
    taken: list[object] = []
    real = splicing.dump
    monkeypatch.setattr("relieve_py.serializers.dump", lambda obj, *rest: (taken.append(obj), real(obj, *rest))[1])
    return taken


OTHER = b"o" * PASSED


@pytest.mark.parametrize(
    "obj",
    [
        LARGE,
        ("name", 1, 2.5, (LARGE,), {}),
        (LARGE, OTHER),
        ((OTHER, "text", b"small"), None, (LARGE, True, (), [])),
    ],
)
def test_what_cannot_refer_to_its_large_bytes_is_pickled_in_a_short_way(
    obj: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = counted(monkeypatch)
    assert round_trip(obj) == obj
    assert not long
    assert all(type(part) is bytes for part in encode(PICKLE, obj).buffers)


class Holder:
    """Refers to what may be elsewhere, too."""

    def __init__(self, held: Any) -> None:
        self.held = held


def test_where_the_way_is_not_short_bytes_have_to_be_larger() -> None:
    for size in (SPLICE, PASSED - 1):
        assert encode(PICKLE, ("name", (LARGE[:size],))).buffers
        assert encode(PICKLE, LARGE[:size]).buffers
        payload = encode(PICKLE, [LARGE[:size]])
        assert not payload.buffers
        assert payload.data[0] != splicing.MARK
    assert len(encode(PICKLE, [LARGE[:SPLICE], LARGE]).buffers) == 1
    for less in (LARGE[: SPLICE - 1], ("name", (LARGE[: SPLICE - 1],))):
        assert not encode(PICKLE, less).buffers
        assert round_trip(less) == less


def test_an_array_beside_large_bytes_takes_the_long_way_and_not_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    long = counted(monkeypatch)
    large, (array,) = round_trip((LARGE, (np.arange(3),)))
    assert (large, list(array)) == (LARGE, [0, 1, 2])
    assert len(long) == 1


SHARED: tuple[Any, ...] = (LARGE, 1)


@pytest.mark.parametrize(
    ("obj", "first", "second"),
    [
        (((LARGE, LARGE), {}), lambda it: it[0][0], lambda it: it[0][1]),
        ((LARGE, (LARGE,)), lambda it: it[0], lambda it: it[1][0]),
        ((LARGE, [LARGE]), lambda it: it[0], lambda it: it[1][0]),
        ((LARGE, {"a": LARGE}), lambda it: it[0], lambda it: it[1]["a"]),
        ((LARGE, ((LARGE,),)), lambda it: it[0], lambda it: it[1][0][0]),
        ((LARGE, Holder(LARGE)), lambda it: it[0], lambda it: it[1].held),
        ((SHARED, SHARED), lambda it: it[0], lambda it: it[1]),
        ((SHARED, Holder(SHARED)), lambda it: it[0], lambda it: it[1].held),
    ],
)
def test_what_is_there_twice_is_sent_once_and_arrives_as_one(obj: Any, first: Any, second: Any) -> None:
    back = round_trip(obj)
    assert first(back) is second(back)
    assert len(encode(PICKLE, obj)) < 2 * PASSED


def test_a_small_tuple_that_is_there_twice_beside_large_bytes_arrives_as_one() -> None:
    small = (1, "a")
    back = round_trip((small, LARGE, small))
    assert back == (small, LARGE, small)
    assert back[0] is back[2]


def test_a_name_of_main_goes_by_value_although_the_way_is_short() -> None:
    assert round_trip((LARGE, "__main__")) == (LARGE, "__main__")


def test_bytes_too_deep_or_among_too_many_things_travel_in_the_pickle() -> None:
    deep: Any = LARGE
    for _ in range(DEEP + 1):
        deep = [deep]
    for obj in (deep, [LARGE] + [None] * MANY):
        payload = encode(PICKLE, obj)
        assert not payload.buffers
        assert decode(PICKLE, travel(payload), "it") == obj


def test_more_large_bytes_than_a_frame_has_places_for_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splicing, "MAX_BUFFERS", 3)
    several = [bytes([n]) * PASSED for n in range(5)]
    payload = encode(PICKLE, several)
    assert len(payload.buffers) == 3 < MAX_BUFFERS
    assert decode(PICKLE, travel(payload), "it") == several


def test_a_bytearray_that_changes_while_the_call_waits_is_sent_as_it_was() -> None:
    """It could even change its size, and what was announced of it would not be true."""
    changing = bytearray(LARGE)
    payload = encode(PICKLE, [LARGE, changing])
    changing.clear()
    assert decode(PICKLE, travel(payload), "it") == [LARGE, LARGE]


def test_a_class_of_main_goes_by_value_although_there_are_large_bytes() -> None:
    class Here:
        pass

    Here.__module__ = "__main__"
    found, large = round_trip([Here, LARGE])
    assert (found.__name__, large) == ("Here", LARGE)


def test_a_search_goes_no_deeper_than_it_says() -> None:
    assert large_bytes([LARGE, [LARGE[: SPLICE - 1], {"a": LARGE}]]) == {id(LARGE): len(LARGE)}
    assert not large_bytes([[LARGE]], 0)


def spoiled() -> Iterator[tuple[bytes, list[bytes]]]:
    payload = encode(PICKLE, [LARGE, 1, b"z" + LARGE])
    data, buffers = bytes(payload.data), [bytes(buffer) for buffer in payload.buffers]
    yield data, buffers[:1]
    yield data[:3], buffers
    yield data[:10], buffers
    yield data[:-3], buffers
    yield data[:1] + struct.pack("<I", 2**32 - 1) + data[5:], buffers
    yield data[:1] + struct.pack("<I", 0) + data[5:], buffers
    yield data[:5] + struct.pack("<I", 2**31) + data[9:], buffers
    yield b"\0", []
    yield bytes(encode(PICKLE, LARGE).data), []
    yield bytes(encode(PICKLE, LARGE).data) + b"x", []


@pytest.mark.parametrize(("data", "buffers"), list(spoiled()))
def test_what_no_pickler_has_written_is_refused(data: bytes, buffers: list[bytes]) -> None:
    with pytest.raises(Exception, match=r"\w"):
        PICKLE.decode(Payload(data, buffers))


@given(st.data())
def test_a_spliced_pickle_with_a_flaw_gives_an_exception_or_an_object(data: Any) -> None:
    payload = encode(PICKLE, (LARGE, [LARGE[1:] + b"x"]))
    spoilt = bytearray(payload.data)
    for _ in range(data.draw(st.integers(1, 3))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.sampled_from([0, 1, 40, 0x80, 255]))
    with contextlib.suppress(Exception):
        PICKLE.decode(Payload(bytes(spoilt), payload.buffers))
    assert plain(decode(PICKLE, payload, "it"))[0] == LARGE  # what it was read from is as it was
