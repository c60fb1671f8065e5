"""What every test shares: the launchers, small programs to run, and the proof that nothing is left behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import psutil
import pytest
from hypothesis import settings
from processes import descendants

import relieve_py
from relieve_py.segments import Share

# How long an example takes says something about the machine only; the examples differ from run to run.
settings.register_profile("tests", deadline=None, max_examples=40)
settings.load_profile("tests")

SCRIPTS = Path(__file__).parent / "scripts"
SETTLE = 5.0
"""Seconds that descriptors and processes may take to go after a test; only a test that leaks waits so long."""

# The fork launcher forks a process with threads, and says so in its documentation.
FORK = pytest.param(
    "fork", marks=pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
)
LAUNCHERS = ["forkserver", "spawn", FORK]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--launcher", help="of the tests that take each launcher in turn, run those with this one only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--launcher")
    if wanted is None:
        return
    others = [item for item in items if _launcher_of(item) not in (None, wanted)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if _launcher_of(item) in (None, wanted)]


def _launcher_of(item: pytest.Item) -> object:
    call = getattr(item, "callspec", None)
    return call.params.get("launcher") if call is not None else None


@pytest.fixture(scope="session", params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest) -> str:
    """Each launcher in turn; tests are grouped so that what a module shares is made once for each."""
    return str(request.param)


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts Python code as a program of its own, with the scripts of the tests and text pipes."""

    def start(code: str, *args: str, flags: Sequence[str] = ()) -> subprocess.Popen[str]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(code))
        return subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", *flags, str(path), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent.parent}"},
        )

    return start


# -- nothing is left behind ------------------------------------------------------------------------

_shared: list[relieve_py.Worker] = []


@pytest.fixture(scope="session")
def shared() -> list[relieve_py.Worker]:
    """Workers that the tests of a module share. Put them in, and their children may be replaced during a test."""
    return _shared


@attrs.frozen
class Belongings:
    """What this process has at one moment."""

    processes: frozenset[tuple[int, str]]
    descriptors: dict[int, str]
    threads: frozenset[str]
    memory: frozenset[str]
    segments: int

    def left_since(self, before: Belongings) -> dict[str, object]:
        """What is here that was not before, by kind; empty when there is nothing."""
        extra = len(self.descriptors) - len(before.descriptors)
        new = {fd: what for fd, what in self.descriptors.items() if before.descriptors.get(fd) != what}
        found: dict[str, object] = {
            "processes": sorted(self.processes - before.processes),
            "descriptors": new if extra > 0 else {},
            "threads": sorted(self.threads - before.threads),
            "shared memory": sorted(self.memory - before.memory),
            "segments": max(0, self.segments - before.segments),
        }
        return {kind: what for kind, what in found.items() if what}


def belongings() -> Belongings:
    """Child processes but the server's own, descriptors, threads but those that come and go, shared memory."""
    return Belongings(
        processes=frozenset(_children()),
        descriptors=dict(_descriptors()),
        threads=frozenset(
            f"{thread.name} ({thread.ident})"
            for thread in threading.enumerate()
            if thread.name != "relieve-io" and not thread.name.startswith("relieve-callbacks")
        ),
        memory=frozenset(_shared_memory()),
        segments=len(Share._all),
    )


def _children() -> Iterator[tuple[int, str]]:
    """All descendants but the server, which is made once, is this process's own child, and has its name in its code;
    but the children that wait in it for a task; and but the members of shared workers, with the servers that they have
    for themselves (by the fork launcher)."""
    here = os.getpid()
    parents = descendants()
    members = {task.pid for worker in _shared for task in worker}
    servers = {parent for pid, parent in parents.items() if pid in members}
    for pid, parent in parents.items():
        if pid in members or pid in servers:
            continue
        try:
            child = psutil.Process(pid)
            if child.name() == "relieve-blank":
                continue
            if parent != here or "relieve_py.launchers.server" not in " ".join(child.cmdline()):
                yield pid, "a zombie" if child.status() == psutil.STATUS_ZOMBIE else "a process"
        except psutil.ZombieProcess:  # has no command line any more
            yield pid, "a zombie"
        except psutil.NoSuchProcess:
            continue


def _shared_memory() -> Iterator[str]:
    """What bears the library's name; other names belong to other programs, or to what a child's own code started."""
    if os.path.isdir("/dev/shm"):
        yield from (name for name in os.listdir("/dev/shm") if name.startswith("relieve_py"))


def _descriptors() -> Iterator[tuple[int, str]]:
    """All but those of the segments that running tasks keep to use them again."""
    kept = 2 * len(Share._all)
    for fd, what in _all_descriptors():
        if kept and what.startswith("/memfd:relieve_py_segment"):
            kept -= 1
        else:
            yield fd, what


def _all_descriptors() -> Iterator[tuple[int, str]]:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        try:
            yield int(name), os.readlink(f"{folder}/{name}")
        except OSError:  # the descriptor of this very listing
            continue


@pytest.fixture(scope="session")
def _warm() -> Iterator[None]:
    """Everything that a process makes once: the I/O thread, the server, this thread's pipe, lazy imports."""
    with relieve_py.CallableTask(str(SCRIPTS / "task.py")) as task:
        task.get("data").result()
        list(task.stream("rows", 1))
    yield
    relieve_py.stop_all()


@pytest.fixture(autouse=True)
def nothing_left(_warm: None) -> Iterator[None]:
    """Fails the test that leaves a process, a zombie, a descriptor, a thread or shared memory behind."""
    for worker in _shared:
        worker.start().result()  # does nothing, unless a test before this one failed, and had it stopped
    before = belongings()
    yield
    _check(attrs.evolve(before, segments=sys.maxsize))  # of tasks that serve other tests, too


@pytest.fixture(scope="module", autouse=True)
def nothing_left_by_the_module(_warm: None) -> Iterator[None]:
    """The same for what the tests of a module share."""
    before = belongings()
    yield
    _check(before)


def _check(before: Belongings) -> None:
    deadline = time.monotonic() + SETTLE
    pause = threading.Event()  # never set: descriptors and zombies announce their end to nobody
    while left := belongings().left_since(before):
        gc.collect()
        if time.monotonic() > deadline:
            relieve_py.stop_all(0)
            pytest.fail(f"left behind: {left}")
        pause.wait(0.01)
