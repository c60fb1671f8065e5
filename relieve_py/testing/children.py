"""A simulated child: what a real one does, one thing at a time, at the word of the scheduler.

Its main thread is a generator, which yields where a real one could be interrupted, be slow, or die. Beside it, what
comes over the channel is read, as the watching thread of a real child does.
"""

from __future__ import annotations

import pickle
import signal
from collections import deque
from collections.abc import Callable, Generator
from typing import NoReturn, Protocol

from relieve_py.blackbox import NO_PROGRESS
from relieve_py.child.calling import Interrupted
from relieve_py.child.outflow import Outflow
from relieve_py.child.process import exit_code_of
from relieve_py.launchers.base import Observer
from relieve_py.outcomes import Several
from relieve_py.serializers import Payload
from relieve_py.testing.pipes import GARBAGE, ChildEnd
from relieve_py.testing.scheduler import Scheduler, Source
from relieve_py.wire import Frame, Kind

BUNDLE = 5  # of the flags of a CALL frame
Wait = Callable[[], bool] | float | None
"""What a main thread waits for: a condition, so many seconds, or only its turn."""
Answer = tuple[Kind, Payload | None]

_HARMLESS = frozenset(
    {signal.SIGINT, signal.SIGURG, signal.SIGCHLD, signal.SIGWINCH, signal.SIGTTIN, signal.SIGSTOP, signal.SIGCONT}
)


class Performer(Protocol):
    """The code in a child. What it raises is what that code raises; what it yields, its main thread waits for."""

    def start(self, boot: Frame) -> Generator[Wait, None, Payload]:
        """Load the script and run its ``start()``; gives the encoded names of the exports."""
        ...

    def perform(self, frame: Frame) -> Generator[Wait, None, Answer]:
        """Run a call, from the moment that it is noted as begun."""
        ...

    def failure(self, error: BaseException) -> Payload:
        """What the parent is told of an error."""
        ...

    def told(self, frame: Frame) -> None:
        """An event of the parent, or its answer to a question."""
        ...

    def stop(self) -> Generator[Wait, None, None]:
        """Run the script's ``stop()``."""
        ...

    def warned(self) -> None:
        """Run what is to run before a kill."""
        ...


class Death(BaseException):
    """Raised in the code of a simulated child that ends it there and then."""

    def __init__(self, code: int | None, signum: int | None) -> None:
        super().__init__(code, signum)
        self.code = code
        self.signum = signum


