"""The scheduler of a simulation: all that may happen next, one of which is chosen, and a clock that is moved by hand.

It stands in for the I/O thread and for the threads that run callbacks. Nothing happens on it by itself: each ``step()``
does one thing, and ``choose`` says which.
"""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from relieve_py import strands, supervisor
from relieve_py.strands import Strand
from relieve_py.supervisor import Supervisor, Timer

BEGINNING = 1.0
"""Seconds on the clock of a simulation at its beginning; a task takes 0 for 'never'."""


class Stuck(RuntimeError):
    """Raised when somebody waits and nothing can happen any more: outside a simulation, that would last for ever. Also
    after weeks of its time, in which there was always something to look after and never what is waited for."""


LONGEST_WAIT = 30 * 86400.0
"""Seconds of simulated time after which a wait counts as endless. Less: a program that sleeps for weeks cannot be
simulated; more: the test of one that waits for ever takes minutes."""


class Source(ABC):
    """Something that has a next step now and then. It is among those that are chosen from while it is awake."""

    __slots__ = ("place",)

    place: int  # among those that are awake; -1 while it is not

    @abstractmethod
    def step(self) -> None:
        """Do the next thing."""


class Watched(Protocol):
    """The parent's end of a simulated channel, which tells when there is something to read or to write."""

    on_ready: Callable[[], object] | None
    reads: bool
    writes: bool

    def look(self) -> None:
        """See whether there is something to do now."""
        ...


