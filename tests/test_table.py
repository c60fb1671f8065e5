"""The open calls of one slot, through random histories: each is in one place, and the counts are true."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relieve_py.calls import Call, CallOptions, Mode
from relieve_py.serializers import Payload
from relieve_py.strands import Strand
from relieve_py.table import EVENT_BYTES_AHEAD, EVENTS_AHEAD, CallTable, Unread


def make(mode: Mode = Mode.GET, nbytes: int = 0) -> Call:
    call = Call(mode, "data", CallOptions())
    call.payload = Payload(bytes(nbytes))
    return call


def table_of(*calls: Call, concurrency: int = 1) -> CallTable:
    table = CallTable(concurrency)
    for call in calls:
        table.put(call)
    return table


def test_calls_are_sent_in_order_up_to_the_concurrency() -> None:
    calls = [make() for _ in range(4)]
    table = table_of(*calls, concurrency=2)
    assert [table.next(False) for _ in range(3)] == [calls[0], calls[1], None]
    assert [call.number for call in calls] == [1, 2, 0, 0]
    assert (table.load, table.room) == (4, -2)
    assert table.finish(1) is calls[0]
    assert table.next(False) is calls[2]


def test_a_busy_child_gets_events_but_no_calls() -> None:
    event, call = make(Mode.EVENT), make()
    table = table_of(event, call)
    assert table.next(busy=True) is event
    assert table.next(busy=True) is None
    assert table.next(busy=False) is call


def test_an_event_behind_a_waiting_call_keeps_its_place() -> None:
    first, second, event = make(), make(), make(Mode.EVENT)
    table = table_of(first, second, event)
    assert table.next(False) is first
    assert table.next(False) is None
    table.finish(first.number)
    assert [table.next(False), table.next(False)] == [second, event]


@pytest.mark.rule(6)
def test_an_abandoned_call_holds_its_place_until_the_child_is_done() -> None:
    first, second = make(), make()
    table = table_of(first, second)
    table.next(False)
    assert table.abandon(first) == 1
    assert table.abandon(first) == 0
    assert first.number == 0
    assert table.next(False) is None
    assert table.finish(1) is None
    assert table.next(False) is second


def test_an_answer_to_nothing_changes_nothing() -> None:
    table = CallTable()
    table.begin(make())
    assert table.finish(99) is None
    assert (table.running, table.finished) == (1, 0)


def test_a_dropped_call_is_gone_from_the_queue_only() -> None:
    first, second = make(), make()
    table = table_of(first, second)
    table.next(False)
    assert table.drop(second)
    assert not table.drop(second)
    assert not table.drop(first)
    assert table.running == 1


@pytest.mark.rule(4)
def test_when_the_child_is_gone_calls_that_never_began_are_told_from_the_others() -> None:
    table = CallTable(concurrency=9)
    calls = [make() for _ in range(5)]
    event = make(Mode.EVENT)
    for call in (*calls[:4], event, calls[4]):
        if call is event:
            table.put_sent(call)
        else:
            table.begin(call)
    table.finish(1)
    table.abandon(calls[1])
    assert table.blames(begun=3)
    assert not CallTable().blames(begun=3)
    started, untouched = table.lose(begun=3)
    assert started == [calls[2], event]
    assert untouched == [calls[3], calls[4]]
    assert (table.running, table.finished, table.sent) == (0, 0, {})
    assert all(call.number == 0 for call in calls)
    table.requeue(untouched)
    assert list(table.waiting) == untouched
    assert table.next(False) is calls[3]
    assert calls[3].number == 1  # a new channel counts from the start


def test_who_was_interrupted_on_the_way_out_waits_or_is_sent_and_is_counted_so() -> None:
    calls = [make() for _ in range(4)]
    for call in calls:
        call.make_reply(Strand())
    table = table_of(*calls, concurrency=2)
    table.begin(calls[0])  # and then, before it stopped to wait, a signal handler raised
    table.mend()
    assert (list(table.waiting), table.running) == (calls[1:], 1)
    assert table.company(2, lambda call: True) == calls[1:3]  # and then, before they were sent
    table.mend()
    table.mend()
    assert list(table.waiting) == calls[1:]


def test_who_has_left_in_company_is_not_put_back_later() -> None:
    calls = [make() for _ in range(2)]
    for call in calls:
        call.make_reply(Strand())
    table = table_of(*calls)
    table.company(2, lambda call: True)
    table.left()
    table.mend()
    assert not table.waiting


def test_what_is_put_back_goes_before_what_waits() -> None:
    old, new = [make(), make()], make()
    table = table_of(new)
    table.requeue(old)
    assert list(table.waiting) == [*old, new]


@pytest.mark.parametrize(("count", "nbytes"), [(EVENTS_AHEAD, 0), (4, EVENT_BYTES_AHEAD // 4)])
def test_there_are_too_many_unread_events_by_number_or_by_size_until_half_is_read(count: int, nbytes: int) -> None:
    unread, event = Unread(), make(Mode.EVENT, nbytes)
    unread.add(make())
    for _ in range(count):
        assert not unread.full
        unread.add(event)
    assert unread.full
    for _ in range(count // 2):
        assert not unread.slack
        unread.remove(event)
    assert unread.slack


class Histories(RuleBasedStateMachine):
    """A slot's table against a plain model of it."""

    @initialize(concurrency=st.integers(1, 4))
    def make_table(self, concurrency: int) -> None:
        self.table = CallTable(concurrency)
        self.waiting: list[Call] = []
        self.sent: dict[int, tuple[Call, bool]] = {}  # and whether it was abandoned
        self.finished = 0
        self.highest = 0

    @rule(mode=st.sampled_from([Mode.GET, Mode.CALL, Mode.STREAM, Mode.EVENT]), nbytes=st.integers(0, 9))
    def submit(self, mode: Mode, nbytes: int) -> None:
        call = make(mode, nbytes)
        self.waiting.append(call)
        self.table.put(call)

    @rule(nbytes=st.integers(0, 9))
    def send_event(self, nbytes: int) -> None:
        event = make(Mode.EVENT, nbytes)
        self.table.put_sent(event)
        self.highest = event.number
        self.sent[event.number] = event, False

    @rule()
    def refuse(self) -> None:
        assert self.table.take_waiting() == self.waiting
        self.waiting = []

    @rule(busy=st.sampled_from([False, False, True]))
    def send(self, busy: bool) -> None:
        full = self.calls_with_child() >= self.table.concurrency
        head = self.waiting[0] if self.waiting else None
        call = self.table.next(busy)
        if head is None or (head.mode is not Mode.EVENT and (busy or full)):
            assert call is None
            return
        assert call is head
        self.waiting.pop(0)
        assert call.number > self.highest
        self.highest = call.number
        self.sent[call.number] = call, False

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 99))
    def finish(self, which: int) -> None:
        number = list(self.sent)[which % len(self.sent)]
        call, abandoned = self.sent.pop(number)
        assert self.table.finish(number) is (None if abandoned else call)
        assert self.table.finish(number) is None
        self.finished += call.mode is not Mode.EVENT

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 99))
    def abandon(self, which: int) -> None:
        number = list(self.sent)[which % len(self.sent)]
        call, abandoned = self.sent[number]
        can = not abandoned and call.mode is not Mode.EVENT
        assert self.table.abandon(call) == (number if can else 0)
        self.sent[number] = call, abandoned or can

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 99))
    def drop(self, which: int) -> None:
        call = self.waiting.pop(which % len(self.waiting))
        assert self.table.drop(call)
        assert not self.table.drop(call)

    @rule(place=st.integers(0, 99))
    def die(self, place: int) -> None:
        begun = min(place, self.highest) if place % 3 else 0
        running = any(n <= begun and call.mode is not Mode.EVENT for n, (call, _) in self.sent.items())
        assert self.table.blames(begun) is running
        lost = [(n, call) for n, (call, abandoned) in sorted(self.sent.items()) if not abandoned]
        started, untouched = self.table.lose(begun)
        assert started == [call for n, call in lost if n <= begun or call.mode is Mode.EVENT]
        assert untouched == [call for n, call in lost if n > begun and call.mode is not Mode.EVENT]
        self.table.requeue(untouched)
        self.waiting = untouched + self.waiting
        self.sent, self.finished, self.highest = {}, 0, 0

    def calls_with_child(self) -> int:
        return sum(call.mode is not Mode.EVENT for call, _ in self.sent.values())

    @invariant()
    def the_counts_are_true(self) -> None:
        if not hasattr(self, "table"):
            return
        assert list(self.table.waiting) == self.waiting
        assert self.table.sent.keys() == self.sent.keys()
        assert self.table.running == self.calls_with_child() <= self.table.concurrency
        assert self.table.finished == self.finished
        assert self.table.load == self.table.running + len(self.waiting)
        events = [
            call for call in [*self.waiting, *(call for call, _ in self.sent.values())] if call.mode is Mode.EVENT
        ]
        unread = self.table.unread
        assert (unread.events, unread.nbytes) == (len(events), sum(len(event.payload) for event in events))

    @invariant()
    def a_call_knows_whether_it_is_with_the_child(self) -> None:
        if hasattr(self, "table"):
            assert all(call.number == 0 for call in self.waiting)
            assert all(call.number == (0 if gone else number) for number, (call, gone) in self.sent.items())


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class TestHistories(Histories.TestCase):  # type: ignore[misc,name-defined] # made at run time
    """Random histories keep what always holds."""
