"""The proof that nothing is left behind sees the processes that may be: running, of a thread, of a child, or dead."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from belongings import belongings

TWO = "import os, sys; os.fork(); sys.stdout.write(f'{os.getpid()}\\n'); sys.stdout.flush(); sys.stdin.read()"


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="only waitid waits for an end and leaves the zombie")
def test_processes_of_any_thread_and_depth_are_seen_until_they_are_reaped() -> None:
    before = belongings()
    started, over, children = threading.Event(), threading.Event(), []

    def start() -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        children.append(subprocess.Popen([sys.executable, "-Sc", TWO], text=True, **pipes))
        started.set()
        over.wait()

    thread = threading.Thread(target=start)
    thread.start()
    assert started.wait(20)
    (child,) = children
    with child:
        pids = sorted(int(child.stdout.readline()) for _ in range(2))
        left = belongings().left_since(before)
        assert left["processes"] == [(pid, "a process") for pid in pids]
        assert set(left) == {"processes", "descriptors", "threads"}
        over.set()
        thread.join()
        assert belongings().left_since(before)["processes"] == left["processes"]
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert (child.pid, "a zombie") in belongings().left_since(before)["processes"]
    assert belongings().left_since(before) == {}
