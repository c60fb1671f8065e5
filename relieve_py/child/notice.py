"""What a child still does when it is told that it will be killed in a moment, which SIGTERM says."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from relieve_py.child.process import print_error


class Notice:
    """The functions that are to run then. The handler of the signal is there only when there are some."""

    def __init__(self) -> None:
        self._functions: list[Callable[[], object]] = []
        self._before: Any = signal.SIG_DFL
        self._pid = os.getpid()

    def add(self, function: Callable[[], object]) -> None:
        """Have it run, too, after those that are there. Raises ValueError for the first one, when this is not the main
        thread, where alone Python sets handlers."""
        if not self._functions:
            self._before = signal.signal(signal.SIGTERM, self._given)
        self._functions.append(function)

    def _given(self, signum: int, frame: FrameType | None) -> None:
        functions, self._functions = self._functions, []  # another SIGTERM in the middle does what it did before
        signal.signal(signum, self._before or signal.SIG_DFL)
        for function in functions if os.getpid() == self._pid else ():  # not in a fork that has yet to let go
            try:
                function()
            except BaseException as error:  # also SystemExit: the next one has to be told, too
                print_error(error)
        os.kill(os.getpid(), signum)  # so that this is what the child has died of, or what another handler does

    def let_go(self) -> None:
        """In a process that user code forked, of which nobody will say that it is killed."""
        if self._functions:
            self._functions = []
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
