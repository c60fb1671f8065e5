"""The time limits of the calls that one slot's child has, and of its heeding that it was told to give one up."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from relieve_py.calls import Call
from relieve_py.endings import Endings
from relieve_py.errors import CallTimeout
from relieve_py.host import Deeds, Host
from relieve_py.instructions import Instruction
from relieve_py.line import Line
from relieve_py.overtime import Overtime
from relieve_py.supervisor import Supervisor, Timer
from relieve_py.table import CallTable
from relieve_py.tally import Tally
from relieve_py.wire import TELL

A_MOMENT = 0.01
"""Seconds until it is looked again for the answer of a call whose time is over, if another thread reads just then."""


class Deadlines:
    """Those of one slot. Under its lock, unless it is said otherwise.

    ``abandon(call, after, flags)`` interrupts a call under the lock, by a CANCEL frame with those flags, and is False
    when there is nothing to interrupt;
    ``left(call)`` is told without the lock that a call has left the slot.
    """

    def __init__(
        self,
        host: Host,
        line: Line,
        supervisor: Supervisor,
        table: CallTable,
        endings: Endings,
        tally: Tally,
        abandon: Callable[[Call, Deeds, int], bool],
        left: Callable[[Call], object],
    ) -> None:
        self.timers: dict[int, Timer] = {}  # by number of what was sent
        self.overtime = Overtime(host, line, supervisor, self._too_late, left)
        self._host = host
        self._life = host.life
        self._line = line  # whose lock it is
        self._supervisor = supervisor
        self._table = table
        self._endings = endings
        self._tally = tally
        self._abandon = abandon

    def watch(self, call: Call, now: float) -> None:
        """A call with a time limit was sent."""
        assert call.timeout is not None
        number = call.number
        due = now + call.timeout
        self.timers[number] = self._supervisor.at(due, self._deadline, call, number, self._life.generation)

    def expect(self, call: Call, after: float, look: Callable[[Any, int, int], object]) -> None:
        """Have a call that was sent looked at after so many seconds, on the I/O thread, unless it is over:
        ``look(call, number, generation)``."""
        due = self._supervisor.now() + after
        self.timers[call.number] = self._supervisor.at(due, look, call, call.number, self._life.generation)

    def interrupted(self, number: int) -> None:
        """The child was told to give up the call with that number: replace it if it does not in time."""
        self.forget(number)
        due = self._supervisor.now() + self._life.kill_timeout
        self.timers[number] = self._supervisor.at(due, self._still_there, number, self._life.generation)

    def forget(self, number: int) -> None:
        """The child has no call with that number any more."""
        timer = self.timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    def clear(self) -> None:
        """The child is dead."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()

    def _deadline(self, call: Call, number: int, generation: int, again: bool = False) -> None:
        """I/O thread: the call's time is over, unless its answer has come. This process may have been stopped, or too
        busy to read it."""
        read = self._line.catch_up()
        after: Deeds = []
        with self._line.lock:
            if generation != self._life.generation or call.number != number:
                return
            if not read and not again:
                self._put_off(number, self._deadline, call, number, generation, True)
                return
            tells = self.overtime.begin()
            if not self._abandon(call, after, TELL if tells else 0):
                return
            error = call.timed_out(self._life.name)
            if tells:
                self.overtime.add(call, number, error)
                return
        after.insert(0, functools.partial(self._too_late, call, error))
        self._host.do(after)

    def _put_off(self, number: int, look: Callable[..., object], *args: Any) -> None:
        """Under the lock: another thread is about to say what has come; look again when it has."""
        self.timers[number] = self._supervisor.at(self._supervisor.now() + A_MOMENT, look, *args)

    def _too_late(self, call: Call, error: CallTimeout) -> None:
        """Without the lock: it fails for that, unless its caller has cancelled it meanwhile."""
        if call.reply.cancelled():
            self._tally.were_cancelled(1)
        self._endings.failed(call, error, lost=True)

    def _still_there(self, number: int, generation: int, again: bool = False) -> None:
        """I/O thread: an interrupted call has not given up within kill_timeout."""
        read = self._line.catch_up()

        def decide(now: float) -> list[Instruction]:
            if generation != self._life.generation or number not in self._table.sent:
                return []
            if not read and not again:
                self._put_off(number, self._still_there, number, generation, True)
                return []
            return self._life.force(now, "it did not answer an interrupt in time")

        self._host.act(decide)
