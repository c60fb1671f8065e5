"""The standard streams' descriptors: 0, 1 and 2 are theirs, also where they are closed."""

from __future__ import annotations

import os


def occupy() -> None:
    """Open the null device in the place of each that is closed. What is opened next would get its number otherwise, and
    whatever is printed, here or in a child, would be written to it. Raises OSError when no descriptor is left."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
            if opened != fd:  # another thread has opened something there
                os.close(opened)
