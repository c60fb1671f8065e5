"""What becomes of the batches of one slot: their outcomes, as they come and as a dead child leaves them, and their
rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from relieve_py.batch import Batch, Conclusion, Deed
from relieve_py.blackbox import NO_PROGRESS, Progress
from relieve_py.bundles import LATENCY, Bundle
from relieve_py.calls import Call, Carrier, Home, by_home
from relieve_py.endings import Endings, died
from relieve_py.errors import ProtocolError
from relieve_py.exits import Exit
from relieve_py.host import Host
from relieve_py.instructions import Instruction
from relieve_py.line import Line
from relieve_py.outcomes import Head, Sealed, head_of, outcomes_in
from relieve_py.rate import Rate
from relieve_py.serializers import Payload
from relieve_py.supervisor import Supervisor
from relieve_py.tally import Tally
from relieve_py.wire import Frame, Kind

OVERDUE = 0.05
"""Seconds after which a batch gives what it has, and its rest to another task. It was made to take a fifth of that, so
one of its pieces is slow. Less: more looks at batches of a busy machine; more: what is behind it waits longer."""
RECALL_GRACE = 0.002
"""Seconds from a recall to the look at what it has kept from beginning: no processor keeps a write to itself for as
long."""


class Sender(Carrier, Home, Protocol):
    """The traffic that has sent the batches, and is the home of calls that no worker sent."""


Expect = Callable[[Any, float, Callable[[Any, int, int], object]], object]
"""Under the lock: have a batch looked at after so many seconds, on the I/O thread, unless it is over."""


class Chunking:
    """The batches of one slot. With the turn to read, unless it is said otherwise."""

    def __init__(
        self,
        sender: Sender,
        host: Host,
        line: Line,
        supervisor: Supervisor,
        endings: Endings,
        tally: Tally,
        expect: Expect,
    ) -> None:
        self._sender = sender
        self._expect = expect
        self._host = host
        self._line = line
        self._supervisor = supervisor
        self._now = supervisor.now
        self._endings = endings
        self._tally = tally
        self.rate = Rate(LATENCY)  # of calls, by which it goes how many travel together

    # -- what the child sends ----------------------------------------------------------------------

    def underway(self, batch: Batch, frame: Frame) -> None:
        """Outcomes of its next pieces; others follow. Raises ProtocolError."""
        payload = Payload.of_frame(frame)
        with self._line.lock:
            give = batch.deliver(payload, self._take(batch, head_of(payload)))
        give()

    def finished(self, batch: Batch, frame: Frame) -> None:
        """Its last outcomes. Raises ProtocolError."""
        payload = Payload.of_frame(frame)
        head = head_of(payload)
        with self._line.lock:
            skip = self._take(batch, head)
        if batch.left():  # it was recalled at the last moment: no signal handler may come between it and its rest
            self._supervisor.perform(lambda: self._conclude(batch, payload, skip, head))
        else:
            self._conclude(batch, payload, skip, head)

    def _conclude(self, batch: Batch, payload: Payload, skip: int, head: Head) -> None:
        """Without the lock: give the last outcomes, and send the rest again."""
        with self._line.lock:
            rest = range(batch.taken, batch.limit)
            over = batch.conclude(payload, skip, range(0), [rest], (head.end, head.seconds))
            self._count(batch, head.end - head.failures, head.failures)
            if isinstance(batch, Bundle) and head.end:
                self.rate.ran(head.end, head.seconds, len(batch.payload) / len(batch.calls))
        self._end(batch, over)

    def progress(self, number: int) -> Progress:
        """How far the child has come with that batch, asked before it is given another call."""
        birth = self._line.birth
        return birth.cradle.progress(number) if birth is not None else NO_PROGRESS

    def failed(self, batch: Batch, progress: Progress, fail: Callable[[Call], object]) -> None:
        """The child could not go on with it, and lives: ``fail(call)`` for a piece that it has begun and not finished.
        When it could not even begin, each is tried by itself, so that the one that it is for fails alone."""
        self.rate.reset()

        def fail_dead() -> None:
            for call in self._break_off(batch, progress).dead:
                fail(call)

        self._supervisor.perform(fail_dead)  # where no signal handler comes in between

    def _take(self, batch: Batch, head: Head) -> int:
        """Under the lock: count these outcomes as taken; how many of them were so before. Raises ProtocolError."""
        if head.first > batch.taken or head.end > batch.limit or head.end < batch.taken:
            raise ProtocolError(f"outcomes of {head.first} to {head.end} came where {batch.taken} was next")
        skip, batch.taken = batch.taken - head.first, head.end
        return skip

    def _count(self, batch: Batch, done: int, failures: int) -> None:
        """Under the lock: for statistics. What one item took is what its chunk took."""
        if isinstance(batch, Bundle):
            return  # of its calls, values are counted as they come, and errors where they are decided about
        if done > 0:
            self._tally.recent.append((batch.made_at, batch.sent_at, self._now()))
            self._tally.done += done - 1
        self._tally.have_failed(failures)

    def _end(self, batch: Batch, over: Conclusion) -> None:
        if over.give():
            _send_again(over.again, over.counted, self._sender)
        else:
            self._tally.were_cancelled(sum(call.left() for call in over.again))

    # -- when a piece is slow ----------------------------------------------------------------------

    def watch(self, batch: Batch) -> None:
        """Under the lock: it was sent."""
        if batch.left() > 1:
            # At first after that time, then after twice as long as it has taken so far.
            self._expect(batch, max(OVERDUE, self._now() - batch.sent_at), self._overdue)

    def _overdue(self, batch: Batch, number: int, generation: int) -> None:
        """I/O thread: give what is done, and have no further piece begin here if others can run them."""
        give: Deed | None = None
        with self._line.lock:
            birth = self._line.birth
            if birth is None or generation != self._host.life.generation or batch.number != number:
                return
            outcomes = _kept(batch, birth.cradle.progress(number))
            if outcomes:
                batch.taken += len(outcomes)
                give = batch.deliver(outcomes, 0)
            if batch.left() > 1 and self._has_other_home(batch):
                birth.cradle.recall(number)
                self._expect(batch, RECALL_GRACE, self._recalled)
            else:
                self.watch(batch)
        if give is not None:
            give()
            self._line.nudge()

    def _has_other_home(self, batch: Batch) -> bool:
        """Whether its pieces may run elsewhere."""
        calls: list[Call] = batch.calls if isinstance(batch, Bundle) else [batch]
        return any(call.home is not self._sender for call in calls)

    def _recalled(self, batch: Batch, number: int, generation: int) -> None:
        """I/O thread: the pieces that have not begun by now never will."""
        with self._line.lock:
            birth = self._line.birth
            if birth is None or generation != self._host.life.generation or batch.number != number:
                return
            begun = max(birth.cradle.progress(number).begun, batch.taken)
            if begun >= batch.limit:
                return
            rest, give = batch.release(begun)
        if give():
            _send_again(rest, isinstance(batch, Bundle), self._sender)
        else:
            self._tally.were_cancelled(sum(call.left() for call in rest))
        self._line.nudge()

    # -- when a call of a bundle is not wanted any more --------------------------------------------

    def drop(self, call: Call) -> bool:
        """Under the lock: have the child leave that one out, or interrupt it. False when it is over."""
        bundle: Bundle = call.within
        place = bundle.place_of(call)
        if place is None or not bundle.number:
            return False
        self._line.post(Frame(Kind.CANCEL, bundle.number, place.to_bytes(4, "little")))
        due = self._now() + self._host.life.kill_timeout
        self._supervisor.at(due, self._still_there, bundle, place, bundle.number, self._host.life.generation)
        return True

    def _still_there(self, bundle: Bundle, place: int, number: int, generation: int) -> None:
        """I/O thread: it was to be interrupted, if it has begun."""

        def decide(now: float) -> list[Instruction]:
            birth = self._line.birth
            if birth is None or generation != self._host.life.generation or bundle.number != number:
                return []
            progress = birth.cradle.progress(number)
            if progress.done > place:
                return []
            if progress.begun <= place:  # what runs before it is not to blame
                due = now + self._host.life.kill_timeout
                self._supervisor.at(due, self._still_there, bundle, place, number, generation)
                return []
            return self._host.life.force(now, "it did not answer an interrupt in time")

        self._host.act(decide)

    # -- when the child dies -----------------------------------------------------------------------

    def untouched(self, batch: Batch) -> None:
        """Without the lock: the dead child never began it. What was recalled from it has gone elsewhere already."""
        with self._line.lock:
            over = batch.conclude([], 0, range(0), [range(batch.taken, batch.limit)], (0, 0.0))
        self._end(batch, over)

    def died(self, batch: Batch, progress: Progress, exit: Exit, restarts: int) -> None:
        """Without the lock: the piece that the dead child ran has failed."""
        over = self._break_off(batch, progress)
        for call in over.dead:
            if call.reply.cancelled() and not over.counted:  # of a map that nobody reads any more
                self._tally.were_cancelled(1)
            self._endings.failed(call, died(call, exit, restarts), lost=True)
            if over.counted and call.home is not None:
                call.home.ended((call,), self._sender)

    def _break_off(self, batch: Batch, progress: Progress) -> Conclusion:
        """Without the lock: what the child has finished counts, what never began is sent again. The dead are those
        whose end is up to the caller."""
        with self._line.lock:
            outcomes = _kept(batch, progress)
            batch.taken += len(outcomes)
            begun = min(max(progress.begun, batch.taken), batch.limit)
            dead, rests = range(batch.taken, begun), [range(begun, batch.limit)]
            if begun == 0:  # what is to blame is in here: which one it is will be seen
                rests = _one_by_one(batch)
            if batch.count == 1:
                dead, rests = range(1), []
            over = batch.conclude(outcomes, 0, dead, rests, (0, 0.0))
            failures = sum(type(outcome) is Sealed and outcome.kind == Kind.ERROR for outcome in outcomes)
            self._count(batch, len(outcomes) - failures, failures)
        self._end(batch, over)
        return over


def _one_by_one(batch: Batch) -> list[range]:
    return [range(place, place + 1) for place in range(batch.taken, batch.limit)]


def _send_again(calls: list[Call], counted: bool, sender: Sender) -> None:
    """Give calls back to where they come from."""
    for home, those in by_home(calls):
        home.resubmit(those)
        if counted and home is not sender:
            home.ended(those, sender)


def _kept(batch: Batch, progress: Progress) -> list[Any]:
    """The outcomes of the next pieces that the child has kept. One alone is as any call: done when it is answered."""
    if batch.count == 1:
        return []
    skip = batch.taken - progress.kept_from
    most = min(progress.done, batch.limit) - progress.kept_from
    return outcomes_in(progress.records, most)[skip:] if 0 <= skip < most else []
