"""Calls: what names them, what they carry, and their outcomes."""

from __future__ import annotations

import pytest
from replying import PICKLE, make_call

from relieve_py.calls import Outcome
from relieve_py.errors import CallTimeout, EncodeError


def test_each_call_has_an_id_of_its_own() -> None:
    calls = [make_call() for _ in range(3)]
    assert len({call.id for call in calls}) == 3
    assert calls[0].reply.id == calls[0].id  # type: ignore[union-attr]


def test_a_call_names_itself_and_its_timeout() -> None:
    call = make_call()
    assert (call.title, make_call(None).title) == ("data()", "the default function")
    error = call.timed_out("web")
    assert isinstance(error, CallTimeout)
    assert (error.task, error.call_id, error.method, error.timeout) == ("web", call.id, "data", 2.5)
    assert "longer than 2.5 seconds" in str(error)


def test_what_a_call_carries_is_checked_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from relieve_py import wire

    call = make_call()
    call.encode(PICKLE, (1, [2]), {"x": 3})
    assert PICKLE.decode(call.payload)[0::3] == ("data", (1, [2]))
    monkeypatch.setattr(wire, "MAX_FRAME", 1000)
    with pytest.raises(EncodeError, match="frame limit of 1,000 bytes"):
        call.encode(PICKLE, (bytes(2000),), {})


def test_an_outcome_gives_its_value_or_raises_its_error() -> None:
    assert Outcome(task="a", value=3).result() == 3
    with pytest.raises(ValueError, match="no"):
        Outcome(task="a", error=ValueError("no")).result()
