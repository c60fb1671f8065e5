"""What flows through a task does not stay in memory, on either side; with RELIEVE_FULL set, it is 1 GiB."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relieve_py import CallableTask, feed
from relieve_py.footprint import resident_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

FEEDING = str(Path(__file__).parent / "scripts" / "feeding.py")
BLOCK = 4 << 20
TOTAL = 1 << 30 if os.environ.get("RELIEVE_FULL") else 160 << 20
LIMIT = 64 << 20
"""As many such blocks as there may be items on their way would be twice that."""


class Growth:
    """How far the memory of this process has grown above what it was at first, at most."""

    def __init__(self) -> None:
        self._first = resident_bytes(os.getpid()) or 0
        self.most = 0

    def look(self) -> None:
        self.most = max(self.most, (resident_bytes(os.getpid()) or 0) - self._first)


@pytest.fixture(scope="module")
def task() -> Iterator[CallableTask]:
    with CallableTask(FEEDING) as task:
        yield task


@pytest.mark.timeout(120)
def test_a_stream_of_results_to_a_slow_reader(task: CallableTask) -> None:
    async def read() -> tuple[int, int]:
        growth, nbytes, count = Growth(), 0, 0
        async for block in task.stream("blocks", TOTAL // BLOCK, BLOCK):
            if isinstance(block, int):
                return growth.most, block
            nbytes, count = nbytes + len(block), count + 1
            if count == 1:
                await asyncio.sleep(0.4)  # the I/O thread reads meanwhile
            growth.look()
        raise AssertionError("the last item is missing")

    here, there = asyncio.run(read())
    assert here < LIMIT
    assert there < LIMIT


@pytest.mark.timeout(120)
def test_a_stream_among_the_arguments_of_a_slow_function(task: CallableTask) -> None:
    growth = Growth()

    def blocks() -> Iterator[bytes]:
        for _ in range(TOTAL // BLOCK):
            yield bytes(BLOCK)
            growth.look()

    nbytes, there = task.get("swallow", blocks()).result(100)
    assert nbytes == TOTAL
    assert growth.most < LIMIT
    assert there < LIMIT


class Zeros(io.RawIOBase):
    """A file of so many zeros."""

    def __init__(self, size: int, growth: Growth) -> None:
        self._left = size
        self._growth = growth

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        n = min(len(buffer), self._left)
        self._left -= n
        self._growth.look()
        return n

    def readable(self) -> bool:
        return True


@pytest.mark.timeout(120)
def test_a_binary_file_among_the_arguments(task: CallableTask) -> None:
    growth = Growth()
    nbytes, there = task.get("swallow_file", feed(Zeros(TOTAL, growth))).result(100)
    assert nbytes == TOTAL
    assert growth.most < LIMIT
    assert there < LIMIT
