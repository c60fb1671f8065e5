"""Names that the contract tests share."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent.parent / "scripts"
KITCHEN = str(SCRIPTS / "kitchen.py")
T = 20
"""Seconds after which an answer that should come at once counts as missing."""


def script(name: str) -> str:
    """The path of a script of the tests."""
    return str(SCRIPTS / name)


class Heard(list[tuple[Any, ...]]):
    """The arguments of each event, as it comes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def __call__(self, *args: Any) -> None:
        with self._changed:
            self.append(args)
            self._changed.notify_all()

    def wait(self, n: int) -> list[tuple[Any, ...]]:
        """All of them, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self) >= n, T), f"{len(self)} of {n} events came: {self}"
            return list(self)


def heard(source: Any, name: str) -> Heard:
    """A list that grows with each such event."""
    return source.on(name, Heard())  # type: ignore[no-any-return]
