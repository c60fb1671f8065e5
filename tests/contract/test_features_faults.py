"""Rows 97 to 113 of the feature table: faults, serialization, streams and sockets."""

from __future__ import annotations

import datetime
import gc
import json
import os
import queue
import signal
import socket
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from processes import signal_child
from support import KITCHEN, T, script

import relieve_py
from relieve_py import (
    CallableTask,
    CallTimeout,
    CloudWorker,
    EncodeError,
    NotRunning,
    OutputLine,
    RemoteError,
    RetriesExhausted,
    RetryPolicy,
    TaskDied,
    feed,
    hookimpl,
)
from relieve_py.serializers import Payload

# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.feature(97)
def test_calls_are_queued_again_when_a_task_dies() -> None:
    with CloudWorker(CallableTask(KITCHEN), size=2) as worker:
        replies = [worker.get("nap", 0.02) for _ in range(20)]
        first = next(iter(worker))
        signal_child(first, signal.SIGKILL)
        died = [reply for reply in replies if isinstance(reply.exception(T), TaskDied)]
        assert len(died) <= 1, "only the one that was running"
        assert worker.drain().result(T) is worker


@pytest.mark.feature(98)
def test_retries_are_limited() -> None:
    with CallableTask(KITCHEN) as task:
        with pytest.raises(RetriesExhausted) as caught:
            task.options(retries=1).get("kill_itself").result(T)
        assert len(caught.value.causes) == 2
        assert task.get("echo", 1).result(T) == 1
        assert task.restarts == 2


@pytest.mark.feature(99)
def test_errors_of_the_application_are_retried_when_asked(served: CallableTask, tmp_path: Path) -> None:
    policy = RetryPolicy(max=1, on=ConnectionError)
    assert served.options(retries=policy).get("fail_once", str(tmp_path / "failed"), "ok").result(T) == "ok"


@pytest.mark.feature(100)
def test_exhausted_retries_carry_every_cause(served: CallableTask) -> None:
    with pytest.raises(RetriesExhausted, match="no, again") as caught:
        served.options(retries=RetryPolicy(max=2, on=ValueError)).get("fail", "no, again").result(T)
    assert [str(cause) for cause in caught.value.causes] == ["no, again"] * 3
    assert caught.value.__cause__ is caught.value.causes[-1]


def test_a_call_that_waits_too_long_for_its_turn_fails_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    with CallableTask(KITCHEN) as task, CloudWorker(CallableTask(KITCHEN), size=1) as worker:
        for remote in (task, worker):
            running = remote.get("wait_for_file", str(tmp_path / "gate"))
            late = remote.options(queue_timeout=0.05).get("echo", 1)
            later = remote.options(queue_timeout=60).get("echo", 2)
            with pytest.raises(CallTimeout, match=r"waited for its turn longer than 0\.05 seconds \(queue_timeout\)"):
                late.result(T)
            with pytest.raises(TimeoutError, match="still has open calls after"):
                remote.drain(0.05).result(T)
            (tmp_path / "gate").write_text("now\n")
            assert (running.result(T), later.result(T)) == ("now", 2)
            assert remote.drain(T).result(T) is remote
        slow = task.options(queue_timeout=0.05).get("nap", 0.2)
        assert slow.result(T) == task.pid  # its turn had come


@pytest.mark.feature(101)
def test_a_timeout_kills_the_child_that_is_stuck() -> None:
    with CallableTask(KITCHEN, kill_timeout=0.2) as task:
        pid = task.pid
        exited = task.wait_for("exit")
        with pytest.raises(CallTimeout):
            task.options(timeout=0.1).get("hang_uninterruptibly").result(T)
        (exit,) = exited.result(T)
        assert (exit.pid, exit.signal, exit.forced) == (pid, "SIGTERM", True)
        assert task.get("pid").result(T) != pid


