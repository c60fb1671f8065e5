"""A simulation: tasks and workers as they are, over children, threads and time that are not."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import random
import signal
from collections.abc import Callable
from typing import Any, Self

from relieve_py import calls, core, plugins, tasks, workers
from relieve_py.hookspecs import Factory, hookimpl
from relieve_py.lifecycle import State
from relieve_py.slot import leave_out
from relieve_py.testing.children import SimulatedChild
from relieve_py.testing.launching import SimulatedCradle, SimulatedLauncher
from relieve_py.testing.performing import Code, Sleep
from relieve_py.testing.scheduler import Scheduler

_COUNTERS = ((core, "_counter"), (workers, "_counter"), (calls, "_ids"))
"""What numbers names and calls: each simulation begins at 1, so that its names and ids come from its seed, too."""
ROOM = 1000
"""Frames that may be under way to one child before its parent has to keep them."""


class Simulation:
    """Within ``with``, the tasks that this thread makes have simulated children, and nothing happens by itself.

    Whatever can happen next is chosen by ``seed``: the same seed gives the same history. ``exports`` (a dict, a class,
    an object, a function or a module) is what every child exports; None: what its own task names, loaded in this
    process. Whoever waits (``result()``, iteration, leaving a ``with``) has the simulation go on until what is waited
    for has come; time passes only then, when nothing else can happen, and in ``advance()``. ``trace`` is called with a
    line for everything that happens.

    A wait for what can never come raises ``Stuck``. Raises RuntimeError when one is open on this thread already.
    """

    def __init__(self, seed: int = 0, *, exports: Any = None, trace: Callable[[str], object] | None = None) -> None:
        draw = random.Random(seed).random
        self.seed = seed
        self._scheduler = Scheduler(lambda below: int(draw() * below))
        self._scheduler.trace = trace
        self.exports = exports
        """What every child that is made from now on exports; None: what its own task names."""
        self._launcher = SimulatedLauncher(self._scheduler, self._code, ROOM)
        self._plugin = _Launchers(self._launcher)
        self._collected = False
        self._counters: list[Any] = []

    def _code(self, child: SimulatedChild) -> Code:
        return Code(self._scheduler, self.exports, child)

    def __enter__(self) -> Self:
        self._scheduler.enter()
        try:
            plugins.register(self._plugin)
        except BaseException:
            self._scheduler.leave()
            raise
        self._collected = gc.isenabled()
        gc.disable()  # when it runs depends on more than the seed, and abandoned streams are closed then
        self._counters = [getattr(module, name) for module, name in _COUNTERS]
        for module, name in _COUNTERS:
            setattr(module, name, itertools.count(1))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._end(quietly=kind is not None)
        finally:
            plugins.unregister(self._plugin)
            self._scheduler.leave()
            for (module, name), counter in zip(_COUNTERS, self._counters, strict=True):
                setattr(module, name, counter)
            if self._collected:
                gc.enable()

    def _end(self, quietly: bool) -> None:
        """Kill every child. Raises AssertionError when a task does not stop."""
        slots = leave_out(self._scheduler)
        for slot in sorted(slots, key=lambda slot: slot.life.name):
            slot.kill(signal.SIGKILL).mark_seen()
        self.run()
        left = [slot.life.name for slot in slots if slot.life.state not in (State.STOPPED, State.FAILED)]
        if left and not quietly:
            raise AssertionError(f"these tasks do not stop: {', '.join(left)}")

    # -- what happens ------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The time, in seconds. It begins at 1."""
        return self._scheduler.now()

    def step(self) -> bool:
        """Have one thing happen, which the seed chooses; False when nothing can happen without time."""
        return self._scheduler.step()

    def run(self) -> None:
        """Until nothing can happen without time."""
        while self._scheduler.step():
            continue

    def run_until(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Have things happen, and time pass when there is nothing else, until ``done()`` or after ``timeout`` seconds.
        Gives ``done()``. Raises Stuck."""
        deadline = self.now + timeout if timeout is not None else None
        self._scheduler.help_until(done, deadline)
        return done()

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; what is due on the way happens at its time."""
        until = self.now + seconds
        self.run()
        while (due := self._scheduler.next_timer()) is not None and due <= until:
            self._scheduler.advance(due)
            self.run()
        self._scheduler.advance(until)

    @staticmethod
    def sleep(seconds: float) -> Sleep:
        """For an async function of a child: ``await simulation.sleep(2.5)`` takes so long."""
        return Sleep(seconds)

    # -- children ----------------------------------------------------------------------------------

    @property
    def children(self) -> tuple[SimulatedChild, ...]:
        """Those that are alive, oldest first."""
        return tuple(child for child in self._launcher.children if child.alive)

    def child(self, task: tasks.Task) -> SimulatedChild:
        """The child of that task. Raises LookupError when it has none."""
        birth = task._slot.birth
        cradle = birth.cradle if birth is not None else None
        if not isinstance(cradle, SimulatedCradle) or not cradle.child.alive:
            raise LookupError(f"task {task.name!r} has no child, it is {task.state.value}")
        return cradle.child

    @property
    def running(self) -> SimulatedChild:
        """The child whose code runs at the moment. Raises LookupError outside of such code."""
        if Code.running is None:
            raise LookupError("no code of a child runs at the moment")
        return Code.running.child

    def refuse_launches(self, count: int = 1, number: int = errno.EAGAIN) -> None:
        """Have the system refuse the next launches, with that error number."""
        self._launcher.fates.extend([OSError(number, os.strerror(number))] * count)

    def lose_launches(self, count: int = 1) -> None:
        """Have what makes children die over the next launches."""
        self._launcher.fates.extend(["lost"] * count)


class _Launchers:
    """The plug-in that puts one launcher in the place of all."""

    def __init__(self, launcher: SimulatedLauncher) -> None:
        self._launcher = launcher

    @hookimpl
    def relieve_launchers(self) -> dict[str, Factory]:
        return dict.fromkeys(("forkserver", "spawn", "fork", SimulatedLauncher.name), lambda: self._launcher)
