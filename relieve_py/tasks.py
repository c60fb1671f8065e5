"""Task, ForkTask, ScriptTask, CallableTask: thin faces over one slot each, made to be subclassed."""

from __future__ import annotations

import copy
import logging
import signal
import time
import weakref
from typing import Any, ClassVar, Self, Unpack, cast

from relieve_py import plugins
from relieve_py.calls import DEFAULTS, Call, Mode
from relieve_py.core import Core, Target
from relieve_py.entering import Entered
from relieve_py.errors import AlreadyRunning
from relieve_py.events import LIFECYCLE, Emitter, Failed, Ready, Restarting, Started
from relieve_py.exits import Exit
from relieve_py.health import TaskHealth
from relieve_py.lifecycle import State
from relieve_py.listening import Listening
from relieve_py.options import TaskKeywords, TaskOptions, read_options
from relieve_py.output import OutputLine
from relieve_py.policies import NEVER, RestartPolicy
from relieve_py.remote import Remote
from relieve_py.replies import Reply
from relieve_py.stats import TaskStats, stats_of
from relieve_py.streams import Stream
from relieve_py.waiters import Waiters

_logger = logging.getLogger("relieve_py")
_NEW = State.NEW  # to look up a member of an enum takes a while


class Task(Entered, Listening):
    """A supervised slot for one child process; it outlives restarts. Use one of its subclasses, or make your own.

    ``target`` is a script (a path or a dotted module name), or a class, an object or a function. The keyword options
    are those of ``TaskOptions``; wrong ones raise TypeError or ValueError.
    """

    _program: ClassVar[bool] = True
    _default_restart: ClassVar[RestartPolicy] = NEVER
    _followed_by: tuple[object, ...] = ()  # workers that a program keeps

    def __init__(self, target: Target, **options: Unpack[TaskKeywords]) -> None:
        self._take(Core(target, read_options(type(self).__name__, options), self._program, self._default_restart, True))

    def _take(self, core: Core) -> None:
        self._core = core
        self._slot = core.slot
        self._followed_by = ()
        self._waiters = Waiters()
        self._named = core.options.name is not None
        core.voice.take(self, keep=self._program)
        if not self._program:
            # By way of the I/O thread: the collector may run this in the middle of a lock.
            gone = weakref.finalize(self, core.supervisor.post_from_finalizer, core.slot.let_go)
            gone.atexit = False
        core.extra_containers = list(plugins.containers_for(self))
        for interface in (*plugins.interfaces_for(self), *core.options.interfaces):
            interface.attach(self)

    def clone(self, name: str | None = None) -> Self:
        """Another task like this one, not started: the same script, options, attributes and listeners."""
        other = copy.copy(self)
        keywords: Any = {**_as_keywords(self._core.options), "name": name}
        core = Core(self._core.target, TaskOptions(**keywords), self._program, self._default_restart, True)
        core.voice.emitter.copy_listeners(self.emitter)
        other._take(core)
        return other

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{type(self).__name__} {self.name!r} cannot be sent to another process: send its name, or its results"
        )

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    # -- what it is --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Unique within its worker. It can be set once, if it was not given at construction, before the first start."""
        return self._core.name

    @name.setter
    def name(self, name: str) -> None:
        if self._named:
            raise AttributeError(f"the name of task {self.name!r} is set already")
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a non-empty string, not {name!r}")
        if self.state is not State.NEW:
            raise AttributeError(f"task {self.name!r} was started: its name cannot change any more")
        self._named = True
        self._core.name = self._core.voice.name = self._slot.rename(name)

    @property
    def state(self) -> State:
        """Where it is."""
        return self._slot.life.state

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._slot.life.pid

    @property
    def restarts(self) -> int:
        """How many children followed the first."""
        return self._slot.life.restarts

    @property
    def started_at(self) -> float | None:
        """When the last child was launched, in seconds since the epoch; None if there never was one."""
        launched = self._slot.life.launched_at
        return time.time() - (self._slot.now() - launched) if launched else None

    @property
    def uptime(self) -> float | None:
        """Seconds since the child was launched; None while there is none."""
        return self._slot.now() - self._slot.life.launched_at if self.pid is not None else None

    @property
    def exit(self) -> Exit | None:
        """How the last child ended; None if none has."""
        return self._slot.life.exit

    @property
    def load(self) -> int:
        """Calls waiting for and running on this task."""
        return self._slot.traffic.table.load

    @property
    def exports(self) -> tuple[str, ...]:
        """The names that the child exports; empty until it was ready once."""
        return self._slot.life.exports

    def output(self) -> tuple[OutputLine, ...]:
        """The last lines that its children printed, as far as the option ``output`` keeps them: 64 KiB, of all but
        ``"inherit"``."""
        return self._core.tail.lines(self.name)

    def health(self) -> TaskHealth:
        """How its child is now, by psutil. It is looked at on this thread, which takes some 100 µs."""
        return self._core.sampler.look(self)

    def stats(self) -> TaskStats:
        """Its numbers so far: calls, restarts, percentiles of times."""
        return stats_of(self)

    def to_dict(self) -> dict[str, Any]:
        """What it is, as plain data for json."""
        exit = self.exit
        return {
            "name": self.name,
            "kind": type(self).__name__,
            "script": self._core.slot.script,
            "state": self.state.value,
            "pid": self.pid,
            "restarts": self.restarts,
            "started_at": self.started_at,
            "load": self.load,
            "exit": None
            if exit is None
            else {"code": exit.code, "signal": exit.signal, "forced": exit.forced, "uptime": exit.uptime},
        }

    def __repr__(self) -> str:
        child = f" pid {self.pid}" if self.pid is not None else ""
        return f"<{type(self).__name__} {self.name!r} {self.state.value}{child}>"

    # -- start and stop ----------------------------------------------------------------------------

    def start(self) -> Reply:
        """Launch a child. The Reply gives the task once that is ready, or raises StartError.

        Raises AlreadyRunning, Stopped while the last child is leaving, or EncodeError for start arguments.
        """
        self._core.encode_now()
        return self._slot.start()

    def restart(self) -> Reply:
        """Let the child finish, then launch another. The Reply gives the task once that is ready. Raises Stopped."""
        self._core.encode_now()
        return self._slot.restart()

    def reload(self) -> Reply:
        """Launch another child, and let the old one finish and leave once that is ready: a restart without a gap.

        The Reply gives the task once the new child has taken over. It raises StartError when that could not start; the
        old one then stays. A task that is not running is started. Raises Stopped.
        """
        self._core.encode_now()
        return self._slot.reload()

    def stop(self, timeout: float | None = None) -> Reply:
        """Let the child finish what it runs, and leave; killed after ``timeout`` seconds (``kill_timeout``).

        Calls that were not sent yet fail with Stopped. The Reply gives the exit record (None if there was no child).
        """
        return self._slot.stop(timeout)

    def kill(self, signum: int = signal.SIGKILL) -> Reply:
        """Make the child leave now, by that signal, and do not restart it. The Reply gives the exit record."""
        return self._slot.kill(signal.Signals(signum))

    def send_signal(self, signum: int) -> None:
        """Send the child a signal as a message, which changes nothing here. Raises NotRunning."""
        self._slot.signal(signal.Signals(signum))

    def drain(self, timeout: float | None = None) -> Reply:
        """A Reply of the task, once it has no open calls. Raises TimeoutError when it still has some after ``timeout``
        seconds."""
        return self._slot.drain(timeout)

    def wait(self) -> Reply:
        """A Reply of the exit record, once the last child is gone and no other will follow."""
        return self._slot.until_exit()

    def _enter(self) -> Reply | None:
        return self._slot.until_ready() if self._slot.life.accepts else self.start()

    # -- events ------------------------------------------------------------------------------------

    @property
    def emitter(self) -> Emitter:
        """Who tells its listeners."""
        return self._core.voice.emitter

    def wait_for(self, name: str) -> Reply:
        """A Reply of the arguments (a tuple) of the next event of that name. It fails when no child is left to
        send it."""
        self._slot.must_be_mine()
        reply = Reply(None, self.emitter.strand, f"wait_for({name!r}) of task {self.name!r}")
        reply.keeps = self
        return self._waiters.add(name, reply)

    def send(self, name: str, *args: Any) -> Reply:
        """Send the child an event. The Reply gives the task, once the event has arrived. Raises EncodeError.

        While the child leaves too many events unread, this waits, but not under an event loop and not in a listener,
        where it is for you to wait for the Reply.
        """
        call = new_event(name)
        if self.state is State.NEW:
            self._core.encode_now()
        call.encode(self._core.serializer, args, {})
        self._slot.traffic.wait_for_slack()
        reply = cast(Reply, call.make_reply(self.emitter.strand))
        reply.keeps = self
        self._slot.traffic.submit(call)
        return reply

    # -- to be overridden --------------------------------------------------------------------------

    def on_start(self, event: Started) -> None:
        """A child was launched. Does nothing here; called like a listener, as are all of these."""

    def on_ready(self, event: Ready) -> None:
        """The child is ready."""

    def on_message(self, name: str, *args: Any) -> None:
        """The child sent an event."""

    def on_exit(self, event: Exit) -> None:
        """A child has ended."""

    def on_restart(self, event: Restarting) -> None:
        """Another child will be launched."""

    def on_error(self, event: Failed) -> None:
        """A called function raised, the child could not start, or the restart budget is spent."""

    @property
    def _handles_errors(self) -> bool:
        return type(self).on_error is not Task.on_error


