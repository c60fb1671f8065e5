"""Calls that wait, in the order of their turns: by priority, and within one priority first come, first served."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

from relieve_py.calls import Call

SPARE_LANES = 16
"""Empty lanes that may be kept beside twice as many as calls wait. Less: more tidying; more: a little memory."""


class Lanes:
    """One lane for each priority. What is done with one call takes as many steps as the logarithm of the number of
    lanes, or fewer; ``least`` looks at each lane. Not locked."""

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
            lane.move_to_end(call.id, last=False)
        self.count += len(calls)

    def _open(self, priority: int) -> OrderedDict[int, Call]:
        if len(self._lanes) > 2 * self.count + SPARE_LANES:
            self._lanes = {priority: lane for priority, lane in self._lanes.items() if lane}
            self._highest = [-priority for priority in self._lanes]
            heapq.heapify(self._highest)
        heapq.heappush(self._highest, -priority)
        lane = self._lanes[priority] = OrderedDict()
        return lane

    def first(self) -> Call:
        """Whose turn it is. There must be one."""
        while True:
            lane = self._lanes[-self._highest[0]]
            if lane:
                return next(iter(lane.values()))
            del self._lanes[-heapq.heappop(self._highest)]

    def pop(self) -> Call:
        """The same, which waits no more."""
        while True:
            lane = self._lanes[-self._highest[0]]
            if lane:
                self.count -= 1
                return lane.popitem(last=False)[1]
            del self._lanes[-heapq.heappop(self._highest)]

    def remove(self, call: Call) -> bool:
        """It waits no more; False when it did not."""
        lane = self._lanes.get(call.priority)
        if lane is None or lane.pop(call.id, None) is None:
            return False
        self.count -= 1
        return True

    def least(self, oldest: bool) -> Call:
        """The oldest, or the newest, of the lowest priority. There must be one."""
        lane = self._lanes[min(priority for priority, lane in self._lanes.items() if lane)]
        return next(iter(lane.values()) if oldest else reversed(lane.values()))

    def clear(self) -> list[Call]:
        """All that wait, in the order of their turns; they do so no more."""
        calls = list(self)
        self.count = 0
        self._lanes.clear()
        self._highest.clear()
        return calls
