"""A task and its hostile child, from the first launch to the last breath."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import cbor2
from eyes import no_complaints
from puppets import PATIENCE, READY, Action, Puppet, PuppetLauncher

from relieve_py import CallableTask, NotRunning, RelieveError, RestartPolicy, State

ANSWERS = {"json": b'["answer"]', "cbor": cbor2.dumps(["answer"]), "pickle": pickle.dumps(["answer"], 5)}
"""What honest children say, by serializer."""
FOR_EVER = RestartPolicy(max_restarts=1_000_000, max_delay=0.01)


def nothing() -> None:
    """What the tasks of the stage would run."""


@attrs.frozen(kw_only=True)
class Play:
    """What happens in one example."""

    serializer: str
    first: Sequence[str] = ("get", "call", "stream", "send")
    """What is asked of the child, in this order."""
    ready_first: bool = True
    """It says READY before it turns hostile."""
    actions: Sequence[Action] = ()
    code: int | None = 0
    """Its exit code, if it is not killed before; None: it dies by a signal."""
    reads_itself: bool = False
    """A caller waits in ``result()``, and so reads the channel itself, from the beginning."""


def run(play: Play) -> list[object]:
    """Play it: every call ends, and a child that is honest follows. Returns what the calls gave or raised."""
    launcher = PuppetLauncher(ANSWERS[play.serializer])
    task = CallableTask(
        nothing,
        launcher=launcher,
        serializer=play.serializer,
        restart=FOR_EVER,
        kill_timeout=0.1,
        start_timeout=PATIENCE,
    )
    try:
        started = task.start()
        asked = [(how, _ask(task, how)) for how in play.first]
        assert launcher.there.wait(PATIENCE), "no child was launched"
        puppet = launcher.made[0]
        early = _wait_early(asked[0][1]) if play.reads_itself and asked and asked[0][0] != "stream" else None
        if play.ready_first:
            puppet.send(READY)
            started.result(PATIENCE)
        for action in play.actions:
            puppet.act(action)
        puppet.die(play.code, None if play.code is not None else 9)
        _wait_until(lambda: task.exit is not None)
        outcomes = [_outcome(how, reply) for how, reply in asked]
        if early is not None:
            early.join(PATIENCE)
            assert not early.is_alive(), "a caller that reads for itself hangs"
        _probe(task)
        return outcomes
    finally:
        started.exception(PATIENCE)
        task.kill().result(PATIENCE)


def _ask(task: CallableTask, how: str) -> Any:
    return getattr(task, how)("something") if how != "options" else task.options(retries=2).get("something")


def _wait_early(reply: Any) -> threading.Thread:
    def wait() -> None:
        with contextlib.suppress(RelieveError):
            reply.result(PATIENCE)

    thread = threading.Thread(target=wait, name="early")
    thread.start()
    return thread


def _outcome(how: str, reply: Any) -> object:
    """What it gave or raised. Only named errors are raised, and TimeoutError would be one that hangs."""
    try:
        return list(reply) if how == "stream" else reply.result(PATIENCE)
    except RelieveError as error:
        return error


def _wait_until(so: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while not so():
        assert time.monotonic() < deadline, "an exit is not noticed"
        pause.wait(0.0005)


def _probe(task: CallableTask) -> None:
    """An honest child follows, by itself or when asked for."""
    try:
        reply = task.get("probe")
        reply.result(PATIENCE)
    except NotRunning:
        assert task.state in (State.FAILED, State.STOPPED)
        task.start().result(PATIENCE)
        task.get("probe").result(PATIENCE)
    assert task.state is State.READY


class Bystander:
    """Another task, with an honest child, which nothing that happens here may touch."""

    def __init__(self) -> None:
        self._launcher = PuppetLauncher(ANSWERS["json"], hostile=0)
        self._task = CallableTask(nothing, launcher=self._launcher, serializer="json")
        self._task.get("probe").result(PATIENCE)

    def check(self) -> None:
        """It still answers, and is the same child."""
        self._task.get("probe").result(PATIENCE)
        assert len(self._launcher.made) == 1, "the child of another task was replaced"

    def stop(self) -> None:
        """Be no more."""
        self._task.kill().result(PATIENCE)


# -- by hand ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def played(**options: Any) -> Iterator[tuple[CallableTask, Puppet]]:
    """A task whose first child is ready, and in the hands of the test; those after it are honest."""
    options = {"serializer": "json", "kill_timeout": 0.1, **options}
    launcher = PuppetLauncher(ANSWERS["cbor" if options["serializer"] == "cbor" else "json"])
    task = CallableTask(nothing, launcher=launcher, restart=FOR_EVER, **options)
    started = task.start()
    assert launcher.there.wait(PATIENCE)
    puppet = launcher.made[0]
    puppet.send(READY)
    started.result(PATIENCE)
    with no_complaints():
        try:
            yield task, puppet
        finally:
            puppet.die(0, None)
            task.kill().result(PATIENCE)


def replaced(task: CallableTask, puppet: Puppet) -> None:
    """The child is killed, and an honest one answers in its place."""
    assert puppet.over.wait(PATIENCE), "the child lives on"
    assert task.get("probe").result(PATIENCE) == ["answer"]
