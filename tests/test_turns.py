"""Who reads a channel: one at a time, woken by news from elsewhere, in time for the deadline."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from relieve_py.turns import Turns, Wake


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


class Waiting:
    """A thread that takes the turn and waits for ``pipe``; reads one byte each time it is told to read."""

    def __init__(self, turns: Turns, fd: int, deadline: float | None = None, stop_after: int = 10**9) -> None:
        self.done = threading.Event()
        self.taken = threading.Event()
        self.got = b""
        self._turns, self._fd, self._deadline, self._stop_after = turns, fd, deadline, stop_after
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.taken.wait(10)

    def _run(self) -> None:
        assert self._turns.take_place()
        self.taken.set()
        try:
            self._turns.wait(self._fd, self.done.is_set, self._read, self._deadline)
        finally:
            self._turns.leave_place()

    def _read(self) -> bool:
        self.got += os.read(self._fd, 1)
        return len(self.got) < self._stop_after

    def join(self) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_one_has_the_turn_at_a_time() -> None:
    turns = Turns()
    assert turns.take()
    assert not turns.take()
    turns.give_back()
    assert turns.take()
    turns.give_back()


def test_who_reads_does_not_begin_again_in_the_middle() -> None:
    turns = Turns()
    assert not turns.mine
    assert turns.take()
    assert turns.mine
    assert not turns.take()
    turns.drop()
    assert not turns.mine
    turns.drop()
    other = threading.Thread(target=turns.take)
    other.start()
    other.join()
    assert not turns.mine
    assert not turns.take()


def test_who_reads_gets_no_place_to_wait() -> None:
    turns = Turns()
    assert turns.take()
    assert not turns.take_place()
    turns.drop()
    assert turns.take_place()
    assert turns.has_place()


def test_one_caller_has_the_place_at_a_time_and_the_turn_only_while_it_reads(pipe: tuple[int, int]) -> None:
    turns, had = Turns(), []
    assert turns.take_place()
    assert not turns.take_place()
    assert turns.take()
    turns.give_back()
    os.write(pipe[1], b"x")
    turns.wait(pipe[0], lambda: False, lambda: had.append(turns.take()), None)
    assert had == [False]
    turns.leave_place()
    assert turns.take_place()
    turns.leave_place()


def test_the_io_thread_is_told_while_a_caller_reads() -> None:
    turns = Turns()
    turns.take()
    assert not turns.caller_reads
    turns.give_back()
    turns.take_place()
    assert turns.caller_reads
    assert turns.main_thread_reads
    turns.leave_place()
    assert not turns.caller_reads
    assert not turns.main_thread_reads


@pytest.mark.parametrize("what", ["turn", "place"])
def test_many_threads_never_have_it_together(what: str) -> None:
    turns, inside, most, taken = Turns(), [0], [0], [0]

    def grab() -> None:
        for _ in range(300):
            if turns.take() if what == "turn" else turns.take_place():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                taken[0] += 1
                inside[0] -= 1
                turns.give_back() if what == "turn" else turns.leave_place()

    threads = [threading.Thread(target=grab) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert taken[0] > 300


def test_what_is_done_already_is_not_waited_for(pipe: tuple[int, int]) -> None:
    turns = Turns()
    turns.take_place()
    turns.wait(pipe[0], lambda: True, lambda: pytest.fail("there is nothing to read"), None)
    turns.leave_place()


def test_the_deadline_is_kept_though_there_is_always_more_to_read(pipe: tuple[int, int]) -> None:
    turns = Turns()
    os.write(pipe[1], b"x")  # which nobody takes out
    reads: list[int] = []
    turns.take_place()
    turns.wait(pipe[0], lambda: len(reads) > 1_000_000, lambda: reads.append(1) is None, time.monotonic() + 0.05)
    turns.leave_place()
    assert 0 < len(reads) < 1_000_000


def test_the_caller_reads_until_it_has_what_it_wants(pipe: tuple[int, int]) -> None:
    turns = Turns()
    os.write(pipe[1], b"abcdef")
    got: list[bytes] = []
    turns.take_place()
    turns.wait(pipe[0], lambda: len(got) == 3, lambda: got.append(os.read(pipe[0], 1)) is None, None)
    turns.leave_place()
    assert got == [b"a", b"b", b"c"]


def test_the_caller_stops_when_there_is_nothing_more_to_read(pipe: tuple[int, int]) -> None:
    waiting = Waiting(Turns(), pipe[0], stop_after=1)
    os.write(pipe[1], b"abc")
    waiting.join()
    assert waiting.got == b"a"


@pytest.mark.parametrize("seconds", [0.0, -5.0, 0.03])
def test_the_caller_stops_at_its_deadline_and_not_before(pipe: tuple[int, int], seconds: float) -> None:
    turns = Turns()
    deadline = time.monotonic() + seconds
    turns.take_place()
    turns.wait(pipe[0], lambda: False, lambda: True, deadline)
    turns.leave_place()
    assert time.monotonic() >= deadline


def test_a_deadline_further_away_than_the_system_can_wait_is_waited_for(pipe: tuple[int, int]) -> None:
    waiting = Waiting(Turns(), pipe[0], deadline=time.monotonic() + 10**7, stop_after=1)
    os.write(pipe[1], b"a")
    waiting.join()
    assert waiting.got == b"a"


def test_a_nudge_makes_the_waiting_caller_look_again(pipe: tuple[int, int]) -> None:
    turns = Turns()
    waiting = Waiting(turns, pipe[0])
    waiting.done.set()
    turns.nudge()
    waiting.join()
    assert waiting.got == b""


def test_a_nudge_for_nothing_disturbs_nobody(pipe: tuple[int, int]) -> None:
    turns = Turns()
    turns.nudge()  # nobody waits
    waiting = Waiting(turns, pipe[0], stop_after=2)
    for _ in range(5):
        turns.nudge()
    os.write(pipe[1], b"ab")
    waiting.join()
    assert waiting.got == b"ab"


def test_a_nudge_before_the_wait_is_not_lost(pipe: tuple[int, int]) -> None:
    """What the caller waits for happens after it took the turn and before it sleeps."""
    turns = Turns()
    turns.take_place()
    happened = threading.Event()
    looked = threading.Event()

    def done() -> bool:
        if happened.is_set():
            return True
        happened.set()  # right after this look
        other = threading.Thread(target=turns.nudge)
        other.start()
        other.join()
        looked.set()
        return False

    turns.wait(pipe[0], done, lambda: True, time.monotonic() + 10)
    turns.leave_place()
    assert looked.is_set()
    assert happened.is_set()


def test_a_nudge_by_the_waiting_thread_itself_is_no_wake(pipe: tuple[int, int]) -> None:
    turns = Turns()
    turns.take_place()
    turns.nudge()
    start = time.monotonic()
    turns.wait(pipe[0], lambda: False, lambda: pytest.fail("nothing to read"), start + 0.02)
    turns.leave_place()
    assert time.monotonic() - start >= 0.02


def test_thousands_of_nudges_do_not_block() -> None:
    wake = Wake()
    for _ in range(100_000):
        wake.set()
    wake.clear()
    wake.clear()


def test_each_thread_waits_with_a_pipe_of_its_own_and_closes_it(pipe: tuple[int, int]) -> None:
    """The fixture of all tests finds descriptors that stay open after their threads."""
    turns = [Turns() for _ in range(5)]
    all_waiting = [Waiting(turn, pipe[0]) for turn in turns]
    for turn, waiting in zip(turns, all_waiting, strict=True):
        assert turn.caller_reads
        waiting.done.set()
        turn.nudge()
        waiting.join()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wake_its_parent(pipe: tuple[int, int]) -> None:
    turns = Turns()
    turns.take_place()
    turns.leave_place()  # this thread has its pipe now
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            own = Turns()
            own.take_place()
            waker = threading.Thread(target=own.nudge)
            waker.start()
            waker.join()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    turns.take_place()
    start = time.monotonic()
    looks = []
    turns.wait(pipe[0], lambda: bool(looks.append(1)), lambda: True, start + 0.02)
    turns.leave_place()
    assert len(looks) <= 2, "the copy's nudge woke this process"


def test_a_wait_that_was_interrupted_while_it_began_leaves_the_next_one_whole(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = pipe
    wake, poll, interrupt = Wake(), select.poll, [KeyboardInterrupt]

    class Interrupted:
        """Ctrl-C comes when that descriptor is about to be waited for, once."""

        def __init__(self) -> None:
            self._poll = poll()
            self.poll = self._poll.poll

        def register(self, fd: int, events: int) -> None:
            if fd == read and interrupt:
                raise interrupt.pop()
            self._poll.register(fd, events)

    monkeypatch.setattr(select, "poll", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        wake.wait(read, 0, None)
    os.write(write, b"x")
    assert wake.wait(read, 5, None) == [(read, select.POLLIN)]
