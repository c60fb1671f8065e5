"""Decisions about one slot: what each state makes of each request, restarts, budgets and delays."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from relieve_py.budget import HEALTHY_UPTIME, KILLED_STARTS
from relieve_py.errors import AlreadyRunning, NotRunning, RelieveError, StartError, Stopped
from relieve_py.events import Failed, Restarting
from relieve_py.exits import Exit
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
from relieve_py.lifecycle import _LEGAL, Lifecycle, State
from relieve_py.policies import RestartPolicy

KILL_TIMEOUT = 5.0
START_TIMEOUT = 30.0


def life_of(policy: RestartPolicy = RestartPolicy(), start_timeout: float | None = START_TIMEOUT) -> Lifecycle:  # noqa: B008 - frozen
    return Lifecycle("t", policy, start_timeout, KILL_TIMEOUT, random=lambda: 0.0)


def climbs(life: Lifecycle, timer: str, now: float, *signums: signal.Signals) -> None:
    """The timer has the child write down its stacks, and then sends those signals, one after the other."""
    generation = life.generation
    happened = life.beat(generation, False, now) if timer == "heartbeat" else life.timer(timer, generation, now)
    assert of_type(happened, DumpStacks) == [DumpStacks(generation)]
    for signum in signums:
        (ladder,) = of_type(happened, Arm)
        assert ladder.name == "ladder"
        assert ladder.at > now
        now = ladder.at
        happened = life.timer("ladder", generation, now)
        assert of_type(happened, Kill) == [Kill(generation, signum)]
    assert of_type(happened, Arm) == []


def running(policy: RestartPolicy = RestartPolicy(), now: float = 0.0) -> Lifecycle:  # noqa: B008 - frozen
    life = life_of(policy)
    life.start(now)
    life.launched(1, 100, now)
    life.ready(1, ("data",), now)
    return life


def of_type(instructions: list[Instruction], kind: type) -> list[Any]:
    return [instruction for instruction in instructions if type(instruction) is kind]


def emitted(instructions: list[Instruction]) -> list[str]:
    return [emit.name for emit in of_type(instructions, Emit)]


# -- moves -----------------------------------------------------------------------------------------


def in_state(state: State) -> Lifecycle:
    """A slot that came to that state in the usual way."""
    slow = RestartPolicy(delay=3.0)
    match state:
        case State.NEW:
            return life_of(slow)
        case State.STARTING:
            life = life_of(slow)
            life.start(0.0)
            life.launched(1, 100, 0.0)
            return life
        case State.FAILED:
            life = in_state(State.STARTING)
            life.exited(1, 1, None, 1.0)
            return life
    life = running(slow)
    match state:
        case State.STOPPING:
            life.stop(1.0)
        case State.WAITING:
            life.exited(1, 1, None, 1.0)
        case State.ASLEEP:
            life.rest(1.0, 5.0)
            life.exited(1, 0, None, 1.0)
        case State.STOPPED:
            life.stop(1.0)
            life.exited(1, 0, None, 2.0)
    return life


TABLE: dict[tuple[State, str], State | type[RelieveError]] = {
    (State.NEW, "start"): State.STARTING,
    (State.NEW, "stop"): State.STOPPED,
    (State.NEW, "kill"): State.STOPPED,
    (State.NEW, "restart"): State.STARTING,
    (State.STARTING, "start"): AlreadyRunning,
    (State.STARTING, "stop"): State.STOPPING,
    (State.STARTING, "kill"): State.STOPPING,
    (State.STARTING, "restart"): State.STOPPING,
    (State.STARTING, "ready"): State.READY,
    (State.STARTING, "exit"): State.FAILED,
    (State.READY, "start"): AlreadyRunning,
    (State.READY, "stop"): State.STOPPING,
    (State.READY, "kill"): State.STOPPING,
    (State.READY, "restart"): State.STOPPING,
    (State.READY, "ready"): State.READY,
    (State.READY, "exit"): State.WAITING,
    (State.STOPPING, "start"): Stopped,
    (State.STOPPING, "stop"): State.STOPPING,
    (State.STOPPING, "kill"): State.STOPPING,
    (State.STOPPING, "restart"): Stopped,
    (State.STOPPING, "ready"): State.STOPPING,
    (State.STOPPING, "exit"): State.STOPPED,
    (State.WAITING, "start"): AlreadyRunning,
    (State.WAITING, "stop"): State.STOPPED,
    (State.WAITING, "kill"): State.STOPPED,
    (State.WAITING, "restart"): State.STARTING,
    (State.WAITING, "timer"): State.STARTING,
    (State.ASLEEP, "start"): State.STARTING,
    (State.ASLEEP, "stop"): State.STOPPED,
    (State.ASLEEP, "kill"): State.STOPPED,
    (State.ASLEEP, "restart"): State.STARTING,
    (State.NEW, "wake"): State.STARTING,
    (State.ASLEEP, "wake"): State.STARTING,
    (State.STOPPED, "start"): State.STARTING,
    (State.STOPPED, "stop"): State.STOPPED,
    (State.STOPPED, "kill"): State.STOPPED,
    (State.STOPPED, "restart"): State.STARTING,
    (State.FAILED, "start"): State.STARTING,
    (State.FAILED, "stop"): State.STOPPED,
    (State.FAILED, "kill"): State.STOPPED,
    (State.FAILED, "restart"): State.STARTING,
}


def act(life: Lifecycle, what: str, now: float = 2.0) -> list[Instruction]:
    match what:
        case "start":
            return life.start(now)
        case "stop":
            return life.stop(now)
        case "kill":
            return life.kill(now, signal.SIGTERM)
        case "restart":
            return life.restart(now)
        case "ready":
            return life.ready(life.generation, (), now)
        case "exit":
            return life.exited(life.generation, 1, None, now)
        case "wake":
            return life.wake(now)
        case _:
            return life.timer("restart", life.generation, now)


@pytest.mark.parametrize(("state", "what"), list(TABLE), ids=lambda part: getattr(part, "value", part))
def test_what_each_state_makes_of_each_request(state: State, what: str) -> None:
    life, expected = in_state(state), TABLE[state, what]
    assert life.state is state
    if isinstance(expected, State):
        act(life, what)
        assert life.state is expected
    else:
        with pytest.raises(expected) as caught:
            act(life, what)
        assert caught.value.task == "t"  # type: ignore[attr-defined]
        assert life.state is state


@pytest.mark.parametrize("state", State)
def test_what_does_not_concern_a_state_leaves_it_alone(state: State) -> None:
    life = in_state(state)
    for what in ("ready", "exit", "timer", "wake"):
        if (state, what) not in TABLE:
            assert act(life, what) == []
            assert life.state is state


def test_every_state_can_be_left_and_has_a_sentence() -> None:
    assert set(_LEGAL) == set(State)
    assert all(_LEGAL.values())


def test_an_illegal_move_raises_with_its_history() -> None:
    life = running()
    life.state = State.STOPPED
    with pytest.raises(RelieveError, match=r"illegal move of task 't': new->starting, starting->ready, stopped->ready"):
        life._move(State.READY)


# -- single decisions ------------------------------------------------------------------------------


def test_a_start_launches_and_has_a_deadline() -> None:
    life = life_of()
    instructions = life.start(10.0)
    assert of_type(instructions, Launch) == [Launch(1)]
    assert of_type(instructions, Arm) == [Arm("start", 10.0 + START_TIMEOUT, 1)]
    assert of_type(life_of(start_timeout=None).start(10.0), Arm) == []


def test_a_stop_asks_and_then_kills() -> None:
    life = running()
    instructions = life.stop(10.0)
    assert of_type(instructions, AskStop) == [AskStop()]
    assert Arm("grace", 10.0 + KILL_TIMEOUT, 1) in instructions
    climbs(life, "grace", 15.0, signal.SIGTERM, signal.SIGKILL)
    after = life.exited(1, None, signal.SIGKILL, 15.1)
    assert life.exit is not None
    assert (life.exit.signal, life.exit.forced, life.exit.uptime) == ("SIGKILL", True, 15.1)
    assert Settle("stop") in after


def test_a_stop_has_its_own_patience_if_told_so() -> None:
    assert Arm("grace", 10.5, 1) in running().stop(10.0, timeout=0.5)


@pytest.mark.rule(7)
def test_a_grace_timer_does_nothing_to_the_next_child() -> None:
    life = running()
    life.restart(1.0)
    life.exited(1, 0, None, 2.0)
    life.launched(2, 101, 2.0)
    life.ready(2, (), 2.0)
    life.stop(3.0)
    assert life.timer("grace", 1, 6.0) == []
    climbs(life, "grace", 8.0, signal.SIGTERM, signal.SIGKILL)


def test_a_restart_timer_of_another_wait_does_nothing() -> None:
    life = in_state(State.WAITING)
    life.stop(2.0)
    life.start(2.0)
    life.ready(2, (), 2.0)
    life.exited(2, 1, None, 3.0)
    assert life.state is State.WAITING
    assert life.timer("restart", 1, 3.0) == []
    assert of_type(life.timer("restart", 2, 6.0), Launch) == [Launch(3)]


@pytest.mark.rule(9)
def test_a_script_that_cannot_start_fails_once_with_its_own_error() -> None:
    life = life_of()
    life.start(0.0)
    error = StartError("its own", task="t")
    assert life.start_failed(1, error, 1.0) == [Arm("start", 1.0 + KILL_TIMEOUT, 1)]
    assert life.start_failed(1, StartError("a second"), 1.0) == []
    climbs(life, "start", 6.0, signal.SIGTERM, signal.SIGKILL)
    happened = life.exited(1, None, signal.SIGKILL, 6.1)
    assert life.state is State.FAILED
    assert of_type(happened, Settle) == [Settle("start", error), Settle("stop")]
    assert of_type(happened, Refuse) == [Refuse(error)]
    assert emitted(happened) == ["exit", "state", "error", "failed"]


def test_a_start_that_never_ends_is_a_start_error_that_names_the_option() -> None:
    life = life_of()
    life.start(0.0)
    climbs(life, "start", 30.0, signal.SIGTERM, signal.SIGKILL)
    (refused,) = of_type(life.exited(1, None, signal.SIGKILL, 30.1), Refuse)
    assert isinstance(refused.error, StartError)
    assert "start_timeout" in str(refused.error)


def test_a_child_that_is_ready_when_its_start_has_failed_is_ended_all_the_same() -> None:
    life = life_of()
    life.start(0.0)
    life.timer("start", 1, 30.0)
    assert life.ready(1, (), 30.1) == []
    life.exited(1, None, signal.SIGKILL, 30.2)
    assert life.state is State.FAILED


def test_a_start_timer_does_nothing_once_ready() -> None:
    assert running().timer("start", 1, 30.0) == []


def test_news_of_an_earlier_child_changes_nothing() -> None:
    life = running()
    life.restart(1.0)
    life.exited(1, 0, None, 1.0)
    assert life.ready(1, ("old",), 2.0) == []
    assert life.launched(1, 100, 2.0) == []
    assert life.exited(1, 0, None, 2.0) == []
    assert life.start_failed(1, StartError("old"), 2.0) == []
    assert life.state is State.STARTING
    assert life.exports != ("old",)


def test_a_restart_keeps_the_place_of_a_pending_one() -> None:
    life = running()
    life.restart(1.0)
    assert life.restart(1.5) == []
    assert life.accepts
    assert of_type(life.exited(1, 0, None, 2.0), Launch) == [Launch(2)]
    assert life.restarts == 1


def test_a_stop_overrules_a_pending_restart() -> None:
    life = running()
    life.restart(1.0)
    (refused,) = of_type(life.stop(1.5), Refuse)
    assert isinstance(refused.error, Stopped)
    assert of_type(life.exited(1, 0, None, 2.0), Launch) == []
    assert life.state is State.STOPPED


def test_a_restart_during_the_wait_is_the_same_restart_sooner() -> None:
    life = in_state(State.WAITING)
    assert life.restarts == 1
    assert of_type(life.restart(1.5), Launch) == [Launch(2)]
    assert life.restarts == 1


def test_a_kill_by_another_signal_is_followed_by_sigkill() -> None:
    life = running()
    instructions = life.kill(1.0, signal.SIGTERM)
    assert of_type(instructions, Kill) == [Kill(1, signal.SIGTERM)]
    assert Arm("grace", 1.0 + KILL_TIMEOUT, 1) in instructions
    assert of_type(running().kill(1.0, signal.SIGKILL), Arm) == []


def test_a_kill_while_stopping_overrules_the_patience() -> None:
    life = in_state(State.STOPPING)
    assert of_type(life.kill(2.0, signal.SIGKILL), Kill) == [Kill(1, signal.SIGKILL)]


def test_a_replaced_child_is_followed_by_another() -> None:
    life = running()
    assert life.replace(1.0, "it broke the protocol") == [Kill(1, signal.SIGKILL)]
    happened = life.exited(1, None, signal.SIGKILL, 1.1, blamed=True)
    assert of_type(happened, Launch) == [Launch(2)]
    assert life.exit is not None
    assert (life.exit.forced, life.exit.reason) == (True, "it broke the protocol")
    assert of_type(happened, Judge) == [Judge(life.exit)]


def test_a_stopping_child_that_is_replaced_is_only_killed() -> None:
    life = in_state(State.STOPPING)
    assert life.replace(2.0, "it broke the protocol") == [Kill(1, signal.SIGKILL)]
    assert of_type(life.exited(1, None, signal.SIGKILL, 2.1), Launch) == []


def test_a_child_that_reacts_to_sigterm_is_sent_no_sigkill() -> None:
    life = running()
    life.force(1.0, "it did not answer an interrupt in time")
    assert of_type(life.timer("ladder", 1, 1.1), Kill) == [Kill(1, signal.SIGTERM)]
    happened = life.exited(1, None, signal.SIGTERM, 1.2)
    assert Disarm("ladder") in happened
    assert life.timer("ladder", 1, 1.5) == []
    assert life.exit is not None
    assert (life.exit.signal, life.exit.reason) == ("SIGTERM", "it did not answer an interrupt in time")


def test_a_child_is_forced_only_once() -> None:
    life = running()
    assert of_type(life.force(1.0, "one"), DumpStacks) == [DumpStacks(1)]
    assert life.force(1.01, "two") == []
    life.exited(1, None, signal.SIGTERM, 1.2)
    assert life.exit is not None
    assert life.exit.reason == "one"


# -- recycling and rest ----------------------------------------------------------------------------


def test_a_recycled_child_is_asked_to_leave_and_followed_by_another() -> None:
    life = running()
    happened = life.recycle(5.0, "calls")
    assert emitted(happened) == ["recycle", "state"]
    assert of_type(happened, AskStop) == [AskStop()]
    assert life.accepts
    assert of_type(life.exited(1, 0, None, 5.5), Launch) == [Launch(2)]


def test_recycling_never_counts_towards_the_budget() -> None:
    life = running(RestartPolicy(max_restarts=0))
    for generation in range(1, 20):
        life.recycle(float(generation), "calls")
        happened = life.exited(generation, None, signal.SIGKILL, float(generation))
        assert of_type(happened, Launch) == [Launch(generation + 1)]
        life.launched(generation + 1, 100, float(generation))
        life.ready(generation + 1, (), float(generation))


@pytest.mark.parametrize(("allowed", "said"), [(0, "died once within"), (1, "died 2 times within")])
def test_a_spent_budget_says_how_often_the_child_died(allowed: int, said: str) -> None:
    life = running(RestartPolicy(max_restarts=allowed, delay=0.0))
    life.exited(1, 1, None, 5.0)
    if allowed:
        life.launched(2, 100, 5.0)
        life.ready(2, (), 5.0)
        life.exited(2, 1, None, 6.0)
    assert life.state is State.FAILED
    assert said in str(life.refusal())


@pytest.mark.rule(3)
@pytest.mark.parametrize("what", ["recycle", "rest"])
def test_a_stop_overrules_recycling_and_rest(what: str) -> None:
    life = running()
    getattr(life, what)(1.0, "calls" if what == "recycle" else 5.0)
    life.stop(1.1)
    assert not life.accepts
    assert life.wake(1.2) == []
    assert of_type(life.exited(1, 0, None, 1.5), Launch) == []
    assert life.state is State.STOPPED


@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
def test_only_a_ready_child_is_recycled_or_let_go(state: State) -> None:
    life = in_state(state)
    assert life.recycle(2.0, "calls") == life.rest(2.0, 5.0) == []
    assert life.state is state


def test_work_that_comes_while_the_child_goes_to_rest_wakes_the_task() -> None:
    life = running()
    life.rest(1.0, 5.0)
    assert life.wake(1.1) == []
    assert of_type(life.exited(1, 0, None, 1.5), Launch) == [Launch(2)]


# -- heartbeat -------------------------------------------------------------------------------------


def with_heartbeat() -> Lifecycle:
    """Ready at 0, asked every second, replaced after four seconds of silence."""
    life = Lifecycle("t", RestartPolicy(), None, KILL_TIMEOUT, random=lambda: 0.0, heartbeat=4.0)
    life.start(0.0)
    life.launched(1, 100, 0.0)
    assert Arm("heartbeat", 1.0, 1) in life.ready(1, (), 0.0)
    return life


def test_a_silent_child_is_replaced_within_the_heartbeat() -> None:
    life = with_heartbeat()
    for second in (1.0, 2.0, 3.0):
        assert life.beat(1, False, second) == [Ping(), Arm("heartbeat", second + 1, 1)]
    climbs(life, "heartbeat", 4.0, signal.SIGKILL)
    life.exited(1, None, signal.SIGKILL, 4.1)
    assert life.exit is not None
    assert life.exit.reason == "it gave no sign of life for 4 s (heartbeat)"


def test_every_sign_of_life_starts_the_count_anew() -> None:
    life = with_heartbeat()
    for second in range(1, 30):
        assert of_type(life.beat(1, second % 3 == 0, float(second)), Ping) == [Ping()]


def test_a_parent_that_was_held_up_asks_again_before_it_judges() -> None:
    life = with_heartbeat()
    for second in (1.0, 2.0, 3.0):
        life.beat(1, False, second)
    for second in (100.0, 101.0, 102.0):
        assert of_type(life.beat(1, False, second), Ping) == [Ping()]
    climbs(life, "heartbeat", 103.0, signal.SIGKILL)


def test_a_heartbeat_of_an_earlier_child_or_after_a_stop_asks_nobody() -> None:
    life = with_heartbeat()
    assert life.beat(0, False, 1.0) == []
    life.stop(1.0)
    assert life.beat(1, False, 2.0) == []


@pytest.mark.parametrize("mode", ["always", "on-failure", "never"])
@pytest.mark.parametrize(("code", "signum"), [(0, None), (3, None), (None, signal.SIGSEGV), (None, None)])
def test_normal_and_abnormal_exits_in_every_restart_mode(mode: str, code: int | None, signum: int | None) -> None:
    life = running(RestartPolicy(mode=mode))
    happened = life.exited(1, code, signum, 1.0)
    wanted = mode == "always" or (mode == "on-failure" and code != 0)
    assert bool(of_type(happened, Launch)) is wanted
    assert life.state is (State.STARTING if wanted else State.STOPPED)
    if not wanted:
        (refused,) = of_type(happened, Refuse)
        assert type(refused.error) is NotRunning
        assert Settle("stop") in happened


def test_the_budget_is_a_sliding_window() -> None:
    life = running(RestartPolicy(max_restarts=2, within=10.0, delay=0.0))
    now = 0.0
    for step in (1.0, 4.0, 7.0, 4.0):  # never three within ten seconds
        now += step
        life.exited(life.generation, 1, None, now, worked=True)
        assert life.state is State.STARTING
        life.ready(life.generation, (), now)
    now += 1.0
    happened = life.exited(life.generation, 1, None, now, worked=True)
    assert life.state is State.FAILED
    (refused,) = of_type(happened, Refuse)
    assert "max_restarts=2" in str(refused.error)
    assert "exit code 1" in str(refused.error)
    life.start(now)
    assert life.state is State.STARTING  # and with a fresh budget
    life.ready(life.generation, (), now)
    life.exited(life.generation, 1, None, now)
    assert life.state is State.STARTING


@pytest.mark.parametrize("why", ["blamed", "normal"])
def test_deaths_that_a_call_caused_and_normal_exits_do_not_use_the_budget(why: str) -> None:
    life = running(RestartPolicy(max_restarts=0, max_delay=0.0))
    for n in range(50):
        life.exited(life.generation, 1 if why == "blamed" else 0, None, n * 0.1, blamed=why == "blamed")
        life.ready(life.generation, (), n * 0.1)
        assert life.state is State.READY


def delays(life: Lifecycle, **exit: Any) -> list[float]:
    """Die eight times, each right after becoming ready, with ``exit``'s circumstances."""
    found, now = [], 0.0
    for _ in range(8):
        happened = life.exited(life.generation, 1, None, now, **exit)
        (restarting,) = [emit.record for emit in of_type(happened, Emit) if isinstance(emit.record, Restarting)]
        found.append(restarting.delay)
        now += restarting.delay
        if life.state is State.WAITING:
            life.timer("restart", life.generation, now)
        life.ready(life.generation, (), now)
    return found


