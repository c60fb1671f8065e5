"""A world of one slot: the real slot, its calls and its line, with nothing above them. This is the quick one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from ledger import Entry, Violation
from worlds import World

from relieve_py.calls import DEFAULTS, Call, CallOptions, Mode
from relieve_py.child.boot import Plan
from relieve_py.errors import RelieveError
from relieve_py.events import Started, StateChanged
from relieve_py.exits import Exit
from relieve_py.lifecycle import Lifecycle, State
from relieve_py.policies import UNCHANGED, RecyclePolicy, RestartPolicy, RetryPolicy
from relieve_py.recipe import Recipe
from relieve_py.serializers import Payload, PickleSerializer
from relieve_py.slot import Slot
from relieve_py.strands import Strand
from relieve_py.supervisor import Timer
from relieve_py.surroundings import Surroundings
from relieve_py.table import CallTable
from relieve_py.testing.children import SimulatedChild
from relieve_py.testing.scheduler import Scheduler
from relieve_py.upkeep import Upkeep

OPTIONS = tuple(
    CallOptions(timeout=timeout, queue_timeout=turn, retries=retries, poison_after=poison, priority=priority)
    for timeout, turn, retries, poison, priority in (
        *((None, None, RetryPolicy(), 3, 0),) * 4,
        (0.5, None, RetryPolicy(), 3, 1),
        (3.0, 1.0, RetryPolicy(max=1), 3, 0),
        (None, None, RetryPolicy(max=2), 2, 2),
        (None, 4.0, RetryPolicy(max=3, delay=1.0, backoff=2.0), 3, -1),
        (None, None, RetryPolicy(max=2, on=(ValueError,)), None, 0),
    )
)
RECYCLING = (
    *(UNCHANGED,) * 4,
    RecyclePolicy(max_calls=2),
    RecyclePolicy(max_age=5.0),
    RecyclePolicy(idle=0.5),
    RecyclePolicy(max_calls=1, idle=1.0),
)
POLICIES = (
    *(RestartPolicy(),) * 4,
    RestartPolicy(mode="on-failure", delay=1.0),
    RestartPolicy(mode="never"),
    RestartPolicy(max_restarts=1, within=5.0),
)
MODES = (Mode.GET, Mode.GET, Mode.GET, Mode.CALL, Mode.STREAM, Mode.EVENT)
SERIALIZER = PickleSerializer()
OBJECTS = Payload(b"")
PLAN = Plan(
    name="t",
    kind="path",
    script="t.py",
    program=False,
    ready_on_call=False,
    cwd=None,
    sys_path=[],
    concurrency=1,
    limits={},
    dump_stacks=False,
)
OVER = (State.STOPPED, State.FAILED)


def table_waits(table: CallTable) -> bool:
    """It has calls that a child should be given."""
    return bool(table.waiting or table.sent)


class Told:
    """The owner of the slot: what it is told has to make sense."""

    def __init__(self, children: list[SimulatedChild]) -> None:
        self.children = children
        self.state = State.NEW
        self.started = self.ended = 0

    @property
    def face(self) -> Any:
        return self

    def tell(self, name: str, record: Any, told: bool = False) -> None:
        if isinstance(record, StateChanged):
            if record.before is not self.state:
                raise Violation(f"it is told to move from {record.before}, and was {self.state}")
            self.state = record.after
        elif name == "start" and isinstance(record, Started):
            self.started += 1
        elif name == "ready" and self.started != self.ended + 1:
            raise Violation("it is told to be ready and has no child")
        elif name == "exit" and isinstance(record, Exit) and record.pid is not None:
            self.ended += 1
            if not any(child.pid == record.pid and child.ended(record.code, record.signal) for child in self.children):
                raise Violation(f"it is told of an exit that was otherwise: {record}")

    def deliver(self, name: str, args: list[Any]) -> None:
        """An event of the child."""

    def answer(self, name: str, args: list[Any], give: Callable[[Any, BaseException | None], object]) -> None:
        give(None, None)

    def nothing_will_come(self, error: BaseException) -> None:
        """Nobody waits."""

    def call_failed(self, call: Call, error: BaseException) -> None:
        """Of a call without an answer."""


class SlotWorld(World):
    """One slot."""

    most_acts = 10
    most_steps_between = 14

    def __init__(self, choose: Callable[[int], int], scheduler: Scheduler) -> None:
        super().__init__(choose, scheduler)
        self.told = Told(self.launcher.children)
        self.strand = Strand()
        start_timeout = self.draw((30.0, 2.0, None))
        heartbeat = self.draw((None, None, None, 4.0))
        life = Lifecycle("t", self.draw(POLICIES), start_timeout, 5.0, self.scheduler.chance, heartbeat)
        recycling = self.draw(RECYCLING)
        self.busy_timeout = self.draw((None, 3.0))
        recipe = Recipe(self.launcher, PLAN, lambda: OBJECTS, Surroundings())
        self.slot = Slot(
            self.told,
            self.scheduler,
            life,
            recipe,
            SERIALIZER,
            self.strand,
            upkeep=Upkeep(recycling, self.scheduler.chance, self.busy_timeout),
            spares=self.draw((0, 0, 1, 2)),
        )
        self.life = life
        self.table = self.slot.traffic.table
        self.hurry(self.slot.traffic)
        self.last_begun: dict[int, int] = {}  # the index of an entry, by priority
        self.wanted = True  # nobody has stopped it since it was last started

    # -- what users ask ----------------------------------------------------------------------------

    def submit(self) -> None:
        """A call."""
        mode = self.draw(MODES)
        entry = Entry(len(self.entries), mode, self.draw(OPTIONS) if mode is not Mode.EVENT else DEFAULTS)
        call = entry.call = Call(entry.mode, "work", entry.options)
        call.payload = Payload(b"%d" % entry.index)
        self.by_data[b"%d" % entry.index] = entry
        reply = call.make_reply(self.strand)

        def submit() -> Any:
            self.slot.traffic.submit(call)
            return reply

        self.enter_call(entry, submit)

    def ask(self) -> None:
        """Start, stop and the like."""
        what = self.draw(
            ("restart", "stop", "start", "stop now", "kill", "wait", "until ready", "drain", "reload", "reload")
        )
        slot = self.slot
        calm_stop = what in ("stop", "stop now", "kill")
        try:
            match what:
                case "restart":
                    reply = slot.restart()
                    self.wanted = True
                case "reload":
                    reply = slot.reload()
                    self.wanted = True
                case "start":
                    reply = slot.start()
                    self.wanted = True
                case "stop":
                    reply = slot.stop()
                case "stop now":
                    reply = slot.stop(0.0)
                case "kill":
                    reply = slot.kill(self.draw((signal.SIGKILL, signal.SIGTERM)))
                case "wait":
                    reply = slot.until_exit()
                case "until ready":
                    reply = slot.until_ready()
                case _:
                    reply = slot.drain(self.draw((None, 2.0)))
        except RelieveError:
            return
        if calm_stop:
            self.wanted = False
        reply.mark_seen()
        self.asked.append((what, reply))

    def launching(self, name: str) -> None:
        if not self.wanted:
            raise Violation("rule 3: a stopped task is started again")

    def refuses(self) -> bool:
        return not self.life.accepts

    # -- what holds --------------------------------------------------------------------------------

    def check(self) -> None:
        table, life = self.table, self.life
        running = 0
        for call in table.sent.values():
            running += call is None or call.mode is not Mode.EVENT
        if running != table.running or not 0 <= running <= table.concurrency:
            raise Violation(f"rule 6: {table.running} calls are counted and {running} run")
        if self.told.state is not life.state:
            raise Violation(f"it is {life.state} and was told to be {self.told.state}")

    def begins(self, entry: Entry) -> None:
        assert entry.call is not None
        if len(entry.tries) == 1 and not entry.call.causes:
            last = self.last_begun.get(entry.options.priority, 0)
            if entry.index < last:
                raise Violation(f"rule 4: {entry} begins after {self.entries[last]}")
            self.last_begun[entry.options.priority] = entry.index

    def check_rest(self) -> None:
        self._check_children()
        self._check_calls()
        self._check_waiters()

    def _check_calls(self) -> None:
        table, state = self.table, self.life.state
        if state is State.READY and table.waiting and table.running < table.concurrency and not self._closed():
            raise Violation("rule 6: a call waits although there is room")
        if state in OVER and (table.sent or table.waiting):
            raise Violation(f"rule 1: calls are left on a task that is {state.value}")
        timers = self.slot.traffic._deadlines.timers
        if self._pending(self.slot._timers.get("ladder")):
            return  # the child is being ended
        for number, call in table.sent.items():
            if (call is None or call.timeout is not None) and not self._pending(timers.get(number)):
                raise Violation(f"rule 1: nothing ends {call or 'a call that was given up'}")

    def _closed(self) -> bool:
        """True when the child takes no calls, and this will end."""
        ended = self.life.forced is not None and self._pending(self.slot._timers.get("ladder"))
        return self.slot.traffic._upkeep.busy or ended or (self.slot.traffic.closed and self.table.running > 0)

    def _check_waiters(self) -> None:
        slot, state = self.slot, self.life.state
        if slot._start_waiters and (not self.life.accepts or state is State.ASLEEP):
            raise Violation(f"rule 1: a start is waited for on a task that is {state.value}")
        if slot._stop_waiters and state in OVER:
            raise Violation(f"rule 1: a stop is waited for on a task that is {state.value}")
        traffic = slot.traffic
        if traffic._drain_waiters and not (self.table.load or traffic._delays or traffic._deciding):
            raise Violation("rule 1: a drain is waited for and there is nothing left")

    def _pending(self, timer: Timer | None) -> bool:
        return timer is not None and timer.function is not None and timer.at > self.scheduler.now()

    def _check_children(self) -> None:
        state, timers = self.life.state, self.slot._timers
        if state is State.WAITING and not self._pending(timers.get("restart")):
            raise Violation("rule 1: it waits to restart and nothing restarts it")
        ladder = self._pending(timers.get("ladder"))
        if state is State.STOPPING and not (ladder or self._pending(timers.get("grace"))):
            raise Violation("rule 1: it is stopping and nothing ends it")
        if state is State.STARTING and self.life.start_timeout and not (ladder or self._pending(timers.get("start"))):
            raise Violation("rule 1: it is starting and nothing ends it")
        beside = [self.slot._reload.coming, *self.slot._reserve.births]
        spares = [birth.cradle.child for birth in beside if birth is not None]
        living = [child for child in self.living() if child not in spares]
        if len(living) > 1:
            raise Violation(f"rule 11: it has the children {living}")
        if state in (*OVER, State.NEW, State.ASLEEP) and living:
            raise Violation(f"rule 11: {living} outlives its task, which is {state.value}")
        if state in (State.READY, State.STARTING, State.STOPPING) and not living:
            raise Violation(f"rule 1: it is {state.value} and has no child")
        if state is State.ASLEEP and table_waits(self.table):
            raise Violation("rule 1: it sleeps and has calls")

    def finish(self) -> None:
        """All goes well from here on: every call settles, and then a stop does."""
        self.become_calm()
        self.settle_down(lambda: not any(entry.open for entry in self.entries))
        for entry in self.entries:
            entry.check_outcome()
        self.asked.append(("stop", self.slot.stop()))
        self.wanted = False
        self.settle_down(lambda: False)
        for what, reply in self.asked:
            if not reply.done():
                raise Violation(f"rule 1: {what}() never settles")
            reply.mark_seen()
        table = self.table
        left = (table.load, table.sent, self.slot.traffic._deadlines.timers, table.unread.events)
        if any(left):
            raise Violation(f"rule 6: left at the end: {left}")
        if self.slot._reserve.births:
            raise Violation(f"rule 11: spares outlive their task: {self.slot._reserve.births}")
        if self.told.started != self.told.ended:
            raise Violation(f"rule 2: {self.told.started} starts were told and {self.told.ended} exits")
