"""Pictures of a run: a dot for each who was measured, with its quartiles; lines where something grows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite.catalogue import METRICS
from benchmarks.suite.figures import RAW, is_ours, medians, ranked
from benchmarks.suite.report import number

DOTS: Mapping[str, Sequence[str]] = {
    "calls": ("trip", "trip on two", "submits", "map"),
    "echoes": ("echo 64 KiB", "echo 1 MiB", "echo 64 MiB", "echo array"),
    "children": ("start 1", "start 8", "memory of a child", "kill busy", "kill", "storm"),
    "latency": ("latency p50", "latency p99", "latency p99.9"),
}
"""By name of a picture, what its panels show."""
LINES = ("trip by tasks", "queued call", "echo by size", "calls under await")
OURS_COLOUR, RAW_COLOUR, OTHER_COLOUR = "#c2410c", "#111827", "#7b8794"
LINE_COLOURS = ("#2563a8", "#3d8b5f", "#7a5aa6", "#8a6d3b", "#5f6b7a")
SIZES = {"1 KiB": 1 << 10, "16 KiB": 1 << 14, "256 KiB": 1 << 18, "4 MiB": 1 << 22, "64 MiB": 1 << 26}
"""What is marked on an axis of bytes."""
TITLE = 36
"""Characters of a line of a title."""
NARROWEST = 100.0
"""The least that the highest value on an axis of a line is above the lowest, as a factor."""
SMALL = {"font.size": 8.5, "axes.titlesize": 9.5, "svg.hashsalt": "relieve", "axes.titlelocation": "left"}


def draw(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every picture that there are figures for, as PNG and SVG; ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    written = []
    with matplotlib.rc_context(SMALL):
        for name, keys in DOTS.items():
            shown = [key for key in keys if medians(figures.get(key, {}))]
            if shown:
                written += saved(dots(figures, shown), folder / name)
        if any(key.partition(" @ ")[0] in LINES for key in figures):
            written += saved(lines(figures), folder / "scale")
    return written


def saved(picture: Any, path: Path) -> list[Path]:
    """The two files."""
    import matplotlib.pyplot as plt

    files = [path.with_suffix(".png"), path.with_suffix(".svg")]
    picture.savefig(files[0], dpi=110)
    picture.savefig(files[1], metadata={"Date": None})  # the same figures give the same file
    plt.close(picture)
    return files


def colour_of(name: str) -> str:
    """This library, raw, or another."""
    return OURS_COLOUR if is_ours(name) else RAW_COLOUR if name == RAW else OTHER_COLOUR


def dots(figures: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """One panel a figure, best at the top."""
    import matplotlib.pyplot as plt

    columns = 2 if len(keys) > 3 else len(keys)
    rows = -(-len(keys) // columns)
    most = max(len(figures[key]) for key in keys)
    picture, panels = plt.subplots(
        rows, columns, figsize=(10.5, rows * (0.9 + 0.2 * most)), layout="constrained", squeeze=False
    )
    for key, panel in zip(keys, panels.flat, strict=False):
        dot_panel(panel, key, figures[key])
    for panel in panels.flat[len(keys) :]:
        panel.set_visible(False)
    return picture


def dot_panel(panel: Any, key: str, cells: Mapping[str, Any]) -> None:
    """Names on the left, values beside the dots; who never came to an end has no dot."""
    values, names = medians(cells), ranked(key, cells)
    metric = METRICS[key]
    for row, name in enumerate(names):
        colour = colour_of(name)
        if name in values:
            low, high = cells[name]["quartiles"]
            panel.plot([low, high], [row, row], color=colour, linewidth=2.5, alpha=0.45, solid_capstyle="round")
            panel.plot(values[name], row, "o", color=colour, markersize=5)
            panel.annotate(
                number(values[name]), (high, row), (6, 0), textcoords="offset points", va="center", color=colour
            )
    smallest, largest = min(values.values()), max(values.values())
    panel.set_xscale("log")
    panel.set_xlim(smallest / 1.6, largest * (largest / smallest) ** 0.16 * 2)
    for row, name in enumerate(names):
        if name not in values:
            panel.annotate("never", (smallest, row), va="center", color=OTHER_COLOUR, style="italic")
    panel.set_yticks(range(len(names)), names)
    for label, name in zip(panel.get_yticklabels(), names, strict=True):
        label.set_color(colour_of(name))
        label.set_fontweight("bold" if is_ours(name) else "normal")
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_title(textwrap.fill(metric.title, TITLE))
    panel.set_xlabel(f"{metric.unit}, {'more' if metric.more else 'less'} is better, logarithmic")
    tidy(panel)
    plain(panel.xaxis)


def tidy(panel: Any) -> None:
    """Only the lines that are read."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="x", color="#e5e7eb", linewidth=0.7)
    panel.set_axisbelow(True)


def plain(axis: Any) -> None:
    """Powers of ten as people write them, with unmarked steps between; more marks where there is but one power."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / max(low, 1e-9) > 30 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, place: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """For an axis, where long numbers would run into each other."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:,g} M"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def lines(figures: Mapping[str, Any]) -> Any:
    """What happens when something grows: one panel a series, one line a name."""
    import matplotlib.pyplot as plt

    picture, panels = plt.subplots(2, 2, figsize=(10.5, 7.2), layout="constrained")
    for series, panel in zip(LINES, panels.flat, strict=True):
        points = points_of(figures, series)
        panel.set_visible(bool(points))
        if points:
            line_panel(panel, series, points)
    return picture


def points_of(figures: Mapping[str, Any], series: str) -> dict[str, list[tuple[float, float]]]:
    """By name: where and how much."""
    found: dict[str, list[tuple[float, float]]] = {}
    for key, cells in figures.items():
        name, _, place = key.partition(" @ ")
        if name == series:
            for who, value in medians(cells).items():
                found.setdefault(who, []).append((float(place), value))
    return {who: sorted(points) for who, points in sorted(found.items())}


def line_panel(panel: Any, series: str, points: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Both axes are logarithmic; 0 on the lower one, where it begins."""
    metric, colours = METRICS[series], iter(LINE_COLOURS)
    for who, some in points.items():
        colour = OURS_COLOUR if is_ours(who) else RAW_COLOUR if who == RAW else next(colours)
        places, values = zip(*some, strict=True)
        panel.plot(places, values, "o-", color=colour, markersize=4, linewidth=2 if is_ours(who) else 1.3, label=who)
    if any(place == 0 for some in points.values() for place, _ in some):
        panel.set_xscale("symlog", linthresh=1024, linscale=0.4)
        panel.set_xticks([0, *SIZES.values()], ["0", *SIZES])
    else:
        panel.set_xscale("log")
        plain(panel.xaxis)
    panel.set_yscale("log")
    # A range that is never so narrow that noise looks like a slope.
    every = [value for some in points.values() for _, value in some]
    middle = math.sqrt(min(every) * max(every))
    spread = max(max(every) / min(every), NARROWEST) ** 0.55
    panel.set_ylim(middle / spread, middle * spread)
    plain(panel.yaxis)
    panel.set_title(metric.title)
    panel.set_xlabel(metric.along)
    panel.set_ylabel(f"{metric.unit}, {'more' if metric.more else 'less'} is better")
    tidy(panel)
    panel.grid(axis="y", color="#e5e7eb", linewidth=0.7)
    panel.legend(frameon=False, fontsize=8)
