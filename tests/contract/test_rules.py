"""The twelve rules that always hold, each by its number, on every launcher where it applies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import signal_child, wait_gone
from support import KITCHEN, T, heard, script

import relieve_py
from relieve_py import (
    CallableTask,
    CallCancelled,
    CallTimeout,
    CloudWorker,
    EncodeError,
    MethodNotFound,
    NotRunning,
    PoisonCall,
    RecyclePolicy,
    RestartPolicy,
    RetriesExhausted,
    RetryPolicy,
    StartError,
    State,
    Stopped,
    StrategyError,
    TaskDied,
    Worker,
    WorkerFull,
)

Program = Callable[..., "subprocess.Popen[str]"]


def hanging(task: Any, tag: str | None = None) -> tuple[Any, int]:
    """A call that runs and will not end, and the pid of the child that runs it."""
    began = task.wait_for("hanging")
    reply = task.get("hang", tag)
    _, pid = began.result(T)
    return reply, pid


# -- 1: every Reply settles ------------------------------------------------------------------------


@pytest.mark.rule(1)
def test_rule_1_every_reply_settles_on_death(launcher: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher) as task:
        for method in ("kill_itself", "leave_at_once", "leave"):
            args = () if method == "kill_itself" else (3,)
            with pytest.raises(TaskDied):
                task.get(method, *args).result(T)
            assert task.call(method, *args).result(T) is None, "it was accepted"
            with pytest.raises(TaskDied):
                list(task.stream(method, *args))
        assert task.get("echo", "probe").result(T) == "probe"


@pytest.mark.rule(1)
def test_rule_1_every_reply_settles_on_stop_and_on_kill(launcher: str) -> None:
    for end in ("stop", "kill"):
        task = CallableTask(KITCHEN, launcher=launcher, kill_timeout=0.2)
        running, _ = hanging(task)
        queued = [task.get("echo", 1), task.call("echo", 1)]
        stream = task.stream("rows", 5)
        event = task.wait_for("never")
        ended = getattr(task, end)()
        for reply in queued:
            with pytest.raises(Stopped):
                reply.result(T)
        with pytest.raises(Stopped):
            list(stream)
        with pytest.raises(TaskDied):
            running.result(T)
        with pytest.raises(Stopped):
            event.result(T)
        assert ended.result(T).signal == ("SIGKILL" if end == "kill" else "SIGTERM")
        with pytest.raises(Stopped):
            task.get("echo").result(T)


@pytest.mark.rule(1)
def test_rule_1_every_reply_settles_on_a_bad_script(launcher: str) -> None:
    task = CallableTask(script("missing.py"), launcher=launcher)
    replies = [task.get("anything"), task.call("anything"), task.wait_for("anything")]
    stream = task.stream("anything")
    for reply in replies:
        with pytest.raises(StartError, match=r"missing\.py"):
            reply.result(T)
    with pytest.raises(StartError, match=r"missing\.py"):
        list(stream)
    with pytest.raises(NotRunning, match=r"missing\.py"):
        task.get("anything").result(T)


@pytest.mark.rule(1)
def test_rule_1_every_reply_settles_on_a_missing_method(kitchen: CallableTask) -> None:
    for use in (kitchen.get, kitchen.call):
        with pytest.raises(MethodNotFound, match="no_such"):
            use("no_such").result(T)
    with pytest.raises(MethodNotFound, match="no_such"):
        list(kitchen.stream("no_such"))


@pytest.mark.rule(1)
def test_rule_1_every_reply_settles_on_a_full_queue(launcher: str) -> None:
    with CloudWorker(
        CallableTask(KITCHEN, launcher=launcher, kill_timeout=0.2), max_pending=1, when_full="drop_oldest"
    ) as worker:
        running, _ = hanging(worker)
        oldest = worker.get("echo", 1)
        newest = worker.get("echo", 2)
        with pytest.raises(WorkerFull):
            oldest.result(T)
        running.cancel()
        assert newest.result(T) == 2


@pytest.mark.rule(1)
def test_rule_1_every_reply_settles_at_interpreter_exit(launcher: str, program: Program) -> None:
    code = f"""
        import atexit, relieve_py
        replies = []
        atexit.register(lambda: print(*(type(reply.exception(0)).__name__ for reply in replies)))
        task = relieve_py.CallableTask({KITCHEN!r}, launcher={launcher!r}, kill_timeout=0.2)
        began = task.wait_for("hanging")
        replies += [task.get("hang"), task.get("echo", 1)]
        began.result(20)
    """
    out, err = program(code).communicate(timeout=T)
    assert out == "TaskDied Stopped\n", err
    assert "Traceback" not in err


@pytest.mark.rule(1)
@pytest.mark.parametrize("what", ["start", "stop", "kill", "restart"])
def test_rule_1_nothing_waits_when_no_other_thread_runs_any_more(what: str, program: Program) -> None:
    code = f"""
        import builtins, sys, relieve_py
        class Keeper:
            def __init__(self):
                self.task = relieve_py.CallableTask({KITCHEN!r})
                self.task.get("echo", 1).result(20)
            def __del__(self):
                self.task.{what}()
                print(sys.is_finalizing(), flush=True)
        builtins.keeper = Keeper()
    """
    out, err = program(code).communicate(timeout=T)
    assert out == "True\n", err


# -- 2: what survives restarts ---------------------------------------------------------------------


@pytest.mark.rule(2)
def test_rule_2_listeners_start_arguments_and_membership_survive_restarts(launcher: str) -> None:
    task = CallableTask(KITCHEN, name="member", args=("a", 1), launcher=launcher)
    with Worker(task) as worker:
        on_task, on_worker = heard(task, "note"), heard(worker, "note")
        for n, end in enumerate((lambda: signal_child(task, signal.SIGKILL), lambda: task.restart())):
            ready = task.wait_for("ready")
            end()
            ready.result(T)
            assert task.get("start_args").result(T) == ("a", 1)
            note = worker.wait_for("note")
            task.get("tell", "note", n).result(T)
            note.result(T)
        assert worker.task("member") is task
        assert task.restarts == 2
    assert on_task.wait(2) == on_worker.wait(2) == [(0,), (1,)]


# -- 3: no calls for the dying ---------------------------------------------------------------------


@pytest.mark.rule(3)
def test_rule_3_a_stopping_task_receives_no_further_calls(
    launcher: str, gate: Callable[[], Any], tmp_path: Path
) -> None:
    door, notes = gate(), tmp_path / "notes"
    a, b = (CallableTask(KITCHEN, name=name, launcher=launcher) for name in "ab")
    with CloudWorker(a, b) as worker:
        waiting = a.wait_for("waiting")
        running = a.get("wait_for_file", door.path)
        waiting.result(T)
        stopped = a.stop()
        with pytest.raises(Stopped):
            a.get("note", str(notes), "late").result(T)
        assert {worker.get("pid").result(T) for _ in range(4)} == {b.pid}
        door.open("finished")
        assert running.result(T) == "finished", "what runs may finish"
        assert stopped.result(T).code == 0
    assert not notes.exists()


@pytest.mark.rule(3)
def test_rule_3_a_removed_or_stopped_task_is_never_restarted(launcher: str) -> None:
    removed, stopped = (CallableTask(KITCHEN, name=name, launcher=launcher) for name in ("removed", "stopped"))
    with Worker(removed, stopped) as worker:
        pids = [signal_child(removed, 0), signal_child(stopped, 0)]
        replies = [worker.remove(removed), stopped.stop()]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for reply in replies:
            reply.result(T)
        assert [task.state for task in (removed, stopped)] == [State.STOPPED] * 2
        assert [task.restarts for task in (removed, stopped)] == [0, 0]
        assert list(worker.tasks) == ["stopped"]


# -- 4: at most once -------------------------------------------------------------------------------


@pytest.mark.rule(4)
def test_rule_4_the_running_call_fails_with_what_killed_it_and_the_others_run_in_order(
    launcher: str, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    with CallableTask(KITCHEN, name="victim", launcher=launcher) as task:
        running, pid = hanging(task)
        queued = [task.get("note", str(notes), str(n)) for n in range(10)]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TaskDied, match="hang") as caught:
            running.result(T)
        died = caught.value
        assert (died.task, died.pid, died.exit_code, died.signal) == ("victim", pid, None, "SIGKILL")
        assert (died.call_id, died.method) == (running.id, "hang")
        assert died.uptime > 0
        assert [reply.result(T) for reply in queued] == [str(n) for n in range(10)]
    assert notes.read_text().split() == [str(n) for n in range(10)], "each once, and in order"


@pytest.mark.rule(4)
def test_rule_4_a_worker_redelivers_what_never_began_to_other_tasks(launcher: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with CloudWorker(CallableTask(KITCHEN, launcher=launcher), size=2) as worker:
        runs = [hanging(worker, str(n)) for n in range(2)]
        queued = [worker.get("note", str(notes), str(n)) for n in range(10)]
        for _, pid in runs:
            os.kill(pid, signal.SIGKILL)
        for reply, _ in runs:
            with pytest.raises(TaskDied):
                reply.result(T)
        assert [reply.result(T) for reply in queued] == [str(n) for n in range(10)]
    assert sorted(notes.read_text().split()) == [str(n) for n in range(10)]


@pytest.mark.rule(4)
def test_rule_4_at_most_once_by_default_and_again_only_if_the_policy_says_so(launcher: str, tmp_path: Path) -> None:
    path = str(tmp_path / "died")
    with CallableTask(KITCHEN, launcher=launcher) as task:
        with pytest.raises(TaskDied):
            task.get("die_once", path, 1).result(T)
        os.unlink(path)
        assert task.options(retries=1).get("die_once", path, 2).result(T) == 2


@pytest.mark.rule(4)
def test_rule_4_a_call_that_has_killed_enough_children_is_refused(launcher: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher) as task:
        with pytest.raises(PoisonCall) as caught:
            task.options(retries=10, poison_after=2).get("kill_itself").result(T)
        assert caught.value.deaths == 2
        with pytest.raises(PoisonCall, match="has killed 1 child and is not tried again"):
            task.options(retries=10, poison_after=1).get("kill_itself").result(T)
        assert isinstance(caught.value.__cause__, TaskDied)
        assert task.get("echo", "probe").result(T) == "probe"
        assert task.restarts == 3


# -- 5: retries ------------------------------------------------------------------------------------


@pytest.mark.rule(5)
def test_rule_5_one_failure_uses_one_retry(launcher: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher) as task:
        for retries in (1, 2):
            restarts = task.restarts
            with pytest.raises(RetriesExhausted) as caught:
                task.options(retries=retries, poison_after=None).get("kill_itself").result(T)
            assert [type(cause) for cause in caught.value.causes] == [TaskDied] * (retries + 1)
            assert task.get("echo", "probe").result(T) == "probe"
            assert task.restarts - restarts == retries + 1


@pytest.mark.rule(5)
def test_rule_5_what_the_users_code_raises_is_not_retried_unless_asked(kitchen: CallableTask, tmp_path: Path) -> None:
    path = str(tmp_path / "failed")
    with pytest.raises(ConnectionError):
        kitchen.options(retries=5).get("fail_once", path, 1).result(T)
    os.unlink(path)
    asked = RetryPolicy(max=1, on=ConnectionError)
    assert kitchen.options(retries=asked).get("fail_once", path, 2).result(T) == 2
    with pytest.raises(RetriesExhausted) as caught:
        kitchen.options(retries=RetryPolicy(max=2, on=ValueError)).get("fail").result(T)
    assert [type(cause) for cause in caught.value.causes] == [ValueError] * 3


# -- 6: capacity -----------------------------------------------------------------------------------


@pytest.mark.rule(6)
def test_rule_6_capacity_comes_back_whatever_happens(launcher: str) -> None:
    def fails(error: type[BaseException], reply: Any) -> None:
        with pytest.raises(error):
            reply.result(T)

    def abandon(remote: Any) -> None:
        stream = remote.stream("endless")
        assert [next(stream) for _ in range(100)] == list(range(100))
        stream.close()

    def cancel(remote: Any) -> None:
        reply, _ = hanging(worker)
        assert reply.cancel()
        fails(CallCancelled, reply)

    with CloudWorker(CallableTask(KITCHEN, launcher=launcher), size=1) as worker:
        ways: list[Callable[[], object]] = [
            lambda: fails(ValueError, worker.get("fail")),
            lambda: fails(MethodNotFound, worker.get("no_such")),
            lambda: fails(EncodeError, worker.get("unsendable")),
            lambda: fails(relieve_py.DecodeError, worker.get("unbuildable")),
            lambda: fails(CallTimeout, worker.options(timeout=0.1).get("hang")),
            lambda: fails(CallTimeout, worker.options(timeout=0.1).get("forever")),
            lambda: cancel(worker),
            lambda: abandon(worker),
            lambda: fails(TaskDied, worker.get("kill_itself")),
            lambda: fails(TaskDied, worker.get("leave", 3)),
        ]
        for way in ways:
            way()
            assert worker.options(timeout=T).get("echo", "probe").result(T) == "probe"
            worker.drain().result(T)
            assert worker.stats().running == worker.stats().queued == 0
            assert [task.load for task in worker] == [0]


# -- 7: grace timers -------------------------------------------------------------------------------


@pytest.mark.rule(7)
def test_rule_7_a_grace_timer_belongs_to_one_process(launcher: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher, kill_timeout=0.3) as task:
        running, pid = hanging(task)
        restarted = task.restart()
        os.kill(pid, signal.SIGKILL)
        restarted.result(T)
        with pytest.raises(TaskDied):
            running.result(T)
        # The timer of the first child is due while the second naps.
        assert task.get("nap", 0.5).result(T) == task.pid
        assert task.restarts == 1


@pytest.mark.rule(7)
def test_rule_7_the_interrupt_timer_of_a_call_belongs_to_one_process(launcher: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher, kill_timeout=0.3) as task:
        reply, pid = hanging(task)
        reply.cancel()
        os.kill(pid, signal.SIGKILL)
        assert task.get("nap", 0.5).result(T) == task.pid


@pytest.mark.rule(7)
def test_rule_7_a_pid_is_never_signalled_after_it_was_reaped(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = CallableTask(KITCHEN, launcher=launcher)
    task.start().result(T)
    exit = task.stop().result(T)
    signalled: list[tuple[Any, ...]] = []
    for place, name in ((os, "kill"), (os, "killpg"), (signal, "pidfd_send_signal")):
        monkeypatch.setattr(place, name, lambda *args: signalled.append(args))
    with pytest.raises(NotRunning):
        task.send_signal(signal.SIGTERM)
    assert task.kill().result(T) == exit
    assert task.stop().result(T) == exit
    assert signalled == []


# -- 8: the host process ---------------------------------------------------------------------------

SETTINGS = """
def settings():
    import locale, logging, os, signal, socket, sys, threading, warnings
    mask = os.umask(0)
    os.umask(mask)
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return (
        {s: signal.getsignal(s) for s in signal.valid_signals()},
        wakeup, mask, sys.excepthook, sys.unraisablehook, threading.excepthook, locale.setlocale(locale.LC_ALL),
        os.getcwd(), list(sys.path), dict(os.environ), sys.stdin, sys.stdout, sys.stderr, list(sys.argv),
        socket.getdefaulttimeout(), sys.getrecursionlimit(), sys.getswitchinterval(), list(warnings.filters),
        logging.getLogger().handlers[:], logging.getLogger().level, logging.getLogger("relieve_py").level,
        os.getpgrp(), signal.pthread_sigmask(signal.SIG_BLOCK, []),
    )
