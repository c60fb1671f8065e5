"""A live parent and a child that sends anything: every call ends, the next child works, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bombs import nothing_unpickled
from eyes import no_complaints, no_descriptor_lost
from hypothesis import given
from hypothesis import strategies as st
from plays import Bystander, Play, run
from profiles import share
from strategies import actions


@pytest.fixture(scope="module")
def bystander() -> Iterator[Bystander]:
    """The task beside."""
    other = Bystander()
    yield other
    other.stop()


plays = st.builds(
    Play,
    serializer=st.sampled_from(["json", "json", "cbor"]),
    first=st.permutations(["get", "call", "stream", "send", "options"]).map(lambda all: all[:3]),
    ready_first=st.sampled_from([True, True, True, False]),
    actions=st.lists(actions, max_size=8),
    code=st.sampled_from([0, 1, None]),
    reads_itself=st.booleans(),
)


@share(0.5)
@given(play=plays)
def test_a_hostile_child_costs_its_own_calls_and_nothing_else(play: Play, bystander: Bystander) -> None:
    with no_complaints(), no_descriptor_lost(), nothing_unpickled():
        run(play)
        bystander.check()
