"""``relieve top``: the workers of running programs, as they are now."""

from __future__ import annotations

import contextlib
import json
import os
import select
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from relieve_py.cli.failures import WrongUse
from relieve_py.cli.screen import clock, console_of, encoded, plural, write_all
from relieve_py.publishing import snapshots

_COLORS = {
    "ready": "green",
    "starting": "cyan",
    "stopping": "yellow",
    "waiting": "yellow",
    "asleep": "dim",
    "failed": "bold red",
}
COLUMNS = (
    "task", "state", "pid", "cpu %", "memory", "up", "queued", "running", "done", "failed", "restarts", "p50", "p99",
)  # fmt: skip
SPARED = ("restarts", "queued", "running", "up", "p50", "p99", "pid")
"""Columns that are left out, one after the other, until the rest fits."""
WIDE = 120
"""Columns of characters where nobody says how many there are."""
_NOBODY = "no program shows its workers: start it with RELIEVE_TOP=1, or have it call worker.publish()"


@attrs.frozen(kw_only=True)
class TopOptions:
    """The options of ``relieve top``."""

    pid: int | None
    """Only that program; None: all of this user's."""
    once: bool
    """One picture, and the end."""
    as_json: bool
    """Each program as a line of JSON, and the end."""
    interval: float
    """Seconds between two pictures."""


def run_top(options: TopOptions) -> int:
    """Run the command; its exit status. Raises WrongUse, BrokenPipeError."""
    found = list(snapshots(options.pid))
    if not found:
        raise WrongUse(_NOBODY if options.pid is None else f"no program with pid {options.pid} shows its workers")
    if options.as_json:
        write_all(1, b"".join(json.dumps(each).encode() + b"\n" for each in found))
        return 0
    console = console_of(1)
    if options.once or not console.is_terminal:
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = WIDE
        with console.capture() as capture:
            console.print(Picture(console).of(found))
        write_all(1, encoded(capture.get()))
        return 0
    return _live(console, options, found)


def _live(console: Console, options: TopOptions, found: list[dict[str, Any]]) -> int:
    """Until the user has enough, or the programs have ended."""
    picture = Picture(console)
    try:
        with _keys() as wanted, Live(picture.of(found), console=console, screen=True, auto_refresh=False) as live:
            while found:
                live.update(Group(picture.of(found), _FOOT), refresh=True)
                if wanted(options.interval):
                    return 0
                found = list(snapshots(options.pid))
    except KeyboardInterrupt:
        return 130
    write_all(2, b"relieve top: the program has ended\n")
    return 0


_FOOT = Text("q quits", "dim")


def _just_wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Gives a function that waits so many seconds; True when the user has asked for the end by a key."""
    if not os.isatty(0):
        yield _just_wait
        return
    before = termios.tcgetattr(0)

    def wanted(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([0], [], [], left)[0] and os.read(0, 100).lower() in (b"q", b"\x1b", b"\x04", b""):
                return True
        return False

    try:
        tty.setcbreak(0)  # Ctrl-C still interrupts
        yield wanted
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


class Picture:
    """Tables of what programs tell; remembers the last counts, for rates."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._before: dict[tuple[int, str], tuple[float, int]] = {}

    def of(self, found: list[dict[str, Any]]) -> Group:
        """All of it."""
        parts: list[Any] = []
        for program in found:
            title = Text.assemble((_name(program["program"]), "bold"), f"  pid {program['pid']}")
            if not program["workers"]:
                title.append("  no workers", "dim")
            parts.append(title)
            for worker in program["workers"]:
                parts += ["", self._head(program, worker), self._tasks(worker["tasks"])]
            parts.append("")
        return Group(*parts[:-1])

    def _head(self, program: dict[str, Any], worker: dict[str, Any]) -> Text:
        stats = worker["stats"]
        states = ", ".join(f"{count} {state}" for state, count in sorted(stats["states"].items()))
        head = Text.assemble((worker["name"], "bold cyan"), f"  {worker['kind']}  ")
        head.append(f"{plural(stats['size'], 'task')}: {states}" if states else "no tasks")
        head.append("\n")
        numbers = [(f"{stats['queued']:,} queued", ""), (f"{stats['running']:,} running", "")]
        numbers += [(f"{stats['done']:,} done", ""), (self._rate(program, worker), "cyan")]
        numbers += [(f"{stats['failed']:,} failed", "bold red" if stats["failed"] else "dim")]
        numbers += [(plural(stats["restarts"], "restart"), "bold yellow" if stats["restarts"] else "dim")]
        latency = stats["latency"]
        numbers += [(f"{name} {duration(latency[name])}", "") for name in ("p50", "p90", "p99")]
        for text, style in numbers:
            head.append(f"{text}  " if text else "", style)
        head.rstrip()
        return head

    def _rate(self, program: dict[str, Any], worker: dict[str, Any]) -> str:
        key, at, done = (program["pid"], worker["name"]), program["at"], worker["stats"]["done"]
        before, count = self._before.get(key, (at, done))
        self._before[key] = at, done
        return f"{(done - count) / (at - before):,.0f}/s" if at > before else ""

    def _tasks(self, tasks: list[dict[str, Any]]) -> Table:
        """With as many columns as there is room for."""
        rows = [_cells(task) for task in tasks]
        columns = list(COLUMNS)
        anyhow = self._console.options.update_width(1000)  # as wide as it likes to be
        for spared in ("", *SPARED):
            columns = [column for column in columns if column != spared]
            table = _table(columns, rows)
            if Measurement.get(self._console, anyhow, table).maximum <= self._console.width:
                break
        return table


def _name(program: str) -> str:
    """What a program is called: its script, or its package."""
    folder, name = os.path.split(program)
    return os.path.basename(folder) if name == "__main__.py" else name or "python"


def _table(columns: list[str], rows: list[dict[str, str | Text]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        left = column in ("task", "state")
        table.add_column(column, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table


def _cells(task: dict[str, Any]) -> dict[str, str | Text]:
    health, stats = task["health"], task["stats"]
    return {
        "task": task["name"],
        "state": Text(task["state"], _COLORS.get(task["state"], "")),
        "pid": _or_dash(health["pid"], str),
        "cpu %": _or_dash(health["cpu_percent"], lambda percent: f"{percent:.0f}"),
        "memory": _or_dash(health["rss"], size),
        "up": _or_dash(health["uptime"], clock),
        **{name: f"{stats[name]:,}" for name in ("queued", "running", "done", "failed", "restarts")},
        "p50": duration(stats["latency"]["p50"]),
        "p99": duration(stats["latency"]["p99"]),
    }


def _or_dash(value: Any, show: Any) -> str:
    return "-" if value is None else show(value)


def duration(seconds: float | None) -> str:
    """A time with three digits."""
    if seconds is None:
        return "-"
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds < 99.5 else clock(seconds)


def size(nbytes: int) -> str:
    """A size with a unit."""
    amount = float(nbytes)
    for unit in ("B", "KiB", "MiB"):
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} GiB"
