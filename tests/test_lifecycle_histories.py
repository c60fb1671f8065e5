"""A slot through random histories, in a world of fake children with a manual clock: what always holds."""

from __future__ import annotations

import signal
from collections import Counter, deque
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relieve_py.errors import AlreadyRunning, RelieveError, StartError, Stopped
from relieve_py.instructions import (
    Arm,
    AskStop,
    Disarm,
    DumpStacks,
    Emit,
    Instruction,
    Judge,
    Kill,
    Launch,
    Ping,
    Refuse,
    Settle,
)
from relieve_py.lifecycle import Lifecycle, State
from relieve_py.policies import RestartPolicy

KILL_TIMEOUT = 5.0
RUNNING = (State.STARTING, State.READY, State.STOPPING)
HOW = [None, 0.0, 1.0, signal.SIGTERM, signal.SIGKILL]
"""How to stop: with that patience, or by that signal."""


ASKED = ["start", "stop", "restart", "replace", "wait", "rest", "recycle", "wake", "force"]


@attrs.define
class Child:
    """What the world knows of one child."""

    generation: int
    launched: bool = False
    signalled: bool = False


def of_type(instructions: list[Instruction], kind: type) -> list[Any]:
    return [instruction for instruction in instructions if type(instruction) is kind]


def attrs_of(life: Lifecycle) -> dict[str, Any]:
    return {name: value for name, value in vars(life).items() if not isinstance(value, deque)}


