"""Cases 74 and 76 of the fault table: a clock that jumps, and children that are killed at random."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from faulting import DEADLINE, PATIENT, Pool, make_task
from sizes import size

from relieve_py import CallableTask, CallTimeout, CloudWorker, RetriesExhausted, RetryPolicy, TaskDied

pytestmark = pytest.mark.timeout(size(60, 240))


@pytest.mark.fault(74)
def test_a_clock_that_jumps_changes_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days forth and back at each look."""
    real, chance = time.time, random.Random(74)
    monkeypatch.setattr(time, "time", lambda: real() + chance.uniform(-1e6, 1e6))
    task = make_task(pool.launcher, heartbeat=5)
    task.start().result(DEADLINE)
    for n in range(20):
        assert task.options(timeout=DEADLINE).get("echo", n).result(DEADLINE) == n
    began = time.monotonic()
    with pytest.raises(CallTimeout):
        task.options(timeout=0.1).get("sleep_for_ever").result(DEADLINE)
    assert 0.1 <= time.monotonic() - began < 5
    assert task.restarts == 0
    assert task.uptime is not None
    assert 0 < task.uptime < DEADLINE
    task.restart().result(DEADLINE)
    task.stop().result(DEADLINE)


NOTING = """
import os
def note(path_and_n):
    path, n = path_and_n
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"%08d\\n" % n)  # one write: whole, or not at all
    os.close(fd)
    return n
"""


@pytest.mark.fault(76)
@pytest.mark.parametrize("retries", [0, 50])
def test_random_kills_leave_count_order_and_content_of_outcomes_exact(
    launcher: str, tmp_path: Path, retries: int
) -> None:
    """A SIGKILL for every hundred calls; 10,000 calls with RELIEVE_FULL. Each call writes down that it ran."""
    calls, chance = size(800, 10_000), random.Random(76)
    script, notes = tmp_path / "noting.py", tmp_path / "notes"
    script.write_text(NOTING)
    notes.touch()
    task = CallableTask(script, launcher=launcher, restart=PATIENT)
    policy = RetryPolicy(max=retries)
    with CloudWorker(task, size=4, retries=policy) as worker:
        outcomes = worker.options(poison_after=None).map(
            "note", ((str(notes), n) for n in range(calls)), return_exceptions=True
        )
        got, killed = [], 0
        for n, outcome in enumerate(outcomes):
            got.append(outcome)
            if n % 100 == chance.randrange(100) or n % 100 == 99:
                victim = chance.choice(list(worker)).pid
                if victim is not None:
                    with contextlib.suppress(ProcessLookupError):  # it is dead, of the blow before
                        os.kill(victim, signal.SIGKILL)
                        killed += 1
        assert worker.drain().result(DEADLINE) is worker
    died = [n for n, outcome in enumerate(got) if isinstance(outcome, (TaskDied, RetriesExhausted))]
    assert len(got) == calls
    assert [n for n, outcome in enumerate(got) if outcome != n] == died, "in order, and each its own"
    runs = collections.Counter(int(line) for line in notes.read_text().split())
    assert killed >= calls // 200
    if retries:
        assert died == []
        assert set(runs) == set(range(calls))
        assert sum(runs.values()) <= calls + killed
    else:
        assert len(died) <= killed
        assert max(runs.values()) == 1, "none ran twice"
        assert set(range(calls)) - set(runs) <= set(died)
