"""What must not happen while a child is hostile, and how that is seen."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import time
from collections.abc import Iterator

from puppets import PATIENCE

from relieve_py.supervisor import shared


class Complaints(logging.Handler):
    """What the library logs of itself as a fault of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what says that something failed that must not."""
        text = record.getMessage()
        if "please report this" in text or "a callback raised" in text:
            error = record.exc_info[1] if record.exc_info else None
            self.found.append(f"{text}: {error!r}")


@contextlib.contextmanager
def no_complaints() -> Iterator[None]:
    """Fails when the library logs a fault of its own; is silent about all else that it logs."""
    complaints, logger = Complaints(), logging.getLogger("relieve_py")
    logger.addHandler(complaints)
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(complaints)
    assert not complaints.found, complaints.found


def settled() -> None:
    """Wait until the I/O thread has done what was posted to it; it lives."""
    done = threading.Event()
    shared().post(done.set)
    assert done.wait(PATIENCE), "the I/O thread hangs"


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


@contextlib.contextmanager
def no_descriptor_lost() -> Iterator[None]:
    """Fails when there are more descriptors than before, once everything has come to rest."""
    before = descriptors()
    yield
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while descriptors() > before:  # the threads of callbacks may still hold an event
        assert time.monotonic() < deadline, "descriptors are lost"
        gc.collect()
        settled()
        pause.wait(0.002)