def test_a_child_that_comes_round_while_it_is_being_ended_gets_no_further_call() -> None:
    with CallableTask(KITCHEN, kill_timeout=0.1) as task:
        task.get("ignore_sigterm").result(T)
        pid = task.pid
        late = task.options(timeout=0.1).get("return_late", 0.35)
        innocent = task.get("nap", 0.4)
        with pytest.raises(CallTimeout):
            late.result(T)
        assert innocent.result(T) != pid
        assert task.restarts == 1


@pytest.mark.feature(102)
def test_a_call_that_could_not_be_sent_is_sent_to_the_next_child() -> None:
    with CallableTask(KITCHEN) as task:
        for n in range(5):
            signal_child(task, signal.SIGKILL)
            assert task.get("echo", n).result(T) == n, "it never began, so it is not lost"


@pytest.mark.feature(103)
def test_a_child_that_loses_the_channel_is_killed_and_replaced() -> None:
    with CallableTask(KITCHEN) as task:
        pid = task.pid
        with pytest.raises(TaskDied):
            task.get("close_all_sockets").result(T)
        assert task.get("pid").result(T) != pid


@pytest.mark.feature(104)
def test_late_replies_are_ignored() -> None:
    with CallableTask(KITCHEN) as task:
        reply = task.options(timeout=0.1).get("return_late", 0.4)
        with pytest.raises(CallTimeout):
            reply.result(T)
        assert [task.get("echo", n).result(T) for n in range(3)] == [0, 1, 2]
        assert isinstance(reply.exception(), CallTimeout)
        assert task.restarts == 0


# -- serialization ---------------------------------------------------------------------------------


@pytest.mark.feature(105)
def test_json() -> None:
    with CallableTask(KITCHEN, serializer="json") as task:
        assert task.get("echo", {"a": [1, None, "ü"]}).result(T) == {"a": [1, None, "ü"]}
        assert list(task.stream("rows", 3)) == [0, 1, 2]
        with pytest.raises(EncodeError, match=r"args\[0\]"):
            task.get("echo", object())
        with pytest.raises(RemoteError, match="broken") as caught:
            task.get("fail").result(T)
        assert caught.value.type == "ValueError"
        back = task.wait_for("note")
        task.call("tell", "note", [1]).result(T)
        assert back.result(T) == ([1],)


@pytest.mark.feature(106)
def test_richer_types_by_cbor() -> None:
    pytest.importorskip("cbor2")
    value = {"b": b"\x00\xff", "when": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), "n": 2**80}
    with CallableTask(KITCHEN, serializer="cbor") as task:
        assert task.get("echo", value).result(T) == value


class Shouting:
    """A serializer of the user: json in capitals of its own kind."""

    name = "shouting"
    any_object = False

    def encode(self, obj: Any) -> Payload:
        return Payload(b"!" + json.dumps(obj).encode())

    def decode(self, payload: Payload) -> Any:
        data = bytes(payload.data)
        assert data[:1] == b"!"
        return json.loads(data[1:])


class ShoutingPlugin:
    @hookimpl
    def relieve_serializers(self) -> Any:
        return {"shouting": Shouting}


@pytest.mark.feature(107)
def test_a_serializer_of_ones_own() -> None:
    plugin = ShoutingPlugin()
    relieve_py.register(plugin)
    try:
        for serializer in ("shouting", Shouting()):
            with CallableTask(KITCHEN, serializer=serializer) as task:
                assert task.get("echo", {"a": 1}).result(T) == {"a": 1}
    finally:
        relieve_py.unregister(plugin)


@attrs.frozen
class Point:
    x: int
    y: int


@pytest.mark.feature(106)
def test_any_python_object_by_pickle_and_code_by_dill(served: CallableTask) -> None:
    seven = 7
    for value in (Point(1, 2), {1, 2}, 1j, range(3), b"\x00" * 100_000, memoryview(bytes(40_000))):
        assert served.get("echo", value).result(T) == value
    assert served.get("echo", lambda n: n + seven).result(T)(1) == 8


