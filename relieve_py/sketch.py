"""Many durations in bounded memory, so that their percentiles can be told: a histogram of logarithmic buckets; pure.

A bucket is the upper half of a 32-bit float: its sign, its exponent and the first seven bits of its fraction, so each
power of two has 128 buckets of one width, and two numbers in one bucket differ by less than 1/128. That bounds the
relative error as in other such sketches (DDSketch: Masson, Rim, Lee, 2019; HdrHistogram), and takes no logarithm: a
batch of numbers is put into buckets by code in C alone.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

RELATIVE_ERROR = 1 / 256
"""Of a percentile at most: half the width of a bucket."""
MOST_BUCKETS = 1 << 15
"""All that there can be. Those of durations from a microsecond to a month are 5,300, and what a program meets is most
often a few hundred."""
_UPPER_HALF = slice(1, None, 2) if sys.byteorder == "little" else slice(0, None, 2)


@attrs.frozen(kw_only=True)
class Percentiles:
    """Of durations, in seconds. All but ``count`` are None when there was none; ``p50`` to ``p99`` are at most 0.4 %
    off."""

    count: int
    """How many durations there were."""
    mean: float | None = None
    """Their mean."""
    p50: float | None = None
    """Half took at most so long."""
    p90: float | None = None
    """Nine of ten took at most so long."""
    p99: float | None = None
    """99 of 100 took at most so long."""
    longest: float | None = None
    """The longest."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for json."""
        return attrs.asdict(self)


class Sketch:
    """Durations in seconds, from 0 on. Not locked: its owner does that."""

    __slots__ = ("_buckets", "longest", "total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.total = 0.0
        self.longest = 0.0

    def add(self, durations: Sequence[float]) -> None:
        """Take some more, at least one. In batches of 50 or more one costs a tenth of a microsecond."""
        self._buckets.update(memoryview(array("f", durations)).cast("B").cast("H")[_UPPER_HALF])
        self.total += sum(durations)
        self.longest = max(self.longest, *durations)

    def merge(self, other: Sketch) -> None:
        """Take all that another has taken."""
        self._buckets.update(other._buckets)
        self.total += other.total
        self.longest = max(self.longest, other.longest)

    def take_back(self, other: Sketch) -> None:
        """Forget what another has taken, all of which was merged; but not the longest."""
        self._buckets.subtract(other._buckets)
        self._buckets = +self._buckets
        self.total -= other.total

    @property
    def count(self) -> int:
        """How many it has taken."""
        return self._buckets.total()

    @property
    def buckets(self) -> int:
        """How many are in use: what it costs, some 90 bytes each."""
        return len(self._buckets)

    def quantiles(self, *wanted: float) -> list[float]:
        """What those fractions of all did not exceed; ``wanted`` rises. Of a sketch that has taken something."""
        last = self.count - 1
        found: list[float] = []
        passed = 0
        for bucket in sorted(self._buckets):
            passed += self._buckets[bucket]
            while len(found) < len(wanted) and passed > wanted[len(found)] * last:
                found.append(min(self.longest, _middle(bucket)))
        return found

    def percentiles(self) -> Percentiles:
        """What there is to tell of them."""
        count = self.count
        if not count:
            return Percentiles(count=0)
        p50, p90, p99 = self.quantiles(0.5, 0.9, 0.99)
        return Percentiles(count=count, mean=self.total / count, p50=p50, p90=p90, p99=p99, longest=self.longest)


def _middle(bucket: int) -> float:
    """The number in the middle of a bucket."""
    low, high = struct.unpack("=2f", struct.pack("=2I", bucket << 16, (bucket + 1) << 16))
    return (low + high) / 2 if bucket else 0.0
