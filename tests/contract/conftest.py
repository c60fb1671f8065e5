"""What the contract tests share: tasks that serve many tests, and places to wait in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import KITCHEN, SCRIPTS

from relieve_py import CallableTask, CloudWorker

if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))  # so that dotted names and containers are found; children get the same path


@pytest.fixture(scope="module")
def kitchen(launcher: str) -> Iterator[CallableTask]:
    """A running task of kitchen.py for tests that leave it as they found it."""
    with CallableTask(KITCHEN, launcher=launcher) as task:
        yield task


@pytest.fixture(scope="module")
def served() -> Iterator[CallableTask]:
    """The same for what does not depend on the launcher."""
    with CallableTask(KITCHEN) as task:
        yield task


@pytest.fixture(scope="module")
def cloud() -> Iterator[CloudWorker]:
    """Two tasks of kitchen.py under one worker."""
    with CloudWorker(CallableTask(KITCHEN), size=2) as worker:
        yield worker


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[], Gate]:
    """Makes gates: named pipes at which a child waits until the test opens them."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate(tmp_path / f"gate-{len(made)}"))
        return made[-1]

    return make


class Gate:
    """A named pipe: ``wait_for_file(gate.path)`` in a child returns what ``open`` writes."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)

    def open(self, text: str = "open") -> None:
        """Let one child pass; blocks until it waits."""
        with open(self.path, "w") as file:
            file.write(f"{text}\n")  # a line: its end shows although a child of fork() has this file open, too
