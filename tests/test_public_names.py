"""The public names, and what it costs to import them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import relieve_py

NAMES = {
    "AlreadyRunning",
    "CallCancelled",
    "CallTimeout",
    "CallableTask",
    "CloudWorker",
    "DecodeError",
    "ElasticSize",
    "EncodeError",
    "Event",
    "Feed",
    "Exit",
    "ForkTask",
    "LimitExceeded",
    "Limits",
    "MethodNotFound",
    "NotRepeatable",
    "NotRunning",
    "Outcome",
    "Output",
    "OutputLine",
    "PendingCall",
    "PoisonCall",
    "ProtocolError",
    "QueueWorker",
    "RecyclePolicy",
    "RelieveError",
    "RemoteError",
    "Reply",
    "RestartPolicy",
    "RetriesExhausted",
    "RetryPolicy",
    "ScriptTask",
    "StartError",
    "State",
    "Stopped",
    "CalledFromHandler",
    "StrategyError",
    "Stream",
    "Task",
    "TaskDied",
    "Worker",
    "WorkerFull",
    "current_event",
    "feed",
    "fork",
    "hookimpl",
    "ipc",
    "register",
    "stop_all",
    "unregister",
    "usable_cpus",
}
HEAVY = {"attrs", "attr", "pluggy", "asyncio", "dill", "psutil", "numpy", "click", "rich", "cbor2"}


def test_the_public_names_are_these() -> None:
    assert set(relieve_py.__all__) == NAMES
    assert len(relieve_py.__all__) == len(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_there_and_shown(name: str) -> None:
    assert getattr(relieve_py, name) is not None
    assert name in dir(relieve_py)
    assert getattr(relieve_py, name) is getattr(relieve_py, name)


def test_a_star_import_gives_them_all() -> None:
    names: dict[str, object] = {}
    exec("from relieve_py import *", names)
    assert names.keys() - {"__builtins__"} == NAMES


def test_what_type_checkers_see_is_what_there_is() -> None:
    tree = ast.parse(Path(relieve_py.__file__).read_text())
    seen = {
        alias.asname or alias.name
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == NAMES


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'relieve_py' has no attribute 'Taks'"):
        relieve_py.Taks  # noqa: B018 # the access is what is tested


def test_every_error_and_every_documented_name_has_a_docstring() -> None:
    for name in NAMES - {"hookimpl"}:  # pluggy's marker object
        assert (getattr(relieve_py, name).__doc__ or "").strip(), name


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after it."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=30, env=path())
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def path() -> dict[str, str]:
    """Without site (-S) nothing that is installed can have loaded anything; so say where it all is."""
    return {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}


@pytest.mark.parametrize(
    "statement",
    [
        "import relieve_py",
        "from relieve_py import ipc",
        "import relieve_py.errors",
        "import relieve_py.wire",
        "import relieve_py.serializers",
        "import relieve_py.channel",
        "import relieve_py.child.runtime",
        "import relieve_py.child.boot",
    ],
)
def test_what_a_child_needs_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


def test_the_package_itself_loads_none_of_its_modules() -> None:
    found = {name for name in loaded_by("import relieve_py") if name.startswith("relieve_py")}
    assert found == {"relieve_py"}


EACH_FIRST = """
import asyncio, importlib.metadata, os, sys
import attrs, pluggy, psutil  # so that each copy has only our own modules to load
assert not [name for name in sys.modules if name.startswith("relieve_py")]
for home in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        __import__(home)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, home
"""


def test_each_name_can_be_the_first_to_be_loaded() -> None:
    """No name depends on another having been asked for before: each home imports alone."""
    homes = [f"relieve_py.{home}" for home in sorted(relieve_py._HOMES)]
    command = [sys.executable, "-S", "-c", EACH_FIRST, *homes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=path())
    assert (done.returncode, done.stderr) == (0, "")
