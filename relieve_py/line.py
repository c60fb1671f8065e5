"""The line to one slot's child: its channel, what is sent on it, and whose turn it is to read."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from relieve_py import locks, loops
from relieve_py.birth import Birth
from relieve_py.interruptions import raised_by_handler
from relieve_py.lending import COOL
from relieve_py.loops import QUICK, LoopReader
from relieve_py.supervisor import Supervisor
from relieve_py.turns import Turns
from relieve_py.wire import Frame

IO_THREAD, CALLERS = "the I/O thread", "callers"
"""Who reads a channel; or a LoopReader."""
PARKED = 0.001
"""Seconds after a caller's last read before the I/O thread reads that channel again. Less: more wake-ups beside a
caller in a loop; more: what the child says unasked after such a loop is heard later."""

AT_ONCE = 100
"""How often a channel is read at most to catch up: a child that never stops talking holds up nobody else."""


class Station(Protocol):
    """Who listens at this end. None of these is called under the slot's lock."""

    def heard(self, birth: Birth, frame: Frame) -> None:
        """A frame of the child; with the turn to read. Raises ProtocolError for one that a child must not send."""
        ...

    def broke_protocol(self, birth: Birth, error: Exception) -> None:
        """What came is no frame, or not one that a child may send."""
        ...

    def hung_up(self, birth: Birth) -> None:
        """The channel has ended."""
        ...

    def interrupted(self, reading: bool) -> None:
        """A signal handler has raised (as Ctrl-C does) in the middle of what a caller did with the calls or the
        channel. ``reading``: with the turn to read, so that frames are lost."""
        ...

    def died(self, birth: Birth, code: int | None, signum: int | None) -> None:
        """On the I/O thread: what was put off until the reader was done is due."""
        ...


