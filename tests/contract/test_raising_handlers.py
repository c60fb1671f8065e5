"""Signal handlers that raise, as Ctrl-C and many a timeout do, at each moment of what the main thread does."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moments import Moment
from processes import wait_gone
from support import T, script

from relieve_py import CallableTask, CloudWorker, RelieveError, RestartPolicy, Stopped, locks
from relieve_py.supervisor import Supervisor
from relieve_py.traffic import Traffic

MARKING = script("marking.py")
PATIENT = RestartPolicy(max_restarts=10_000, delay=0, max_delay=0)
DEEDS: dict[str, Callable[[Any, Any], object]] = {
    "get": lambda remote, mark: remote.get("mark", *mark()).result(T),
    "call": lambda remote, mark: remote.call("mark", *mark()).result(T),
    "stream": lambda remote, mark: list(remote.stream("items", 4)),
    "send": lambda remote, mark: remote.send("ignored").result(T),
    "cancel": lambda remote, mark: remote.get("mark", *mark()).cancel(),
    "map": lambda remote, mark: list(remote.map("same", range(20))),
}
STEP = {"map": 23, "stream": 2}  # only one of so many moments, where there are many


def a_task() -> CallableTask:
    return CallableTask(MARKING, restart=PATIENT)


def a_worker() -> CloudWorker:
    return CloudWorker(a_task(), size=2)


@contextlib.contextmanager
def marks(path: Path) -> Iterator[Callable[[], tuple[int, str]]]:
    """Arguments for calls that leave a mark each; no call may leave two."""
    numbers = itertools.count()
    yield lambda: (next(numbers), str(path))
    doubled = [mark for mark, times in Counter(path.read_text().split()).items() if times > 1]
    assert not doubled


@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("make", [a_task, a_worker])
def test_what_a_handler_raises_at_any_moment_costs_no_more_than_one_child(
    make: Any, deed: str, error: type[BaseException], tmp_path: Path
) -> None:
    with marks(tmp_path / "marks") as mark, make() as remote:
        DEEDS[deed](remote, mark)
        first = 0 if error is TimeoutError else 1
        for number in itertools.count(first, 2 * STEP.get(deed, 1)):
            others = [remote.get("mark", *mark()) for _ in range(3)]
            moment, alarm = Moment(number, error("of the program")), None
            try:
                with moment:
                    DEEDS[deed](remote, mark)
            except error as raised:
                alarm = raised
            if moment.where is None:
                break
            assert alarm is moment.error or moment.dropped, f"swallowed at {moment.where}"
            nothing_is_left(remote, others, mark, moment.where)
    assert number > 20


LIVES: dict[str, Callable[[Any], object]] = {
    "start": lambda remote: remote.start().result(T),
    "first call": lambda remote: remote.get("same", 1).result(T),
    "stop": lambda remote: remote.start().result(T) and remote.stop().result(T),
    "kill": lambda remote: remote.start().result(T) and remote.kill().result(T),
    "restart": lambda remote: remote.start().result(T) and remote.restart().result(T),
}


@pytest.mark.parametrize("deed", LIVES)
@pytest.mark.parametrize("make", [a_task, a_worker])
def test_what_a_handler_raises_while_something_starts_or_stops_leaves_it_to_be_stopped_and_started(
    make: Any, deed: str
) -> None:
    LIVES[deed](first := make())  # what is imported at the first time is no moment
    first.kill().result(T)
    for number in itertools.count(0, 11):
        remote, moment, alarm = make(), Moment(number, TimeoutError("of the program")), None
        try:
            with moment:
                LIVES[deed](remote)
        except TimeoutError as raised:
            alarm = raised
        if moment.where is None:
            break
        assert alarm is moment.error or moment.dropped, f"swallowed at {moment.where}"
        can_be_stopped_and_started(remote, moment.where)
    remote.kill().result(T)
    assert number > 50


@pytest.mark.parametrize("make", [a_task, a_worker])
def test_ctrl_c_within_the_stop_that_ends_a_block_kills_what_runs(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = make()
    stop = remote.stop

    def interrupted() -> Any:
        monkeypatch.setattr(remote, "stop", stop)
        raise KeyboardInterrupt

    remote.__enter__()
    pids = [task.pid for task in (remote if isinstance(remote, CloudWorker) else [remote])]
    monkeypatch.setattr(remote, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        remote.__exit__(None, None, None)
    assert [pid for pid in pids if not wait_gone(pid, T)] == []


@pytest.mark.parametrize("make", [a_task, a_worker])
def test_ctrl_c_within_the_start_of_a_block_leaves_nothing_running(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = make()
    start = remote.start

    def interrupted() -> Any:
        start().result(T)
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), remote:
        pytest.fail("it was entered")
    tasks = remote if isinstance(remote, CloudWorker) else [remote]
    for task in tasks:
        assert task.wait().result(T) is not None


def can_be_stopped_and_started(remote: Any, where: str) -> None:
    try:
        with contextlib.suppress(Stopped):  # it is stopping already
            remote.restart().result(T)
        remote.stop().result(T)
        remote.start().result(T)
        assert remote.get("same", where).result(T) == where
        remote.kill().result(T)
    except TimeoutError:
        pytest.fail(f"something hangs after an exception at {where}")


def nothing_is_left(remote: Any, others: list[Any], mark: Callable[[], tuple[int, str]], where: str) -> None:
    """The calls before have ended, if only by the loss of their child, and the next one finds all in order."""
    try:
        remote.get("mark", *mark()).result(T)
        for reply in others:
            with contextlib.suppress(RelieveError):
                reply.result(T)
        remote.drain(T).result(T)
    except TimeoutError:
        pytest.fail(f"something hangs after an exception at {where}")
    stats = remote.stats()
    assert (stats.running, stats.queued) == (0, 0), where


def test_what_a_second_handler_raises_while_the_first_is_mended_leaves_no_call_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first while calls are given out, the second before anybody was asked to go on with that."""
    post, submit, raised = Supervisor.post, Traffic.submit, []

    def raise_once(deed: Any, *args: Any) -> None:
        if locks.on_main_thread() and deed not in raised:
            raised.append(deed)
            raise TimeoutError("of the program")
        deed(*args)

    with marks(tmp_path / "marks") as mark, a_worker() as worker:
        worker.pause()
        others = [worker.get("mark", *mark()) for _ in range(20)]
        with monkeypatch.context() as patch:
            patch.setattr(Traffic, "submit", lambda *args: raise_once(submit, *args))
            patch.setattr(Supervisor, "post", lambda *args: raise_once(post, *args))
            with pytest.raises(TimeoutError):
                worker.resume()
        assert raised == [submit, post]
        nothing_is_left(worker, others, mark, "two moments")


@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
def test_what_a_handler_raises_while_many_are_given_out_has_none_run_twice(
    error: type[BaseException], tmp_path: Path
) -> None:
    with marks(tmp_path / "marks") as mark, a_worker() as worker:
        for reply in [worker.get("mark", *mark()) for _ in range(100)]:
            reply.result(T)  # it is known how short they are: from now on they travel together
        for number in itertools.count(0 if error is TimeoutError else 1, 3):
            worker.pause()
            others = [worker.get("mark", *mark()) for _ in range(20)]
            moment, alarm = Moment(number, error("of the program")), None
            try:
                with moment:
                    worker.resume()
            except error as raised:
                alarm = raised
            if moment.where is None:
                break
            assert alarm is moment.error or moment.dropped, f"swallowed at {moment.where}"
            worker.resume()
            nothing_is_left(worker, others, mark, moment.where)
    assert number > 50
