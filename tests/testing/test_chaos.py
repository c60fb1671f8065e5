"""Chaos strikes as often as it says, the same way for the same seed, and costs what a death costs and no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relieve_py import CallableTask, CallTimeout, CloudWorker, RestartPolicy, Stream, TaskDied
from relieve_py.testing import Chaos, ChaosCounts

WORK = str(Path(__file__).parent.parent / "scripts" / "under_chaos.py")


def fates(chaos: Chaos, calls: int) -> list[str]:
    """How each of so many calls on one task ends."""
    ends = []
    with chaos, CallableTask(WORK) as task:
        for number in range(calls):
            error = task.get("same", number).exception(10)
            ends.append("done" if error is None else type(error).__name__)
    return ends


def test_the_same_seed_gives_the_same_happenings() -> None:
    first, second, other = (Chaos(kill=0.2, corrupt=0.1, delay=0.3, delay_seconds=0, seed=seed) for seed in (1, 1, 2))
    ends = fates(first, 30)
    assert set(ends) == {"done", "TaskDied"}
    assert fates(second, 30) == ends
    assert second.counts == first.counts
    assert fates(other, 30) != ends


def test_counts_are_what_happened() -> None:
    chaos = Chaos(kill=0.2, corrupt=0.1, delay=0.5, delay_seconds=0, seed=4)
    ends = fates(chaos, 30)
    counts = chaos.counts
    assert counts.calls == 30
    assert counts.kills + counts.corruptions == ends.count("TaskDied")
    assert min(counts.kills, counts.corruptions, counts.delays) > 0
    assert counts.stops == 0


def test_kill_kills_each_time(launcher: str) -> None:
    with Chaos(kill=1.0) as chaos, CallableTask(WORK, launcher=launcher) as task:
        for _ in range(2):
            died = task.get("same", 1).exception(10)
            assert isinstance(died, TaskDied)
            assert died.signal == "SIGKILL"
        assert chaos.counts == ChaosCounts(calls=2, kills=2)


def test_half_of_the_strikes_come_when_the_function_is_through(tmp_path: Path) -> None:
    with Chaos(kill=1.0, seed=6), CallableTask(WORK) as task:
        for number in range(8):
            assert isinstance(task.get("touch", str(tmp_path / str(number))).exception(10), TaskDied)
    assert 0 < len(list(tmp_path.iterdir())) < 8


@pytest.mark.parametrize("method", ["rows", "later"])
def test_a_stream_is_struck_before_or_after_its_first_item(method: str) -> None:
    got = []
    with Chaos(kill=1.0, seed=1), CallableTask(WORK) as task:
        for _ in range(6):
            items: list[Any] = []
            with pytest.raises(TaskDied):
                extend(items, task.stream(method, 5))
            got.append(items)
    assert sorted(map(tuple, got))[:: len(got) - 1] == [(), (0,)]


def extend(items: list[Any], stream: Stream) -> None:
    for item in stream:  # list.extend() keeps nothing of a stream that fails
        items.append(item)


@pytest.mark.parametrize("method", ["rows", "later"])
def test_a_stream_that_is_spared_is_whole(method: str) -> None:
    with Chaos(corrupt=1e-12, delay=1.0, delay_seconds=0), CallableTask(WORK) as task:
        assert list(task.stream(method, 5)) == [0, 1, 2, 3, 4]


def test_corrupt_costs_the_child_its_life_and_the_call_its_answer() -> None:
    with Chaos(corrupt=1.0) as chaos, CallableTask(WORK) as task, CallableTask(WORK, name="other") as other:
        pids = task.pid, other.pid
        died = task.get("same", 1).exception(10)
        assert isinstance(died, TaskDied)
        assert died.pid == pids[0]
        assert other.pid == pids[1]
        assert chaos.counts.corruptions == 1


def test_a_stopped_child_is_replaced_when_its_call_has_a_timeout() -> None:
    with Chaos(stop=1.0) as chaos, CallableTask(WORK, kill_timeout=0.05) as task:
        stopped, replaced = task.pid, task.wait_for("ready")
        assert isinstance(task.options(timeout=0.05).get("same", 1).exception(10), CallTimeout)
        replaced.result(10)  # else the time of the next call may pass before it has a child
        assert isinstance(task.options(timeout=0.05).get("same", 1).exception(10), CallTimeout)
        assert chaos.counts.stops == 2
        assert task.pid != stopped


def test_a_stopped_child_is_replaced_when_its_task_has_a_heartbeat() -> None:
    with Chaos(stop=1.0) as chaos, CallableTask(WORK, heartbeat=0.5, kill_timeout=0.05) as task:
        assert isinstance(task.get("same", 1).exception(10), TaskDied)
        assert chaos.counts.stops == 1


def test_a_delayed_call_is_late_and_can_be_cancelled() -> None:
    with Chaos(delay=1.0, delay_seconds=0.1) as chaos, CallableTask(WORK) as task:
        begin = time.monotonic()
        assert task.get("same", 1).result() == 1
        assert time.monotonic() - begin >= 0.1
    with Chaos(delay=1.0, delay_seconds=60) as chaos, CallableTask(WORK) as task:
        pid = task.pid
        late = task.get("same", 1)
        until(lambda: chaos.counts.delays == 1)
        assert late.cancel()
        until(lambda: task.load == 0)
        assert task.pid == pid


def until(true: Callable[[], object]) -> None:
    """Wait for what another process does, which tells nobody."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_map_with_retries_comes_out_complete_and_in_order() -> None:
    with (
        Chaos(kill=0.05, corrupt=0.05, delay=0.1, delay_seconds=0.001, seed=3) as chaos,
        CloudWorker(CallableTask(WORK), size=2, retries=20) as worker,
    ):
        worker = worker.options(poison_after=None)
        assert list(worker.map("same", range(100))) == list(range(100))
        again = chaos.counts.calls - 100
        # What an item gave before the channel was spoilt behind it is there all the same.
        assert chaos.counts.kills <= again <= chaos.counts.kills + chaos.counts.corruptions
        assert chaos.counts.kills > 0


