"""CloudWorker: calls balanced over tasks by a strategy."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, cast

from relieve_py.backlog import Backlog
from relieve_py.calls import Call, CallOptions, PendingCall
from relieve_py.choosing import Chooser
from relieve_py.core import Target, kind_of
from relieve_py.dispatch import Dispatcher
from relieve_py.elastic import Elasticity, ElasticSize, size_of
from relieve_py.errors import NotRunning
from relieve_py.intake import Intake
from relieve_py.lifecycle import State
from relieve_py.policies import RetryPolicy, retry_policy
from relieve_py.remote import Bound, Remote, call_options
from relieve_py.replies import Reply, fail_after
from relieve_py.scaling import Scaler
from relieve_py.serializers import Serializer
from relieve_py.streams import Stream
from relieve_py.supervisor import shared
from relieve_py.tasks import CallableTask, ForkTask, Task, new_event
from relieve_py.timeouts import check_timeout
from relieve_py.traffic import Traffic
from relieve_py.workers import Worker


class CloudWorker(Remote, Worker):
    """Balances calls over its tasks: each goes to the one that ``strategy`` chooses among those with room.

    ``size`` is how many tasks there are, made by cloning the given ones; None takes them as they are. With
    ``(min, max)``, or an ElasticSize, there are more while calls have to wait, and fewer while not all are needed.
    Calls wait in one queue of at most ``max_pending``; ``when_full`` is ``"wait"``, ``"raise"``, ``"drop_oldest"`` or
    ``"drop_newest"``. It may be a function: it is asked on the caller's thread about each PendingCall that finds no
    room, and answers with one of these, or with ``"queue"`` to have it queued all the same; what it raises the caller
    gets.
    ``retries`` is a number, or a RetryPolicy, for every call; ``watch`` is as of Worker. Wrong options raise TypeError
    or ValueError.
    """

    def __init__(
        self,
        *tasks: CallableTask,
        size: int | tuple[int, int] | ElasticSize | None = None,
        strategy: Any = "round-robin",
        max_pending: int | None = None,
        when_full: str | Callable[[PendingCall], str] = "wait",
        retries: int | RetryPolicy = 0,
        name: str | None = None,
        watch: bool | Iterable[Any] = False,
    ) -> None:
        if not tasks:
            raise TypeError(
                "CloudWorker needs a task to start from, as in CloudWorker(CallableTask('task.py'), size=4)"
            )
        limits = None if size is None else size_of(size)
        chooser = Chooser(strategy)
        if limits is not None:
            _check_elastic(limits, chooser)
        self._scaler: Scaler | None = None
        self._dispatcher = Dispatcher(self, chooser, Backlog(max_pending, when_full))
        self._call_options = call_options(CallOptions(), retries=retry_policy(retries, RetryPolicy()))
        self._starting = threading.RLock()  # owner: the first caller, who starts the tasks; never the I/O thread
        self._templates = list(tasks)
        self._serializer: Serializer | None = None  # of its members; None: there are none
        super().__init__(*tasks, name=name, watch=watch)
        self._intake = Intake(self._dispatcher, self.emitter.strand)
        # By way of the I/O thread: the collector may run this in the middle of a lock.
        weakref.finalize(self, shared().post_from_finalizer, self._dispatcher.close).atexit = False
        if limits is not None:
            self._grow_to(limits.min)
            self._scale(limits)

    def _forget(self) -> None:
        super()._forget()
        self._starting = threading.RLock()
        self._dispatcher.forget()

    # -- members -----------------------------------------------------------------------------------

    def _check(self, task: Any) -> None:
        super()._check(task)
        if isinstance(task, ForkTask) or not isinstance(task, CallableTask):
            raise TypeError(f"CloudWorker takes CallableTasks, which can be started and serve calls, not {task!r}")
        other = next(iter(self), None)
        if other is not None and type(task._core.serializer) is not type(other._core.serializer):
            raise ValueError(f"task {task.name!r} has another serializer than the other tasks of worker {self.name!r}")

    def _joined(self, task: Task) -> None:
        self._dispatcher.joined(task)
        self._members_changed()

    def _succeeded(self, old: Task, new: Task) -> Reply:
        self._templates = [cast(CallableTask, new) if task is old else task for task in self._templates]
        return super()._succeeded(old, new)

    def _left(self, task: Task) -> None:
        self._dispatcher.left(task)
        self._members_changed()

    def _members_changed(self) -> None:
        first = next(iter(self), None)
        self._serializer = first._core.serializer if first is not None else None
        if self._scaler is not None:
            self._scaler.tasks_changed()

    def resize(self, size: int | tuple[int, int] | ElasticSize) -> Reply:
        """Have so many tasks: clones of the first ones are added, or the least busy are let go, after what they run.

        As at construction, ``(min, max)`` or an ElasticSize makes the size elastic within these limits, and a number
        fixes it. The Reply gives the worker once the new ones are ready and the old ones gone, which takes as long as
        what they run. Raises TypeError or ValueError.
        """
        limits = size_of(size)
        _check_elastic(limits, self._dispatcher.chooser)
        if self._scaler is not None:
            self._scaler.end()
        changes: list[Reply] = []
        while len(self) > limits.max:
            leaving = min(reversed(list(self)), key=lambda task: task.load)
            changes.append(self.remove(leaving, math.inf))
        started = any(task.state is not State.NEW for task in self)
        added = self._grow_to(limits.min)
        self._scale(limits)
        if started:
            changes += [self._started(task) for task in added]
        return self._together("resize()", changes, self._all_started)

    def _grow_to(self, size: int, script: Any = None) -> list[CallableTask]:
        templates = [task for task in self._templates if script in (None, task._core.address)] or self._templates
        added = []
        while len(self) < size:
            task = templates[len(self) % len(templates)].clone()
            self.add(task)
            added.append(task)
        return added

    # -- elastic size: called on a strand of the scaler's ------------------------------------------

    def _scale(self, limits: ElasticSize) -> None:
        """Keep the size within these limits from now on."""
        elastic = limits.max > limits.min
        self._scaler = Scaler(self, self, self._dispatcher, Elasticity(limits)) if elastic else None
        if self._scaler is not None:
            self._scaler.tasks_changed()

    def grow_by(self, count: int, script: Any) -> None:
        """Add so many tasks of that script, None: of any, and start them, unless the worker is being stopped. Used by
        elastic sizes."""
        added = self._grow_to(len(self) + count, script)
        for task in added:
            self._started(task).mark_seen()
            if self._dispatcher.at_rest:  # it was stopped meanwhile, and knew nothing of this task
                task.stop().mark_seen()

    def shrink_by(self, count: int) -> None:
        """Let so many tasks go, as far as they are idle; those that came last go first, and one of each script stays.
        Used by elastic sizes."""
        idle = [task for task in reversed(list(self)) if not task.load and task.state is not State.STARTING]
        for task in idle:
            if count > 0 and sum(other._core.address == task._core.address for other in self) > 1:
                count -= 1
                self.remove(task, math.inf).mark_seen()

    # -- calls -------------------------------------------------------------------------------------

    def _submit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reply | Stream:
        self._must_be_mine()
        serializer = self._serializer
        if serializer is None:
            raise NotRunning(f"worker {self.name!r} has no tasks")
        call.encode(serializer, args, kwargs)
        if self._dispatcher.rosters.all.new:
            self._start_all()
        return self._intake.submit(call, serializer)

    def _exported(self) -> Iterable[str]:
        return sorted({name for task in self for name in task.exports})

    def _takes_chunks(self) -> bool:
        return self._dispatcher.backlog.max_pending is None and all(task._slot.traffic.takes_chunks for task in self)

    def _width(self) -> int:
        return sum(task._slot.traffic.table.concurrency for task in self)

    def send(self, name: str, *args: Any) -> Reply:
        """Send the strategy's next task an event. The Reply gives that task. Raises EncodeError.

        While all children leave too many events unread, this waits, as ``Task.send`` does.
        """
        return self._send(new_event(name), args)

    def _send(self, call: Call, args: tuple[Any, ...]) -> Reply:
        reply = cast(Reply, self._submit(call, args, {}))
        if self._dispatcher.chooser.waits and isinstance(call.carrier, Traffic):
            call.carrier.wait_for_slack()
        return reply

    def send_per_script(self, name: str, *args: Any) -> Reply:
        """Send one task of each script an event. The Reply gives an Outcome for each script's task."""
        chosen: dict[Any, Task] = {}
        for task in sorted(self, key=lambda task: task.load):
            chosen.setdefault(task._slot.script, task)
        tasks = list(chosen.values())
        return self._outcomes(tasks, [task.send(name, *args) for task in tasks])

    def script(self, target: Target) -> Scripted:
        """The tasks of one script, as a face for calls: ``worker.script("a.py").get("data")`` goes to one of them.

        ``target`` is what those tasks were made from. Raises KeyError that says what there is.
        """
        kind, script = kind_of(target)
        address = script if kind != "object" else id(target)
        if not any(task._core.address == address for task in self):
            there = ", ".join(sorted({task._slot.script for task in self})) or "none"
            raise KeyError(f"worker {self.name!r} has no task of script {script!r}; its scripts are: {there}")
        return Scripted(self, call_options(self._call_options, script=address))

    # -- start and stop ----------------------------------------------------------------------------

    def _start_all(self) -> None:
        """Unless somebody does, or has done."""
        with self._starting:
            tasks = list(self)
            if tasks and all(task.state is State.NEW for task in tasks):
                self.start().mark_seen()

    def start(self) -> Reply:
        """Start the tasks that are not running. The Reply gives the worker once all are ready, or raises StartError."""
        self._dispatcher.open()
        return super().start()

    def restart(self) -> Reply:
        """Restart every task. The Reply gives the worker once all are ready again, or raises StartError; or Stopped,
        when a task was being stopped, which is then not restarted."""
        self._dispatcher.open()
        return super().restart()

    def stop(self, timeout: float | None = None) -> Reply:
        """Finish what runs, fail what waits with Stopped, and stop every task. The Reply gives the exit records."""
        check_timeout(timeout)
        self._dispatcher.close()
        return super().stop(timeout)

    def kill(self, *args: Any) -> Reply:
        """Make every child leave now; what waits fails with Stopped. The Reply gives the exit records."""
        self.stop().mark_seen()
        return super().kill(*args)

    def drain(self, timeout: float | None = None) -> Reply:
        """A Reply of the worker, once it has no open calls. Raises TimeoutError when it still has some after
        ``timeout`` seconds."""
        return self._once_empty(timeout, "drain()", self._dispatcher.drain)

    def flush(self, timeout: float | None = None) -> Reply:
        """Take no more calls, and finish those that are here: new ones fail with Stopped, until ``resume()`` or
        ``start()``. Ends a pause.

        The Reply gives the worker, once it has no open calls. Raises TimeoutError when it still has some after
        ``timeout`` seconds; it then takes none all the same.
        """
        return self._once_empty(timeout, "flush()", self._dispatcher.flush)

    def _once_empty(self, timeout: float | None, what: str, wait: Callable[[Reply], object]) -> Reply:
        self._must_be_mine()
        check_timeout(timeout)
        reply = Reply(None, self.emitter.strand, self._title(what))
        reply.keeps = self
        reply.asked_by_listener = self.emitter.strand.here
        wait(reply)
        fail_after(reply, timeout, f"worker {self.name!r} still has open calls")  # behind that: it may be 0
        return reply

    def pause(self) -> None:
        """Give no more calls to tasks: they wait in the queue, until ``resume()``. Those that are with a task go on."""
        self._must_be_mine()
        self._dispatcher.pause()

    def resume(self) -> None:
        """Go on after ``pause()``, and take calls again after ``flush()``."""
        self._must_be_mine()
        self._dispatcher.resume()

    @property
    def full(self) -> bool:
        """True while the queue has no room for more: ``max_pending`` calls wait, or too many events that no child has
        read. Whoever finds it so is told ``drain`` when half of it is free again."""
        return self._dispatcher.backlog.crowded and self._dispatcher.note_full()

    def room(self) -> Reply:
        """A Reply of the worker: at once if its queue is not ``full``, or else when half of it is free again."""
        self._must_be_mine()
        reply = Reply(None, self.emitter.strand, self._title("room()"))
        self._dispatcher.when_roomy(reply)
        return reply

    @property
    def paused(self) -> bool:
        """True from ``pause()`` to ``resume()``."""
        return self._dispatcher.paused

    # -- sight -------------------------------------------------------------------------------------

    def _numbers(self) -> dict[str, Any]:
        return self._dispatcher.numbers(super()._numbers())


class Scripted(Bound):
    """The tasks of one script of a worker."""

    def __init__(self, worker: CloudWorker, options: CallOptions) -> None:
        super().__init__(worker, options)
        self._worker = worker

    def send(self, name: str, *args: Any) -> Reply:
        """Send the strategy's next task of this script an event. The Reply gives that task. Raises EncodeError."""
        call = new_event(name)
        call.script = self._call_options.script
        return self._worker._send(call, args)

    def _tasks(self) -> list[Task]:
        return [task for task in self._worker if task._core.address == self._call_options.script]

    def _exported(self) -> Iterable[str]:
        return sorted({name for task in self._tasks() for name in task.exports})

    def _width(self) -> int:
        return sum(task._slot.traffic.table.concurrency for task in self._tasks())


def _check_elastic(limits: ElasticSize, chooser: Chooser) -> None:
    if limits.max > limits.min and chooser.waits:
        raise ValueError(
            "size must be a number with a strategy that has each call wait for the task of its choice, such as 'sticky'"
        )
