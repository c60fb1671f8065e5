"""The calls of one slot: queued, sent to its child, answered, cancelled, timed out, and judged when the child dies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from relieve_py import locks
from relieve_py.answering import LATER, Answering
from relieve_py.batch import Batch
from relieve_py.blackbox import Progress
from relieve_py.bundles import Bundle, calls_of, may_travel_with_others
from relieve_py.calls import BUNDLE, CHUNK, EVENT, Call, by_home
from relieve_py.chunking import Chunking
from relieve_py.deadlines import Deadlines
from relieve_py.delays import Delays
from relieve_py.endings import Endings, Owner, died
from relieve_py.errors import CallTimeout, RelieveError
from relieve_py.exits import Exit
from relieve_py.feeding import Feeding
from relieve_py.host import Deeds, Host
from relieve_py.keeping import Keeper
from relieve_py.lifecycle import State
from relieve_py.line import Line
from relieve_py.replies import Reply, settle_in_order
from relieve_py.serializers import PickleSerializer, Serializer
from relieve_py.strands import Strand, must_not_wait
from relieve_py.supervisor import Supervisor
from relieve_py.table import CallTable
from relieve_py.tally import BATCH, Tally
from relieve_py.upkeep import Upkeep
from relieve_py.wire import Frame, Kind

_READY = State.READY  # to look up a member of an enum takes a while
_CALL_FRAME, _EVENT_FRAME = int(Kind.CALL), int(Kind.EVENT)


class Traffic:
    """The calls of one slot; their carrier, and the home of those that no worker sent. Methods may be called from any
    thread unless they say otherwise."""

    def __init__(
        self,
        host: Host,
        owner: Owner,
        line: Line,
        supervisor: Supervisor,
        serializer: Serializer,
        strand: Strand,
        startable: bool,
        upkeep: Upkeep,
        concurrency: int,
    ) -> None:
        self.owner = owner
        self.table = CallTable(concurrency)
        self._upkeep = upkeep
        self.keeper = Keeper(host, line, supervisor, self.table, upkeep, startable)
        self.on_room: Callable[[], object] | None = None  # its worker: there is room, or the state has changed
        self._host = host
        self._life = host.life
        self._line = line
        self._supervisor = supervisor
        self._now = supervisor.now
        self._serializer = serializer
        self._strand = strand
        self._startable = startable
        self.tally = Tally()
        self._endings = Endings(owner, self.tally)
        self._deadlines = Deadlines(
            host, line, supervisor, self.table, self._endings, self.tally, self._abandon, self.left
        )
        self._chunking = Chunking(self, host, line, supervisor, self._endings, self.tally, self._deadlines.expect)
        self._delays = Delays()
        self._drain_waiters: list[Reply] = []
        self._feeding = Feeding(line, self.table)
        self._answering = Answering(
            self,
            owner,
            host.life,
            line,
            self.table,
            serializer,
            self._endings,
            self._chunking,
            self._feeding,
            self.tally,
        )
        self.answered = self._answering.answered
        self._at_hand: Call | None = None  # the call whose answer is being handled
        self._slack = locks.Condition(line.lock)  # who sends events waits here
        line.more = functools.partial(bool, self.table.sent)

    @property
    def _lock(self) -> locks.Lock:
        return self._line.lock

    # -- in ----------------------------------------------------------------------------------------

    def submit(self, call: Call, *company: Call) -> None:
        """Send the call, and what is to go with it, or queue it until that is possible; starts a task that was never
        started. Raises CalledFromHandler."""
        after: Deeds = []
        lock = self._line.lock
        locks.refuse_if_mine(lock)
        if self._life.state is not _READY and self._startable and self._life.sleeps:
            self._supervisor.perform(lambda: self._submit_and_wake(call, company))
            return
        try:
            with lock:
                call.carrier = self
                if call.home is None:
                    call.home = self
                if self._life.state is _READY and self._may_go(call):
                    if company:
                        self._send_in_company(call, company, after)
                    else:
                        self.table.put_sent(call)
                        self._send(call, after)
                else:
                    self._submit_later(call, company, after)
            if after:
                self._host.do(after)
        except BaseException:  # of a signal handler
            self._break_off((call, *company), after)
            raise

    def _send_in_company(self, call: Call, company: tuple[Call, ...], after: Deeds) -> None:
        """Under the lock: what was queued elsewhere need not be queued here."""
        for each in company:
            each.carrier = self  # first: what is put back here when a signal handler raises is not put back there
        self._send_together(self.table.leave([call, *company]), after)
        self.table.left()

    def _submit_and_wake(self, call: Call, company: tuple[Call, ...]) -> None:
        """The same, where no signal handler raises: it takes a child, which is about to be launched."""
        after: Deeds = []
        with self._line.lock:
            call.carrier = self
            if call.home is None:
                call.home = self
            self._submit_later(call, company, after)
        self._host.do(after)

    def _break_off(self, calls: tuple[Call, ...], after: Deeds) -> None:
        """A signal handler has raised in the middle of sending these, or of what had to be done then."""
        self._line.broke_off()
        self._supervisor.post(self._host.do, after)
        with self._line.lock:
            lost = [call for call in calls if not self.table.has(call) and not call.reply.settled()]
        for call in lost:
            if call.home is None or call.home is self:
                call.await_turn_no_more()  # whoever wanted to send it has the handler's exception instead
            else:
                call.carrier = None  # its home looks for those that it has given and nobody took

    def _submit_later(self, call: Call, company: tuple[Call, ...], after: Deeds) -> None:
        """Under the lock: what cannot be sent at once, or not alone."""
        if self._life.state is not _READY and self._startable:
            self._host.carry_out(self._life.wake(self._supervisor.now()), after)
        if not self._life.accepts:
            for each in (call, *company):
                self._turn_away(each, self._life.refusal(), after)
            return
        self.table.put(call)
        if call.home is self:
            call.await_turn(self._supervisor)
        for each in company:
            each.carrier = self
            self.table.put(each)
        self._pump(after)
        if self.table.waiting:
            call.made_at = call.made_at or self._now()
            self.tally.most_queued = max(self.tally.most_queued, len(self.table.waiting))

    def _may_go(self, call: Call) -> bool:
        """Under the lock: whether a new call can be sent at once. No event waits for a child that runs calls."""
        if call.mode is EVENT:
            return self._life.forced is None
        return not self.table.waiting.count and self.table.running < self.table.concurrency and not self.closed

    def wait_for_slack(self) -> None:
        """Wait while the child has too many events to read, unless this is a thread that must not wait.

        It ends when the child reads, or dies, and when none will come.
        """
        if not self.table.unread.full or self._supervisor.here or must_not_wait():
            return

        def go_on() -> bool:
            return self.table.unread.slack or not self._life.accepts

        self._supervisor.help_until(go_on, None)
        with self._slack:
            self._line.attend_always()
            self._slack.wait_for(go_on)

    def _turn_away(self, call: Call, error: RelieveError, after: Deeds) -> None:
        """A call that is not with the child cannot stay: its worker has others to give it to."""
        if call.home is not None and call.home is not self:
            after += [functools.partial(call.home.resubmit, [call]), functools.partial(self.left, call)]
        else:
            after.append(functools.partial(self._endings.give_up, call, error))

    def resubmit(self, calls: list[Call], delay: float = 0.0) -> None:
        """Home of its own calls: queue them again, before all others, after ``delay`` seconds."""
        after: Deeds = []
        if delay > 0 and self._life.accepts:
            self._delays.add(calls, delay, self)
            return
        with self._lock:
            if self._life.accepts:
                self.table.requeue(calls)
                if self._life.state is not _READY:  # it may have gone to sleep meanwhile
                    self._host.carry_out(self._life.wake(self._supervisor.now()), after)
                self._pump(after)
            else:
                error = self._life.refusal()
                after += [functools.partial(self._endings.give_up, call, error) for call in calls]
        self._host.do(after)

    def pump(self) -> None:
        """Send what may be sent: there is room, or the state has changed."""
        after: Deeds = []
        with self._lock:
            if self._upkeep.wishes:
                self.keeper.look(after)
            self._pump(after)
        self._host.do(after)
        if self.on_room is not None:
            self.on_room()

    def _pump(self, after: Deeds) -> None:
        """Under the lock: send what may be sent."""
        while self._life.state is _READY and self._life.forced is None and self.table.waiting.count:
            closed = self.closed
            if self.appetite > 1 and not closed and self.table.running < self.table.concurrency:
                company = self.table.company(self.appetite, may_travel_with_others)
                if company:
                    self._send_together(company, after)
                    self.table.left()
                    continue
            if (call := self.table.next(closed)) is None:
                return
            self._send(call, after)

    @property
    def appetite(self) -> int:
        """How many short calls are worth being sent together."""
        size = self._chunking.rate.size
        return size if size > 1 and self.takes_chunks else 1

    def _send_together(self, calls: list[Call], after: Deeds) -> None:
        """Under the lock: send calls that the table has let go, except those that were cancelled meanwhile."""
        wanted, now = [], self._now()
        for call in calls:
            call.carrier = self
            if call.reply.cancelled():
                self._let_go(call, after)
                continue
            if call.turn_timer is not None:
                call.await_turn_no_more()
            call.made_at, call.sent_at = call.made_at or now, call.sent_at or now
            wanted.append(call)
        if len(wanted) == 1:
            self.table.begin(wanted[0])
            self._send(wanted[0], after)
        elif wanted:
            bundle = Bundle(wanted, self._answering.settle_together, self.tally)
            self.table.begin(bundle)
            self._send(bundle, after)
            self._line.attend_always()  # who waits for one of them may not be who reads

    def _let_go(self, call: Call, after: Deeds) -> None:
        """Under the lock: it was cancelled on its way here, where nobody had it."""
        call.await_turn_no_more()
        if call.mode is not EVENT:
            self.tally.were_cancelled(call.left())
        after.append(functools.partial(self.left, call))

    @property
    def closed(self) -> bool:
        """True when the child takes no calls for now: it asked for none, or is about to be replaced by a fresh one."""
        upkeep = self._upkeep
        if self._life.forced is not None or upkeep.busy:
            return True  # what is being ended may come round, and is ended all the same
        return upkeep.on and upkeep.full(self._supervisor.now())

    def _send(self, call: Call, after: Deeds) -> None:
        """Under the lock: send a call that the table counts as sent, unless it was cancelled meanwhile."""
        call.carrier, mode = self, call.mode
        if call.reply.cancelled():
            self.table.finish(call.number)
            self._let_go(call, after)
            return
        if call.turn_timer is not None:
            call.await_turn_no_more()
        if self._upkeep.on and mode is not EVENT:
            self._upkeep.given()
        if self._host.guard is not None and mode is not EVENT:
            self._host.guard.attend()
        self._line.post(call.payload.to_frame(_EVENT_FRAME if mode is EVENT else _CALL_FRAME, call.number, mode))
        if call.home is not self:  # of a worker
            self._line.attend_always()
        now = self._now()
        if not call.sent_at:
            call.sent_at = now
            call.made_at = call.made_at or now  # it did not wait
        if mode is CHUNK or mode is BUNDLE:
            assert isinstance(call, Batch)
            self._chunking.watch(call)
        elif call.timeout is not None:
            self._deadlines.watch(call, now)

    @property
    def takes_chunks(self) -> bool:
        """Whether its child can run many items as one call: one after the other, and nothing goes by their number."""
        return self.table.concurrency == 1 and not self._upkeep.on and type(self._serializer) is PickleSerializer

    # -- what a caller does with a call ------------------------------------------------------------

    def cancel(self, call: Call) -> None:
        """The caller has no more use for it: drop it, or interrupt it. Raises CalledFromHandler."""
        locks.refuse_if_mine(self._lock)
        after: Deeds = []
        try:
            with self._lock:
                if self._drop(call, after) or self._abandon(call, after):
                    self.tally.were_cancelled(call.left())
            self._host.do(after)
        except BaseException:  # of a signal handler
            self._break_off((), after)
            raise

    def expire(self, call: Call, error: CallTimeout) -> bool:
        """I/O thread: fail a call that has waited for its turn for too long; False when it does not wait here."""
        after: Deeds = [functools.partial(self._endings.give_up, call, error)]
        with self._lock:
            dropped = self._drop(call, after)
        if dropped:
            self._host.do(after)
        return dropped

    def _drop(self, call: Call, after: Deeds) -> bool:
        """Under the lock: forget a call that waits here, so that what was behind it may go. False when it does not."""
        if not (self.table.drop(call) or self._delays.drop(call)):
            return False
        call.await_turn_no_more()
        self._slack.notify_all()
        self._pump(after)
        after.append(lambda: self.left(call))
        return True

    def credit(self, call: Call, items: int) -> None:
        """Let the call's stream send so many more items. Raises CalledFromHandler."""
        locks.refuse_if_mine(self._lock)
        with self._lock:
            if call.number:
                self._line.post(Frame(Kind.CREDIT, call.number, items.to_bytes(8, "little")))

    def read_for(self, call: Call, settled: Callable[[], bool], deadline: float | None) -> None:
        """Read the channel on this thread until ``settled()``, the deadline, or somebody else has to do it."""
        number = call.number
        if number:
            self._line.read_until(lambda: call.number != number or settled(), deadline)

    def attend(self, call: Call) -> None:
        """Somebody waits for the call without reading."""
        self._line.attend()

    def _abandon(self, call: Call, after: Deeds, flags: int = 0) -> bool:
        """Under the lock: interrupt a sent call, and replace the child if it does not give up in time."""
        if call.within is not None:
            return self._chunking.drop(call)
        number = self.table.abandon(call)
        if not number:
            return False
        self._line.post(Frame(Kind.CANCEL, number, flags=flags))
        self._deadlines.interrupted(number)
        after.append(lambda: self.left(call))
        return True

    # -- out: with the turn to read ----------------------------------------------------------------

    def over(
        self, call: Call | None, frame: Frame, settle: Callable[[Call, Frame], object], well: bool = False
    ) -> None:
        """The call with that number has ended in the child; None: one that nobody wants any more, or that is over
        already."""
        after: Deeds = []
        table = self.table
        with self._line.lock:
            known = frame.number in table.sent
            if table.sent.get(frame.number) is not call:  # it was given up since that was looked up
                call = None
            self._at_hand = call
            table.finish(frame.number)
            if call is not None:
                if well and call.mode < EVENT:
                    self._count(call)
                elif call.mode is EVENT and table.unread.slack:
                    self._slack.notify_all()
            if self._deadlines.timers:
                self._deadlines.forget(frame.number)
            if self._upkeep.on and not table.running:
                self.keeper.worked(after)
            if table.waiting.count:
                self._pump(after)
        if call is None:
            self._deadlines.overtime.over(frame.number)
        elif settle(call, frame) is not LATER:
            self.left(call)
        self._at_hand = None
        if after:
            self._host.do(after)
        if known:
            self._has_room()

    def _has_room(self) -> None:
        """Without the lock: the child has a call less."""
        if self._drain_waiters:
            self._tell_drained()
        if self.on_room is not None:
            self.on_room()

    def _count(self, call: Call) -> None:
        """Under the lock: a call has given what was wanted of it."""
        now, recent = self._now(), self.tally.recent
        call.sent_at = call.sent_at or now  # who sent it may have been interrupted before that was noted
        recent.append((call.made_at or call.sent_at, call.sent_at, now))
        if call.home is not self or self.table.waiting.count:
            self._chunking.rate.ran(1, now - call.sent_at)
        if len(recent) >= BATCH:
            self.tally.fold()

    def take_at_hand(self) -> Call | None:
        """With the turn: the call whose answer was being handled when a signal handler raised."""
        call, self._at_hand = self._at_hand, None
        if call is not None and self.table.sent.get(call.number) is call:
            return None  # it was not taken from the table yet: it is lost with the child
        return call

    def answer_lost(self, whole: Call) -> None:
        """Of that call, or of those that travelled in it."""
        for call in calls_of(whole):
            call.within = None
            if isinstance(call.reply, Reply) and call.reply.settled():
                call.reply.tell()
            elif not call.reply.settled():
                lost = f"the answer of call {call.id} of {call.title} was lost: a signal handler raised meanwhile"
                self._endings.give_up(call, RelieveError(lost))
            self.left(call)

    def counted(self) -> Tally:
        """A copy of what became of its calls so far."""
        copy = Tally()
        with self._lock:
            self.tally.fold()
            copy.merge(self.tally)
        return copy

    # -- ends --------------------------------------------------------------------------------------

    def judge(self, exit: Exit, begun: int, progress: Progress, after: Deeds) -> None:
        """Under the lock: what becomes of the calls that the dead child had; ``begun`` is the last that it began, and
        ``progress`` how far it has come with that if it is a chunk."""
        self._deadlines.clear()
        self.keeper.gone()
        self._deadlines.overtime.gone(after)
        started, untouched = self.table.lose(begun)
        self._slack.notify_all()
        for call in started:
            restarts = self._life.restarts
            if isinstance(call, Batch):
                after.append(functools.partial(self._chunking.died, call, progress, exit, restarts))
                if isinstance(call, Bundle):  # who settled some of its calls may have been interrupted
                    after.append(functools.partial(self.answer_lost, call))
            else:
                error = died(call, exit, restarts)
                after.append(functools.partial(self._endings.failed, call, error, lost=True))
            after.append(functools.partial(self.left, call))
        for batch in [call for call in untouched if isinstance(call, Batch)]:
            untouched.remove(batch)
            after.append(functools.partial(self._chunking.untouched, batch))
            after.append(functools.partial(self.left, batch))
        for home, calls in by_home(untouched):
            if home is self:
                self.table.requeue(calls)
            else:
                after.append(functools.partial(home.resubmit, calls))
                after += [functools.partial(self.left, call) for call in calls]
        after.append(self._tell_drained)

    def refuse(self, error: RelieveError, after: Deeds) -> None:
        """Under the lock: no child will come for the calls that wait."""
        waiting = [*self._delays.take_all(), *self.table.take_waiting()]
        self._slack.notify_all()
        for call in waiting:
            self._turn_away(call, error, after)
        after.append(self._tell_drained)

    def forget(self) -> None:
        """In a process that was just forked: who waits here does so in the original."""
        self._slack = locks.Condition(self._line.lock)

    def left(self, call: Call) -> None:
        if call.feeds:
            self._feeding.ended(call)
        if call.home is not None:
            call.home.ended((call,), self)

    def left_together(self, calls: list[Call]) -> None:
        """Calls of a bundle have ended, or left it; these have no feeds."""
        for home, those in by_home(calls):
            home.ended(those, self)

    def ended(self, calls: Sequence[Call], carrier: object) -> None:
        """Home of its own calls: somebody may wait for all of them."""
        if self._drain_waiters:
            self._tell_drained()

    def drain(self, reply: Reply) -> None:
        """Settle the reply with the task when there are no open calls. Raises CalledFromHandler."""
        locks.refuse_if_mine(self._lock)
        with self._lock:
            self._drain_waiters.append(reply)
        self._tell_drained()

    def _tell_drained(self) -> None:
        if not self._drain_waiters:
            return
        with self._lock:
            if self.table.load or self._delays or self._answering.undecided or self._deadlines.overtime.open:
                return
            replies = list(self._drain_waiters)
        for reply in replies:
            settle = functools.partial(reply.settle, self.owner.face)
            settle_in_order(self._strand, settle, reply.asked_by_listener)
        with self._lock:  # behind that: when a signal handler raises, whoever looks next goes on
            self._drain_waiters = [reply for reply in self._drain_waiters if reply not in replies]
