"""Pure decisions about one slot: its states and the legal moves between them.

Nothing here touches a process, a lock or a clock: events and the time come in, instructions come out, and the
slot carries them out.
"""

from __future__ import annotations

import enum
import math
import random
import signal
from collections import deque
from collections.abc import Callable

import attrs

from relieve_py.budget import RestartBudget
from relieve_py.errors import AlreadyRunning, NotRunning, RelieveError, StartError, Stopped
from relieve_py.events import Failed, Idle, Ready, Recycled, Restarting, Started, StateChanged
from relieve_py.exits import NOTHING, Exit, Remains
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
from relieve_py.policies import RestartPolicy

INTERRUPTED = "a signal handler raised in the middle"
"""Why a child was replaced that has done nothing wrong: it does not count as a death."""


class State(enum.Enum):
    """Where a task is."""

    NEW = "new"
    """It was never started."""
    STARTING = "starting"
    """A child is being launched, or runs its ``start()``."""
    READY = "ready"
    """The child serves calls, or runs its program."""
    STOPPING = "stopping"
    """The child was asked to leave, or told to; it has not been reaped."""
    WAITING = "waiting"
    """The child is gone, and the next will be launched when the restart delay is over."""
    ASLEEP = "asleep"
    """The child was idle and was let go; the next call starts another."""
    STOPPED = "stopped"
    """The child is gone, and no other will follow by itself. ``start()`` starts again."""
    FAILED = "failed"
    """The child could not start, or the restart budget is spent. ``start()`` tries again."""


_LEGAL: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.STARTING, State.STOPPED}),
    State.STARTING: frozenset({State.READY, State.STOPPING, State.WAITING, State.STOPPED, State.FAILED}),
    State.READY: frozenset({State.STARTING, State.STOPPING, State.WAITING, State.STOPPED, State.FAILED}),
    State.STOPPING: frozenset({State.STARTING, State.ASLEEP, State.STOPPED}),
    State.WAITING: frozenset({State.STARTING, State.STOPPED}),
    State.ASLEEP: frozenset({State.STARTING, State.STOPPED}),
    State.STOPPED: frozenset({State.STARTING}),
    State.FAILED: frozenset({State.STARTING, State.STOPPED}),
}

STACKS_GRACE = 0.05
"""Seconds a child gets to write down its stacks before it is ended. Less: a loaded machine may not manage; more: every
forced end takes longer."""
STACKS_LONGER = 0.2
"""Seconds that it gets, beside those, when it has not even begun by then. Less: a loaded machine may not manage; more:
the forced end of a child that is stopped takes longer."""
TERM_GRACE = 0.25
"""Seconds between SIGTERM and SIGKILL. Less: its own handlers of SIGTERM get no time; more: every forced end of a child
that ignores SIGTERM takes longer."""
BEATS = 4
"""Questions after a child's health within one ``heartbeat``; one that leaves three of them open is replaced."""


