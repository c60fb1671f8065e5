"""What one child can do to the parent on purpose, case by case: it costs that child, and nobody else."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from eyes import no_descriptor_lost, settled
from plays import ANSWERS, played, replaced
from puppets import PATIENCE, frame_bytes

from relieve_py import MethodNotFound, TaskDied, wire
from relieve_py.birth import Cradle
from relieve_py.line import IO_THREAD
from relieve_py.serializers import JsonSerializer
from relieve_py.supervisor import shared
from relieve_py.surroundings import Surroundings
from relieve_py.texts import pack
from relieve_py.turns import Wake
from relieve_py.wire import HEADER, MAX_FRAME, MAX_QUESTIONS, STREAM_WINDOW, VERSION, Kind

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system has no way to do this, or to tell of it")


def wait_until(so: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while not so():
        assert time.monotonic() < deadline
        pause.wait(0.001)


# -- the I/O thread --------------------------------------------------------------------------------


class Patient:
    """A serializer that notes who has it decode. A plug-in's may block there."""

    name = "patient"
    any_object = False

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def encode(self, obj: Any) -> Any:
        return JsonSerializer().encode(obj)

    def decode(self, payload: Any) -> Any:
        self.threads.add(threading.current_thread().name)
        return ["probe", []]


def test_nothing_that_a_child_sends_is_decoded_on_the_io_thread() -> None:
    """A serializer may be slow, or a plug-in's: what it costs, it costs whoever asked for the value."""
    serializer = Patient()
    with played(serializer=serializer) as (task, puppet):
        reply = task.get("something")
        told = pack(["ValueError", "text", "Traceback"])
        puppet.send(frame_bytes(Kind.EVENT, 0, b"1") + frame_bytes(Kind.FAILED, 0, told))
        puppet.send(frame_bytes(Kind.MISSING, 1, pack(["=something", "other"])))
        with pytest.raises(MethodNotFound):
            reply.result(PATIENCE)
        task.call("nobody waits for this")
        puppet.send(frame_bytes(Kind.ERROR, 2, told))
        assert task.get("probe").cancel()
        settled()
    assert "relieve-io" not in serializer.threads


@linux
def test_what_a_child_says_after_its_death_is_heard_to_the_end_and_no_further() -> None:
    """The channel may live on in another's hands, who says something whenever there is room."""
    said: list[int] = []
    with played() as (task, puppet), puppet._sock.dup() as stranger:

        def say_more() -> None:
            said.append(1)
            if puppet.over.is_set() and len(said) < 1000:
                with contextlib.suppress(OSError):
                    stranger.send(frame_bytes(Kind.IDLE))

        task._core.slot.traffic.on_room = say_more
        held, go_on = threading.Event(), threading.Event()
        shared().post(held.set)
        shared().post(go_on.wait)
        assert held.wait(PATIENCE)
        puppet.send(frame_bytes(Kind.IDLE))
        puppet.die(0, None)
        go_on.set()
        settled()
        assert task.get("probe").result(PATIENCE) == ["answer"]
    assert len(said) < 20


def test_leaving_is_said_once() -> None:
    """Each time would be another timer."""
    with played(kill_timeout=30.0) as (task, puppet):
        settled()
        before = len(shared()._timers)
        puppet.send(frame_bytes(Kind.LEAVING) * 1000)
        reply = task.get("something")
        puppet.send(frame_bytes(Kind.RESULT, 1, ANSWERS["json"]))
        reply.result(PATIENCE)
        assert len(shared()._timers) < before + 100


# -- callers ---------------------------------------------------------------------------------------


def test_a_caller_has_its_timeout_however_much_the_child_says() -> None:
    over = threading.Event()
    with played() as (task, puppet):

        def talk() -> None:
            noise = frame_bytes(Kind.IDLE) * 500
            while not over.is_set() and not puppet.over.is_set():
                puppet.send(noise)

        reply = task.get("something")
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                reply.result(0.2)
            assert time.monotonic() - began < 3.0
        finally:
            over.set()
            thread.join()


