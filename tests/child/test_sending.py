"""What a child sends while signal handlers run: whole, once, and whatever they raise."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relieve_py import CallableTask, CallTimeout, TaskDied
from relieve_py.channel import Channel, pair
from relieve_py.child.sending import Outbox
from relieve_py.serializers import Payload
from relieve_py.wire import Frame, Kind

STORM = str(Path(__file__).parent.parent / "scripts" / "storm.py")
T = 20


class Stuttering:
    """A socket each of whose system calls sends a few bytes only; before one of them a signal handler runs."""

    def __init__(self, sock: socket.socket, at: int, handler: Callable[[], object]) -> None:
        self.sock = sock
        self.calls = 0
        self._at = at
        self._handler = handler

    def sendmsg(self, chunks: Any, rights: Any = (), flags: int = 0) -> int:
        self.calls += 1
        if self.calls == self._at:
            self._handler()
        return self.sock.sendmsg([b"".join(chunks)[:10]], rights, flags)

    def send(self, chunk: bytes, flags: int) -> int:
        return self.sendmsg([chunk], (), flags)

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


class Boom(Exception):
    """Of a handler."""


class Bench:
    """An outbox whose ``at``th system call is preceded by that handler; and its other side."""

    def __init__(self, at: int, handler: Callable[[Bench], object]) -> None:
        ours, theirs = pair()
        self.sock = Stuttering(theirs, at, lambda: handler(self))
        self.outbox = Outbox(Channel(self.sock))  # type: ignore[arg-type] # all of a socket that is needed
        self._parent = Channel(ours)

    def send(self, number: int, large: bool) -> None:
        self.outbox.send(Kind.EVENT, number, Payload(b"x" * number, [b"y" * 30] if large else ()))

    def came(self) -> list[int]:
        """The numbers of the events that came, each of which is whole, and nothing behind them."""
        frames: list[Frame] = []
        while self._parent.readable():
            frames += self._parent.receive()
        assert all(frame.payload == b"x" * frame.number for frame in frames)
        assert not self._parent._decoder.midway
        return [frame.number for frame in frames]

    def close(self) -> None:
        self.sock.close()
        self._parent.close()


@pytest.fixture
def benches() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(at: int, handler: Callable[[Bench], object]) -> Bench:
        made.append(Bench(at, handler))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def boom(bench: Bench) -> None:
    raise Boom


@pytest.mark.parametrize("large", [False, True])
def test_a_handler_that_raises_leaves_no_frame_half_sent(benches: Callable[..., Bench], large: bool) -> None:
    calls = benches(0, boom)
    calls.send(50, large)
    for at in range(1, calls.sock.calls + 1):
        bench = benches(at, boom)
        with pytest.raises(Boom):
            bench.send(50, large)
        assert bench.came() == ([] if at == 1 else [50]), at
        bench.send(60, large)
        assert bench.came() == [60]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("also", [False, True])
def test_what_a_handler_sends_is_in_the_middle_of_no_frame(
    benches: Callable[..., Bench], large: bool, also: bool
) -> None:
    calls = benches(0, boom)
    calls.send(50, large)
    for at in range(1, calls.sock.calls + 1):
        bench = benches(at, lambda bench: bench.send(60, also))
        bench.send(50, large)
        assert sorted(bench.came()) == [50, 60]
        assert bench.sock.calls > calls.sock.calls


def test_what_a_handler_sends_before_the_first_byte_goes_at_once(benches: Callable[..., Bench]) -> None:
    came: list[list[int]] = []

    def handler(bench: Bench) -> None:
        bench.send(60, False)
        came.append(bench.came())

    bench = benches(1, handler)
    bench.send(50, False)
    assert came == [[60]]
    assert bench.came() == [50]


def test_nothing_waits_behind_an_exception_in_what_a_handler_sends(benches: Callable[..., Bench]) -> None:
    """It raises in the middle of its own message, which it began before the first byte of another."""

    def handler(bench: Bench) -> None:
        bench.sock._at, bench.sock._handler = bench.sock.calls + 2, lambda: boom(bench)
        bench.send(60, False)

    bench = benches(1, handler)
    with pytest.raises(Boom):
        bench.send(50, False)
    assert bench.came() == [60]
    bench.send(50, False)
    assert bench.came() == [50]


def test_a_system_call_that_a_signal_ends_half_way_tears_nothing() -> None:
    ours, theirs = pair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    outbox, parent, main = Outbox(Channel(theirs)), Channel(ours), threading.get_ident()
    numbers: list[int] = []
    sure: list[int] = []
    armed: list[bool] = []

    def read() -> None:
        ours.setblocking(True)
        with contextlib.suppress(EOFError), ours:  # should it not understand what comes, sending ends
            while True:
                signal.pthread_kill(main, signal.SIGUSR1)  # which most often waits for room
                numbers.extend(frame.number for frame in parent.receive())

    def handler(signum: int, frame: object) -> None:
        if armed:
            armed.clear()
            raise Boom

    before = signal.signal(signal.SIGUSR1, handler)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 301):
            with contextlib.suppress(Boom):
                armed.append(True)
                outbox.send(Kind.EVENT, number, Payload(bytes(20_000)))
                sure.append(number)
                armed.clear()
    finally:
        armed.clear()
        theirs.close()
        reader.join()
        signal.signal(signal.SIGUSR1, before)
        ours.close()
    assert len(sure) < 300
    assert numbers == sorted(set(numbers))
    assert set(sure) <= set(numbers)


# -- in a child, where real signals come at any moment -----------------------------------------------


class Numbers(list[int]):
    def __call__(self, number: int, data: bytes = b"") -> None:
        self.append(number)


@pytest.mark.parametrize(("times", "size"), [(3000, 10), (200, 300_000)])
def test_events_come_once_and_in_order_while_handlers_raise(times: int, size: int) -> None:
    with CallableTask(STORM) as task:
        heard = task.on("number", Numbers())
        sure, raised = task.get("send_while_handlers_raise", times, size).result(T)
        pid = task.pid
        assert task.get("same", 1).result(T) == 1
        assert task.pid == pid
    assert raised
    assert heard == sorted(set(heard))
    assert set(sure) <= set(heard)


def test_answers_come_while_handlers_send() -> None:
    with CallableTask(STORM) as task:
        heard = task.on("counted", Numbers())
        task.get("send_in_handlers", 0.0003).result(T)
        for number in range(300):
            assert task.get("same", number).result(T) == number
        sent = task.get("how_many").result(T)
    assert sent > 10
    assert heard == list(range(1, sent + 1))


def test_what_a_handler_has_sent_is_sent_although_it_ends_the_process() -> None:
    with CallableTask(STORM, restart=True) as task:
        for tenth in range(1, 9):
            last = task.wait_for("last")
            with pytest.raises(TaskDied) as died:
                task.get("end_in_handler", tenth / 3000).result(T)
            assert died.value.exit_code == 7
            last.result(T)


@pytest.mark.parametrize("size", [10, 300_000])
def test_sending_leaves_the_users_signal_mask_as_it_is(size: int) -> None:
    with CallableTask(STORM) as task:
        assert task.get("mask_after_sending", size).result(T)


def test_a_call_is_cancelled_in_the_middle_of_all_that() -> None:
    with CallableTask(STORM) as task:
        pid = task.pid
        heard = task.on("counted", Numbers())
        task.get("send_in_handlers", 0.0003).result(T)
        for _ in range(8):
            with pytest.raises(CallTimeout):
                task.options(timeout=0.01).get("send_until_cancelled").result(T)
        sent = task.get("how_many").result(T)
        assert task.pid == pid
    assert heard == sorted(set(heard))
    assert sent - len(heard) <= 8  # what interrupts a call may interrupt a handler that is about to send
