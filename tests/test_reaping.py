"""A program that is only being loaded does not outlive the parent that made it."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from relieve_py.launchers.reaping import descendants_of, dying_with_parent

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
