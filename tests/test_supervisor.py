"""The I/O thread: timers, posted work, descriptors; what fails on it stops nothing; idle means asleep."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relieve_py.supervisor import Supervisor, shared

FAR = 10**7  # seconds: more than the system takes for one wait


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def settle(supervisor: Supervisor) -> None:
    """Wait until all that was posted before has run."""
    done = threading.Event()
    supervisor.post(done.set)
    assert done.wait(10)


# -- posted work -----------------------------------------------------------------------------------


def test_posted_work_runs_on_the_thread_in_order(supervisor: Supervisor) -> None:
    ran: list[Any] = []
    for n in range(2000):
        supervisor.post(ran.append, n)
    supervisor.post(lambda: ran.append(supervisor.here))
    settle(supervisor)
    assert ran == [*range(2000), True]
    assert not supervisor.here


def test_what_is_performed_is_done_and_raises_what_it_raises(supervisor: Supervisor) -> None:
    where: list[bool] = []
    supervisor.perform(lambda: where.append(supervisor.here))
    assert where == [True]
    with pytest.raises(KeyError, match="why"):
        supervisor.perform(lambda: {}["why"])


def test_what_a_handler_interrupts_before_it_was_begun_is_not_performed(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alarm(BaseException):
        pass

    go_on, done, post = threading.Event(), list[int](), supervisor.post

    def post_and_raise(*args: Any) -> None:
        post(*args)
        raise Alarm

    supervisor.post(go_on.wait, 10)
    monkeypatch.setattr(supervisor, "post", post_and_raise)
    with pytest.raises(Alarm):
        supervisor.perform(lambda: done.append(1))
    monkeypatch.undo()
    go_on.set()
    settle(supervisor)
    assert not done


def test_what_a_finalizer_posts_on_the_thread_that_is_about_to_sleep_is_done(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, sleep = threading.Event(), supervisor._poller.wait

    def collect_and_sleep(timeout: float | None) -> list[int]:
        if not done.is_set() and timeout is None:
            supervisor.post_from_finalizer(done.set)
        return sleep(timeout)

    monkeypatch.setattr(supervisor._poller, "wait", collect_and_sleep)
    supervisor.post(lambda: None)
    assert done.wait(10)


def test_work_posted_by_many_threads_keeps_the_order_of_each(supervisor: Supervisor) -> None:
    ran: list[tuple[int, int]] = []

    def post(who: int) -> None:
        for n in range(300):
            supervisor.post(ran.append, (who, n))

    posters = [threading.Thread(target=post, args=(who,)) for who in range(6)]
    for poster in posters:
        poster.start()
    for poster in posters:
        poster.join()
    settle(supervisor)
    assert len(ran) == 1800
    for who in range(6):
        assert [n for poster, n in ran if poster == who] == list(range(300))


def test_work_posted_by_work_runs_too_and_starves_nobody(supervisor: Supervisor, pipe: tuple[int, int]) -> None:
    """Work that posts itself for ever: descriptors and timers have their turn all the same."""
    over, read, timed = threading.Event(), threading.Event(), threading.Event()

    def again() -> None:
        if not over.is_set():
            supervisor.post(again)

    supervisor.post(again)
    supervisor.watch(pipe[0], lambda: (os.read(pipe[0], 1), read.set()))
    os.write(pipe[1], b"x")
    supervisor.at(time.monotonic() + 0.01, timed.set)
    assert read.wait(10)
    assert timed.wait(10)
    over.set()
    settle(supervisor)
    supervisor.unwatch(pipe[0])


@pytest.mark.parametrize("where", ["post", "timer", "descriptor"])
def test_a_callback_that_fails_is_logged_and_stops_nothing(
    where: str, supervisor: Supervisor, pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    ran = threading.Event()

    def fail() -> None:
        if where == "descriptor":
            os.read(pipe[0], 1)
        ran.set()
        raise ZeroDivisionError

    if where == "post":
        supervisor.post(fail)
    elif where == "timer":
        supervisor.at(time.monotonic(), fail)
    else:
        supervisor.watch(pipe[0], fail)
        os.write(pipe[1], b"x")
    assert ran.wait(10)
    settle(supervisor)
    supervisor.unwatch(pipe[0])
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


# -- timers ----------------------------------------------------------------------------------------


def test_timers_run_in_the_order_they_are_due_and_not_before(supervisor: Supervisor) -> None:
    now = time.monotonic()
    ran: list[tuple[str, float]] = []
    done = threading.Event()

    def note(name: str) -> None:
        ran.append((name, time.monotonic()))

    due = {"c": now + 0.06, "a": now + 0.02, "b": now + 0.04}
    for name, at in due.items():
        supervisor.at(at, note, name)
    supervisor.at(now + 0.07, done.set)
    assert done.wait(10)
    assert [name for name, _ in ran] == ["a", "b", "c"]
    assert all(at >= due[name] for name, at in ran)


def test_timers_of_one_time_run_in_the_order_they_were_made(supervisor: Supervisor) -> None:
    when = time.monotonic() + 0.03
    ran: list[int] = []
    for n in range(50):
        supervisor.at(when, ran.append, n)
    done = threading.Event()
    supervisor.at(when, done.set)
    assert done.wait(10)
    assert ran == list(range(50))


def test_a_timer_in_the_past_runs_at_once(supervisor: Supervisor) -> None:
    done = threading.Event()
    supervisor.at(time.monotonic() - 100, done.set)
    assert done.wait(10)


def test_an_earlier_timer_overtakes_the_one_that_is_waited_for(supervisor: Supervisor) -> None:
    done = threading.Event()
    late = supervisor.at(time.monotonic() + 1000, done.clear)
    settle(supervisor)  # the thread waits for the late one now
    supervisor.at(time.monotonic() + 0.01, done.set)
    assert done.wait(10)
    late.cancel()


def test_a_cancelled_timer_does_nothing_and_lets_go_of_its_arguments(supervisor: Supervisor) -> None:
    import weakref

    class Thing:
        pass

    ran: list[Any] = []
    thing = Thing()
    gone = weakref.ref(thing)
    timer = supervisor.at(time.monotonic() + 0.02, ran.append, thing)
    timer.cancel()
    timer.cancel()
    del thing
    assert gone() is None
    done = threading.Event()
    supervisor.at(time.monotonic() + 0.03, done.set)
    assert done.wait(10)
    assert ran == []


def test_a_timer_may_arm_the_next_and_cancel_itself(supervisor: Supervisor) -> None:
    done = threading.Event()
    times: list[float] = []

    def tick() -> None:
        times.append(time.monotonic())
        if len(times) == 5:
            done.set()
        else:
            timers.append(supervisor.at(time.monotonic(), tick))
        timers[0].cancel()

    timers = [supervisor.at(time.monotonic() + 0.02, tick)]
    assert done.wait(10)
    assert len(times) == 5


@pytest.mark.parametrize("when", [FAR, float("inf")])
def test_a_timer_further_away_than_the_system_can_wait_disturbs_nothing(supervisor: Supervisor, when: float) -> None:
    timer = supervisor.at(time.monotonic() + when, print)
    settle(supervisor)
    settle(supervisor)
    assert supervisor._thread.is_alive()
    timer.cancel()


def test_cancelled_timers_are_not_kept_until_they_are_due(supervisor: Supervisor) -> None:
    """A call with a timeout of an hour leaves nothing behind when it is done."""
    living = [supervisor.at(time.monotonic() + 3600, print) for _ in range(10)]
    for _ in range(20_000):
        supervisor.at(time.monotonic() + 3600, print).cancel()
    assert len(supervisor._timers) < 1000
    assert sum(entry[2] in living for entry in supervisor._timers) == 10


# -- descriptors -----------------------------------------------------------------------------------


def test_a_watched_descriptor_calls_back_while_it_can_be_read(supervisor: Supervisor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    got: list[bytes] = []
    enough = threading.Event()

    def take() -> None:
        got.append(os.read(read, 1))
        if len(got) == 3:
            enough.set()

    supervisor.watch(read, take)
    os.write(write, b"abc")
    assert enough.wait(10)
    assert got == [b"a", b"b", b"c"]
    supervisor.unwatch(read)


def test_an_unwatched_descriptor_is_silent(supervisor: Supervisor, pipe: tuple[int, int]) -> None:
    called: list[int] = []
    supervisor.watch(pipe[0], lambda: called.append(1))
    supervisor.unwatch(pipe[0])
    supervisor.unwatch(pipe[0])  # twice is fine
    os.write(pipe[1], b"x")
    settle(supervisor)
    assert called == []


def test_a_descriptor_may_be_unwatched_by_another_ones_callback(supervisor: Supervisor) -> None:
    """Both are ready at once; the first to be called takes both away, and the other is never called."""
    pipes = [os.pipe(), os.pipe()]
    called: list[int] = []
    go = threading.Event()

    def take_away() -> None:
        called.append(1)
        for read, _ in pipes:
            supervisor.unwatch(read)

    supervisor.post(go.wait, 10)
    for read, write in pipes:
        supervisor.watch(read, take_away)
        os.write(write, b"x")
    go.set()
    settle(supervisor)
    settle(supervisor)
    assert called == [1]
    for fd in (fd for ends in pipes for fd in ends):
        os.close(fd)


def test_interest_in_reading_can_be_given_up_and_taken_again(supervisor: Supervisor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    called = threading.Event()

    def take() -> None:
        os.read(read, 10)
        called.set()

    supervisor.watch(read, take)
    supervisor.interest(read, False, False)
    os.write(write, b"x")
    settle(supervisor)
    assert not called.is_set()
    supervisor.interest(read, True, False)
    assert called.wait(10)
    supervisor.unwatch(read)


def test_interest_in_writing_calls_back_while_there_is_room(supervisor: Supervisor) -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        called = threading.Event()

        def writable() -> None:
            supervisor.interest(ours.fileno(), True, False)
            called.set()

        supervisor.watch(ours.fileno(), writable)
        settle(supervisor)
        assert not called.is_set()
        supervisor.interest(ours.fileno(), True, True)
        assert called.wait(10)
        supervisor.unwatch(ours.fileno())


# -- idle means asleep -----------------------------------------------------------------------------


class CountingPoller:
    """Counts how often the thread wakes."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self.wakes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)

    def wait(self, timeout: float | None) -> list[int]:
        ready: list[int] = self._poller.wait(timeout)
        self.wakes += 1
        return ready


