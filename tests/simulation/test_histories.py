"""A share of the random histories: the full number is run by ``tests/simulation/histories.py``."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import histories
import pytest
from histories import Failure, run_many, run_one, undisturbed
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from slot_world import SlotWorld
from worlds import World, inhabited

from relieve_py.deadlines import Deadlines
from relieve_py.endings import Endings
from relieve_py.lifecycle import Lifecycle
from relieve_py.table import CallTable
from relieve_py.traffic import Traffic


@pytest.mark.parametrize("first", range(0, 1000, 500))
def test_histories_of_a_slot_break_no_rule(first: int) -> None:
    assert run_many("slot", first, 500) == 500


def test_histories_of_a_worker_break_no_rule() -> None:
    assert run_many("worker", 0, 100) == 100


def test_the_same_seed_gives_the_same_history() -> None:
    def story(seed: int) -> list[str]:
        lines: list[str] = []
        World.trace = staticmethod(lines.append)
        try:
            with undisturbed():
                run_one("slot", seed)
        finally:
            World.trace = None
        return lines

    assert story(11) == story(11)
    assert story(11) != story(12)


def test_the_command_tells_how_many_and_fails_by_name() -> None:
    command = [sys.executable, str(Path(histories.__file__))]
    done = subprocess.run([*command, "--count", "40", "--jobs", "2"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("40 histories"), done
    once = subprocess.run([*command, "--seed", "3", "--trace"], capture_output=True, text=True, timeout=60)
    assert once.returncode == 0, once
    assert "is made" in once.stdout


# -- by hypothesis, which finds the shortest history that breaks a rule ------------------------------


class Shortest(RuleBasedStateMachine):
    """A slot in its world; everything that chance decides is drawn by hypothesis."""

    @initialize(data=st.data())
    def make(self, data: st.DataObject) -> None:
        self.data: st.DataObject | None = data
        self.lasting = ExitStack()
        self.world = self.lasting.enter_context(inhabited(SlotWorld, self.choose))
        self.world.submit()

    def choose(self, below: int) -> int:
        """What hypothesis shrinks is shrunk to 0, which is what goes well."""
        return self.data.draw(st.integers(0, below - 1)) if self.data is not None else 0

    @rule(data=st.data(), steps=st.integers(1, 12))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        self.data = data
        for _ in range(steps):
            self.world.step()

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        self.data = data
        self.world.act()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.data = None
            with self.lasting:
                self.world.finish()


Shortest.TestCase.settings = settings(
    max_examples=60, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class TestShortest(Shortest.TestCase):  # type: ignore[misc,name-defined] # made at run time
    """Histories that hypothesis makes up break no rule."""

    @pytest.fixture(autouse=True)
    def quiet(self) -> Any:
        with undisturbed():
            yield


# -- the histories can fail ------------------------------------------------------------------------


def forgets_to_pump(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Traffic, "pump", lambda self: None)


def sends_while_it_stops(patch: pytest.MonkeyPatch) -> None:
    stop = Lifecycle._ask_stop
    patch.setattr(Lifecycle, "_ask_stop", lambda self, due: stop(self, due)[:1])


def loses_what_never_began(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CallTable, "requeue", lambda self, calls: None)


def takes_all_for_begun(patch: pytest.MonkeyPatch) -> None:
    lose = CallTable.lose
    patch.setattr(CallTable, "lose", lambda self, begun: lose(self, 1 << 62))


def takes_none_for_begun(patch: pytest.MonkeyPatch) -> None:
    lose = CallTable.lose
    patch.setattr(CallTable, "lose", lambda self, begun: lose(self, 0))


def keeps_the_place(patch: pytest.MonkeyPatch) -> None:
    finish = CallTable.finish

    def broken(self: CallTable, number: int) -> Any:
        call = self.sent.get(number)
        running = self.running
        found = finish(self, number)
        if call is None:
            self.running = running
        return found

    patch.setattr(CallTable, "finish", broken)


def forgets_the_error(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Endings, "failed", lambda self, call, error, lost: None)


def never_gives_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Deadlines, "_still_there", lambda self, number, generation: None)


MUTANTS = (
    forgets_to_pump,
    sends_while_it_stops,
    loses_what_never_began,
    takes_all_for_begun,
    takes_none_for_begun,
    keeps_the_place,
    forgets_the_error,
    never_gives_up,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_product_is_found(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(Failure, match=r"see it again with: python .* --kind slot --seed"):
        run_many("slot", 0, 2000)
