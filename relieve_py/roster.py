"""Which of a worker's tasks could take a call now, kept up as they change, so that nobody has to look at each."""

from __future__ import annotations

from typing import Any

from relieve_py.calls import EVENT, Call
from relieve_py.lifecycle import State
from relieve_py.strategies import Candidates
from relieve_py.tasks import Task

_READY, _SLEEPING = State.READY, (State.NEW, State.ASLEEP)  # to look up a member of an enum takes a while


class Roster:
    """The members of one worker. Not locked: its dispatcher does that.

    ``look(task)`` has to be called whenever a task has changed its state, or may have come to have room. Tasks that
    lose their room are noticed when they are about to be chosen. ``waits``: calls wait for a task that has no room.
    """

    def __init__(self, waits: bool) -> None:
        self._for_calls: Candidates[Task] = Candidates(_runs if waits else _has_room)
        self._for_events: Candidates[Task] = Candidates(_runs if waits else _reads)
        self._members: dict[int, tuple[Task, int]] = {}  # by their id(), and the place of each
        self._joined = 0  # so far
        self._accepting: dict[int, Task] = {}
        self._starting: dict[int, Task] = {}
        self._asleep: dict[int, Task] = {}
        self._new: dict[int, Task] = {}
        self.new = False
        """True when no task was ever started. Asked for each call."""

    def join(self, task: Task) -> None:
        """A task was added."""
        self._joined += 1
        self._members[id(task)] = task, self._joined
        self.look(task)

    def leave(self, task: Task) -> None:
        """A task was removed."""
        self._members.pop(id(task), None)
        for group in (self._accepting, self._starting, self._asleep, self._new):
            group.pop(id(task), None)
        self._for_calls.discard(task)
        self._for_events.discard(task)
        self._see_if_new()

    def members(self) -> list[Task]:
        """In the order in which they joined."""
        return [task for task, _ in self._members.values()]

    def look(self, task: Task) -> None:
        """See how it is with a task."""
        if (member := self._members.get(id(task))) is None:
            return
        life = task._slot.life
        state = life.state
        _put(self._accepting, task, life.accepts or state is State.NEW)
        _put(self._starting, task, state is State.STARTING)
        _put(self._asleep, task, state in _SLEEPING)
        _put(self._new, task, state is State.NEW)
        self._see_if_new()
        self._for_calls.look(task, member[1])
        self._for_events.look(task, member[1])

    def _see_if_new(self) -> None:
        self.new = len(self._new) == len(self._members) > 0

    def candidates(self, call: Call) -> Candidates[Task]:
        """Those that could take the call now, or that it may wait for."""
        return self._for_events if call.mode is EVENT else self._for_calls

    @property
    def size(self) -> int:
        """How many members there are, at least 1."""
        return max(1, len(self._members))

    @property
    def roomy(self) -> bool:
        """True when some task could take a call now."""
        return self._for_calls.somebody()

    @property
    def up(self) -> bool:
        """True when some task runs."""
        return self._for_events.somebody()

    @property
    def hopeless(self) -> bool:
        """True when no task takes calls now or later."""
        return not self._accepting

    @property
    def coming(self) -> int:
        """How many tasks are being started."""
        return len(self._starting)

    def sleeper(self) -> Task | None:
        """A task that has no child because there was no work, the first that is known."""
        return next(iter(self._asleep.values()), None)


class Rosters:
    """The roster of all members of one worker, and, once calls were addressed to a script, that of its tasks. Not
    locked: its dispatcher does that."""

    def __init__(self, waits: bool) -> None:
        self._waits = waits
        self.all = Roster(waits)
        self._of_scripts: dict[Any, Roster] = {}

    def join(self, task: Task) -> None:
        """A task was added."""
        for roster in self._with(task):
            roster.join(task)

    def mend(self) -> None:
        """Something was interrupted in the middle: all is made anew."""
        fresh = Roster(self._waits)
        for task in self.all.members():
            fresh.join(task)
        self.all = fresh  # in one step: this may be interrupted, too
        self._of_scripts.clear()

    def leave(self, task: Task) -> None:
        """A task was removed."""
        for roster in self._with(task):
            roster.leave(task)

    def look(self, task: Task) -> None:
        """See how it is with a task."""
        self.all.look(task)
        if self._of_scripts and (roster := self._of_scripts.get(task._core.address)) is not None:
            roster.look(task)

    def _with(self, task: Task) -> list[Roster]:
        found = self._of_scripts.get(task._core.address)
        return [self.all] if found is None else [self.all, found]

    def of(self, script: Any) -> Roster:
        """The tasks that run that script; None: all."""
        if script is None:
            return self.all
        roster = self._of_scripts.get(script)
        if roster is None:
            roster = self._of_scripts[script] = Roster(self._waits)
            for task in self.all.members():
                if task._core.address == script:
                    roster.join(task)
        return roster


def _put(group: dict[int, Task], task: Task, yes: bool) -> None:
    if yes:
        group[id(task)] = task
    else:
        group.pop(id(task), None)


def _runs(task: Task) -> bool:
    return task._slot.life.state is _READY


def _reads(task: Task) -> bool:
    slot = task._slot
    return slot.life.state is _READY and slot.life.forced is None and not slot.traffic.table.unread.full


def _has_room(task: Task) -> bool:
    slot = task._slot
    traffic: Any = slot.traffic
    return slot.life.state is _READY and traffic.table.room > 0 and not traffic.closed