class SimulatedChild(Source):
    """One child of a simulation. What its methods do happens at once."""

    def __init__(self, scheduler: Scheduler, name: str, end: ChildEnd) -> None:
        self.place = -1
        self.name = name
        """Of its task."""
        self.pid = 0
        self.alive = False
        """It exists and has not ended."""
        self.begun = 0
        """The number of the last call that it has begun, as in the page that it shares with its parent."""
        self.progress = NO_PROGRESS
        """How far it has come with the chunk that it runs, as in that page."""
        self.recalled = 0
        """The number of a chunk of which no further item is to begin."""
        self.frozen = False
        """It does nothing, as after SIGSTOP."""
        self.deaf = False
        """It does not heed a request to stop or to cancel."""
        self.shielded = False
        """It has handlers of its own for the signals that can be handled."""
        self.stopping = False
        self._told = 0  # the number of the last call that its parent sent; -1 once it was asked to stop
        self.outflows: dict[int, Outflow] = {}
        self.performer: Performer
        self._scheduler = scheduler
        self._end = end
        self._observer: Observer | None = None  # once it was told that the child exists
        self._inbox: deque[Frame] = deque()
        self._dropped: set[int] = set()
        self._dropped_pieces: set[tuple[int, int]] = set()
        self._piece = -1  # the place of the call that runs, in its bundle
        self._current = self._interrupt = 0
        self._doomed = 0  # the signal that is about to end it
        self._exit: tuple[int | None, int | None] | None = None
        self._main: Generator[Wait, None, int] = self._live()
        self._wait: Callable[[], bool] | None = None
        self._in_main = False

    def __repr__(self) -> str:
        state = "alive" if self.alive else "gone"
        return f"<SimulatedChild {self.pid} of {self.name!r}, {state}>"

    # -- what a test does to it --------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """True while a call runs in it."""
        return self._current > 0

    def ended(self, code: int | None, name: str | None) -> bool:
        """True when it has ended with that exit code, or by the signal of that name."""
        if self._exit is None:
            return False
        return (
            self._exit[0] == code
            and (self._exit[1] is None) == (name is None)
            and (name is None or self._exit[1] == signal.Signals[name])
        )

    def die(self, signum: int = signal.SIGKILL) -> None:
        """End by a signal, wherever it is."""
        self._finish(None, int(signum))

    def exit(self, code: int = 0) -> None:
        """End with an exit code, wherever it is."""
        self._finish(code, None)

    def freeze(self) -> None:
        """Do nothing until ``thaw()``, as after SIGSTOP."""
        self._note("freezes")
        self.frozen = True
        self.look()

    def thaw(self) -> None:
        """Go on."""
        self.frozen = False
        self.look()

    def ignore(self, *, requests: bool = True, signals: bool = True) -> None:
        """Heed no request to stop or to cancel; and no signal but SIGKILL and SIGSTOP."""
        self.deaf, self.shielded = requests, signals

    def garble(self) -> None:
        """Send bytes that are no frame."""
        if self.alive:
            self._note("writes garbage")
            self._end.send(GARBAGE)

    def hang_up(self) -> None:
        """Close the channel, and live on."""
        self._note("hangs up")
        self._end.close()

    def send(self, frame: Frame) -> None:
        """Send a frame."""
        if self.alive:
            if self._scheduler.trace is not None:
                self._note(f"sends {frame!r}")
            self._end.send(frame)

    # -- as a process ------------------------------------------------------------------------------

    def born(self, pid: int) -> None:
        """The launcher has made it."""
        self.pid = pid
        self.alive = True
        self._note("is made")
        self.look()

    def observed(self, observer: Observer) -> None:
        """The parent knows that it exists, and will hear how it ends."""
        self._observer = observer
        if self._exit is not None:
            self._scheduler.wake(Reaping(self._scheduler, observer, self._exit))

    def signal(self, signum: int) -> None:
        """It is sent a signal."""
        self._note(f"is sent signal {int(signum)}")
        if signum == signal.SIGSTOP:
            self.freeze()
        elif signum == signal.SIGCONT:
            self.thaw()
        elif signum == signal.SIGKILL or not (signum in _HARMLESS or self.shielded or self._doomed):
            self._doomed = int(signum)
            self.look()

    def _note(self, what: str) -> None:
        if self._scheduler.trace is not None:
            self._scheduler.trace(f"{self.name} {self.pid} {what}")

    def _finish(self, code: int | None, signum: int | None) -> None:
        if not self.alive:
            return
        self._note(f"ends: exit code {code}, signal {signum}")
        self.alive = False
        self._exit = code, signum
        self._current = 0
        self._end.close()
        self.look()
        if self._observer is not None:
            self._scheduler.wake(Reaping(self._scheduler, self._observer, self._exit))
            self._observer = None

    # -- as the scheduler sees it ------------------------------------------------------------------

    def look(self) -> None:
        """See whether there is something to do."""
        if self.alive and (
            self._doomed == signal.SIGKILL
            or (not self.frozen and (self._doomed or self._end.readable or self._can_go_on()))
        ):
            self._scheduler.wake(self)
        else:
            self._scheduler.rest(self)

    def _can_go_on(self) -> bool:
        """True when the main thread does not wait."""
        return not self._in_main and (self._wait is None or self._interrupt > 0 or self._wait())

    def step(self) -> None:
        """Die, read, or go on in the main thread."""
        doomed = self._doomed > 0 and (not self.frozen or self._doomed == signal.SIGKILL)
        reads = self._end.readable and not self.frozen
        goes_on = not self.frozen and self._can_go_on()
        can = [self._perish] * doomed + [self._read] * reads + [self._go_on] * goes_on
        if can:  # else its code waits, in the middle of a step
            can[self._scheduler.choose(len(can)) if len(can) > 1 else 0]()
        self.look()

    def _perish(self) -> None:
        if self._doomed == signal.SIGTERM:
            self.performer.warned()
        self._finish(None, self._doomed)

    # -- reading -----------------------------------------------------------------------------------

    def _read(self) -> None:
        frame = self._end.receive()
        if frame is None:  # the parent is gone
            self._finish(None, signal.SIGKILL)
            return
        if self._scheduler.trace is not None:
            self._note(f"reads {frame!r}")
        self._check(frame)
        match frame.kind:
            case Kind.CALL | Kind.BOOT:
                self._inbox.append(frame)
            case Kind.EVENT:
                self.send(Frame(Kind.DELIVERED, frame.number))
                self.performer.told(frame)
            case Kind.RESULT | Kind.ERROR:
                self.performer.told(frame)
            case Kind.CREDIT:
                if frame.number in self.outflows:
                    self.outflows[frame.number].credit(int.from_bytes(frame.payload, "little"))
            case Kind.CANCEL if not self.deaf:
                self._cancel(frame)
            case Kind.PING:
                self.send(Frame(Kind.PONG))
            case Kind.STOP if not self.deaf:
                self.stopping = True

    def _cancel(self, frame: Frame) -> None:
        number, place = frame.number, int.from_bytes(frame.payload, "little") if len(frame.payload) else -1
        if self._current == number and self._piece == place:
            self._interrupt = number
        elif place >= 0:
            self._dropped_pieces.add((number, place))
        else:
            self._dropped.add(number)

    def _check(self, frame: Frame) -> None:
        """What a parent must not do. Raises AssertionError."""
        if frame.kind == Kind.STOP:
            self._told = -1
        elif frame.kind == Kind.CALL:
            if self._told < 0:
                self._scheduler.blame(f"{self!r} was given a call after it was asked to stop")
            if frame.number <= self._told:
                self._scheduler.blame(f"{self!r} was given call {frame.number} after call {self._told}")
            self._told = frame.number

    # -- the main thread ---------------------------------------------------------------------------

    def _go_on(self) -> None:
        self._in_main = True
        self._wait = None
        try:
            if self._interrupt and self._interrupt == self._current:
                self._interrupt = 0
                wait = self._main.throw(Interrupted())
            else:
                wait = self._main.send(None)
        except StopIteration as end:
            self._finish(end.value, None)
        except Death as death:
            self._finish(death.code, death.signum)
        else:
            if callable(wait):
                self._wait = wait
            elif wait is not None:
                self._wait = _never
                self._scheduler.at(self._scheduler.now() + wait, self._wake_up)
        finally:
            self._in_main = False

    def _wake_up(self) -> None:
        if self._wait is _never:
            self._wait = None
            self.look()

    def _live(self) -> Generator[Wait, None, int]:
        """Everything from the first frame to the exit code."""
        boot = yield from self._next_frame()
        if boot is None:
            self._leave_with_parent()
        if self.stopping:
            return 0
        try:
            names = yield from self.performer.start(boot)
        except SystemExit as error:
            if not self.stopping:
                self.send(self.performer.failure(error).to_frame(Kind.FAILED, 0))
            return exit_code_of(error)
        except Exception as error:
            self.send(self.performer.failure(error).to_frame(Kind.FAILED, 0))
            return 1
        self.send(names.to_frame(Kind.READY, 0))
        try:
            while (frame := (yield from self._next_frame())) is not None:
                yield from self._run(frame)
        except SystemExit as error:
            return exit_code_of(error)
        try:
            yield from self.performer.stop()
        except SystemExit as error:
            return exit_code_of(error)
        except Exception:
            return 1
        return 0

    def _next_frame(self) -> Generator[Wait, None, Frame | None]:
        """The next frame for the main thread; None when it has to leave."""
        while not self._inbox:
            if self.stopping:
                return None
            yield self._has_work
        return self._inbox.popleft()

    def _has_work(self) -> bool:
        return bool(self._inbox) or self.stopping

    def _leave_with_parent(self) -> NoReturn:
        raise Death(None, signal.SIGKILL)

    def _run(self, frame: Frame) -> Generator[Wait, None, None]:
        """Run a call and answer it."""
        number = self.begun = self._current = frame.number
        self.progress = NO_PROGRESS
        self._note(f"begins call {number}")
        self.outflows[number] = Outflow()
        answer: Answer = Kind.END, None
        try:
            if number not in self._dropped:
                if frame.flags == BUNDLE:
                    answer = yield from self._bundle(number, pickle.loads(frame.payload))
                else:
                    answer = yield from self.performer.perform(frame)
        except Interrupted:
            pass
        except SystemExit:
            self.send(Frame(Kind.LEAVING))
            raise
        except Exception as error:
            answer = Kind.ERROR, self.performer.failure(error)
        finally:
            self._current = self._interrupt = 0
            self._dropped = {later for later in self._dropped if later > number}
            del self.outflows[number]
        self.answer(number, *answer)

    # -- calls that came together ------------------------------------------------------------------

    def _bundle(self, number: int, calls: list[bytes]) -> Generator[Wait, None, Answer]:
        """Run one after the other; what each gave is kept where the parent sees it."""
        self._kept, began = Several(0), self._scheduler.now()
        for place, data in enumerate(calls):
            self.progress = self.progress._replace(begun=place + 1)
            if self.recalled == number:
                self.progress = self.progress._replace(begun=place)
                break
            answer: Answer = Kind.END, None
            if (number, place) not in self._dropped_pieces:
                self._piece = place
                try:
                    answer = yield from self.performer.perform(Frame(Kind.CALL, number, data))
                except Interrupted:
                    pass
                except Exception as error:
                    answer = Kind.ERROR, self.performer.failure(error)
                finally:
                    self._piece, self._interrupt = -1, 0
            self._keep(*answer)
        values = self._kept.values
        failures = sum(type(value) is tuple and value[0] == Kind.ERROR for value in values)
        return Kind.RESULT, self._kept.payload(len(values), failures, self._scheduler.now() - began)

    def _keep(self, kind: Kind, payload: Payload | None) -> None:
        outcome = self._kept.sealed(kind, payload or Payload(b""))
        self._kept.add(outcome)
        records = self.progress.records + pickle.dumps(outcome, 5)
        self.progress = self.progress._replace(done=self.progress.done + 1, records=records)

    def answer(self, number: int, kind: Kind, payload: Payload | None) -> None:
        """Have the parent know the answer before its code goes on."""
        if self.bundled:
            self._keep(kind, payload)
        else:
            self.send(Frame(kind, number) if payload is None else payload.to_frame(kind, number))

    @property
    def bundled(self) -> bool:
        """True while a call of a bundle runs, whose answer is kept in memory."""
        return self._piece >= 0


def _never() -> bool:
    return False


class Reaping(Source):
    """A child that has ended: its parent is told at some time."""

    __slots__ = ("_exit", "_observer", "_scheduler")

    def __init__(self, scheduler: Scheduler, observer: Observer, exit: tuple[int | None, int | None]) -> None:
        self.place = -1
        self._scheduler = scheduler
        self._observer = observer
        self._exit = exit

    def step(self) -> None:
        self._scheduler.rest(self)
        self._observer.exited(*self._exit)
