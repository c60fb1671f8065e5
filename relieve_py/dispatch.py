"""The queue of a CloudWorker at work: it gives calls to tasks, and takes back what has to go again."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from relieve_py import locks
from relieve_py.backlog import Backlog
from relieve_py.bundles import may_travel_with_others
from relieve_py.calls import EVENT, Call, Carrier
from relieve_py.choosing import Chooser
from relieve_py.delays import Delays
from relieve_py.elastic import Elasticity
from relieve_py.errors import CallTimeout, NotRunning, RelieveError, Stopped, StrategyError
from relieve_py.pressure import Pressure
from relieve_py.replies import Reply, settle_in_order
from relieve_py.roster import Rosters
from relieve_py.supervisor import shared
from relieve_py.tally import Tally
from relieve_py.tasks import Task
from relieve_py.workers import Worker


class Dispatcher:
    """The calls of one worker that are not with a task: their carrier, and the home of all that the worker sent.
    Methods may be called from any thread unless they say otherwise.

    It keeps its worker, which the user may let go, only while there are calls that cannot end without it.
    """

    def __init__(self, worker: Worker, chooser: Chooser, backlog: Backlog) -> None:
        self._found = weakref.ref(worker)
        self.chooser = chooser
        self.backlog = backlog
        self.rosters = Rosters(chooser.waits)
        self.tally = Tally()  # of what ends here
        self.delays = Delays()
        self._make_lock()
        self._pumper: object = None  # stands for the one that dispatches
        self._pump_again = False  # another wanted to, meanwhile
        self._in_hand: list[Call] = []  # what it has taken out and not given to a task yet
        self._keeps = False  # the worker
        self._in_vain = False  # calls wait, and no task was found for any since one was last looked at
        self._stopping = self._flushing = False  # after stop(), after flush()
        self.refuses = False
        """True when no new calls are taken."""
        self.paused = False  # no call is given to a task
        self._pressure = Pressure()
        self.on_wait: Callable[[], object] | None = None  # called when a call has to wait for a task
        self.elasticity: Elasticity | None = None  # what counts how many tasks are needed
        self.drain_waiters: list[Reply] = []
        self._room_waiters: list[Reply] = []

    def forget(self) -> None:
        """In a process that was just forked: what waits here, and who holds a lock, does so in the original."""
        self._make_lock()
        self.chooser.forget()
        self._pumper, self._pump_again, self._in_hand = None, False, []
        self.delays = Delays()
        self.backlog.take_all()
        self.keep()

    def _make_lock(self) -> None:
        self.mutex = locks.new()  # owner: whoever touches the backlog or the fields of a dispatcher
        self.lock = locks.Condition(self.mutex)

    @property
    def worker(self) -> Worker:
        """Whose calls these are: there, as long as one is open or one of its methods runs."""
        worker = self._found()
        assert worker is not None, "a call that is open keeps its worker"
        return worker

    def keep(self) -> None:
        """Under the lock: have the worker kept while a call is open. One that is paused goes on for nobody."""
        worker = self._found()
        if worker is not None:
            if self.backlog.out or (not self.paused and (self.backlog.waiting.count or self.delays)):
                _kept[id(worker)] = worker
                self._keeps = True
            else:
                self._keeps = False
                _kept.pop(id(worker), None)

    # -- members -----------------------------------------------------------------------------------

    def joined(self, task: Task) -> None:
        """A task was added."""
        self.chooser.joined(task)
        task._slot.traffic.on_room = functools.partial(_look, weakref.ref(self), weakref.ref(task))
        with self.mutex:
            self._in_vain = False
            self.rosters.join(task)
        self.pump()

    def left(self, task: Task) -> None:
        """A task was removed, and will stop."""
        task._slot.traffic.on_room = None
        with self.mutex:
            self._in_vain = False
            self.rosters.leave(task)
        self.chooser.left(task)
        self.pump()

    def look(self, task: Task) -> None:
        """The state of a task has changed, or there may be room."""
        if self.mutex._is_owned():  # by what a signal handler has interrupted
            shared().post(self.look, task)
            return
        try:
            with self.mutex:
                self._in_vain = False
                try:
                    self.rosters.look(task)
                except BaseException:  # of a signal handler
                    self.rosters.mend()
                    raise
            self.pump()
        except BaseException:  # of a signal handler
            self.mend()
            raise

    # -- what is taken in --------------------------------------------------------------------------

    def _fail(self, call: Call, error: RelieveError) -> None:
        """A call has failed before it was with a task, or between two tries."""
        call.await_turn_no_more()
        if call.causes and error.__cause__ is None:
            error.__cause__ = call.causes[-1]  # why another try was needed
        failed = call.reply.fail(error)
        if call.mode is EVENT:
            return
        if failed:
            self.tally.have_failed(call.left())
        elif call.reply.cancelled():  # on its way here, where nobody had it
            self.tally.were_cancelled(call.left())

    def _refuse(self, stopping: bool, flushing: bool) -> None:
        """Under the lock: take no new calls, for these reasons; neither: take them."""
        self._stopping, self._flushing = stopping, flushing
        self.refuses = stopping or flushing

    @property
    def at_rest(self) -> bool:
        """True while no call is given to a task: after stop(), or pause()."""
        return self._stopping or self.paused

    def refusal(self) -> Stopped:
        """Why no new calls are taken."""
        if self._stopping:
            return self._stopped()
        return Stopped(f"worker {self.worker.name!r} was flushed: it takes no calls until resume() or start()")

    def _stopped(self) -> Stopped:
        worker = self._found()
        return Stopped(f"worker {worker.name!r} was stopped" if worker is not None else "the worker was let go")

    def note_full(self, waiter: Reply | None = None) -> bool:
        """Somebody is told that there is no room, so that ``drain`` will come; False when there is some by now."""
        with self.mutex:
            if not self.backlog.crowded:
                return False
            self._pressure.full = True
            if waiter is not None:
                self._room_waiters.append(waiter)
        return True

    def when_roomy(self, reply: Reply) -> None:
        """Settle the reply with the worker when there is room."""
        if not self.note_full(reply):
            reply.settle(self.worker)

    def _somebody_left(self) -> None:
        """Under the lock, which keeps what is told in order: fewer calls wait."""
        self.lock.notify_all()
        worker = self._found()
        if self._pressure.full and self.backlog.roomy and worker is not None:
            worker.tell("drain", self._pressure.drained(worker.name))
            waiters, self._room_waiters = self._room_waiters, []
            for reply in waiters:
                shared().post(reply.settle, worker)

    # -- carrier and home of queued calls ----------------------------------------------------------

    @property
    def owner(self) -> Any:
        """As a carrier of calls: its worker."""
        return self.worker

    def cancel(self, call: Call) -> None:
        """A call that waits here was cancelled. Raises CalledFromHandler."""
        locks.refuse_if_mine(self.mutex)
        try:
            if self._drop_waiting(call):
                self.tally.were_cancelled(call.left())
        except BaseException:  # of a signal handler
            self.mend()
            raise

    def expire(self, call: Call, error: CallTimeout) -> bool:
        """I/O thread: fail a call that has waited here for too long; False when it does not wait here."""
        return self._drop_waiting(call, lambda: self._fail(call, error))

    def _drop_waiting(self, call: Call, settle: Callable[[], object] = lambda: None) -> bool:
        """Forget a call that waits here, and settle it; False when it does not."""
        with self.mutex:
            dropped = self.delays.drop(call) or self.backlog.drop(call)
            self.keep()
            self._somebody_left()
        if dropped:
            call.await_turn_no_more()
            settle()
            self.pump()  # what was behind it may go, or there is nothing left
        return dropped

    def read_for(self, call: Call, settled: Callable[[], bool], deadline: float | None) -> None:
        """A call that waits here has no channel to read."""

    def attend(self, call: Call) -> None:
        """A call that waits here has no channel to read."""

    def credit(self, call: Call, items: int) -> None:
        """A call that waits here sends no items."""

    def resubmit(self, calls: list[Call], delay: float = 0.0) -> None:
        """Queue calls again, before all others of their priority, after ``delay`` seconds."""
        with self.mutex:
            refused = self._stopping
            for call in calls:
                call.carrier = self
            if delay > 0 and not refused:
                self.delays.add(calls, delay, self)
                self.keep()
                return
            if not refused:
                self.backlog.put_back(calls)
                self.keep()
        if refused:
            for call in calls:
                self._fail(call, self._stopped())
        self.pump()

    def ended(self, calls: Sequence[Call], carrier: Carrier) -> None:
        """Calls have left their task."""
        worker = self._found()  # which may be kept by these calls only
        if worker is None:  # it is known of them, and of all others
            return
        with self.mutex:
            known = [call for call in calls if self.backlog.returns(call)]
            if not known:
                return
            if self.backlog.drained:
                self.keep()
        task = carrier.owner.face
        if task is not None:
            self.chooser.ended(task, known)
        self._settle_drained(worker)

    # -- dispatch ----------------------------------------------------------------------------------

    def came(self, call: Call) -> bool:
        """Under the lock: a call was queued. True when it has to be looked whether a task takes it: not when there was
        none for those that came before it, nor when another looks, who will look again."""
        if not self._keeps:
            self.keep()
        if self._in_vain and call.mode is not EVENT and (call.script is None or not self._is_hopeless(call)):
            return False
        if self._pumper is not None:
            self._pump_again = True
            return False
        return True

    def _is_hopeless(self, call: Call) -> bool:
        return self.rosters.of(call.script).hopeless

    def pump(self) -> None:
        """Give waiting calls to tasks, as far as there is room."""
        worker = self._found()
        if worker is None:
            return
        if self.mutex._is_owned():  # a signal handler was told that there is room
            shared().post(self.pump)
            return
        if self.backlog.waiting.count:
            self.chooser.run(self._dispatch)
            return
        if self._pressure.short:
            self._tell_if_available()
        self._settle_drained(worker)

    def _dispatch(self) -> None:
        """One thread dispatches; another that comes meanwhile has it look again."""
        worker = self._found()
        if worker is None:
            return
        me = object()
        try:
            # Its loops are not in here: what is raised where one goes round may miss the try, in CPython 3.13.
            self._dispatch_all(me)
            if self._pressure.short:
                self._tell_if_available()
            self._settle_drained(worker)  # what nobody takes, or no strategy can place, has ended without a task
        except BaseException:  # of a signal handler
            self.mend(me)
            raise

    def _dispatch_all(self, me: object) -> None:
        with self.mutex:
            if self._pumper is not None:
                self._pump_again = True
                return
            self._pumper = me
        again = True
        while again:
            while self._dispatch_one():
                continue
            with self.mutex:
                again, self._pump_again = self._pump_again, False
                if not again:
                    self._pumper = None

    def mend(self, pumper: object = None) -> None:
        """A signal handler has raised in the middle of something, as what that ``pumper`` did."""
        try:
            self._have_mended(pumper)
        except BaseException:  # of another handler, maybe before the I/O thread was asked
            self._have_mended(pumper)
            raise

    def _have_mended(self, pumper: object) -> None:
        if not shared().here:
            shared().post(self._mend, pumper)  # where nothing interrupts it
            shared().post(self.pump)
        self._mend(pumper)

    def _mend(self, pumper: object) -> None:
        with self.mutex:
            self.backlog.mend()
            self.rosters.mend()
            if pumper is not None and self._pumper is pumper:
                in_hand, self._in_hand = self._in_hand, []
                self._pumper, self._pump_again = None, False
                mine = (self, None)
                waits = (self.backlog.waiting.has, self.delays.has)
                lost = [call for call in in_hand if call.carrier in mine and not any(has(call) for has in waits)]
                for call in lost:
                    call.carrier = self
                    self.backlog.returns(call)
                self.backlog.put_back([call for call in lost if not call.reply.settled()])
            self.keep()

    def _dispatch_one(self) -> bool:
        """Give the first waiting call to a task; False when it has to wait."""
        lost: list[Call] = []
        with self.mutex:
            if not self.backlog.waiting.count:
                return False
            try:
                heads = self.backlog.waiting.heads()
                call, offered = self._next(heads)
                if offered:
                    self._take_out(call)
                    chosen = self._chosen(offered, call) if self.chooser.trusted else None
                else:
                    lost = self._have_wait(heads)
            except BaseException:  # of a signal handler
                self.rosters.mend()
                raise
        if not offered:
            self._see_to_more(heads, lost)
            return False
        self._give(call, chosen if self.chooser.trusted else self._chosen(offered, call))
        return True

    def _next(self, heads: list[Call]) -> tuple[Call, Sequence[Task]]:
        """The first of these that some tasks could take now, and those; or the first, and nobody."""
        if not self.paused:
            for call in heads:
                offered = self.chooser.offered(self.rosters.of(call.script).candidates(call))
                if offered:
                    return call, offered
        return heads[0], ()

    def _take_out(self, call: Call) -> None:
        """Under the lock: a call that waits gets a task."""
        self._in_hand = [call]
        self.backlog.drop(call)
        self.backlog.goes(call)
        if self.elasticity is not None:
            self.elasticity.out(self.backlog.out)
        self._somebody_left()

    def _have_wait(self, heads: list[Call]) -> list[Call]:
        """Under the lock: no task takes any of these. Those that wait for no task any more, as none will come."""
        lost = []
        for head in heads:
            if self.rosters.of(head.script).hopeless:
                lost += self.backlog.take(head.script)
        if self.elasticity is not None:
            self.elasticity.waits()
        self._tell_unavailable()
        self.keep()
        if lost:
            self._somebody_left()
        else:  # the more wait, the more of those that sleep are woken, or added
            everybody = self.rosters.all
            self._in_vain = self.elasticity is None and not everybody.roomy and everybody.sleeper() is None
        return lost

    def _see_to_more(self, heads: list[Call], lost: list[Call]) -> None:
        """Have tasks come for the calls that wait, and fail those for which there will be none."""
        if not self.paused:
            for head in heads:
                self._wake_one(head)
            if self.on_wait is not None:
                self.on_wait()
        for call in lost:
            self._fail(call, self._why_hopeless(call))  # one each: a raise adds its traceback

    def _give(self, call: Call, chosen: Task | StrategyError | None) -> None:
        """To the task that was chosen, if one was."""
        if isinstance(chosen, Task):
            chosen._slot.traffic.submit(call, *self._company(call, chosen))
            self._in_hand = []
            return
        with self.mutex:
            self.backlog.returns(call)
            if chosen is None:
                self.backlog.put_back([call])
            self._in_hand = []
            self.keep()
        if chosen is not None:
            self._fail(call, chosen)

    def _company(self, call: Call, chosen: Task) -> list[Call]:
        """Short calls that go with this one, while many wait: half of the share of each task, so that none is left
        without."""
        most = chosen._slot.traffic.appetite - 1
        if most < 1 or not self.chooser.alike or self.elasticity is not None or not may_travel_with_others(call):
            return []
        with self.mutex:
            share = self.backlog.waiting.of(call.script).count // (2 * self.rosters.of(call.script).size)
            self.backlog.take_out(call.script, min(most, share), may_travel_with_others, self._in_hand)
            company = self._in_hand[1:]
            if company:
                self._somebody_left()
        self.chooser.started(chosen, company)
        return company

    def _chosen(self, offered: Sequence[Task], call: Call) -> Task | StrategyError | None:
        """Whom the strategy chooses, or why it does not; None when there is nobody any more."""
        try:
            return self.chooser.choose(offered, call)
        except StrategyError as error:
            return error

    def _wake_one(self, head: Call) -> None:
        """Have a task started, one that sleeps or was never started, for the calls that wait, unless enough are on
        their way."""
        with self.mutex:
            roster = self.rosters.of(head.script)
            enough = roster.coming >= self.backlog.waiting.of(head.script).count
            sleeper = None if enough else roster.sleeper()
        if sleeper is not None:
            sleeper._slot.wake()

    def _why_hopeless(self, call: Call) -> NotRunning:
        tasks = [task for task in self.worker if call.script in (None, task._core.address)]
        reasons = "; ".join(str(task._slot.life.refusal()) for task in tasks)
        what = "takes calls" if call.script is None else "of the script that it was addressed to takes calls"
        return NotRunning(f"no task of worker {self.worker.name!r} {what}: {reasons or 'it has none'}")

    def _tell_unavailable(self) -> None:
        """Under the lock, which keeps what is told in order: a call has to wait."""
        if not self._pressure.short:
            reason = "paused" if self.paused else "busy" if self.rosters.all.up else "down"
            record = self._pressure.waits(self.worker.name, reason, shared().now())
            self.worker.tell("unavailable", record)

    def _tell_if_available(self) -> None:
        with self.mutex:
            if self.backlog.waiting or self.paused or not self.rosters.all.roomy:
                return
            record = self._pressure.eased(self.worker.name, shared().now())
            if record is not None:
                self.worker.tell("available", record)

    # -- start, stop, pause and drain --------------------------------------------------------------

    def open(self) -> None:
        """Calls are taken from now on."""
        self.chooser.open()
        with self.mutex:
            self._refuse(False, False)

    def pause(self) -> None:
        """No call is given to a task from now on; they wait."""
        locks.refuse_if_mine(self.mutex)
        with self.mutex:
            self.paused = True
            self.keep()

    def resume(self) -> None:
        """Neither paused nor flushed any more."""
        locks.refuse_if_mine(self.mutex)
        with self.mutex:
            self.paused = self._in_vain = False
            self._refuse(self._stopping, False)
            self.keep()
        self.pump()

    def flush(self, reply: Reply) -> None:
        """No new call is taken from now on; settle the reply with the worker when it has no open calls."""
        locks.refuse_if_mine(self.mutex)
        with self.mutex:
            self.paused = False
            self._refuse(self._stopping, True)
            self.lock.notify_all()  # who waits for room is refused
        self.pump()
        self.drain(reply)

    def close(self) -> None:
        """No call is taken from now on, and what waits fails with Stopped."""
        locks.refuse_if_mine(self.mutex)
        with self.mutex:
            self._refuse(True, self._flushing)
            waiting = [*self.delays.take_all(), *self.backlog.take_all()]
            self.keep()
            self._somebody_left()
        self.chooser.close()
        for call in waiting:
            self._fail(call, self._stopped())
        worker = self._found()
        if worker is not None:
            self._settle_drained(worker)

    def drain(self, reply: Reply) -> None:
        """Settle the reply with the worker when it has no open calls."""
        locks.refuse_if_mine(self.mutex)
        with self.mutex:
            self.drain_waiters.append(reply)
        self._settle_drained(self.worker)

    def _settle_drained(self, worker: Worker) -> None:
        if not self.drain_waiters:
            return
        with self.mutex:
            if not self.backlog.drained or self.delays:
                return
            replies, self.drain_waiters = self.drain_waiters, []
        for reply in replies:
            settle = functools.partial(reply.settle, worker)
            settle_in_order(worker.emitter.strand, settle, reply.asked_by_listener)

    def numbers(self, of_tasks: dict[str, Any]) -> dict[str, Any]:
        """For statistics: those of its tasks, and what is known here."""
        with self.mutex:
            numbers = {**of_tasks, **self.backlog.snapshot()}
            numbers["queued"] += len(self.delays)
        numbers["failed"] += self.tally.failed
        numbers["cancelled"] += self.tally.cancelled
        return numbers


_kept: dict[int, Worker] = {}  # by their id(); each dispatcher changes the entry of its own, under its lock


def _look(found: weakref.ref[Dispatcher], which: weakref.ref[Task]) -> None:
    """What a slot has: with a child it keeps no dispatcher, which keeps tasks."""
    dispatcher, task = found(), which()
    if dispatcher is not None and task is not None:
        dispatcher.look(task)