class Histories(RuleBasedStateMachine):
    """A slot in a world of fake children, with a manual clock, through histories that hypothesis makes up."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.child: Child | None = None
        self.launches: Counter[int] = Counter()
        self.timers: dict[str, Arm] = {}
        self.stale: list[Arm] = []
        self.start_waiters = self.stop_waiters = 0
        self.wanted = False  # nobody has stopped it since the last start
        self.deaths: list[float] = []
        self.asked_launches = 0
        self.answers = True

    @initialize(
        mode=st.sampled_from(["always", "on-failure", "never"]),
        max_restarts=st.integers(0, 4),
        delay=st.sampled_from([0.0, 0.5, 3.0]),
        start_timeout=st.sampled_from([None, 2.0]),
        heartbeat=st.sampled_from([None, 3.0]),
        started=st.booleans(),
    )
    def make(
        self,
        mode: str,
        max_restarts: int,
        delay: float,
        start_timeout: float | None,
        heartbeat: float | None,
        started: bool,
    ) -> None:
        self.policy = RestartPolicy(mode=mode, max_restarts=max_restarts, within=20.0, delay=delay)
        self.life = Lifecycle("t", self.policy, start_timeout, KILL_TIMEOUT, lambda: 0.5, heartbeat)
        if started:
            self.start()

    # what the supervisor does with instructions

    def carry_out(self, instructions: list[Instruction], counted_death: bool = False) -> None:
        for instruction in instructions:
            match instruction:
                case Launch(generation):
                    assert self.child is None, "a child is launched beside another"
                    assert self.wanted, "a stopped task is launched"
                    assert self.launches[generation] == 0, "two children of one generation"
                    self.launches[generation] += 1
                    self.child = Child(generation)
                case Kill(generation, _):
                    assert self.child is not None, "a pid is signalled after it was reaped"
                    assert self.child.generation == generation
                    self.child.signalled = True
                case AskStop() | Ping():
                    assert self.child is not None
                case DumpStacks(generation):
                    assert self.child is not None
                    assert self.child.generation == generation
                case Arm(name, at, generation):
                    assert at >= self.now
                    assert generation == self.life.generation
                    self.disarm(name)
                    self.timers[name] = instruction
                case Disarm(name):
                    self.disarm(name)
                case Refuse(error):
                    assert isinstance(error, RelieveError)
                    self.start_waiters = 0
                case Settle("start", _):
                    self.start_waiters = 0
                case Settle("stop", _):
                    self.stop_waiters = 0
        if counted_death and (of_type(instructions, Launch) or "restart" in self.timers):
            in_window = [at for at in self.deaths if at >= self.now - self.policy.within]
            assert len(in_window) <= self.policy.max_restarts, "the budget is overdrawn"

    def disarm(self, name: str) -> None:
        timer = self.timers.pop(name, None)
        if timer is not None:
            self.stale.append(timer)

    # what users ask

    @rule(
        what=st.sampled_from(["start", "stop", "restart", "replace", "wait", "rest", "recycle", "wake", "force"]),
        how=st.sampled_from(HOW),
    )
    def a_user_asks(self, what: str, how: float | signal.Signals | None) -> None:
        """One rule for all, so that children get to live a little."""
        if what == "stop":
            self.stop_or_kill(how)
        else:
            getattr(self, what)()

    def start(self) -> None:
        allowed = self.life.state in (State.NEW, State.ASLEEP, State.STOPPED, State.FAILED)
        try:
            instructions = self.life.start(self.now)
        except (AlreadyRunning, Stopped):
            assert not allowed
            return
        assert allowed
        self.wanted, self.deaths = True, []
        self.start_waiters += 1
        self.asked_launches += 1
        self.carry_out(instructions)

    def stop_or_kill(self, how: float | signal.Signals | None) -> None:
        self.wanted = False
        self.stop_waiters += 1
        if isinstance(how, signal.Signals):
            self.carry_out(self.life.kill(self.now, how))
        else:
            self.carry_out(self.life.stop(self.now, how))

    def wait(self) -> None:
        """For the last exit; one that was before is told at once."""
        self.stop_waiters += self.life.state not in (State.STOPPED, State.FAILED)

    def restart(self) -> None:
        fresh = self.life.state in (State.NEW, State.STOPPED, State.FAILED)
        try:
            instructions = self.life.restart(self.now)
        except Stopped:
            assert self.life.state is State.STOPPING
            assert not self.wanted
            return
        if fresh:
            self.deaths = []
            self.asked_launches += 1
        self.wanted = True
        self.start_waiters += 1
        self.carry_out(instructions)

    def replace(self) -> None:
        self.carry_out(self.life.replace(self.now, "it broke the protocol"))

    def force(self) -> None:
        self.carry_out(self.life.force(self.now, "it did not answer"))

    def recycle(self) -> None:
        self.carry_out(self.life.recycle(self.now, "calls"))

    def rest(self) -> None:
        self.carry_out(self.life.rest(self.now, 5.0))

    def wake(self) -> None:
        """A call comes; a task that was never started is started by it, without anybody who waits for that."""
        if self.life.state is State.NEW:
            self.wanted = True
            self.asked_launches += 1
        self.carry_out(self.life.wake(self.now))

    # what children do

    @precondition(lambda self: self.child is not None)
    @rule(gets_ready=st.sampled_from([True, True, False]))
    def comes_up(self, gets_ready: bool) -> None:
        assert self.child is not None
        if not self.child.launched:
            self.child.launched = True
            self.carry_out(self.life.launched(self.child.generation, 1000 + self.child.generation, self.now))
        if gets_ready:
            self.carry_out(self.life.ready(self.child.generation, ("data",), self.now))

    @precondition(lambda self: self.child is not None and self.life.state is State.STARTING)
    @rule()
    def start_failed(self) -> None:
        assert self.child is not None
        self.carry_out(self.life.start_failed(self.child.generation, StartError("no", task="t"), self.now))

    @precondition(lambda self: self.child is not None)
    @rule(
        how=st.sampled_from([(0, None), (3, None), (None, signal.SIGKILL), (None, None)]),
        blamed=st.sampled_from([False, False, True]),
        worked=st.sampled_from([False, False, True]),
    )
    def exits(self, how: tuple[int | None, int | None], blamed: bool, worked: bool) -> None:
        assert self.child is not None
        generation, stopping = self.child.generation, self.life.state is State.STOPPING
        self.child = None  # reaped
        counted = not stopping and not blamed and how[0] != 0
        if counted:
            self.deaths.append(self.now)
        happened = self.life.exited(generation, *how, self.now, blamed=blamed, worked=worked)
        assert of_type(happened, Emit)[0].name == "exit"
        assert len(of_type(happened, Judge)) == 1
        if not stopping and self.life.state in (State.STOPPED, State.FAILED):
            self.wanted = False
        self.carry_out(happened, counted)

    @rule(yes=st.booleans())
    def answers_its_heartbeat(self, yes: bool) -> None:
        self.answers = yes

    # time

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 15.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers.values() if timer.at <= until]:
            timer = min(due, key=lambda timer: timer.at)
            self.now = max(self.now, timer.at)
            del self.timers[timer.name]
            self.stale.append(timer)
            if timer.name == "heartbeat":
                self.carry_out(self.life.beat(timer.generation, self.answers, self.now))
            else:
                self.carry_out(self.life.timer(timer.name, timer.generation, self.now))
        self.now = until

    # what always holds

    @invariant()
    def news_of_an_earlier_child_changes_nothing(self) -> None:
        if not hasattr(self, "life"):
            return
        before = attrs_of(self.life)
        for earlier in range(max(0, self.life.generation - 3), self.life.generation):
            assert self.life.exited(earlier, 1, None, self.now) == []
            assert self.life.ready(earlier, ("old",), self.now) == []
            assert self.life.launched(earlier, 7, self.now) == []
            assert self.life.start_failed(earlier, StartError("old"), self.now) == []
        assert attrs_of(self.life) == before

    @invariant()
    def a_timer_of_an_earlier_child_does_nothing(self) -> None:
        """It was due when it was disarmed, and its callback was already under way."""
        for timer in self.stale[-5:]:
            if timer.generation != self.life.generation:
                before = attrs_of(self.life)
                assert self.life.timer(timer.name, timer.generation, self.now) == []
                assert attrs_of(self.life) == before

    @invariant()
    def a_child_is_there_exactly_when_the_state_says_so(self) -> None:
        if hasattr(self, "life"):
            assert (self.child is not None) is (self.life.state in RUNNING)

    @invariant()
    def nobody_waits_for_what_has_come(self) -> None:
        if not hasattr(self, "life"):
            return
        if self.life.state in (State.READY, State.STOPPED, State.FAILED, State.NEW):
            assert self.start_waiters == 0
        if self.life.state in (State.STOPPED, State.FAILED):
            assert self.stop_waiters == 0

    @invariant()
    def what_waits_has_a_timer_and_rest_has_none(self) -> None:
        if not hasattr(self, "life"):
            return
        match self.life.state:
            case State.WAITING:
                assert set(self.timers) == {"restart"}
            case State.STOPPING:
                assert self.timers.keys() <= {"grace", "ladder"}
                assert self.child is not None
                assert self.timers or self.child.signalled, "a child that never leaves would be waited for"
            case State.STARTING:
                assert self.timers.keys() <= {"start", "ladder"}
            case State.READY:
                assert self.timers.keys() <= {"heartbeat", "ladder"}
            case _:
                assert self.timers == {}

    @invariant()
    def restarts_are_launches_that_nobody_asked_for_as_a_start(self) -> None:
        if hasattr(self, "life"):
            waiting = self.life.state is State.WAITING or ("restart" in self.timers)
            launched = sum(self.launches.values()) - self.asked_launches + waiting
            assert launched <= self.life.restarts <= launched + self.cancelled_waits()

    def cancelled_waits(self) -> int:
        """Restarts that were announced, and stopped while they waited."""
        return sum(timer.name == "restart" for timer in self.stale)

    def teardown(self) -> None:
        """Stopped at last, it comes to rest: no child, no timer, nobody who waits."""
        if not hasattr(self, "life"):
            return
        self.stop_or_kill(None)
        self.time_passes(15.0)
        if self.child is not None:
            assert self.child.signalled, "a child that does not leave is killed"
            self.exits((None, signal.SIGKILL), False, False)
        assert self.life.state is State.STOPPED
        assert (self.child, self.timers, self.start_waiters, self.stop_waiters) == (None, {}, 0, 0)


Histories.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


class TestHistories(Histories.TestCase):  # type: ignore[misc,name-defined] # made at run time
    """Random histories keep what always holds."""
