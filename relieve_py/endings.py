"""How a try of a call ends: settled, tried again, or given up. Nothing here holds a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from relieve_py.answers import Encoded
from relieve_py.calls import Call, Mode
from relieve_py.errors import (
    LimitExceeded,
    NotRepeatable,
    PoisonCall,
    RelieveError,
    RetriesExhausted,
    TaskDied,
    copy_of,
)
from relieve_py.exits import Exit
from relieve_py.strands import Strand
from relieve_py.tally import Tally


class Owner(Protocol):
    """The task of a slot, as the slot sees it. None of these may block."""

    @property
    def face(self) -> Any:
        """The task itself, as replies give it to users."""
        ...

    def tell(self, name: str, record: Any, told: bool = False) -> None:
        """A lifecycle event; called under the slot's lock. ``told``: of this error, somebody who waits is told too."""
        ...

    def deliver(self, name: str, args: list[Any]) -> None:
        """An event of the child; called on the strand."""
        ...

    def answer(self, name: str, args: list[Any], give: Callable[[Any, BaseException | None], object]) -> None:
        """A question of the child; called on the strand. ``give(value, error)`` answers it."""
        ...

    def nothing_will_come(self, error: BaseException) -> None:
        """No child is left, and no other will follow."""
        ...

    def call_failed(self, call: Call, error: BaseException) -> None:
        """A call failed and nobody waits for its reply."""
        ...


class Endings:
    """The ends of one slot's calls."""

    def __init__(self, owner: Owner, tally: Tally) -> None:
        self._owner = owner
        self._tally = tally
        self._strand = Strand()

    @staticmethod
    def must_decide(call: Call) -> bool:
        """True when the error that its function raised has to be looked at here."""
        return call.mode is Mode.CALL or bool(call.retries.max and call.retries.on)

    def decide(self, call: Call, encoded: Encoded, decided: Callable[[Call], object]) -> None:
        """Look at the error, on a strand that no listener can hold up, and go on from there; then ``decided(call)``."""
        self._strand.submit(self._decide, call, encoded, decided)

    def _decide(self, call: Call, encoded: Encoded, decided: Callable[[Call], object]) -> None:
        try:
            _, error = encoded.open()
            assert error is not None
            self.failed(call, error, lost=False)
        finally:
            decided(call)

    def failed(self, call: Call, error: BaseException, *, lost: bool) -> None:
        """A try of the call failed; ``lost`` by death or timeout. It is tried again if its policy says so."""
        call.causes += (error,)
        if isinstance(error, TaskDied):
            call.deaths += 1
        if call.reply.cancelled():
            return
        retry = call.retries.allows(len(call.causes), error, lost) and not call.partly_answered
        if retry and call.poison_after is not None and call.deaths >= call.poison_after:
            self.give_up(call, _poison(call, error))
        elif retry and call.partly_fed:
            self.give_up(call, _not_repeatable(call, error))
        elif retry and call.home is not None:
            self._tally.is_retried()
            call.home.resubmit([call], call.retries.delay_before(len(call.causes)))
        else:
            self.give_up(call, _exhausted(call) if len(call.causes) > 1 else error)

    def give_up(self, call: Call, error: BaseException) -> None:
        """The call has failed for good."""
        call.await_turn_no_more()
        if isinstance(error, RelieveError):
            told, error = error, copy_of(error)  # one error may end many calls
            # No further try was possible: say why one was needed, unless that is what it fails with.
            if error.__cause__ is None and call.causes and call.causes[-1] is not told:
                error.__cause__ = call.causes[-1]
        if not call.reply.cancelled() and call.mode is not Mode.EVENT:
            self._tally.have_failed(call.left())
        if not call.reply.fail(error) and not call.reply.cancelled():
            self._owner.call_failed(call, error)


def died(call: Call, exit: Exit, restarts: int) -> TaskDied:
    """The error of a call whose child died over it."""
    message = (
        f"task {exit.task!r} (pid {exit.pid}) died while it ran {call.title}: {exit.describe()}, "
        f"after {exit.uptime:.3g} seconds"
    )
    said: dict[str, Any] = {
        "task": exit.task,
        "pid": exit.pid,
        "exit_code": exit.code,
        "signal": exit.signal,
        "uptime": exit.uptime,
        "restarts": restarts,
        "call_id": call.id,
        "method": call.method,
        "stdout": exit.stdout,
        "stderr": exit.stderr,
        "stacks": exit.stacks,
        "out_of_memory": exit.out_of_memory,
    }
    if exit.limit is not None:
        error: TaskDied = LimitExceeded(message, limit=exit.limit, allowed=exit.allowed, **said)
    else:
        error = TaskDied(message, **said)
    for note in exit.notes():
        error.add_note(note)
    return error


def _poison(call: Call, error: BaseException) -> PoisonCall:
    children = "1 child" if call.deaths == 1 else f"{call.deaths} children"
    poison = PoisonCall(
        f"call {call.id} of {call.title} has killed {children} and is not tried again",
        deaths=call.deaths,
        call_id=call.id,
        method=call.method,
    )
    poison.__cause__ = error
    return poison


def _not_repeatable(call: Call, error: BaseException) -> NotRepeatable:
    partly = NotRepeatable(
        f"call {call.id} of {call.title} is not tried again: it has read some of a stream among its arguments, and "
        f"that cannot be read again: {error}",
        call_id=call.id,
        method=call.method,
    )
    partly.__cause__ = error
    return partly


def _exhausted(call: Call) -> RetriesExhausted:
    error = RetriesExhausted(
        f"call {call.id} of {call.title} failed {len(call.causes)} times; the last time: {call.causes[-1]}",
        causes=call.causes,
        call_id=call.id,
        method=call.method,
    )
    error.__cause__ = call.causes[-1]
    return error
