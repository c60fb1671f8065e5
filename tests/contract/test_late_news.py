"""The child's channel and the launcher are two ways by which news come, and one may be slower than the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import KITCHEN, T, script

from relieve_py import CallableTask, ScriptTask, StartError, State
from relieve_py.launchers.base import LaunchSpec, Observer, Process
from relieve_py.launchers.forkserver import ForkserverLauncher
from relieve_py.supervisor import shared

LATE = 0.4
"""Seconds: long after a child of the forkserver is ready."""


class Late:
    """An observer that hears late that the child exists."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def launched(self, process: Process) -> None:
        shared().at(shared().now() + LATE, self._observer.launched, process)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._observer, name)


class LateLauncher(ForkserverLauncher):
    name = "late"

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        super().launch(spec, Late(observer))


def test_a_task_is_ready_once_its_child_is_known(caplog: pytest.LogCaptureFixture) -> None:
    task = CallableTask(KITCHEN, launcher=LateLauncher())
    told: list[tuple[str, int]] = []
    for name in ("start", "ready"):
        task.on(name, lambda event, name=name: told.append((name, event.pid)))
    waiting = task.get("pid")
    pid = waiting.result(T)
    assert (task.pid, task.state) == (pid, State.READY)
    assert task.reload().result(T) is task
    assert task.pid not in (None, pid)
    assert task.get("pid").result(T) == task.pid
    last = task.pid
    task.stop().result(T)
    assert told == [("start", pid), ("ready", pid), ("start", last), ("ready", last)]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_what_a_child_says_is_heard_once_it_is_known() -> None:
    task = ScriptTask(script("waits.py"), launcher=LateLauncher(), restart=False)
    heard: list[tuple[int, int | None]] = []
    task.on("running", lambda pid: heard.append((pid, task.pid)))
    running = task.wait_for("running")
    task.start()
    (pid,) = running.result(T)
    task.send("leave", 9).result(T)
    assert task.wait().result(T).code == 9
    assert heard == [(pid, pid)]


def test_one_that_is_over_before_it_is_known_has_its_say() -> None:
    task = CallableTask(script("no_such.py"), launcher=LateLauncher())
    with pytest.raises(StartError, match=r"no_such"):
        task.start().result(T)


class AllAtOnce(Late):
    """An observer that hears that a child exists when it is over."""

    def launched(self, process: Process) -> None:
        self._process = process

    def exited(self, code: int | None, signum: int | None) -> None:
        self._observer.launched(self._process)
        self._observer.exited(code, signum)


class BusyLauncher(ForkserverLauncher):
    name = "busy"
    busy = False

    def launch(self, spec: LaunchSpec, observer: Observer) -> None:
        super().launch(spec, AllAtOnce(observer) if self.busy else observer)


def test_a_child_that_was_ready_and_is_over_takes_no_place(tmp_path: Path) -> None:
    path, gone = tmp_path / "leaves.py", tmp_path / "gone"
    path.write_text(
        "import os, threading\n"
        "def start():\n"
        f"    if os.path.exists({str(gone)!r}):\n"
        "        threading.Timer(0.1, os._exit, [3]).start()\n"
        "def pid():\n"
        "    return os.getpid()\n"
    )
    launcher = BusyLauncher()
    with CallableTask(path, launcher=launcher) as task:
        pid = task.get("pid").result(T)
        gone.touch()
        launcher.busy = True
        with pytest.raises(StartError, match="exit code 3"):
            task.reload().result(T)
        assert (task.get("pid").result(T), task.restarts) == (pid, 0)
