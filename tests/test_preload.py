"""Imports made once for all children of a task: shared, as good as made in each, and refused when they cannot be."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from relieve_py import CallableTask, CloudWorker, ScriptTask, StartError
from relieve_py.launchers import connection

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes modules that can be imported; gives the path of the last."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(connection, "IDLE", 0.0)  # the servers of these tests go with their last child

    def write(**codes: str) -> str:
        for name, code in codes.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(code))
        return str(path)

    return write


def become(found: Callable[[], list[Any]]) -> list[Any]:
    """What is there in the end, of what is told to the library only."""
    deadline = time.monotonic() + 20
    while not (there := found()) and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    return there


IMPORTED_BY = "import os\npid = os.getpid()\n"
ASKS = """
    import os
    import shared
    def who(): return shared.pid, os.getpid()
    def value(name): return getattr(shared, name)
"""


@pytest.mark.parametrize("preload", [["shared"], True])
def test_children_share_what_the_server_has_imported(write: Write, preload: Any) -> None:
    script = write(shared=IMPORTED_BY, asks=ASKS)
    with CloudWorker(CallableTask(script, preload=preload), size=2) as worker:
        told = [task.get("who").result() for task in worker]
        importers, children = {importer for importer, _ in told}, {child for _, child in told}
        assert len(importers) == 1
        assert len(children) == 2
        assert {psutil.Process(child).ppid() for child in children} == importers


def test_without_it_each_child_imports_for_itself(write: Write) -> None:
    with CallableTask(write(shared=IMPORTED_BY, asks=ASKS)) as task:
        importer, child = task.get("who").result()
        assert importer == child


def test_a_script_can_be_loaded_once_with_all_that_it_makes(write: Write) -> None:
    script = write(loads="import os\nloaded_by = os.getpid()\ndef start(): global own; own = os.getpid()\n")
    with CallableTask(script, preload=[script]) as task:
        assert task.get("own").result() == task.pid
        assert task.get("loaded_by").result() == psutil.Process(task.pid).ppid()


def test_a_program_shares_imports_too(write: Write) -> None:
    script = write(shared=IMPORTED_BY, program="import os, sys, shared\nsys.exit(int(shared.pid == os.getppid()))\n")
    with ScriptTask(script, preload=["shared"], restart=False) as task:
        assert task.wait().result().code == 1


def test_a_class_shares_the_imports_of_its_module(write: Write) -> None:
    write(shared=IMPORTED_BY, service="import shared\nclass Service:\n    def importer(self): return shared.pid\n")
    import service  # type: ignore[import-not-found]

    try:
        with CallableTask(service.Service, preload=True) as task:
            assert task.get("importer").result() == psutil.Process(task.pid).ppid()
    finally:
        del sys.modules["service"], sys.modules["shared"]


def test_an_import_does_to_each_child_what_it_would_have_done_there(write: Write, tmp_path: Path) -> None:
    left = tmp_path / "left"
    script = write(
        shared=f"""
            import atexit, os, signal, sys
            os.environ["SHARED"] = "yes"
            sys.path.append({str(tmp_path / "more")!r})
            os.makedirs(sys.path[-1])
            open(sys.path[-1] + "/further.py", "w").write("here = True")
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            atexit.register(lambda: open({str(left)!r}, "a").write(f"{{os.getpid()}} "))
        """,
        asks="""
            import os, signal
            def told():
                import further
                return os.environ["SHARED"], further.here, signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        """,
    )
    with CallableTask(script, preload=["shared"]) as task:
        assert task.get("told").result() == ("yes", True, True)
        pid = task.pid
        server = psutil.Process(pid).parent()
    assert server is not None
    assert become(lambda: [] if server.is_running() else [server])
    assert left.read_text().split() == [str(pid)], "run at the end of the child, and nowhere else"


def test_children_draw_different_numbers(write: Write) -> None:
    random = "import os\nseeds = []\ndef seed(): seeds.append(os.getpid())\n"
    write(**{"numpy/__init__": "", "numpy/random": random})
    script = write(draws="import random, numpy.random as n\ndef draw(): return random.random(), n.seeds\n")
    with CallableTask(script, preload=["random", "numpy.random"]) as task:
        first, seeds = task.get("draw").result()
        assert seeds == [task.pid]
        task.restart().result()
        assert task.get("draw").result()[0] != first


def test_a_changed_file_is_read_by_the_next_child(write: Write) -> None:
    script = write(shared="value = 'old'\n", asks=ASKS)
    with CallableTask(script, preload=["shared"]) as task:
        assert task.get("value", "value").result() == "old"
        write(shared="value = 'newer'\n")
        task.reload().result()
        assert task.get("value", "value").result() == "newer"


def test_a_server_that_was_killed_is_followed_by_one_with_the_same_imports(write: Write) -> None:
    script = write(shared=IMPORTED_BY, asks=ASKS)
    with CallableTask(script, preload=["shared"]) as task:
        before, _ = task.get("who").result()
        ended = task.wait_for("exit")
        psutil.Process(before).kill()
        ended.result()
        after, child = task.get("who").result()
        assert after not in (before, child)


# -- what cannot be shared -------------------------------------------------------------------------

REFUSED = {
    "raises": ("1 / 0", "ZeroDivisionError"),
    "leaves": ("raise SystemExit(3)", "SystemExit"),
    "dies": ("import os; os._exit(3)", "died over the import"),
    "threads": ("import threading\nthreading.Timer(60, print).start()", "threads"),
    "listens": ("import socket\nlistener = socket.socket()", "descriptors"),
    "runs": ("import subprocess\nchild = subprocess.Popen(['sleep', '60'])", "process"),
    "forks": ("import os\nos.fork()", "process"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shared_is_refused_by_name(write: Write, name: str) -> None:
    code, why = REFUSED[name]
    script = write(**{name: code}, asks="def one(): return 1\n")
    task = CallableTask(script, preload=["json", name])
    with pytest.raises(StartError, match="preload") as refused:
        task.start().result()
    assert repr(name) in str(refused.value)
    assert why in str(refused.value)


def test_a_module_that_is_not_there_is_named(write: Write) -> None:
    task = CallableTask(write(asks="def one(): return 1\n"), preload=["not_there"])
    with pytest.raises(StartError, match=r"(?s)'not_there' could not be imported.*ModuleNotFoundError"):
        task.start().result()


def test_an_import_without_end_is_named_when_the_start_has_taken_too_long(write: Write) -> None:
    script = write(hangs="import threading\nthreading.Event().wait()\n", asks="def one(): return 1\n")
    task = CallableTask(script, preload=["hangs"], start_timeout=0.1)
    (hanging,) = become(lambda: [each for each in connection._preloaded.values() if each._importing == "'hangs'"])
    with pytest.raises(StartError, match="start_timeout") as failed:
        task.start().result()
    assert any("'hangs'" in note for note in failed.value.__notes__)
    assert hanging._process is not None
    os.kill(hanging._process.pid, 9)


def test_what_fails_among_the_imports_of_a_script_fails_in_the_child(write: Write) -> None:
    script = write(asks="import not_there\n")
    with pytest.raises(StartError) as failed:
        CallableTask(script, preload=True).start().result()
    assert isinstance(failed.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("launcher", ["spawn", "fork"])
def test_a_launcher_whose_children_share_nothing_is_refused(write: Write, launcher: str) -> None:
    with pytest.raises(ValueError, match="preload needs launcher='forkserver'"):
        CallableTask(write(asks=""), preload=True, launcher=launcher)
