"""The deeds of one task: what ``lifecycle`` decides is done here, under the one lock that its calls and channel share.

The lock is held for decisions and for sends that never block. Whatever runs code of others (settling replies, telling
listeners, resubmitting calls) is collected meanwhile and done after the lock is free.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import weakref
from collections.abc import Callable
from typing import Any

from relieve_py import locks
from relieve_py.birth import Birth
from relieve_py.births import Births
from relieve_py.blackbox import NO_PROGRESS
from relieve_py.calls import Call
from relieve_py.endings import Owner
from relieve_py.errors import NotRunning, ProtocolError, RelieveError, copy_of
from relieve_py.guard import MemoryGuard
from relieve_py.host import Deeds
from relieve_py.inbox import Inbox
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
from relieve_py.interruptions import raised_by_handler
from relieve_py.lifecycle import INTERRUPTED, STACKS_LONGER, Lifecycle, State, signal_name
from relieve_py.limits import NO_LIMITS, Limits
from relieve_py.line import Line
from relieve_py.log import logger
from relieve_py.messages import exports_of, start_error_of
from relieve_py.policies import UNCHANGED
from relieve_py.recipe import Recipe
from relieve_py.records import Records
from relieve_py.reload import Reload
from relieve_py.replies import Reply, fail_after, settle_in_order
from relieve_py.reserve import Reserve
from relieve_py.serializers import Serializer
from relieve_py.strands import Strand, log_later
from relieve_py.supervisor import Supervisor, Timer, stand_aside
from relieve_py.timeouts import check_timeout
from relieve_py.traffic import Traffic
from relieve_py.upkeep import Upkeep
from relieve_py.wire import Frame, Kind

HANGUP_GRACE = 0.25
"""Seconds between the end of a channel and the kill: a child that is ending closes it a moment before it can be
reaped."""


class Slot:
    """One supervised child after another, and the calls on it. Methods may be called from any thread unless they
    say otherwise."""

    def __init__(
        self,
        owner: Owner,
        supervisor: Supervisor,
        life: Lifecycle,
        recipe: Recipe,
        serializer: Serializer,
        strand: Strand,
        startable: bool = True,
        upkeep: Upkeep | None = None,
        limits: Limits = NO_LIMITS,
        spares: int = 0,
    ) -> None:
        self.owner = owner
        self.life = life
        self._limits = limits
        self._supervisor = supervisor
        self._recipe = recipe
        self._serializer = serializer
        self._strand = strand
        self._lock = locks.new()  # owner: whoever decides about this slot; held for no user code
        self._line = Line(self, supervisor, self._lock)
        self.guard: MemoryGuard | None = None
        if limits.rss is not None:
            self.guard = MemoryGuard(self._line, supervisor, limits.rss, self._works, self._too_large)
        self.traffic = Traffic(
            self,
            owner,
            self._line,
            supervisor,
            serializer,
            strand,
            startable,
            upkeep or Upkeep(UNCHANGED),
            recipe.plan.concurrency,
        )
        self._foreign = False  # the child belongs to the process that forked this one
        self._timers: dict[str, Timer] = {}
        self._start_waiters: list[Reply] = []
        self._stop_waiters: list[Reply] = []
        self._telling: Birth | None = None  # the child that was asked for its stacks before it is ended
        self._births = Births(self, self._line, supervisor, recipe, limits)
        self._reload = Reload(self, owner, self._line, supervisor, serializer, recipe)
        self._reserve = Reserve(
            self, supervisor, serializer, recipe, life.policy, spares, (upkeep or Upkeep(UNCHANGED)).policy.max_age
        )
        self._inbox = Inbox(owner, life, self._line, serializer, strand)
        with _all_lock:
            _all.add(self)

    @property
    def supervisor(self) -> Supervisor:
        """What its deeds are done by."""
        return self._supervisor

    @property
    def script(self) -> str:
        """What it runs: a path, the name of a module, or that of an object."""
        return self._recipe.plan.script

    @property
    def birth(self) -> Birth | None:
        """The child that it has, or is about to have."""
        return self._line.birth

    def now(self) -> float:
        """The time that its times go by."""
        return self._supervisor.now()

    # -- asked by the user -------------------------------------------------------------------------

    def start(self) -> Reply:
        """Launch a child; the Reply gives the task. Raises AlreadyRunning or Stopped."""
        return self._ask("start()", self._start_waiters, lambda now: self.life.start(now))

    def restart(self) -> Reply:
        """Replace the child by another; the Reply gives the task. Raises Stopped while it is being stopped."""
        self._reserve.dismiss()
        return self._ask("restart()", self._start_waiters, lambda now: self.life.restart(now))

    def reload(self) -> Reply:
        """Replace the child by another that is ready before the old one is asked to leave; the Reply gives the task.

        Starts a task that is not running. Raises Stopped while it is being stopped.
        """
        if self._foreign or self.life.state is not State.READY:
            return self.restart()
        reply = self._reply("reload()")
        self._reload.ask(reply)
        return reply

    def stop(self, timeout: float | None = None) -> Reply:
        """Let the child finish and leave; the Reply gives the exit record."""
        check_timeout(timeout)
        return self._ask("stop()", self._stop_waiters, lambda now: self.life.stop(now, timeout))

    def kill(self, signum: int) -> Reply:
        """Make the child leave by that signal; the Reply gives the exit record."""
        return self._ask("kill()", self._stop_waiters, lambda now: self.life.kill(now, signum))

    def until_ready(self) -> Reply:
        """A Reply of the task, once the child that runs or is being launched is ready. Raises NotRunning, Stopped."""

        def decide(now: float) -> list[Instruction]:
            if not self.life.accepts:
                raise self.life.refusal()
            return [Settle("start")] if self.life.state is State.READY else self.life.wake(now)

        return self._ask("start()", self._start_waiters, decide)

    def wake(self) -> None:
        """There is work: a task that sleeps, or was never started, has to have a child."""
        if self.life.sleeps:
            self._perform(self.life.wake)

    def until_exit(self) -> Reply:
        """A Reply of the exit record of the last child: when there is none running and none will follow."""

        def decide(now: float) -> list[Instruction]:
            return [Settle("stop")] if self.life.state in (State.STOPPED, State.FAILED) else []

        return self._ask("wait()", self._stop_waiters, decide)

    def rename(self, name: str) -> str:
        """Before the first start."""
        self.life.name = self._recipe.plan.name = name
        return name

    def signal(self, signum: int) -> None:
        """Send the child a signal, as a message. Raises NotRunning, CalledFromHandler."""
        locks.refuse_if_mine(self._lock)
        with self._lock:
            birth = self._line.birth
            if birth is None or birth.process is None:
                raise NotRunning(f"task {self.life.name!r} has no child to signal", task=self.life.name)
            birth.signal(signum)

    def drain(self, timeout: float | None) -> Reply:
        """A Reply of the task, when it has no open calls; of a TimeoutError when it still has some then."""
        self.must_be_mine()
        reply = self._reply("drain()")
        check_timeout(timeout)
        self.traffic.drain(reply)
        fail_after(reply, timeout, f"task {self.life.name!r} still has open calls")  # behind that: it may be 0
        return reply

    def let_go(self) -> None:
        """Nobody has the task any more: stop it, once its open calls have ended. I/O thread."""
        if self._foreign or self.life.state in (State.STOPPED, State.FAILED):
            return
        drained = self.drain(None)
        drained.when_settled(lambda: self._supervisor.post(self._stop_unasked))

    def _stop_unasked(self) -> None:
        self.act(self.life.stop)

    def must_be_mine(self) -> None:
        """Raises NotRunning in a forked copy of the process."""
        if self._foreign:
            raise self.life.refusal()

    def _ask(self, what: str, waiters: list[Reply], decide: Callable[[float], list[Instruction]]) -> Reply:
        self.must_be_mine()
        stand_aside()  # who asked may wait for the answer in any way
        reply = self._reply(what)

        def decided(now: float) -> list[Instruction]:
            instructions = decide(now)
            waiters.append(reply)
            return instructions

        self._perform(decided)
        return reply

    def _perform(self, decide: Callable[[float], list[Instruction]]) -> None:
        """``act``, of which no signal handler sees the middle. Raises CalledFromHandler."""
        locks.refuse_if_mine(self._lock)
        self._supervisor.perform(lambda: self.act(decide))

    # -- instructions ------------------------------------------------------------------------------

    def act(self, decide: Callable[[float], list[Instruction]]) -> None:
        """Decide under the lock, and do what was decided. Raises CalledFromHandler."""
        locks.refuse_if_mine(self._lock)
        after: Deeds = []
        with self._lock:
            self.carry_out(decide(self._supervisor.now()), after)
        self.do(after)

    def do(self, after: Deeds) -> None:
        """Without the lock: the deeds that run code of others; one that fails stops no other. What a signal handler
        raises comes when all are done."""
        interruption: BaseException | None = None
        done = bool(after)
        for place, deed in enumerate(after):
            after[place] = _nothing  # first: no deed is done twice, if somebody else has to go on here
            try:
                deed()
            except BaseException as error:
                if not isinstance(error, Exception) or raised_by_handler(error):
                    interruption = error
                else:
                    logger.exception("relieve_py failed in task %r; please report this", self.life.name)
        if done:
            self._line.nudge()
        if interruption is not None:
            raise interruption

    def carry_out(self, instructions: list[Instruction], after: Deeds) -> None:
        """Under the lock."""
        for instruction in instructions:
            match instruction:
                case Emit(name, record):
                    told = name == "error" and bool(self._start_waiters or self.traffic.table.waiting)
                    self.owner.tell(name, record, told)
                    if name == "state":
                        self._reserve.moved(record.after)
                        if self.traffic.on_room is not None:
                            after.append(self.traffic.on_room)
                case Arm(name, at, generation):
                    self._disarm(name)
                    self._timers[name] = self._supervisor.at(at, self._on_timer, name, generation)
                case Disarm(name):
                    self._disarm(name)
                case Launch() | AskStop() | Kill() | DumpStacks() | Ping():
                    self._touch_child(instruction)
                case Judge(exit):
                    birth = self._line.birth
                    begun = birth.begun if birth is not None else 0
                    progress = birth.cradle.progress(begun) if birth is not None else NO_PROGRESS
                    self.traffic.judge(exit, begun, progress, after)
                case Refuse(error):
                    self._refuse(error, after)
                case Settle(what, failure):
                    self._settle(what, failure, after)

    def _touch_child(self, instruction: Launch | AskStop | Kill | DumpStacks | Ping) -> None:
        match instruction:
            case Launch(generation):
                self._births.order(generation)
            case AskStop():
                self._line.post(Frame(Kind.STOP))
            case Ping():
                self._line.post(Frame(Kind.PING))
            case DumpStacks():
                birth = self._line.birth
                self._telling = birth if birth is not None and birth.ask_for_stacks() else None
                log_later(logging.WARNING, "task %r: %s; its child is ended", self.life.name, self.life.forced)
            case Kill(_, signum):
                log_later(logging.DEBUG, "task %r: %s to its child", self.life.name, signal_name(signum))
                self._births.signal(signum)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _on_timer(self, name: str, generation: int) -> None:
        if name == "heartbeat":
            heard = self._line.take_sign_of_life()
            self.act(lambda now: self.life.beat(generation, heard, now))
        elif not (name == "ladder" and self._still_tells(generation)):
            self.act(lambda now: self.life.timer(name, generation, now))

    def _still_tells(self, generation: int) -> bool:
        """Whether the child that is to be ended gets longer, once, to write down its stacks: it has not even begun."""
        with self._lock:
            telling, self._telling = self._telling, None
            if telling is None or telling is not self._line.birth or telling.has_told_stacks:
                return False
            due = self._supervisor.now() + STACKS_LONGER
            self._timers["ladder"] = self._supervisor.at(due, self._on_timer, "ladder", generation)
            return True

    def _refuse(self, error: RelieveError, after: Deeds) -> None:
        self.traffic.refuse(error, after)
        self._reserve.dismiss()
        starts = [*self._start_waiters, *self._reload.refuse()]
        self._start_waiters.clear()
        for reply in starts:
            failed = functools.partial(reply.fail, copy_of(error))
            after.append(functools.partial(settle_in_order, self._strand, failed, reply.asked_by_listener))
        if self.traffic.on_room is not None:  # no calls are taken any more, also where the state is what it was
            after.append(self.traffic.on_room)
        if self.life.state in (State.STOPPED, State.FAILED):
            after.append(lambda: self.owner.nothing_will_come(error))

    def _settle(self, what: str, error: RelieveError | None, after: Deeds) -> None:
        waiters = self._start_waiters if what == "start" else self._stop_waiters
        replies, waiters[:] = list(waiters), []
        for reply in replies:
            if error is not None:
                after.append(functools.partial(reply.fail, error))
            elif what == "start":
                after.append(functools.partial(reply.settle, self.owner.face))
            else:
                after.append(functools.partial(self._settle_in_order, reply, self.life.exit))

    def _reply(self, what: str) -> Reply:
        reply = Reply(None, self._strand, f"{what} of task {self.life.name!r}")
        reply.asked_by_listener = self._strand.here
        reply.keeps = self.owner.face
        return reply

    def _settle_in_order(self, reply: Reply, value: Any) -> None:
        """Without the lock: after the listeners of what came before have run."""
        settle_in_order(self._strand, lambda: reply.settle(value), reply.asked_by_listener)

    def launch(self, generation: int) -> None:
        """I/O thread: have a child, unless that has been overtaken by events."""
        with self._lock:
            wanted = generation == self.life.generation
            stopped = self.life.state is not State.STARTING
        if not wanted:
            return
        if stopped:  # stop() came first: the launch counts as an exit of nothing
            self.act(lambda now: self.life.exited(generation, None, None, now))
        elif (spare := self._reload.take()) is not None:
            self._reserve.dismiss()
            self._births.adopt(generation, spare)
        elif (spare := self._reserve.take()) is not None:
            self._births.adopt(generation, spare)
        else:
            self._births.make(generation)

    def await_start(self, waiters: list[Reply]) -> None:
        """Under the lock: these are answered when the next child is ready."""
        self._start_waiters += waiters

    # -- the limit of memory -----------------------------------------------------------------------

    def _works(self) -> bool:
        """Under the lock: the child starts, runs its program or a call."""
        return self._recipe.plan.program or self.life.state is State.STARTING or self.traffic.table.running > 0

    def _too_large(self, birth: Birth, size: int) -> None:
        """I/O thread: the child has more memory than it may."""

        def decide(now: float) -> list[Instruction]:
            if birth is not self._line.birth or birth.exceeded is not None:
                return []
            reason = f"it had {size:,} bytes of memory, more than its limit rss={self._limits.rss:,} allows"
            instructions = self.life.force(now, reason, signal.SIGKILL)
            if instructions:  # else it is being ended already
                birth.exceeded = "rss"
            return instructions

        self.act(decide)

    def died(self, birth: Birth, code: int | None, signum: int | None) -> None:
        """What was put off until the reader was done."""
        self._births.died(birth, code, signum)

    # -- what the child says: with the turn to read ------------------------------------------------

    @functools.cached_property
    def _records(self) -> Records:
        return Records(self.life.name)

    def heard(self, birth: Birth, frame: Frame) -> None:
        """A frame of the child. Raises ProtocolError for one that a child must not send."""
        if self.traffic.answered(frame):
            return
        match frame.kind:
            case Kind.EVENT:
                self._inbox.put(birth, frame)
                return
            case Kind.RECORD:
                self._records.put(frame.payload)
                return
            case Kind.READY:
                names = exports_of(frame)
                self.traffic.keeper.fresh()
                self.act(lambda now: self.life.ready(birth.generation, names, now))
            case Kind.FAILED:
                error = start_error_of(self._serializer, frame, self.life.name)
                self.act(lambda now: self.life.start_failed(birth.generation, error, now))
            case Kind.LEAVING:
                if not birth.leaving:
                    birth.leaving = True
                    self._supervisor.at(self._supervisor.now() + self.life.kill_timeout, self._kill_the_silent, birth)
            case Kind.BUSY | Kind.IDLE | Kind.DRAIN | Kind.RETIRE:
                self.traffic.keeper.asked(frame.kind)
            case Kind.PONG:
                return
            case _:
                raise ProtocolError(f"a child must not send a frame of kind {frame.kind}")
        self.traffic.pump()

    def hung_up(self, birth: Birth) -> None:
        """The channel has ended. Most likely the child has, too; if not, it is killed in a moment."""
        self._supervisor.at(self._supervisor.now() + HANGUP_GRACE, self._kill_the_silent, birth)

    def broke_protocol(self, birth: Birth, error: Exception) -> None:
        """What it sent cannot be understood, and what follows neither."""
        # As text: a log handler that keeps the error would keep the stack of whoever read it.
        what = str(error) if isinstance(error, ProtocolError) else f"{type(error).__name__}: {error}"
        log_later(logging.ERROR, "task %r broke the protocol, its child is replaced: %s", self.life.name, what)
        self.act(lambda now: self.life.replace(now, "it broke the protocol"))

    def interrupted(self, reading: bool) -> None:
        """A signal handler has raised in the middle of what a caller did with the calls or the channel."""
        lost = self.traffic.take_at_hand() if reading else None
        with self._lock:  # the next child cannot come as long as this is held: it must not be marked
            self._supervisor.post(self._after_interruption, self.life.generation, lost)  # where nothing interrupts it
            if self.life.state is State.READY:
                self.life.forced = self.life.forced or INTERRUPTED  # from now on it gets no call that dies with it
            self.traffic.table.mend()

    def _after_interruption(self, generation: int, lost: Call | None) -> None:
        """I/O thread."""
        with self._lock:
            self.traffic.table.mend()
        if lost is not None:
            self.traffic.answer_lost(lost)
        if self.life.generation == generation and self.life.state in (State.STARTING, State.READY):
            self.act(lambda now: self.life.replace(now, INTERRUPTED))
            log_later(
                logging.WARNING, "task %r was interrupted by a signal handler; its child is replaced", self.life.name
            )

    def _kill_the_silent(self, birth: Birth) -> None:
        if birth is self._line.birth and not birth.reaped:
            self.act(lambda now: self.life.replace(now, "it closed its channel"))

    # -- the end of the process --------------------------------------------------------------------

    def forget(self) -> None:
        """In a process that was just forked: the child belongs to the original, and nothing here may touch it."""
        self._lock = locks.new()
        self._foreign = True
        self._line.forget(self._lock)
        self._reload.forget()
        self._reserve.forget()
        self.traffic.forget()
        self.life.disown()


_all: weakref.WeakSet[Slot] = weakref.WeakSet()
_all_lock = locks.new()  # owner: whoever adds to or reads _all


def all_slots() -> list[Slot]:
    """Every slot of this process."""
    with _all_lock:
        return list(_all)


def leave_out(supervisor: Supervisor) -> list[Slot]:
    """Its slots, which are none of this process's any more: nothing is done for them, so nobody may wait for them."""
    with _all_lock:
        left = [slot for slot in _all if slot.supervisor is supervisor]
        _all.difference_update(left)
    return left


def _nothing() -> None:
    """In the place of a deed that was begun."""


def _after_fork() -> None:
    global _all_lock
    _all_lock = locks.new()
    for slot in list(_all):
        slot.forget()
    _all.clear()


os.register_at_fork(after_in_child=_after_fork)
