"""When a server process is taken for frozen, with a manual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relieve_py.launchers.pulse import FIRST_PATIENCE, INTERVAL, PATIENCE, Pulse


class Clock:
    """The part of a supervisor that a pulse needs."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        return self.time

    def at(self, when: float, function: Callable[[], object]) -> None:
        self.timers.append((when, function))

    def pass_by(self, seconds: float, asleep: bool = False) -> None:
        """Let time go by; ``asleep``: all at once, as in a machine that was suspended."""
        until = self.time + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.time = until if asleep else timer[0]
            timer[1]()
        self.time = until


class Server:
    """A server that owes an answer as long as a test says so."""

    def __init__(self, answers: bool = False) -> None:
        self.owing = True
        self.answers = answers
        self.pulse: Pulse
        self.pings = self.looks = 0
        self.given_up = False

    def owes(self) -> bool:
        return self.owing

    def ping(self) -> None:
        self.pings += 1
        if self.answers:
            self.pulse.heard()

    def look_around(self) -> None:
        self.looks += 1

    def give_up(self) -> None:
        self.given_up = True


def felt(**options: Any) -> tuple[Server, Clock]:
    server, clock = Server(**options), Clock()
    server.pulse = Pulse(server, clock, FIRST_PATIENCE)  # type: ignore[arg-type] # all that it needs of a supervisor
    server.pulse.heard()
    server.pulse.expect()
    return server, clock


def test_a_server_that_owes_an_answer_and_says_nothing_is_given_up_once() -> None:
    server, clock = felt()
    clock.pass_by(INTERVAL * PATIENCE)
    assert not server.given_up
    clock.pass_by(INTERVAL)
    assert server.given_up
    assert clock.timers == []


def test_what_a_silent_server_should_tell_is_looked_for_once_it_had_time_to_answer() -> None:
    server, clock = felt()
    clock.pass_by(INTERVAL)
    assert server.looks == 0
    clock.pass_by(INTERVAL)
    assert server.looks == 1


def test_a_server_that_answers_is_left_alone_however_long_it_owes() -> None:
    server, clock = felt(answers=True)
    clock.pass_by(100 * INTERVAL * PATIENCE)
    assert not server.given_up
    assert server.pings > PATIENCE
    assert server.looks == 0


def test_nobody_looks_at_a_server_that_owes_nothing() -> None:
    server, clock = felt()
    server.owing = False
    clock.pass_by(INTERVAL)
    assert (server.pings, clock.timers) == (0, [])
    server.owing = True
    server.pulse.expect()
    server.pulse.expect()
    assert len(clock.timers) == 1


def test_a_machine_that_was_asleep_has_looked_once() -> None:
    server, clock = felt()
    for _ in range(PATIENCE):
        clock.pass_by(3600, asleep=True)
    assert not server.given_up


@pytest.mark.parametrize("looks", [PATIENCE + 1, FIRST_PATIENCE])
def test_a_server_that_is_still_starting_has_more_time(looks: int) -> None:
    server, clock = Server(), Clock()
    server.pulse = Pulse(server, clock, FIRST_PATIENCE)  # type: ignore[arg-type]
    server.pulse.expect()
    clock.pass_by(INTERVAL * looks)
    assert not server.given_up
    clock.pass_by(INTERVAL * FIRST_PATIENCE)
    assert server.given_up
