"""Every wrong use of ``relieve`` is one clear line on standard error and exit status 2."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import Terminal, relieve, relieve_each, script


def wrong(*args: object, **keywords: object) -> str:
    """The complaint, without its line end."""
    done = relieve(*args, **keywords)  # type: ignore[arg-type] # keywords of Popen
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("\n")
    return done.stderr[:-1]


@pytest.fixture
def task(tmp_path: Path) -> str:
    return script(tmp_path / "task.py", "def one(text): return text\ndef two(text): return text\n")


COMPLAINTS = [
    ((), "relieve: Missing command."),
    (("mop",), "relieve: No such command 'mop'."),
    (("--no-such",), "relieve: No such option"),
    (("map",), "relieve map: Missing argument 'SCRIPT[:FUNCTION]'."),
    (("run",), "relieve run: Missing argument 'SCRIPT...'."),
    (("queue",), "relieve queue: Missing argument 'SCRIPT'."),
    (("map", "no/such.py", "x"), "relieve: no such script: no/such.py"),
    (("map", "no_such.py:f", "x"), "relieve: no such script: no_such.py"),
    (("map", "what ever", "x"), "relieve: no such script: 'what ever' is neither a file nor a dotted module name"),
    (("map", "json:", "x"), "relieve: 'json:' names no function after the colon; it is SCRIPT or SCRIPT:FUNCTION"),
    (("run", "no_such.py"), "relieve: no such script: no_such.py"),
    (("queue", "no_such.py", "x"), "relieve: no such script: no_such.py"),
    (("map", "json", "-n", "0"), "relieve map: Invalid value for '-n': 0 is not in the range x>=1."),
    (("map", "json", "-n", "two"), "relieve map: Invalid value for '-n': 'two' is not a valid integer range."),
    (("map", "json", "--timeout", "0"), "relieve map: Invalid value for '--timeout': 0 is not a number of seconds"),
    (("map", "json", "--timeout", "nan"), "relieve map: Invalid value for '--timeout': nan is not a number"),
    (("map", "json", "--timeout", "soon"), "relieve map: Invalid value for '--timeout': 'soon' is not a valid"),
    (("map", "json", "--retries", "-1"), "relieve map: Invalid value for '--retries': -1 is not in the range"),
    (("queue", "json", "-c", "0"), "relieve queue: Invalid value for '-c': 0 is not in the range x>=1."),
    (("run", "json", "-n", "0"), "relieve run: Invalid value for '-n': 0 is not in the range x>=1."),
    (("run", "json", "--restart", "maybe"), "relieve run: Invalid value for '--restart': 'maybe' is not one of"),
    (("map", "json", "--strategy", "luck", "x"), "relieve: strategy 'luck' is not known; there are: "),
    (("map", "json", "--launcher", "rocket", "x"), "relieve: launcher 'rocket' is not known; there are: fork, "),
    (("run", "json", "--launcher", "rocket"), "relieve: launcher 'rocket' is not known; there are: fork, "),
    (("queue", "json", "--launcher", "rocket"), "relieve: launcher 'rocket' is not known; there are: fork, "),
]


@pytest.fixture(scope="module")
def complaints() -> dict[tuple[str, ...], tuple[int, str, str]]:
    """Exit status, output and errors of each."""
    commands = [args for args, _ in COMPLAINTS]
    return dict(zip(commands, relieve_each(commands), strict=True))


@pytest.mark.parametrize(("args", "complaint"), COMPLAINTS, ids=[" ".join(args) or "no" for args, _ in COMPLAINTS])
def test_one_line_says_what_is_wrong(
    complaints: dict[tuple[str, ...], tuple[int, str, str]], args: tuple[str, ...], complaint: str
) -> None:
    status, out, err = complaints[args]
    assert (status, out) == (2, "")
    assert err.startswith(complaint)
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_a_function_that_is_not_there(task: str) -> None:
    assert wrong("map", f"{task}:three", "x", "y") == f"relieve: {task} has no function 'three'; it exports: one, two"


def test_no_default_function(task: str) -> None:
    expected = f"relieve: {task} has no default function; name one as SCRIPT:FUNCTION; it exports: one, two"
    assert wrong("map", task, given="x\n") == expected


@pytest.mark.parametrize("command", ["map", "run", "queue"])
def test_a_script_with_a_syntax_error(tmp_path: Path, command: str) -> None:
    target = script(tmp_path / "broken.py", "def f(:\n")
    args = (target,) if command == "run" else (target, "x")
    first, *details = wrong(command, *args).splitlines()
    assert first.startswith(f"relieve: {target} cannot be started: SyntaxError: invalid syntax")
    assert details[-1].strip() == "SyntaxError: invalid syntax"
    assert all(line.startswith("  ") for line in details)
    assert len(details) <= 6


def test_a_script_whose_start_raises(tmp_path: Path) -> None:
    target = script(
        tmp_path / "broken.py", "def start(): raise RuntimeError('no database')\ndef default(text): return 1\n"
    )
    first, *details = wrong("map", target, given="x\n").splitlines()
    assert first == f"relieve: {target} cannot be started: RuntimeError: no database"
    assert details[-1].strip() == "RuntimeError: no database"


@pytest.mark.parametrize("command", ["map", "run"])
def test_a_module_that_is_not_there(command: str) -> None:
    args = ("no.such.module",) if command == "run" else ("no.such.module", "x")
    assert wrong(command, *args).startswith("relieve: no.such.module cannot be started: ModuleNotFoundError: No module")


@pytest.mark.parametrize("command", ["map", "queue"])
def test_no_input_and_a_terminal(task: str, command: str) -> None:
    terminal = Terminal()
    try:
        line = wrong(command, task, stdin=terminal.slave, given=None)
    finally:
        terminal.close()
    assert line == "relieve: no input: give arguments, or lines on standard input, which is a terminal"


def test_no_input_and_no_standard_input(task: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m relieve_py map {task} <&-"], capture_output=True, text=True, check=False
    )
    expected = "relieve: no input: there are no arguments, and standard input is closed\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_standard_input_that_cannot_be_read(task: str, tmp_path: Path) -> None:
    with (tmp_path / "only written").open("w") as file:
        line = wrong("map", f"{task}:one", stdin=file, given=None)
    assert line == "relieve: standard input cannot be read: Bad file descriptor"


def test_without_the_extra_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["click"] = sys.modules["rich"] = None
import importlib.util
known = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ("click", "rich") else known(name)
from relieve_py.cli import main
main(["map", "json", "x"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = "relieve: the command needs click and rich, install with: pip install 'relieve-py[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_help_and_version_are_no_wrong_use() -> None:
    helps = [["--help"], ["map", "-h"], ["run", "--help"], ["queue", "--help"], ["top", "-h"]]
    *helped, version = relieve_each([*helps, ["--version"]])
    for status, out, err in helped:
        assert (status, err) == (0, "")
        assert out.startswith("Usage: relieve")
    assert version == (0, f"relieve {importlib.metadata.version('relieve-py')}\n", "")


@pytest.mark.parametrize("args", [(), ("map", "json", "-n", "0"), ("run", "no_such.py")], ids=" ".join)
def test_a_program_of_its_own_says_and_exits_the_same(args: tuple[str, ...]) -> None:
    (expected,) = relieve_each([args])
    done = relieve(*args)
    assert (done.returncode, done.stdout, done.stderr) == expected
