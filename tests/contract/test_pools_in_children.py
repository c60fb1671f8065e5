"""Children that have tasks and workers of their own."""

from __future__ import annotations

import os
import signal

import pytest
from processes import wait_gone
from support import T, script

from relieve_py import CallableTask

POOLING = script("pooling.py")


@pytest.mark.parametrize("depth", [1, 2])
def test_a_child_may_have_a_pool_that_is_told_of_and_stopped_as_any(launcher: str, depth: int) -> None:
    with CallableTask(POOLING, launcher=launcher) as task:
        assert task.get("pool", launcher, depth).result(T) == (4950, "SIGKILL", [False, False])
    assert task.exit is not None
    assert (task.exit.code, task.exit.forced) == (0, False)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_pool_of_a_child_ends_with_it(launcher: str, end: str) -> None:
    with CallableTask(POOLING, launcher=launcher) as task:
        pids = task.get("keep_pool", launcher).result(T)
        if end == "stop":
            assert task.stop().result(T).code == 0
        else:
            assert task.pid is not None
            os.kill(task.pid, signal.SIGKILL)
        assert [pid for pid in pids if not wait_gone(pid, 2)] == []
