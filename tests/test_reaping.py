"""A program that is only being loaded does not outlive the parent that made it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from relieve_py.launchers.reaping import dying_with_parent

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
