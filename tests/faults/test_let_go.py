"""Case 64 of the fault table: tasks and workers that nobody has any more, with work queued.

The collector does not run here: what is let go goes at once, as nothing in it refers to itself.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from faulting import DEADLINE, make_task
from processes import signal_child, wait_gone

from relieve_py import CallableTask, CloudWorker, RestartPolicy, ScriptTask, Stopped, Task
from relieve_py.lifecycle import State
from relieve_py.strategies import Strategy

NOTING = """
import time
from relieve_py import ipc
def note(path):
    time.sleep(0.01)
    with open(path, "a") as file:
        file.write("x")
    ipc.send("noted")
"""


def make_worker(launcher: str, **options: Any) -> CloudWorker:
    """Two tasks, not started."""
    return CloudWorker(make_task(launcher), size=2, **options)


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def gone(*pids: int | None) -> bool:
    """Each child has left, though nobody has stopped it."""
    return all(wait_gone(pid) for pid in pids)


@pytest.mark.fault(64)
@pytest.mark.parametrize("way", ["get", "stream", "map"])
def test_a_worker_that_is_let_go_with_calls_open_ends_them_and_then_its_children(launcher: str, way: str) -> None:
    worker = make_worker(launcher)
    worker.start().result(DEADLINE)
    pids = [task.pid for task in worker]
    open_calls: Any
    match way:
        case "get":
            open_calls = [worker.get("nap", (0.02, n)) for n in range(8)]
        case "stream":
            open_calls = [worker.stream("items", 100) for _ in range(4)]
        case _:
            open_calls = worker.map("nap", ((0.01, n) for n in range(8)))
    found = weakref.ref(worker)
    del worker
    if way == "get":
        assert [reply.result(DEADLINE) for reply in open_calls] == list(range(8))
    elif way == "stream":
        assert [list(stream) for stream in open_calls] == [list(range(100))] * 4
    else:
        assert list(open_calls) == list(range(8))
    del open_calls
    assert gone(*pids)
    assert found() is None


class Asks(Strategy):
    """A strategy that is async, which its worker needs an event loop for."""

    async def next(self, tasks: Any, call: Any) -> Any:  # type: ignore[override] # as it may be
        return tasks[-1]


@pytest.mark.fault(64)
@pytest.mark.parametrize("options", [{"size": (1, 3)}, {"strategy": "sticky"}, {"strategy": Asks}], ids=str)
def test_so_does_one_of_any_kind(options: dict[str, Any]) -> None:
    worker = CloudWorker(make_task("forkserver"), **{"size": 2, **options})
    replies = [worker.options(key=n).get("nap", (0.05, n)) for n in range(6)]
    assert [reply.result(DEADLINE) for reply in replies] == list(range(6))
    found, pids = weakref.ref(worker), [task.pid for task in worker if task.pid]
    del worker, replies
    assert gone(*pids)
    assert found() is None


@pytest.mark.fault(64)
def test_what_waits_for_a_paused_worker_that_is_let_go_is_told_so(launcher: str) -> None:
    worker = make_worker(launcher)
    worker.start().result(DEADLINE)
    worker.pause()
    waiting = worker.get("echo", 1)
    del worker
    with pytest.raises(Stopped, match="let go"):
        waiting.result(DEADLINE)


@pytest.mark.fault(64)
def test_calls_that_nobody_waits_for_run_once_though_their_worker_was_let_go_before_it_had_a_child(
    launcher: str, tmp_path: Path
) -> None:
    """That the children go, too, is seen by the fixture that looks for what is left."""
    script, notes = tmp_path / "noting.py", tmp_path / "notes"
    script.write_text(NOTING)
    template = CallableTask(script, launcher=launcher)
    noted = threading.Semaphore(0)
    template.on("noted", noted.release)  # as do its clones
    worker = CloudWorker(template, size=2)
    for _ in range(6):
        worker.call("note", str(notes))
    del worker, template
    assert all(noted.acquire(timeout=DEADLINE) for _ in range(6))
    assert notes.read_text() == "x" * 6


@pytest.mark.fault(64)
def test_a_task_that_is_let_go_ends_its_open_calls_and_then_its_child(launcher: str) -> None:
    task = make_task(launcher)
    task.start().result(DEADLINE)
    pid = task.pid
    running, queued, stream = task.get("nap", (0.1, 1)), task.get("echo", 2), task.stream("items", 100)
    del task
    assert (running.result(DEADLINE), queued.result(DEADLINE), list(stream)) == (1, 2, list(range(100)))
    assert gone(pid)


@pytest.mark.fault(64)
def test_a_task_of_one_line_lives_as_long_as_its_reply(launcher: str) -> None:
    assert make_task(launcher).get("echo", 1).result(DEADLINE) == 1
    assert list(make_task(launcher).map("echo", range(3))) == [0, 1, 2]
    task = make_task(launcher).start().result(DEADLINE)
    assert isinstance(task, CallableTask)
    pid = task.pid
    again = task.restart()
    del task
    assert again.result(DEADLINE).get("echo", 2).result(DEADLINE) == 2
    assert again.result().pid != pid
    pid = again.result().pid
    del again
    assert gone(pid)


@pytest.mark.fault(64)
def test_an_open_stream_that_is_let_go_with_its_task_is_closed(launcher: str) -> None:
    task = make_task(launcher)
    stream = task.stream("items", 1_000_000)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    pid = task.pid
    del task, stream
    assert gone(pid)


@pytest.mark.fault(64)
def test_a_task_that_is_let_go_while_it_waits_for_its_next_child_gets_none(launcher: str) -> None:
    task = make_task(launcher, restart=RestartPolicy(delay=30, max_delay=30))
    states: Queue[Any] = Queue()
    task.on("state", lambda event: states.put(event.after))
    task.start().result(DEADLINE)
    signal_child(task, signal.SIGKILL)
    while states.get(timeout=DEADLINE) is not State.WAITING:
        continue
    del task
    assert states.get(timeout=DEADLINE) is State.STOPPED


@pytest.mark.fault(64)
def test_who_waits_for_an_event_of_a_task_or_worker_keeps_it(launcher: str) -> None:
    task = make_task(launcher)
    progress = task.wait_for("progress")
    task.call("tell", "progress", 1).result(DEADLINE)
    pid = task.pid
    del task
    assert progress.result(DEADLINE) == (1,)
    del progress
    assert gone(pid)

    worker = make_worker(launcher)
    worker.start().result(DEADLINE)
    progress = worker.wait_for("progress")
    worker.call("tell", "progress", 2).result(DEADLINE)
    pids = [task.pid for task in worker]
    del worker
    assert progress.result(DEADLINE) == (2,)
    del progress
    assert gone(*pids)


@pytest.mark.fault(64)
def test_listeners_of_a_worker_that_was_let_go_hear_its_tasks(launcher: str) -> None:
    worker = make_worker(launcher)
    heard: list[Any] = []
    worker.on("ready", lambda event: heard.append(event.task))
    task, found = next(iter(worker)), weakref.ref(worker)
    del worker
    assert found() is None
    task.start().result(DEADLINE)
    task.restart().result(DEADLINE)
    task.stop().result(DEADLINE)
    assert heard == [task.name] * 2


@pytest.mark.fault(64)
def test_a_program_goes_on_when_its_task_is_let_go_and_its_listeners_and_hooks_hear_it(
    launcher: str, tmp_path: Path
) -> None:
    """As a process does whose Popen nobody keeps."""
    gate, script = tmp_path / "gate", tmp_path / "program.py"
    os.mkfifo(gate)
    script.write_text("import sys\nfrom relieve_py import ipc\nipc.send('read', open(sys.argv[1]).read())\n")
    heard: list[Any] = []

    class Listens(ScriptTask):
        def on_exit(self, event: Any) -> None:
            heard.append(event.code)

    task: Task = Listens(script, args=[str(gate)], launcher=launcher)
    task.on("read", heard.append)
    ended = task.wait()
    ended.keeps = None
    task.start().result(DEADLINE)
    del task
    gate.write_text("the end")
    ended.result(DEADLINE)
    assert heard == ["the end", 0]
