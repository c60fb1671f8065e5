"""Cases 65 to 67 of the fault table: callbacks, listeners, sources and exit functions that do what they like."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from faulting import DEADLINE, FAULTY, Pool, make_task
from processes import wait_gone

from relieve_py import CallableTask, CloudWorker, State, TaskDied, current_event
from relieve_py.strands import threads

Program = Callable[..., "subprocess.Popen[str]"]


# -- 65: callbacks and listeners -------------------------------------------------------------------


@pytest.mark.fault(65)
def test_a_done_callback_may_make_calls_and_wait_for_them(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LINGER", 0.0)  # the thread of a callback that waits keeps a pipe as long as it lives
    done = threading.Event()
    got: list[int] = []

    def call_again(reply: Any) -> None:
        got.append(reply.result())
        if len(got) < 5:
            pool.worker.get("echo", len(got)).add_done_callback(call_again)
        else:
            got.extend(pool.worker.map("echo", [5, 6]))
            done.set()

    pool.worker.get("echo", 0).add_done_callback(call_again)
    assert done.wait(DEADLINE)
    assert got == list(range(7))


@pytest.mark.fault(65)
@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_what_a_callback_or_a_listener_or_a_hook_raises_is_logged_and_stops_nothing(
    launcher: str, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def raises(*args: Any) -> None:
        raise error("by the user")

    class Raises(CallableTask):
        on_start = on_ready = on_exit = on_restart = on_error = on_message = raises

    task = Raises(FAULTY, launcher=launcher)
    for name in ("start", "ready", "exit", "state", "restart", "error"):
        task.on(name, raises)
    with CloudWorker(task) as worker:
        worker.on("*", raises)
        reply = worker.get("echo", 1)
        reply.add_done_callback(raises)
        after = threading.Event()
        reply.add_done_callback(lambda reply: after.set())
        assert reply.result(DEADLINE) == 1
        assert after.wait(DEADLINE)
        worker.call("raise_key_error").result(DEADLINE)
        worker.restart().result(DEADLINE)
        assert worker.get("echo", 2).result(DEADLINE) == 2
    assert "by the user" in caplog.text
    assert "please report" not in caplog.text


@pytest.mark.fault(65)
def test_a_callback_or_a_listener_that_blocks_holds_up_its_own_strand_only(pool: Pool) -> None:
    release = threading.Event()
    task = make_task(pool.launcher)
    task.on("ready", lambda event: release.wait())
    try:
        for remote in (task, pool.worker):
            remote.get("echo", 1).add_done_callback(lambda reply: release.wait())
            assert remote.get("echo", 2).result(DEADLINE) == 2
            assert list(remote.map("echo", range(3))) == [0, 1, 2]
            assert list(remote.stream("items", 3)) == [0, 1, 2]
    finally:
        release.set()
    task.stop().result(DEADLINE)


@pytest.mark.fault(65)
def test_a_listener_may_stop_kill_restart_and_remove_its_own_task(pool: Pool) -> None:
    ends: list[Any] = []

    def end(way: str) -> None:
        task = current_event().source
        ends.append(getattr(task, way)().result(DEADLINE))

    for way in ("stop", "kill"):
        task = make_task(pool.launcher)
        task.once("ready", lambda event, way=way: end(way))
        stopped = task.wait_for("exit")
        task.start().mark_seen()
        stopped.result(DEADLINE)
        exit = task.wait().result(DEADLINE)
        assert task.state is State.STOPPED
        assert ends.pop() is exit
    task = make_task(pool.launcher)
    again = itertools.count()
    task.on("ready", lambda event: next(again) < 2 and task.restart().mark_seen())
    third = threading.Event()
    task.on("start", lambda event: event.restarts == 2 and third.set())
    task.start().mark_seen()
    assert third.wait(DEADLINE)
    assert task.get("echo", 1).result(DEADLINE) == 1
    with CloudWorker(task, make_task(pool.launcher)) as worker:
        removed = threading.Event()
        worker.once("exit", lambda event: (worker.remove(event.task).result(DEADLINE), removed.set()))
        with pytest.raises(Exception, match="died"):
            task.get("kill").result(DEADLINE)
        assert removed.wait(DEADLINE)
        assert len(worker) == 1
        assert worker.get("echo", 2).result(DEADLINE) == 2
    assert task.wait().result(DEADLINE)


# -- 66: sources -----------------------------------------------------------------------------------


def counted(taken: list[int], until: int | None = None, error: type[BaseException] = OSError) -> Iterator[int]:
    """Counts up, for ever or until it raises; ``taken`` has what was taken, and None at the end."""
    try:
        for n in itertools.count():
            if n == until:
                raise error("the source is broken")
            taken.append(n)
            yield n
    finally:
        taken.append(-1)


@pytest.mark.fault(66)
@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("error", [OSError, SystemExit])
def test_a_source_that_raises_costs_no_result(pool: Pool, unordered: bool, error: type[BaseException]) -> None:
    results = pool.worker.map("echo", counted([], 10, error), unordered=unordered)
    got = [next(results) for _ in range(10)]
    assert sorted(got) == list(range(10))
    assert unordered or got == sorted(got)
    with pytest.raises(error, match="broken"):
        next(results)
    assert list(results) == []


@pytest.mark.fault(66)
@pytest.mark.parametrize("unordered", [False, True])
def test_a_source_without_end_is_taken_as_far_as_results_are_and_closed(pool: Pool, unordered: bool) -> None:
    taken: list[int] = []
    with pool.worker.map("echo", counted(taken), unordered=unordered) as results:
        for _ in range(50):
            next(results)
        assert len(taken) <= 50 + 16, "what is in flight is bounded"
    assert taken[-1] == -1, "it was closed"


@pytest.mark.fault(66)
@pytest.mark.parametrize("unordered", [False, True])
def test_a_source_without_end_outlasts_children_that_die(launcher: str, unordered: bool) -> None:
    with CloudWorker(make_task(launcher), size=2) as worker:
        results = worker.map("leave_at_once", counted([]), unordered=unordered)
        for _ in range(4):
            with pytest.raises(TaskDied):
                next(results)
        results.close()
        assert list(worker.map("echo", range(4))) == [0, 1, 2, 3]
        assert worker.drain().result(DEADLINE) is worker


@pytest.mark.fault(66)
def test_an_async_source_that_raises_or_has_no_end(pool: Pool) -> None:
    async def source(until: int | None) -> AsyncIterator[int]:
        for n in itertools.count():
            if n == until:
                raise OSError("the source is broken")
            yield n

    async def use() -> None:
        broken = pool.worker.map("echo", source(10))
        assert [await anext(broken) for _ in range(10)] == list(range(10))
        with pytest.raises(OSError, match="broken"):
            await anext(broken)
        endless = pool.worker.map("echo", source(None))
        assert [await anext(endless) for _ in range(50)] == list(range(50))
        endless.close()

    asyncio.run(use())


# -- 67: the exit ----------------------------------------------------------------------------------


@pytest.mark.fault(67)
@pytest.mark.parametrize("how", ["return", "sys.exit(3)", "1 / 0"])
def test_the_interpreter_exits_in_time_with_work_running_and_leaves_no_child(
    launcher: str, program: Program, how: str
) -> None:
    code = f"""
        import contextlib, sys, threading
        from relieve_py import CallableTask, CloudWorker, RelieveError
        def main():
            worker = CloudWorker(
                CallableTask({FAULTY!r}, launcher={launcher!r}, kill_timeout=0.2), size=2, max_pending=3
            )
            worker.start().result(20)
            print(*(task.pid for task in worker), flush=True)
            for _ in range(4):
                worker.get("swallow_for_ever")
            stream = worker.stream("items", 10)
            def wait_for(ask):
                with contextlib.suppress(RelieveError):
                    ask()
            threading.Thread(target=wait_for, args=[lambda: next(stream)], daemon=True).start()
            threading.Thread(target=wait_for, args=[lambda: worker.get("echo")], daemon=True).start()  # for room
            {how}
        main()
    """
    ended = program(code)
    out, err = ended.communicate(timeout=DEADLINE)
    assert ended.returncode == {"return": 0, "sys.exit(3)": 3, "1 / 0": 1}[how], err
    assert ("ZeroDivisionError" in err) is (how == "1 / 0"), err
    assert not any(text in err for text in ("Exception in thread", "Exception ignored", "please report")), err
    pids = out.split()
    assert len(pids) == 2
    assert all(wait_gone(int(pid), 2) for pid in pids)


@pytest.mark.fault(67)
def test_a_call_made_at_exit_ends(launcher: str, program: Program) -> None:
    """Exit functions run last come first: one that was registered after the first task still has it, one from before
    finds it stopped, and may start another."""
    code = f"""
        import atexit
        def late():
            from relieve_py import CallableTask, RelieveError
            for ask in (lambda: task.get("echo", 1), lambda: task.start(), CallableTask({FAULTY!r}).start):
                try:
                    print(type(ask().result(20)).__name__, flush=True)
                except RelieveError as error:
                    print(type(error).__name__, flush=True)
        atexit.register(late)
        from relieve_py import CallableTask
        task = CallableTask({FAULTY!r}, launcher={launcher!r}, kill_timeout=0.2)
        task.start().result(20)
        atexit.register(lambda: print(task.get("echo", "early").result(20), flush=True))
    """
    ended = program(code)
    out, err = ended.communicate(timeout=DEADLINE)
    lines = out.split()
    assert lines[:2] == ["early", "Stopped"], err
    assert len(lines) == 4, err
    assert ended.returncode == 0
    assert "Traceback" not in err
