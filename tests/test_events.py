"""The emitter and its strands: who hears what, in which order, and that no listener stops another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py.events import LIFECYCLE, Emitter, Event, current_event, matches
from relieve_py.exits import Exit
from relieve_py.strands import Strand


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any) -> None:
        self.heard.append(args)


def after_all(strand: Strand) -> None:
    """Wait until all that was submitted has run."""
    done = threading.Event()
    strand.submit(done.set)
    assert done.wait(10)


# -- who hears -------------------------------------------------------------------------------------


def test_a_listener_gets_the_events_arguments_and_nothing_else() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.on("progress", ear)
    assert emitter.emit("progress", 3, 10)
    assert not emitter.emit("other", 1)
    after_all(emitter.strand)
    assert ear.heard == [(3, 10)]


def test_on_can_be_used_as_a_decorator_and_returns_the_listener() -> None:
    emitter, ear = Emitter(), Ear()
    assert emitter.on("a", ear) is ear
    assert emitter.once("a", ear) is ear


def test_once_hears_the_next_event_only() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.once("a", ear)
    assert emitter.listening("a")
    emitter.emit("a", 1)
    assert not emitter.listening("a")
    emitter.emit("a", 2)
    after_all(emitter.strand)
    assert ear.heard == [(1,)]


def test_once_is_once_when_many_threads_emit() -> None:
    emitter, ear = Emitter(), Ear()
    start = threading.Barrier(8)
    emitter.once("a", ear)

    def emit() -> None:
        start.wait()
        emitter.emit("a")

    emitters = [threading.Thread(target=emit) for _ in range(8)]
    for thread in emitters:
        thread.start()
    for thread in emitters:
        thread.join()
    after_all(emitter.strand)
    assert len(ear.heard) == 1


def test_once_with_a_pattern_goes_with_the_first_match_only() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.once("job.*", ear)
    emitter.emit("other")
    emitter.emit("job.a", 1)
    emitter.emit("job.b", 2)
    after_all(emitter.strand)
    assert ear.heard == [(1,)]


def test_the_same_listener_twice_hears_twice() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.on("a", ear)
    emitter.on("a", ear)
    emitter.emit("a", 1)
    after_all(emitter.strand)
    assert ear.heard == [(1,), (1,)]


@pytest.mark.parametrize(
    ("pattern", "name", "hears"),
    [
        ("job.*", "job.done", True),
        ("job.*", "job.", True),
        ("job.*", "job", False),
        ("job.*", "myjob.done", False),
        ("*", "anything", True),
        ("*.done", "job.part.done", True),
        ("j*b", "jb", True),
        ("job.*", "JOB.done", False),
        ("a?", "ab", False),  # only the star is special
        ("[ab]", "a", False),
        ("a?", "a?", True),
        ("job[1].*", "job[1].done", True),
        ("job[1].*", "job1.done", False),
    ],
)
def test_a_star_matches_any_text_and_nothing_else_is_special(pattern: str, name: str, hears: bool) -> None:
    assert matches(pattern, name) is hears


@given(st.text(max_size=8))
def test_every_name_matches_itself_and_the_star(name: str) -> None:
    assert matches(name, name)
    assert matches("*", name)


def test_off_removes_one_listener_all_of_a_name_or_all() -> None:
    a, b, c = Ear(), Ear(), Ear()

    def emitter_with(*offs: tuple[Any, ...]) -> list[bool]:
        emitter = Emitter()
        for name, ear in (("x", a), ("x", b), ("y", c)):
            emitter.on(name, ear)
        for off in offs:
            emitter.off(*off)
        left = [entry[1] for entry in emitter._listeners]
        return [ear in left for ear in (a, b, c)]

    assert emitter_with(("x", a)) == [False, True, True]
    assert emitter_with(("x",)) == [False, False, True]
    assert emitter_with(()) == [False, False, False]
    assert emitter_with((None, b)) == [True, False, True]
    assert emitter_with(("y", a)) == [True, True, True]
    assert emitter_with(("no such name",)) == [True, True, True]


def test_off_knows_a_bound_method_again() -> None:
    class Holder:
        def hear(self) -> None: ...

    emitter, holder = Emitter(), Holder()
    emitter.on("a", holder.hear)
    emitter.off("a", holder.hear)
    assert not emitter.listening("a")


def test_what_was_emitted_before_off_is_still_heard() -> None:
    emitter, ear, go = Emitter(), Ear(), threading.Event()
    emitter.on("a", lambda *args: go.wait(10))
    emitter.on("a", ear)
    emitter.emit("a", 1)
    emitter.off()
    go.set()
    after_all(emitter.strand)
    assert ear.heard == [(1,)]


def test_copied_listeners_hear_too() -> None:
    first, second, ear = Emitter(), Emitter(), Ear()
    first.on("a", ear)
    second.copy_listeners(first)
    second.emit("a", 1)
    after_all(second.strand)
    assert ear.heard == [(1,)]


@pytest.mark.parametrize("name", ["", None, 3, b"a"])
def test_a_name_that_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="an event's name is a non-empty string"):
        Emitter().on(name, print)


@pytest.mark.parametrize("register", [Emitter.on, Emitter.once])
def test_a_listener_that_cannot_be_called_is_refused(register: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="a listener is callable"):
        register(Emitter(), "a", 3)


def test_the_running_listener_finds_its_event() -> None:
    source = Ear()
    emitter, found = Emitter(source), []
    emitter.on("job.*", lambda *args: found.append(current_event()))
    emitter.emit("job.a", 1, 2)
    after_all(emitter.strand)
    assert found == [Event(name="job.a", source=source, args=(1, 2))]
    with pytest.raises(LookupError):
        current_event()


def test_a_relayed_event_keeps_its_own_source() -> None:
    mine, theirs = Ear(), Ear()
    emitter, found = Emitter(mine), []
    emitter.on("a", lambda: found.append(current_event().source))
    emitter.relay(theirs, "a", ())
    after_all(emitter.strand)
    assert found == [theirs]


# -- order, errors, blocking -----------------------------------------------------------------------


def test_events_are_heard_in_the_order_they_were_emitted() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.on("*", ear)
    for n in range(5000):
        emitter.emit("a" if n % 2 else "b", n)
    after_all(emitter.strand)
    assert ear.heard == [(n,) for n in range(5000)]


def test_listeners_of_one_event_run_in_the_order_they_were_registered() -> None:
    emitter, order = Emitter(), []
    for n in range(20):
        emitter.on("a" if n % 2 else "*", lambda n=n: order.append(n))
    emitter.emit("a")
    after_all(emitter.strand)
    assert order == list(range(20))


@pytest.mark.rule(12)
@pytest.mark.parametrize("error", [ValueError("of the listener"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_listener_that_raises_is_logged_and_stops_nobody_else(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    emitter, ear = Emitter(), Ear()

    def bad() -> None:
        raise error

    emitter.on("a", bad)
    emitter.on("a", ear)
    emitter.emit("a")
    emitter.emit("a")
    after_all(emitter.strand)
    assert ear.heard == [(), ()]
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 2
    assert told[0].exc_info is not None
    assert told[0].exc_info[1] is error


@pytest.mark.rule(12)
def test_a_listener_that_blocks_holds_up_no_other_strand() -> None:
    go = threading.Event()
    blocked = [Emitter() for _ in range(5)]
    for emitter in blocked:
        emitter.on("a", lambda: go.wait(30))
        emitter.emit("a")
    free, ear = Emitter(), Ear()
    free.on("a", ear)
    free.emit("a", 1)
    after_all(free.strand)
    assert ear.heard == [(1,)]
    go.set()
    for emitter in blocked:
        after_all(emitter.strand)


def test_emitting_never_waits_for_a_listener() -> None:
    go, emitter = threading.Event(), Emitter()
    emitter.on("a", lambda n: go.wait(30))
    for n in range(1000):
        emitter.emit("a", n)
    assert not emitter.strand.idle
    go.set()
    after_all(emitter.strand)


def test_a_listener_may_register_remove_and_emit() -> None:
    emitter, ear = Emitter(), Ear()

    def first() -> None:
        emitter.off("a", first)
        emitter.on("b", ear)
        emitter.emit("b", "from within")

    emitter.on("a", first)
    emitter.emit("a")
    after_all(emitter.strand)
    after_all(emitter.strand)
    assert ear.heard == [("from within",)]
    assert not emitter.emit("a")


# -- records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "signal", "reason", "ok", "words"),
    [
        (0, None, None, True, "exit code 0"),
        (3, None, None, False, "exit code 3"),
        (None, None, None, False, "exit code unknown"),
        (None, "SIGSEGV", None, False, "killed by SIGSEGV"),
        (None, "SIGKILL", "it did not leave in time", False, "killed by SIGKILL (it did not leave in time)"),
    ],
)
def test_an_exit_is_described_in_words(
    code: int | None, signal: str | None, reason: str | None, ok: bool, words: str
) -> None:
    exit = Exit(task="t", pid=1, code=code, signal=signal, forced=reason is not None, uptime=1.0, reason=reason)
    assert (exit.ok, exit.describe()) == (ok, words)


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Event(name="a", source=None, args=()).name = "b"  # type: ignore[misc]


def test_the_names_that_the_design_reserves_are_reserved() -> None:
    assert {"start", "ready", "exit", "restart", "error", "state", "drop"} <= LIFECYCLE
