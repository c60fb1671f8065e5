"""Does what ``upkeep`` decides: a child that works well is replaced, let go, or left without calls for a while."""

from __future__ import annotations

from relieve_py.footprint import resident_bytes
from relieve_py.host import Deeds, Host
from relieve_py.lifecycle import State
from relieve_py.line import Line
from relieve_py.supervisor import Supervisor, Timer
from relieve_py.table import CallTable
from relieve_py.upkeep import Upkeep
from relieve_py.wire import Kind

WISHES = {Kind.BUSY: "busy", Kind.IDLE: "ready", Kind.DRAIN: "drain", Kind.RETIRE: "end"}
"""What a child may ask for, by the kind of its frame."""


class Keeper:
    """The one of a slot."""

    def __init__(
        self, host: Host, line: Line, supervisor: Supervisor, table: CallTable, upkeep: Upkeep, startable: bool
    ) -> None:
        self._host = host
        self._startable = startable  # else no child can follow
        self._line = line  # whose lock it is
        self._supervisor = supervisor
        self._table = table
        self.upkeep = upkeep
        self._timer: Timer | None = None

    def fresh(self, since: float | None = None) -> None:
        """Another child is ready; it was at that time, or is now."""
        with self._line.lock:
            now = self._supervisor.now()
            self.upkeep.fresh(now, 0.0 if since is None else now - since)
            self._arm()

    def gone(self) -> None:
        """Under the lock: the child is dead."""
        self.upkeep.gone()
        if self._timer is not None:
            self._timer.cancel()

    def asked(self, kind: int) -> None:
        """The child asks for something; whoever tells of it looks next what can be done now."""
        with self._line.lock:
            self.upkeep.asked(WISHES[Kind(kind)], self._supervisor.now())
            self._arm()

    def worked(self, after: Deeds) -> None:
        """Under the lock: the child has ended its last call."""
        self.upkeep.worked(self._supervisor.now())
        self.look(after)

    def look(self, after: Deeds) -> None:
        """Under the lock: if the child runs no call, it may be replaced or let go now."""
        if self._table.running:
            return
        life, upkeep, now = self._host.life, self.upkeep, self._supervisor.now()
        resident = self._resident(life.pid) if life.pid is not None and upkeep.policy.rss is not None else None
        idle = None if self._table.waiting else upkeep.idle(now)
        if (reason := upkeep.reason(now, resident)) is not None:
            if reason == "end":
                leave = life.retire(now)
            else:
                leave = life.recycle(now, reason) if self._startable else life.stop(now)
            self._host.carry_out(leave, after)
        elif idle is not None:
            self._host.carry_out(life.rest(now, idle), after)

    def _resident(self, pid: int) -> int | None:
        """Its memory, without what is kept only for the next large message."""
        size, birth = resident_bytes(pid), self._line.birth
        return size - birth.channel.kept if size is not None and birth is not None else size

    def _look_again(self, generation: int) -> None:
        """I/O thread: it may be too old, idle or busy for too long."""
        after: Deeds = []
        with self._line.lock:
            if generation != self._host.life.generation:
                return
            self.look(after)
            if self._host.life.state is State.READY:
                self._arm()
        self._host.do(after)

    def _arm(self) -> None:
        """Under the lock: look again when time has changed something."""
        if self._timer is not None:
            self._timer.cancel()
        due = self.upkeep.next_look(self._supervisor.now(), self._table.running > 0, self._table.waiting.count > 0)
        generation = self._host.life.generation
        self._timer = None if due is None else self._supervisor.at(due, self._look_again, generation)
