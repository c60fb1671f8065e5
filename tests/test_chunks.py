"""How many items travel together, and how their outcomes are written down."""

from __future__ import annotations

import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.calls import DEFAULTS
from relieve_py.chunks import AIM, Chunk, Pace, Part, TooLarge
from relieve_py.errors import DecodeError, ProtocolError
from relieve_py.itemwise import Refused
from relieve_py.outcomes import Sealed, Several, again, head_of, outcomes_in, outcomes_of, single
from relieve_py.rate import GROWTH, MOST, MOST_BYTES
from relieve_py.serializers import Payload, PickleSerializer
from relieve_py.strands import Strand
from relieve_py.telling import error_payload
from relieve_py.wire import Kind

PICKLE = PickleSerializer()


def pace(left: int | None = None, width: int = 2) -> Pace:
    return Pace(left, lambda: width)


# -- the pace --------------------------------------------------------------------------------------


def test_a_chunk_has_one_item_until_it_is_known_how_long_they_take() -> None:
    unknown = pace(10_000)
    assert [unknown.next_size(0), unknown.next_size(0)] == [1, 1]


def test_it_grows_to_what_takes_the_time_that_is_aimed_at() -> None:
    growing = pace(10**9)
    sizes = []
    for _ in range(6):
        size = growing.next_size(0)
        growing.sent(size, size)
        growing.ran(size, size * 1e-5)
        sizes.append(size)
    assert sizes == [1, 8, 64, 512, int(AIM / 1e-5), int(AIM / 1e-5)]


@pytest.mark.parametrize("seconds", [AIM, 1.0, 1000.0])
def test_slow_items_travel_alone(seconds: float) -> None:
    slow = pace(10**9)
    slow.ran(1, seconds)
    assert slow.next_size(0) == 1


def test_it_shrinks_when_items_become_slow() -> None:
    changing = pace(10**9)
    for _ in range(6):
        changing.ran(changing.next_size(0), 0.0)
    assert changing.next_size(0) == MOST
    for _ in range(3):
        changing.ran(1, 1.0)
    assert changing.next_size(0) == 1


@pytest.mark.parametrize(
    ("seconds", "first", "last"), [(10 * AIM, 10, [1, 1, 1, 1]), (AIM, 25, [6, 6, 6, 1]), (0.0, 100, [100])]
)
def test_the_last_items_are_shared_out_but_not_in_chunks_that_take_no_time(
    seconds: float, first: int, last: list[int]
) -> None:
    ending = pace(100, width=2)
    for _ in range(5):
        ending.ran(100, seconds)
    sizes = []
    while sum(sizes) < 100:
        sizes.append(ending.next_size(0))
        ending.sent(sizes[-1], 1)
    assert sizes[0] == first
    assert sizes[-4:] == last
    assert sum(sizes) == 100


def test_a_source_that_may_have_no_end_is_taken_by_what_is_read() -> None:
    endless = pace(None, width=2)
    for _ in range(6):
        endless.ran(10_000, 0.0)
    assert endless.next_size(0) == endless.next_size(15) == 1
    assert endless.next_size(16_000) == 1000


def test_large_items_make_small_chunks() -> None:
    large = pace(10**6)
    large.sent(1, MOST_BYTES // 10)
    for _ in range(5):
        large.ran(GROWTH, 0.0)
    assert large.next_size(0) == 10
    large.sent(10)
    assert large.next_size(0) == 1, "what could not travel together is tried from the beginning"


# -- outcomes --------------------------------------------------------------------------------------

values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.floats(allow_nan=False))


@given(st.lists(values), st.integers(0, 1000))
def test_plain_values_come_back(given: list[object], first: int) -> None:
    several = Several(first)
    several.values.extend(given)
    payload = several.payload(first + len(given), 3, 0.5)
    head = head_of(payload)
    assert (head.first, head.end, head.failures, head.seconds) == (first, first + len(given), 3, 0.5)
    assert outcomes_of(payload) == given


@given(st.lists(values, max_size=5), st.integers(0, 200), st.integers(0, 6))
def test_of_what_a_child_has_left_the_whole_outcomes_are_read(given: list[object], cut: int, most: int) -> None:
    records = [pickle.dumps(value, 5) for value in given]
    whole, room = 0, cut
    for record in records:
        if room < len(record):
            break
        whole, room = whole + 1, room - len(record)
    found = given[: min(whole, most)]
    if room == 0 or whole == len(records):  # the last stands for all others
        found += found[-1:] * (most - len(found))
    assert outcomes_in(b"".join(records)[:cut], most) == found