def test_a_caller_that_begins_to_wait_while_its_answer_is_read_by_another_is_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait, answered = Wake.wait, []
    with played() as (task, puppet):
        line = task._core.slot._line

        def wait_late(wake: Wake, fd: int, seconds: float, stand_aside: Any) -> list[tuple[int, int]]:
            if not answered:
                answered.append(True)
                line._shared = True
                line._give_to(IO_THREAD)
                puppet.send(frame_bytes(Kind.RESULT, 1, ANSWERS["json"]))
                settled()
                settled()
            return wait(wake, fd, seconds, stand_aside)

        monkeypatch.setattr(Wake, "wait", wait_late)
        began = time.monotonic()
        assert task.get("something").result(PATIENCE) == ["answer"]
        assert answered
        assert time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("get", Kind.DELIVERED),
        ("get", Kind.END),
        ("get", Kind.ACCEPTED),
        ("get", Kind.ITEM),
        ("call", Kind.RESULT),
        ("call", Kind.ITEM),
        ("call", Kind.DELIVERED),
        ("stream", Kind.RESULT),
        ("stream", Kind.ACCEPTED),
        ("send", Kind.RESULT),
        ("send", Kind.END),
        ("send", Kind.ACCEPTED),
        ("send", Kind.ERROR),
    ],
)
def test_an_answer_to_another_question_is_no_value(how: str, kind: Kind) -> None:
    with played() as (task, puppet):
        reply = getattr(task, how)("something")
        puppet.begin(1)
        puppet.send(frame_bytes(kind, 1, ANSWERS["json"]))
        with pytest.raises(TaskDied):
            list(reply) if how == "stream" else reply.result(PATIENCE)
        replaced(task, puppet)


@linux
def test_a_child_that_does_not_listen_any_more_is_replaced() -> None:
    """What is sent to it would be lost, and with it the call."""
    with played() as (task, puppet):
        puppet.shut(socket.SHUT_RD)
        reply = task.get("something")
        assert puppet.over.wait(PATIENCE)
        assert reply.result(PATIENCE) == ["answer"]


def test_a_question_whose_answer_cannot_travel_is_answered_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with played() as (task, puppet):
        task.on("ask", lambda: "x" * 1000)
        monkeypatch.setattr(wire, "MAX_FRAME", 900)
        puppet.send(frame_bytes(Kind.EVENT, 7, b'["ask", []]'))
        kinds = puppet.hear(lambda frame: frame.kind in (Kind.RESULT, Kind.ERROR) and frame.number == 7)
        assert kinds[-1] == Kind.ERROR


# -- memory and descriptors ------------------------------------------------------------------------


def test_a_child_that_goes_on_asking_and_reads_no_answers_breaks_the_protocol() -> None:
    """They would be kept for it, as many as it likes."""
    with played() as (task, puppet):
        task.on("ask", lambda: "the answer" * 100)
        for number in range(1, 4 * MAX_QUESTIONS):
            puppet.send(frame_bytes(Kind.EVENT, number, b'["ask", []]'))
        replaced(task, puppet)


def test_items_beyond_what_the_reader_has_room_for_break_the_protocol() -> None:
    with played() as (task, puppet):
        stream = task.stream("something")
        puppet.begin(1)
        puppet.send(frame_bytes(Kind.ITEM, 1, b"1") * STREAM_WINDOW)
        assert next(stream) == 1
        puppet.send(frame_bytes(Kind.ITEM, 1, b"1") * 2)
        replaced(task, puppet)
        with pytest.raises(TaskDied):
            list(stream)


NOBODYS = 1 << 62
"""The number of a stream that was never made, in this process either."""


def test_a_stream_that_was_not_given_breaks_the_protocol_and_what_is_late_is_not_answered() -> None:
    with played() as (task, puppet):
        puppet.send(
            frame_bytes(Kind.TAKE, NOBODYS, bytes([1]) + bytes(7)) * 100 + frame_bytes(Kind.ENOUGH, NOBODYS) * 100
        )
        reply = task.get("something")
        puppet.begin(1)
        puppet.send(frame_bytes(Kind.RESULT, 1, ANSWERS["json"]))
        reply.result(PATIENCE)
        puppet.send(frame_bytes(Kind.TAKE, NOBODYS, bytes(8)))
        replaced(task, puppet)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind < Kind.LAUNCH and kind != Kind.RETIRE])  # which stops
def test_descriptors_where_none_belong_are_closed(kind: Kind) -> None:
    with no_descriptor_lost(), played() as (task, puppet):
        for number in (0, 1, 99):
            puppet.send(frame_bytes(kind, number, b"", nfds=5), 5)
        puppet.send(frame_bytes(Kind.STOP, 0, b"", nfds=5), 5)  # which ends it
        replaced(task, puppet)


def test_announced_sizes_cost_nothing() -> None:
    """Of any children together: a header of 24 bytes may announce 4 GiB."""
    with contextlib.ExitStack() as stack:
        plays = [stack.enter_context(played()) for _ in range(3)]
        settled()
        tracemalloc.start()
        try:
            for _, puppet in plays:
                puppet.send(HEADER.pack(VERSION, Kind.RESULT, 0, 0, 0, 1, MAX_FRAME) + bytes(100_000))
            for task, _ in plays:
                assert len(task.exports) == 1
            settled()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < len(plays) * (1 << 24) + 5_000_000


@linux
def test_nobody_can_make_the_page_smaller() -> None:
    """Looking at what is there no more would kill the parent."""
    cradle = Cradle("t", Surroundings())
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(cradle.spec.page_fd, 0)
        assert cradle.begun == 0
    finally:
        cradle.close()
