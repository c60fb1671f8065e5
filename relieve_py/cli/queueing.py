"""``relieve queue``: one run of a script per argument, some at a time, and a table of how they ended."""

from __future__ import annotations

import attrs
from rich import box
from rich.table import Table
from rich.text import Text

from relieve_py.batches import QueueWorker
from relieve_py.cli.failures import one_line, quoted, why_not_started
from relieve_py.cli.inputs import Input, Intake, Source
from relieve_py.cli.redirect import Redirect
from relieve_py.cli.screen import console_of, encoded, plural
from relieve_py.cli.session import Session, checked
from relieve_py.errors import RelieveError
from relieve_py.events import Failed
from relieve_py.exits import Exit
from relieve_py.lifecycle import State
from relieve_py.replies import Reply
from relieve_py.tasks import ScriptTask

AHEAD = 2
"""Tasks made for each that can run: the next must be at hand when one ends. More: more memory, no more speed."""
UNLIMITED = 1 << 16
"""Columns of a table that is not for a terminal: no line of it is broken."""


@attrs.frozen(kw_only=True)
class QueueOptions:
    """The options of ``relieve queue``."""

    concurrency: int
    """Runs at a time."""
    launcher: str


@attrs.frozen(kw_only=True)
class _Row:
    """How one run ended."""

    input: Input
    exit: Exit | None
    """None: it was not run."""
    error: BaseException | None = None
    """Why it could not be started."""

    @property
    def well(self) -> bool:
        return self.error is None and self.exit is not None and self.exit.ok

    @property
    def how(self) -> str:
        if self.error is not None:
            return one_line(self.error)
        return "not run" if self.exit is None else self.exit.describe()


class QueueSession(Session):
    """One run of ``relieve queue``."""

    def __init__(self, script: str, source: Source, options: QueueOptions, progress: bool) -> None:
        super().__init__(progress)
        self._script = script
        self._intake = Intake(self.loop, source, self._room, self._submit)
        self._options = options
        self._queue: QueueWorker
        self._container: Redirect
        self._running: dict[str, Input] = {}
        self._errors: dict[str, BaseException] = {}
        self._rows: list[_Row] = []
        self._any_started = False

    def begin(self) -> None:
        self._container = self.quiet_children(results=False)
        self.worker = self._queue = QueueWorker(concurrency=self._options.concurrency)
        checked(lambda: self._task("first", ""))  # never started: it shows whether the options are right
        self._intake.take()

    def _task(self, name: str, argument: str) -> ScriptTask:
        return ScriptTask(
            self._script,
            name=name,
            args=[argument],
            launcher=self._options.launcher,
            containers=[self._container],
        )

    # -- taking arguments --------------------------------------------------------------------------

    def _room(self) -> bool:
        return len(self._running) < AHEAD * self._options.concurrency

    def _submit(self, input: Input) -> None:
        task = self._task(f"{input.number}", input.text)
        task.on("error", lambda event: self.loop.post(self._failed_to_start, task, event))
        task.once("ready", lambda event: self.loop.post(self._ready))
        self._running[task.name] = input
        self._queue.add(task)
        run = self._queue.run(task.name)
        self.when_settled(run, self._settled, task, run)

    # -- what happens ------------------------------------------------------------------------------

    def _ready(self) -> None:
        self._any_started = True

    def _failed_to_start(self, task: ScriptTask, event: Failed) -> None:
        if not self._any_started and not self.stopping:
            raise why_not_started(self._script, event.error)
        self._end_of(task, None, event.error)

    def _settled(self, task: ScriptTask, run: Reply) -> None:
        try:
            exit = run.result()[0]
        except RelieveError as error:
            self._end_of(task, None, error)
        else:
            if task.state is not State.FAILED:  # if it is, the reason is on its way
                self._end_of(task, exit, None)

    def _end_of(self, task: ScriptTask, exit: Exit | None, error: BaseException | None) -> None:
        input = self._running.pop(task.name)
        self._rows.append(_Row(input=input, exit=exit, error=error))
        if not self.stopping:
            self._queue.remove(task).mark_seen()
            self._intake.take()

    # -- the end -----------------------------------------------------------------------------------

    def finished(self) -> bool:
        return not self._running and self._intake.ended

    def wind_down(self) -> None:
        self._intake.close()
        self.screen.report("stopping", "running scripts may finish; once more to leave at once", "bold yellow")

    def count(self) -> None:
        progress = self.screen.progress
        if progress is not None:
            progress.done = len(self._rows)
            progress.failed = sum(not row.well for row in self._rows)
            progress.position = max((row.input.end for row in self._rows), default=0)
            progress.total = self._intake.source.total

    def status(self) -> int:
        rows = sorted(self._rows, key=lambda row: row.input.number)
        failed = sum(not row.well for row in rows)
        if rows and not self.broken_pipe:
            self.screen.write(1, encoded(_table(rows, failed)))
        return self.signals.status or (1 if failed else 0)


def _table(rows: list[_Row], failed: int) -> str:
    console = console_of(1)
    if not console.is_terminal:
        console.width = UNLIMITED
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII2, header_style="bold")
    table.add_column("#", justify="right", style="dim")
    table.add_column("argument", overflow="fold")
    table.add_column("exit")
    table.add_column("seconds", justify="right")
    for row in rows:
        seconds = f"{row.exit.uptime:.2f}" if row.exit is not None else ""
        style = "green" if row.well else "bold red"
        table.add_row(str(row.input.number), Text(quoted(row.input.text)[1:-1]), Text(row.how, style), seconds)
    end = Text(plural(len(rows), "run"), "bold")
    end.append(f", {failed} failed" if failed else ", none failed", "bold red" if failed else "green")
    with console.capture() as capture:
        console.print(table)
        console.print(end)
    return capture.get()
