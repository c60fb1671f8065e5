"""What every test shares: the launchers, small programs to run, and the proof that nothing is left behind."""

from __future__ import annotations

import compileall
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
import pytest
from belongings import Belongings, belongings, shared_workers
from hypothesis import settings

import relieve_py

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


def pytest_configure(config: pytest.Config) -> None:
    """Compiles the library once, as an installer would: else each of many hundred new interpreters does so for itself
    where Python is told to write no bytecode."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(relieve_py.__file__).parent, quiet=2)


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


@pytest.fixture(scope="session")
def shared() -> list[relieve_py.Worker]:
    """Workers that the tests of a module share. Put them in, and their children may be replaced during a test."""
    return shared_workers


@pytest.fixture(scope="session")
def _warm() -> Iterator[None]:
    """Everything that a process makes once: the I/O thread, the server, this thread's pipe, lazy imports."""
    with relieve_py.CallableTask(str(SCRIPTS / "task.py")) as task:
        task.get("data").result()
        list(task.stream("rows", 1))
    # What is here now stays: the tests themselves, and what they import. To look through all that again would take most
    # of the time of a collection, and a test that leaves something for a moment is followed by several.
    gc.collect()
    gc.freeze()
    yield
    relieve_py.stop_all()


@pytest.fixture(autouse=True)
def nothing_left(_warm: None) -> Iterator[None]:
    """Fails the test that leaves a process, a zombie, a descriptor, a thread or shared memory behind."""
    for worker in shared_workers:
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
