"""What was asked of a simulated pool and what became of it, and the rules that one call can break."""

from __future__ import annotations

from typing import Any

import attrs

from relieve_py.calls import Call, CallOptions, Mode
from relieve_py.errors import (
    CallCancelled,
    CallTimeout,
    NotRunning,
    PoisonCall,
    RemoteError,
    RetriesExhausted,
    StartError,
    StrategyError,
    TaskDied,
    WorkerFull,
)
from relieve_py.testing.children import SimulatedChild


class Violation(AssertionError):
    """Raised when a rule that always holds does not hold. It may be raised where the product would take it for a fault
    of a child, so the world looks whether there was one."""

    last: Violation | None = None

    def __init__(self, what: str) -> None:
        super().__init__(what)
        Violation.last = self


@attrs.define(eq=False)
class Try:
    """One time that a child began a call."""

    child: SimulatedChild
    answered: bool = False
    """The child has sent its answer, on a channel that was in order."""

    @property
    def died(self) -> bool:
        """The child is gone and took it along."""
        return not self.answered and not self.child.alive

    def tells(self, error: TaskDied) -> bool:
        """The error says how the child that began it died."""
        return self.died and error.pid == self.child.pid and self.child.ended(error.exit_code, error.signal)


@attrs.define(eq=False)
class Entry:
    """One call, as the world outside of the product knows it."""

    index: int
    mode: Mode
    options: CallOptions
    call: Call | None = None
    """None when it was refused at once."""
    reply: Any = None
    tries: list[Try] = attrs.field(factory=list)
    returned: int = 0
    """How often a child has answered with its value."""
    raised: int = 0
    """How often a child has answered with an error of the user."""
    cancelled: bool = False
    """The user cancelled it."""
    refused: bool = False
    """A pool may refuse it: it was stopped, or full, or its strategy raised."""
    settled: int = 0
    to_worker: bool = False
    _stream_error: BaseException | None = None

    def __repr__(self) -> str:
        marks = f"{', cancelled' if self.cancelled else ''}{', refused' if self.refused else ''}"
        return (
            f"<{self.mode.name.lower()} {self.index}: begun {len(self.tries)} times, returned {self.returned}, raised "
            f"{self.raised}, died {self.deaths}, settled {self.settled}{marks}>"
        )

    @property
    def open(self) -> bool:
        """True until the user has an answer."""
        return self.settled == 0

    @property
    def deaths(self) -> int:
        """How often a child died over it."""
        return sum(each.died for each in self.tries)

    # -- rules 4 and 5 -----------------------------------------------------------------------------

    def begins(self, child: SimulatedChild) -> Try:
        """A child begins it, or receives it."""
        call = self.call
        if call is None:
            raise Violation(f"rule 4: {self} was refused and runs all the same")
        failures = len(call.causes)
        if len(self.tries) > failures:
            raise Violation(f"rule 4: {self} runs again after {failures} failures: {call.causes}")
        if len(self.tries) > self.options.retries.max:
            raise Violation(f"rule 5: {self} runs again, and may be retried {self.options.retries.max} times")
        told = self.settled and self.mode is not Mode.CALL  # that has its answer when it begins
        if told and not self.cancelled and call.timeout is None:
            raise Violation(f"rule 4: {self} begins after its caller had the answer")
        this = Try(child)
        self.tries.append(this)
        return this

    # -- rule 1 ------------------------------------------------------------------------------------

    def settles(self) -> None:
        """The user has an answer."""
        self.settled += 1
        if self.settled > 1:
            raise Violation(f"rule 1: {self} settled again")

    def read(self) -> None:
        """The user takes what a stream has."""
        while not self.settled and self.reply._items.settled():
            try:
                next(self.reply)
            except StopIteration:
                self.settles()
            except Exception as error:
                self._stream_error = error
                self.settles()

    def cancel(self) -> None:
        """The user wants no more of it."""
        self.cancelled = True
        if self.mode is Mode.STREAM:
            self.reply.close()
            self.settles()
        else:
            self.reply.cancel()

    def check_outcome(self) -> None:
        """Whether the answer is what happened. Called at the end."""
        if not self.settled:
            raise Violation(f"rule 1: {self} never settles")
        error = self._error()
        if not self._explains(error):
            raise Violation(f"rule 1: {self} ended with {error!r}, which is not what happened")

    def _error(self) -> BaseException | None:
        if self.mode is Mode.STREAM:
            return CallCancelled("closed") if self.cancelled else self._stream_error
        try:
            error: BaseException | None = self.reply.exception(0)
            if error is None and self.mode is Mode.GET and self.reply.result() != self.index:
                raise Violation(f"rule 1: {self} has the answer of another: {self.reply.result()}")
            return error
        except CallCancelled as cancelled:
            return cancelled

    def _explains(self, error: BaseException | None) -> bool:
        """True when that outcome goes with what happened in the world."""
        match error:
            case None:
                return self.returned > 0 if self.mode in (Mode.GET, Mode.STREAM) else bool(self.tries)
            case CallCancelled():
                return self.cancelled
            case TaskDied():
                return self.mode is Mode.EVENT or any(each.tells(error) for each in self.tries)
            case CallTimeout():
                return self.options.timeout is not None or self.options.queue_timeout is not None
            case PoisonCall():
                return self.deaths >= (self.options.poison_after or 0) > 0
            case RetriesExhausted():
                tries = 1 + self.options.retries.max
                return len(error.causes) == tries or (self.mode is Mode.STREAM and 1 < len(error.causes) <= tries)
            case StartError() | NotRunning() | WorkerFull() | StrategyError():
                return self.refused
            case RemoteError() | ValueError():
                return self.raised > 0
        return False
