"""What a user may say of a task: each wrong option is refused at construction, by name."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import attrs
import pytest

from relieve_py import CallableTask, ForkTask, Limits, Output, RecyclePolicy, RestartPolicy, ScriptTask
from relieve_py.options import TaskKeywords, TaskOptions, read_options


class Attachable:
    def attach(self, task: Any) -> None: ...


def without_address(value: Any) -> str:
    """The same in every process, as running tests side by side demands."""
    return re.sub(r" at 0x\w+", "", repr(value))


GOOD: dict[str, list[Any]] = {
    "name": [None, "web"],
    "args": [(), [1, 2], range(3), {"a": 1}],
    "restart": [None, True, False, RestartPolicy(mode="never")],
    "env": [None, {}, {"A": "1", "EMPTY": ""}],
    "cwd": [None, "/", Path("/")],
    "containers": [(), ["pkg.mod:setup"], [print, "pkg"]],
    "interfaces": [(), [Attachable()]],
    "start_timeout": [None, 0, 1.5, 30],
    "kill_timeout": [0, 0.5, 10],
    "limits": [None, Limits(), Limits(rss=1 << 30, cpu_seconds=0.5)],
    "dump_stacks": [True, False],
    "threads": [None, 1, 8],
    "preload": [False, True, [], ["json"], ("pkg.mod", "a/script.py", Path("b.py"))],
    "spares": [0, 1, 100],
    "log": [None, "INFO", 0, 15],
    "output": ["inherit", "capture", "log", "a.log", Path("log"), print, Output("x.log", max_bytes=1)],
    "ready": [None, "call"],
    "concurrency": [1, 2, 1000],
    "heartbeat": [None, 0.5, 30],
    "busy_timeout": [None, 0.5, 30],
    "recycle": [RecyclePolicy(), RecyclePolicy(max_calls=1)],
    "launcher": ["forkserver", "spawn", "fork"],
    "serializer": ["pickle", "json"],
}
WRONG: list[tuple[str, Any, type[Exception]]] = [
    ("name", "", TypeError),
    ("name", 3, TypeError),
    ("args", "text", TypeError),
    ("args", b"bytes", TypeError),
    ("args", 3, TypeError),
    ("restart", "always", TypeError),
    ("restart", 1, TypeError),
    ("env", {"A": 1}, TypeError),
    ("env", {1: "A"}, TypeError),
    ("env", ["A=1"], TypeError),
    ("env", {"A=B": "1"}, ValueError),
    ("env", {"": "1"}, ValueError),
    ("env", {"A": "nul\0"}, ValueError),
    ("env", {"A": "\ud800"}, ValueError),
    ("cwd", 3, TypeError),
    ("cwd", b"/", TypeError),
    ("containers", "pkg.mod:setup", TypeError),
    ("containers", [3], TypeError),
    ("interfaces", [object()], TypeError),
    ("interfaces", Attachable(), TypeError),
    ("heartbeat", 0, ValueError),
    ("heartbeat", "often", TypeError),
    ("busy_timeout", 0, ValueError),
    ("busy_timeout", "long", TypeError),
    ("recycle", 100, TypeError),
    ("ready", "soon", ValueError),
    ("ready", True, ValueError),
    ("start_timeout", -1, ValueError),
    ("start_timeout", "3", TypeError),
    ("start_timeout", True, TypeError),
    ("start_timeout", float("nan"), ValueError),
    ("limits", {"rss": 1}, TypeError),
    ("limits", 1 << 30, TypeError),
    ("dump_stacks", None, TypeError),
    ("dump_stacks", 1, TypeError),
    ("spares", True, TypeError),
    ("spares", 1.5, TypeError),
    ("spares", -1, ValueError),
    ("spares", 101, ValueError),
    ("preload", "json", TypeError),
    ("preload", None, TypeError),
    ("preload", [3], TypeError),
    ("preload", [""], TypeError),
    ("preload", ["not a module"], ValueError),
    ("threads", 0, ValueError),
    ("log", "info", ValueError),
    ("log", True, TypeError),
    ("log", -1, ValueError),
    ("output", "captrue", ValueError),
    ("output", None, TypeError),
    ("output", 1, TypeError),
    ("threads", 1.5, TypeError),
    ("threads", True, TypeError),
    ("kill_timeout", -0.1, ValueError),
    ("kill_timeout", None, TypeError),
    ("kill_timeout", [1], TypeError),
]


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name, values in GOOD.items() for value in values], ids=without_address
)
def test_right_options_are_taken(option: str, value: Any) -> None:
    assert hasattr(read_options("CallableTask", {option: value}), option)


@pytest.mark.parametrize(("option", "value", "error"), WRONG, ids=without_address)
def test_wrong_options_are_refused_by_name(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        read_options("CallableTask", {option: value})


@pytest.mark.parametrize("kind", [CallableTask, ScriptTask])
@pytest.mark.parametrize(("option", "value", "error"), WRONG, ids=without_address)
def test_tasks_refuse_them_at_construction(kind: Any, option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        kind("task.py", **{option: value})


@pytest.mark.parametrize("kind", [CallableTask, ScriptTask, ForkTask])
def test_an_unknown_option_is_refused_with_those_that_there_are(kind: Any) -> None:
    with pytest.raises(TypeError, match="nmae") as caught:
        kind("task.py", nmae="web")
    assert kind is ForkTask or "name" in str(caught.value).replace("nmae", "")


@pytest.mark.parametrize("option", ["launcher", "serializer"])
def test_an_unknown_choice_is_refused_by_name(option: str) -> None:
    with pytest.raises((TypeError, ValueError), match=option):
        CallableTask("task.py", **{option: "no such thing"})


def test_the_examples_are_of_every_option() -> None:
    names = {field.name for field in attrs.fields(TaskOptions)}
    assert GOOD.keys() == names
    assert set(typing.get_type_hints(TaskKeywords)) == names


def test_what_the_user_gave_is_copied() -> None:
    env, args = {"A": "1"}, [1]
    options = read_options("CallableTask", {"env": env, "args": args})
    env["A"] = "2"
    args.append(2)
    assert (options.env, options.args) == ({"A": "1"}, (1,))


def test_a_path_becomes_text() -> None:
    assert read_options("CallableTask", {"cwd": Path("/tmp")}).cwd == "/tmp"


def test_the_defaults_are_those_that_are_documented() -> None:
    options = read_options("CallableTask", {})
    assert (options.launcher, options.serializer, options.start_timeout, options.kill_timeout) == (
        "forkserver",
        "pickle",
        30.0,
        5.0,
    )
    assert options.restart is None
    assert options.limits == Limits()
    assert options.dump_stacks is True
