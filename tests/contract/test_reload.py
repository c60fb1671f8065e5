"""A child is replaced without a gap: the new one is ready before the old one is asked to leave."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support import T, heard

from relieve_py import CallableTask, CloudWorker, RestartPolicy, StartError, State, Stopped, TaskDied

Write = Callable[..., str]


@pytest.fixture
def version(tmp_path: Path) -> Write:
    """Writes a script whose function ``version`` says that number; ``first`` is run when it is loaded."""
    path = tmp_path / "versions.py"

    def write(number: int, first: str = "") -> str:
        path.write_text(
            f"import os, time\nfrom relieve_py import ipc\n{first}\n"
            f"def version(): return {number}\n"
            "def pid(): return os.getpid()\n"
            "def hold(path):\n    ipc.send('holding')\n    return open(path).readline().strip()\n"
        )
        return str(path)

    return write


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A pipe at which a call of ``hold`` waits until it is written to."""
    os.mkfifo(tmp_path / "held")
    return tmp_path / "held"


def test_the_new_child_is_ready_before_the_old_one_is_asked_to_leave(launcher: str, version: Write) -> None:
    task = CallableTask(version(1), launcher=launcher)
    moves = heard(task, "state")
    with task:
        old = task.pid
        version(2)
        assert task.reload().result(T) is task
        assert task.get("version").result(T) == 2
        assert task.pid != old
        assert [move.after for (move,) in moves.wait(5)[2:]] == [State.STOPPING, State.STARTING, State.READY]
        assert task.exit is not None
        assert (task.exit.pid, task.exit.code, task.restarts) == (old, 0, 1)


def test_what_runs_is_finished_and_what_waits_goes_to_the_new_child(launcher: str, version: Write, held: Path) -> None:
    with CallableTask(version(1), launcher=launcher) as task:
        holding = task.wait_for("holding")
        running, queued = task.get("hold", str(held)), task.get("version")
        holding.result(T)
        version(2)
        reloaded = task.reload()
        held.write_text("done\n")
        assert running.result(T) == "done"
        assert reloaded.result(T) is task
        assert queued.result(T) in (1, 2)
        assert task.get("version").result(T) == 2


def test_a_new_child_that_cannot_start_leaves_the_old_one(launcher: str, version: Write) -> None:
    with CallableTask(version(1), launcher=launcher) as task:
        old = task.pid
        version(2, "raise ValueError('not good')")
        with pytest.raises(StartError, match="ValueError: not good"):
            task.reload().result(T)
        assert (task.get("version").result(T), task.pid, task.state) == (1, old, State.READY)
        version(3)
        task.reload().result(T)
        assert task.get("version").result(T) == 3


def test_a_new_child_that_is_never_ready_is_given_up(version: Write) -> None:
    with CallableTask(version(1), start_timeout=1) as task:
        version(2, "time.sleep(3600)")
        with pytest.raises(StartError, match="start_timeout"):
            task.reload().result(T)
        assert task.get("version").result(T) == 1


@pytest.mark.parametrize(("first", "how"), [("os._exit(3)", "exit code 3"), ("os.abort()", "killed by SIGABRT")])
def test_a_new_child_that_dies_on_its_way_costs_nothing(version: Write, first: str, how: str) -> None:
    with CallableTask(version(1)) as task:
        version(2, first)
        with pytest.raises(StartError, match=f"ended before it was ready: {how}"):
            task.reload().result(T)
        assert task.get("version").result(T) == 1


def test_reloads_at_once_share_one_new_child(version: Write) -> None:
    with CallableTask(version(1)) as task:
        pids = {reply.result(T).pid for reply in [task.reload() for _ in range(5)]}
        assert len(pids) <= 2
        assert task.restarts <= 2


def test_a_stop_overrules_a_reload(launcher: str, version: Write) -> None:
    task = CallableTask(version(1), launcher=launcher)
    task.start().result(T)
    version(2, "time.sleep(3600)")
    reloaded = task.reload()
    task.stop().result(T)
    with pytest.raises(Stopped):
        reloaded.result(T)
    assert task.state is State.STOPPED


