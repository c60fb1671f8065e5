"""What a child leaves for its error: what its Python code wrote to stderr, and its stacks when it crashes or is asked.

It all goes into the memory that is shared with the parent (``blackbox``), so that it is there whatever ends the child.
"""

from __future__ import annotations

import faulthandler
import mmap

from relieve_py.blackbox import BYTES, DUMP_SIGNAL, OUTCOMES, OUTCOMES_AT, WELCOMES
from relieve_py.child.streams import kept_stderr


class LastWords:
    """The child's side of the memory on that descriptor, which stays open for faulthandler, and whose offset is that of
    the stacks."""

    def __init__(self, fd: int) -> None:
        memory = memoryview(mmap.mmap(fd, BYTES))
        self.numbers = memory.cast("Q")
        self.outcomes = memory[OUTCOMES_AT : OUTCOMES_AT + OUTCOMES]
        self._fd = fd
        self._asked_for: list[int] = []  # signals on which the stacks are written
        self._stderr = kept_stderr()
        if self._stderr is not None:
            self._stderr.memory = memory
        self._on_crash = not faulthandler.is_enabled()  # the user's own choice, as by -X faulthandler, stands
        if self._on_crash:
            faulthandler.enable(fd)

    def welcome_dump(self) -> None:
        """From now on DUMP_SIGNAL has the stacks of all threads written, also while C code holds the GIL."""
        if DUMP_SIGNAL is not None:
            self.dump_on(DUMP_SIGNAL)
            self.numbers[WELCOMES] = 1

    def tell_stacks(self) -> None:
        """Write down where every thread is. It holds the GIL, so no thread moves on meanwhile, as one may while the
        handler of a signal looks at it."""
        faulthandler.dump_traceback(self._fd)

    def dump_on(self, signum: int, chain: bool = False) -> None:
        """Have that signal write the stacks, and with ``chain`` do then what it does anyway."""
        faulthandler.register(signum, self._fd, chain=chain)
        self._asked_for.append(signum)

    def let_go(self) -> None:
        """In a process that user code forked: the memory tells of this child only."""
        if self._stderr is not None:
            self._stderr.memory = None
        if self._on_crash:
            faulthandler.disable()
        for signum in self._asked_for:
            faulthandler.unregister(signum)
