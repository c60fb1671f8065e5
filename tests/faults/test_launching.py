"""Cases 49, 52 and 54 of the fault table: the system, or the server process, does not make a child."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from faulting import DEADLINE, Pool, make_task
from processes import descendants, signal_child, wait_gone
from servers import DIE, FAIL, FREEZE, NOTHING, Orders, server_of, servers_under_orders
from sizes import size

from relieve_py import CallableTask, CloudWorker, RestartPolicy, StartError, State, TaskDied
from relieve_py.launchers import pulse


@pytest.fixture
def orders(launcher: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orders]:
    """For the servers of this test alone."""
    with servers_under_orders(launcher, monkeypatch) as orders:
        yield orders


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up soon."""
    monkeypatch.setattr(pulse, "INTERVAL", 0.05)
    monkeypatch.setattr(pulse, "PATIENCE", 10)
    monkeypatch.setattr(pulse, "FIRST_PATIENCE", 600)


# -- 49: no more of something ----------------------------------------------------------------------


@pytest.mark.fault(49)
@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOMEM], ids=["EAGAIN", "ENOMEM"])
@pytest.mark.parametrize("where", ["in the server", "here"])
def test_a_fork_that_fails_fails_the_start_by_name(pool: Pool, orders: Orders, code: int, where: str) -> None:
    orders.give(FAIL, errno=code, in_server=where == "in the server")
    task = make_task(pool.launcher)
    reply = task.get("echo", 1)
    with pytest.raises(StartError, match=os.strerror(code)) as caught:
        reply.result(DEADLINE)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == code
    assert task.state is State.FAILED
    orders.give(NOTHING)
    task.start().result(DEADLINE)
    assert task.get("echo", 2).result(DEADLINE) == 2
    task.stop().result(DEADLINE)


@pytest.mark.fault(49)
def test_a_restart_that_the_system_refuses_is_tried_again_and_no_call_is_lost(pool: Pool, orders: Orders) -> None:
    task = make_task(pool.launcher, restart=RestartPolicy(max_restarts=1000, delay=0.01, max_delay=0.01))
    task.start().result(DEADLINE)
    orders.give(FAIL, times=5, errno=errno.EAGAIN)
    assert task.pid is not None
    signal_child(task, signal.SIGKILL)
    assert [task.get("echo", n).result(DEADLINE) for n in range(3)] == [0, 1, 2]
    assert task.restarts == 6
    assert orders.obeyed == 5
    task.stop().result(DEADLINE)


@contextmanager
def room_for(n: int) -> Iterator[None]:
    """This process may have so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(map(int, os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))) + 1
    with ExitStack() as stack:
        while (fd := os.open(os.devnull, os.O_RDONLY)) < top:
            stack.callback(os.close, fd)
        os.close(fd)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + n, hard))
        yield


@pytest.mark.fault(49)
def test_without_descriptors_a_start_fails_and_whatever_runs_goes_on(pool: Pool) -> None:
    """With room for none, one, two... descriptors, so that each step of a launch is the one that fails."""
    outcomes = []
    for n in range(0, 20, 2):
        task = make_task(pool.launcher)
        with room_for(n):
            try:
                task.start().result(DEADLINE)
            except StartError as error:
                outcomes.append(error)
            pool.worker.get("echo", n).result(DEADLINE)
        if task.state is State.FAILED:
            task.start().result(DEADLINE)
        assert task.get("echo", n).result(DEADLINE) == n
        task.stop().result(DEADLINE)
    assert outcomes, "there was always room"
    assert "open files" in str(outcomes[0])


@pytest.mark.fault(49)
@pytest.mark.parametrize("launcher", ["forkserver", "spawn"])
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux: elsewhere no descriptor comes with a child")
def test_a_child_whose_pidfd_finds_no_room_runs_all_the_same(launcher: str, orders: Orders) -> None:
    """The fork launcher makes the server in the same moment, which then needs more room than the pidfd."""
    first, second = make_task(launcher), make_task(launcher)
    first.start().result(DEADLINE)
    server, begun = server_of(first), second.wait_for("start")
    orders.give(FREEZE, times=1)
    ready = second.start()
    os.waitid(os.P_PID, server, os.WSTOPPED | os.WNOWAIT)
    with room_for(0):
        os.kill(server, signal.SIGCONT)
        begun.result(DEADLINE)
    ready.result(DEADLINE)
    assert [task.get("echo", 1).result(DEADLINE) for task in (first, second)] == [1, 1]
    assert (first.restarts, second.restarts) == (0, 0)
    assert second.kill().result(DEADLINE).signal == "SIGKILL"
    first.stop().result(DEADLINE)


# -- 52: from a thread, among threads --------------------------------------------------------------

LOGGING = """
import logging
def start():
    logging.getLogger("child").warning("started")
