"""The births and deaths of a slot's children, one after another: from the decision to launch to what a death leaves."""

from __future__ import annotations

import signal
from typing import Protocol

from relieve_py.birth import Birth
from relieve_py.errors import ProtocolError, RelieveError, StartError
from relieve_py.host import Host
from relieve_py.instructions import Instruction
from relieve_py.lifecycle import State
from relieve_py.limits import Limits
from relieve_py.line import Line
from relieve_py.recipe import Recipe
from relieve_py.spare import Spare
from relieve_py.supervisor import Supervisor
from relieve_py.traffic import Traffic
from relieve_py.wire import Frame, Kind

UNBORN_GRACE = 0.5
"""Seconds between the kill of a child that does not exist yet and the end of its launch, which may be under way in a
server that is busy, or frozen. Less: a child may run for a moment after its kill was reported; more: start_timeout is
exceeded by so much."""
LAUNCH_TRIES = 3
"""How often a launch is tried again when the server process died over it."""


class Household(Host, Protocol):
    """The slot whose children these are."""

    traffic: Traffic

    def launch(self, generation: int) -> None:
        """I/O thread: have a child, unless that has been overtaken by events."""
        ...

    def heard(self, birth: Birth, frame: Frame) -> None:
        """A frame of the child. Raises ProtocolError for one that a child must not send."""
        ...

    def broke_protocol(self, birth: Birth, error: Exception) -> None:
        """What it sent cannot be understood."""
        ...


class Births:
    """Makes one child after another on the slot's line. On the I/O thread, unless it is said otherwise."""

    def __init__(self, host: Household, line: Line, supervisor: Supervisor, recipe: Recipe, limits: Limits) -> None:
        self._host = host
        self._line = line
        self._supervisor = supervisor
        self._recipe = recipe
        self._limits = limits
        self._tries = 0
        self._pending_signal: int | None = None  # for a child whose launch is under way

    # -- before it exists --------------------------------------------------------------------------

    def order(self, generation: int) -> None:
        """Under the lock, on any thread: have a child of that generation launched."""
        self._tries = 0
        self._pending_signal = None
        self._supervisor.post(self._host.launch, generation)

    def signal(self, signum: int) -> None:
        """Under the lock, on any thread: signal the child that there is, or the one that is being made."""
        birth = self._line.birth
        if birth is not None and birth.process is not None:
            birth.signal(signum)
            return
        self._pending_signal = signum
        if signum == signal.SIGKILL:
            due = self._supervisor.now() + UNBORN_GRACE
            self._supervisor.at(due, self._abandon, self._host.life.generation)

    def make(self, generation: int) -> None:
        """Have a new child made."""
        try:
            boot = self._recipe.first_frame()
            cradle = self._recipe.cradle()
        except (OSError, RelieveError) as error:
            self._not_launched(generation, error)
            return
        birth = Birth(self, generation, cradle)
        try:
            self._bring_forth(birth, boot)
        except Exception as error:  # a launcher is a plug-in
            self._line.close(birth)
            self._not_launched(generation, error)

    def _bring_forth(self, birth: Birth, boot: Frame) -> None:
        with self._line.lock:
            self._line.open(birth)
            self._line.post(boot)
            self._tell_a_late_stop()
        birth.launch(self._recipe.launcher)

    def _tell_a_late_stop(self) -> None:
        """Under the lock: the slot may have been stopped since it was looked at."""
        if self._host.life.state is State.STOPPING:
            self._line.post(Frame(Kind.STOP))

    def adopt(self, generation: int, spare: Spare) -> None:
        """Take a child that is ready already."""
        birth, names = spare.give(), spare.exports or ()
        birth.move(self, generation)
        with self._line.lock:
            self._line.open(birth)
            self._tell_a_late_stop()
        self.born(birth)
        self._host.traffic.keeper.fresh(spare.ready_at)
        self._host.act(lambda now: self._host.life.ready(generation, names, now))
        try:
            for frame in spare.early:
                self._host.heard(birth, frame)
        except ProtocolError as error:
            self._host.broke_protocol(birth, error)
        self._host.traffic.pump()

    # -- what becomes of the launch ----------------------------------------------------------------

    def born(self, birth: Birth) -> None:
        """The child exists."""
        life = self._host.life

        def decide(now: float) -> list[Instruction]:
            assert birth.process is not None
            if self._pending_signal is not None:
                birth.signal(self._pending_signal)
            if self._host.guard is not None:
                self._host.guard.attend()
            return life.launched(birth.generation, birth.process.pid, now)

        self._host.act(decide)
        self._line.born(birth)
        self._host.traffic.pump()

    def unborn(self, birth: Birth, error: Exception) -> None:
        """The system would not make it."""
        self._line.close(birth)
        self._not_launched(birth.generation, error)

    def lost(self, birth: Birth) -> None:
        """The server died over the launch: try again on a new channel, a few times."""
        self._line.close(birth)
        self._tries += 1
        if self._tries <= LAUNCH_TRIES:
            self._supervisor.post(self._host.launch, birth.generation)
        else:
            self._not_launched(birth.generation, OSError("the server process died again and again"))

    def _abandon(self, generation: int) -> None:
        """Whoever makes the child was told that it has to end, and has not even said that it exists."""
        birth = self._line.birth
        if birth is not None and birth.generation == generation and birth.process is None:
            if birth.held_up_by is not None:
                with self._line.lock:
                    self._host.life.explain(f"its launch was waiting for {birth.held_up_by}")
            birth.abandon()
            self.died(birth, None, None)

    def _not_launched(self, generation: int, error: BaseException) -> None:
        life = self._host.life
        failure = StartError(f"task {life.name!r} could not be launched: {error}", task=life.name)
        failure.__cause__ = error

        def decide(now: float) -> list[Instruction]:
            return [*life.start_failed(generation, failure, now), *life.exited(generation, None, None, now)]

        self._host.act(decide)

    # -- its end -----------------------------------------------------------------------------------

    def died(self, birth: Birth, code: int | None, signum: int | None) -> None:
        """It was reaped. What it had still said is read first, by whoever has the turn to read."""
        if not self._line.read_out(birth, code, signum):
            return
        remains = birth.remains(signum, self._limits)
        life = self._host.life
        with self._line.lock:
            table = self._host.traffic.table
            blamed, worked = table.blames(birth.begun), table.finished > 0
        fate = getattr(birth.process, "fate", None)  # a launcher is a plug-in, and its processes may know none

        def decide(now: float) -> list[Instruction]:
            if fate is not None and birth.generation == life.generation:
                life.forced = life.forced or fate
            return life.exited(birth.generation, code, signum, now, blamed=blamed, worked=worked, remains=remains)

        self._host.act(decide)
        self._line.close(birth)
