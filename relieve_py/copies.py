"""Tells the copy that ``os.fork`` makes from the original, so that neither waits for what belongs to the other.

Nothing that a thread of the original was about to do is done in the copy, and a lock that it held stays locked there.
"""

from __future__ import annotations

import os

here = object()
"""Of this process; what keeps it can see later that it is in a copy."""


def _after_fork() -> None:
    global here
    here = object()


os.register_at_fork(after_in_child=_after_fork)
