"""What becomes of the chunks of one slot: their outcomes, as they come and as a dead child leaves them, and their
rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from relieve_py.blackbox import Progress
from relieve_py.calls import Home
from relieve_py.chunks import Chunk, Part
from relieve_py.endings import Endings, died
from relieve_py.errors import ProtocolError
from relieve_py.exits import Exit
from relieve_py.host import Host
from relieve_py.line import Line
from relieve_py.outcomes import Sealed, head_of, outcomes_in
from relieve_py.replies import Reply
from relieve_py.serializers import Payload
from relieve_py.supervisor import Supervisor
from relieve_py.tally import Tally
from relieve_py.wire import Frame

OVERDUE = 0.05
"""Seconds after which a chunk gives what it has, and its rest to another task. It was made to take a fifth of that, so
one of its items is slow. Less: more looks at chunks of a busy machine; more: what is behind a slow one waits longer."""
RECALL_GRACE = 0.002
"""Seconds from a recall to the look at what it has kept from beginning: no processor keeps a write to itself for as
long."""


class Sender(Home, Protocol):
    """The traffic that has sent the chunks."""

    def expect(self, number: int, after: float, look: Callable[[Chunk, int, int], None], chunk: Chunk) -> None:
        """Under the lock: have that chunk looked at after so many seconds, on the I/O thread, unless it is over."""
        ...


class Chunking:
    """The chunks of one slot. With the turn to read, unless it is said otherwise."""

    def __init__(
        self, sender: Sender, host: Host, line: Line, supervisor: Supervisor, endings: Endings, tally: Tally
    ) -> None:
        self._sender = sender
        self._host = host
        self._line = line
        self._now = supervisor.now
        self._endings = endings
        self._tally = tally

    # -- what the child sends ----------------------------------------------------------------------

    def underway(self, chunk: Chunk, frame: Frame) -> None:
        """Outcomes of its next items; others follow. Raises ProtocolError."""
        payload = Payload.of_frame(frame)
        head = head_of(payload)
        with self._line.lock:
            part = self._part(chunk, payload, head.first, head.end)
            old, chunk.reply = self._follow(part, chunk)
        _give(old, part)

    def finished(self, chunk: Chunk, frame: Frame) -> None:
        """Its last outcomes. Raises ProtocolError."""
        payload = Payload.of_frame(frame)
        head = head_of(payload)
        with self._line.lock:
            part = self._part(chunk, payload, head.first, head.end)
            rest = chunk.cut(chunk.taken, chunk.limit) if chunk.left() else None  # it was recalled at the last moment
            self._count(chunk, head.end - head.failures, head.failures)
        part.ran = head.end, head.seconds
        self._end(chunk, part, [rest] if rest is not None else [])

    def failed(self, chunk: Chunk) -> bool:
        """The child could not begin: each item is tried by itself, so that the one that it is for fails alone. False
        when it is alone already, or some have begun."""
        with self._line.lock:
            if chunk.left() < 2 or chunk.taken:
                return False
            rests = [chunk.cut(place, place + 1) for place in range(chunk.limit)]
        self._end(chunk, Part(chunk, []), rests)
        return True

    def _part(self, chunk: Chunk, payload: Payload, first: int, end: int) -> Part:
        """Under the lock: what these outcomes add to those that the reader has. Raises ProtocolError."""
        if first > chunk.taken or end > chunk.limit or end < chunk.taken:
            raise ProtocolError(f"outcomes of items {first} to {end} came where {chunk.taken} was next")
        part = Part(chunk, payload, chunk.taken - first)
        chunk.taken = end
        return part

    def _count(self, chunk: Chunk, done: int, failures: int) -> None:
        """Under the lock: for statistics. What one of them took is what the chunk took."""
        if done > 0:
            self._tally.recent.append((chunk.made_at, chunk.sent_at, self._now()))
            self._tally.done += done - 1
        self._tally.have_failed(failures)

    def _follow(self, part: Part, chunk: Chunk) -> tuple[Reply, Reply]:
        """Under the lock: the Reply that the part is for, and the one for what is left."""
        old = chunk.reply_of()
        new = old.successor(chunk)
        part.followers.insert(0, (new, chunk.left()))
        return old, new

    def _end(self, chunk: Chunk, part: Part, rests: list[Chunk]) -> None:
        """Give the reader the last part of a chunk, and its home what has to be sent again."""
        part.followers += [(rest.reply_of(), rest.left()) for rest in rests]
        if _give(chunk.reply_of(), part) and rests and chunk.home is not None:
            chunk.home.resubmit([*rests])

    # -- when an item is slow ----------------------------------------------------------------------

    def watch(self, chunk: Chunk) -> None:
        """Under the lock: it was sent."""
        if chunk.left() > 1:
            self._sender.expect(chunk.number, OVERDUE, self._overdue, chunk)

    def _overdue(self, chunk: Chunk, number: int, generation: int) -> None:
        """I/O thread: give the reader what is done, and have no further item begin here if others can run them."""
        with self._line.lock:
            birth = self._line.birth
            if birth is None or generation != self._host.life.generation or chunk.number != number:
                return
            old, part = self._take_what_is_done(chunk, birth.cradle.progress())
            if chunk.home is not self._sender and chunk.left() > 1:
                birth.cradle.recall(number)
                self._sender.expect(number, RECALL_GRACE, self._recalled, chunk)
            else:
                self.watch(chunk)
        if old is not None:
            _give(old, part)
            self._line.nudge()

    def _recalled(self, chunk: Chunk, number: int, generation: int) -> None:
        """I/O thread: the items that have not begun by now never will."""
        with self._line.lock:
            birth = self._line.birth
            if birth is None or generation != self._host.life.generation or chunk.number != number:
                return
            begun = max(birth.cradle.progress().begun, chunk.taken)
            if begun >= chunk.limit:
                return
            rest = chunk.cut(begun, chunk.limit)
            chunk.limit = begun
            part = Part(chunk, [])
            old, chunk.reply = self._follow(part, chunk)
            part.followers.append((rest.reply_of(), rest.left()))
        if _give(old, part) and rest.home is not None:
            rest.home.resubmit([rest])
        self._line.nudge()

    def _take_what_is_done(self, chunk: Chunk, progress: Progress) -> tuple[Reply | None, Part]:
        """Under the lock: the outcomes that the child keeps to send them later, and whose Reply they are for."""
        outcomes = _kept(chunk, progress)
        part = Part(chunk, outcomes)
        if not outcomes:
            return None, part
        chunk.taken += len(outcomes)
        old, chunk.reply = self._follow(part, chunk)
        return old, part

    # -- when the child dies -----------------------------------------------------------------------

    def died(self, chunk: Chunk, progress: Progress, exit: Exit, restarts: int) -> None:
        """Without the lock: what the dead child has finished counts, the item that it ran has failed, and the others go
        elsewhere."""
        outcomes = _kept(chunk, progress)
        part = Part(chunk, outcomes)
        chunk.taken += len(outcomes)
        failures = sum(type(outcome) is Sealed and outcome.is_error for outcome in outcomes)
        with self._line.lock:
            self._count(chunk, len(outcomes) - failures, failures)
        begun = min(max(progress.begun, chunk.taken), chunk.limit)
        dead = [chunk.cut(place, place + 1) for place in range(chunk.taken, begun)]
        if chunk.taken == begun == 0:  # what has killed it is in here: which item it is will be seen
            rests = [chunk.cut(place, place + 1) for place in range(chunk.limit)]
        else:
            rests = [chunk.cut(begun, chunk.limit)] if begun < chunk.limit else []
        if len(rests) == 1 and rests[0].limit == 1 == chunk.limit:
            dead, rests = rests, []
        part.followers += [(item.reply_of(), 1) for item in dead]
        for item in dead:
            item.causes, item.deaths = list(chunk.causes), chunk.deaths
        self._end(chunk, part, rests)
        for item in dead:
            self._endings.failed(item, died(item, exit, restarts), lost=True)


def _kept(chunk: Chunk, progress: Progress) -> list[object]:
    """The outcomes of the next items that the child has kept."""
    skip = chunk.taken - progress.kept_from
    most = min(progress.done, chunk.limit) - progress.kept_from
    return outcomes_in(progress.records, most)[skip:] if 0 <= skip < most else []


def _give(reply: Reply, part: Part) -> bool:
    """Give the reader a part; False when nobody reads any more, who then wants none of the others."""
    if reply.settle(part):
        return True
    for follower, _ in part.followers:
        follower.mark_seen()
        follower.cancel()
    return False
