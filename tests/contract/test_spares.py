"""Spares are real children: start() has run in them, a death is made good by one, and none is left in the end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import T

from relieve_py import CallableTask, ScriptTask, fork

SCRIPT = """
import os
def start(folder):
    global place
    place = folder
    open(f"{folder}/start-{os.getpid()}", "w").close()
def stop(): open(f"{place}/stop-{os.getpid()}", "w").close()
def version(): return 1
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "spared.py"
    path.write_text(SCRIPT)
    return path


def become(true: Callable[[], object]) -> None:
    """Wait for what announces itself to nobody."""
    deadline = time.monotonic() + T
    while not true() and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    assert true()


def ready(task: CallableTask) -> bool:
    spares = task._slot._reserve._spares
    return bool(spares) and all(spare.ready for spare in spares)


def those(folder: Path, what: str) -> set[int]:
    return {int(name.partition("-")[2]) for name in os.listdir(folder) if name.startswith(what)}


def test_a_child_that_has_started_takes_the_place_of_one_that_died(launcher: str, script: Path) -> None:
    folder = script.parent
    with CallableTask(script, args=[str(folder)], spares=1, launcher=launcher) as task:
        become(lambda: ready(task))
        first, started = task.pid, those(folder, "start")
        task.send_signal(signal.SIGKILL)
        assert task.options(retries=1).get("version").result(T) == 1
        assert task.pid != first
        assert started == {first, task.pid}
        script.write_text(SCRIPT.replace("return 1", "return 2"))
        task.reload().result(T)
        assert task.get("version").result(T) == 2
        become(lambda: ready(task))
        task.send_signal(signal.SIGKILL)
        assert task.options(retries=1).get("version").result(T) == 2
        become(lambda: ready(task))
        last = task.pid
    become(lambda: len(those(folder, "start") - those(folder, "stop")) <= 3)  # two were killed, and maybe one unready
    assert last in those(folder, "stop")


def test_spares_are_for_what_is_called() -> None:
    with pytest.raises(ValueError, match="spares"):
        ScriptTask("program.py", spares=1)
    with pytest.raises(ValueError, match="spares"):
        fork("program.py", spares=1)
