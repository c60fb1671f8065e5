"""Statistics of a run: pure, from lists of numbers to medians, quartiles and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.suite.catalogue import metric_of

OURS, RAW = "relieve", "raw"


def summary(values: Sequence[float | None]) -> dict[str, Any]:
    """Median, quartiles and the values themselves; no median when one of them never happened."""
    if any(value is None for value in values):
        return {"values": [None if value is None else digits(value) for value in values]}
    numbers = [value for value in values if value is not None]
    low, middle, high = statistics.quantiles(numbers, n=4, method="inclusive") if len(numbers) > 1 else numbers * 3
    return {
        "median": digits(middle),
        "quartiles": [digits(low), digits(high)],
        "values": [digits(value) for value in numbers],
    }


def digits(value: float) -> float:
    """Four that count: a run is not more exact than that."""
    return float(f"{value:.4g}")


def is_ours(name: str) -> bool:
    """True for this library, in whatever form."""
    return name.split()[0] == OURS


def medians(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """By who was measured; only those who came to an end."""
    return {name: cell["median"] for name, cell in cells.items() if "median" in cell}


def best_peer(key: str, cells: Mapping[str, Mapping[str, Any]], among: Iterable[str] = ()) -> str | None:
    """Who is best at it of all that are neither this library nor raw; ``among`` names those to choose from."""
    found = {name: value for name, value in medians(cells).items() if not is_ours(name) and name != RAW}
    if among:
        found = {name: value for name, value in found.items() if name in set(among)}
    if not found:
        return None
    return (max if metric_of(key).more else min)(found, key=found.__getitem__)


def times_worse(key: str, value: float, other: float) -> float | None:
    """How many times worse than the other it is, whichever way is better; below 1 it is better. None: no ratio."""
    above, below = (other, value) if metric_of(key).more else (value, other)
    return above / below if below else None


def ranked(key: str, cells: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Raw, then the best first, then those without a median."""
    found = medians(cells)
    order = sorted(found, key=found.__getitem__, reverse=metric_of(key).more)
    order.sort(key=lambda name: name != RAW)
    return order + [name for name in cells if name not in found]
