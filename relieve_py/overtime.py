"""Calls whose time is over: each fails as soon as the child has written down where it was, or a moment later."""

from __future__ import annotations

import functools
from collections.abc import Callable

from relieve_py.calls import Call
from relieve_py.errors import CallTimeout
from relieve_py.exits import Remains
from relieve_py.host import Deeds, Host
from relieve_py.lifecycle import STACKS_GRACE, STACKS_LONGER
from relieve_py.line import Line
from relieve_py.supervisor import Supervisor

LAST_LOOK = 3
"""How often it is looked for what a child writes, before its call fails without."""


class _Late:
    """A call that the child was told to give up, and that fails in a moment. Whatever the child still answers, its time
    was over first."""

    __slots__ = ("call", "error", "number")

    def __init__(self, call: Call, number: int, error: CallTimeout) -> None:
        self.call = call
        self.number = number
        self.error = error

    def tell_place(self, stacks: str | None) -> None:
        if stacks:
            self.error.stacks = stacks
            for note in Remains(stacks=stacks).notes():
                self.error.add_note(note)


class Overtime:
    """Those of one slot.

    The child writes its stacks down before it interrupts the call. So when that is over, they are there: nothing has to
    look for them. What does not give up is given STACKS_GRACE. If nothing is written by then, C code may hold the GIL:
    the child is asked again, by a signal, and is given the same again, and STACKS_LONGER if nothing is written yet.
    """

    def __init__(
        self,
        host: Host,
        line: Line,
        supervisor: Supervisor,
        fail: Callable[[Call, CallTimeout], object],
        ended: Callable[[Call], object],
    ) -> None:
        self._host = host
        self._line = line  # whose lock it is
        self._supervisor = supervisor
        self._fail = fail
        self._ended = ended
        self._late: dict[int, _Late] = {}  # by number, as long as stacks may still come for it
        self._asked: set[int] = set()  # calls over which the child was asked, while it has them
        self.open = 0  # calls that have not failed yet

    def begin(self) -> bool:
        """Under the lock: the child is about to be told to give up a call. False when it writes no stacks down."""
        birth = self._line.birth
        if birth is None or not birth.can_tell_stacks:
            return False
        if not self._late:
            self._tidy()
        return True

    def add(self, call: Call, number: int, error: CallTimeout) -> None:
        """Under the lock: the child was told to give up that call, which fails in a moment, and where it is."""
        late = self._late[number] = _Late(call, number, error)
        self._asked.add(number)
        self.open += 1
        self._look_again(late, STACKS_GRACE, 1)

    def over(self, number: int) -> None:
        """The child is done with a call that nobody waits for any more."""
        if number not in self._asked:
            return
        with self._line.lock:
            self._asked.discard(number)
            late = self._late.get(number)
            if not self._late:
                self._tidy()
        if late is not None:  # without stacks if it ended by itself just now: the child tells nothing of what is over
            # Elsewhere, since whoever reads may be interrupted in the middle, and the call would be forgotten.
            self._supervisor.post(self._finish, late, LAST_LOOK)

    def gone(self, after: Deeds) -> None:
        """Under the lock: the child is dead, and what it has written is all there is."""
        stacks = self._stacks()
        for late in self._late.values():
            after += self._end(late, stacks)
        self._late.clear()
        self._asked.clear()

    def _look_again(self, late: _Late, after: float, look: int) -> None:
        self._supervisor.at(self._supervisor.now() + after, self._finish, late, look)

    def _finish(self, late: _Late, look: int) -> None:
        """I/O thread: it has written what it will, unless that was seen before, or there is no sign of it yet."""
        with self._line.lock:
            if self._late.get(late.number) is not late:
                return
            stacks = self._stacks()
            if stacks is None and look < LAST_LOOK:
                if look == 1 and self._line.birth is not None:
                    self._line.birth.ask_for_stacks()
                self._look_again(late, STACKS_GRACE if look == 1 else STACKS_LONGER, look + 1)
                return
            del self._late[late.number]
            if not self._late:
                self._tidy()
        self._host.do(self._end(late, stacks))

    def _end(self, late: _Late, stacks: str | None) -> Deeds:
        def closed() -> None:
            with self._line.lock:
                self.open -= 1

        late.tell_place(stacks)
        return [
            functools.partial(self._fail, late.call, late.error),
            closed,
            functools.partial(self._ended, late.call),
        ]

    def _stacks(self) -> str | None:
        """Under the lock."""
        birth = self._line.birth
        return birth.box.stacks() if birth is not None and birth.box is not None else None

    def _tidy(self) -> None:
        """Under the lock: make room for the next stacks; these ones would only be taken for those of a later end. Those
        of a child that is being ended are of that end."""
        birth = self._line.birth
        if birth is not None and birth.box is not None and self._host.life.forced is None:
            birth.box.forget_stacks()