def new_event(name: str) -> Call:
    """The call that carries an event to a child. Raises TypeError or ValueError for names that events cannot have."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"an event's name is a non-empty string, not {name!r}")
    if name in LIFECYCLE:
        raise ValueError(f"{name!r} is the name of a lifecycle event, which user events may not have")
    return Call(Mode.EVENT, name, DEFAULTS)


def _as_keywords(options: TaskOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in TaskKeywords.__annotations__}


class ScriptTask(Task):
    """Runs its script as a program: ``__name__ == "__main__"``, and ``sys.argv[1:]`` the start arguments as text.

    It is ready once the code begins to run, or with ``ready="call"`` when that calls ``ipc.ready()``. After the
    program, ``start(*args)`` runs if it defined one, and the child stays while handlers of events are registered. It
    goes on when nobody has the task any more, as a process does whose Popen nobody keeps.
    """


class CallableTask(Remote, Task):
    """Imports its script, calls its ``start(*args)``, and then serves calls until it is stopped.

    A child that dies is replaced (``restart=False`` changes that). When nobody has the task any more, nor a worker that
    has it, nor a Reply or Stream of it that is open, its calls are finished and it is stopped.
    """

    _program = False
    _default_restart = RestartPolicy()
    _call_options = DEFAULTS

    def _submit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reply | Stream:
        if self._slot.life.state is _NEW:
            self._core.encode_now()
        call.encode(self._core.serializer, args, kwargs)
        reply = call.make_reply(self.emitter.strand)
        self._slot.traffic.submit(call)
        return reply

    def _exported(self) -> tuple[str, ...]:
        return self.exports

    def _takes_chunks(self) -> bool:
        return self._slot.traffic.takes_chunks

    def _width(self) -> int:
        return self._slot.traffic.table.concurrency


class Fork:
    """A child that ``fork`` has started and no ForkTask has wrapped yet. What it tells is kept until then."""

    def __init__(self, core: Core) -> None:
        self._core: Core | None = core

    @property
    def pid(self) -> int | None:
        """The child's process id; None until it exists."""
        return self._core.slot.life.pid if self._core is not None else None

    def _claim(self) -> Core:
        if self._core is None:
            raise AlreadyRunning("this child is wrapped by a ForkTask already")
        core, self._core = self._core, None
        return core


