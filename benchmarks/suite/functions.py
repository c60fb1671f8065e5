"""What the children run: functions that cost nothing themselves, and those by which children and parent meet.

It imports nothing that an interpreter has not loaded anyway, so that a start of a child has only its own costs.
"""

import os
import time

HERE, GATE = "here", "gate"


def same(value: object) -> object:
    """What was given."""
    return value


def pid() -> int:
    """Of the child that runs this."""
    return os.getpid()


def cpu() -> float:
    """Seconds of processor time that this child has used."""
    return time.process_time()


def meet(folder: str) -> int:
    """Say that this child has begun, wait until the parent opens the gate, and give the pid.

    No child can take part twice, so as many of these calls as there are children reach each child once.
    """
    here = os.open(os.path.join(folder, HERE), os.O_WRONLY)
    os.write(here, b"%d\n" % os.getpid())
    os.close(here)
    os.close(os.open(os.path.join(folder, GATE), os.O_RDONLY))  # blocks until somebody opens it for writing
    return os.getpid()
