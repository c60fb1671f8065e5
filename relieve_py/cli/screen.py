"""What the command writes: results to standard output, reports and a progress line to standard error."""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH = 0.1
"""Seconds between two pictures of the progress line. Less: more to draw; more: it looks stuck."""
RATE_WINDOW = 5.0
"""Seconds over which the rate is measured. Less: it jumps; more: it is slow to tell of a change."""

_ERASE = b"\r\x1b[2K"
_HIDE, _SHOW = b"\x1b[?25l", b"\x1b[?25h"


def write_all(fd: int, data: bytes | bytearray) -> None:
    """Write everything, also where somebody made the descriptor non-blocking. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])


def encoded(text: str) -> bytes:
    """Text as the bytes it came from, where it came from a file name or an input line."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def console_of(fd: int) -> Console:
    """What rich knows of standard output or standard error: colours, width, whether it is a terminal."""
    file = sys.stdout if fd == 1 else sys.stderr
    if file is None:  # it is closed
        file = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    return Console(file=file, highlight=False, markup=False, emoji=False)


def paint(console: Console, text: RenderableType) -> str:
    """A renderable as the characters that show it on that console, without an end of line."""
    with console.capture() as capture:
        console.print(text, soft_wrap=True, end="")
    return capture.get()


class Screen:
    """Both streams. What goes to them is kept until ``flush``, so that many lines cost one system call."""

    def __init__(self, progress: bool) -> None:
        self.console = console_of(2)
        self._pending: list[tuple[int, bytearray]] = []
        self._shares = os.isatty(1) if _is_open(1) else False
        self.update: Callable[[], object] = int
        """Called before the progress line is drawn, to set its numbers."""
        self.progress: Progress | None = None
        if progress and self.console.is_terminal and not self.console.is_dumb_terminal and os.isatty(2):
            self.progress = Progress(self.console)
        self._drawn = self._hidden = False

    def write(self, fd: int, data: bytes) -> None:
        """Keep something for standard output (1) or standard error (2)."""
        if not self._pending or self._pending[-1][0] != fd:
            self._pending.append((fd, bytearray()))
        self._pending[-1][1].extend(data)

    def report(self, what: str, text: str, style: str = "bold red") -> None:
        """A line of the command itself on standard error."""
        line = Text.assemble((f"{what}: ", style), text)
        self.write(2, encoded(paint(self.console, line) + "\n"))

    def flush(self) -> None:
        """Write what was kept. Raises BrokenPipeError when nobody reads standard output any more."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        if self._drawn and (self._shares or any(fd == 2 for fd, _ in pending)):
            self._erase()
        for fd, data in pending:
            try:
                write_all(fd, data)
            except OSError:
                if fd == 1:
                    raise
        if self._hidden and not self._drawn:
            self.draw()

    def draw(self) -> None:
        """Show the progress line as it is now."""
        if self.progress is not None:
            self.update()
            line = encoded(self.progress.picture())
            self._to_terminal((b"" if self._hidden else _HIDE) + _ERASE + line)
            self._drawn = self._hidden = True

    def _erase(self) -> None:
        self._to_terminal(_ERASE)
        self._drawn = False

    def _to_terminal(self, data: bytes) -> None:
        try:
            write_all(2, data)
        except OSError:  # the terminal is gone: there is nobody to show anything to
            self.progress = None

    def summarize(self, interrupted: bool) -> None:
        """Where there was a progress line, leave its last numbers."""
        if self.progress is not None:
            self.write(2, encoded(paint(self.console, self.progress.summary(interrupted)) + "\n"))

    def close(self) -> None:
        """Remove the progress line and give the cursor back. What was kept is written by ``flush`` only."""
        if self._hidden:
            self._to_terminal(_ERASE + _SHOW)
            self._drawn = self._hidden = False
        self.progress = None


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class Progress:
    """The numbers of the progress line, and its picture."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._marks: deque[tuple[float, int, float]] = deque([(self._began, 0, 0.0)])
        self.done = 0
        self.failed = 0
        self.restarts = 0
        self.position = 0.0
        """How far it is, in the unit of ``total``."""
        self.total: float | None = None

    def picture(self) -> str:
        """One line, as wide as the terminal at most."""
        now = time.monotonic()
        self._marks.append((now, self.done, self.position))
        while len(self._marks) > 2 and self._marks[0][0] < now - RATE_WINDOW:
            self._marks.popleft()
        grid = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = [self._bar(now), *self._numbers(now)]
        for _ in cells:
            grid.add_column(no_wrap=True)
        grid.add_row(*cells)
        with self._console.capture() as capture:
            self._console.print(grid, end="")
        return capture.get().partition("\n")[0]

    def _bar(self, now: float) -> ProgressBar:
        return ProgressBar(
            total=self.total or None,
            completed=min(self.position, self.total or 0.0),
            pulse=not self.total,
            animation_time=now,
            width=max(4, min(40, self._console.width // 3)),
            complete_style="cyan",
            finished_style="green",
            pulse_style="cyan",
        )

    def _numbers(self, now: float) -> list[Text]:
        began, done, position = self._marks[0]
        seconds = max(now - began, 1e-9)
        numbers = [Text(f"{self.done:,} done", "bold"), Text(f"{(self.done - done) / seconds:,.0f}/s", "cyan")]
        speed = (self.position - position) / seconds
        if self.total and speed > 0:
            numbers.append(Text(f"{clock((self.total - self.position) / speed)} left", "cyan"))
        else:
            numbers.append(Text(clock(now - self._began), "cyan"))
        numbers.append(Text(f"{self.failed:,} failed", "bold red" if self.failed else "dim"))
        numbers.append(Text(plural(self.restarts, "restart"), "bold yellow" if self.restarts else "dim"))
        return numbers

    def summary(self, interrupted: bool) -> Text:
        """The line that stays when all is done."""
        seconds = time.monotonic() - self._began
        line = Text.assemble((f"{self.done:,} done", "bold yellow" if interrupted else "bold green"))
        line.append(f"  {self.failed:,} failed", "bold red" if self.failed else "dim")
        line.append(f"  {plural(self.restarts, 'restart')}", "bold yellow" if self.restarts else "dim")
        line.append(f"  {seconds:,.1f} s  {self.done / max(seconds, 1e-9):,.0f}/s", "cyan")
        return line


def clock(seconds: float) -> str:
    """A time as ``m:ss`` or ``h:mm:ss``."""
    minutes, whole = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def plural(number: int, what: str) -> str:
    """``1 restart``, ``2 restarts``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
