"""Limits of a child, over every launcher: what is above them is refused or killed, and named."""

from __future__ import annotations

import resource
import signal
import sys
import time

import pytest
from processes import signal_child
from support import T, heard, script

from relieve_py import CallableTask, LimitExceeded, Limits, RetriesExhausted, ScriptTask, TaskDied

LAST_WORDS = script("last_words.py")
MEBI = 1 << 20
ROOM = 250 * MEBI
"""More than a child of the tests has before it is asked for anything, by far."""


def test_a_call_that_takes_too_much_memory_is_ended_by_name(launcher: str) -> None:
    with CallableTask(LAST_WORDS, launcher=launcher, limits=Limits(rss=ROOM)) as task:
        exits = heard(task, "exit")
        assert task.get("ask_for", 1).result(T) == MEBI
        begin = time.monotonic()
        error = task.get("eat", ROOM // MEBI + 20).exception(T)
        assert isinstance(error, LimitExceeded)
        assert (error.limit, error.allowed, error.signal) == ("rss", ROOM, "SIGKILL")
        assert f"rss={ROOM:,}" in str(error)
        assert time.monotonic() - begin < T / 2, "not for want of time"
        assert not error.out_of_memory
        ((exit,),) = exits.wait(1)
        assert (exit.limit, exit.allowed) == ("rss", ROOM)
        assert task.get("ask_for", 1).result(T) == MEBI, "the next child has the same limit, and starts anew"


def test_a_retry_has_a_child_of_its_own() -> None:
    with CallableTask(LAST_WORDS, limits=Limits(rss=ROOM)) as task:
        error = task.options(retries=1).get("eat", ROOM // MEBI + 20).exception(T)
        assert isinstance(error, RetriesExhausted)
        assert [type(cause) for cause in error.causes] == [LimitExceeded, LimitExceeded]


def test_memory_is_of_no_account_while_there_is_no_call() -> None:
    with CallableTask(LAST_WORDS, limits=Limits(rss=ROOM)) as task:
        task.get("ask_for", 1).result(T)
        guard = task._slot.guard
        assert guard is not None
        deadline = time.monotonic() + T
        while guard._awake:  # falling asleep is told to nobody
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_program_has_the_limit_all_the_time(launcher: str) -> None:
    task = ScriptTask(LAST_WORDS, args=(ROOM // MEBI + 20,), launcher=launcher, limits=Limits(rss=ROOM))
    task.start().result(T)
    exit = task.wait().result(T)
    assert (exit.limit, exit.signal) == ("rss", "SIGKILL")


def test_a_script_that_takes_too_much_cannot_start() -> None:
    with pytest.raises(Exception, match="rss=") as caught:
        CallableTask(_greedy, args=(ROOM // MEBI + 20,), limits=Limits(rss=ROOM)).start().result(T)
    assert "more than its limit" in str(caught.value)


class _greedy:
    def start(self, megabytes: int) -> None:
        self.eaten = [bytearray(b"x") * MEBI for _ in range(megabytes)]
        time.sleep(60)


def test_processor_time_is_limited() -> None:
    with CallableTask(LAST_WORDS, limits=Limits(cpu_seconds=1)) as task:
        error = task.get("burn").exception(T)
    assert isinstance(error, LimitExceeded)
    assert (error.limit, error.allowed, error.signal) == ("cpu_seconds", 1, "SIGXCPU")
    assert "in burn" in (error.stacks or "")


def test_a_sigxcpu_without_a_limit_is_a_signal_like_any() -> None:
    with CallableTask(LAST_WORDS) as task:
        error = task.get("crash", signal.SIGXCPU).exception(T)
    assert type(error) is TaskDied


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces it")
def test_the_address_space_is_limited(launcher: str) -> None:
    with CallableTask(LAST_WORDS, launcher=launcher, limits=Limits(address_space=4096 * MEBI)) as task:
        with pytest.raises(MemoryError):
            task.get("ask_for", 8192).result(T)
        assert task.get("ask_for", 1).result(T) == MEBI
        assert task.restarts == 0


def test_open_files_are_limited(launcher: str) -> None:
    with CallableTask(LAST_WORDS, launcher=launcher, limits=Limits(open_files=32)) as task:
        with pytest.raises(OSError, match="Too many open files"):
            task.get("open_all").result(T)
        assert task.get("ask_for", 1).result(T) == MEBI
        assert task.restarts == 0


@pytest.mark.parametrize("launcher", ["forkserver", "spawn"])  # with "fork" a child has those of its parent, too
def test_the_fewest_files_are_enough(launcher: str) -> None:
    with CallableTask(LAST_WORDS, launcher=launcher, limits=Limits(open_files=16)) as task:
        assert task.get("ask_for", 1).result(T) == MEBI


def test_a_limit_above_what_the_system_allows_changes_nothing(launcher: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with CallableTask(_limit_of_files, launcher=launcher, limits=Limits(open_files=hard + 1)) as task:
        assert task.get().result(T)[1] == hard


def _limit_of_files() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


# -- the kernel's own killer -----------------------------------------------------------------------


def test_a_kill_by_hand_is_not_blamed_on_the_kernel(launcher: str) -> None:
    with CallableTask(LAST_WORDS, launcher=launcher) as task:
        hanging = task.wait_for("hanging")
        reply = task.get("sleep")
        hanging.result(T)
        signal_child(task, signal.SIGKILL)
        error = reply.exception(T)
    assert isinstance(error, TaskDied)
    assert not error.out_of_memory
    assert "out-of-memory" not in str(error)
