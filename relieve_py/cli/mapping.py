"""``relieve map``: one call per input, results in order as they come."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import attrs

from relieve_py.cli.failures import WrongUse, one_line, why_not_started
from relieve_py.cli.inputs import Input, Intake, Source
from relieve_py.cli.screen import encoded, plural
from relieve_py.cli.script import Target
from relieve_py.cli.session import Session, checked
from relieve_py.cloud import CloudWorker
from relieve_py.errors import MethodNotFound, NotRunning, RelieveError, Stopped
from relieve_py.remote import Remote
from relieve_py.replies import Reply
from relieve_py.tasks import CallableTask

AHEAD = 16
"""Inputs in flight for each child. Less: one slow call holds up the others sooner, because results wait for their
turn; more: more inputs and results in memory."""


@attrs.frozen(kw_only=True)
class MapOptions:
    """The options of ``relieve map``."""

    size: int
    """Children."""
    timeout: float | None
    """Seconds that one call may take."""
    retries: int
    """How often an input is tried again whose child died."""
    strategy: str
    launcher: str
    unordered: bool
    """Results as they come, rather than in the order of the inputs."""
    as_json: bool
    """Each result as a line of JSON."""


class _Item:
    """An input on its way."""

    __slots__ = ("input", "reply", "settled")

    def __init__(self, input: Input, reply: Reply) -> None:
        self.input = input
        self.reply = reply
        self.settled = False


class MapSession(Session):
    """One run of ``relieve map``."""

    def __init__(self, target: Target, source: Source, options: MapOptions, progress: bool) -> None:
        super().__init__(progress)
        self._target = target
        self._intake = Intake(self.loop, source, self._room, self._submit)
        self._options = options
        self._flight: deque[_Item] = deque()  # in the order of the inputs
        self._in_flight = 0
        self._started = False
        self._remote: Remote
        self._cloud: CloudWorker
        self._done = self._failed = self._position = 0
        self._not_run: list[Input] = []
        self._lost: NotRunning | None = None

    def begin(self) -> None:
        options = self._options
        container = self.quiet_children(results=True)
        task = checked(lambda: CallableTask(self._target.script, launcher=options.launcher, containers=[container]))
        self._cloud = checked(
            lambda: CloudWorker(task, size=options.size, strategy=options.strategy, retries=options.retries)
        )
        self._remote = checked(lambda: self._cloud.options(timeout=options.timeout))
        self.worker = self._cloud
        started = self._cloud.start()
        self.when_settled(started, self._start_settled, started)

    def _start_settled(self, started: Reply) -> None:
        try:
            started.result()
        except RelieveError as error:
            if not self.stopping:
                raise why_not_started(self._target.script, error) from error
        else:
            self._started = True
            self._intake.take()

    # -- taking inputs -----------------------------------------------------------------------------

    def _room(self) -> bool:
        return self._started and self._in_flight < AHEAD * self._options.size

    def _submit(self, input: Input) -> None:
        item = _Item(input, self._remote.get(self._target.function, input.text))
        self._in_flight += 1
        if not self._options.unordered:
            self._flight.append(item)
        self.when_settled(item.reply, self._settled, item)

    # -- giving results ----------------------------------------------------------------------------

    def _settled(self, item: _Item) -> None:
        if self._options.unordered:
            self._give(item)
        else:
            item.settled = True
            while self._flight and self._flight[0].settled:
                self._give(self._flight.popleft())
        self._intake.take()

    def _give(self, item: _Item) -> None:
        self._in_flight -= 1
        try:
            data = self._as_line(item.reply.result())
        except Stopped:
            self._not_run.append(item.input)
        except NotRunning as error:  # no child is left, and it will not be better for the next input
            self._lost = error
            self._not_run.append(item.input)
            self._intake.close()
        except Exception as error:
            self._check_function(error)
            self._count(item.input)
            self._failed += 1
            self.screen.report("failed", f"{item.input}: {one_line(error)}")
        else:
            self._count(item.input)
            self.screen.write(1, data)

    def _count(self, input: Input) -> None:
        self._done += 1
        self._position = max(self._position, input.end)

    def _check_function(self, error: Exception) -> None:
        """A function that is not there is no failure of an input."""
        if not isinstance(error, MethodNotFound) or error.asked != self._target.function:
            return
        script, asked = self._target.script, self._target.function
        what = f"no function {asked!r}" if asked is not None else "no default function; name one as SCRIPT:FUNCTION"
        there = ", ".join(name for name in error.available) or "nothing"
        raise WrongUse(f"{script} has {what}; it exports: {there}") from error

    def _as_line(self, result: Any) -> bytes:
        if self._options.as_json:
            try:
                return _json(result) + b"\n"
            except (TypeError, ValueError) as error:
                raise ValueError(f"the result is no JSON: {error}") from error
        if result is None:
            return b"\n"
        if isinstance(result, bytes):
            return result + b"\n"
        return encoded(result if isinstance(result, str) else repr(result)) + b"\n"

    # -- the end -----------------------------------------------------------------------------------

    def finished(self) -> bool:
        return self._in_flight == 0 and self._intake.ended and (self._started or self.stopping)

    def wind_down(self) -> None:
        self._intake.close()
        self.screen.report("stopping", "running calls may finish; once more to leave at once", "bold yellow")

    def count(self) -> None:
        progress = self.screen.progress
        if progress is not None:
            progress.done, progress.failed, progress.position = self._done, self._failed, self._position
            progress.restarts = sum(task.restarts for task in self._cloud)
            progress.total = self._intake.source.total

    def status(self) -> int:
        self.count()
        self.screen.summarize(self.stopping)
        if self.broken_pipe:
            return 1 if self._failed else 0
        if self._not_run:
            first = min(self._not_run, key=lambda input: input.number)
            count = plural(len(self._not_run), "input")
            self.screen.report("not run", f"{count} that had been read, the first: {first}", "bold yellow")
        if self._lost is not None:
            self.screen.report("relieve map", f"no child is left to go on with: {one_line(self._lost)}")
        return self.signals.status or (1 if self._failed or self._lost is not None else 0)


def _json(result: Any) -> bytes:
    try:
        return json.dumps(result, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # it has surrogates, which only an escape can show
        return json.dumps(result, allow_nan=False).encode()
