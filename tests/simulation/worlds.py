"""The world around the product in a random history: what users ask, what befalls children, and what must hold."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from acting import Actor
from ledger import Entry, Violation

from relieve_py.calls import Mode
from relieve_py.slot import leave_out
from relieve_py.testing.children import SimulatedChild
from relieve_py.testing.launching import SimulatedCradle, SimulatedLauncher
from relieve_py.testing.scheduler import Scheduler
from relieve_py.traffic import Traffic
from relieve_py.wire import Frame

T = TypeVar("T")
W = TypeVar("W", bound="World")

PATIENCE = 300.0
"""Seconds after which what has not happened when all goes well never will."""
ENOUGH = 20_000
"""Steps after which a history counts as endless."""


class Launches(SimulatedLauncher):
    """A launcher whose world is told of each launch."""

    world: World

    def cradle(self, name: str, env: dict[str, str]) -> SimulatedCradle:
        self.world.launching(name)
        return super().cradle(name, env)


class LogWatch(logging.Handler):
    """Sees what the product logs. Of its own faults it says 'please report this', and of what raises on a strand, that
    a callback raised; only what the world itself raises there may."""

    fault: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told = str(record.msg)
        if error is not None and not isinstance(error, OnPurpose) and ("callback" in told or "report" in told):
            LogWatch.fault = error


class OnPurpose(RuntimeError):
    """What the users of a world raise."""


class World(ABC):
    """What every world has: chance, a clock, children, and a ledger of calls."""

    trace: Callable[[str], object] | None = None  # of all worlds
    most_acts: ClassVar[int]
    most_steps_between: ClassVar[int]

    def __init__(self, choose: Callable[[int], int], scheduler: Scheduler) -> None:
        self.choose = choose
        self.scheduler = scheduler
        Violation.last = LogWatch.fault = None
        self.calm = False  # from here on all goes well
        self.busy_timeout: float | None = None  # of its tasks
        self.launcher = Launches(self.scheduler, self._actor, self.draw((1000, 1000, 2)))
        self.launcher.world = self
        self.entries: list[Entry] = []
        self.by_data: dict[bytes, Entry] = {}
        self.asked: list[tuple[str, Any]] = []  # replies of start(), stop() and the like
        self.steps = 0

    def draw(self, table: Sequence[T]) -> T:
        """One of these; when all is well, the first."""
        drawn = table[self.choose(len(table))] if not self.calm else table[0]
        self.note("draw", drawn)
        return drawn

    def hurry(self, traffic: Traffic) -> None:
        """Maybe it takes calls for so short that many are sent together."""
        traffic._chunking.rate.size = self.draw((1, 3, 100))

    def note(self, *what: object) -> None:
        """For who traces this history."""
        if self.trace is not None:
            self.trace(" ".join(("   *", *map(str, what))))

    def _actor(self, child: SimulatedChild) -> Actor:
        return Actor(self, child)

    def entry_of(self, frame: Frame) -> Entry:
        """The call that a frame carries."""
        return self.by_data[bytes(frame.payload)]

    # -- going on ----------------------------------------------------------------------------------

    def step(self) -> bool:
        """One thing happens, and all rules hold; False when nothing can happen."""
        if not self.scheduler.step():
            return False
        if Violation.last is not None:
            raise Violation.last
        if LogWatch.fault is not None:
            fault, LogWatch.fault = LogWatch.fault, None
            raise Violation(f"the product failed: {fault!r}") from fault
        self.check()
        return True

    def run(self) -> None:
        """Until nothing can happen without time."""
        while self.step():
            self.steps += 1
            if self.steps > ENOUGH:
                raise Violation("rule 9: it never comes to rest")
        self.check_rest()

    def wait(self, seconds: float) -> None:
        """Let so much time pass, timer by timer."""
        until = self.scheduler.now() + seconds
        while (due := self.scheduler.next_timer()) is not None and due <= until:
            self.scheduler.advance(due)
            self.run()
        self.scheduler.advance(until)

    @abstractmethod
    def check(self) -> None:
        """What holds after every step."""

    @abstractmethod
    def check_rest(self) -> None:
        """What holds when nothing can happen without time."""

    def act(self) -> None:
        """One thing that users or the world do."""
        match self.choose(16):
            case 0 | 1 | 2 | 3 | 4 | 5:
                self.submit()
            case 6 | 7:
                self.cancel_one()
            case 8 | 9 | 10:
                self.strike()
            case 11 | 12:
                self.ask()
            case 13:
                self.wait(self.draw((0.1, 1.0, 6.0, 40.0)))
            case 14:
                self.read_streams()
            case 15:
                self.spoil_launches()

    @abstractmethod
    def submit(self) -> None:
        """The user makes a call."""

    @abstractmethod
    def ask(self) -> None:
        """The user asks for a start, a stop, and the like."""

    # -- calls -------------------------------------------------------------------------------------

    def enter_call(self, entry: Entry, submit: Callable[[], Any]) -> None:
        """Submit it, and note what becomes of it."""
        self.entries.append(entry)
        entry.reply = submit()
        if entry.mode is not Mode.STREAM:
            entry.reply.when_settled(lambda: self.settles(entry))

    def settles(self, entry: Entry) -> None:
        """The user has an answer."""
        entry.refused = self.refuses()
        entry.settles()

    @abstractmethod
    def launching(self, name: str) -> None:
        """A child of that task will be launched."""

    def begins(self, entry: Entry) -> None:  # noqa: B027 - not every world looks at it
        """A child begins a call."""

    @abstractmethod
    def refuses(self) -> bool:
        """True while a call may be refused: there is no child, and none will come."""

    def one_open(self) -> Entry | None:
        """A call that the user waits for."""
        waiting = [entry for entry in self.entries if entry.open]
        return self.draw(waiting) if waiting else None

    def cancel_one(self) -> None:
        """The user gives up a call."""
        entry = self.one_open()
        if entry is not None:
            entry.cancel()

    def read_streams(self) -> None:
        """The user takes what has come."""
        for entry in self.entries:
            if entry.mode is Mode.STREAM and entry.open:
                entry.refused = True  # when it was is not seen
                entry.read()

    # -- children ----------------------------------------------------------------------------------

    def living(self) -> list[SimulatedChild]:
        """The children that exist."""
        return [child for child in self.launcher.children if child.alive]

    def strike(self) -> None:
        """Something befalls a child from outside."""
        living = self.living()
        if not living:
            return
        child = self.draw(living)
        match self.draw(("die", "die", "exit", "freeze", "deaf", "thaw")):
            case "die":
                child.die(self.draw((9, 11)))
            case "exit":
                child.exit(self.draw((0, 1)))
            case "freeze":
                child.freeze()
            case "deaf":
                child.ignore()
            case "thaw":
                child.thaw()

    def spoil_launches(self) -> None:
        """The next launches are refused, or lost."""
        fate = self.draw(("lost", "refused"))
        many = self.draw((1, 2, 6))
        self.launcher.fates.extend(["lost" if fate == "lost" else OSError(11, "try again")] * many)

    # -- the end -----------------------------------------------------------------------------------

    def become_calm(self) -> None:
        """From here on nothing fails."""
        self.calm = True
        self.launcher.fates.clear()
        for child in self.living():
            child.thaw()
            child.look()

    def settle_down(self, done: Callable[[], bool]) -> None:
        """Let things happen, and time pass, until ``done()``, or nothing more will happen."""
        limit = self.scheduler.now() + PATIENCE
        while True:
            self.run()
            self.read_streams()
            due = self.scheduler.next_timer()
            if self.scheduler.pending:
                continue
            if done() or due is None or due > limit:
                return
            self.scheduler.advance(due)

    @abstractmethod
    def finish(self) -> None:
        """All goes well from here on: every call settles, and then a stop does."""


@contextmanager
def inhabited(kind: Callable[[Callable[[int], int], Scheduler], W], choose: Callable[[int], int]) -> Iterator[W]:
    """A world of that kind on this thread, which is left, as is this process, as it was."""
    scheduler = Scheduler(choose)
    scheduler.trace = World.trace
    scheduler.longest_wait = 4 * PATIENCE
    scheduler.enter()
    try:
        yield kind(choose, scheduler)
    finally:
        leave_out(scheduler)
        scheduler.leave()


def history(kind: type[World], choose: Callable[[int], int]) -> None:
    """One history of a world."""
    with inhabited(kind, choose) as world:
        world.submit()
        for _ in range(2 + choose(world.most_acts)):
            for _ in range(choose(world.most_steps_between)):
                if not world.step():
                    break
            world.act()
        world.finish()