"""


@pytest.mark.rule(8)
def test_rule_8_no_handler_hook_or_global_setting_of_the_host_is_changed(launcher: str, program: Program) -> None:
    code = (
        SETTINGS
        + f"""
import relieve_py, os
from relieve_py import ipc
import attrs, dill, pluggy, psutil
before = settings()
with relieve_py.CloudWorker(relieve_py.CallableTask({KITCHEN!r}, launcher={launcher!r}), size=2) as worker:
    worker.get("echo", lambda: 1).result(20)
    for call in ("fail",), ("leave", 3), ("leave_at_once", 4), ("kill_itself",), ("interrupt_itself",):
        try:
            worker.get(*call).result(20)
        except (ValueError, relieve_py.RelieveError) as error:
            print(type(error).__name__)
try:
    with relieve_py.CallableTask({script("broken_start.py")!r}, launcher={launcher!r}) as task:
        pass
except relieve_py.StartError as error:
    print(type(error).__name__)
after = settings()
print([n for n, (a, b) in enumerate(zip(before, after)) if a != b])
print("alive")
"""
    )
    out, err = program(code).communicate(timeout=T)
    assert out.split() == [
        "ValueError", "TaskDied", "TaskDied", "TaskDied", "RemoteError", "StartError", "[]", "alive",
    ], err  # fmt: skip


# -- 9: crash loops --------------------------------------------------------------------------------


@pytest.mark.rule(9)
def test_rule_9_a_crash_loop_is_bounded_and_backed_off(launcher: str) -> None:
    policy = RestartPolicy(max_restarts=3, within=60, delay=0, backoff=2)
    task = CallableTask(KITCHEN, launcher=launcher, restart=policy)
    exits, restarts, errors = heard(task, "exit"), heard(task, "restart"), heard(task, "error")
    task.on("ready", lambda event: os.kill(event.pid, signal.SIGKILL))
    failed = task.wait_for("failed")
    task.start().result(T)
    failed.result(T)
    task.wait().result(T)
    assert task.state is State.FAILED
    assert len(exits.wait(4)) == 4
    assert task.restarts == 3
    delays = [event.delay for (event,) in restarts.wait(3)]
    assert delays[0] == 0
    assert 0 < delays[1] < delays[2]
    with pytest.raises(NotRunning, match="max_restarts=3"):
        task.get("echo").result(T)
    assert "max_restarts=3" in str(errors.wait(1)[-1][0].error)


@pytest.mark.rule(9)
@pytest.mark.parametrize("name", ["broken_start.py", "broken_import.py", "missing.py"])
def test_rule_9_a_script_that_cannot_start_fails_start_once_with_its_traceback(launcher: str, name: str) -> None:
    task = CallableTask(script(name), launcher=launcher)
    exits = heard(task, "exit")
    with pytest.raises(StartError) as caught:
        task.start().result(T)
    raised = caught.value.__cause__
    assert isinstance(raised, Exception)
    assert type(raised).__name__ in str(caught.value)
    remote = raised.__cause__
    assert isinstance(remote, relieve_py.errors.RemoteTraceback)
    assert "Traceback" in remote.traceback
    if name != "missing.py":
        assert name in remote.traceback
    assert (task.state, task.restarts, len(exits.wait(1))) == (State.FAILED, 0, 1)


# -- 10: idle timers -------------------------------------------------------------------------------


@pytest.mark.rule(10)
def test_rule_10_no_timer_of_a_task_ends_running_work(launcher: str) -> None:
    start_timeout = 0.15
    failed: BaseException | None = TimeoutError()
    while failed is not None:  # the shortest in which a child starts here: an interpreter takes its time when all do
        start_timeout *= 2
        task = CallableTask(KITCHEN, launcher=launcher, start_timeout=start_timeout, kill_timeout=0.1)
        failed = task.start().exception(T)
    with task:
        pid = task.pid
        assert task.get("nap", start_timeout + 0.2).result(T) == pid
        assert (task.pid, task.restarts) == (pid, 0)


@pytest.mark.rule(10)
def test_rule_10_an_idle_timer_never_ends_running_work(launcher: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher, recycle=RecyclePolicy(idle=0.2)) as task:
        pid = task.pid
        assert task.get("nap", 0.6).result(T) == pid


# -- 11: nobody is left ----------------------------------------------------------------------------


@pytest.mark.rule(11)
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux: grandchildren are found by /proc")
def test_rule_11_no_child_or_grandchild_outlives_a_killed_parent(launcher: str, program: Program) -> None:
    code = f"""
        import relieve_py
        tasks = [relieve_py.CallableTask({KITCHEN!r}, launcher={launcher!r}) for _ in range(2)]
        for task in tasks:
            task.start().result(20)
            print(task.pid, task.get("spawn_sleeper").result(20), task.get("spawn_daemon").result(20))
        tasks[0].get("hang_uninterruptibly")
        print("up", flush=True)
        input()
    """
    with program(code) as parent:
        assert parent.stdout is not None
        pids = []
        for line in iter(parent.stdout.readline, "up\n"):
            assert line, parent.communicate()[1]
            pids += [int(word) for word in line.split()]
        parent.kill()
        assert len(pids) == 6
        kinds = ["child", "grandchild", "daemon"] * 2
        assert [kind for kind, pid in zip(kinds, pids, strict=True) if not wait_gone(pid, 2)] == []


@pytest.mark.rule(11)
@pytest.mark.parametrize("kind", ["spawn_sleeper", "spawn_daemon"])
def test_rule_11_no_grandchild_outlives_a_killed_child(launcher: str, kind: str) -> None:
    with CallableTask(KITCHEN, launcher=launcher) as task:
        for kill in (lambda: task.kill(), lambda: signal_child(task, signal.SIGKILL)):
            if task.state is State.STOPPED:
                task.start().result(T)
            grandchild = task.get(kind).result(T)
            exited = task.wait_for("exit")
            kill()
            exited.result(T)
            assert wait_gone(grandchild, 2)


# -- 12: bad listeners, strategies and plug-ins ----------------------------------------------------


@pytest.mark.rule(12)
def test_rule_12_a_listener_that_raises_or_blocks_stops_nobody_elses_work(
    launcher: str, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    with CallableTask(KITCHEN, launcher=launcher) as bad, CallableTask(KITCHEN, launcher=launcher) as good:
        try:

            def raises(*args: Any) -> None:
                raise RuntimeError("a bad listener")

            bad.on("note", raises)
            also = heard(bad, "note")
            got = bad.wait_for("note")
            bad.get("tell", "note", 1).result(T)
            got.result(T)
            assert also.wait(1) == [(1,)]
            bad.on("note", lambda *args: release.wait())
            bad.get("tell", "note", 2).result(T)
            assert bad.get("echo", "still").result(T) == "still"
            got = good.wait_for("note")
            good.get("tell", "note", 3).result(T)
            assert got.result(T) == (3,)
        finally:
            release.set()
    assert "a bad listener" in caplog.text


class Raises:
    """A strategy with a fault."""

    name = "raises"

    def push(self, task: Any) -> None: ...

    def remove(self, task: Any) -> None: ...

    def start(self, task: Any, call: Any) -> None: ...

    def end(self, task: Any, call: Any) -> None: ...

    def next(self, tasks: Any, call: Any) -> Any:
        if call.key == "raise":
            raise LookupError("a bad strategy")
        if call.key == "leave":
            raise SystemExit("a strategy that leaves")
        if call.key == "stranger":
            return object()
        return tasks[0]


class Blocks(Raises):
    """A strategy that waits."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def next(self, tasks: Any, call: Any) -> Any:
        self.release.wait()
        return tasks[0]