def fork(target: Target, *args: Any, **options: Any) -> Fork:
    """Start a child at once that runs a script as a program, or a function with those arguments; wrap it in a ForkTask.

    The options are those of ScriptTask but ``restart``. Raises TypeError, ValueError, or EncodeError.
    """
    if "args" in options or "restart" in options:
        raise TypeError("fork() takes the start arguments after the script, and cannot restart what it started")
    keywords: Any = {**options, "args": args}
    core = Core(target, read_options("fork()", keywords), True, NEVER, False)
    core.encode_now()
    core.slot.start().mark_seen()
    return Fork(core)


class ForkTask(Task):
    """Wraps a child that already runs, made by ``fork``. It cannot be started again."""

    def __init__(self, fork: Fork) -> None:
        if not isinstance(fork, Fork):
            raise TypeError(f"ForkTask wraps what fork(script, *args) returns, not {fork!r}; or use ScriptTask")
        self._take(fork._claim())

    def clone(self, name: str | None = None) -> Self:
        """Raises TypeError: there is one child only."""
        raise self._no_start("cloned")

    def start(self) -> Reply:
        """Raises AlreadyRunning, or TypeError once the child has ended."""
        if self._slot.life.accepts:
            raise AlreadyRunning(f"task {self.name!r} wraps a child that runs already", task=self.name)
        raise self._no_start("started")

    def restart(self) -> Reply:
        """Raises TypeError."""
        raise self._no_start("restarted")

    def reload(self) -> Reply:
        """Raises TypeError."""
        raise self._no_start("reloaded")

    def _no_start(self, what: str) -> TypeError:
        return TypeError(f"ForkTask {self.name!r} wraps one child and cannot be {what}; use ScriptTask for that")

    def _enter(self) -> Reply | None:
        return None