def test_a_child_that_dies_during_a_reload_is_followed_by_one(version: Write, held: Path) -> None:
    with CallableTask(version(1)) as task:
        holding = task.wait_for("holding")
        running = task.get("hold", str(held))
        holding.result(T)
        version(2)
        reloaded = task.reload()
        task.send_signal(9)
        with pytest.raises(TaskDied):
            running.result(T)
        assert reloaded.result(T) is task
        assert task.get("version").result(T) == 2


def test_a_reload_of_a_child_that_is_dying_is_settled_by_the_next_one(version: Write) -> None:
    with CallableTask(version(1), restart=RestartPolicy(max_restarts=100, max_delay=0)) as task:
        for _ in range(20):  # each time the death may be seen before the next child is made, meanwhile, or after
            task.send_signal(9)
            assert task.reload().result(T) is task
            assert task.get("version").result(T) == 1
        task.reload().result(T)


def test_a_task_that_does_not_run_is_started_by_a_reload(version: Write) -> None:
    task = CallableTask(version(1))
    try:
        assert task.reload().result(T) is task
        assert task.get("version").result(T) == 1
    finally:
        task.stop().result(T)


def test_events_of_a_child_that_waits_for_its_turn_are_heard(version: Write) -> None:
    with CallableTask(version(1)) as task:
        early = task.wait_for("early")
        version(2, "ipc.send('early', 'bird')")
        task.reload().result(T)
        assert early.result(T) == ("bird",)


# -- workers ---------------------------------------------------------------------------------------


def test_a_worker_reloads_under_load_without_losing_a_call(launcher: str, version: Write) -> None:
    with CloudWorker(CallableTask(version(1), launcher=launcher), size=2) as worker:
        old = {task.pid for task in worker}
        over, answers = threading.Event(), []

        def load() -> None:
            while not over.is_set():
                answers.append(worker.get("version").result(T))

        thread = threading.Thread(target=load)
        thread.start()
        try:
            version(2)
            assert worker.reload().result(T) is worker
            assert worker.get("version").result(T) == 2
        finally:
            over.set()
            thread.join(T)
        assert set(answers) <= {1, 2}
        assert len(answers) > 0
        assert old.isdisjoint({task.pid for task in worker})


def test_a_worker_whose_code_is_broken_keeps_its_children(version: Write) -> None:
    with CloudWorker(CallableTask(version(1)), size=2) as worker:
        old = {task.pid for task in worker}
        version(2, "raise ValueError('not good')")
        with pytest.raises(StartError, match="not good"):
            worker.reload().result(T)
        assert {task.pid for task in worker} == old
        assert [outcome.value for outcome in worker.broadcast_get("version").result(T)] == [1, 1]


def test_a_task_that_is_removed_in_its_turn_keeps_no_other_from_being_reloaded(version: Write, held: Path) -> None:
    with CloudWorker(CallableTask(version(1)), size=3) as worker:
        first, *others = worker
        old = {task.pid for task in others}
        version(2, f"open({str(held)!r}).readline()")
        reloaded = worker.reload()
        with held.open("w"):  # as soon as the new child of the first task reads from it
            version(2)
            worker.remove(first)
            assert reloaded.result(T) is worker
        assert old.isdisjoint({task.pid for task in others})
        assert [outcome.value for outcome in worker.broadcast_get("version").result(T)] == [2, 2]


def test_a_reload_of_one_task_at_a_time(version: Write) -> None:
    worker = CloudWorker(CallableTask(version(1)), size=3)
    moves = heard(worker, "state")
    with worker:
        began = moves.wait(2 * 3)  # what its tasks tell of their start may be heard after it
        worker.reload().result(T)
        tasks = [move.task for (move,) in moves[len(began) :]]
        assert tasks == [name for name in worker.tasks for _ in range(3)]
