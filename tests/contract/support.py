"""Names that the contract tests share."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent.parent / "scripts"
KITCHEN = str(SCRIPTS / "kitchen.py")
T = 20
"""Seconds after which an answer that should come at once counts as missing."""


def script(name: str) -> str:
    """The path of a script of the tests."""
    return str(SCRIPTS / name)


def heard(source: Any, name: str) -> list[tuple[Any, ...]]:
    """A list that grows with each such event."""
    events: list[tuple[Any, ...]] = []
    source.on(name, lambda *args: events.append(args))
    return events


def wait_gone(pid: int, seconds: float = T) -> bool:
    """Wait until that process has ended (also as a zombie); False when it has not in that time."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)
