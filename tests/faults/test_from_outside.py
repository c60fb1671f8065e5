"""Cases 69 to 71, 73 and 75 of the fault table: what others do to a program, which is a process of its own here."""

from __future__ import annotations

import os
import pty
import random
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from faulting import DEADLINE, FAULTY
from processes import wait_gone
from sizes import size

Program = Callable[..., "subprocess.Popen[str]"]
pytestmark = pytest.mark.timeout(size(60, 240))
LINUX = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux: processes are found by /proc")


def line_of(parent: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert parent.stdout is not None
    line = parent.stdout.readline()
    assert line, parent.communicate()[1]
    return line


def marked(mark: str) -> list[int]:
    """The pids of the processes that have that variable in their environment."""
    found = []
    for pid in psutil.pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark.encode() in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found


# -- 69: the parent is killed ----------------------------------------------------------------------


@LINUX
@pytest.mark.fault(69)
def test_children_and_grandchildren_are_gone_soon_after_a_killed_parent(launcher: str, program: Program) -> None:
    code = f"""
        from relieve_py import CallableTask
        tasks = [CallableTask({FAULTY!r}, launcher={launcher!r}) for _ in range(3)]
        for task in tasks:
            task.start().result(20)
            print(task.pid, task.get("start_a_program").result(20), task.get("leave_a_daemon").result(20))
        tasks[0].get("swallow_for_ever")
        tasks[1].get("spin_in_c")
        print("up", flush=True)
        input()
    """
    with program(code) as parent:
        pids: list[int] = []
        while (line := line_of(parent)) != "up\n":
            pids += map(int, line.split())
        server = psutil.Process(pids[0]).ppid()
        parent.kill()
        began = time.monotonic()
        assert len(pids) == 9
        assert [pid for pid in (*pids, server) if not wait_gone(pid, 2)] == []
        assert time.monotonic() - began < 2


@LINUX
@pytest.mark.fault(69)
def test_a_parent_that_is_killed_at_any_moment_leaves_nothing(
    launcher: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it starts, calls and stops tasks all the time."""
    code = f"""
        import itertools
        from relieve_py import CallableTask, CloudWorker
        print("up", flush=True)
        for n in itertools.count():
            with CloudWorker(CallableTask({FAULTY!r}, launcher={launcher!r}), size=2) as worker:
                list(worker.map("echo", range(3)))
    """
    chance = random.Random(69)
    for n in range(size(2, 100)):
        mark = f"killed-{os.getpid()}-{n}"
        monkeypatch.setenv("RELIEVE_MARK", mark)
        with program(code) as parent:
            line_of(parent)
            time.sleep(chance.random() * 0.5)
            parent.kill()
        deadline = time.monotonic() + 2
        while left := marked(mark):
            assert time.monotonic() < deadline, left
            time.sleep(0.01)


# -- 70: Ctrl-C ------------------------------------------------------------------------------------

INTERRUPTED = """
    import fcntl, sys, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # this session's terminal
    from relieve_py import CallableTask, CloudWorker
    def note(n):
        import time
        with open({notes!r}, "a") as file:
            file.write(f"{{n}}\\n")
        {work}
    with CloudWorker(CallableTask(note, launcher={launcher!r}, kill_timeout={kill_timeout}), size=2) as worker:
        replies = [worker.get(None, n) for n in range(50)]
        worker.get(None, "last").add_done_callback(lambda reply: print("settled", type(reply.exception()).__name__))
        print(*(task.pid for task in worker), flush=True)
        replies[-1].result()
"""


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """A program that was started with SIGINT ignored, as these tests may have been, starts others that ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def on_terminal(path: Path, code: str) -> tuple[subprocess.Popen[str], int]:
    """A program with a terminal of its own, and the other end of that."""
    path.write_text(textwrap.dedent(code))
    ours, theirs = pty.openpty()
    try:
        flags = ["-W", "ignore::DeprecationWarning"]
        started = subprocess.Popen(
            [sys.executable, *flags, str(path)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            restore_signals=True,
        )
    finally:
        os.close(theirs)
    return started, ours


@LINUX
@pytest.mark.fault(70)
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_the_program_in_time_without_a_childs_traceback_or_new_work(
    launcher: str, tmp_path: Path, times: int
) -> None:
    """Once: what runs may finish. Twice: nothing is waited for."""
    notes = tmp_path / "notes"
    work = "time.sleep(0.3)" if times == 1 else "time.sleep(3600)"
    code = INTERRUPTED.format(notes=str(notes), work=work, launcher=launcher, kill_timeout=5 if times == 1 else 30)
    parent, terminal = on_terminal(tmp_path / "program.py", code)
    try:
        pids = [int(word) for word in line_of(parent).split()]
        while not notes.exists() or len(notes.read_text().split()) < 2:
            time.sleep(0.005)
        began = time.monotonic()
        for _ in range(times):
            os.write(terminal, b"\x03")
            time.sleep(0.15)
        out, err = parent.communicate(timeout=DEADLINE)
    finally:
        os.close(terminal)
    assert time.monotonic() - began < 4
    assert parent.returncode == -signal.SIGINT
    assert err.count("KeyboardInterrupt\n") == times, err
    assert "relieve_py/child" not in err
    assert "RemoteTraceback" not in err
    assert len(notes.read_text().split()) <= 4
    assert [pid for pid in pids if not wait_gone(pid, 2)] == []
    assert out == ("settled Stopped\n" if times == 1 else out)


# -- 71: who else reaps ----------------------------------------------------------------------------


@pytest.mark.fault(71)
@pytest.mark.parametrize("how", ["ignored", "reaped"])
def test_exits_are_known_when_the_host_ignores_sigchld_or_reaps_every_child(
    launcher: str, program: Program, how: str
) -> None:
    code = f"""
        import os, psutil, signal, threading, time
        from relieve_py import CallableTask, CloudWorker, TaskDied
        def reap():
            while True:
                try:
                    os.waitpid(-1, 0)
                except ChildProcessError:
                    time.sleep(0.001)
        if {how!r} == "ignored":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        else:
            threading.Thread(target=reap, daemon=True).start()
        with CloudWorker(CallableTask({FAULTY!r}, launcher={launcher!r}), size=2) as worker:
            for method, args in (("leave", [3]), ("leave_at_once", [4]), ("kill", [])):
                try:
                    worker.get(method, *args).result(20)
                except TaskDied as died:
                    print(died.exit_code, died.signal, *worker.map("echo", range(3)))
            first = next(iter(worker))
            first.get("echo").result(20)
            exited = first.wait_for("exit")
            os.kill(psutil.Process(int(first.pid)).ppid(), signal.SIGKILL)
            exited.result(20)
            print(*worker.map("echo", range(3)))
    """
    with program(code) as parent:
        out, err = parent.communicate(timeout=DEADLINE)
    assert out.splitlines() == ["3 None 0 1 2", "4 None 0 1 2", "None SIGKILL 0 1 2", "0 1 2"], err
    assert "Traceback" not in err
    assert parent.returncode == 0


# -- 73: no room for files -------------------------------------------------------------------------

BIG = """
    import sys
    from relieve_py import CallableTask, CloudWorker
    with CloudWorker(CallableTask({faulty!r}, launcher={launcher!r}), size=2) as worker:
        print(worker.get("size_of", bytes(5_000_000)).result(20), len(worker.get("echo", bytes(5_000_000)).result(20)))
"""


@pytest.mark.fault(73)
def test_a_temporary_directory_that_is_missing_is_not_missed(
    launcher: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    with program(BIG.format(faulty=FAULTY, launcher=launcher)) as parent:
        out, err = parent.communicate(timeout=DEADLINE)
    assert out == "5000000 5000000\n", err


@pytest.mark.fault(73)
@pytest.mark.parametrize("how", ["full", "missing"])
def test_shared_memory_and_temporary_files_that_have_no_room_are_not_missed(
    launcher: str, tmp_path: Path, how: str
) -> None:
    """In a mount namespace of its own, which needs root on Linux."""
    hidden = "mount -t tmpfs -o {} tmpfs {}"
    mounts = [hidden.format("size=4k" if how == "full" else "ro", place) for place in ("/dev/shm", "/var/tmp")]
    probe = ["unshare", "-m", "sh", "-c", " && ".join(mounts)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs root on Linux: it mounts file systems in a namespace of its own")
    fill = "cat /dev/zero > /dev/shm/x 2>/dev/null; cat /dev/zero > /var/tmp/x 2>/dev/null" if how == "full" else "true"
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(BIG.format(faulty=FAULTY, launcher=launcher)))
    command = shlex.join([sys.executable, "-W", "ignore::DeprecationWarning", str(path)])
    words = [*probe[:4], f"{probe[4]}; {fill}; TMPDIR=/var/tmp exec {command}"]
    inside = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert inside.stdout == "5000000 5000000\n", inside.stderr


# -- 75: sleep -------------------------------------------------------------------------------------


@LINUX
@pytest.mark.fault(75)
def test_a_tree_that_was_asleep_goes_on_as_if_nothing_had_been(launcher: str, program: Program) -> None:
    """The whole tree is stopped for longer than any patience of it, and goes on in any order."""
    code = f"""
        from relieve_py import CallableTask, CloudWorker
        from relieve_py.launchers import pulse
        pulse.INTERVAL, pulse.PATIENCE = 0.4, 1
        task = CallableTask({FAULTY!r}, launcher={launcher!r}, kill_timeout=0.2, heartbeat=1.0)
        with CloudWorker(task, size=2) as worker:
            running = [worker.get("nap", (1.0, n)) for n in range(2)]
            queued = [worker.get("echo", n) for n in range(4)]
            print(*(task.pid for task in worker), flush=True)
            print([reply.result(20) for reply in (*running, *queued)], [task.restarts for task in worker])
    """
    with program(code) as parent:
        line_of(parent)
        time.sleep(0.1)
        tree = [parent.pid, *(child.pid for child in psutil.Process(parent.pid).children(recursive=True))]
        for pid in tree:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1.6)
        for pid in random.Random(75).sample(tree, len(tree)):
            os.kill(pid, signal.SIGCONT)
        out, err = parent.communicate(timeout=DEADLINE)
    assert out == "[0, 1, 0, 1, 2, 3] [0, 0]\n", err