def test_idle_means_asleep(supervisor: Supervisor, pipe: tuple[int, int]) -> None:
    """Watching something silent, with a timer far away and a cancelled one near, the thread does not wake by itself."""
    counting = CountingPoller(supervisor._poller)
    supervisor._poller = counting
    supervisor.watch(pipe[0], lambda: None)
    far = supervisor.at(time.monotonic() + 3000, print)
    settle(supervisor)  # from here on it waits with the counting poller
    settle(supervisor)
    before = counting.wakes
    assert not threading.Event().wait(0.3)  # a stretch of time in which nothing is to happen
    assert counting.wakes == before
    settle(supervisor)
    assert counting.wakes - before <= 2
    far.cancel()
    supervisor.unwatch(pipe[0])


def test_posting_from_the_thread_itself_needs_no_wake(supervisor: Supervisor) -> None:
    counting = CountingPoller(supervisor._poller)
    supervisor._poller = counting
    settle(supervisor)
    settle(supervisor)
    before = counting.wakes
    done = threading.Event()

    def fan_out() -> None:
        for _ in range(100):
            supervisor.post(lambda: None)
        supervisor.post(done.set)

    supervisor.post(fan_out)
    assert done.wait(10)
    assert counting.wakes - before <= 3


# -- its end, and forks ----------------------------------------------------------------------------