class Line:
    """The channel of one child after another. Methods may be called from any thread unless they say otherwise."""

    def __init__(self, station: Station, supervisor: Supervisor, lock: locks.Lock) -> None:
        self.more: Callable[[], object] = bool  # whether answers are expected; set by whom they are for
        self.birth: Birth | None = None  # whose channel it is; set under the lock
        self.lock = lock  # owner: the slot's; see there
        self._station = station
        self._supervisor = supervisor
        self._turns = Turns()
        self._death: tuple[Birth, int | None, int | None] | None = None  # to be handled when the reader is done
        self._reader: str | LoopReader = IO_THREAD  # of the channel; set under the lock
        self._woke_loop_at = 0.0  # when the I/O thread did so last, by what it read
        self._unparking = False  # a timer will look whether they still do
        self._callers_reads = self._reads_seen = 0
        self._shared = False  # the I/O thread reads although a caller does
        self._sign_of_life = False  # something came, or was taken

    # -- one child's channel -----------------------------------------------------------------------

    def open(self, birth: Birth) -> None:
        """Under the lock: this child's channel is the line now. It is read once the launcher has told that the child
        exists, which it may do later than the child speaks."""
        self.birth = birth
        self._reader = IO_THREAD
        self._supervisor.watch(birth.channel.fileno(), functools.partial(self._on_channel, birth))
        birth.channel.attend(functools.partial(self._supervisor.post, self._tend, birth))
        self._update_interest()

    def born(self, birth: Birth) -> None:
        """The child exists."""
        with self.lock:
            if birth is self.birth:
                self._update_interest()

    def close(self, birth: Birth) -> None:
        """Let go of the child."""
        with self.lock:
            if self.birth is birth:
                self._leave_loop()
                self.birth = None
            self._supervisor.unwatch(birth.channel.fileno())
            birth.close()

    def release(self, birth: Birth) -> None:
        """Under the lock: another line takes this child's channel, as it is."""
        self._leave_loop()
        self.birth = None
        self._supervisor.unwatch(birth.channel.fileno())

    def forget(self, lock: locks.Lock) -> None:
        """In a process that was just forked: the child belongs to the original."""
        self.lock = lock
        self._turns = Turns()
        self._reader = IO_THREAD
        birth, self.birth = self.birth, None
        if birth is not None:
            birth.forget()

    def post(self, frame: Frame) -> None:
        """Under the lock: send a frame; what the socket does not take now is sent when it can."""
        birth = self.birth
        if birth is not None and not birth.channel.post(frame) and birth.channel.fileno() >= 0:
            self._update_interest()

    def _update_interest(self) -> None:
        """Under the lock: the I/O thread reads unless another does, and writes while something is left to write."""
        birth = self.birth
        if birth is not None and not birth.hung_up:
            read, write = birth.process is not None and self._reader is IO_THREAD, birth.channel.queued > 0
            self._supervisor.interest(birth.channel.fileno(), read, write)

    # -- callers that read -------------------------------------------------------------------------

    def read_until(self, over: Callable[[], bool], deadline: float | None) -> None:
        """Read on this thread until ``over()``, the deadline, or somebody else has to do it."""
        if self._supervisor.here:
            return
        locks.refuse_if_mine(self.lock)
        turns = self._turns
        if turns.has_place():
            if self._is_below(sys._getframe(1)):  # this is a signal handler
                self._share()
                return
            self._tidy_up()
        has_left = False
        try:
            try:
                if turns.take_place():
                    self._read_in_place(over, deadline)
                else:
                    self._share()
            finally:
                if turns.has_place():  # else it stood aside, or never had it
                    self._leave_place()
                has_left = True
        except BaseException:  # of a signal handler
            if not has_left:
                self._tidy_up()
            raise

    def _read_in_place(self, over: Callable[[], bool], deadline: float | None) -> None:
        birth = self.birth
        if birth is None or birth.hung_up or self._death is not None or over():
            return
        if self._reader is not CALLERS:
            self._give_to(CALLERS)
        fd = birth.channel.fileno()
        if fd < 0:  # since the look above
            return
        read = functools.partial(self._read_as_caller, birth)
        self._turns.wait(fd, lambda: self._death is not None or over(), read, deadline, self._leave_place)

    def _leave_place(self) -> None:
        self._turns.leave_place()
        self._shared = False
        if self._death is not None:
            self._hand_over()
        elif self.more():
            self._give_to(IO_THREAD)
        else:
            self._unpark_soon()
        self._callers_reads += 1

    def _is_below(self, frame: FrameType | None) -> bool:
        """This thread is in the middle of reading for a call that it has interrupted."""
        while frame is not None:
            if frame.f_code is Line.read_until.__code__ and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def _tidy_up(self) -> None:
        """A signal handler has raised in the middle of leaving the place: what was to be done there is done here."""
        if self._turns.has_place():
            self._turns.leave_place()
        self._shared = False
        self.broke_off()

    def attend(self) -> None:
        """Somebody waits without reading: another has to."""
        if self._reader is CALLERS and not self._turns.caller_reads:
            self._give_to(IO_THREAD)

    def attend_always(self) -> None:
        """Under the lock: who waits may not be the caller who reads, so the I/O thread has to."""
        if self._reader is CALLERS:
            self._read_by(IO_THREAD)

    def take_sign_of_life(self) -> bool:
        """True when the child has sent or taken anything since this was last asked."""
        sign, self._sign_of_life = self._sign_of_life, False
        return sign

    def broke_off(self) -> None:
        """A signal handler has raised in the middle of a caller's work on the calls, or on the channel."""
        self._station.interrupted(reading=False)
        self._hand_over()

    def nudge(self) -> None:
        """Something happened that a caller who reads may be waiting for."""
        self._turns.nudge()

    def _give_to(self, reader: str) -> None:
        with self.lock:
            self._read_by(reader)

    def _read_by(self, reader: str | LoopReader) -> None:
        """Under the lock: from now on it reads the channel."""
        self._leave_loop()
        self._reader = reader
        self._update_interest()

    def _unpark_soon(self) -> None:
        if not self._unparking:
            self._unparking = True
            try:
                self._supervisor.at(self._supervisor.now() + PARKED, self._unpark)
            except BaseException:  # of a signal handler
                self._unparking = False
                raise

    def _unpark(self) -> None:
        """I/O thread: read again, unless callers have done so since the last look."""
        if self._callers_reads != self._reads_seen or (self._turns.caller_reads and not self._shared):
            self._reads_seen = self._callers_reads
            self._supervisor.at(self._supervisor.now() + PARKED, self._unpark)
        else:
            self._unparking = False
            if self._reader is CALLERS:
                self._give_to(IO_THREAD)

    def _share(self) -> None:
        """Another caller reads. In the main thread a signal handler may keep it from that, which may even wait for this
        thread: the I/O thread reads, too."""
        if self._turns.main_thread_reads:
            with self.lock:
                self._shared = True
                self._read_by(IO_THREAD)

    def _read_as_caller(self, birth: Birth) -> bool:
        """Read once, unless the child is gone meanwhile."""
        try:
            return birth is self.birth and not birth.hung_up and self._receive(birth)
        except BaseException:  # of a signal handler
            self._station.interrupted(reading=True)
            raise

    def _hand_over(self) -> None:
        """The I/O thread reads again; deaths that waited for the reader are handled there."""
        with self.lock:
            self._read_by(IO_THREAD)
            death, self._death = self._death, None
        if death is not None:
            self._supervisor.post(self._station.died, *death)

    # -- event loops that read ---------------------------------------------------------------------

    def _woke(self, loop: LoopReader, birth: Birth) -> None:
        """I/O thread: what it read was for coroutines of that loop, which can read the next by itself.

        Not when there is more to come: while it runs other coroutines, the child would be kept waiting.
        """
        now = self._supervisor.now()
        before, self._woke_loop_at = self._woke_loop_at, now
        if now - before > QUICK or self.more():
            return
        with self.lock:
            if birth is not self.birth or birth.hung_up or self._reader is not IO_THREAD or self._turns.caller_reads:
                return
            read, give_back = functools.partial(self._read_in, loop, birth), functools.partial(self._take_back, loop)
            with contextlib.suppress(OSError):  # there is no room for one descriptor more
                loop.take(birth.channel.fileno(), read, give_back)
                self._read_by(loop)

    def _read_in(self, loop: LoopReader, birth: Birth) -> None:
        """In that loop: the same as ``_on_channel``, as long as it alone waits for what comes, and for no more."""
        if self._reader is not loop or birth is not self.birth or birth.hung_up:
            return
        try:
            loop.has_released = False
            if self._turns.take():
                self._receive(birth)
                self._turns.drop()
            self._turns.nudge()
            if self._death is not None:
                self._hand_over()
            elif self.more() or not loop.has_released:
                self._take_back(loop)
        except BaseException:  # of a signal handler, anywhere in here
            self._station.interrupted(reading=self._turns.mine)
            self._turns.drop()
            self._hand_over()
            self._turns.nudge()
            raise

    def _leave_loop(self) -> None:
        """Under the lock: the I/O thread is who reads what is left, if a loop was."""
        loop = self._reader
        if isinstance(loop, LoopReader):
            self._reader = IO_THREAD
            if self.birth is not None:
                loop.leave(self.birth.channel.fileno())

    def _take_back(self, loop: LoopReader) -> None:
        with self.lock:
            if self._reader is loop:
                self._read_by(IO_THREAD)

    # -- on the I/O thread -------------------------------------------------------------------------

    def _tend(self, birth: Birth, late: bool = False) -> None:
        """Large parts were lent, or could have been; ``late``: that was a while ago."""
        with self.lock:
            if birth is not self.birth or birth.hung_up:
                return
            again = birth.channel.tend(late)
            self._update_interest()
        if again:
            self._supervisor.at(self._supervisor.now() + COOL, self._tend, birth, True)

    def _on_channel(self, birth: Birth) -> None:
        """The channel can be read or written."""
        with self.lock:
            if birth is not self.birth or birth.hung_up:
                return
            if queued := birth.channel.queued:
                if birth.channel.flush():
                    self._update_interest()
                self._sign_of_life |= birth.channel.queued < queued
            if birth.process is None:
                return
            if self._turns.caller_reads and not self._shared:
                self._read_by(CALLERS)  # until it leaves its place
                return
        if self._turns.take():
            loops.of_thread.woke = None
            try:
                self._receive(birth)
            finally:
                self._turns.give_back()
            self._turns.nudge()  # a caller may have begun to wait meanwhile, for what was in there
            if self._death is not None:
                self._hand_over()
            elif (woke := loops.of_thread.woke) is not None and (loop := woke()) is not None:
                self._woke(loop, birth)
        else:  # who reads may be held up by a signal handler
            with self.lock:
                if self._reader is IO_THREAD:
                    self._read_by(CALLERS)
            self._unpark_soon()

    def catch_up(self) -> bool:
        """Read what has come already, which may be what somebody is about to give up; False when that is another's to
        do at this moment."""
        birth = self.birth
        if birth is None or birth.hung_up or birth.process is None:
            return True
        if not self._turns.take():
            return False
        try:
            for _ in range(AT_ONCE):
                if birth is not self.birth or birth.hung_up or not birth.channel.readable():
                    break
                self._receive(birth)
        finally:
            self._turns.give_back()
        self._turns.nudge()
        if self._death is not None:
            self._hand_over()
        return True

    def read_out(self, birth: Birth, code: int | None, signum: int | None) -> bool:
        """The child was reaped: read what it had still said.

        False when that is not to be done now: another reads, after whom the station hears of the death again, or it
        has been done.
        """
        with self.lock:
            self._death = birth, code, signum
        self._turns.nudge()
        if not self._turns.take():
            return False
        try:
            with self.lock:
                self._death = None
                known = birth is not self.birth  # the reader had posted this again, and that was first
            if not known:
                self._read_the_rest(birth)
        finally:
            self._turns.give_back()
        return not known

    def _read_the_rest(self, birth: Birth) -> None:
        birth.channel.expect_no_more()
        while birth.channel.readable() and self._receive(birth):
            continue

    def _receive(self, birth: Birth) -> bool:
        """With the turn to read: read once and have it handled; False when nothing more will come."""
        self._sign_of_life = True
        try:
            for frame in birth.channel.receive():
                self._station.heard(birth, frame)
            if birth.channel.broken is not None:
                raise birth.channel.broken
        except EOFError as error:
            if raised_by_handler(error):
                raise
            self._hang_up(birth)
            return False
        except Exception as error:  # whatever a child makes happen here, it costs this child and nobody else
            if raised_by_handler(error):
                raise
            self._hang_up(birth)
            self._station.broke_protocol(birth, error)
            return False
        return True

    def _hang_up(self, birth: Birth) -> None:
        with self.lock:
            if birth.hung_up:
                return
            birth.hung_up = True
            self._leave_loop()
            self._supervisor.unwatch(birth.channel.fileno())
        self._station.hung_up(birth)
