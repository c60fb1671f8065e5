"""Case 25 of the fault table: the kernel kills a child for want of memory, and the error says so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulting import DEADLINE, FAULTY

from relieve_py.cgroups import directories_of, group_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
LIMIT = 192 << 20
"""Bytes: the parent, its server and two idle children take less than half of it."""


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group, below our own, whose members have little memory together."""
    found = group_of(Path("/proc/self/cgroup").read_text(), "memory")
    own = directories_of(*found, Path("/proc/self/mountinfo").read_text(), "memory") if found is not None else []
    group = Path(own[0] if own else "/nowhere") / f"relieve-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here, which needs root or a delegated one: {error}")
    try:
        limits = [group / name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists()]
        if not limits:
            pytest.skip("the control groups here do not limit memory")
        limits[0].write_text(str(LIMIT))
        yield group
    finally:
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE
        while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
            pause.wait(0.01)  # the server leaves a moment after its parent, and nothing tells when
        group.rmdir()


@pytest.mark.fault(25)
def test_a_child_that_the_kernel_kills_for_want_of_memory(
    launcher: str, small_memory: Path, program: Callable[..., subprocess.Popen[str]]
) -> None:
    with program(
        f"""
        import os
        from relieve_py import CloudWorker, CallableTask

        with open({str(small_memory / "cgroup.procs")!r}, "w") as members:
            members.write(str(os.getpid()))
        with CloudWorker(CallableTask({FAULTY!r}, launcher={launcher!r}), size=2) as worker:
            replies = [worker.get("echo", n) for n in range(10)]
            died = worker.get("eat_memory", {LIMIT >> 19}).exception({DEADLINE})
            replies += [worker.get("echo", n) for n in range(10, 20)]
            print(type(died).__name__, died.signal, died.out_of_memory, "out-of-memory" in str(died))
            print(sum(reply.result({DEADLINE}) == n for n, reply in enumerate(replies)), len(set(map(id, worker))))
        """
    ) as parent:
        out, err = parent.communicate(timeout=2 * DEADLINE)
        assert (out, err) == ("TaskDied SIGKILL True True\n20 2\n", "")