def test_tasks_made_before_or_with_another_name_are_spared() -> None:
    with CallableTask(WORK, name="early") as early, Chaos(kill=1.0, only="web-*") as chaos:
        with CallableTask(WORK, name="db-1") as spared, CallableTask(WORK, name="web-1") as struck:
            assert [task.get("same", 1).exception(10) for task in (early, spared)] == [None, None]
            assert isinstance(struck.get("same", 1).exception(10), TaskDied)
        assert chaos.counts.calls == 1


def test_leaving_ends_it_for_children_that_live_and_for_those_to_come() -> None:
    with CallableTask(WORK) as other:
        with Chaos(kill=1.0) as chaos:
            task = CallableTask(WORK)
            task.start().result()
        with task:
            assert task.get("same", 1).result() == 1
            task.restart().result()
            assert task.get("same", 2).result() == 2
        assert other.get("same", 3).result() == 3
    assert chaos.counts == ChaosCounts()


def test_it_can_be_entered_again_and_counts_on() -> None:
    chaos = Chaos(kill=1.0)
    for _ in range(2):
        assert fates(chaos, 1) == ["TaskDied"]
    with chaos, pytest.raises(RuntimeError, match="entered already"), chaos:
        pass
    assert chaos.counts == ChaosCounts(calls=2, kills=2)


def test_nothing_is_left_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Chaos(), CallableTask(WORK) as task:
        assert task.get("same", 1).result(10) == 1
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_deaths_by_chaos_do_not_use_up_the_restart_budget() -> None:
    with Chaos(kill=1.0), CallableTask(WORK, restart=RestartPolicy(max_restarts=0)) as task:
        for _ in range(3):
            assert isinstance(task.get("same", 1).exception(10), TaskDied)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"kill": 1.1}, ValueError, "kill must be"),
        ({"stop": -0.1}, ValueError, "stop must be"),
        ({"delay": "often"}, TypeError, "delay must be"),
        ({"corrupt": True}, TypeError, "corrupt must be"),
        ({"kill": 0.5, "stop": 0.3, "corrupt": 0.3}, ValueError, "add up"),
        ({"delay_seconds": -1}, ValueError, "delay_seconds must be"),
        ({"delay_seconds": float("nan")}, ValueError, "delay_seconds must be"),
        ({"seed": 1.5}, TypeError, "seed must be"),
        ({"only": 3}, TypeError, "only must be"),
    ],
)
def test_wrong_options_are_refused_by_name(options: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        Chaos(**options)


def test_the_fixture_lasts_to_the_end_of_the_test_and_reports_its_seed(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["relieve_py.testing.pytest_plugin"]')
    (tmp_path / "test_it.py").write_text(
        f"""
from relieve_py import CallableTask

def test_dies(chaos):
    chaos(kill=1.0, seed="s-17")
    with CallableTask({WORK!r}) as task:
        assert task.get("same", 1).result(10) == 1

def test_lives():
    with CallableTask({WORK!r}) as task:
        assert task.get("same", 1).result(10) == 1
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # the other plug-ins take a second to load
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search("1 failed, 1 passed", done.stdout), done.stdout
    assert re.search("TaskDied.*- Captured chaos call -+\nChaos[(]kill=1, seed='s-17'[)]\n", done.stdout, re.DOTALL)
