"""The launcher of a simulation: children in memory, made, refused or lost at the word of the test."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from relieve_py.birth import Cradle
from relieve_py.blackbox import NO_PROGRESS, Progress
from relieve_py.launchers.base import LaunchSpec, Observer
from relieve_py.surroundings import Surroundings
from relieve_py.testing.children import Performer, SimulatedChild
from relieve_py.testing.pipes import ChildEnd, ParentEnd, Pipe
from relieve_py.testing.scheduler import Scheduler, Source

FIRST_PID = 1 << 24
"""Above what any system gives to a process, so that nobody takes a simulated child for a real one."""


class SimulatedCradle(Cradle):
    """What one child will share with its parent, in memory."""

    def __init__(self, scheduler: Scheduler, room: int, name: str) -> None:
        pipe = Pipe()
        end = ParentEnd(scheduler, pipe, room)
        self.child = end.child = SimulatedChild(scheduler, name, ChildEnd(pipe, end))
        self.channel: Any = end  # it does what a Channel does
        self.spec: Any = self  # and the launcher of a simulation needs no other

    @property
    def begun(self) -> int:
        """The number of the last call that the child has begun."""
        return self.child.begun

    def progress(self, number: int) -> Progress:
        """How far the child has come with the batch of that number."""
        return self.child.progress if self.child.begun == number else NO_PROGRESS

    def recall(self, number: int) -> None:
        """Have it begin no further item of that chunk."""
        self.child.recalled = number

    def hand_over(self) -> None:
        """There are no copies to close."""

    def close(self) -> None:
        """Let go of everything."""
        self.channel.close()


class SimulatedProcess:
    """A child, as its parent's slot sees it."""

    def __init__(self, scheduler: Scheduler, child: SimulatedChild) -> None:
        self.pid = child.pid
        self._scheduler = scheduler
        self._child: SimulatedChild | None = child

    def signal(self, signum: int) -> None:
        """Send it a signal. Raises AssertionError after ``close``, when that number may be another's."""
        if self._child is None:
            self._scheduler.blame(f"process {self.pid} is signalled after it was reaped")
        self._child.signal(signum)

    def close(self) -> None:
        """It was reaped."""
        self._child = None


class SimulatedLauncher:
    """Makes children. ``fates`` says what becomes of the next launches: an OSError refuses one, ``"lost"`` loses one,
    and None makes a child, as all that follow do."""

    name = "simulated"
    preloads = True  # there is nothing that would take time

    def __init__(
        self, scheduler: Scheduler, performer: Callable[[SimulatedChild], Performer], room: int = 1000
    ) -> None:
        self.fates: deque[OSError | str | None] = deque()
        self.children: list[SimulatedChild] = []
        self.room = room
        self._scheduler = scheduler
        self._performer = performer

    def cradle(self, name: str, surroundings: Surroundings) -> SimulatedCradle:
        """What the next child of that task will share with it."""
        return SimulatedCradle(self._scheduler, self.room, name)

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        """Make a child, at some time."""
        if not isinstance(spec, SimulatedCradle):
            raise TypeError("a simulation is open, and takes no other launcher's child")
        self._scheduler.wake(_Launch(self, self._scheduler, spec.child, observer))

    def make(self, child: SimulatedChild) -> None:
        """It exists from now on."""
        child.performer = self._performer(child)
        self.children.append(child)
        child.born(FIRST_PID + self._scheduler.next_number())


class _Launch(Source):
    """A launch that is under way: first there is a child, or not, and later the parent is told."""

    __slots__ = ("_child", "_fate", "_launcher", "_observer", "_scheduler", "_tells")

    def __init__(
        self, launcher: SimulatedLauncher, scheduler: Scheduler, child: SimulatedChild, observer: Observer
    ) -> None:
        self.place = -1
        self._launcher = launcher
        self._scheduler = scheduler
        self._child = child
        self._observer = observer
        self._tells = False
        self._fate: OSError | str | None = None

    def step(self) -> None:
        if not self._tells:
            self._tells = True
            self._fate = self._launcher.fates.popleft() if self._launcher.fates else None
            if self._fate is None:
                self._launcher.make(self._child)
            return
        self._scheduler.rest(self)
        if self._fate is None:
            self._observer.launched(SimulatedProcess(self._scheduler, self._child))
            self._child.observed(self._observer)
        elif isinstance(self._fate, OSError):
            self._observer.refused(self._fate)
        else:
            self._observer.lost()
