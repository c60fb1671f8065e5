"""The kernel's texts are read right, and its kills are known from any other."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from relieve_py import outofmemory
from relieve_py.outofmemory import OutOfMemoryWatch, oom_kills


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n", 3),
        ("oom_kill_disable 1\nunder_oom 1\noom_kill 0\n", 0),
        ("oom_kill_disable 0\nunder_oom 0\n", None),
        ("oom_kill many\n", None),
        ("", None),
    ],
)
def test_the_kills_are_counted(text: str, kills: int | None) -> None:
    assert oom_kills(text) == kills


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of kills, as that of every process's group."""
    path = tmp_path / "memory.events"
    path.write_text("oom_kill 5\n")
    monkeypatch.setattr(outofmemory, "_counter_file", lambda cgroup: str(path))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has control groups")
def test_each_kill_explains_one_death(counter: Path) -> None:
    first, second, third = (OutOfMemoryWatch(os.getpid()) for _ in range(3))
    assert not first.explains_kill(), "somebody sent that SIGKILL"
    counter.write_text("oom_kill 7\n")
    assert [watch.explains_kill() for watch in (first, second, third)] == [True, True, False]
    later = OutOfMemoryWatch(os.getpid())
    assert not later.explains_kill(), "those were before its time"
    counter.write_text("oom_kill 8\n")
    assert later.explains_kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has control groups")
def test_a_group_that_is_gone_explains_nothing(counter: Path) -> None:
    watch = OutOfMemoryWatch(os.getpid())
    counter.unlink()
    assert not watch.explains_kill()
    assert not OutOfMemoryWatch(os.getpid()).explains_kill()


def test_the_end_of_a_process_that_is_gone_is_not_explained() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert not OutOfMemoryWatch(pid).explains_kill()
