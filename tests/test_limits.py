"""Limits: each wrong one is refused by name; the guard of memory looks while the child works, and then only."""

from __future__ import annotations

import threading
from typing import Any

import attrs
import pytest

from relieve_py import Limits, guard
from relieve_py.guard import LOOK_EVERY, MemoryGuard


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("rss", 0, ValueError),
        ("rss", -1, ValueError),
        ("rss", 1.5, TypeError),
        ("rss", "1G", TypeError),
        ("rss", True, TypeError),
        ("cpu_seconds", 0, ValueError),
        ("cpu_seconds", float("nan"), ValueError),
        ("cpu_seconds", float("inf"), ValueError),
        ("cpu_seconds", "2", TypeError),
        ("open_files", 15, ValueError),
        ("open_files", 100.0, TypeError),
        ("address_space", 0, ValueError),
        ("address_space", 2**64, ValueError),
    ],
)
def test_wrong_limits_are_refused_by_name(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        Limits(**{name: value})


def test_what_the_system_enforces() -> None:
    assert Limits(rss=1).of_the_system == {}
    assert Limits(cpu_seconds=0.2, open_files=16, address_space=1 << 40).of_the_system == {
        "RLIMIT_CPU": 1,
        "RLIMIT_NOFILE": 16,
        "RLIMIT_AS": 1 << 40,
    }


class Situation:
    """A guard of one child, with a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.works = True
        self.size: int | None = 50
        self.time = 0.0
        self.due: list[tuple[float, Any]] = []
        self.looks = 0
        self.exceeded: list[int] = []
        self.lock, self.birth = threading.Lock(), self
        self.process: Any = self
        self.channel: Any = self
        self.kept = 0
        self.pid = 7
        monkeypatch.setattr(guard, "resident_bytes", self._look)
        line: Any = self
        self.guard = MemoryGuard(line, line, 100, lambda: self.works, lambda birth, size: self.exceeded.append(size))

    def _look(self, pid: int) -> int | None:
        assert pid == 7
        assert not self.lock.locked(), "a file is read while others wait"
        self.looks += 1
        return self.size

    def now(self) -> float:
        """The supervisor's."""
        return self.time

    def at(self, when: float, function: Any) -> None:
        """The supervisor's."""
        self.due.append((when, function))

    def next_timer(self) -> None:
        """Time goes on."""
        ((self.time, function),) = self.due
        self.due.clear()
        function()


@pytest.fixture
def situation(monkeypatch: pytest.MonkeyPatch) -> Situation:
    return Situation(monkeypatch)


def test_the_guard_looks_while_the_child_works(situation: Situation) -> None:
    for _ in range(3):
        situation.guard.attend()
    situation.next_timer()
    assert situation.time == LOOK_EVERY
    situation.next_timer()
    assert situation.looks == 2
    situation.works = False
    situation.next_timer()
    assert (situation.looks, situation.due) == (2, []), "it sleeps"
    situation.works = True
    situation.guard.attend()
    situation.next_timer()
    assert situation.looks == 3


@pytest.mark.parametrize(("size", "told"), [(100, []), (101, [101]), (None, [])])
def test_it_tells_of_a_child_above_the_limit(situation: Situation, size: int | None, told: list[int]) -> None:
    situation.guard.attend()
    situation.size = size
    situation.next_timer()
    assert situation.exceeded == told


def test_memory_that_is_kept_only_for_the_next_message_does_not_count(situation: Situation) -> None:
    situation.kept = 30
    for size in (130, 131):
        situation.guard.attend()
        situation.size = size
        situation.next_timer()
    assert situation.exceeded == [101]


def test_a_child_that_is_not_there_yet_is_waited_for(situation: Situation) -> None:
    situation.process = None
    situation.guard.attend()
    situation.next_timer()
    assert (situation.looks, len(situation.due)) == (0, 1)


def test_limits_are_a_value() -> None:
    assert Limits(rss=5) == Limits(rss=5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Limits().rss = 3  # type: ignore[misc]
