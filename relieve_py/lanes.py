"""Calls that wait, in the order of their turns: by priority, and within one priority first come, first served.

Those that are for tasks of different scripts wait apart from each other.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from relieve_py.calls import Call

SPARE_LANES = 16
"""Empty lanes that may be kept beside twice as many as calls wait. Less: more tidying; more: a little memory."""


class Lanes:
    """One lane for each priority. What is done with one call takes as many steps as the logarithm of the number of
    lanes, or fewer; ``least`` looks at each lane. Not locked.

    A signal handler may raise wherever something is called: each call is in or out, and counted so, in one step. The
    heap may then have priorities that have no lane, but no lane is left out of it.
    """

    __slots__ = ("_highest", "_lanes", "count")

    def __init__(self) -> None:
        self.count = 0
        self._lanes: dict[int, OrderedDict[int, Call]] = {}  # by priority; each has its calls by id, in order
        self._highest: list[int] = []  # a heap of the negative priority of each lane

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Call]:
        for priority in sorted(self._lanes, reverse=True):
            yield from self._lanes[priority].values()

    def add(self, call: Call) -> None:
        """Behind all of its priority."""
        lane = self._lanes.get(call.priority)
        if lane is None:
            lane = self._open(call.priority)
        lane[call.id] = call
        self.count += 1

    def put_back(self, calls: list[Call]) -> None:
        """Before all of their priority, in that order."""
        for call in reversed(calls):
            lane = self._lanes.get(call.priority)
            if lane is None:
                lane = self._open(call.priority)
            lane[call.id] = call
            self.count += 1
            lane.move_to_end(call.id, last=False)

    def _open(self, priority: int) -> OrderedDict[int, Call]:
        if len(self._lanes) > 2 * self.count + SPARE_LANES:
            self._lanes = {priority: lane for priority, lane in self._lanes.items() if lane}
            self._highest = sorted(-priority for priority in self._lanes)
        heapq.heappush(self._highest, -priority)
        lane = self._lanes[priority] = OrderedDict()
        return lane

    def first(self) -> Call:
        """Whose turn it is. There must be one."""
        return next(iter(self._front().values()))

    def take(self, most: int, fits: Callable[[Call], bool], found: list[Call]) -> None:
        """Add to these up to so many of those whose turn it is, as far as they fit in a row; they wait no more. One
        may be in both places for a moment."""
        while most > 0 and self.count:
            lane = self._front()
            for call in list(itertools.islice(lane.values(), most)):
                if not fits(call):
                    return
                found.append(call)
                del lane[call.id]
                self.count -= 1
                most -= 1

    def _front(self) -> OrderedDict[int, Call]:
        """Of those that have calls, the lane of the highest priority."""
        while True:
            priority = -self._highest[0]
            lane = self._lanes.get(priority)
            if lane:
                return lane
            if lane is not None:
                del self._lanes[priority]
            heapq.heappop(self._highest)

    def pop(self) -> Call:
        """The same, which waits no more."""
        call = self.first()
        del self._lanes[call.priority][call.id]
        self.count -= 1
        return call

    def remove(self, call: Call) -> bool:
        """It waits no more; False when it did not."""
        lane = self._lanes.get(call.priority)
        if lane is None or call.id not in lane:
            return False
        del lane[call.id]
        self.count -= 1
        return True

    def has(self, call: Call) -> bool:
        """Whether it waits here."""
        return call.id in self._lanes.get(call.priority, ())

    def least(self, oldest: bool) -> Call:
        """The oldest, or the newest, of the lowest priority. There must be one."""
        lane = self._lanes[min(priority for priority, lane in self._lanes.items() if lane)]
        return next(iter(lane.values()) if oldest else reversed(lane.values()))

    def clear(self) -> list[Call]:
        """All that wait, in the order of their turns; they do so no more."""
        calls = list(self)
        self.count, self._lanes, self._highest = 0, {}, []
        return calls


class Queues:
    """A queue for the calls that any task may take, and one for each script to which others are addressed, so that none
    waits behind a call for which it does not compete. Not locked. What is counted is mended by ``mend``."""

    __slots__ = ("_addressed", "_open", "count")

    def __init__(self) -> None:
        self.count = 0
        self._open = Lanes()
        self._addressed: dict[Any, Lanes] = {}  # by script; none is empty

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Call]:
        yield from self._open
        for lanes in self._addressed.values():
            yield from lanes

    def of(self, script: Any) -> Lanes:
        """Those that are addressed to that script; None: to none."""
        if script is None:
            return self._open
        return self._addressed.get(script) or Lanes()

    def heads(self) -> list[Call]:
        """The one of each queue whose turn it is, in the order of their turns."""
        if not self._addressed:
            return [self._open.first()] if self.count else []
        queues = (self._open, *self._addressed.values())
        heads = [queue.first() for queue in queues if queue.count]
        return sorted(heads, key=lambda call: (-call.priority, call.id))

    def add(self, call: Call) -> None:
        """Behind all of its priority."""
        if call.script is None:
            self._open.add(call)
        else:
            self._addressed.setdefault(call.script, Lanes()).add(call)
        self.count += 1

    def put_back(self, calls: list[Call]) -> None:
        """Before all of their priority, in that order."""
        if not any(call.script is not None for call in calls):
            self._open.put_back(calls)
            self.count += len(calls)
            return
        for call in reversed(calls):
            queue = self._open if call.script is None else self._addressed.setdefault(call.script, Lanes())
            queue.put_back([call])
            self.count += 1

    def remove(self, call: Call) -> bool:
        """It waits no more; False when it did not."""
        queue = self.of(call.script)
        if not queue.remove(call):
            return False
        self.count -= 1
        if not queue.count and call.script is not None:
            del self._addressed[call.script]
        return True

    def take(self, script: Any, most: int, fits: Callable[[Call], bool], found: list[Call]) -> None:
        """As of Lanes, of those that are addressed to that script; None: to none."""
        queue, before = self.of(script), len(found)
        queue.take(most, fits, found)
        self.count -= len(found) - before
        if script is not None and not queue.count:
            self._addressed.pop(script, None)

    def least(self, oldest: bool) -> Call:
        """The oldest, or the newest, of the lowest priority. There must be one."""
        least = [queue.least(oldest) for queue in (self._open, *self._addressed.values()) if queue.count]
        return min(least, key=lambda call: (call.priority, call.id if oldest else -call.id))

    def has(self, call: Call) -> bool:
        """Whether it waits here."""
        return self.of(call.script).has(call)

    def mend(self) -> None:
        """A signal handler has raised in the middle."""
        self._addressed = {script: queue for script, queue in self._addressed.items() if queue.count}
        self.count = self._open.count + sum(queue.count for queue in self._addressed.values())

    def clear(self) -> list[Call]:
        """All that wait; they do so no more."""
        calls = list(self)
        self.count, self._open, self._addressed = 0, Lanes(), {}
        return calls
