"""The harness of the fault table: a pool under load, faulty calls made in every way, and the proof that nothing is
lost by them."""

from __future__ import annotations

import itertools
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest

from relieve_py import CallableTask, CloudWorker, RestartPolicy, State, Task

FAULTY = str(Path(__file__).parent / "scripts" / "faulty.py")
DEADLINE = 20.0
"""Seconds within which every call has to end, on a machine that does much else."""
KILL_TIMEOUT = 0.2
"""Of the pools: seconds that a child may go on after it was told to give up."""
PATIENT = RestartPolicy(max_restarts=1_000_000, max_delay=0.1)
"""The restart policy of a pool whose children die all the time."""
WAYS = ("get", "call", "stream", "map")
IN_FLIGHT = 3
PACE = 0.002
"""Seconds between two calls of the load, which is there to be in the way, not to measure anything."""


@attrs.frozen
class Ended:
    """How one call ended."""

    value: Any = None
    error: BaseException | None = None


@attrs.frozen
class Fails:
    """The call has to end with such an error."""

    cls: type[BaseException] | tuple[type[BaseException], ...]
    match: str
    attributes: dict[str, Any]

    def check(self, ended: Ended) -> None:
        """Raises AssertionError when it did not."""
        assert ended.error is not None, f"no error, but {ended.value!r:.200}"
        if not isinstance(ended.error, self.cls):
            raise AssertionError(f"not {self.cls}, but {ended.error!r:.300}") from ended.error
        assert not self.match or self.match in str(ended.error)[:10_000]
        found = {name: getattr(ended.error, name) for name in self.attributes}
        assert found == self.attributes


@attrs.frozen
class Gives:
    """The call has to end with that value."""

    expected: Any

    def check(self, ended: Ended) -> None:
        """Raises AssertionError when it did not."""
        if ended.error is not None:
            raise AssertionError(f"not {self.expected!r:.100}, but {ended.error!r:.300}") from ended.error
        assert ended.value == self.expected


def error(cls: type[BaseException] | tuple[type[BaseException], ...], match: str = "", **attributes: Any) -> Fails:
    """Expects that error, with ``match`` in its text, and such attributes."""
    return Fails(cls, match, attributes)


def value(expected: Any) -> Gives:
    """Expects that value."""
    return Gives(expected)


@attrs.frozen(kw_only=True)
class Row:
    """A faulty call, and how it ends."""

    function: str
    args: tuple[Any, ...]
    """At most one, since ``map`` gives one."""
    ends: Fails | Gives
    """What ``get``, ``stream`` and ``map`` have to show."""
    accepted: bool
    """The child takes the call, so that ``call`` succeeds, and what goes wrong then is an ``error`` event."""
    ways: tuple[str, ...]
    options: dict[str, Any]
    """Of the call, as ``options()`` takes them."""


def case(
    number: int,
    function: str,
    *args: Any,
    ends: Fails | Gives,
    accepted: bool = True,
    ways: tuple[str, ...] = WAYS,
    id: str = "",
    **options: Any,
) -> Any:
    """A parameter of a test: one row of the fault table, or part of one."""
    row = Row(function=function, args=args, ends=ends, accepted=accepted, ways=ways, options=options)
    return pytest.param(row, id=f"{number}-{id or function}", marks=pytest.mark.fault(number))


class Load:
    """Ordinary calls that are in flight the whole time: each has to succeed, once, with its own value."""

    def __init__(self, worker: CloudWorker) -> None:
        self._worker = worker
        self._over = threading.Event()
        self._settled: Counter[int] = Counter()  # by done-callbacks, which run on one strand
        self._made = 0
        self._forgiven: tuple[type[BaseException], ...] = ()
        self._wrong: list[str] = []
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def forgive(self, *errors: type[BaseException]) -> None:
        """From now on such an error is a right end, too: the test kills children whatever they run."""
        self._forgiven = errors

    def stop(self) -> None:
        """Let what is in flight end, and judge."""
        self._over.set()
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive(), "a call of the load never ended"
        assert not self._wrong, f"{len(self._wrong)} of {self._made} calls of the load went wrong: {self._wrong[:3]}"

    def settled_once(self) -> None:
        """Judge the callbacks; when none can be under way any more."""
        assert self._settled == dict.fromkeys(range(self._made), 1), "not every call of the load ended exactly once"

    def _run(self) -> None:
        flight: deque[tuple[int, Any]] = deque()
        while flight or not self._over.is_set():
            while len(flight) < IN_FLIGHT and not self._over.is_set():
                flight.append((self._made, self._worker.get("echo", self._made)))
                flight[-1][1].add_done_callback(lambda reply, n=self._made: self._settled.update([n]))
                self._made += 1
            self._judge(*flight.popleft())
            self._over.wait(PACE)

    def _judge(self, n: int, reply: Any) -> None:
        try:
            got = reply.result(DEADLINE)
        except self._forgiven:
            return
        except BaseException as wrong:
            self._wrong.append(f"call {n}: {wrong!r}")
        else:
            if got != n:
                self._wrong.append(f"call {n} gave {got!r}")