class Scheduler(Supervisor):
    """What happens next. All methods are called on the thread of the simulation."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose
        self.ends: dict[int, Watched] = {}  # by descriptor
        self.steps = 0
        self.trace: Callable[[str], object] | None = None
        self.fault: AssertionError | None = None
        self.closed = False
        self.longest_wait = LONGEST_WAIT
        self._now = BEGINNING
        self._awake: list[Source] = []
        self._posts = _Posts(self)
        self._alarms = _Alarms(self)
        self._numbers = itertools.count(1)

    # -- on this thread ----------------------------------------------------------------------------

    def enter(self) -> None:
        """All that is made on this thread from now on lives here. Raises RuntimeError when another is entered."""
        if supervisor.of_thread.stand_in is not None:
            raise RuntimeError("a simulation is open on this thread already")
        supervisor.of_thread.stand_in = self
        strands.of_thread.runner = self
        strands.of_thread.logs = Strand()

    def leave(self) -> None:
        """The end: nothing happens here any more."""
        supervisor.of_thread.stand_in = strands.of_thread.runner = strands.of_thread.logs = None
        self.close()

    # -- the clock and chance ----------------------------------------------------------------------

    def now(self) -> float:
        """The time, in seconds."""
        return self._now

    def chance(self) -> float:  # type: ignore[override]
        """A number in [0, 1)."""
        return self.choose(1000) / 1000

    def next_timer(self) -> float | None:
        """When the next timer is due; None when there is none."""
        return self._alarms.next()

    def advance(self, until: float) -> None:
        """Let time pass. What is due then is chosen among all else."""
        if self.trace is not None and until > self._now:
            self.trace(f"the clock goes on from {self._now:.9g} to {until:.9g}")
        self._now = max(self._now, until)
        self._alarms.look()

    # -- what may happen ---------------------------------------------------------------------------

    def wake(self, source: Source) -> None:
        """It has something to do."""
        if source.place < 0:
            source.place = len(self._awake)
            self._awake.append(source)

    def rest(self, source: Source) -> None:
        """It has nothing to do."""
        place = source.place
        if place < 0:
            return
        source.place = -1
        last = self._awake.pop()
        if last is not source:
            self._awake[place] = last
            last.place = place

    @property
    def pending(self) -> int:
        """How many things may happen now."""
        return len(self._awake)

    def step(self) -> bool:
        """Do one of the things that may happen now; False when there is none."""
        awake = self._awake
        if not awake:
            return False
        self.steps += 1
        awake[self.choose(len(awake)) if len(awake) > 1 else 0].step()
        if self.fault is not None:
            raise self.fault
        return True

    def blame(self, what: str) -> NoReturn:
        """The library has done what it must never do. Raises AssertionError, here and out of the step."""
        self.fault = AssertionError(what)
        raise self.fault

    def next_number(self) -> int:
        """The next descriptor or process id."""
        return next(self._numbers)

    # -- as the supervisor -------------------------------------------------------------------------

    @property
    def here(self) -> bool:
        """There is one thread only."""
        return True

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Have it done, after what was posted before. Raises RuntimeError when the simulation is over."""
        if self.closed:
            raise RuntimeError("the simulation in which this task was made is over")
        self._posts.add(function, args)

    def perform(self, deed: Callable[[], object]) -> None:
        """Do it now: there is one thread."""
        deed()

    def post_from_finalizer(self, function: Callable[..., object], *args: Any) -> None:
        """The same, for what has lost its last user, maybe after the simulation is over."""
        if not self.closed:
            self._posts.add(function, args)

    def at(self, when: float, function: Callable[..., object], *args: Any) -> Timer:
        """Have it done when the clock is there."""
        timer = Timer(when, function, args)
        if not self.closed:
            self._alarms.add(timer)
        return timer

    def at_once_later(self, function: Callable[[], object]) -> None:
        """Have it done in a moment."""
        self.at(self._now + 0.05, function)

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call ``callback()`` while that end can be read."""
        end = self.ends.get(fd)
        if end is None:
            raise RuntimeError("a simulation is open, and a task that is made in it can have no launcher of its own")
        end.on_ready, end.reads, end.writes = callback, True, False
        end.look()

    def interest(self, fd: int, read: bool, write: bool) -> None:
        """Change what is watched for."""
        end = self.ends[fd]
        end.reads, end.writes = read, write
        end.look()

    def unwatch(self, fd: int) -> None:
        """Watch it no more."""
        end = self.ends.get(fd)
        if end is not None:
            end.on_ready = None
            end.look()

    def help_until(self, done: Callable[[], bool], deadline: float | None) -> None:
        """Whoever waits has everything go on meanwhile: one step after the other, and when there is none, time passes.

        Raises Stuck when nothing can happen any more, or nothing has come of it for ``longest_wait`` seconds.
        """
        patient_until = self.now() + self.longest_wait
        while not done():
            if self.step():
                continue
            due = self.next_timer()
            if self.now() > patient_until:
                raise Stuck(f"somebody has waited for {self.longest_wait:,.0f} seconds of this simulation's time")
            if deadline is not None and (due is None or due > deadline):
                self.advance(deadline)
                return
            if due is None:
                raise Stuck("somebody waits for what will never come: nothing can happen any more")
            self.advance(due)

    def close(self) -> None:
        """Nothing happens any more."""
        self.closed = True
        self._awake.clear()

    # -- as the runner of strands ------------------------------------------------------------------

    def add(self, strand: Strand) -> None:
        """Have its callbacks run, each as a step of its own."""
        if not self.closed:
            self.wake(_Callbacks(self, strand))


class _Callbacks(Source):
    """What is queued on one strand. While one runs, the others wait, also when that one waits for something itself."""

    __slots__ = ("_scheduler", "_strand")

    def __init__(self, scheduler: Scheduler, strand: Strand) -> None:
        self.place = -1
        self._scheduler = scheduler
        self._strand = strand

    def step(self) -> None:
        self._scheduler.rest(self)
        if self._strand.run_one():
            self._scheduler.wake(self)


class _Posts(Source):
    """What was posted to the I/O thread."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.place = -1
        self._scheduler = scheduler
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def add(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._posted.append((function, args))
        self._scheduler.wake(self)

    def step(self) -> None:
        function, args = self._posted.popleft()
        if not self._posted:
            self._scheduler.rest(self)
        function(*args)


class _Alarms(Source):
    """The timers, of which those that are due may be done."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.place = -1
        self._scheduler = scheduler
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def add(self, timer: Timer) -> None:
        heapq.heappush(self._heap, (timer.at, next(self._order), timer))
        if timer.at <= self._scheduler.now():
            self._scheduler.wake(self)

    def next(self) -> float | None:
        heap = self._heap
        while heap and heap[0][2].function is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def look(self) -> None:
        due = self.next()
        if due is not None and due <= self._scheduler.now():
            self._scheduler.wake(self)
        else:
            self._scheduler.rest(self)

    def step(self) -> None:
        due = self.next()
        if due is None or due > self._scheduler.now():  # cancelled meanwhile
            self._scheduler.rest(self)
            return
        timer = heapq.heappop(self._heap)[2]
        self.look()
        assert timer.function is not None
        timer.function(*timer.args)
