"""The deeds of one task: what ``lifecycle`` and the table of calls decide is done here, under the slot's one lock.

The lock is held for decisions and for sends that never block. Whatever runs code of others (settling replies, telling
listeners, resubmitting calls) is collected meanwhile and done after the lock is free.
"""

from __future__ import annotations

import functools
import logging
import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from relieve_py.answers import Encoded
from relieve_py.birth import Birth
from relieve_py.calls import Call, Mode
from relieve_py.child.boot import Plan, boot_frame
from relieve_py.delays import Delays
from relieve_py.endings import Endings, Owner, died
from relieve_py.errors import DecodeError, NotRunning, ProtocolError, RelieveError, StartError, copy_of
from relieve_py.events import Exit, Strand, log_later
from relieve_py.launchers.base import Launcher
from relieve_py.lifecycle import (
    Arm,
    AskStop,
    Disarm,
    Emit,
    Instruction,
    Judge,
    Kill,
    Launch,
    Lifecycle,
    Refuse,
    Settle,
    State,
)
from relieve_py.messages import exports_of, missing_of, start_error_of
from relieve_py.replies import Reply, settle_in_order
from relieve_py.serializers import Payload, Serializer, decode, encode
from relieve_py.streams import Items
from relieve_py.supervisor import Supervisor, Timer
from relieve_py.table import CallTable
from relieve_py.telling import error_payload
from relieve_py.turns import Turns
from relieve_py.wire import Frame, Kind

logger = logging.getLogger("relieve_py")

HANGUP_GRACE = 0.25
"""Seconds between the end of a channel and the kill: a child that is ending closes it a moment before it can be
reaped."""
Deeds = list[Callable[[], object]]
LATER = object()  # the call has left the child, and whether it has ended is decided elsewhere