# -- streams and sockets ---------------------------------------------------------------------------


@pytest.mark.feature(108)
def test_a_pool_is_a_duplex_stream(cloud: CloudWorker) -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    with cloud.pipe(iter(items.get, -1), "add") as pipe:
        for item in (1, 2, 3):
            items.put(item)
            assert next(pipe) == item + 1
        items.put(-1)
        assert list(pipe) == []


@pytest.mark.feature(109)
def test_an_output_stream_for_each_script() -> None:
    told = queue.SimpleQueue[OutputLine]()
    with CloudWorker(CallableTask(KITCHEN, output=told.put), CallableTask(script("task.py"))) as worker:
        assert worker.output("task") == worker.output("kitchen") == ()
        next(iter(worker)).get("chatter", 5).result(T)
        lines = [told.get(timeout=T).text for _ in range(2)]
        assert sorted(lines[-2:]) == ["xxxxx", "yyyyy"]
        assert {line.stream for line in worker.output("kitchen")} == {"stdout", "stderr"}
        assert worker.output("task") == ()


@pytest.mark.feature(110)
def test_a_stream_goes_with_a_request(kitchen: CallableTask) -> None:
    assert kitchen.get("sum_of", (n for n in range(1000))).result(T) == 499500
    assert kitchen.get("sum_of", feed(range(1000))).result(T) == 499500


@pytest.mark.feature(111)
def test_a_stream_in_a_response(served: CallableTask) -> None:
    stream = served.stream("endless")
    assert [next(stream) for _ in range(1000)] == list(range(1000))
    stream.close()
    broken = served.stream("rows_then_raise", 3)
    assert [next(broken) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="after the items"):
        next(broken)
    with pytest.raises(StopIteration):
        next(broken)
    assert served.get("echo", 1).result(T) == 1


@pytest.mark.feature(112)
def test_a_connected_socket_is_passed(served: CallableTask) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"for the child")
        assert served.get("read_from", theirs).result(T) == b"for the child"


@pytest.mark.feature(113)
def test_a_listening_socket_is_passed(served: CallableTask, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reply = served.get("accept_one", listener)
        with socket.create_connection(listener.getsockname(), T) as client:
            assert client.recv(64) == b"accepted"
        reply.result(T)


def test_a_program_that_is_killed_leaves_its_page(program: Callable[..., Any]) -> None:
    """Shared pages have no name in any file system, so a killed parent leaves none behind."""
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    with program(
        f"""
        import relieve_py
        task = relieve_py.CallableTask({KITCHEN!r})
        task.start().result(20)
        print("up", flush=True)
        input()
        """
    ) as parent:
        assert parent.stdout.readline() == "up\n"
        parent.kill()
    assert (set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()) <= before


@pytest.mark.parametrize("how", ["a task is stopped", "a worker is stopped", "no task is left"])
def test_a_call_that_ends_before_its_turn_is_not_kept_for_its_queue_timeout(how: str, gate: Callable[[], Any]) -> None:
    door = gate()
    with CallableTask(KITCHEN) as task, CloudWorker(CallableTask(KITCHEN)) as worker:
        remote: Any = task if how == "a task is stopped" else worker
        waiting = remote.wait_for("waiting")
        running = remote.get("wait_for_file", door.path)
        waiting.result(T)
        queued = remote.options(queue_timeout=1000).get("echo", "x" * 100_000)
        call = weakref.ref(queued._call)
        if how == "no task is left":
            next(iter(worker)).kill().result(T)
            assert isinstance(queued.exception(T), NotRunning)
        else:
            stopped = remote.stop()
            assert isinstance(queued.exception(T), NotRunning)
            door.open()
            stopped.result(T)
        running.exception(T)
    del queued, running
    for _ in range(3):
        gc.collect()
    assert call() is None
