"""CloudWorker: calls balanced over tasks by a strategy."""

from __future__ import annotations

import collections
import functools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, cast

from relieve_py import plugins
from relieve_py.backlog import Backlog
from relieve_py.calls import Call, CallOptions, Carrier, Mode
from relieve_py.delays import Delays
from relieve_py.errors import AlreadyRunning, CallTimeout, NotRunning, Stopped, StrategyError, WorkerFull
from relieve_py.events import Dropped, Strand, must_not_wait, under_a_loop
from relieve_py.health import WorkerStats
from relieve_py.lifecycle import State
from relieve_py.policies import RetryPolicy, retry_policy
from relieve_py.remote import Remote, call_options
from relieve_py.replies import Reply, fail_after, gather, settle_in_order
from relieve_py.streams import Stream
from relieve_py.supervisor import shared
from relieve_py.tasks import CallableTask, ForkTask, Task, new_event
from relieve_py.traffic import Traffic
from relieve_py.workers import Worker

logger = logging.getLogger("relieve_py")


class CloudWorker(Remote, Worker):
    """Balances calls over its tasks: each goes to the one that ``strategy`` chooses among those with room.

    ``size`` is how many tasks there are, made by cloning the given ones; None takes them as they are. Calls wait in one
    queue of at most ``max_pending``; ``when_full`` is ``"wait"``, ``"raise"``, ``"drop_oldest"`` or ``"drop_newest"``.
    ``retries`` is a number, or a RetryPolicy, for every call. Wrong options raise TypeError or ValueError.
    """

    def __init__(
        self,
        *tasks: CallableTask,
        size: int | None = None,
        strategy: Any = "round-robin",
        max_pending: int | None = None,
        when_full: str = "wait",
        retries: int | RetryPolicy = 0,
        name: str | None = None,
    ) -> None:
        if not tasks:
            raise TypeError(
                "CloudWorker needs a task to start from, as in CloudWorker(CallableTask('task.py'), size=4)"
            )
        self._strategy = plugins.strategy(strategy)
        self._strategy_lock = threading.Lock()  # owner: the thread that runs a trusted strategy
        self._strategy_strand = Strand()  # where all other strategies run
        self._backlog = Backlog(max_pending, when_full)
        self._options = call_options(CallOptions(), retries=retry_policy(retries, RetryPolicy()))
        self._delays = Delays(self.resubmit)
        self._starting = threading.Lock()  # owner: the first caller, who starts the tasks
        self._pumping = self._pump_again = False
        self._stopping = False
        self._drain_waiters: list[Reply] = []
        self._templates: list[CallableTask] = []
        super().__init__(*tasks, name=name)
        self._templates = list(tasks)
        if size is not None:
            self._grow_to(_checked_size(size))

    def _forget(self) -> None:
        super()._forget()
        self._strategy_lock, self._starting = threading.Lock(), threading.Lock()
        self._pumping = self._pump_again = False
        self._delays = Delays(self.resubmit)
        self._backlog.take_all()

    # -- members -----------------------------------------------------------------------------------

    def _check(self, task: Any) -> None:
        super()._check(task)
        if isinstance(task, ForkTask) or not isinstance(task, CallableTask):
            raise TypeError(f"CloudWorker takes CallableTasks, which can be started and serve calls, not {task!r}")
        others = list(self)
        if others and type(task._core.serializer) is not type(cast(CallableTask, others[0])._core.serializer):
            raise ValueError(f"task {task.name!r} has another serializer than the other tasks of worker {self.name!r}")

    def _joined(self, task: Task) -> None:
        self._with_strategy(lambda: self._strategy.push(task))
        task._slot.traffic.on_room = self._pump
        self._pump()

    def _left(self, task: Task) -> None:
        task._slot.traffic.on_room = None
        self._with_strategy(lambda: self._strategy.remove(task))
        self._pump()

    def resize(self, size: int) -> Reply:
        """Have so many tasks: clones of the first ones are added, or the least busy are let go, after what they run.

        The Reply gives the worker once the new ones are ready and the old ones gone. Raises TypeError or ValueError.
        """
        _checked_size(size)
        changes: list[Reply] = []
        while len(self) > size:
            leaving = min(self, key=lambda task: task.load)
            changes.append(self.remove(leaving))
        started = any(task.state is not State.NEW for task in self)
        added = self._grow_to(size)
        if started:
            changes += [self._started(task) for task in added]
        return gather(changes, self.emitter.strand, self._all_started)

    @staticmethod
    def _started(task: CallableTask) -> Reply:
        """A Reply of the new task, once it is ready, whoever starts it: others see it as soon as it is a member."""
        try:
            return task.start()
        except AlreadyRunning:
            return task._slot.until_ready()

    def _grow_to(self, size: int) -> list[CallableTask]:
        added = []
        for place in range(size - len(self)):
            task = self._templates[place % len(self._templates)].clone()
            self.add(task)
            added.append(task)
        return added

    # -- calls -------------------------------------------------------------------------------------

    def _submit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reply | Stream:
        self._must_be_mine()
        tasks = list(self)
        if not tasks:
            raise NotRunning(f"worker {self.name!r} has no tasks")
        call.encode(cast(CallableTask, tasks[0])._core.serializer, args, kwargs)
        return self._enqueue(call)

    def _enqueue(self, call: Call) -> Reply | Stream:
        """Queue an encoded call. Blocks, raises or drops when there is no room, as ``when_full`` says."""
        self._start_if_new()
        if call.mode is Mode.EVENT and self._backlog.unread.full and not must_not_wait():
            self._wait_for_slack()
        if self._backlog.full and self._backlog.when_full == "wait" and not under_a_loop():
            shared().help_until(lambda: not self._backlog.full or self._stopping, None)
        with self._lock:
            if self._backlog.full and not self._stopping:
                self._make_room()
            reply = call.make_reply(self.emitter.strand)
            call.home = call.carrier = self
            victim = None
            refused = self._stopping
            if not refused:
                victim = self._backlog.add(call)
                call.await_turn(shared())
        if refused:
            call.reply.fail(Stopped(f"worker {self.name!r} was stopped"))
        if victim is not None:
            self._drop(victim)
        self._pump()
        return reply

    def _wait_for_slack(self) -> None:
        """Wait while too many events are here because no child reads."""

        def go_on() -> bool:
            return self._backlog.unread.slack or self._stopping

        shared().help_until(go_on, None)
        with self._lock:
            self._lock.wait_for(go_on)

    def _make_room(self) -> None:
        """Under the lock, which waiting frees: wait until there is room, or raise WorkerFull."""
        if self._backlog.when_full == "raise":
            raise WorkerFull(
                f"worker {self.name!r} has {len(self._backlog.waiting)} calls waiting, which is max_pending",
                worker=self.name,
                max_pending=self._backlog.max_pending,
            )
        if self._backlog.when_full == "wait" and not under_a_loop():
            self._lock.wait_for(lambda: not self._backlog.full or self._stopping)

    def _drop(self, call: Call) -> None:
        call.reply.fail(
            WorkerFull(
                f"call {call.id} of {call.title} was dropped: worker {self.name!r} is full",
                worker=self.name,
                max_pending=self._backlog.max_pending,
            )
        )
        self.emitter.emit("drop", Dropped(worker=self.name, call_id=call.id, method=call.method))

    @property
    def _call_options(self) -> CallOptions:
        return self._options

    def _exported(self) -> Iterable[str]:
        return sorted({name for task in self for name in task.exports})

    def _width(self) -> int:
        return sum(task._slot.traffic.table.concurrency for task in self)

    def send(self, name: str, *args: Any) -> Reply:
        """Send the strategy's next task an event. The Reply gives that task. Raises EncodeError.

        While all children leave too many events unread, this waits, as ``Task.send`` does.
        """
        call = new_event(name)
        reply = cast(Reply, self._submit(call, args, {}))
        if self._strategy_waits and isinstance(call.carrier, Traffic):
            call.carrier.wait_for_slack()
        return reply

    def send_per_script(self, name: str, *args: Any) -> Reply:
        """Send one task of each script an event. The Reply gives an Outcome for each script's task."""
        chosen: dict[Any, Task] = {}
        for task in sorted(self, key=lambda task: task.load):
            chosen.setdefault(task._slot.script, task)
        tasks = list(chosen.values())
        return self._outcomes(tasks, [task.send(name, *args) for task in tasks])

    @property
    def owner(self) -> Any:
        """As a carrier of calls: itself."""
        return self

    # -- carrier and home of queued calls ----------------------------------------------------------

    def cancel(self, call: Call) -> None:
        """A call that waits here was cancelled."""
        self._drop_waiting(call)

    def expire(self, call: Call, error: CallTimeout) -> bool:
        """I/O thread: fail a call that has waited here for too long; False when it does not wait here."""
        return self._drop_waiting(call, lambda: call.reply.fail(error))

    def _drop_waiting(self, call: Call, settle: Callable[[], object] = lambda: None) -> bool:
        """Forget a call that waits here, and settle it; False when it does not."""
        with self._lock:
            dropped = self._delays.drop(call) or self._backlog.drop(call)
            self._lock.notify_all()
        if dropped:
            call.await_turn_no_more()
            settle()
            self._pump()  # what was behind it may go, or there is nothing left
        return dropped

    def read_for(self, call: Call, deadline: float | None) -> None:
        """A call that waits here has no channel to read."""

    def attend(self, call: Call) -> None:
        """A call that waits here has no channel to read."""

    def credit(self, call: Call, items: int) -> None:
        """A call that waits here sends no items."""

    def resubmit(self, calls: list[Call], delay: float = 0.0) -> None:
        """Queue calls again, before all others, after ``delay`` seconds."""
        with self._lock:
            refused = self._stopping
            if delay > 0 and not refused:
                for call in calls:
                    call.carrier = self
                self._delays.add(calls, delay)
                return
            for call in calls:
                call.carrier = self
            if not refused:
                self._backlog.put_back(calls)
        if refused:
            for call in calls:
                call.reply.fail(Stopped(f"worker {self.name!r} was stopped"))
        self._pump()

    def ended(self, call: Call, carrier: Carrier) -> None:
        """A call has left its task."""
        with self._lock:
            self._backlog.out -= 1
        task = carrier.owner.face
        self._with_strategy(lambda: self._strategy.end(task, call))
        self._settle_drained()

    # -- dispatch ----------------------------------------------------------------------------------

    @property
    def _strategy_waits(self) -> bool:
        return bool(getattr(self._strategy, "waits", False))

    @property
    def _trusted(self) -> bool:
        return bool(getattr(self._strategy, "trusted", False))

    def _with_strategy(self, use: Callable[[], object]) -> None:
        """Have the strategy told, one thing at a time; one that is not ours on a thread where it may block."""
        if self._trusted:
            with self._strategy_lock:
                use()
        else:
            self._strategy_strand.submit(use)

    def _pump(self) -> None:
        """Give waiting calls to tasks, as far as there is room."""
        if not self._backlog.waiting:
            self._settle_drained()
        elif self._trusted:
            self._dispatch()
        else:
            self._strategy_strand.submit(self._dispatch)

    def _dispatch(self) -> None:
        """One thread dispatches; another that comes meanwhile has it look again."""
        with self._lock:
            if self._pumping:
                self._pump_again = True
                return
            self._pumping = True
        while True:
            try:
                while self._dispatch_one():
                    continue
            finally:
                with self._lock:
                    again, self._pump_again = self._pump_again, False
                    self._pumping = again
            if not again:
                self._settle_drained()  # what nobody takes, or no strategy can place, has ended without a task
                return

    def _dispatch_one(self) -> bool:
        """Give the first waiting call to a task; False when it has to wait."""
        with self._lock:
            if not self._backlog.waiting:
                return False
            call = self._backlog.waiting[0]
            candidates = self._candidates(call)
            lost = self._backlog.take_all() if not candidates and self._hopeless() else []
            if candidates:
                self._backlog.pop()
                self._backlog.out += 1
            if candidates or lost:
                self._lock.notify_all()  # who waits for room
        if not candidates:
            self._wake_one()
            for call in lost:
                call.reply.fail(self._why_hopeless())  # one each: a raise adds its traceback
            return False
        try:
            task = self._choose(candidates, call)
        except StrategyError as error:
            with self._lock:
                self._backlog.out -= 1
            call.reply.fail(error)
            return True
        task._slot.traffic.submit(call)
        return True

    def _candidates(self, call: Call) -> tuple[Task, ...]:
        """Tasks that could take the call now; for a strategy that waits for its choice, all that run."""
        running = [task for task in self._members.values() if task._slot.life.state is State.READY]
        if self._strategy_waits:
            return tuple(running)
        if call.mode is Mode.EVENT:
            return tuple(task for task in running if not task._slot.traffic.table.unread.full)
        return tuple(task for task in running if task._slot.traffic.table.room > 0 and not task._slot.traffic.closed)

    def _wake_one(self) -> None:
        """Have a task started, one that sleeps or was never started, for the calls that wait, unless enough are on
        their way."""
        tasks = list(self)
        coming = sum(task.state is State.STARTING for task in tasks)
        sleeper = next((task for task in tasks if task.state in (State.ASLEEP, State.NEW)), None)
        if sleeper is not None and coming < len(self._backlog.waiting):
            sleeper._slot.wake()

    def _choose(self, candidates: tuple[Task, ...], call: Call) -> Task:
        """The strategy's choice, which now counts as taken. Raises StrategyError."""
        name = getattr(self._strategy, "name", type(self._strategy).__name__)
        try:
            if self._trusted:
                with self._strategy_lock:
                    task = self._strategy.next(candidates, call)
                    self._strategy.start(task, call)
            else:
                task = self._strategy.next(candidates, call)
                if task in candidates:
                    self._strategy.start(task, call)
        except Exception as error:
            raise StrategyError(
                f"strategy {name!r} raised {type(error).__name__} for {call.title}: {error}", strategy=name
            ) from error
        if hasattr(task, "__await__") and hasattr(task, "close"):
            task.close()  # a coroutine, which nobody will await
        if task not in candidates:
            raise StrategyError(f"strategy {name!r} chose {task!r}, which is not among the candidates", strategy=name)
        return cast(Task, task)

    def _hopeless(self) -> bool:
        """True when no task takes calls now or later."""
        return not any(task._slot.life.accepts or task.state is State.NEW for task in self._members.values())

    def _why_hopeless(self) -> NotRunning:
        reasons = [str(task._slot.life.refusal()) for task in self]
        return NotRunning(f"no task of worker {self.name!r} takes calls: {'; '.join(reasons) or 'it has none'}")

    # -- start and stop ----------------------------------------------------------------------------

    def _start_if_new(self) -> None:
        if any(task.state is State.NEW for task in self):
            with self._starting:
                tasks = list(self)
                if tasks and all(task.state is State.NEW for task in tasks):
                    self.start().mark_seen()

    def start(self) -> Reply:
        """Start the tasks that are not running. The Reply gives the worker once all are ready, or raises StartError."""
        with self._lock:
            self._stopping = False
        return super().start()

    def restart(self) -> Reply:
        """Restart every task. The Reply gives the worker once all are ready again, or raises StartError; or Stopped,
        when a task was being stopped, which is then not restarted."""
        with self._lock:
            self._stopping = False
        return super().restart()

    def stop(self, timeout: float | None = None) -> Reply:
        """Finish what runs, fail what waits with Stopped, and stop every task. The Reply gives the exit records."""
        with self._lock:
            self._stopping = True
            waiting = [*self._delays.take_all(), *self._backlog.take_all()]
            self._lock.notify_all()
        for call in waiting:
            call.reply.fail(Stopped(f"worker {self.name!r} was stopped"))
        self._settle_drained()
        return super().stop(timeout)

    def kill(self, *args: Any) -> Reply:
        """Make every child leave now; what waits fails with Stopped. The Reply gives the exit records."""
        self.stop().mark_seen()
        return super().kill(*args)

    def drain(self, timeout: float | None = None) -> Reply:
        """A Reply of the worker, once it has no open calls. Raises TimeoutError when it still has some after
        ``timeout`` seconds."""
        self._must_be_mine()
        reply = Reply(None, self.emitter.strand)
        reply.asked_by_listener = self.emitter.strand.here
        fail_after(reply, timeout, f"worker {self.name!r} still has open calls")
        with self._lock:
            self._drain_waiters.append(reply)
        self._settle_drained()
        return reply

    def _settle_drained(self) -> None:
        if not self._drain_waiters:
            return
        with self._lock:
            if not self._backlog.drained or self._delays:
                return
            replies, self._drain_waiters = self._drain_waiters, []
        for reply in replies:
            settle_in_order(self.emitter.strand, functools.partial(reply.settle, self), reply.asked_by_listener)

    # -- sight -------------------------------------------------------------------------------------

    def stats(self) -> WorkerStats:
        """The numbers of this moment."""
        tasks = list(self)
        states = collections.Counter(task.state.value for task in tasks)
        with self._lock:
            numbers = self._backlog.snapshot()
            numbers["queued"] += len(self._delays)
        restarts = sum(task.restarts for task in tasks)
        return WorkerStats(worker=self.name, size=len(tasks), states=dict(states), restarts=restarts, **numbers)


def _checked_size(size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size must be a whole number, not {size!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size!r}")
    return size
