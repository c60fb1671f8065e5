"""The parent's side of ``functions.meet``: to hold each child of a pool in one call, and to let them go."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.suite import functions


class Meeting:
    """Children that wait at a gate."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        for name in (functions.HERE, functions.GATE):
            os.mkfifo(os.path.join(folder, name))
        # Also for writing, so that it never ends while no child has it open.
        self._here = os.open(os.path.join(folder, functions.HERE), os.O_RDWR)
        self._gate = -1

    def wait_for(self, children: int) -> list[int]:
        """Their pids, once that many have come. A child that never comes is what the deadline of a piece is for."""
        came = b""
        while came.count(b"\n") < children:
            came += os.read(self._here, 4096)
        return [int(line) for line in came.split()]

    def open(self) -> None:
        """Let all go, and whoever comes after them."""
        if self._gate < 0:
            self._gate = os.open(os.path.join(self.folder, functions.GATE), os.O_RDWR)

    def close(self) -> None:
        """End it."""
        self.open()
        os.close(self._here)
        os.close(self._gate)


@contextmanager
def meeting() -> Iterator[Meeting]:
    """A place to meet at."""
    with tempfile.TemporaryDirectory() as folder:
        place = Meeting(folder)
        try:
            yield place
        finally:
            place.close()


def gather(pool: Any, children: int, limit: float) -> list[int]:
    """The pids of all children, each of which has taken and answered a call of its own."""
    with meeting() as place:
        replies = [pool.submit(functions.meet, place.folder) for _ in range(children)]
        place.wait_for(children)
        place.open()
        return [reply.result(limit) for reply in replies]
