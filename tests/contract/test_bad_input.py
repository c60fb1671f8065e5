"""Bad input gets an error with a name, and nothing is lost by it."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
from support import KITCHEN, T, script

from relieve_py import (
    AlreadyRunning,
    CallableTask,
    CloudWorker,
    DecodeError,
    EncodeError,
    ForkTask,
    MethodNotFound,
    QueueWorker,
    RestartPolicy,
    RetryPolicy,
    ScriptTask,
    StartError,
    State,
    TaskDied,
    Worker,
    fork,
)
from relieve_py.remote import Remote

# -- scripts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def (:\n", "SyntaxError"),
        ("import relieve_py_does_not_exist\n", "ModuleNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(4)\n", "SystemExit"),
        ("def start(*args): raise LookupError('no')\n", "LookupError"),
        ("import os\nos._exit(5)\n", "exit code 5"),
        ("import os\nos.kill(os.getpid(), 9)\n", "SIGKILL"),
    ],
)
def test_a_broken_script_fails_start_by_name_and_the_task_can_be_started_once_it_is_mended(
    launcher: str, tmp_path: Path, text: str, error: str
) -> None:
    path = tmp_path / "mended.py"
    path.write_text(text)
    task = CallableTask(path, launcher=launcher)
    with pytest.raises(StartError, match=error):
        task.start().result(T)
    assert task.state is State.FAILED
    path.write_text("def fine(): return 'fine'\n")
    task.start().result(T)
    assert task.get("fine").result(T) == "fine"
    task.stop().result(T)


@pytest.mark.parametrize("cls", [CallableTask, ScriptTask])
@pytest.mark.parametrize("target", ["no/such/script.py", "no.such.module"])
def test_a_missing_script_fails_start_by_name(launcher: str, cls: type, target: str) -> None:
    task = cls(target, launcher=launcher)
    with pytest.raises(StartError, match=target.rpartition("/")[2].split(".")[0]):
        task.start().result(T)


def test_a_broken_container_fails_start_by_name(launcher: str) -> None:
    for container, text in (
        ("containers:broken", "this container is broken"),
        ("containers:no_such", "no_such"),
        ("no_such_module:setup", "no_such_module"),
    ):
        task = CallableTask(KITCHEN, containers=[container], launcher=launcher)
        with pytest.raises(StartError, match=text):
            task.start().result(T)


def test_a_start_that_never_ends_is_cut_off_by_start_timeout(launcher: str) -> None:
    task = CallableTask(script("never_ready.py"), start_timeout=0.4, launcher=launcher)
    with pytest.raises(StartError, match="start_timeout"):
        task.start().result(T)
    assert task.exit is not None
    assert task.exit.forced


def test_a_working_directory_that_is_not_there_fails_start_by_name(launcher: str, tmp_path: Path) -> None:
    task = CallableTask(KITCHEN, cwd=tmp_path / "nowhere", launcher=launcher)
    with pytest.raises(StartError, match="nowhere"):
        task.start().result(T)


# -- options at construction -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": 3}, TypeError),
        ({"name": ""}, TypeError),
        ({"args": "text"}, TypeError),
        ({"args": 3}, TypeError),
        ({"restart": "yes"}, TypeError),
        ({"env": ["A=1"]}, TypeError),
        ({"env": {"A": 1}}, TypeError),
        ({"env": {"A=B": "1"}}, ValueError),
        ({"cwd": 3}, TypeError),
        ({"containers": "pkg.mod:setup"}, TypeError),
        ({"containers": [3]}, TypeError),
        ({"interfaces": [object()]}, TypeError),
        ({"launcher": "rocket"}, ValueError),
        ({"launcher": 3}, TypeError),
        ({"serializer": "morse"}, ValueError),
        ({"serializer": object()}, TypeError),
        ({"ready": "later"}, ValueError),
        ({"start_timeout": "soon"}, TypeError),
        ({"start_timeout": -1}, ValueError),
        ({"kill_timeout": None}, TypeError),
        ({"kill_timeout": float("nan")}, ValueError),
        ({"colour": "red"}, TypeError),
    ],
)
def test_a_wrong_option_of_a_task_is_refused_by_name(options: dict[str, Any], error: type[Exception]) -> None:
    (name,) = options
    for cls in (CallableTask, ScriptTask):
        with pytest.raises(error, match=name):
            cls(KITCHEN, **options)
    if name not in ("args", "restart"):
        with pytest.raises(error, match=name):
            fork(KITCHEN, **options)


@pytest.mark.parametrize("target", [None, 3, "", b"bytes"])
def test_what_is_no_script_is_refused(target: Any) -> None:
    with pytest.raises(TypeError, match="script"):
        CallableTask(target)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": 0}, ValueError),
        ({"size": "4"}, TypeError),
        ({"strategy": "no-such"}, ValueError),
        ({"strategy": object()}, TypeError),
        ({"max_pending": 0}, ValueError),
        ({"max_pending": 1.5}, TypeError),
        ({"when_full": "explode"}, ValueError),
        ({"retries": -1}, ValueError),
        ({"retries": "many"}, TypeError),
        ({"name": 3}, TypeError),
        ({"colour": "red"}, TypeError),
    ],
)
def test_a_wrong_option_of_a_cloud_worker_is_refused_by_name(options: dict[str, Any], error: type[Exception]) -> None:
    (name,) = options
    with pytest.raises(error, match=name):
        CloudWorker(CallableTask(KITCHEN), **options)


def test_a_wrong_option_of_a_queue_worker_or_a_call_or_a_policy_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        QueueWorker(concurrency=0)
    with pytest.raises(TypeError, match="concurrency"):
        QueueWorker().concurrency = "2"
    task = CallableTask(KITCHEN)
    for options, error in (
        ({"timeout": "soon"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"retries": -1}, ValueError),
        ({"poison_after": 0}, ValueError),
        ({"colour": "red"}, TypeError),
    ):
        (name,) = options
        with pytest.raises(error, match=name):
            task.options(**options)
    for keywords, error in (
        ({"mode": "sometimes"}, ValueError),
        ({"max_restarts": -1}, ValueError),
        ({"within": "long"}, TypeError),
        ({"backoff": 0.5}, ValueError),
        ({"delay": -1}, ValueError),
        ({"max_delay": None}, TypeError),
    ):
        (name,) = keywords
        with pytest.raises(error, match=name):
            RestartPolicy(**keywords)
    for keywords, error in (({"max": -1}, ValueError), ({"on": (3,)}, TypeError), ({"delay": -1}, ValueError)):
        (name,) = keywords
        with pytest.raises(error, match=name):
            RetryPolicy(**keywords)


def test_what_is_no_task_or_of_the_wrong_kind_is_refused(launcher: str) -> None:
    for cls in (Worker, QueueWorker, CloudWorker):
        with pytest.raises(TypeError, match=r"'task\.py'"):
            cls("task.py")
        with pytest.raises(TypeError, match=rf"give them one by one, as in {cls.__name__}\(\*tasks\)"):
            cls([CallableTask(KITCHEN)])
    wrapped = ForkTask(fork(script("answer.py"), launcher=launcher))
    try:
        for refuses in (QueueWorker, CloudWorker):
            with pytest.raises(TypeError, match="ForkTask"):
                refuses(wrapped)
        with pytest.raises(TypeError, match="CallableTask"):
            CloudWorker(ScriptTask(script("answer.py")))
        with pytest.raises(TypeError, match="fork"):
            ForkTask("answer.py")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="CallableTask"):
            Worker(wrapped).broadcast_get("data")
    finally:
        wrapped.kill().result(T)


def test_wrong_names_of_methods_events_and_listeners_are_refused(kitchen: CallableTask) -> None:
    for use in (kitchen.get, kitchen.call, kitchen.stream):
        with pytest.raises(TypeError, match="3"):
            use(3)
    for name, error in ((3, TypeError), ("", TypeError), ("exit", ValueError)):
        with pytest.raises(error):
            kitchen.send(name)
    with pytest.raises(TypeError, match="callable"):
        kitchen.on("event", 3)
    with pytest.raises(AlreadyRunning):
        kitchen.start().result(T)


# -- calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(inspect.signature(Remote.options).parameters)[1:])
def test_an_option_that_is_given_as_an_argument_of_the_function_is_told_from_one(
    kitchen: CallableTask, name: str
) -> None:
    with pytest.raises(TypeError) as caught:
        kitchen.get("add", 1, 2, **{name: 1}).result(T)
    assert caught.value.__notes__ == [f"{name} is an option of the call: options({name}=...).get(...)"]
    with pytest.raises(TypeError) as caught:
        kitchen.get("add", 1, 2, speed=1).result(T)
    assert not hasattr(caught.value, "__notes__")


def test_a_method_that_does_not_exist_names_what_was_asked_for_and_what_there_is(kitchen: CallableTask) -> None:
    with pytest.raises(MethodNotFound, match="ecco") as caught:
        kitchen.get("ecco").result(T)
    assert caught.value.asked == "ecco"
    assert "echo" in caught.value.available
    assert "echo" in str(caught.value)
    for private in ("_notes", "__name__"):
        with pytest.raises(MethodNotFound):
            kitchen.get(private).result(T)


class Holder:
    """Has a part that nothing can send."""

    def __init__(self) -> None:
        self.fine = 1
        self.inner = {"frame": sys._getframe()}


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((sys._getframe(),), {}, "args[0]"),
        ((1, [2, (sys._getframe(),)]), {}, "args[1][1][0]"),
        ((), {"key": {"a": sys._getframe()}}, "kwargs['key']['a']"),
        ((Holder(),), {}, "args[0].inner['frame']"),
    ],
)
def test_an_argument_that_cannot_be_sent_is_named_by_its_path_and_no_child_is_touched(
    kitchen: CallableTask, args: Any, kwargs: Any, path: str
) -> None:
    for use in (kitchen.get, kitchen.call, kitchen.stream):
        with pytest.raises(EncodeError) as caught:
            use("echo", *args, **kwargs)
        assert caught.value.path == path
        assert path in str(caught.value)
    if not kwargs:
        with pytest.raises(EncodeError):
            kitchen.send("event", *args)
    never = CallableTask(KITCHEN)
    with pytest.raises(EncodeError):
        never.get("echo", *args, **kwargs)
    assert never.state is State.NEW


def test_tasks_workers_and_replies_are_refused_as_a_whole_and_by_name(kitchen: CallableTask) -> None:
    worker = CloudWorker(CallableTask(KITCHEN), name="cloud")
    for part, name in ((kitchen, kitchen.name), (worker, "cloud"), (kitchen.get("echo"), "call .* of echo")):
        with pytest.raises(EncodeError, match=f"{name}.* cannot be sent to another process") as caught:
            kitchen.get("echo", {"part": part})
        assert caught.value.path == "args[0]['part']"


def test_start_arguments_that_cannot_be_sent_are_refused_by_path() -> None:
    task = CallableTask(KITCHEN, args=(1, sys._getframe()))
    with pytest.raises(EncodeError, match=r"args\[1\]"):
        task.start()
    assert task.state is State.NEW


def test_a_result_that_cannot_be_sent_or_rebuilt_is_that_calls_error_and_costs_no_child(kitchen: CallableTask) -> None:
    pid = kitchen.pid
    with pytest.raises(EncodeError, match="result"):
        kitchen.get("unsendable").result(T)
    with pytest.raises(EncodeError, match="stream"):
        kitchen.get("rows", 3).result(T)
    with pytest.raises(DecodeError, match="cannot be rebuilt") as caught:
        kitchen.get("unbuildable").result(T)
    assert isinstance(caught.value.__cause__, ImportError)
    assert kitchen.get("pid").result(T) == pid


def test_garbage_on_the_channel_replaces_only_that_child(launcher: str, caplog: pytest.LogCaptureFixture) -> None:
    with CloudWorker(CallableTask(KITCHEN, launcher=launcher), size=2) as worker:
        bad, good = worker
        pids = bad.pid, good.pid
        ready = bad.wait_for("ready")
        reply = bad.get("write_garbage")
        queued = [worker.get("echo", n) for n in range(10)]
        with pytest.raises(TaskDied):
            reply.result(T)
        assert [reply.result(T) for reply in queued] == list(range(10))
        ready.result(T)
        assert bad.pid != pids[0]
        assert good.pid == pids[1]
        assert (bad.restarts, good.restarts) == (1, 0)
        assert bad.get("echo", "probe").result(T) == "probe"
    assert "broke the protocol" in caplog.text
