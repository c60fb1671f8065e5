"""The deeds of one task: what ``lifecycle`` decides is done here, under the one lock that its calls and channel share.

The lock is held for decisions and for sends that never block. Whatever runs code of others (settling replies, telling
listeners, resubmitting calls) is collected meanwhile and done after the lock is free.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

from relieve_py.answers import rebuilt
from relieve_py.birth import Birth, Cradle
from relieve_py.child.boot import Plan, boot_frame
from relieve_py.endings import Owner
from relieve_py.errors import EncodeError, NotRunning, ProtocolError, RelieveError, StartError, copy_of
from relieve_py.events import Strand, log_later
from relieve_py.guard import MemoryGuard
from relieve_py.launchers.base import Launcher
from relieve_py.lifecycle import (
    Arm,
    AskStop,
    Disarm,
    DumpStacks,
    Emit,
    Instruction,
    Judge,
    Kill,
    Launch,
    Lifecycle,
    Ping,
    Refuse,
    Settle,
    State,
    signal_name,
)
from relieve_py.limits import NO_LIMITS, Limits
from relieve_py.line import Line
from relieve_py.messages import exports_of, start_error_of
from relieve_py.policies import UNCHANGED, RecyclePolicy
from relieve_py.replies import Reply, fail_after, settle_in_order
from relieve_py.serializers import Payload, Serializer, encode, first_line
from relieve_py.spare import Spare
from relieve_py.supervisor import Supervisor, Timer, stand_aside
from relieve_py.telling import error_payload
from relieve_py.traffic import Deeds, Traffic
from relieve_py.wire import Frame, Kind

logger = logging.getLogger("relieve_py")

HANGUP_GRACE = 0.25
"""Seconds between the end of a channel and the kill: a child that is ending closes it a moment before it can be
reaped."""
UNBORN_GRACE = 0.5
"""Seconds between the kill of a child that does not exist yet and the end of its launch, which may be under way in a
server that is busy, or frozen. Less: a child may run for a moment after its kill was reported; more: start_timeout is
exceeded by so much."""
LAUNCH_TRIES = 3
"""How often a launch is tried again when the server process died over it."""


class Slot:
    """One supervised child after another, and the calls on it. Methods may be called from any thread unless they
    say otherwise."""

    def __init__(
        self,
        owner: Owner,
        supervisor: Supervisor,
        launcher: Launcher,
        life: Lifecycle,
        plan: Plan,
        objects: Callable[[], Payload],
        env: dict[str, str],
        serializer: Serializer,
        strand: Strand,
        startable: bool = True,
        recycle: RecyclePolicy = UNCHANGED,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.owner = owner
        self.life = life
        self._limits = limits
        self._supervisor = supervisor
        self._launcher = launcher
        self._plan = plan
        self._objects = objects
        self._env = env
        self._serializer = serializer
        self._strand = strand
        self._lock = threading.Lock()  # owner: whoever decides about this slot; held for no user code
        self._line = Line(self, supervisor, self._lock)
        self.guard: MemoryGuard | None = None
        if limits.rss is not None:
            self.guard = MemoryGuard(self._line, supervisor, limits.rss, self._works, self._too_large)
        self.traffic = Traffic(self, owner, self._line, supervisor, serializer, strand, startable, recycle)
        self._foreign = False  # the child belongs to the process that forked this one
        self._tries = 0
        self._pending_signal: int | None = None
        self._timers: dict[str, Timer] = {}
        self._start_waiters: list[Reply] = []
        self._stop_waiters: list[Reply] = []
        self._spare: Spare | None = None  # set and taken on the I/O thread
        self._reload_waiters: list[Reply] = []  # of those who wait for the spare; under the lock
        self._reload_from = 0  # the generation that the spare is to follow
        with _all_lock:
            _all.add(self)

    @property
    def supervisor(self) -> Supervisor:
        """What its deeds are done by."""
        return self._supervisor

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
        return self._ask("restart()", self._start_waiters, lambda now: self.life.restart(now))

    def reload(self) -> Reply:
        """Replace the child by another that is ready before the old one is asked to leave; the Reply gives the task.

        Starts a task that is not running. Raises Stopped while it is being stopped.
        """
        if self._foreign or self.life.state is not State.READY:
            return self.restart()
        reply = self._reply("reload()")
        with self._lock:
            self._reload_waiters.append(reply)
        self._supervisor.post(self._prepare_spare)
        return reply

    def stop(self, timeout: float | None = None) -> Reply:
        """Let the child finish and leave; the Reply gives the exit record."""
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
        """There is work: a task that sleeps has to have a child."""
        self.act(self.life.wake)

    def until_exit(self) -> Reply:
        """A Reply of the exit record of the last child: when there is none running and none will follow."""
        settled = self.life.state in (State.STOPPED, State.FAILED)
        return self._ask("wait()", self._stop_waiters, lambda now: [Settle("stop")] if settled else [])

    def rename(self, name: str) -> str:
        """Before the first start."""
        self.life.name = self._plan.name = name
        return name

    def signal(self, signum: int) -> None:
        """Send the child a signal, as a message. Raises NotRunning."""
        with self._lock:
            birth = self._line.birth
            if birth is None or birth.process is None:
                raise NotRunning(f"task {self.life.name!r} has no child to signal", task=self.life.name)
            birth.signal(signum)

    def drain(self, timeout: float | None) -> Reply:
        """A Reply of the task, when it has no open calls; of a TimeoutError when it still has some then."""
        self.must_be_mine()
        reply = self._reply("drain()")
        fail_after(reply, timeout, f"task {self.life.name!r} still has open calls")
        self.traffic.drain(reply)
        return reply

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

        self.act(decided)
        return reply

    # -- instructions ------------------------------------------------------------------------------

    def act(self, decide: Callable[[float], list[Instruction]]) -> None:
        """Decide under the lock, and do what was decided."""
        after: Deeds = []
        with self._lock:
            self.carry_out(decide(self._supervisor.now()), after)
        self.do(after)

    def do(self, after: Deeds) -> None:
        """Without the lock: the deeds that run code of others; one that fails stops no other."""
        for deed in after:
            try:
                deed()
            except Exception:
                logger.exception("relieve_py failed in task %r; please report this", self.life.name)
        if after:
            self._line.nudge()

    def carry_out(self, instructions: list[Instruction], after: Deeds) -> None:
        """Under the lock."""
        for instruction in instructions:
            match instruction:
                case Emit(name, record):
                    told = name == "error" and bool(self._start_waiters or self.traffic.table.waiting)
                    self.owner.tell(name, record, told)
                    if name == "state" and self.traffic.on_room is not None:
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
                    self.traffic.judge(exit, birth.begun if birth is not None else 0, after)
                case Refuse(error):
                    self._refuse(error, after)
                case Settle(what, failure):
                    self._settle(what, failure, after)

    def _touch_child(self, instruction: Launch | AskStop | Kill | DumpStacks | Ping) -> None:
        match instruction:
            case Launch(generation):
                self._tries = 0
                self._pending_signal = None
                self._supervisor.post(self._launch, generation)
            case AskStop():
                self._line.post(Frame(Kind.STOP))
            case Ping():
                self._line.post(Frame(Kind.PING))
            case DumpStacks():
                if self._line.birth is not None:
                    self._line.birth.ask_for_stacks()
                log_later(logging.WARNING, "task %r: %s; its child is ended", self.life.name, self.life.forced)
            case Kill(_, signum):
                log_later(logging.DEBUG, "task %r: %s to its child", self.life.name, signal_name(signum))
                self._signal(signum)

    def _signal(self, signum: int) -> None:
        birth = self._line.birth
        if birth is not None and birth.process is not None:
            birth.signal(signum)
            return
        self._pending_signal = signum  # its launch is under way
        if signum == signal.SIGKILL:
            self._supervisor.at(self._supervisor.now() + UNBORN_GRACE, self._abandon, self.life.generation)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _on_timer(self, name: str, generation: int) -> None:
        if name == "heartbeat":
            heard = self._line.take_sign_of_life()
            self.act(lambda now: self.life.beat(generation, heard, now))
        else:
            self.act(lambda now: self.life.timer(name, generation, now))

    def _refuse(self, error: RelieveError, after: Deeds) -> None:
        self.traffic.refuse(error, after)
        starts = [*self._start_waiters, *self._reload_waiters]
        self._start_waiters[:] = self._reload_waiters[:] = []
        if self._spare is not None:
            self._supervisor.post(self._discard_spare)
        for reply in starts:
            failed = functools.partial(reply.fail, copy_of(error))
            after.append(functools.partial(settle_in_order, self._strand, failed, reply.asked_by_listener))
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
        return reply

    def _settle_in_order(self, reply: Reply, value: Any) -> None:
        """Without the lock: after the listeners of what came before have run."""
        settle_in_order(self._strand, lambda: reply.settle(value), reply.asked_by_listener)

    # -- birth and death: on the I/O thread --------------------------------------------------------

    def _launch(self, generation: int) -> None:
        """Make a child, unless that has been overtaken by events."""
        with self._lock:
            wanted = generation == self.life.generation
            stopped = self.life.state is not State.STARTING
        if not wanted:
            return
        if stopped:  # stop() came first: the launch counts as an exit of nothing
            self.act(lambda now: self.life.exited(generation, None, None, now))
            return
        if self._spare is not None and self._spare.ready:
            self._take_spare(generation, self._spare)
            return
        try:
            objects = self._objects()
            cradle = self._cradle()
        except (OSError, RelieveError) as error:
            self._not_launched(generation, error)
            return
        birth = Birth(self, generation, cradle)
        try:
            self._bring_forth(birth, objects)
        except Exception as error:  # a launcher is a plug-in
            self._line.close(birth)
            self._not_launched(generation, error)

    def _cradle(self) -> Cradle:
        cradle: Cradle = getattr(self._launcher, "cradle", Cradle)(self.life.name, self._env)
        return cradle

    def _bring_forth(self, birth: Birth, objects: Payload) -> None:
        with self._lock:
            self._line.open(birth)
            self._line.post(boot_frame(self._plan, objects))
            if self.life.state is State.STOPPING:  # since the look above
                self._line.post(Frame(Kind.STOP))
        birth.launch(self._launcher)

    def born(self, birth: Birth) -> None:
        """The child exists."""

        def decide(now: float) -> list[Instruction]:
            assert birth.process is not None
            if self._pending_signal is not None:
                birth.signal(self._pending_signal)
            if self.guard is not None:
                self.guard.attend()
            names, birth.ready = birth.ready, None
            launched = self.life.launched(birth.generation, birth.process.pid, now)
            return launched if names is None else [*launched, *self.life.ready(birth.generation, names, now)]

        self.act(decide)
        self.traffic.pump()

    def unborn(self, birth: Birth, error: OSError) -> None:
        """The system would not make it."""
        self._line.close(birth)
        self._not_launched(birth.generation, error)

    def lost(self, birth: Birth) -> None:
        """The server died over the launch: try again on a new channel, a few times."""
        self._line.close(birth)
        self._tries += 1
        if self._tries <= LAUNCH_TRIES:
            self._supervisor.post(self._launch, birth.generation)
        else:
            self._not_launched(birth.generation, OSError("the server process died again and again"))

    def _abandon(self, generation: int) -> None:
        """Whoever makes the child was told that it has to end, and has not even said that it exists."""
        birth = self._line.birth
        if birth is not None and birth.generation == generation and birth.process is None:
            birth.abandon()
            self.died(birth, None, None)

    def _not_launched(self, generation: int, error: BaseException) -> None:
        failure = StartError(f"task {self.life.name!r} could not be launched: {error}", task=self.life.name)
        failure.__cause__ = error

        def decide(now: float) -> list[Instruction]:
            return [*self.life.start_failed(generation, failure, now), *self.life.exited(generation, None, None, now)]

        self.act(decide)

    def died(self, birth: Birth, code: int | None, signum: int | None) -> None:
        """It was reaped. What it had still said is read first, by whoever has the turn to read."""
        if not self._line.read_out(birth, code, signum):
            return
        remains = birth.remains(signum, self._limits)
        with self._lock:
            table = self.traffic.table
            blamed, worked = table.blames(birth.begun), table.finished > 0
        self.act(
            lambda now: self.life.exited(
                birth.generation, code, signum, now, blamed=blamed, worked=worked, remains=remains
            )
        )
        self._line.close(birth)

    # -- the limit of memory -----------------------------------------------------------------------

    def _works(self) -> bool:
        """Under the lock: the child starts, runs its program or a call."""
        return self._plan.program or self.life.state is State.STARTING or self.traffic.table.running > 0

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

    # -- a child that is ready before the last one leaves: on the I/O thread -----------------------

    def _prepare_spare(self) -> None:
        after: Deeds = []
        with self._lock:
            if self.life.state is not State.READY:  # since reload() has looked
                self._reload_by_restart(after)
            wanted = self._reload_waiters and (self._spare is None or self._spare.over)
            if wanted:
                self._reload_from = self.life.generation
        self.do(after)
        if not wanted:
            return
        spare = self._spare = Spare(self._supervisor, self._serializer, self.life.name, self._spare_settled)
        try:
            spare.launch(self._launcher, self._cradle(), self._plan, self._objects(), self.life.start_timeout)
        except Exception as error:  # a launcher is a plug-in
            spare.error = StartError(f"task {self.life.name!r} could not be launched: {error}", task=self.life.name)
            spare.error.__cause__ = error
            spare.discard()
            self._spare_settled(spare)

    def _reload_by_restart(self, after: Deeds) -> None:
        """Under the lock: who waits for a spare gets the child that comes next, if one does."""
        waiters, self._reload_waiters = self._reload_waiters, []
        coming = self.life.state is State.STARTING or not waiters
        try:
            instructions = [] if coming else self.life.restart(self._supervisor.now())
        except RelieveError as error:
            after += [functools.partial(waiter.fail, copy_of(error)) for waiter in waiters]
        else:
            self._start_waiters += waiters
            self.carry_out(instructions, after)

    def _spare_settled(self, spare: Spare) -> None:
        """It is ready, or never will be."""
        if spare is not self._spare:  # it was discarded before
            return
        error, after = spare.error, Deeds()
        with self._lock:
            waiters, self._reload_waiters = self._reload_waiters, []
            followed = self.life.generation != self._reload_from  # the child died: who follows it is new, too
            if error is not None:
                after += [functools.partial(waiter.fail, copy_of(error)) for waiter in waiters]
            elif not self.life.accepts:
                after += [functools.partial(waiter.fail, self.life.refusal()) for waiter in waiters]
            elif followed and self.life.state is State.READY:
                after += [functools.partial(waiter.settle, self.owner.face) for waiter in waiters]
            else:
                self._start_waiters += waiters
                turn = self.life.restart if self.life.state is State.READY else self.life.wake  # it may have gone idle
                self.carry_out(turn(self._supervisor.now()), after)
        if error is not None or followed or not self.life.accepts:
            self._discard_spare()
        self.do(after)

    def _take_spare(self, generation: int, spare: Spare) -> None:
        """It is this slot's child from now on."""
        self._spare, birth, names = None, spare.give(), spare.exports or ()
        birth.move(self, generation)
        with self._lock:
            self._line.open(birth)
            if self.life.state is State.STOPPING:  # since the look of _launch
                self._line.post(Frame(Kind.STOP))
        self.born(birth)
        self.traffic.fresh()
        self.act(lambda now: self.life.ready(generation, names, now))
        for frame in spare.early:
            self.heard(birth, frame)
        self.traffic.pump()

    def _discard_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.discard()

    # -- what the child says: with the turn to read ------------------------------------------------

    def heard(self, birth: Birth, frame: Frame) -> None:
        """A frame of the child. Raises ProtocolError for one that a child must not send."""
        if self.traffic.answered(frame):
            return
        match frame.kind:
            case Kind.EVENT:
                self._strand.submit(self._event, birth, frame.number, Payload.of_frame(frame))
                return
            case Kind.READY:
                names = exports_of(frame)
                self.traffic.fresh()
                self.act(lambda now: self._ready(birth, names, now))
            case Kind.FAILED:
                error = start_error_of(self._serializer, frame, self.life.name)
                self.act(lambda now: self.life.start_failed(birth.generation, error, now))
            case Kind.LEAVING:
                if not birth.leaving:
                    birth.leaving = True
                    self._supervisor.at(self._supervisor.now() + self.life.kill_timeout, self._kill_the_silent, birth)
            case Kind.BUSY | Kind.IDLE:
                self.traffic.busy = frame.kind == Kind.BUSY
            case Kind.PONG:
                return
            case _:
                raise ProtocolError(f"a child must not send a frame of kind {frame.kind}")
        self.traffic.pump()

    def _ready(self, birth: Birth, names: tuple[str, ...], now: float) -> list[Instruction]:
        """Under the lock. The launcher's news comes another way, and may be later than the child's own."""
        if self.life.pid is None:
            birth.ready = names
            return []
        return self.life.ready(birth.generation, names, now)

    def hung_up(self, birth: Birth) -> None:
        """The channel has ended. Most likely the child has, too; if not, it is killed in a moment."""
        self._supervisor.at(self._supervisor.now() + HANGUP_GRACE, self._kill_the_silent, birth)

    def broke_protocol(self, birth: Birth, error: Exception) -> None:
        """What it sent cannot be understood, and what follows neither."""
        # As text: a log handler that keeps the error would keep the stack of whoever read it.
        what = str(error) if isinstance(error, ProtocolError) else f"{type(error).__name__}: {error}"
        log_later(logging.ERROR, "task %r broke the protocol, its child is replaced: %s", self.life.name, what)
        self.act(lambda now: self.life.replace(now, "it broke the protocol"))

    def interrupted(self) -> None:
        """A caller was interrupted while it read, so that a frame may be lost."""
        self.traffic.reading_interrupted()
        logger.warning("task %r was interrupted while it read an answer; its child is replaced", self.life.name)
        self._supervisor.post(self.act, lambda now: self.life.replace(now, "reading its answer was interrupted"))

    def _kill_the_silent(self, birth: Birth) -> None:
        self.act(lambda now: self.life.replace(now, "it closed its channel") if birth is self._line.birth else [])

    def _event(self, birth: Birth, number: int, payload: Payload) -> None:
        """On the strand: an event of the child; with a number it is a question."""
        try:
            name, args = rebuilt(self._serializer, payload, "an event")
            name, args = str(name), list(args)
        except Exception as error:  # the child's doing, or its serializer's
            logger.error("task %r sent an event that cannot be rebuilt: %s", self.life.name, error)
            if number:
                self._answer(birth, number, None, error)
            return
        if number:
            self.owner.answer(name, args, functools.partial(self._answer, birth, number))
        else:
            self.owner.deliver(name, args)

    def _answer(self, birth: Birth, number: int, value: Any, error: BaseException | None) -> None:
        """On some strand: the answer to a child's question."""
        try:
            kind, payload = self._answer_payload(value, error)
        except BaseException as failure:  # code of the user runs there, and the child waits
            refused = EncodeError(f"the answer cannot be sent: {type(failure).__name__}: {first_line(failure)}")
            kind, payload = Kind.ERROR, error_payload(self._serializer, refused)
        frame = payload.to_frame(kind, number)
        with self._lock:
            if birth is self._line.birth:
                self._line.post(frame)

    def _answer_payload(self, value: Any, error: BaseException | None) -> tuple[Kind, Payload]:
        if error is None:
            try:
                payload = encode(self._serializer, value, answer=value)
                payload.check()
                return Kind.RESULT, payload
            except RelieveError as failure:
                error = failure
        return Kind.ERROR, error_payload(self._serializer, error)

    # -- the end of the process --------------------------------------------------------------------

    def forget(self) -> None:
        """In a process that was just forked: the child belongs to the original, and nothing here may touch it."""
        self._lock = threading.Lock()
        self._foreign = True
        self._line.forget(self._lock)
        if self._spare is not None:
            self._spare.forget()
        self.traffic.forget()
        self.life.disown()


_all: weakref.WeakSet[Slot] = weakref.WeakSet()
_all_lock = threading.Lock()  # owner: whoever adds to or reads _all


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


def _after_fork() -> None:
    global _all_lock
    _all_lock = threading.Lock()
    for slot in list(_all):
        slot.forget()
    _all.clear()


os.register_at_fork(after_in_child=_after_fork)
