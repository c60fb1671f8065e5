"""A world of a CloudWorker and its tasks: the whole product but for processes, threads and time."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from accounts import STRATEGIES
from ledger import Entry, Violation
from slot_world import MODES, OPTIONS, OVER, POLICIES, RECYCLING
from worlds import OnPurpose, World

from relieve_py import CallableTask, CloudWorker, ElasticSize
from relieve_py.backlog import ANSWERS, WHEN_FULL
from relieve_py.bundles import Bundle
from relieve_py.calls import DEFAULTS, Call, Mode
from relieve_py.errors import AlreadyRunning, RelieveError, Stopped
from relieve_py.lifecycle import State
from relieve_py.remote import Bound
from relieve_py.testing.scheduler import Scheduler, Stuck

ELASTIC = ElasticSize(1, 4, grow_after=0.5, shrink_after=3.0)
FLOW = ("pause", "resume", "flush")


def _calls_in(whole: Call) -> list[Call]:
    """Those of a bundle that are open, or a call by itself."""
    return whole.calls[whole.taken : whole.limit] if isinstance(whole, Bundle) else [whole]


class WorkerWorld(World):
    """A CloudWorker."""

    most_acts = 12
    most_steps_between = 20

    def __init__(self, choose: Callable[[int], int], scheduler: Scheduler, size: int | None = None) -> None:
        super().__init__(choose, scheduler)
        self.starts = self.exits = 0
        self.strategy = self.draw(STRATEGIES)(lambda: not self.calm and self.choose(20) == 19)
        self.stopped: set[str] = set()  # tasks that nobody wants to run
        self.gone: list[Any] = []  # tasks that were removed
        self.blocked = False  # a caller waits for room
        self.busy_timeout = self.draw((None, 3.0))
        task = CallableTask(
            "t.py",
            name="t",
            launcher=self.launcher,
            restart=self.draw(POLICIES),
            start_timeout=self.draw((30.0, 2.0)),
            recycle=self.draw(RECYCLING),
            heartbeat=self.draw((None, None, None, 4.0)),
            busy_timeout=self.busy_timeout,
        )
        task.on("start", self._hear_start)
        task.on("exit", self._hear_exit)
        task.on("*", self._raise)
        self.worker = CloudWorker(
            task,
            size=size or self.draw((2, 1, 3, 6) if self.strategy.waits else (2, 1, 3, 6, ELASTIC)),
            strategy=self.strategy,
            max_pending=self.draw((None, None, 2)),
            when_full=self.draw((*WHEN_FULL, lambda call: self.draw(ANSWERS))),
            name="w",
        )
        self.worker.on("*", self._raise)
        for each in self.worker:
            self.hurry(each._slot.traffic)

    def _hear_start(self, record: Any) -> None:
        self.starts += 1

    def _hear_exit(self, record: Any) -> None:
        self.exits += record.pid is not None

    def _raise(self, *args: Any) -> None:
        raise OnPurpose

    # -- what users ask ----------------------------------------------------------------------------

    def submit(self) -> None:
        """A call to the worker, or to one of its tasks."""
        if self.worker.paused and self.worker.full:  # who waits for room is the only one who could go on here
            self.worker.resume()
        mode = self.draw(MODES)
        entry = Entry(len(self.entries), mode, self.draw(OPTIONS) if mode is not Mode.EVENT else DEFAULTS)
        direct = self.choose(8) == 7
        target: Any = self.draw(list(self.worker)) if direct and len(self.worker) else self.worker
        entry.to_worker = target is self.worker
        ask = getattr(target if mode is Mode.EVENT else Bound(target, entry.options), mode.name.lower(), target.send)

        def submit() -> Any:
            reply = ask("work", entry.index)
            entry.call = reply._call
            if entry.call is not None:
                self.by_data[bytes(entry.call.payload.data)] = entry
            return reply

        try:
            self.enter_call(entry, submit)
        except (RelieveError, Stuck):
            self.entries.remove(entry)

    def ask(self) -> None:
        """Start, stop and the like, of the worker or of one task."""
        whole = self.choose(2) == 0 or not len(self.worker)
        target: Any = self.worker if whole else self.draw(list(self.worker))
        what = self.draw(("restart", "stop", "start", "stop now", "kill", "drain", "reload", "resize", "remove", *FLOW))
        if what == "remove" and not len(self.worker):
            return
        tasks = list(self.worker) if whole else [target]
        if what in FLOW:
            what, target, tasks = (what, self.worker, [])
        try:
            reply = self._ask(what, target)
        except (AlreadyRunning, Stopped):
            if whole or what not in ("start", "restart", "reload"):
                raise
            return
        names = {task.name for task in tasks}
        if what in ("stop", "stop now", "kill"):
            self.stopped |= names
        elif what in ("start", "restart", "reload"):
            self.stopped -= names
        if reply is not None:
            reply.mark_seen()
            self.asked.append((what, reply))

    def _ask(self, what: str, target: Any) -> Any:
        match what:
            case "stop now":
                return target.stop(0.0)
            case "kill":
                return target.kill(self.draw((signal.SIGKILL, signal.SIGTERM)))
            case "drain" | "flush":
                return getattr(target, what)(self.draw((None, 2.0)))
            case "resize":
                before = list(self.worker)
                reply = self.worker.resize(self.draw((1, 2, 4) if self.strategy.waits else (1, 2, 4, ELASTIC)))
                self._left([task for task in before if task not in list(self.worker)])
                return reply
            case "remove":
                task = self.draw(list(self.worker))
                reply = self.worker.remove(task)
                self._left([task])
                return reply
        return getattr(target, what)()

    def _left(self, tasks: list[Any]) -> None:
        self.gone += tasks
        self.stopped |= {task.name for task in tasks}

    # -- what holds --------------------------------------------------------------------------------

    def launching(self, name: str) -> None:
        if name in self.stopped:
            raise Violation(f"rule 3: {name} is started again after it was stopped")

    def refuses(self) -> bool:
        return True

    def check(self) -> None:
        self._left([task for task in self.worker._leaving if task not in self.gone])
        if self.strategy.broken:
            raise Violation(self.strategy.broken)

    def check_rest(self) -> None:
        worker, dispatcher = self.worker, self.worker._dispatcher
        backlog = dispatcher.backlog
        open_calls = 0
        for task in (*worker, *self.gone):
            table = task._slot.traffic.table
            sent = [call for whole in table.sent.values() if whole is not None for call in _calls_in(whole)]
            open_calls += sum(call.home is dispatcher for call in (*sent, *table.waiting))
            state = task._slot.life.state
            if state in OVER and (table.sent or table.waiting):
                raise Violation(f"rule 1: calls are left on {task.name}, which is {state.value}")
        if open_calls != backlog.out:
            raise Violation(f"rule 6: {backlog.out} calls are counted as out, and {open_calls} are")
        if self.strategy.open != open_calls:
            raise Violation(f"rule 6: the strategy counts {self.strategy.open} calls, and there are {open_calls}")
        heads = backlog.waiting.heads()
        if not worker.paused and any(self._takers(head) for head in heads):
            raise Violation("rule 6: a call waits although a task has room for it")
        if heads and not any(task._slot.life.accepts or task.state is State.NEW for task in worker):
            raise Violation("rule 1: a call waits for tasks that will never take one")
        if dispatcher.drain_waiters and backlog.drained and not dispatcher.delays:
            raise Violation("rule 1: a drain is waited for and there is nothing left")

    def _takers(self, call: Any) -> list[str]:
        """Who could take the call, found by looking at each, as the worker itself does not."""
        found = []
        for task in self.worker:
            traffic = task._slot.traffic
            room = not traffic.table.unread.full if call.mode is Mode.EVENT else traffic.table.room > 0
            if task.state is State.READY and (
                self.strategy.waits or (room and (call.mode is Mode.EVENT or not traffic.closed))
            ):
                found.append(task.name)
        known = [task.name for task in self.worker._dispatcher.rosters.all.candidates(call).ordered()]
        if found != known:
            raise Violation(f"rule 6: {found} could take a call, and the worker knows {known}")
        return found

    def finish(self) -> None:
        """All goes well from here on: every call settles, and then a stop does."""
        self.become_calm()
        self.worker.resume()
        self.settle_down(lambda: not any(entry.open for entry in self.entries))
        for entry in self.entries:
            entry.check_outcome()
        self.asked.append(("stop", self.worker.stop()))
        self.stopped |= {task.name for task in self.worker}
        self.settle_down(lambda: False)
        for what, reply in self.asked:
            if not reply.done():
                raise Violation(f"rule 1: {what}() never settles")
            reply.mark_seen()
        if self.living():
            raise Violation(f"rule 11: {self.living()} are left at the end")
        for task in (*self.worker, *self.gone):
            table = task._slot.traffic.table
            left = (table.load, table.sent, task._slot.traffic._deadlines.timers, table.unread.events)
            if any(left) or task.state not in (State.STOPPED, State.FAILED):
                raise Violation(f"rule 6: left at the end of {task!r}: {left}")
        if self.starts != self.exits:
            raise Violation(f"rule 2: {self.starts} starts were told and {self.exits} exits")