def test_close_ends_the_thread_and_gives_its_descriptors_back() -> None:
    """The fixture of all tests finds a descriptor that stays open."""
    made = Supervisor()
    made.at(time.monotonic() + 1000, print)
    made.close()
    assert not made._thread.is_alive()


def test_the_shared_one_is_made_once_by_many_threads() -> None:
    found: list[Supervisor] = []
    threads = [threading.Thread(target=lambda: found.append(shared())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def in_fork(check: Callable[[], bool]) -> int:
    """The exit code of a copy of this process that runs ``check``: 0 when it is true."""
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_gets_a_thread_of_its_own() -> None:
    mine = shared()

    def check() -> bool:
        done = threading.Event()
        own = shared()
        own.post(done.set)
        return own is not mine and done.wait(10)

    assert in_fork(check) == 0
    settle(mine)
    assert shared() is mine


def test_what_has_come_goes_before_timers_that_were_overslept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped meanwhile hears of nothing from its first look."""
    supervisor = Supervisor()
    read, write = os.pipe()
    happened: list[str] = []
    over = threading.Event()
    looks, wait = [0], supervisor._poller.wait

    def oversleep(seconds: float | None) -> list[int]:
        if looks[0] == 0:
            looks[0] = 1
            threading.Event().wait(0.05)  # longer than until the timer
            return []
        return wait(seconds)

    def come() -> None:
        happened.append("it came")
        supervisor.unwatch(read)

    def prepare() -> None:
        supervisor.watch(read, come)
        os.write(write, b"\0")
        supervisor.at(supervisor.now() + 0.01, happened.append, "the timer")
        supervisor.at(supervisor.now() + 0.01, over.set)
        monkeypatch.setattr(supervisor._poller, "wait", oversleep)

    supervisor.post(prepare)
    assert over.wait(20)
    supervisor.close()
    os.close(read)
    os.close(write)
    assert happened == ["it came", "the timer"]
