"""Children that wait in the server for their task: used, replaced, let go, and no task's until they have one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from relieve_py import CallableTask
from relieve_py.channel import Channel
from relieve_py.launchers import blanks
from relieve_py.wire import Frame, Kind

TASK = str(Path(__file__).parent / "scripts" / "task.py")

linux = pytest.mark.skipif(sys.platform != "linux", reason="they have a name of their own on Linux only")


def eventually(found: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    """What is there in the end: the server makes blanks when it has time."""
    deadline = time.monotonic() + 10
    while not (there := found()) and time.monotonic() < deadline:
        threading.Event().wait(0.005)  # processes announce themselves to nobody
    return there


def waiting(task: CallableTask) -> list[psutil.Process]:
    """The blanks of the task's server that have rehearsed, and so sleep until they have a task."""
    assert task.pid is not None
    server = psutil.Process(psutil.Process(task.pid).ppid())
    found = [child for child in server.children() if child.name() == "relieve-blank"]
    return found if all(child.status() == psutil.STATUS_SLEEPING for child in found) else []


def lives(process: psutil.Process) -> bool:
    """Whether it still does anything. It may stay a zombie for a while, since its parent is gone."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@linux
def test_a_task_gets_a_child_that_waited() -> None:
    with CallableTask(TASK) as first:
        blanks = {blank.pid for blank in eventually(lambda: waiting(first))}
        with CallableTask(TASK) as second:
            assert second.pid in blanks
            assert psutil.Process(second.pid).name() != "relieve-blank"
            assert second.get("data").result() == {"foo": "bar"}


@linux
def test_a_blank_that_was_killed_costs_no_launch() -> None:
    with CallableTask(TASK) as first:
        for blank in eventually(lambda: waiting(first)):
            blank.kill()
        with CallableTask(TASK) as second:
            assert second.get("data").result() == {"foo": "bar"}


@linux
def test_blanks_go_with_a_server_that_was_killed() -> None:
    with CallableTask(TASK) as task:
        left = eventually(lambda: waiting(task))
        psutil.Process(task.pid).parent().kill()  # type: ignore[union-attr]
        assert left
        assert eventually(lambda: [] if any(map(lives, left)) else left)
        assert task.get("data").result() == {"foo": "bar"}


def test_a_rehearsal_boots_and_answers_a_call() -> None:
    # In a process of its own, since one that does not come to its end kills itself.
    code = """if True:
        from relieve_py.child.rehearsal import rehearse
        from relieve_py.wire import Decoder
        answers, decoder = rehearse(), Decoder()
        decoder.space()[: len(answers)] = answers
        print(*[answer.kind for answer in decoder.filled(len(answers))])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    expected = [int(Kind.READY), int(Kind.RESULT)] if hasattr(os, "memfd_create") else []
    assert [int(word) for word in done.stdout.split()] == expected, done.stderr


WARMS = """
import psutil, threading, time
import relieve_py
from relieve_py import CallableTask

def servers(): return [child for child in psutil.Process().children() if "launchers.server" in str(child.cmdline())]

assert not servers(), "an import starts nothing"
task = CallableTask("no_such_script.py")
until = time.monotonic() + 20
while not servers() and time.monotonic() < until:
    threading.Event().wait(0.01)
print(len(servers()), task.state.value)
"""


def test_the_server_is_started_when_a_task_is_made(program: Callable[..., subprocess.Popen[str]]) -> None:
    out, error = program(WARMS).communicate(timeout=60)
    assert out.split() == ["1", "new"], error


# -- how many wait ---------------------------------------------------------------------------------


class Nursery:
    """Blanks that are numbers and no processes, and whose time is said."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        pids = itertools.count(1)
        patch.setattr(blanks.time, "monotonic", lambda: self.now)
        patch.setattr(blanks.os, "fork", lambda: next(pids))
        patch.setattr(blanks, "_tell", lambda sock, frame, fds: True)
        self.blanks = blanks.Blanks(self._become, lambda: None)

    @staticmethod
    def _become(channel: Channel) -> NoReturn:
        raise AssertionError("nothing was forked")

    def launch(self) -> int | None:
        return self.blanks.hand_over(Frame(Kind.LAUNCH, 1, b"task"), [0])

    def tend(self, seconds: float) -> int:
        """After so long without a launch: how many wait."""
        self.now += seconds
        for _ in range(2 * blanks.MOST):
            self.blanks.tend()
            self.now += blanks.PACE  # between one and the next
        return len(list(self.blanks))


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    nursery = Nursery(monkeypatch)
    yield nursery
    nursery.blanks.close()


def test_as_many_wait_as_the_last_burst_took_and_one_after_a_calm(nursery: Nursery) -> None:
    assert nursery.launch() is None, "none has been made yet"
    assert nursery.tend(blanks.LINGER) == 1
    assert [nursery.launch() is not None for _ in range(3)] == [True, False, False]
    nursery.blanks.tend()
    assert not list(nursery.blanks), "the child that was launched goes first"
    assert nursery.tend(blanks.LINGER) == 3
    assert nursery.blanks.due() is not None, "it will be looked at again, to let some go"
    assert nursery.tend(blanks.CALM) == 1
    assert nursery.blanks.due() is None, "nothing wakes a server that is idle"
    for _ in range(3 * blanks.MOST):
        nursery.launch()
    assert nursery.tend(blanks.LINGER) == blanks.MOST


def test_one_that_has_ended_is_not_followed_by_another_before_a_launch(nursery: Nursery) -> None:
    assert nursery.tend(blanks.LINGER) == 1
    (blank,) = nursery.blanks
    nursery.blanks.ended(blank.pid)
    assert nursery.tend(1.0) == 0
    assert nursery.launch() is None
    assert nursery.tend(blanks.LINGER) == 1
