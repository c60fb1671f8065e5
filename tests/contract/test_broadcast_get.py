"""A call of every task: each outcome with its task, in the order of the tasks, whatever became of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from processes import signal_child
from support import KITCHEN, T, heard, script

from relieve_py import CallableTask, CloudWorker, EncodeError, MethodNotFound, ScriptTask, Stopped, TaskDied, Worker


def named(*names: str, of: str = KITCHEN) -> list[CallableTask]:
    return [CallableTask(of, name=name, kill_timeout=0.2) for name in names]


@pytest.mark.parametrize("kind", [Worker, CloudWorker])
def test_each_outcome_is_with_its_task_in_their_order(kind: Callable[..., Any]) -> None:
    tasks = named("carla", "anna", "berta")
    with kind(*tasks) as worker:
        outcomes = worker.broadcast_get("task_name").result(T)
        assert [(outcome.task, outcome.value) for outcome in outcomes] == [
            ("carla", "carla"),
            ("anna", "anna"),
            ("berta", "berta"),
        ]
        assert [outcome.error for outcome in outcomes] == [None] * 3
        assert [outcome.result() for outcome in outcomes] == ["carla", "anna", "berta"]


def test_every_kind_of_failure_is_the_outcome_of_its_task_and_of_no_other() -> None:
    tasks = [*named("ends", "is killed", "is restarted"), CallableTask(script("task.py"), name="has no such function")]
    with Worker(*tasks, CallableTask(KITCHEN, name="stopped")) as worker:
        worker.task("stopped").stop().result(T)
        hanging = [heard(task, "hanging") for task in tasks[:3]]
        reply = worker.broadcast_get("hang")
        for told in hanging:
            told.wait(1)
        signal_child(tasks[0], signal.SIGUSR1)  # ends it, too
        signal_child(tasks[1], signal.SIGKILL)
        worker.task("is restarted").restart().result(T)
        outcomes = {outcome.task: outcome for outcome in reply.result(T)}
        assert list(outcomes) == ["ends", "is killed", "is restarted", "has no such function", "stopped"]
        assert outcomes["ends"].error.signal == "SIGUSR1"
        assert outcomes["is killed"].error.signal == "SIGKILL"
        assert isinstance(outcomes["is restarted"].error, TaskDied)
        assert isinstance(outcomes["has no such function"].error, MethodNotFound)
        assert isinstance(outcomes["stopped"].error, Stopped)
        with pytest.raises(MethodNotFound):
            outcomes["has no such function"].result()
        assert {outcome.value for outcome in outcomes.values()} == {None}
    with Worker(*named("one", "two")) as worker:
        errors = worker.broadcast_get("fail", "each for itself").result(T)
        assert [str(outcome.error) for outcome in errors] == ["each for itself"] * 2
        assert errors[0].error is not errors[1].error


def test_what_cannot_be_sent_or_takes_no_calls_is_refused_before_anything_is_sent() -> None:
    with Worker(*named("one", "two")) as worker:
        with pytest.raises(EncodeError):
            worker.broadcast_get("note", (n for n in "ab"), Unsendable())
        worker.add(ScriptTask(script("waits.py"), name="a program"))
        with pytest.raises(TypeError, match="'a program' is a ScriptTask"):
            worker.broadcast_get("pid")
        assert worker.drain(T).result(T) is worker


class Unsendable:
    def __reduce__(self) -> Any:
        raise TypeError("stays here")


def test_of_no_tasks_there_are_no_outcomes() -> None:
    assert Worker().broadcast_get("anything").result(T) == []