PARKED = 0.001
"""Seconds after a caller's last read before the I/O thread reads that channel again. Less: more wake-ups beside a
caller in a loop; more: what the child says unasked after such a loop is heard later."""
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
    ) -> None:
        self.owner = owner
        self.life = life
        self.table = CallTable()
        self.busy = False  # the child asked for no calls
        self.on_room: Callable[[], object] | None = None  # its worker: there is room, or the state has changed
        self._supervisor = supervisor
        self._launcher = launcher
        self._plan = plan
        self._objects = objects
        self._env = env
        self._serializer = serializer
        self._strand = strand
        self._endings = Endings(owner)
        self._startable = startable
        self._foreign = False  # the child belongs to the process that forked this one
        self._lock = threading.Lock()  # owner: whoever decides about this slot; held for no user code
        self._turns = Turns()
        self._birth: Birth | None = None
        self._tries = 0
        self._pending_signal: int | None = None
        self._timers: dict[str, Timer] = {}
        self._call_timers: dict[int, Timer] = {}
        self._start_waiters: list[Reply] = []
        self._stop_waiters: list[Reply] = []
        self._drain_waiters: list[Reply] = []
        self._delays = Delays(self.resubmit)
        self._deciding = 0  # calls that raised, and may be tried again
        self._death: tuple[Birth, int | None, int | None] | None = None  # to be handled when the reader is done
        self._parked = False  # callers read the channel, the I/O thread does not
        self._unparking = False  # a timer will look whether they still do
        self._callers_reads = self._reads_seen = 0
        self._at_hand: Call | None = None  # the call whose answer is being handled
        self._handling = False  # a caller's thread is in the middle of handling frames
        with _all_lock:
            _all.add(self)

    # -- asked by the user -------------------------------------------------------------------------

    def start(self) -> Reply:
        """Launch a child; the Reply gives the task. Raises AlreadyRunning or Stopped."""
        return self._ask("start()", self._start_waiters, lambda now: self.life.start(now))

    def restart(self) -> Reply:
        """Replace the child by another; the Reply gives the task. Raises Stopped while it is being stopped."""
        return self._ask("restart()", self._start_waiters, lambda now: self.life.restart(now))

    def stop(self, timeout: float | None = None) -> Reply:
        """Let the child finish and leave; the Reply gives the exit record."""
        return self._ask("stop()", self._stop_waiters, lambda now: self.life.stop(now, timeout))

    def kill(self, signum: int) -> Reply:
        """Make the child leave by that signal; the Reply gives the exit record."""
        return self._ask("kill()", self._stop_waiters, lambda now: self.life.kill(now, signum))

    def until_ready(self) -> Reply:
        """A Reply of the task, once the child that runs or is being launched is ready."""
        ready = self.life.state is State.READY
        return self._ask("start()", self._start_waiters, lambda now: [Settle("start")] if ready else [])

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
            process = self._birth.process if self._birth is not None else None
            if process is None:
                raise NotRunning(f"task {self.life.name!r} has no child to signal", task=self.life.name)
            process.signal(signum)

    def _ask(self, what: str, waiters: list[Reply], decide: Callable[[float], list[Instruction]]) -> Reply:
        if self._foreign:
            raise self.life.refusal()
        reply = self._reply(what)

        def decided(now: float) -> list[Instruction]:
            instructions = decide(now)
            waiters.append(reply)
            return instructions

        self._act(decided)
        return reply

    # -- calls -------------------------------------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Send the call, or queue it until that is possible; starts a task that was never started."""
        after: Deeds = []
        with self._lock:
            call.carrier = self
            if call.home is None:
                call.home = self
            if self.life.state is State.NEW and self._startable:
                self._carry_out(self.life.start(time.monotonic()), after)
            if not self.life.accepts:
                error = self.life.refusal()
                if call.home is self:
                    after.append(lambda: self._endings.give_up(call, error))
                else:
                    after += [functools.partial(call.home.resubmit, [call]), lambda: self._ended(call)]
            elif call.mode is Mode.EVENT and self.life.state is State.READY:
                self.table.begin(call)
                self._send(call, after)
            else:
                self.table.waiting.append(call)
                self._pump(after)
        self._do(after)

    def resubmit(self, calls: list[Call], delay: float = 0.0) -> None:
        """Home of its own calls: queue them again, before all others, after ``delay`` seconds."""
        after: Deeds = []
        if delay > 0 and self.life.accepts:
            self._delays.add(calls, delay)
            return
        with self._lock:
            if self.life.accepts:
                self.table.requeue(calls)
                self._pump(after)
            else:
                error = self.life.refusal()
                after += [functools.partial(self._endings.give_up, call, error) for call in calls]
        self._do(after)

    def ended(self, call: Call, carrier: object) -> None:
        """Home of its own calls: somebody may wait for all of them."""
        self._tell_drained()

    def drain(self) -> Reply:
        """A Reply of the task, when it has no open calls."""
        if self._foreign:
            raise self.life.refusal()
        reply = self._reply("drain()")
        with self._lock:
            self._drain_waiters.append(reply)
        self._tell_drained()
        return reply

    def _tell_drained(self) -> None:
        if not self._drain_waiters:
            return
        with self._lock:
            if self.table.load or self._delays or self._deciding:
                return
            replies, self._drain_waiters = self._drain_waiters, []
        for reply in replies:
            self._settle_in_order(reply, self.owner.face)

    def cancel(self, call: Call) -> None:
        """The caller has no more use for it: drop it, or interrupt it."""
        after: Deeds = []
        with self._lock:
            if self.table.drop(call) or self._delays.drop(call):
                after.append(lambda: self._ended(call))
            else:
                self._abandon(call, after)
        self._do(after)

    def credit(self, call: Call, items: int) -> None:
        """Let the call's stream send so many more items."""
        with self._lock:
            if call.number and self._birth is not None:
                self._post(Frame(Kind.CREDIT, call.number, items.to_bytes(8, "little")))

    def read_for(self, call: Call, deadline: float | None) -> None:
        """Read the channel on this thread until the call settles, the deadline, or somebody else has to do it."""
        if self._supervisor.here or not self._turns.take_to_wait():
            return
        try:
            # With the turn, the birth stays until all its calls have lost their number.
            birth, number, reply = self._birth, call.number, call.reply
            if birth is None or not number or birth.hung_up or self._death is not None:
                return
            if not self._parked:
                self._park(True)
            self._turns.wait(
                birth.channel.fileno(),
                lambda: reply.settled() or call.number != number or self._death is not None,
                functools.partial(self._read_as_caller, birth),
                deadline,
            )
        finally:
            self._turns.give_back()
            if self._handling or self._death is not None:
                self._hand_over()
            elif self.table.sent:
                self._park(False)
            elif not self._unparking:
                self._unparking = True
                self._supervisor.at(time.monotonic() + PARKED, self._unpark)
            self._callers_reads += 1

    def attend(self, call: Call) -> None:
        """Somebody waits for the call without reading: the I/O thread has to."""
        if self._parked and not self._turns.caller_reads:
            self._park(False)

    def _park(self, yes: bool) -> None:
        """Have the I/O thread leave the channel to callers, or not."""
        with self._lock:
            self._parked = yes
            self._update_interest()

    def _unpark(self) -> None:
        """I/O thread: read again, unless callers have done so since the last look."""
        if self._callers_reads != self._reads_seen or self._turns.caller_reads:
            self._reads_seen = self._callers_reads
            self._supervisor.at(time.monotonic() + PARKED, self._unpark)
        else:
            self._unparking = False
            self._park(False)

    def _read_as_caller(self, birth: Birth) -> bool:
        """Read once. An interruption in the middle (Ctrl-C) may have lost a frame, and _hand_over looks for it."""
        self._handling = True
        alive = self._receive(birth)
        self._handling = False
        return alive

    def _hand_over(self) -> None:
        """The I/O thread reads again; deaths that waited for the reader are handled there."""
        with self._lock:
            self._parked = False
            self._update_interest()
            interrupted, self._handling = self._handling, False
            death, self._death = self._death, None
            call, self._at_hand = self._at_hand, None
        if interrupted and call is not None:
            lost = RelieveError(f"the answer of call {call.id} of {call.title} was lost: reading it was interrupted")
            self._endings.give_up(call, lost)
            self._ended(call)
        if interrupted:
            logger.warning("task %r was interrupted while it read an answer; its child is replaced", self.life.name)
            self._supervisor.post(self._act, self.life.replace)
        if death is not None:
            self._supervisor.post(self.died, *death)

    def _pump(self, after: Deeds) -> None:
        """Under the lock: send what may be sent."""
        while self.life.state is State.READY and (call := self.table.next(self.busy)) is not None:
            self._send(call, after)

    def _send(self, call: Call, after: Deeds) -> None:
        """Under the lock: send a call that the table counts as sent, unless it was cancelled meanwhile."""
        call.carrier = self
        if call.reply.cancelled():
            self.table.finish(call.number)
            after.append(lambda: self._ended(call))
            return
        payload = call.payload
        self._post(payload.to_frame(Kind.EVENT if call.mode is Mode.EVENT else Kind.CALL, call.number, call.mode))
        if self._parked and call.home is not self:  # of a worker: who waits for it may not be who reads
            self._parked = False
            self._update_interest()
        if call.timeout is not None:
            due = time.monotonic() + call.timeout
            self._call_timers[call.number] = self._supervisor.at(
                due, self._deadline, call, call.number, self.life.generation
            )

    def _abandon(self, call: Call, after: Deeds) -> bool:
        """Under the lock: interrupt a sent call, and replace the child if it does not give up in time."""
        number = self.table.abandon(call)
        if not number:
            return False
        self._forget_timer(number)
        self._post(Frame(Kind.CANCEL, number))
        due = time.monotonic() + self.life.kill_timeout
        self._call_timers[number] = self._supervisor.at(due, self._still_there, number, self.life.generation)
        after.append(lambda: self._ended(call))
        return True

    def _deadline(self, call: Call, number: int, generation: int) -> None:
        """I/O thread: the call's time is over."""
        after: Deeds = []
        with self._lock:
            if generation != self.life.generation or call.number != number or not self._abandon(call, after):
                return
        error = call.timed_out(self.life.name)
        after.insert(0, functools.partial(self._endings.failed, call, error, lost=True))
        self._do(after)

    def _still_there(self, number: int, generation: int) -> None:
        """I/O thread: an interrupted call has not given up within kill_timeout."""

        def decide(now: float) -> list[Instruction]:
            if generation != self.life.generation or number not in self.table.sent:
                return []
            log_later(logging.WARNING, "task %r does not answer an interrupt; its child is killed", self.life.name)
            return self.life.replace(now)

        self._act(decide)

    def _forget_timer(self, number: int) -> None:
        timer = self._call_timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    # -- how calls end -----------------------------------------------------------------------------

    def _ended(self, call: Call) -> None:
        if call.home is not None:
            call.home.ended(call, self)

    def _judge(self, exit: Exit, after: Deeds) -> None:
        """Under the lock: what becomes of the calls that the dead child had."""
        begun = self._birth.begun if self._birth is not None else 0
        for timer in self._call_timers.values():
            timer.cancel()
        self._call_timers.clear()
        started, untouched = self.table.lose(begun)
        for call in started:
            after.append(functools.partial(self._endings.failed, call, died(call, exit, self.life.restarts), lost=True))
            after.append(functools.partial(self._ended, call))
        for home in {id(call.home): call.home for call in untouched}.values():
            calls = [call for call in untouched if call.home is home]
            if home is self:
                self.table.requeue(calls)
            elif home is not None:
                after.append(functools.partial(home.resubmit, calls))
                after += [functools.partial(self._ended, call) for call in calls]
        after.append(self._tell_drained)

    # -- instructions ------------------------------------------------------------------------------

    def _act(self, decide: Callable[[float], list[Instruction]]) -> None:
        """Decide under the lock, and do what was decided."""
        after: Deeds = []
        with self._lock:
            self._carry_out(decide(time.monotonic()), after)
        self._do(after)

    def _do(self, after: Deeds) -> None:
        """Without the lock: the deeds that run code of others; one that fails stops no other."""
        for deed in after:
            try:
                deed()
            except Exception:
                logger.exception("relieve_py failed in task %r; please report this", self.life.name)
        if after:
            self._turns.nudge()

    def _carry_out(self, instructions: list[Instruction], after: Deeds) -> None:
        """Under the lock."""
        for instruction in instructions:
            match instruction:
                case Emit(name, record):
                    told = name == "error" and bool(self._start_waiters or self.table.waiting)
                    self.owner.tell(name, record, told)
                    if name == "state" and self.on_room is not None:
                        after.append(self.on_room)
                case Arm(name, at, generation):
                    self._disarm(name)
                    self._timers[name] = self._supervisor.at(at, self._on_timer, name, generation)
                case Disarm(name):
                    self._disarm(name)
                case Launch() | AskStop() | Kill():
                    self._touch_child(instruction)
                case Judge(exit):
                    self._judge(exit, after)
                case Refuse(error):
                    self._refuse(error, after)
                case Settle(what, failure):
                    self._settle(what, failure, after)

    def _touch_child(self, instruction: Launch | AskStop | Kill) -> None:
        match instruction:
            case Launch(generation):
                self._tries = 0
                self._pending_signal = None
                self._supervisor.post(self._launch, generation)
            case AskStop():
                self._post(Frame(Kind.STOP))
            case Kill(_, signum):
                self._signal(signum)

    def _signal(self, signum: int) -> None:
        if self._birth is not None and self._birth.process is not None:
            self._birth.process.signal(signum)
        else:  # its launch is under way
            self._pending_signal = signum

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _on_timer(self, name: str, generation: int) -> None:
        self._act(lambda now: self.life.timer(name, generation, now))

    def _refuse(self, error: RelieveError, after: Deeds) -> None:
        waiting = [*self._delays.take_all(), *self.table.waiting]
        self.table.waiting.clear()
        for call in waiting:
            if call.home is not None and call.home is not self:
                after.append(functools.partial(call.home.resubmit, [call]))
                after.append(functools.partial(self._ended, call))
            else:
                after.append(functools.partial(self._endings.give_up, call, error))
        after.append(self._tell_drained)
        starts, self._start_waiters[:] = list(self._start_waiters), []
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
            self._act(lambda now: self.life.exited(generation, None, None, now))
            return
        try:
            objects = self._objects()
            birth = Birth(self, generation, self.life.name, {**os.environ, **self._env})
        except (OSError, RelieveError) as error:
            self._not_launched(generation, error)
            return
        try:
            self._bring_forth(birth, objects)
        except Exception as error:  # a launcher is a plug-in
            self._let_go(birth)
            self._not_launched(generation, error)

    def _bring_forth(self, birth: Birth, objects: Payload) -> None:
        with self._lock:
            self._birth = birth
            self.busy = self._parked = False
            self._supervisor.watch(birth.channel.fileno(), functools.partial(self._on_channel, birth))
            self._post(boot_frame(self._plan, objects))
            if self.life.state is State.STOPPING:  # since the look above
                self._post(Frame(Kind.STOP))
        birth.launch(self._launcher)

    def born(self, birth: Birth) -> None:
        """The child exists."""

        def decide(now: float) -> list[Instruction]:
            assert birth.process is not None
            if self._pending_signal is not None:
                birth.process.signal(self._pending_signal)
            return self.life.launched(birth.generation, birth.process.pid, now)

        self._act(decide)

    def unborn(self, birth: Birth, error: OSError) -> None:
        """The system would not make it."""
        self._let_go(birth)
        self._not_launched(birth.generation, error)

    def lost(self, birth: Birth) -> None:
        """The server died over the launch: try again on a new channel, a few times."""
        self._let_go(birth)
        self._tries += 1
        if self._tries <= LAUNCH_TRIES:
            self._supervisor.post(self._launch, birth.generation)
        else:
            self._not_launched(birth.generation, OSError("the server process died again and again"))

    def _not_launched(self, generation: int, error: BaseException) -> None:
        failure = StartError(f"task {self.life.name!r} could not be launched: {error}", task=self.life.name)
        failure.__cause__ = error

        def decide(now: float) -> list[Instruction]:
            return [*self.life.start_failed(generation, failure, now), *self.life.exited(generation, None, None, now)]

        self._act(decide)

    def died(self, birth: Birth, code: int | None, signum: int | None) -> None:
        """It was reaped. What it had still said is read first, by whoever has the turn to read."""
        with self._lock:
            self._death = birth, code, signum
        self._turns.nudge()
        if not self._turns.take():
            return  # the reader sees _death, and posts this again
        try:
            with self._lock:
                self._death = None
                known = birth is not self._birth  # the reader had posted this again, and that was first
            if not known:
                self._read_the_rest(birth)
        finally:
            self._turns.give_back()
        if known:
            return
        with self._lock:
            blamed, worked = self.table.blames(birth.begun), self.table.finished > 0
        self._act(lambda now: self.life.exited(birth.generation, code, signum, now, blamed=blamed, worked=worked))
        self._let_go(birth)

    def _read_the_rest(self, birth: Birth) -> None:
        poll = select.poll()
        if birth.channel.fileno() < 0:
            return
        poll.register(birth.channel.fileno(), select.POLLIN)
        while poll.poll(0) and self._receive(birth):
            continue

    def _let_go(self, birth: Birth) -> None:
        with self._lock:
            if self._birth is birth:
                self._birth = None
            self._supervisor.unwatch(birth.channel.fileno())
            birth.close()

    # -- the channel -------------------------------------------------------------------------------

    def _post(self, frame: Frame) -> None:
        """Under the lock: send a frame; what the socket does not take now is sent when it can."""
        birth = self._birth
        if birth is not None and birth.channel.fileno() >= 0 and not birth.channel.post(frame):
            self._update_interest()

    def _update_interest(self) -> None:
        """Under the lock: the I/O thread reads unless a caller does, and writes while something is left to write."""
        birth = self._birth
        if birth is not None and not birth.hung_up:
            read, write = not self._parked, birth.channel.queued > 0
            self._supervisor.interest(birth.channel.fileno(), read, write)

    def _on_channel(self, birth: Birth) -> None:
        """I/O thread: the channel can be read or written."""
        with self._lock:
            if birth is not self._birth or birth.hung_up:
                return
            if birth.channel.queued and birth.channel.flush():
                self._update_interest()
        if self._turns.take():
            try:
                self._receive(birth)
            finally:
                self._turns.give_back()
            if self._death is not None:
                self._hand_over()

    def _receive(self, birth: Birth) -> bool:
        """With the turn to read: read once and handle what came; False when nothing more will come."""
        try:
            frames = birth.channel.receive()
            for frame in frames:
                self._handle(birth, frame)
        except EOFError:
            self._hang_up(birth)
            return False
        except ProtocolError as error:
            self._hang_up(birth)
            log_later(logging.ERROR, "task %r broke the protocol, its child is replaced: %s", self.life.name, error)
            self._act(self.life.replace)
            return False
        return True

    def _hang_up(self, birth: Birth) -> None:
        """The channel has ended. Most likely the child has, too; if not, it is killed in a moment."""
        with self._lock:
            if birth.hung_up:
                return
            birth.hung_up = True
            self._supervisor.unwatch(birth.channel.fileno())
        self._supervisor.at(time.monotonic() + HANGUP_GRACE, self._kill_the_silent, birth)

    def _kill_the_silent(self, birth: Birth) -> None:
        self._act(lambda now: self.life.replace(now) if birth is self._birth else [])

    def _handle(self, birth: Birth, frame: Frame) -> None:
        """With the turn to read: one frame of the child. Raises ProtocolError for one that a child must not send."""
        match frame.kind:
            case Kind.RESULT:
                self._over(frame, lambda call: call.reply.settle(self._encoded(frame, call)))
            case Kind.END:
                self._over(frame, lambda call: call.reply.settle(None))
            case Kind.ERROR:
                self._over(frame, lambda call: self._raised(call, self._encoded(frame, call, is_error=True)))
            case Kind.DELIVERED:
                self._over(frame, lambda call: call.reply.settle(self.owner.face))
            case Kind.MISSING:
                error = missing_of(self._serializer, frame, self.life.name)
                self._over(frame, lambda call: self._endings.give_up(call, error))
            case Kind.ITEM | Kind.ACCEPTED:
                self._underway(frame)
            case Kind.EVENT:
                self._strand.submit(self._event, birth, frame.number, Payload.of_frame(frame))
            case _:
                self._handle_state(birth, frame)

    def _underway(self, frame: Frame) -> None:
        """A call was accepted, or sent an item."""
        call = self.table.sent.get(frame.number)
        if call is not None and frame.kind == Kind.ACCEPTED:
            call.reply.settle(None)
        elif call is not None and isinstance(call.reply, Items):
            call.reply.item(self._encoded(frame, call))

    def _handle_state(self, birth: Birth, frame: Frame) -> None:
        """The child says how it is."""
        match frame.kind:
            case Kind.READY:
                names = exports_of(self._serializer, frame)
                self._act(lambda now: self.life.ready(birth.generation, names, now))
            case Kind.FAILED:
                error = start_error_of(self._serializer, frame, self.life.name)
                self._act(lambda now: self.life.start_failed(birth.generation, error, now))
            case Kind.LEAVING:
                self._supervisor.at(time.monotonic() + self.life.kill_timeout, self._kill_the_silent, birth)
            case Kind.BUSY | Kind.IDLE:
                self.busy = frame.kind == Kind.BUSY
            case _:
                raise ProtocolError(f"a child must not send a frame of kind {frame.kind}")
        self._with_room()

    def _over(self, frame: Frame, settle: Callable[[Call], object]) -> None:
        """The call with that number has ended in the child."""
        after: Deeds = []
        with self._lock:
            known = frame.number in self.table.sent
            call = self._at_hand = self.table.sent.get(frame.number)
            self.table.finish(frame.number)
            if self._call_timers:
                self._forget_timer(frame.number)
            if self.table.waiting:
                self._pump(after)
        if call is not None and settle(call) is not LATER:
            self._ended(call)
        self._at_hand = None
        self._do(after)
        if known:
            self._tell_drained()
            if self.on_room is not None:
                self.on_room()

    def _raised(self, call: Call, encoded: Encoded) -> object:
        """The user's code raised. While it is open whether the call is tried again, the call is, too."""
        if not self._endings.must_decide(call):
            return call.reply.settle(encoded)
        with self._lock:
            self._deciding += 1
        self._endings.decide(call, encoded, self._decided)
        return LATER

    def _decided(self, call: Call) -> None:
        with self._lock:
            self._deciding -= 1
        self._ended(call)

    def _with_room(self) -> None:
        after: Deeds = []
        with self._lock:
            self._pump(after)
        self._do(after)
        if self.on_room is not None:
            self.on_room()

    def _encoded(self, frame: Frame, call: Call, is_error: bool = False) -> Encoded:
        return Encoded(self._serializer, Payload.of_frame(frame), f"the result of {call.title}", is_error)

    def _event(self, birth: Birth, number: int, payload: Payload) -> None:
        """On the strand: an event of the child; with a number it is a question."""
        try:
            name, args = decode(self._serializer, payload, "an event")
            name, args = str(name), list(args)
        except (DecodeError, TypeError, ValueError) as error:
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
            if error is None:
                frame = encode(self._serializer, value, answer=value).to_frame(Kind.RESULT, number)
        except RelieveError as failure:
            error = failure
        if error is not None:
            frame = error_payload(self._serializer, error).to_frame(Kind.ERROR, number)
        with self._lock:
            if birth is self._birth:
                self._post(frame)

    # -- the end of the process --------------------------------------------------------------------

    def forget(self) -> None:
        """In a process that was just forked: the child belongs to the original, and nothing here may touch it."""
        self._lock = threading.Lock()
        self._turns = Turns()
        self._foreign = True
        birth, self._birth = self._birth, None
        if birth is not None:
            birth.forget()
        self.life.disown()


_all: weakref.WeakSet[Slot] = weakref.WeakSet()
_all_lock = threading.Lock()  # owner: whoever adds to or reads _all


def all_slots() -> list[Slot]:
    """Every slot of this process."""
    with _all_lock:
        return list(_all)


def _after_fork() -> None:
    global _all_lock
    _all_lock = threading.Lock()
    for slot in list(_all):
        slot.forget()
    _all.clear()


os.register_at_fork(after_in_child=_after_fork)