def test_a_crash_loop_waits_longer_each_time_up_to_the_limit() -> None:
    policy = RestartPolicy(max_restarts=99, delay=1.0, backoff=2.0, max_delay=20.0)
    assert delays(running(policy)) == [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0, 20.0]


def test_without_a_delay_the_first_restart_is_at_once_and_the_others_wait() -> None:
    found = delays(running(RestartPolicy(max_restarts=99, max_delay=0.5)))
    assert found == [0.0, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("circumstance", ["blamed", "worked"])
def test_a_child_that_did_its_work_is_no_crash_loop(circumstance: str) -> None:
    policy = RestartPolicy(max_restarts=99, delay=1.0, max_delay=20.0)
    assert delays(running(policy), **{circumstance: True}) == [1.0] * 8


def test_no_delay_exceeds_the_limit_for_any_reason() -> None:
    policy = RestartPolicy(max_restarts=99, delay=9.0, max_delay=2.0)
    assert max(delays(running(policy), blamed=True)) == 2.0
    assert max(delays(running(policy))) == 2.0


def test_a_healthy_uptime_starts_over() -> None:
    life = running(RestartPolicy(max_restarts=99, delay=1.0))
    life.exited(1, 1, None, 0.0)
    life.timer("restart", 1, 1.0)
    life.ready(2, (), 1.0)
    happened = life.exited(2, 1, None, 1.0 + HEALTHY_UPTIME)
    assert [emit.record.delay for emit in of_type(happened, Emit) if isinstance(emit.record, Restarting)] == [1.0]


def test_a_later_child_that_cannot_start_is_an_error_event_and_tried_again() -> None:
    life = running()
    life.exited(1, 1, None, 1.0, worked=True)
    error = StartError("its own", task="t")
    life.start_failed(2, error, 1.0)
    happened = life.exited(2, 1, None, 1.1)
    failed = [emit.record for emit in of_type(happened, Emit) if isinstance(emit.record, Failed)]
    assert [record.error for record in failed] == [error]
    assert life.state in (State.STARTING, State.WAITING)


@pytest.mark.rule(9)
def test_a_restart_that_was_asked_for_and_cannot_start_fails_at_once() -> None:
    life = running()
    life.restart(1.0)
    life.exited(1, 0, None, 1.0)
    error = StartError("broken now", task="t")
    life.start_failed(2, error, 1.0)
    assert Settle("start", error) in life.exited(2, 1, None, 1.1)
    assert life.state is State.FAILED


def test_a_disowned_slot_says_whose_it_is() -> None:
    life = running()
    life.disown()
    assert life.pid is None
    assert not life.accepts
    assert "belongs to the process that forked this one" in str(life.refusal())


@pytest.mark.parametrize(
    ("state", "kind", "says"),
    [
        (State.NEW, NotRunning, "is not running"),
        (State.STOPPING, Stopped, "is stopping"),
        (State.STOPPED, Stopped, "start() starts it again"),
        (State.FAILED, NotRunning, "has failed: "),
    ],
)
def test_a_refusal_says_why(state: State, kind: type[RelieveError], says: str) -> None:
    refusal = in_state(state).refusal()
    assert type(refusal) is kind
    assert says in str(refusal)
    assert refusal.task == "t"


def test_a_real_time_signal_has_a_name_too() -> None:
    life = running()
    life.exited(1, None, 40, 1.0)
    assert life.exit == Exit(task="t", pid=100, code=None, signal="signal 40", forced=False, uptime=1.0)


def test_a_signal_before_the_first_ready_may_come_from_outside_and_is_followed_by_another_try() -> None:
    life = life_of()
    life.start(0.0)
    for generation in (1, 2):
        happened = life.exited(generation, None, signal.SIGKILL, 1.0)
        assert "restart" in emitted(happened)
        if life.state is State.WAITING:
            life.timer("restart", generation, 2.0)
        assert life.state is State.STARTING
    life.ready(3, (), 3.0)
    assert (life.state, life.restarts) == (State.READY, 2)


def test_a_script_that_a_signal_always_ends_before_the_first_ready_fails_for_good() -> None:
    life = life_of()
    life.start(0.0)
    happened: list[Instruction] = []
    for generation in range(1, KILLED_STARTS + 2):
        happened = life.exited(generation, None, signal.SIGSEGV, 20.0 * generation)
        if life.state is State.WAITING:
            life.timer("restart", generation, 20.0 * generation + 10)
    assert life.state is State.FAILED
    assert isinstance(of_type(happened, Refuse)[0].error, StartError)
    assert "SIGSEGV" in str(of_type(happened, Refuse)[0].error)


@pytest.mark.parametrize("how", ["refused", "too late", "never"])
def test_a_signal_before_the_first_ready_is_final_where_the_cause_is_known_or_no_other_child_is_wanted(
    how: str,
) -> None:
    life = life_of(RestartPolicy(mode="never") if how == "never" else RestartPolicy())
    life.start(0.0)
    if how == "refused":
        life.start_failed(1, StartError("no"), 0.5)
    elif how == "too late":
        life.timer("start", 1, START_TIMEOUT)
    life.exited(1, None, signal.SIGKILL, START_TIMEOUT + 1)
    assert life.state is State.FAILED
