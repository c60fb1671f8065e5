"""A program that is only being loaded does not outlive the parent that made it."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from processes import wait_gone

from relieve_py.launchers.marks import bearers, whose_mark
from relieve_py.launchers.reaping import descendants_of, dying_with_parent, kill_all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
LOADED = f"import sys; {dying_with_parent()}; import time; print('loading', flush=True); time.sleep(50)"


@pytest.mark.rule(11)
def test_it_dies_when_its_parent_is_killed(program: Callable[..., Any]) -> None:
    parent = program(
        f"""
        import socket, subprocess, sys, time
        ours, theirs = socket.socketpair()
        subprocess.Popen([sys.executable, "-c", {LOADED!r}, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        time.sleep(50)
        """
    )
    assert parent.stdout.readline() == "loading\n"
    parent.kill()
    parent.communicate(timeout=10)  # to the end of the pipe, which both have


@pytest.mark.rule(11)
def test_it_leaves_when_its_parent_was_gone_before() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        done = subprocess.run(
            [sys.executable, "-c", LOADED, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            timeout=10,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.rule(11)
def test_processes_are_known_whichever_thread_has_started_them() -> None:
    started, over = queue.SimpleQueue[int](), threading.Event()

    def start() -> None:
        with subprocess.Popen(["sleep", "50"]) as process:
            started.put(process.pid)
            over.wait(10)  # a thread that ends leaves what it has started to another
            process.kill()

    thread = threading.Thread(target=start)
    thread.start()
    try:
        assert started.get(timeout=10) in descendants_of(os.getpid())
    finally:
        over.set()
        thread.join()


@pytest.mark.rule(11)
def test_a_process_that_may_not_be_killed_keeps_no_other_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that a child has started with the rights of another user."""
    killed = []

    def kill(pid: int, signum: int) -> None:
        if pid == 2:
            raise PermissionError
        if pid == 3:
            raise ProcessLookupError
        killed.append(pid)

    monkeypatch.setattr(os, "kill", kill)
    assert kill_all([1, 2, 3, 4]) == {2}
    assert killed == [1, 4]


@pytest.mark.rule(11)
def test_a_mark_is_borne_by_all_that_descend(program: Callable[..., Any]) -> None:
    bearer = program(
        """
        import os
        from relieve_py.launchers.marks import bear_mark
        assert bear_mark()
        read, write = os.pipe()
        if os.fork() == 0:
            if (pid := os.fork()):
                os.write(write, str(pid).encode())
                os._exit(0)
            os.setsid()
            os.closerange(3, 256)
            os.execvp("sleep", ["sleep", "50"])
        os.wait()
        print(os.read(read, 20).decode(), flush=True)
        input()
        """
    )
    with bearer:
        orphan, me = int(bearer.stdout.readline()), os.getpid()
        assert bearers(me) == {bearer.pid: bearer.pid, orphan: bearer.pid}
        assert whose_mark(orphan, me) == bearer.pid
        assert whose_mark(me, me) == whose_mark(orphan, me + 1) == 0
        os.kill(orphan, signal.SIGKILL)
        bearer.communicate("over\n")
    assert wait_gone(orphan)
    assert whose_mark(bearer.pid, me) == 0
