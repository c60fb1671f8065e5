"""What came from a child is decoded once, by whoever asks, and errors arrive as themselves."""

from __future__ import annotations

from typing import Any

import pytest
from replying import PICKLE, encoded, encoded_error, later, make_reply, told

from relieve_py import wire
from relieve_py.answers import Encoded, remote_error
from relieve_py.errors import DecodeError, RemoteError, RemoteTraceback
from relieve_py.serializers import JsonSerializer, Payload
from relieve_py.telling import error_payload
from relieve_py.texts import pack


class CountsLoads:
    loads = 0

    def __reduce__(self) -> Any:
        return _load, ()


def _load() -> CountsLoads:
    CountsLoads.loads += 1
    return CountsLoads()


def test_a_value_is_decoded_once_by_whoever_asks_first() -> None:
    CountsLoads.loads = 0
    reply = make_reply()
    reply.settle(encoded(CountsLoads()))
    assert CountsLoads.loads == 0
    threads = [later(reply.result) for _ in range(5)]
    for thread in threads:
        thread.join()
    assert reply.result() is reply.result()
    assert CountsLoads.loads == 1


def test_a_value_that_cannot_be_rebuilt_is_a_decode_error_each_time() -> None:
    reply = make_reply()
    reply.settle(Encoded(PICKLE, Payload(b"garbage"), "the result of data()"))
    for _ in range(2):
        with pytest.raises(DecodeError, match=r"the result of data\(\) cannot be rebuilt"):
            reply.result()
    assert isinstance(reply.exception(), DecodeError)


def test_an_error_of_the_child_arrives_as_itself_with_its_traceback() -> None:
    data = bytes(PICKLE.encode(ZeroDivisionError("there")).data)
    reply = make_reply()
    reply.settle(encoded_error("ZeroDivisionError", "there", "Traceback: line 7", data))
    with pytest.raises(ZeroDivisionError, match="there") as caught:
        reply.result()
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "line 7" in str(caught.value.__cause__)
    assert reply.exception() is caught.value


@pytest.mark.parametrize(
    "data", [(), [b"garbage"], [PICKLE.encode("no exception").data], [PICKLE.encode(KeyboardInterrupt()).data]]
)
def test_an_error_that_cannot_be_rebuilt_arrives_as_text(data: Any) -> None:
    error = remote_error(PICKLE, told("pkg.Odd", "its text", "Traceback: line 7", *data))
    assert isinstance(error, RemoteError)
    assert (error.type, error.text, error.traceback) == ("pkg.Odd", "its text", "Traceback: line 7")
    assert isinstance(error.__cause__, RemoteTraceback)


def test_plain_serializers_never_rebuild_exceptions() -> None:
    data = bytes(PICKLE.encode(ZeroDivisionError("there")).data)
    assert isinstance(remote_error(JsonSerializer(), told("ZeroDivisionError", "there", "", data)), RemoteError)


def test_large_parts_of_an_exception_arrive_beside_it() -> None:
    payload = error_payload(PICKLE, ValueError(memoryview(bytes(50_000))))
    assert len(payload.buffers) > 1
    error = remote_error(PICKLE, payload)
    assert isinstance(error, ValueError)
    assert error.args[0] == bytes(50_000)


def test_an_exception_that_is_too_large_to_travel_goes_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME", 1000)
    error = ValueError("short")
    error.__dict__["data"] = bytes(2000)
    payload = error_payload(PICKLE, error)
    payload.check()
    assert isinstance(remote_error(PICKLE, payload), RemoteError)


@pytest.mark.parametrize(
    "data", [b"", b"short", pack(("one",)), pack("four"), b"\xff" * 30, pack("abc")[:-1] + b"\xff"]
)
def test_an_error_told_in_another_way_is_a_decode_error(data: bytes) -> None:
    encoded = Encoded(PICKLE, Payload(data), "the error", is_error=True)
    assert isinstance(encoded.open()[1], DecodeError)
    assert isinstance(encoded.outline(), DecodeError)