class Lifecycle:
    """The state machine of one slot. Each method takes the time and returns what has to be done."""

    def __init__(
        self,
        name: str,
        policy: RestartPolicy,
        start_timeout: float | None,
        kill_timeout: float,
        random: Callable[[], float] = random.random,
        heartbeat: float | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self._budget = RestartBudget(policy)
        self.start_timeout = start_timeout
        self.kill_timeout = kill_timeout
        self.heartbeat = heartbeat
        self.state = State.NEW
        self.generation = 0
        self.restarts = 0
        self.stops = 0  # how often somebody asked for the end
        self.pid: int | None = None
        self.exports: tuple[str, ...] = ()
        self.exit: Exit | None = None
        self.launched_at = 0.0
        self.was_ready = False  # in this life of the slot: start() has succeeded
        self._random = random
        self._next = State.STOPPED  # what STOPPING leads to
        self._refused: RelieveError | None = None  # why the last child was the last
        self._patience = 0.0  # until when a child that was asked to leave may take
        self._retired = False  # the child asked for its end
        self._disowned = False  # this is a forked copy, and what runs belongs to the original
        self._asked = False  # the user asked for this start, and is told at once when the script refuses it
        self.forced: str | None = None  # why this library ends the child
        self._rungs: list[signal.Signals] = []  # what is still to be sent to make it go
        self._beat_at = 0.0
        self._unanswered_since: float | None = None
        self._start_error: StartError | None = None
        self._history: deque[str] = deque(maxlen=20)

    @property
    def running(self) -> bool:
        """True while there is, or soon will be, a child that takes calls."""
        return self.state in (State.STARTING, State.READY, State.WAITING)

    @property
    def accepts(self) -> bool:
        """True while calls may wait here: there is a child, or another will come."""
        if self.state is State.STOPPING:
            return self._next is not State.STOPPED
        return self.running or self.state is State.ASLEEP

    def refusal(self) -> NotRunning:
        """Why a call is not accepted."""
        match self.state:
            case _ if self._disowned:
                return NotRunning(str(self._refused), task=self.name)
            case State.STOPPING:
                return Stopped(f"task {self.name!r} is stopping", task=self.name)
            case State.FAILED:
                return NotRunning(f"task {self.name!r} has failed: {self._refused}", task=self.name)
        if isinstance(self._refused, NotRunning):
            return type(self._refused)(f"{self._refused}; start() starts it again", task=self.name)
        return NotRunning(f"task {self.name!r} is not running", task=self.name)

    # -- what the user asks ------------------------------------------------------------------------

    def start(self, now: float) -> list[Instruction]:
        """Raises AlreadyRunning, or Stopped while the last child is still leaving."""
        if self.running:
            raise AlreadyRunning(f"task {self.name!r} is {self.state.value} already", task=self.name)
        if self.state is State.STOPPING:
            raise Stopped(f"task {self.name!r} is stopping: wait for stop() before start()", task=self.name)
        self._budget.start_anew()
        self.was_ready = False
        self._asked = True
        return self._launch(now)

    def stop(self, now: float, timeout: float | None = None) -> list[Instruction]:
        """Finish and leave; killed after ``timeout`` seconds (``kill_timeout`` if None), of several stops the first."""
        self.stops += 1
        grace = self.kill_timeout if timeout is None else timeout
        match self.state:
            case State.NEW | State.WAITING | State.ASLEEP | State.FAILED:
                return [*self._move(State.STOPPED), Disarm("restart"), Refuse(self._stopped()), Settle("stop")]
            case State.STOPPED:
                return [Settle("stop")]
            case State.STOPPING:
                self._next = State.STOPPED
                sooner = now + grace < self._patience
                return [Refuse(self._stopped()), *(self._wait_until(now + grace) if sooner else [])]
        return [*self._leave_for(State.STOPPED), Refuse(self._stopped()), *self._ask_stop(now + grace)]

    def kill(self, now: float, signum: int) -> list[Instruction]:
        """Leave now, by that signal; followed by SIGKILL after ``kill_timeout``."""
        if self.state not in (State.STARTING, State.READY, State.STOPPING):
            return self.stop(now)
        self.stops += 1
        ending: list[Instruction] = [Kill(self.generation, signum)]
        if signum != signal.SIGKILL:
            ending += self._wait_until(now + self.kill_timeout)
        return [*self._leave_for(State.STOPPED), Refuse(self._stopped()), *ending]

    def restart(self, now: float) -> list[Instruction]:
        """Stop, then start again; starts a task that is not running. Raises Stopped while it is being stopped."""
        match self.state:
            case State.NEW | State.STOPPED | State.FAILED:
                return self.start(now)
            case State.WAITING:
                self._asked = True
                return [Disarm("restart"), *self._launch(now)]
            case State.ASLEEP:
                self._asked = True
                return self._relaunch(now, 0.0)
            case State.STOPPING if self._next is State.STOPPED:
                raise Stopped(f"task {self.name!r} is stopping and cannot be restarted", task=self.name)
            case State.STOPPING:
                self._next = State.STARTING
                return []
        self._asked = True
        return [*self._leave_for(State.STARTING), *self._ask_stop(now + self.kill_timeout)]

    # -- what the house decides --------------------------------------------------------------------

    def recycle(self, now: float, reason: str) -> list[Instruction]:
        """Replace a child that runs no call by a fresh one; ``reason`` is told to listeners."""
        if self.state is not State.READY:
            return []
        record = Recycled(task=self.name, pid=self.pid, reason=reason, uptime=now - self.launched_at)
        told = Emit("recycle", record)
        return [told, *self._leave_for(State.STARTING), *self._ask_stop(now + self.kill_timeout)]

    def retire(self, now: float) -> list[Instruction]:
        """Stop the task of a child that runs no call and wants to leave for good."""
        if self.state is not State.READY:
            return []
        self._retired = True
        return self.stop(now)

    def rest(self, now: float, idle: float) -> list[Instruction]:
        """Let a child go that has been idle for so many seconds; the next call starts another."""
        if self.state is not State.READY:
            return []
        told = Emit("idle", Idle(task=self.name, pid=self.pid, seconds=idle))
        return [told, *self._leave_for(State.ASLEEP), *self._ask_stop(now + self.kill_timeout)]

    @property
    def sleeps(self) -> bool:
        """Whether ``wake`` may change anything."""
        return self.state in (State.NEW, State.ASLEEP, State.STOPPING)

    def wake(self, now: float) -> list[Instruction]:
        """There is work: a task that sleeps, or is about to, or was never started, has to have a child."""
        if self.state is State.NEW:
            return self.start(now)
        if self.state is State.ASLEEP:
            return self._relaunch(now, 0.0)
        if self.state is State.STOPPING and self._next is State.ASLEEP:
            self._next = State.STARTING
        return []

    def replace(self, now: float, reason: str) -> list[Instruction]:
        """Kill the child at once, and restart as the policy says: it broke the protocol, or its channel has ended."""
        if self.state not in (State.STARTING, State.READY, State.STOPPING):
            return []
        self.forced = self.forced or reason
        return [Kill(self.generation, signal.SIGKILL)]

    def force(self, now: float, reason: str, *rungs: signal.Signals) -> list[Instruction]:
        """End a child that does not react: it writes down its stacks, then gets those signals (SIGTERM and SIGKILL),
        each a moment after the other."""
        if self.state not in (State.STARTING, State.READY, State.STOPPING) or self._rungs:
            return []
        self.forced = self.forced or reason
        self._rungs = list(rungs or (signal.SIGTERM, signal.SIGKILL))
        return [DumpStacks(self.generation), Arm("ladder", now + STACKS_GRACE, self.generation)]

    def beat(self, generation: int, heard: bool, now: float) -> list[Instruction]:
        """The heartbeat's timer is due; ``heard`` tells whether anything came from the child, or was taken by it, since
        it was last due."""
        if generation != self.generation or self.state is not State.READY or self.heartbeat is None:
            return []
        period = self.heartbeat / BEATS
        overslept = now - self._beat_at > period / 2  # this process was held up, and the child maybe with it
        if heard or overslept or self._unanswered_since is None:
            self._unanswered_since = now
        elif now - self._unanswered_since >= (BEATS - 1.5) * period:
            return self.force(now, f"it gave no sign of life for {self.heartbeat:g} s (heartbeat)", signal.SIGKILL)
        self._beat_at = now + period
        return [Ping(), Arm("heartbeat", self._beat_at, generation)]

    def _leave_for(self, next: State) -> list[Instruction]:
        """The child has to go; what follows it is said."""
        self._next = next
        moved = self._move(State.STOPPING) if self.state is not State.STOPPING else []
        return [*moved, Disarm("start"), Disarm("heartbeat")]

    def _ask_stop(self, due: float) -> list[Instruction]:
        return [AskStop(), *self._wait_until(due)]

    def _wait_until(self, due: float) -> list[Instruction]:
        """For so long the child may take to leave; infinite: as long as it likes."""
        self._patience = due
        return [Arm("grace", due, self.generation)] if due < math.inf else []

    def disown(self) -> None:
        """In a process that was just forked: whatever runs belongs to the original."""
        self.state = State.STOPPED
        self._disowned = True
        self.pid = None
        self._refused = NotRunning(f"task {self.name!r} belongs to the process that forked this one", task=self.name)

    # -- what happens ------------------------------------------------------------------------------

    def launched(self, generation: int, pid: int, now: float) -> list[Instruction]:
        """A child came to be."""
        if generation != self.generation:
            return []
        self.pid = pid
        return [Emit("start", Started(task=self.name, pid=pid, restarts=self.restarts))]

    def ready(self, generation: int, exports: tuple[str, ...], now: float) -> list[Instruction]:
        """The child says that it is ready; too late, if it is being ended because it was not."""
        if generation != self.generation or self.state is not State.STARTING or self._start_error is not None:
            return []
        self.exports = exports
        self.was_ready, self._asked = True, False
        record = Ready(task=self.name, pid=self.pid or 0, exports=exports, took=now - self.launched_at)
        first_beat: list[Instruction] = []
        if self.heartbeat is not None:
            self._unanswered_since = None
            self._beat_at = now + self.heartbeat / BEATS
            first_beat = [Arm("heartbeat", self._beat_at, generation)]
        return [*self._move(State.READY), Disarm("start"), *first_beat, Emit("ready", record), Settle("start")]

    def start_failed(self, generation: int, error: StartError, now: float) -> list[Instruction]:
        """The child says why it cannot become ready; its exit follows, within ``kill_timeout``."""
        if generation != self.generation or self._start_error is not None:
            return []
        self._start_error = error
        return [Arm("start", now + self.kill_timeout, generation)] if self.state is State.STARTING else []

    def explain(self, why: str) -> None:
        """A note for the error of a child that could not become ready."""
        if self._start_error is not None:
            self._start_error.add_note(why)

    def timer(self, name: str, generation: int, now: float) -> list[Instruction]:
        """A timer is due. A grace timer belongs to one child: it does nothing once that is gone."""
        if generation != self.generation:
            return []
        if name == "restart":
            return self._launch(now) if self.state is State.WAITING else []
        if name == "start" and self.state is State.STARTING:
            self._start_error = self._start_error or StartError(
                f"task {self.name!r} was not ready after {self.start_timeout} seconds (start_timeout)", task=self.name
            )
            return self.force(now, "it was not ready in time")
        if name == "grace" and self.state is State.STOPPING:
            return self.force(now, "it did not leave in time")
        if name == "ladder" and self._rungs:
            sent = Kill(generation, self._rungs.pop(0))
            return [sent, Arm("ladder", now + TERM_GRACE, generation)] if self._rungs else [sent]
        return []

    def exited(
        self,
        generation: int,
        code: int | None,
        signum: int | None,
        now: float,
        *,
        blamed: bool = False,
        worked: bool = False,
        remains: Remains = NOTHING,
    ) -> list[Instruction]:
        """The child was reaped, or never came to be.

        ``blamed`` says that a call was running, which then is what died; ``worked`` that it had finished one before.
        """
        if generation != self.generation or self.state not in (State.STARTING, State.READY, State.STOPPING):
            return []
        self.exit = Exit(
            task=self.name,
            pid=self.pid,
            code=code,
            signal=signal_name(signum),
            forced=self.forced is not None and signum is not None,
            reason=self.forced if signum is not None else None,
            uptime=max(0.0, now - self.launched_at),
            **attrs.asdict(remains, recurse=False),
        )
        self.pid = None
        over = [Disarm(name) for name in ("start", "grace", "ladder", "heartbeat")]
        happened: list[Instruction] = [*over, Emit("exit", self.exit), Judge(self.exit)]
        if self.state is State.STOPPING:
            return happened + self._after_stop(now)
        refused = self._asked and self._start_error is not None
        if self.state is State.STARTING and (refused or not self.was_ready) and not self._may_try_again(signum):
            return happened + self._give_up(self._why_not_started())
        if self.state is State.STARTING and self._start_error is not None:
            happened.append(Emit("error", Failed(task=self.name, method=None, error=self._start_error)))
        if not self.policy.wants(self.exit):
            ended = NotRunning(f"task {self.name!r} has ended: {self.exit.describe()}", task=self.name)
            self._refused = ended
            return [*happened, *self._move(State.STOPPED), Refuse(ended), Settle("stop")]
        return happened + self._restart_or_give_up(now, blamed, worked)

    # -- how it goes on ----------------------------------------------------------------------------

    def _after_stop(self, now: float) -> list[Instruction]:
        if self._next is State.STARTING:
            return self._relaunch(now, 0.0)
        if self._next is State.ASLEEP:
            return self._move(State.ASLEEP)
        return [*self._move(State.STOPPED), Refuse(self._stopped()), Settle("stop")]

    def _may_try_again(self, signum: int | None) -> bool:
        """True when a signal ended the child before the first was ready: its own script's, or one from outside, which
        the next need not get."""
        assert self.exit is not None
        hopeless = self._start_error is not None or self.exit.limit is not None
        if hopeless or signum is None or not self.policy.wants(self.exit):
            return False
        return self._budget.may_start_again()

    def _restart_or_give_up(self, now: float, blamed: bool, worked: bool) -> list[Instruction]:
        assert self.exit is not None
        self._budget.count(self.exit, now, blamed or self.exit.reason == INTERRUPTED, worked)
        if (spent := self._budget.spent()) is not None:
            what = f"task {self.name!r} {spent}; the last time: {self.exit.describe()}"
            return self._give_up(_with_notes(StartError(what, task=self.name), self.exit))
        return self._relaunch(now, self._budget.delay(blamed, self._random()))

    def _relaunch(self, now: float, delay: float) -> list[Instruction]:
        self.restarts += 1
        told = Emit("restart", Restarting(task=self.name, restarts=self.restarts, delay=delay))
        if delay <= 0:
            return [told, *self._launch(now)]
        waiting = self._move(State.WAITING) if self.state is not State.WAITING else []
        return [*waiting, told, Arm("restart", now + delay, self.generation)]

    def _launch(self, now: float) -> list[Instruction]:
        self.generation += 1
        self.pid = None
        self.launched_at = now
        self.forced = None
        self._retired = False
        self._rungs = []
        self._start_error = None
        moved = self._move(State.STARTING) if self.state is not State.STARTING else []
        instructions = [*moved, Launch(self.generation)]
        if self.start_timeout is not None:
            instructions.append(Arm("start", now + self.start_timeout, self.generation))
        return instructions

    def _give_up(self, error: StartError) -> list[Instruction]:
        self._refused = error
        told = Emit("error", Failed(task=self.name, method=None, error=error))
        return [
            *self._move(State.FAILED),
            told,
            Emit("failed", self.exit),
            Refuse(error),
            Settle("start", error),
            Settle("stop"),
        ]

    def _why_not_started(self) -> StartError:
        assert self.exit is not None
        if self._start_error is not None:
            return _with_notes(self._start_error, self.exit) if self.exit.forced else self._start_error
        error = StartError(f"task {self.name!r} ended before it was ready: {self.exit.describe()}", task=self.name)
        return _with_notes(error, self.exit)

    def _stopped(self) -> Stopped:
        how = "was stopped: its child asked for that, by ipc.end()" if self._retired else "was stopped"
        self._refused = Stopped(f"task {self.name!r} {how}", task=self.name)
        return self._refused

    def _move(self, after: State) -> list[Instruction]:
        before = self.state
        self._history.append(f"{before.value}->{after.value}")
        if after not in _LEGAL[before]:
            raise RelieveError(f"illegal move of task {self.name!r}: {', '.join(self._history)}")
        self.state = after
        return [Emit("state", StateChanged(task=self.name, before=before, after=after))]


def _with_notes(error: StartError, exit: Exit) -> StartError:
    for note in exit.notes():
        error.add_note(note)
    return error


def signal_name(signum: int | None) -> str | None:
    """What users know that signal by."""
    if signum is None:
        return None
    try:
        return signal.Signals(signum).name
    except ValueError:  # a real-time signal has no name
        return f"signal {signum}"