class Pool:
    """A worker that the tests of a module share, under load during each of them."""

    def __init__(self, worker: CloudWorker, launcher: str) -> None:
        self.worker = worker
        self.launcher = launcher
        self.load: Load
        self._size = len(worker)
        self._errors: deque[Any] = deque()  # Failed records
        self._told = threading.Condition()
        self._settled: Counter[int] = Counter()
        self._marks = itertools.count()
        worker.on("error", self._hear)

    def _hear(self, record: Any) -> None:
        with self._told:
            self._errors.append(record)
            self._told.notify_all()

    def next_error(self) -> BaseException:
        """That of the next ``error`` event, which nobody has asked for yet."""
        with self._told:
            assert self._told.wait_for(lambda: bool(self._errors), DEADLINE), "no error event came"
            failure: BaseException = self._errors.popleft().error
            return failure

    # -- one faulty call ---------------------------------------------------------------------------

    def make(self, way: str, function: str, *args: Any, **options: Any) -> Ended:
        """Make that call in that way, and see how it ends: once, and in time."""
        began = time.monotonic()
        through = self.worker.options(**options)
        try:
            ended = Ended(getattr(self, f"_{way}")(through, function, *args))
        except BaseException as failure:
            ended = Ended(error=failure)
        assert time.monotonic() - began < DEADLINE, f"{way} of {function} took too long: {ended}"
        return ended

    def _reply(self, reply: Any) -> Any:
        mark = next(self._marks)
        reply.add_done_callback(lambda done: self._settled.update([mark]))
        return reply.result(DEADLINE)

    def _get(self, through: Any, function: str, *args: Any) -> Any:
        return self._reply(through.get(function, *args))

    def _call(self, through: Any, function: str, *args: Any) -> Any:
        return self._reply(through.call(function, *args))

    @staticmethod
    def _stream(through: Any, function: str, *args: Any) -> Any:
        stream = through.stream(function, *args)
        try:
            return list(stream)
        finally:
            assert list(stream) == [], "a stream that has ended goes on"

    @staticmethod
    def _map(through: Any, function: str, *args: Any) -> Any:
        results = through.map(function, args[:1] or [None])
        try:
            return next(results)
        finally:
            assert list(results) == [], "one item gave more than one result"

    def bears(self, row: Row) -> None:
        """Every way to make the row's call, all at the same time, ends as the row says."""
        with ThreadPoolExecutor(len(row.ways)) as threads:
            ends = {way: threads.submit(self.make, way, row.function, *row.args, **row.options) for way in row.ways}
            for way in set(row.ways) - {way for way, end in ends.items() if end in wait(ends.values(), DEADLINE).done}:
                self.worker.kill().result(DEADLINE)
                raise AssertionError(f"{way}() of {row.function} never ended")
        for way, ended in ends.items():
            try:
                self._judge(way, row, ended.result())
            except Exception as wrong:
                wrong.add_note(f"by {way}()")
                raise

    def _judge(self, way: str, row: Row, ended: Ended) -> None:
        if way != "call" or not row.accepted:
            row.ends.check(ended)
        else:
            value(None).check(ended)
            if isinstance(row.ends, Fails):
                row.ends.check(Ended(error=self.next_error()))

    # -- before and after --------------------------------------------------------------------------

    def under_load(self) -> Iterator[Pool]:
        """For a fixture: the load before, and after the test the proof that the pool is whole again."""
        self._errors.clear()
        self._settled.clear()
        self.load = Load(self.worker)
        try:
            yield self
        finally:
            self.load.stop()
        self.is_whole()
        self.load.settled_once()
        assert max(self._settled.values(), default=1) == 1, "a call ended twice"
        assert not self._errors, f"failures that nobody expected: {self._errors}"

    def is_whole(self) -> None:
        """It has its size, every task serves, and nothing is open."""
        assert len(self.worker) == self._size
        for n, task in enumerate(self.worker):
            assert task.get("echo", n).result(DEADLINE) == n
            assert task.state is State.READY
        assert self.worker.drain().result(DEADLINE) is self.worker
        assert len({task.pid for task in self.worker}) == self._size
        stats = self.worker.stats()
        assert (stats.running, stats.queued) == (0, 0)


def make_task(launcher: str, script: str = FAULTY, **options: Any) -> CallableTask:
    """A task for one test alone, not started."""
    settings: dict[str, Any] = {"launcher": launcher, "kill_timeout": KILL_TIMEOUT, "restart": PATIENT, **options}
    return CallableTask(script, **settings)


class Built:
    """An object that is sent as a call: who receives it runs ``function(*args)`` to build it."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args

    def __reduce__(self) -> Any:
        return self.function, self.args


def stopped_child_of(task: Task) -> int:
    """Its pid, once it reads nothing any more."""
    assert task.pid is not None
    process = psutil.Process(task.pid)
    process.suspend()
    pause = threading.Event()  # never set: nothing but its state tells that a process has stopped
    while process.status() != psutil.STATUS_STOPPED:
        pause.wait(0.001)
    return task.pid


def waits_inside(thread: threading.Thread, function: str) -> None:
    """Wait until that thread is blocked in a wait within that function."""
    pause = threading.Event()  # never set: nothing tells that a thread is blocked
    deadline = time.monotonic() + DEADLINE
    while True:
        frames = traceback.extract_stack(sys._current_frames().get(thread.ident or 0))
        if function in [frame.name for frame in frames] and frames[-1].name == "wait":
            return
        assert thread.is_alive(), f"it ended without waiting in {function}()"
        assert time.monotonic() < deadline
        pause.wait(0.001)
