"""A child that is made ready beside the one that a slot has, to take its place."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable

from relieve_py import locks
from relieve_py.birth import Birth
from relieve_py.errors import ProtocolError, RelieveError, StartError
from relieve_py.lifecycle import signal_name
from relieve_py.line import Line
from relieve_py.messages import exports_of, start_error_of
from relieve_py.recipe import Recipe
from relieve_py.records import Records
from relieve_py.serializers import Serializer
from relieve_py.supervisor import Supervisor, Timer
from relieve_py.wire import Frame, Kind

EARLY = 1000
"""Frames of a spare that are kept until a slot takes it. Less: one that says much, as by events, is held back; more:
memory."""


def _nobody(spare: Spare) -> None:
    """Is told when nobody else is."""


class Spare:
    """One child from its launch until a slot takes it, or it is discarded. All on the I/O thread unless said
    otherwise."""

    def __init__(
        self, supervisor: Supervisor, serializer: Serializer, name: str, settled: Callable[[Spare], object]
    ) -> None:
        self.exports: tuple[str, ...] | None = None  # once it is ready
        self.ready_at: float | None = None  # when it became so
        self.error: RelieveError | None = None  # once it cannot become so
        self.early: list[Frame] = []  # what it said before it had a slot that could hear it
        self.ended: Callable[[Spare], object] = _nobody  # told when there is no child any more, unless that was given
        self._leaving = False  # it was asked to
        self._name = name
        self._settled = settled
        self._supervisor = supervisor
        self._serializer = serializer
        self._line = Line(self, supervisor, locks.new())  # owner of the lock: the I/O thread, which uses the line
        self.birth: Birth | None = None  # until a slot takes it, or it has ended
        self._timer: Timer | None = None  # until then; it would keep this, and the task, until it is due

    @property
    def ready(self) -> bool:
        """True while it can take a slot."""
        birth = self.birth
        return self.exports is not None and birth is not None and birth.process is not None and not birth.hung_up

    @property
    def over(self) -> bool:
        """True once it was launched and there is no child of it any more: it has ended, or was given or discarded."""
        return self.birth is None

    def launch(self, recipe: Recipe, start_timeout: float | None) -> None:
        """Have the child made. Raises what making its first frame, its cradle, and a launcher raise."""
        boot = recipe.first_frame()
        birth = self.birth = Birth(self, 0, recipe.cradle())
        with self._line.lock:
            self._line.open(birth)
            self._line.post(boot)
        birth.launch(recipe.launcher)
        if start_timeout is not None:
            due = self._supervisor.now() + start_timeout
            self._timer = self._supervisor.at(due, self._too_late, start_timeout)

    def give(self) -> Birth:
        """The child, whose line the caller opens. Only while ``ready``."""
        birth, self.birth = self.birth, None
        assert birth is not None
        self._disarm()
        with self._line.lock:
            self._line.release(birth)
        return birth

    def dismiss(self, kill_timeout: float) -> None:
        """It is not wanted any more; if it is ready, its ``stop()`` runs first, for so many seconds."""
        if not self.ready or self._leaving:
            self.discard()
            return
        self._leaving = True
        assert self.birth is not None
        with self._line.lock:
            self._line.post(Frame(Kind.STOP))
        self._disarm()
        self._timer = self._supervisor.at(self._supervisor.now() + kill_timeout, self.discard)

    def discard(self) -> None:
        """It is not wanted any more, and killed."""
        birth = self.birth
        if birth is None:
            return
        if birth.process is not None:
            birth.process.signal(signal.SIGKILL)  # and it is let go when it was reaped
        else:
            birth.abandon()
            self._close(birth)

    def forget(self) -> None:
        """In a process that was just forked: the child belongs to the original."""
        self._line.forget(locks.new())
        self.birth = None

    def _fail(self, error: RelieveError) -> None:
        if self.error is None and self.exports is None:
            self.error = error
            self._settled(self)

    def _too_late(self, start_timeout: float) -> None:
        if self.exports is None and self.error is None:
            error = self._start_error(f"was not ready after {start_timeout:g} seconds (start_timeout)")
            if self.birth is not None and self.birth.held_up_by is not None:
                error.add_note(f"its launch was waiting for {self.birth.held_up_by}")
            self._fail(error)
            self.discard()

    def _start_error(self, what: str) -> StartError:
        return StartError(f"the next child of task {self._name!r} {what}", task=self._name)

    def _close(self, birth: Birth) -> None:
        self.birth = None
        self._disarm()
        self._line.close(birth)
        self.ended(self)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what becomes of the launch ----------------------------------------------------------------

    def born(self, birth: Birth) -> None:
        """The child exists."""
        self._line.born(birth)

    def unborn(self, birth: Birth, error: Exception) -> None:
        """The system would not make it."""
        self._close(birth)
        self._fail(self._start_error(f"could not be launched: {error}"))

    def lost(self, birth: Birth) -> None:
        """The server died over the launch."""
        self._close(birth)
        self._fail(self._start_error("could not be launched: the server process died"))

    def died(self, birth: Birth, code: int | None, signum: int | None) -> None:
        """It was reaped. Why it could not start was said before."""
        if self._line.read_out(birth, code, signum):
            notes = birth.remains(signum).notes()
            self._close(birth)
            how = f"exit code {code}" if signum is None else f"killed by {signal_name(signum)}"
            error = self._start_error(f"ended before it was ready: {how}")
            for note in notes:
                error.add_note(note)
            self._fail(error)

    # -- what the child says -----------------------------------------------------------------------

    @functools.cached_property
    def _records(self) -> Records:
        return Records(self._name)

    def heard(self, birth: Birth, frame: Frame) -> None:
        """A frame of the child. Raises ProtocolError for one that a child without calls must not send."""
        match frame.kind:
            case Kind.READY:
                if birth.reaped:  # all that came of it came at once
                    return
                self.exports, self.ready_at = exports_of(frame), self._supervisor.now()
                if self.ready:
                    self._settled(self)
            case Kind.RECORD:  # also of one that will not become ready
                self._records.put(frame.payload)
            case Kind.FAILED:
                self._fail(start_error_of(self._serializer, frame, self._name))
            case Kind.EVENT | Kind.BUSY | Kind.IDLE | Kind.DRAIN | Kind.RETIRE | Kind.LEAVING:
                self.early.append(frame)
                if len(self.early) >= EARLY:  # it waits then, as for any pipe that is full
                    self._supervisor.interest(birth.channel.fileno(), False, False)
            case _:
                raise ProtocolError(f"a child must not send a frame of kind {frame.kind} before it has a call")

    def broke_protocol(self, birth: Birth, error: Exception) -> None:
        """What it sent cannot be understood."""
        self._fail(self._start_error(f"broke the protocol: {error}"))
        self.discard()

    def hung_up(self, birth: Birth) -> None:
        """The channel has ended: its exit follows, or is made to."""
        self.discard()

    def interrupted(self, reading: bool) -> None:
        """No caller reads a spare's channel."""
