"""The figures in docs/explanation/performance.md: written from a record, so that page and record cannot drift apart.

A block stands between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.suite.catalogue import METRICS, metric_of
from benchmarks.suite.charts import LINES, points_of
from benchmarks.suite.figures import OURS, RAW, best_peer, is_ours, medians, times_worse
from benchmarks.suite.goals import lost, verdicts
from benchmarks.suite.machine import ROOT
from benchmarks.suite.report import number, ratio

PAGE = ROOT / "docs" / "explanation" / "performance.md"
RECORD = ROOT / "benchmarks" / "results" / "suite.json"
BLOCK = re.compile(r"(<!-- figures: ([a-z ]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
Results = Mapping[str, Any]


def filled(text: str, results: Results) -> str:
    """The page with the figures of that run. KeyError for a block that nobody writes."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]](results)}\n{found[3]}", text)


def rows(head: str, *lines: tuple[str, ...]) -> str:
    """A table in Markdown; the first column is on the left, the others on the right."""
    columns = head.count("|")
    return "\n".join([f"| {head} |", "|---" + "|---:" * columns + "|", *(f"| {' | '.join(line)} |" for line in lines)])


def with_unit(key: str, value: float) -> str:
    """A figure for a reader."""
    return f"{number(value)} {metric_of(key).unit}".strip()


def about(results: Results) -> str:
    """Where and when."""
    told = results["about"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    again: dict[str, list[str]] = {}
    for work, one in told.get("again", {}).items():
        again.setdefault(f"{one['date'][:16].replace('T', ' ')} UTC, rounds: {one['rounds']}", []).append(work)
    renewed = "".join(f" Run again, {when}: {', '.join(works)}." for when, works in again.items())
    return (
        f"These are medians of at most {told['rounds']} interleaved round{'s' if told['rounds'] > 1 else ''} "
        f"of one run on {told['date'][:10]}: "
        f"{told['processor']}, {told['cpus']} processors, {told['memory GiB']:g} GiB, {told['system']}, "
        f"Python {told['python']}; {versions}. The load before it was {told['load before'][0]:g}.{renewed}"
    )


def goals(results: Results) -> str:
    """The table of goals."""
    lines = []
    for one in verdicts(results["figures"]):
        key = one.goal.key
        beside = "" if one.beside is None else with_unit(key, one.beside)
        if one.goal.than:
            reached = f"{number(one.reached)} x" if one.goal.limit >= 1 else f"{number(1 / one.reached)} x"
        else:
            reached = with_unit(key, one.value)
        missed = one.missed_by
        holds = "holds" if one.holds else "missed" + (f" by {number(missed)} x" if missed else "")
        lines.append((METRICS[key].title, one.goal.text, with_unit(key, one.value), beside, reached, holds))
    return rows("work | goal | relieve | beside | reached | ", *lines)


def beside(results: Results) -> str:
    """Each work: this library, raw, and the best peer."""
    lines = []
    for key, cells in results["figures"].items():
        values, best = medians(cells), best_peer(key, cells)
        if " @ " in key or OURS not in values:
            continue
        raw, peer = values.get(RAW), values[best] if best else None
        lines.append(
            (
                METRICS[key].title + (" (more is better)" if METRICS[key].more else ""),
                with_unit(key, values[OURS]),
                "" if raw is None else number(raw),
                "" if raw is None else ratio(times_worse(key, values[OURS], raw)),
                "" if peer is None else f"{number(peer)} ({best})",
                "" if peer is None else ratio(times_worse(key, values[OURS], peer)),
            )
        )
    return rows("work | relieve | raw | x raw | best peer | x best peer", *lines)


def peers_that_win(results: Results) -> str:
    """The honest cases."""
    lines = [
        f"- **{title_of(key)}**: {best} is {number(worse)} times better "
        f"({with_unit(key, medians(results['figures'][key])[best])} to "
        f"{with_unit(key, medians(results['figures'][key])[OURS])})."
        for key, best, worse in lost(results["figures"])
    ]
    return "\n".join(lines) or "In this run there is none."


def title_of(key: str) -> str:
    """Of a figure, or of a point of a series."""
    series, _, place = key.partition(" @ ")
    return METRICS[series].title + (f", {float(place):,.0f} {METRICS[series].along}" if place else "")


def scale(results: Results) -> str:
    """This library where something grows."""
    lines = []
    for series in LINES:
        for who, points in points_of(results["figures"], series).items():
            if is_ours(who):
                told = "; ".join(f"{place:,.0f}: {number(value)}" for place, value in points)
                which = "" if who == OURS else f" ({who})"
                lines.append(
                    (f"{METRICS[series].title}{which}, {METRICS[series].unit} by {METRICS[series].along}", told)
                )
    return rows("of relieve | ", *lines)


def parts(results: Results) -> str:
    """What the time of a round trip is made of."""
    trip, parent, child = (medians(results["figures"].get(key, {})) for key in ("trip", "trip cpu", "trip child cpu"))
    lines = []
    for who in sorted(set(trip) & set(parent) & set(child), key=lambda name: (trip[name], name)):
        rest = trip[who] - parent[who] - child[who]
        lines.append((who, number(trip[who]), number(parent[who]), number(child[who]), number(max(0.0, rest))))
    return rows("µs | round trip | parent's CPU | child's CPU | neither", *lines)


def profile(results: Results) -> str:
    """The functions that were met most, on both sides."""
    columns = []
    for side in ("parent", "child"):
        met = (results.get("profile") or {}).get(side) or {}
        most = sorted(met, key=lambda name: -met[name])[:SHOWN]
        columns.append([f"{met[name] / sum(met.values()):.0%} `{short(name)}`" for name in most])
    lines = itertools.zip_longest(*columns, fillvalue="")
    return rows("in the parent | in the child", *lines).replace("---:", "---")


def short(name: str) -> str:
    """Without the package that all have in common."""
    return name.removeprefix("relieve_py.")


SHOWN = 12
"""Functions that are told of each side."""

BLOCKS: dict[str, Callable[[Results], str]] = {
    "about": about,
    "goals": goals,
    "beside": beside,
    "parts": parts,
    "profile": profile,
    "peers that win": peers_that_win,
    "scale": scale,
}
"""Who writes which block."""
