"""The container that the command runs in its children: it points their standard streams elsewhere."""

from __future__ import annotations

import io
import os
import sys


class Redirect:
    """Standard input becomes empty, standard output and error go to those files; None leaves the stream as it is.

    The files are descriptors of the parent, which travel with this object to each child of the task.
    """

    def __init__(self, out: io.FileIO | None, err: io.FileIO | None, out_to_err: bool = False) -> None:
        self._out = out
        self._err = err
        self._out_to_err = out_to_err

    def __call__(self) -> None:
        """In the child."""
        _replace(0, os.open(os.devnull, os.O_RDONLY))
        if self._err is not None:
            os.dup2(self._err.fileno(), 2)
        if self._out is not None:
            os.dup2(self._out.fileno(), 1)
        elif self._out_to_err:
            os.dup2(2, 1)
        for file in (self._out, self._err):
            if file is not None:
                file.close()
        # Whoever reads the other end wants each line when it is printed, not when a buffer is full.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)


def _replace(target: int, fd: int) -> None:
    if fd != target:
        os.dup2(fd, target)
        os.close(fd)
