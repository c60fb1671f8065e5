"""Case 72 of the fault table: a parent that forks (``os.fork``) with tasks alive, and what the copy may do."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Callable

import pytest
from faulting import DEADLINE, FAULTY
from processes import wait_gone

Program = Callable[..., "subprocess.Popen[str]"]

PARENT = """
    import concurrent.futures, gc, os, sys, threading, time
    from relieve_py import CallableTask, CloudWorker, NotRunning, RelieveError, stop_all
    launcher = {launcher!r}
    def copy(work):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
                os._exit(1)
            sys.exit(0)
        return pid
    def ended_well(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    def refused(ask):
        began = time.monotonic()
        try:
            ask()
        except RelieveError as error:
            assert time.monotonic() - began < 2, (ask, error)
            return
        raise AssertionError(ask)
    template = CallableTask({faulty!r}, launcher=launcher, kill_timeout=0.5)
    over = threading.Event()
    def load():
        while not over.is_set():
            assert worker.get("echo", 1).result(20) == 1
    with CloudWorker(template, size=2) as worker:
        threads = [threading.Thread(target=load) for _ in range(3)]
        [thread.start() for thread in threads]
        pids = [task.pid for task in worker]
{body}
        over.set()
        [thread.join() for thread in threads]
        assert [task.pid for task in worker] == pids, "the original's children were touched"
        assert sum(task.restarts for task in worker) == 0
        print("fine", *pids)
"""

REFUSES = """
def work():
    task = next(iter(worker))
    assert concurrent.futures.wait([running], 20).done
    for ask in (
        lambda: task.get("echo").result(5), lambda: task.call("echo").result(5), lambda: task.send("x").result(5),
        lambda: list(task.stream("items", 3)), lambda: list(task.map("echo", [1])), lambda: task.start().result(5),
        lambda: task.restart().result(5), lambda: task.stop().result(5), lambda: task.kill().result(5),
        lambda: task.drain().result(5), lambda: task.send_signal(15), lambda: task.wait_for("x").result(5),
        lambda: task.wait().result(5), lambda: task.reload().result(5), lambda: list(items),
        lambda: worker.start().result(5), lambda: worker.stop().result(5), lambda: worker.kill().result(5),
        lambda: worker.drain().result(5), lambda: worker.resize(3).result(5), lambda: worker.wait_for("x").result(5),
        lambda: worker.get("echo").result(5), lambda: list(worker.map("echo", [1])), lambda: running.result(5),
        lambda: next(results), lambda: list(worker.pipe([1], "echo")), lambda: worker.get("echo", iter([1])).result(5),
    ):
        refused(ask)
    stop_all()
for _ in range(3):
    running, items = worker.get("nap", (0.05, 7)), worker.stream("items", 1000)
    results = worker.pipe(range(10**6), "echo")
    assert ended_well(copy(work))
    assert next(results) == 0
    results.close()
    assert (running.result(20), list(items)) == (7, list(range(1000)))
"""
LETS_GO = """
def work():
    global worker, template
    del worker, template
    gc.collect()
for _ in range(3):
    assert ended_well(copy(work))
    assert list(worker.map("echo", range(4))) == list(range(4))
"""
HAS_ITS_OWN = """
def work():
    own = CloudWorker(CallableTask({faulty!r}, launcher=launcher), size=2)
    heard = threading.Event()
    own.on("ready", lambda event: heard.set())
    with own:
        assert list(own.map("echo", range(4))) == list(range(4))
        assert heard.wait(20)
    left = CallableTask({faulty!r}, launcher=launcher)
    assert left.get("echo", 5).result(20) == 5  # and the exit of the copy stops it
copies = [copy(work) for _ in range(2)]
assert all([ended_well(pid) for pid in copies])
"""
A_POOL = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
"""


@pytest.mark.fault(72)
@pytest.mark.parametrize("body", [REFUSES, LETS_GO, HAS_ITS_OWN, A_POOL], ids=["refuses", "lets-go", "own", "a-pool"])
def test_a_forked_copy_leaves_the_originals_children_alone(launcher: str, program: Program, body: str) -> None:
    """While three threads of the original make calls, whose locks the copy finds in whatever state."""
    body = textwrap.indent(body.replace("{faulty!r}", repr(FAULTY)), " " * 8)
    code = PARENT.format(launcher=launcher, faulty=FAULTY, body=body)
    with program(code) as parent:
        try:
            out, err = parent.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            parent.kill()
            raise
    assert out.startswith("fine"), err
    assert "Traceback" not in err
    assert all(wait_gone(int(pid), 2) for pid in out.split()[1:])


@pytest.mark.fault(72)
@pytest.mark.parametrize("end", ["leaves", "is killed"])
def test_a_copy_that_outlives_the_original_keeps_no_child_of_it_alive(
    launcher: str, program: Program, end: str
) -> None:
    code = f"""
        import os, signal, time
        from relieve_py import CallableTask
        task = CallableTask({FAULTY!r}, launcher=launcher, kill_timeout=0.2) if (launcher := {launcher!r}) else None
        task.start().result(20)
        task.get("swallow_for_ever")
        copy = os.fork()
        if copy == 0:
            time.sleep(3600)
        print(task.pid, copy, flush=True)
        if {end!r} == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
    """
    with program(code) as parent:
        assert parent.stdout is not None
        child, copy = map(int, parent.stdout.readline().split())
        try:
            parent.wait(DEADLINE)
            assert wait_gone(child, 2)
        finally:
            os.kill(copy, signal.SIGKILL)
        assert wait_gone(copy)


@pytest.mark.fault(72)
def test_a_copy_that_a_signal_handler_makes_in_the_middle_of_a_restart_does_not_wait_for_it(
    launcher: str, program: Program
) -> None:
    code = f"""
        import os, signal, threading
        from relieve_py import CallableTask, NotRunning, supervisor
        main, copies, copied = threading.get_ident(), [], threading.Event()
        def make_a_copy(*_):
            pid = os.fork()
            if pid:
                copies.append(pid)
                copied.set()
        signal.signal(signal.SIGALRM, make_a_copy)
        run = supervisor._Errand.run
        def run_later(errand):
            supervisor._Errand.run = run
            signal.pthread_kill(main, signal.SIGALRM)
            assert copied.wait(20)
            run(errand)
        with CallableTask({FAULTY!r}, launcher={launcher!r}) as task:
            supervisor._Errand.run = run_later
            try:
                task.restart()
            except NotRunning as error:
                os._exit(0 if not copies and "forked" in str(error) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(copies[0], 0)[1]) == 0
            assert task.get("echo", 1).result(20) == 1
        print("fine")
    """
    with program(code) as parent:
        try:
            out, err = parent.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            parent.kill()
            raise
    assert out.startswith("fine"), err
