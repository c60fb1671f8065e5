"""Case 53 of the fault table: every option of everything has values that are refused at construction, by its name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from faulting import FAULTY

from relieve_py import CallableTask, CloudWorker, QueueWorker, RestartPolicy, RetryPolicy, ScriptTask, fork
from relieve_py.options import TaskKeywords

NAN, INF = float("nan"), float("inf")
NO_NUMBERS: list[Any] = ["1", None, True, [1]]
WRONG_SECONDS: list[Any] = ["1", True, [1], -0.1, NAN, INF]
NO_TEXTS: list[Any] = [3, "", b"text", ["a"]]

TASK: dict[str, list[Any]] = {
    "name": NO_TEXTS,
    "args": ["text", b"bytes", 3],
    "restart": ["always", 1, object()],
    "env": [["A=1"], "A=1", {"A": 1}, {1: "A"}, {"A=B": "1"}, {"": "1"}, {"A": "\0"}],
    "cwd": [3, b"/", ["/"]],
    "containers": ["pkg.mod:setup", [3], 3],
    "interfaces": [object(), [object()], 3],
    "launcher": ["rocket", "", 3, None, object()],
    "serializer": ["morse", "", 3, None, object()],
    "ready": ["later", 3, True],
    "start_timeout": WRONG_SECONDS,
    "kill_timeout": [*WRONG_SECONDS, None],
    "heartbeat": [*WRONG_SECONDS, 0],
    "busy_timeout": [*WRONG_SECONDS, 0],
    "recycle": [None, 100, True, "calls"],
    "limits": [100, True, {"rss": 100}],
    "dump_stacks": [None, 1, "yes"],
    "output": [None, 1, "captrue", "", b"a.log"],
    "concurrency": ["4", 0, -1, 1.5, True, None, 1001],
    "log": ["info", "", True, 1.5, -1],
    "threads": ["4", 0, -1, 1.5, True],
    "spares": ["1", None, True, 1.5, -1, 101],
    "preload": ["json", None, 3, [3], [""], ["no module"]],
}
POLICY: dict[str, list[Any]] = {
    "mode": ["sometimes", None, 3],
    "max_restarts": [*NO_NUMBERS, -1, 1.5],
    "within": [*NO_NUMBERS, -1, NAN],
    "delay": [*NO_NUMBERS, -1, NAN],
    "backoff": [*NO_NUMBERS, 0.9, NAN],
    "max_delay": [*NO_NUMBERS, -1, NAN],
}
RETRY: dict[str, list[Any]] = {
    "max": [*NO_NUMBERS, -1, 1.5],
    "on": [3, "ValueError", [3], ["ValueError"], int],
    "delay": [*NO_NUMBERS, -1, NAN],
    "backoff": [*NO_NUMBERS, 0.9, NAN],
}
CALL: dict[str, list[Any]] = {
    "timeout": ["1", True, [1], 0, -1, NAN],
    "queue_timeout": ["1", True, [1], 0, -1, NAN],
    "retries": ["many", -1, 1.5, True],
    "poison_after": ["3", 0, -1, 1.5, True],
    "priority": ["high", None, 1.5, True],
}
CLOUD: dict[str, list[Any]] = {
    "size": ["4", 0, -1, 1.5, True],
    "strategy": ["no-such", "", 3, None, object()],
    "max_pending": ["10", 0, -1, 1.5, True],
    "when_full": ["explode", None, 3],
    "retries": ["many", -1, 1.5, True],
    "name": NO_TEXTS,
    "watch": [1, "task.py", None, ["/no/such/path"]],
}
QUEUE: dict[str, list[Any]] = {"concurrency": ["2", 0, -1, 1.5, True, None], "name": NO_TEXTS}

MAKERS: dict[str, tuple[Callable[..., Any], dict[str, list[Any]]]] = {
    "CallableTask": (lambda **options: CallableTask(FAULTY, **options), TASK),
    "ScriptTask": (lambda **options: ScriptTask(FAULTY, **options), TASK),
    "fork": (
        lambda **options: fork(FAULTY, **options),
        {name: wrong for name, wrong in TASK.items() if name not in ("args", "restart")},
    ),
    "RestartPolicy": (RestartPolicy, POLICY),
    "RetryPolicy": (RetryPolicy, RETRY),
    "options": (lambda **options: CallableTask(FAULTY).options(**options), CALL),
    "CloudWorker": (lambda **options: CloudWorker(CallableTask(FAULTY), **options), CLOUD),
    "QueueWorker": (QueueWorker, QUEUE),
}


def refusal(make: Callable[..., Any], name: str, value: Any) -> str:
    """How that option is refused."""
    try:
        make(**{name: value})
    except (TypeError, ValueError) as error:
        return str(error)
    return "it was accepted"


@pytest.mark.fault(53)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_wrong_option_is_refused_at_construction_by_name(kind: str) -> None:
    make, wrong = MAKERS[kind]
    refusals = [(name, value, refusal(make, name, value)) for name, values in wrong.items() for value in values]
    assert [entry for entry in refusals if not re.search(rf"\b{entry[0]}\b", entry[2])] == []
    with pytest.raises(TypeError, match="colour"):
        make(colour="red")


@pytest.mark.fault(53)
@pytest.mark.parametrize(
    ("known", "wrong", "anything_goes"),
    [
        (TaskKeywords.__annotations__, TASK, set()),
        (inspect.signature(RestartPolicy).parameters, POLICY, set()),
        (inspect.signature(RetryPolicy).parameters, RETRY, set()),
        (inspect.signature(CallableTask.options).parameters, CALL, {"self", "key"}),
        (inspect.signature(CloudWorker).parameters, CLOUD, {"tasks"}),
        (inspect.signature(QueueWorker).parameters, QUEUE, {"tasks"}),
    ],
    ids=["task", "RestartPolicy", "RetryPolicy", "options", "CloudWorker", "QueueWorker"],
)
def test_no_option_is_forgotten_here(known: Any, wrong: dict[str, list[Any]], anything_goes: set[str]) -> None:
    """Who adds an option adds values to the table above that it refuses."""
    assert set(known) - anything_goes == set(wrong)
