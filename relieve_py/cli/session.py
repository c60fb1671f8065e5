"""What the commands share: a loop, a screen, signals, and a way to end each of them."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

from relieve_py.cli.capture import Capture
from relieve_py.cli.failures import WrongUse
from relieve_py.cli.loop import AtOnce, Loop, Signals
from relieve_py.cli.redirect import Redirect
from relieve_py.cli.screen import REFRESH, Screen
from relieve_py.errors import RelieveError
from relieve_py.replies import Reply
from relieve_py.workers import Worker

AT_ONCE = 1.0
"""Seconds that killed children get to be gone when the user wants to leave at once; the server kills what is left."""


def checked(make: Callable[[], Any]) -> Any:
    """What ``make`` constructs from the user's options. Raises WrongUse for a wrong one."""
    try:
        return make()
    except (TypeError, ValueError, ImportError) as error:
        raise WrongUse(str(error)) from error


class Session(ABC):
    """One run of a command. A subclass says what it does; ``run`` gives the exit status."""

    def __init__(self, progress: bool) -> None:
        self.loop = Loop()
        self.screen = Screen(progress)
        self.screen.update = self.count
        self.signals = Signals(self.loop, self._asked)
        self.worker: Worker | None = None
        self.broken_pipe = False
        self._captures: list[Capture] = []
        self._stop: Reply | None = None
        self._clean = False

    # -- what a subclass says ----------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Make the worker and start it. Raises WrongUse."""

    @abstractmethod
    def finished(self) -> bool:
        """True when there is nothing left to wait for."""

    @abstractmethod
    def wind_down(self) -> None:
        """The user asked for the end, once; ``stop()`` follows."""

    @abstractmethod
    def status(self) -> int:
        """The exit status, after everything. What it writes is the last."""

    def count(self) -> None:  # noqa: B027 - a command without a progress line has nothing to do here
        """Set the numbers of the progress line."""

    # -- the run -----------------------------------------------------------------------------------

    def run(self) -> int:
        """Begin, run until finished, stop the children, and return the exit status. Raises WrongUse."""
        try:
            with self.signals:
                try:
                    return self._run()
                finally:
                    self._end()
        except AtOnce as demand:
            self._leave(demand.status)

    def _run(self) -> int:
        try:
            self.begin()
            self.loop.ticker = self.screen.draw
            self._until(self.finished)
        except BrokenPipeError:  # who read our output has enough
            self.broken_pipe = True
        self._stop_worker()
        for capture in self._captures:
            capture.drain()
        with contextlib.suppress(BrokenPipeError):
            status = self.status()
            self.screen.close()
            self.screen.flush()
        self._clean = True
        return status

    def _stop_worker(self) -> None:
        if self.worker is None:
            return
        stopped = self.worker.kill() if self.broken_pipe else self._stop or self.worker.stop()
        stopped.mark_seen()
        stopped.when_settled(lambda: self.loop.post(int))
        with contextlib.suppress(BrokenPipeError):
            self._until(stopped.done)
        if not stopped.done():  # the pipe broke just now
            stopped.exception()

    def _until(self, done: Callable[[], bool]) -> None:
        def flushed_and_done() -> bool:
            self.screen.flush()
            return done()

        self.loop.run(flushed_and_done, REFRESH if self.screen.progress is not None else None)

    def _end(self) -> None:
        """However it ended: no child, and the terminal as it was."""
        if not self._clean:
            self.screen.close()
            if self.worker is not None:
                killed = self.worker.kill()
                killed.mark_seen()
                with contextlib.suppress(TimeoutError, RelieveError):
                    killed.result(AT_ONCE)
            with contextlib.suppress(BrokenPipeError):
                self.screen.flush()
        for capture in self._captures:
            capture.close()
        self._captures.clear()

    @staticmethod
    def _leave(status: int) -> NoReturn:
        """Without the interpreter's exit, which would wait for whatever is stuck."""
        os._exit(status)

    # -- for subclasses ----------------------------------------------------------------------------

    def _asked(self) -> None:
        self.wind_down()
        if self.worker is not None and self._stop is None:
            self._stop = self.worker.stop()
            self._stop.mark_seen()
            self._stop.when_settled(lambda: self.loop.post(int))

    @property
    def stopping(self) -> bool:
        """True once the user asked for the end."""
        return self.signals.signum is not None

    def when_settled(self, reply: Reply, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call the function once the reply is settled."""
        reply.mark_seen()
        reply.when_settled(lambda: self.loop.post(function, *args))

    def capture(self, pass_on: Callable[[bytes], object]) -> Capture:
        """A pipe for what children print, read until the end of this session."""
        made = Capture(self.loop, pass_on)
        self._captures.append(made)
        return made

    def quiet_children(self, results: bool) -> Redirect:
        """The container for children whose output is their own affair: it only must not tear the progress line.

        With ``results`` standard output is for results alone, so that what children print there goes to standard error.
        """
        if self.screen.progress is None:
            return Redirect(None, None, out_to_err=results)
        err = self.capture(lambda line: self.screen.write(2, line)).end
        out = None if results else self.capture(lambda line: self.screen.write(1, line)).end
        return Redirect(out, err, out_to_err=results)
