"""``relieve run``: keeps scripts running, and shows what they print with their names in front."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable

import attrs
from rich.text import Text

from relieve_py.cli.capture import Capture
from relieve_py.cli.failures import why_not_started
from relieve_py.cli.redirect import Redirect
from relieve_py.cli.screen import console_of, encoded, paint
from relieve_py.cli.script import stem
from relieve_py.cli.session import Session, checked
from relieve_py.events import Failed, Ready, Restarting
from relieve_py.exits import Exit
from relieve_py.lifecycle import State
from relieve_py.policies import RestartPolicy
from relieve_py.replies import Reply
from relieve_py.tasks import ScriptTask
from relieve_py.workers import Worker

COLORS = (
    "cyan",
    "yellow",
    "green",
    "magenta",
    "blue",
    "bright_cyan",
    "bright_yellow",
    "bright_green",
    "bright_magenta",
)
FIRST_DELAY = 0.1
"""Seconds before the first restart; each further one of a crash loop waits twice as long."""
WITHIN = 60.0
"""Seconds in which ``--max-restarts`` are counted."""


@attrs.frozen(kw_only=True)
class RunOptions:
    """The options of ``relieve run``."""

    restart: str
    """``"never"``, ``"on-failure"`` or ``"always"``."""
    max_restarts: int
    """After so many deaths within a minute a script counts as failed."""
    copies: int
    """Children for each script."""
    launcher: str


class _Program:
    """A task, and what stands in front of its lines."""

    def __init__(self, name: str, script: str, width: int, color: str, plain: Callable[[int, Text], str]) -> None:
        self.name = name
        self.script = script
        self.task: ScriptTask
        self.captures: list[Capture] = []
        self.last_exit: Exit | None = None
        self.started = self.waits = self.ended = self.failed = False
        self._color = color
        self._prefixes = {fd: encoded(plain(fd, Text(f"{name:<{width}} | ", style=color))) for fd in (1, 2)}
        self._width = width

    def line(self, fd: int, line: bytes) -> bytes:
        """A line of the child."""
        return self._prefixes[fd] + line

    def remark(self, text: str, style: str) -> Text:
        """A line about the child."""
        return Text.assemble((f"{self.name:<{self._width}} ", self._color), ("* ", self._color), (text, style))


class RunSession(Session):
    """One run of ``relieve run``."""

    def __init__(self, scripts: list[str], options: RunOptions) -> None:
        super().__init__(progress=False)
        self._scripts = scripts
        self._options = options
        self._consoles = {1: console_of(1), 2: self.screen.console}
        self._programs: list[_Program] = []

    def begin(self) -> None:
        names = list(_names(self._scripts, self._options.copies))
        width = max(len(name) for name, _ in names)
        colors = itertools.cycle(COLORS)
        for name, script in names:
            program = _Program(name, script, width, next(colors), lambda fd, text: paint(self._consoles[fd], text))
            self._make_task(program)
            self._programs.append(program)
        self.worker = Worker(*(program.task for program in self._programs))
        for program in self._programs:
            started = program.task.start()
            self.when_settled(started, self._start_settled, program, started)

    def _make_task(self, program: _Program) -> None:
        def pass_on(fd: int) -> Callable[[bytes], None]:
            return lambda line: self.screen.write(fd, program.line(fd, line))

        program.captures = [self.capture(pass_on(fd)) for fd in (1, 2)]
        options = self._options
        policy = RestartPolicy(
            mode=options.restart, max_restarts=options.max_restarts, within=WITHIN, delay=FIRST_DELAY
        )
        out, err = (capture.end for capture in program.captures)
        program.task = checked(
            lambda: ScriptTask(
                program.script,
                name=program.name,
                restart=policy,
                launcher=options.launcher,
                containers=[Redirect(out, err)],
            )
        )
        program.task.on("ready", lambda event: self.loop.post(self._ready, program, event))
        program.task.on("exit", lambda event: self.loop.post(self._exited, program, event))
        program.task.on("restart", lambda event: self.loop.post(self._restarts, program, event))
        program.task.on("error", lambda event: self.loop.post(self._error, program, event))

    # -- what happens, in the order it happened to each task ---------------------------------------

    def _start_settled(self, program: _Program, started: Reply) -> None:
        error = started.exception()
        program.started = error is None
        if error is None or self.stopping:
            # Called in turn with the listeners, so after what they were told of the last exit.
            program.task.wait().add_done_callback(lambda reply: self.loop.post(self._ended, program))
        else:
            raise why_not_started(program.script, error) from error

    def _ready(self, program: _Program, event: Ready) -> None:
        self._remark(program, f"started, pid {event.pid}", "dim")

    def _exited(self, program: _Program, event: Exit) -> None:
        for capture in program.captures:
            capture.drain()
        program.last_exit = event
        program.waits = False

    def _restarts(self, program: _Program, event: Restarting) -> None:
        program.waits = True
        if program.last_exit is not None:
            delay = f"restart {event.restarts} in {event.delay:.1f} s"
            style = "yellow" if program.last_exit.ok else "bold red"
            self._remark(program, f"{_how(program.last_exit)}, {delay}", style)

    def _error(self, program: _Program, event: Failed) -> None:
        program.failed = True
        if program.started:
            self._remark(program, f"given up: {' '.join(str(event.error).split())}", "bold red")

    def _ended(self, program: _Program) -> None:
        program.ended = True
        exit = program.task.exit
        well = exit is not None and exit.ok and program.task.state is not State.FAILED
        program.failed = not well and not self.broken_pipe  # then it was killed because nobody reads any more
        if exit is None or program.task.state is State.FAILED:
            return
        text = "stopped while it waited for its restart" if program.waits else _how(exit)
        self._remark(program, text, "green" if well else "bold red")

    def _remark(self, program: _Program, text: str, style: str) -> None:
        self.screen.write(2, encoded(paint(self.screen.console, program.remark(text, style)) + "\n"))

    # -- the end -----------------------------------------------------------------------------------

    def finished(self) -> bool:
        return all(program.ended for program in self._programs)

    def wind_down(self) -> None:
        self.screen.report("stopping", "the scripts may finish; once more to leave at once", "bold yellow")

    def status(self) -> int:
        failed = [program.name for program in self._programs if program.failed]
        if failed and not self.broken_pipe:
            self.screen.report("failed", f"{', '.join(failed)} ({len(failed)} of {len(self._programs)})")
        return 1 if failed else 0


def _names(scripts: list[str], copies: int) -> list[tuple[str, str]]:
    """A name for each child, numbered where several would have the same; and its script."""
    wanted = [(stem(script), script) for script in scripts for _ in range(copies)]
    several = {name for name, count in collections.Counter(name for name, _ in wanted).items() if count > 1}
    numbers: collections.Counter[str] = collections.Counter()
    named = []
    for name, script in wanted:
        numbers[name] += 1
        named.append((f"{name}-{numbers[name]}" if name in several else name, script))
    return named


def _how(exit: Exit) -> str:
    return f"{exit.describe()} after {exit.uptime:.1f} s"