@pytest.mark.rule(12)
def test_rule_12_a_strategy_that_raises_costs_that_call_only(launcher: str) -> None:
    with CloudWorker(CallableTask(KITCHEN, launcher=launcher), strategy=Raises()) as worker:
        for key in ("raise", "leave", "stranger"):
            with pytest.raises(StrategyError, match="raises"):
                worker.options(key=key).get("echo", 1).result(T)
        assert worker.get("echo", 1).result(T) == 1


@pytest.mark.rule(12)
def test_rule_12_a_strategy_that_blocks_stops_nobody_elses_work(launcher: str) -> None:
    strategy = Blocks()
    with (
        CloudWorker(CallableTask(KITCHEN, launcher=launcher), strategy=strategy) as blocked,
        CloudWorker(CallableTask(KITCHEN, launcher=launcher)) as other,
    ):
        reply = blocked.get("echo", 1)
        try:
            assert other.get("echo", 2).result(T) == 2
            assert not reply.done()
        finally:
            strategy.release.set()
        assert reply.result(T) == 1


class BadPlugin:
    @relieve_py.hookimpl
    def relieve_event(self, task: Any, name: str, record: Any) -> None:
        raise RuntimeError("a bad plug-in")

    @relieve_py.hookimpl
    def relieve_containers(self, task: Any) -> Any:
        raise RuntimeError("a bad plug-in")


@pytest.mark.rule(12)
def test_rule_12_a_plugin_that_raises_stops_nobodys_work(launcher: str, caplog: pytest.LogCaptureFixture) -> None:
    plugin = BadPlugin()
    relieve_py.register(plugin)
    try:
        with caplog.at_level(logging.ERROR), CallableTask(KITCHEN, launcher=launcher) as task:
            assert task.get("echo", 1).result(T) == 1
    finally:
        relieve_py.unregister(plugin)
    assert "a bad plug-in" in caplog.text
