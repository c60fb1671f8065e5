"""What a run says: one record of all figures, and tables of it for a reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.suite.catalogue import METRICS, metric_of
from benchmarks.suite.figures import RAW, best_peer, medians, ranked, summary, times_worse
from benchmarks.suite.rounds import Outcome

Cells = Mapping[str, Mapping[str, Any]]
FAILED = 300
"""Characters of a failure that a table shows."""


def collected(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """By key of a metric and by peer: what ``figures.summary`` says; and who failed in what."""
    values: dict[str, dict[str, list[float | None]]] = {}
    failed: list[dict[str, str]] = []
    for outcome in outcomes:
        who = outcome.piece.peer
        for figures in outcome.figures.values():
            for key, value in figures.items():
                values.setdefault(key, {}).setdefault(who, []).append(value)
        if outcome.failed:
            failed.append({"peer": who, "works": ", ".join(outcome.piece.works), "why": outcome.failed})
    cells = {key: {who: summary(some) for who, some in values[key].items()} for key in sorted(values, key=place_of)}
    return {"figures": cells, "failed": failed}


def renewed(old: Mapping[str, Any], new: Mapping[str, Any], works: Sequence[str]) -> dict[str, Any]:
    """The record of a run in which some works were made anew by all: each work is still of one run, with its date."""
    figures = {key: cells for key, cells in old["figures"].items() if key not in new["figures"]} | new["figures"]
    told = {name: new["about"][name] for name in ("date", "commit", "rounds")}
    again = {**old["about"].get("again", {}), **dict.fromkeys(works, told)}
    return {
        **old,
        **{name: new[name] for name in ("profile", "no profile") if name in new},
        "about": {**old["about"], "again": again},
        "figures": {key: figures[key] for key in sorted(figures, key=place_of)},
        "failed": [one for one in old["failed"] if one["works"] not in works] + new["failed"],
    }


def place_of(key: str) -> tuple[int, float]:
    """Where a figure stands: in the order of the catalogue, a series by what grows."""
    series, _, place = key.partition(" @ ")
    return list(METRICS).index(series), float(place or 0)


def rows_of(key: str, cells: Cells) -> list[tuple[str, ...]]:
    """Of one figure, for each who was measured: name, median, quartiles, ratio to raw, ratio to the best peer."""
    found, best = medians(cells), best_peer(key, cells)
    rows: list[tuple[str, ...]] = []
    for who in ranked(key, cells):
        if who not in found:
            rows.append((who, "never", "", "", ""))
            continue
        low, high = cells[who]["quartiles"]
        to_raw = times_worse(key, found[who], found[RAW]) if RAW in found else None
        to_best = times_worse(key, found[who], found[best]) if best else None
        rows.append((who, number(found[who]), f"{number(low)} to {number(high)}", ratio(to_raw), ratio(to_best)))
    return rows


def number(value: float) -> str:
    """Three digits that count, with commas between thousands."""
    if value == 0:
        return "0"
    places = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 2 if abs(value) >= 0.1 else 3
    return f"{float(f'{value:.3g}'):,.{places}f}"


def ratio(value: float | None) -> str:
    """A ratio for a reader."""
    return "" if value is None else number(value)


HEAD = ("", "median", "quartiles", "x raw", "x best peer")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns, of which the first is on the left."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_text(results: Mapping[str, Any]) -> str:
    """The whole run. A ratio says how many times worse than the other one is."""
    parts = []
    for key, cells in results["figures"].items():
        metric, place = metric_of(key), key.partition(" @ ")[2]
        title = f"{metric.title}{f', {float(place):,.0f} {metric.along}' if place else ''}"
        unit = f" ({metric.unit}{', more is better' if metric.more else ''})" if metric.unit else ""
        parts.append(f"{title}{unit}\n{table(HEAD, rows_of(key, cells))}")
    return "\n\n".join([*parts, left_out(results)])


def left_out(results: Mapping[str, Any]) -> str:
    """Who failed, and who is not here."""
    lines = [f"FAILED {one['peer']}: {one['works']}: {one['why'][-FAILED:]}" for one in results["failed"]]
    lines += [f"skipped {who}: {why}" for who, why in results["skipped"].items()]
    return "\n".join(lines)
