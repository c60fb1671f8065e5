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

    The child is asked for its stacks before it is interrupted, by a signal that its main thread takes first, whatever
    that runs. So when what ran there is over, the stacks are written: nothing has to look for them. What does not give
    up, and what runs in another thread, is given STACKS_GRACE, and STACKS_LONGER if nothing is written by then.
    """

    def __init__(
        self,
        host: Host,
        line: Line,
        supervisor: Supervisor,
        alone: bool,
        fail: Callable[[Call, CallTimeout], object],
        ended: Callable[[Call], object],
    ) -> None:
        self._host = host
        self._line = line  # whose lock it is
        self._supervisor = supervisor
        self._alone = alone  # the child runs one call after the other, in its main thread
        self._fail = fail
        self._ended = ended
        self._late: dict[int, _Late] = {}  # by number, as long as stacks may still come for it
        self._asked: set[int] = set()  # calls over which the child was asked, while it has them
        self.open = 0  # calls that have not failed yet

    def ask(self) -> bool:
        """Under the lock: have the child write its stacks down; False when it cannot."""
        birth = self._line.birth
        if birth is None:
            return False
        if self._late:  # it is about to
            return True
        self._tidy()
        return birth.ask_for_stacks()

    def add(self, call: Call, number: int, error: CallTimeout) -> None:
        """Under the lock: the child was asked, and told to give up that call, which fails in a moment."""
        late = self._late[number] = _Late(call, number, error)
        self._asked.add(number)
        self.open += 1
        self._supervisor.at(self._supervisor.now() + STACKS_GRACE, self._finish, late)

    def over(self, number: int) -> None:
        """The child is done with a call that nobody waits for any more."""
        if number not in self._asked:
            return
        with self._line.lock:
            self._asked.discard(number)
            late = self._late.get(number)
            told = late is not None and self._alone and self._stacks() is not None  # not if it ended by itself just now
            if not self._late:
                self._tidy()
        if told:
            # Elsewhere, since whoever reads may be interrupted in the middle, and the call would be forgotten.
            self._supervisor.post(self._finish, late)

    def gone(self, after: Deeds) -> None:
        """Under the lock: the child is dead, and what it has written is all there is."""
        stacks = self._stacks()
        for late in self._late.values():
            after += self._end(late, stacks)
        self._late.clear()
        self._asked.clear()

    def _finish(self, late: _Late, last: bool = False) -> None:
        """I/O thread: it has written what it will, unless that was seen before."""
        with self._line.lock:
            if self._late.get(late.number) is not late:
                return
            stacks = self._stacks()
            if stacks is None and not last:
                self._supervisor.at(self._supervisor.now() + STACKS_LONGER, self._finish, late, True)
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