def test_what_several_items_gave_one_after_the_other_is_written_once() -> None:
    records = pickle.dumps("a") + again(3) + pickle.dumps("b")
    assert outcomes_in(records, 9) == ["a"] * 4 + ["b"] * 5
    assert outcomes_in(records, 3) == ["a"] * 3
    assert outcomes_in(records[:-1], 9) == ["a"] * 4, "what is not whole is not believed"


@pytest.mark.parametrize("records", [b"", again(3), pickle.dumps(()), again("3"), again(-1)])  # type: ignore[arg-type]
def test_what_stands_for_nothing_gives_nothing(records: bytes) -> None:
    assert outcomes_in(records, 5) == []


@given(st.binary(max_size=60))
def test_a_message_that_is_none_is_refused(data: bytes) -> None:
    try:
        head = head_of(Payload(data))
    except ProtocolError:
        return
    assert head.first <= head.end
    with pytest.raises(DecodeError):
        Part(chunk([1]), Payload(data[:20] + struct.pack("<B", 0xFF))).open()


def chunk(items: list[object]) -> Chunk:
    made = Chunk("f", DEFAULTS, items)
    made.encode(PICKLE, (), {})
    made.make_reply(Strand())
    return made


def test_what_a_handler_has_kept_from_being_given_is_given_at_the_end() -> None:
    whole = chunk([1, 2, 3])
    reply = whole.reply_of()
    whole.taken = 1
    whole.deliver([10], 0)  # and whoever was about to give that was interrupted
    whole.taken = 3
    assert whole.conclude([20, 30], 0, range(0), [], (0, 0.0)).give()
    first = reply.result(0)
    ((rest, items),) = first.followers
    assert (first.open(), items) == ([10], 2)
    assert rest.result(0).open() == [20, 30]


def test_what_two_are_about_to_give_is_given_once() -> None:
    whole = chunk([1, 2])
    reply = whole.reply_of()
    whole.taken = 1
    give = whole.deliver([10], 0)
    whole.taken = 2
    assert whole.conclude([20], 0, range(0), [], (0, 0.0)).give()
    assert give(), "somebody reads"
    ((rest, _),) = reply.result(0).followers
    assert rest.result(0).open() == [20]


def test_a_part_gives_values_and_errors_in_order() -> None:
    several = Several(0)
    several.add(1)
    several.add(several.sealed(Kind.RESULT, PICKLE.encode([2])))
    several.add(several.sealed(Kind.ERROR, error_payload(PICKLE, KeyError(3))))
    one, two, three = Part(chunk([1, 2, 3]), several.payload(3)).open()
    assert (one, two) == (1, [2])
    assert isinstance(three, Refused)
    assert isinstance(three.error, KeyError)
    assert Part(chunk([1, 2, 3]), several.payload(3), skip=1).open()[0] == [2]


def test_a_part_may_be_one_value_with_buffers() -> None:
    encoded = PICKLE.encode(pickle.PickleBuffer(bytearray(b"x" * 100_000)))
    (value,) = Part(chunk([1]), single(7, encoded)).open()
    assert bytes(value) == b"x" * 100_000


def test_fewer_outcomes_than_announced_are_no_outcomes() -> None:
    several = Several(0)
    several.values.append(1)
    with pytest.raises(DecodeError, match="1 outcomes of 2 items"):
        Part(chunk([1, 2]), several.payload(2)).open()


# -- chunks ----------------------------------------------------------------------------------------


def test_a_cut_is_a_chunk_of_these_items() -> None:
    whole = chunk([0, [1], "2", (3,)])
    (part,) = whole.conclude([], 0, range(0), [range(1, 3)], (0, 0.0)).again
    assert isinstance(part, Chunk)
    assert part.id == whole.id + 1
    assert part.left() == 2
    method, id, created_at, items, _ = pickle.loads(part.payload.data)
    assert (method, id, created_at) == ("f", part.id, whole.created_at)
    assert [PICKLE.decode(Payload(items[0][0])), items[1]] == [[1], "2"]
    assert part.reply_of() is not whole.reply_of()


def test_ids_are_those_of_the_items() -> None:
    first, second = chunk([1, 2, 3]), chunk([1])
    assert second.id >= first.id + 3


def test_an_item_with_buffers_travels_alone() -> None:
    with pytest.raises(TooLarge):
        chunk([1, pickle.PickleBuffer(bytearray(100_000))])


def test_a_sealed_outcome_is_told_from_a_value() -> None:
    assert outcomes_in(pickle.dumps((int(Kind.RESULT), b"x")), 1) == [Sealed(Kind.RESULT, b"x", ())]
