"""A program that cannot list the processes of its system."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from faulting import DEADLINE

from relieve_py import CallableTask, NotRunning, TaskDied


@pytest.mark.skipif(sys.platform != "linux", reason="only there are marks looked for")
def test_a_death_of_the_server_is_told_also_where_no_processes_can_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def list_folder(path: str) -> list[str]:
        if path == "/proc":  # there is none in a chroot, and no descriptor for it may be left
            raise FileNotFoundError(path)
        return listdir(path)

    listdir = os.listdir
    with CallableTask(os, restart=False) as task:
        server = task.get("getppid").result(DEADLINE)
        reply = task.get("read", task.get("pipe").result(DEADLINE)[0], 1)
        monkeypatch.setattr(os, "listdir", list_folder)
        os.kill(server, signal.SIGKILL)
        with pytest.raises((TaskDied, NotRunning)):  # as the child has come to begin it, or has not
            reply.result(DEADLINE)
