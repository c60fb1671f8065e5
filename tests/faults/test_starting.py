"""Cases 44 to 48 and 50 to 53 of the fault table: what goes wrong while a child starts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulting import DEADLINE, FAULTY, KILL_TIMEOUT, PATIENT, Pool
from processes import signal_child

from relieve_py import (
    CallableTask,
    CloudWorker,
    NotRunning,
    RelieveError,
    ScriptTask,
    StartError,
    State,
)
from relieve_py.budget import KILLED_STARTS

Program = Callable[..., "subprocess.Popen[str]"]

BROKEN = [
    pytest.param(44, None, {}, "no_such_script", id="44-missing"),
    pytest.param(45, "def broken(:\n", {}, "SyntaxError", id="45-syntax"),
    pytest.param(46, "import no_such_module\n", {}, "no_such_module", id="46-import"),
    pytest.param(47, "def start(): raise LookupError('not today')\n", {}, "not today", id="47-start-raises"),
    pytest.param(47, "async def start(): raise LookupError('not today')\n", {}, "not today", id="47-async-start"),
    pytest.param(47, "def start(): raise SystemExit('not today')\n", {}, "not today", id="47-start-exits"),
    pytest.param(47, "import os\ndef start(): os._exit(4)\n", {}, "exit code 4", id="47-start-exits-at-once"),
    pytest.param(47, "", {"containers": [lambda: 1 / 0]}, "ZeroDivisionError", id="47-container-raises"),
    pytest.param(47, "", {"containers": ["os:no_such_name"]}, "no_such_name", id="47-container-missing"),
    pytest.param(48, "import time; time.sleep(3600)\n", {"start_timeout": 0.4}, "start_timeout", id="48-import-sleeps"),
    pytest.param(48, "def start():\n while True: pass\n", {"start_timeout": 0.4}, "start_timeout", id="48-start-spins"),
    pytest.param(
        48,
        "import signal as s, time\ndef start():\n s.pthread_sigmask(s.SIG_BLOCK, range(1, 32))\n time.sleep(3600)\n",
        {"start_timeout": 0.4},
        "start_timeout",
        id="48-start-blocks-all-signals",
    ),
]


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str | None], str]:
    """Makes a script of that text; of None, a path where there is none."""

    def make(text: str | None) -> str:
        path = tmp_path / "no_such_script.py"
        if text is not None:
            path.write_text(text)
        return str(path)

    return make


def every_way(remote: Any) -> list[Callable[[], Any]]:
    """Make a call in every way, all of them now; each function gives how one ended."""
    got, called, sent = remote.get("echo", 1), remote.call("echo", 1), remote.send("event")
    stream, results = remote.stream("echo", 1), remote.map("echo", [1])
    return [
        lambda: got.result(DEADLINE),
        lambda: called.result(DEADLINE),
        lambda: sent.result(DEADLINE),
        lambda: list(stream),
        lambda: list(results),
    ]


@pytest.mark.fault(44)
@pytest.mark.fault(45)
@pytest.mark.fault(46)
@pytest.mark.fault(47)
@pytest.mark.fault(48)
@pytest.mark.parametrize(("number", "text", "options", "match"), BROKEN)
def test_a_child_that_cannot_start_fails_what_waits_for_it_and_nothing_else(
    pool: Pool, script: Any, number: int, text: str | None, options: dict[str, Any], match: str
) -> None:
    settings: dict[str, Any] = {"launcher": pool.launcher, "kill_timeout": KILL_TIMEOUT, "restart": PATIENT, **options}
    path = script(text)
    task = CallableTask(path, **settings)
    exits: list[Any] = []
    task.on("exit", exits.append)
    first = task.get("echo", 1)
    for ends in every_way(task):
        with pytest.raises((StartError, NotRunning), match=match):  # map makes its call when it is asked for a result
            ends()
    with pytest.raises(StartError, match=match):
        first.result(DEADLINE)
    assert task.state is State.FAILED
    for ends in every_way(task):
        with pytest.raises(NotRunning, match=match):
            ends()
    task.wait().result(DEADLINE)
    assert len(exits) == 1, "it was tried once"
    with CloudWorker(CallableTask(FAULTY, launcher=pool.launcher)) as worker:
        worker.add(CallableTask(path, **settings))
        assert list(worker.map("echo", range(4))) == list(range(4)), "the task that runs has all the work"


@pytest.mark.fault(44)
@pytest.mark.fault(47)
@pytest.mark.fault(48)
@pytest.mark.parametrize("text", [None, "def start(): raise LookupError\n", "import time; time.sleep(3600)\n"])
def test_a_worker_whose_tasks_cannot_start_fails_every_call_once(launcher: str, script: Any, text: str | None) -> None:
    template = CallableTask(script(text), launcher=launcher, start_timeout=0.4, kill_timeout=KILL_TIMEOUT)
    worker = CloudWorker(template, size=2)
    for ends in every_way(worker):
        with pytest.raises(RelieveError, match="start_timeout" if text and "sleep" in text else "no_such_script"):
            ends()
    assert [task.state for task in worker] == [State.FAILED] * 2
    with pytest.raises(StartError):
        worker.start().result(DEADLINE)
    assert worker.drain().result(DEADLINE) is worker
    worker.stop().result(DEADLINE)


# -- 50: death before the first call ---------------------------------------------------------------


@pytest.mark.fault(50)
def test_a_child_that_dies_between_ready_and_the_first_call_costs_no_call(pool: Pool) -> None:
    task = CallableTask(FAULTY, launcher=pool.launcher, restart=PATIENT)
    task.once("ready", lambda event: os.kill(event.pid, signal.SIGKILL))
    restarted = task.wait_for("restart")
    task.start().result(DEADLINE)
    restarted.result(DEADLINE)
    got, called, mapped = task.get("echo", 1), task.call("echo", 1), task.map("echo", [1])
    assert (got.result(DEADLINE), called.result(DEADLINE), list(mapped)) == (1, None, [1])
    assert task.restarts == 1
    for _ in range(3):
        assert task.pid is not None
        signal_child(task, signal.SIGKILL)
        assert task.get("echo", 2).result(DEADLINE) == 2
    task.stop().result(DEADLINE)


@pytest.mark.fault(50)
def test_a_child_that_is_killed_before_its_first_ready_is_followed_by_another(pool: Pool, script: Any) -> None:
    text = """
        import os
        def start(path):
            if not os.path.exists(path):
                open(path, "w").close()
                os.kill(os.getpid(), 9)
    """
    path = script("".join(line[8:] + "\n" for line in text.splitlines()))
    task = CallableTask(path, args=[f"{path}.mark"], launcher=pool.launcher)
    assert task.start().result(DEADLINE) is task
    assert task.restarts == 1
    task.stop().result(DEADLINE)


@pytest.mark.fault(50)
def test_a_script_that_always_kills_itself_is_tried_a_few_times_only(pool: Pool, script: Any) -> None:
    path = script("import os\nos.kill(os.getpid(), 9)\n")
    task = CallableTask(path, launcher=pool.launcher)
    never_again = ScriptTask(path, ready="call", launcher=pool.launcher)
    for each, tries in ((task, KILLED_STARTS + 1), (never_again, 1)):
        exits: list[Any] = []
        each.on("exit", exits.append)
        with pytest.raises(StartError, match="SIGKILL"):
            each.start().result(DEADLINE)
        each.wait().result(DEADLINE)
        assert each.state is State.FAILED
        assert len(exits) == tries


# -- 51: no __name__ == "__main__" -----------------------------------------------------------------


@pytest.mark.fault(51)
def test_a_program_without_a_main_guard_runs_once(launcher: str, program: Program) -> None:
    code = f"""
        from relieve_py import CallableTask, CloudWorker
        print("began", flush=True)
        class Point:
            def __init__(self, x): self.x = x
        def double(point): return Point(2 * point.x)
        worker = CloudWorker(CallableTask(double, launcher={launcher!r}), size=2)
        print([point.x for point in worker.map(None, map(Point, range(3)))])
    """
    out, err = program(code).communicate(timeout=DEADLINE)
    assert out.splitlines() == ["began", "[0, 2, 4]"], err
