"""Objects to payloads and back: plain data, what is refused by name, and serializers of other kinds."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import functools
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serializing import PICKLE, Exploding, Interrupting, Unpicklable, round_trip

from relieve_py.errors import DecodeError, EncodeError
from relieve_py.serializers import (
    CborSerializer,
    JsonSerializer,
    Payload,
    Serializer,
    decode,
    decode_frame,
    encode,
    encode_call,
)
from relieve_py.wire import Frame, Kind

# -- plain data ------------------------------------------------------------------------------------

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary())
objects = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.sets(st.integers(), max_size=4),
    ),
    max_leaves=12,
)
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)


@given(objects)
def test_pickle_gives_equal_objects(obj: Any) -> None:
    assert round_trip(obj) == obj


@given(st.lists(objects, max_size=4).map(tuple), st.dictionaries(st.text(max_size=5), scalars, max_size=1))
def test_a_call_arrives_whatever_its_arguments_are(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    call = ("method", 1, 0.5, args, kwargs)
    assert PICKLE.decode(encode_call(PICKLE, call, args, kwargs)) == call


@given(plain)
def test_json_gives_equal_plain_data(obj: Any) -> None:
    assert round_trip(obj, JsonSerializer()) == obj


@given(plain)
def test_cbor_gives_equal_plain_data(obj: Any) -> None:
    assert round_trip(obj, CborSerializer()) == obj


@given(st.binary(max_size=200))
def test_garbage_is_plain_data_or_a_decode_error(data: bytes) -> None:
    for serializer in (JsonSerializer(), CborSerializer()):
        with contextlib.suppress(DecodeError):
            decode(serializer, Payload(data), "the message")


# -- what cannot be sent ---------------------------------------------------------------------------


class Holder:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


class Slotted:
    __slots__ = ("absent", "inner")

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((Unpicklable(),), {}, "args[0]"),
        ((1, [2, Unpicklable()]), {}, "args[1][1]"),
        ((), {"lock": Unpicklable()}, "kwargs['lock']"),
        (({"key": (0, Unpicklable())},), {}, "args[0]['key'][1]"),
        ((Holder(name="a", inner=Holder(lock=Unpicklable())),), {}, "args[0].inner.lock"),
        ((Slotted(Unpicklable()),), {}, "args[0].inner"),
        ((functools.partial(print, Unpicklable()),), {}, "args[0]"),
    ],
    ids=["itself", "in a list", "keyword", "dict and tuple", "attributes", "slots", "opaque"],
)
def test_the_error_names_the_part_that_cannot_be_sent(args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(PICKLE, ("method", args, kwargs), args=args, kwargs=kwargs)
    assert caught.value.path == path
    assert path in str(caught.value)
    assert "pickle serializer" in str(caught.value)
    assert "it will not go" in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_cyclic_object_that_cannot_be_sent_ends_with_its_path() -> None:
    ring: list[Any] = [1]
    ring += [ring, Holder(back=ring, lock=Unpicklable())]
    with pytest.raises(EncodeError) as caught:
        encode(PICKLE, (ring,), args=(ring,))
    assert caught.value.path.startswith("args[0]")


def test_a_cyclic_object_arrives_cyclic() -> None:
    ring: list[Any] = [1]
    ring.append({"back": ring})
    got = round_trip(ring)
    assert got[1]["back"] is got


@pytest.mark.parametrize("serializer", [PICKLE, JsonSerializer()], ids=["pickle", "json"])
def test_an_object_nested_too_deep_is_refused_by_name(serializer: Serializer) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EncodeError, match=r"args\[0\].*cannot be sent") as caught:
        encode(serializer, (deep,), args=(deep,))
    assert isinstance(caught.value.__cause__, RecursionError)
    while deep:  # taken apart from outside, so that freeing it needs no deep stack either
        deep = deep[0]


def test_data_nested_too_deep_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="the message cannot be rebuilt: RecursionError"):
        decode(JsonSerializer(), Payload(b"[" * 100_000 + b"]" * 100_000), "the message")


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_what_raises_while_it_is_decoded_is_a_decode_error(how: str) -> None:
    """An exit asked for by data must not end the process that reads it."""
    with pytest.raises(DecodeError, match=r"^the result of data\(\) cannot be rebuilt: ") as caught:
        decode(PICKLE, encode(PICKLE, Exploding(how)), "the result of data()")
    assert "second line" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError if how == "raise" else SystemExit)


@pytest.mark.parametrize("rebuild", [decode, decode_frame])
def test_what_a_signal_handler_raises_meanwhile_is_not_the_message_s_fault(rebuild: Callable[..., Any]) -> None:
    def handle(signum: int, frame: Any) -> None:
        raise TimeoutError("of the program")

    before = signal.signal(signal.SIGUSR1, handle)
    payload = PICKLE.encode(Interrupting())
    message = payload if rebuild is decode else Frame(Kind.RESULT, 1, bytes(payload.data))
    try:
        with pytest.raises(TimeoutError, match="of the program"):
            rebuild(PICKLE, message, "the result of data()")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_missing_module_is_explained() -> None:
    with pytest.raises(DecodeError, match="make that module importable here, or return plain data"):
        decode(PICKLE, Payload(b"cno_such_module_anywhere\nthing\n."), "the result")


# -- json, cbor, and one's own ---------------------------------------------------------------------


def test_json_carries_any_text_and_refuses_objects_by_path() -> None:
    assert round_trip("\ud800 ü \0", JsonSerializer()) == "\ud800 ü \0"
    assert round_trip((1, (2,)), JsonSerializer()) == [1, [2]]
    with pytest.raises(EncodeError, match="json serializer") as caught:
        encode(JsonSerializer(), [{"when": Holder()}], args=[{"when": Holder()}])
    assert caught.value.path == "args[0]['when']"


def test_cbor_carries_bytes_dates_decimals_and_sets() -> None:
    told = {
        "raw": b"\0\xff",
        "when": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        "price": decimal.Decimal("1.10"),
        "set": {1, 2},
    }
    assert round_trip(told, CborSerializer()) == told


def test_cbor_says_what_to_install_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(ImportError, match=r"pip install 'relieve-py\[cbor\]'"):
        CborSerializer()


@pytest.mark.parametrize("serializer", [JsonSerializer(), CborSerializer()], ids=["json", "cbor"])
def test_plain_data_never_runs_code(serializer: Serializer) -> None:
    assert not serializer.any_object
    with pytest.raises((EncodeError, DecodeError)):
        round_trip(Exploding("raise"), serializer)


class Upper:
    """A serializer of a user."""

    name = "upper"
    any_object = False

    def encode(self, obj: Any) -> Payload:
        return Payload(str.upper(obj).encode())

    def decode(self, payload: Payload) -> Any:
        return bytes(payload.data).decode()


def test_a_serializer_of_ones_own_is_wrapped_in_the_same_errors() -> None:
    assert isinstance(Upper(), Serializer)
    assert round_trip("text", Upper()) == "TEXT"
    with pytest.raises(EncodeError, match="the message cannot be sent with the upper serializer: int object"):
        encode(Upper(), 3)
    with pytest.raises(DecodeError, match="UnicodeDecodeError"):
        decode(Upper(), Payload(b"\xff"), "the message")


@pytest.mark.parametrize("serializer", [PICKLE, JsonSerializer(), CborSerializer()], ids=lambda s: s.name)
def test_the_built_in_ones_are_serializers_that_can_be_sent(serializer: Serializer) -> None:
    assert isinstance(serializer, Serializer)
    assert round_trip(serializer).name == serializer.name


def test_an_encode_error_of_the_serializer_is_kept_as_it_is() -> None:
    class Strict(Upper):
        def encode(self, obj: Any) -> Payload:
            raise EncodeError("only on Mondays", path="args")

    with pytest.raises(EncodeError, match="only on Mondays"):
        encode(Strict(), "x", args="x")


def test_the_length_of_a_payload_is_all_of_it() -> None:
    assert len(Payload(b"abc", [b"de", bytearray(4)])) == 9