def log(text):
    logging.getLogger("child").warning(text)
    print(text, flush=True)
    return text
"""


@pytest.mark.fault(52)
@pytest.mark.timeout(size(60, 240))
@pytest.mark.parametrize("times", [size(12, 1000)])
def test_children_start_from_a_parent_whose_threads_hold_the_logging_lock(
    launcher: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], times: int
) -> None:
    """50 threads log all the time, 4 others start children that log. 1,000 times with RELIEVE_FULL."""
    path = tmp_path / "logs.py"
    path.write_text(LOGGING)
    over = threading.Event()
    logger = logging.Logger("loud")
    with open(os.devnull, "w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        logger.addHandler(handler)

        def log() -> None:
            while not over.is_set():
                logger.warning("in the way")
                with logging._lock:  # type: ignore[attr-defined] # what a fork must not find locked for ever
                    over.wait(0.0005)

        def start_one(n: int) -> str:
            with CallableTask(path, launcher=launcher) as task:
                return str(task.get("log", str(n)).result(DEADLINE))

        threads = [threading.Thread(target=log) for _ in range(50)]
        for thread in threads:
            thread.start()
        try:
            with ThreadPoolExecutor(4) as starters:
                assert list(starters.map(start_one, range(times))) == [str(n) for n in range(times)]
        finally:
            over.set()
            for thread in threads:
                thread.join()
        handler.close()


# -- 54: the server process ------------------------------------------------------------------------


@pytest.mark.fault(54)
def test_an_idle_server_that_is_killed_costs_its_children_and_no_call(pool: Pool) -> None:
    pool.load.forgive(TaskDied)
    task = make_task(pool.launcher)
    task.start().result(DEADLINE)
    for n in range(2):
        exited = task.wait_for("exit")
        os.kill(server_of(task), signal.SIGKILL)
        assert exited.result(DEADLINE)[0].signal == "SIGKILL"
        assert [task.get("echo", i).result(DEADLINE) for i in range(3)] == [0, 1, 2]
        assert task.restarts == n + 1
    task.stop().result(DEADLINE)


@pytest.mark.fault(54)
def test_a_server_that_is_killed_while_its_children_work_costs_what_they_run(pool: Pool) -> None:
    pool.load.forgive(TaskDied)
    worker = CloudWorker(make_task(pool.launcher), size=2)
    with worker:
        began = threading.Semaphore(0)
        worker.on("began", began.release)
        running = [worker.get("begin_and_sleep_for_ever") for _ in range(2)]
        queued = [worker.get("echo", n) for n in range(6)]
        servers = {server_of(task) for task in worker}
        assert all(began.acquire(timeout=DEADLINE) for _ in running)
        for server in servers:
            os.kill(server, signal.SIGKILL)
        for reply in running:
            with pytest.raises(TaskDied, match=r"killed by SIGKILL \(its server process \(pid \d+\) died\)"):
                reply.result(DEADLINE)
        assert all(task.exit is not None and task.exit.forced for task in worker)
        assert [reply.result(DEADLINE) for reply in queued] == list(range(6))


@pytest.mark.fault(54)
def test_a_launch_is_tried_again_when_the_server_dies_over_it(pool: Pool, orders: Orders) -> None:
    orders.give(DIE, times=2)
    task = make_task(pool.launcher)
    assert task.get("echo", 1).result(DEADLINE) == 1
    assert orders.obeyed == 2
    assert (task.restarts, task.exit) == (0, None)
    task.stop().result(DEADLINE)


@pytest.mark.fault(54)
def test_a_launch_that_every_server_dies_over_fails_by_name(pool: Pool, orders: Orders) -> None:
    orders.give(DIE)
    task = make_task(pool.launcher)
    reply = task.get("echo", 1)
    with pytest.raises(StartError, match="server process died"):
        reply.result(DEADLINE)
    assert orders.obeyed < 10
    orders.give(NOTHING)
    task.start().result(DEADLINE)
    task.stop().result(DEADLINE)


@pytest.mark.fault(54)
@pytest.mark.fault(48)
@pytest.mark.usefixtures("impatient")
def test_start_timeout_holds_when_the_server_is_frozen(pool: Pool, orders: Orders) -> None:
    orders.give(FREEZE, times=1)
    task = make_task(pool.launcher, start_timeout=0.3)
    began = time.monotonic()
    reply = task.get("echo", 1)
    with pytest.raises(StartError, match="start_timeout"):
        reply.result(DEADLINE)
    assert time.monotonic() - began < 0.3 + 2
    stopped = make_task(pool.launcher)
    orders.give(FREEZE, times=1)
    stopped.start().mark_seen()
    assert stopped.stop(0.1).result(DEADLINE) is not None


@pytest.mark.fault(54)
@pytest.mark.fault(48)
@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs waitid: to see that the server is frozen")
def test_a_child_that_comes_after_its_start_has_failed_is_killed(pool: Pool, orders: Orders) -> None:
    """That it is gone is seen by the fixture that looks for what is left."""
    orders.give(FREEZE, times=1)
    task = make_task(pool.launcher, start_timeout=0.1)
    started = task.start()
    frozen = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOWAIT)
    assert frozen is not None
    with pytest.raises(StartError, match="start_timeout"):
        started.result(DEADLINE)
    os.kill(frozen.si_pid, signal.SIGCONT)
    with make_task(pool.launcher) as another:
        assert another.get("echo", 1).result(DEADLINE) == 1


@pytest.mark.fault(54)
@pytest.mark.usefixtures("impatient")
def test_a_server_that_freezes_over_a_launch_is_replaced(
    pool: Pool, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "FIRST_PATIENCE", 10)  # the server is a copy that need not start an interpreter
    orders.give(FREEZE, times=1)
    task = make_task(pool.launcher)
    assert task.get("echo", 1).result(DEADLINE) == 1
    assert orders.obeyed == 1
    task.stop().result(DEADLINE)


def children_of(pid: int) -> list[int]:
    return [child for child, parent in descendants().items() if parent == pid]


@pytest.mark.fault(54)
@pytest.mark.usefixtures("impatient")
def test_a_frozen_server_holds_up_no_call_and_no_stop_for_long(pool: Pool) -> None:
    pool.load.forgive(TaskDied)
    task = make_task(pool.launcher)
    left = task.get("leave_a_daemon").result(DEADLINE)
    server = server_of(task)
    its_children = children_of(server)
    os.kill(server, signal.SIGSTOP)
    assert task.get("echo", 1).result(DEADLINE) == 1
    with pytest.raises(TaskDied):
        task.get("kill").result(DEADLINE)
    assert task.get("echo", 2).result(DEADLINE) == 2, "the server could not tell that the child is dead"
    assert all(map(wait_gone, (left, server, *its_children)))
    server = server_of(task)
    its_children = children_of(server)
    os.kill(server, signal.SIGSTOP)
    assert task.stop().result(DEADLINE).pid
    assert all(map(wait_gone, (server, *its_children))), "none is left that may still end when the pool is looked at"


@pytest.mark.fault(54)
@pytest.mark.skipif(sys.platform != "linux", reason="only the server can tell how a child has ended")
def test_the_end_of_a_child_is_known_while_the_server_is_frozen(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up no stop."""
    monkeypatch.setattr(pulse, "INTERVAL", 0.02)
    monkeypatch.setattr(pulse, "PATIENCE", 1_000_000)
    task = make_task(pool.launcher)
    task.start().result(DEADLINE)
    server = server_of(task)
    exits = []
    task.on("exit", exits.append)
    os.kill(server, signal.SIGSTOP)
    try:
        assert task.stop().result(DEADLINE).code == 0
    finally:
        os.kill(server, signal.SIGCONT)
    with make_task(pool.launcher) as another:  # whose server has also told of the other by then
        assert another.get("echo", 1).result(DEADLINE) == 1
    assert len(exits) == 1
