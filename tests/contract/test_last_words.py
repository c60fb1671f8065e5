"""What a dead child leaves for its error: the end of its stderr, the stacks of its threads, and why it died."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from processes import signal_child
from support import T, heard, script

import relieve_py
from relieve_py import (
    CallableTask,
    CallCancelled,
    CallTimeout,
    CloudWorker,
    RestartPolicy,
    RetriesExhausted,
    RetryPolicy,
    ScriptTask,
    StartError,
    TaskDied,
    overtime,
    slot,
)
from relieve_py.birth import Birth
from relieve_py.blackbox import DUMP_SIGNAL
from relieve_py.exits import current_stack

LAST_WORDS = script("last_words.py")
needs_dumps = pytest.mark.skipif(DUMP_SIGNAL is None, reason="there are no real-time signals")


@pytest.fixture(scope="module", autouse=True)
def _no_choice_of_the_user() -> Iterator[None]:
    """pytest enables faulthandler, which is a choice that the children of ``fork`` would respect."""
    from _pytest.faulthandler import get_stderr_fileno

    enabled = faulthandler.is_enabled()
    faulthandler.disable()
    yield
    if enabled:
        faulthandler.enable(get_stderr_fileno())


@pytest.fixture
def task(launcher: str) -> Iterator[CallableTask]:
    """A task of last_words.py."""
    with CallableTask(LAST_WORDS, launcher=launcher, kill_timeout=0.2) as made:
        yield made


def died(task: CallableTask, method: str, *args: object) -> TaskDied:
    """The error of a call that ends its child."""
    error = task.get(method, *args).exception(T)
    assert isinstance(error, TaskDied)
    return error


def wait_until(is_so: Callable[[], bool]) -> None:
    """What appears in the shared memory is announced to nobody."""
    deadline = time.monotonic() + T
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def birth_of(task: CallableTask) -> Birth:
    """The child of a running task."""
    birth = task._slot._line.birth
    assert birth is not None
    return birth


# -- stderr ----------------------------------------------------------------------------------------


def test_what_python_code_wrote_to_stderr_is_kept(task: CallableTask) -> None:
    error = died(task, "say_all_and_die")
    said = "\n".join(error.stderr)
    for way in ("by print", "by logging", "LookupError: by a traceback"):
        assert way in said
    assert error.stderr[-1] == "unfinished"
    assert task.get("stderr_is_the_users").result(T)


def test_fifty_lines_are_carried_and_the_last_are_shown(task: CallableTask) -> None:
    error = died(task, "print_lines", 1000)
    assert error.stderr == tuple(f"line {n}" for n in range(950, 1000))
    shown = "".join(traceback.format_exception(error))
    assert "line 999" in shown
    assert "line 950" not in shown
    again = pickle.loads(pickle.dumps(error))
    assert (again.stderr, again.__notes__) == (error.stderr, error.__notes__)


def test_an_error_is_shown_once(task: CallableTask) -> None:
    error = died(task, "print_lines", 1)
    assert error.__cause__ is None
    assert "".join(traceback.format_exception(error)).count("died while it ran") == 1


def test_the_exit_record_has_them_too(task: CallableTask) -> None:
    exited = task.wait_for("exit")
    died(task, "print_lines", 3)
    (exit,) = exited.result(T)
    assert exit.stderr == ("line 0", "line 1", "line 2")
    assert "line" not in repr(exit)


def test_stderr_stays_what_it_was(task: CallableTask) -> None:
    assert task.get("stderr_is_the_users").result(T) == (2, os.isatty(2), True, "<stderr>", "backslashreplace")


def test_a_child_that_is_killed_while_it_writes_leaves_whole_lines(task: CallableTask) -> None:
    counting = task.wait_for("counting")
    reply = task.get("count_on_stderr")
    counting.result(T)
    wait_until(lambda: len(birth_of(task).box.stderr_lines()) == 50)
    signal_child(task, signal.SIGKILL)
    error = reply.exception(T)
    assert isinstance(error, TaskDied)
    first = int(error.stderr[0].split()[0])
    whole = [f"{n} {'x' * (n * 7 % 301)}" for n in range(first, first + 50)]
    assert list(error.stderr[:-1]) == whole[:-1]
    assert whole[-1].startswith(error.stderr[-1]), "what came with another write may be missing"


@pytest.mark.skipif(sys.platform != "linux", reason="sets the size of a pipe")
def test_what_nobody_takes_from_stderr_is_kept_before_it_is_written(task: CallableTask) -> None:
    reply = task.get("print_to_a_pipe_that_nobody_reads", True, 500)
    wait_until(lambda: birth_of(task).box.stderr_lines(1) == ("line 8 " + "x" * 500,))  # a pipe of 4096 bytes takes 7
    task.kill(signal.SIGKILL).result(T)
    assert isinstance(reply.exception(T), TaskDied)


@pytest.mark.skipif(sys.platform != "linux", reason="sets the size of a pipe")
@pytest.mark.parametrize(("width", "last"), [(500, 8), (6000, 0)], ids=["refused", "taken in part"])
def test_what_has_to_be_written_again_is_kept_once(task: CallableTask, width: int, last: int) -> None:
    error = died(task, "print_to_a_pipe_that_nobody_reads", False, width)
    assert error.stderr == (*(f"line {n} {'x' * width}" for n in range(last + 1)), f"after {last}")


def test_a_process_that_the_child_forks_does_not_speak_for_it(task: CallableTask) -> None:
    assert task.get("crash_in_a_fork").result(T) == signal.SIGSEGV
    box = birth_of(task).box
    assert (box.stderr_lines(), box.stacks()) == ((), None)
    assert died(task, "crash", signal.SIGSEGV).stacks is not None, "the child's own is told as before"


def test_a_child_that_died_before_it_was_ready_says_why(launcher: str, tmp_path: Path) -> None:
    path = tmp_path / "dies.py"
    path.write_text("import os, sys\nprint('no licence', file=sys.stderr)\nos._exit(7)\n")
    with pytest.raises(StartError, match="exit code 7") as caught:
        CallableTask(path, launcher=launcher).start().result(T)
    assert "no licence" in "".join(caught.value.__notes__)


@needs_dumps
def test_a_child_that_was_not_ready_in_time_says_where_it_is(
    launcher: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, begun = tmp_path / "hangs.py", tmp_path / "begun"
    path.write_text(f"import time\n\ndef start():\n    open({str(begun)!r}, 'w').close()\n    time.sleep(60)\n")
    start_timeout, in_time = 0.25, False
    while not in_time:  # an interpreter takes its time to start, on a machine that is busy
        start_timeout *= 2
        begun.unlink(missing_ok=True)
        caplog.clear()
        with pytest.raises(StartError, match="start_timeout") as caught:
            CallableTask(path, launcher=launcher, start_timeout=start_timeout).start().result(T)
        (given_up,) = (record.created for record in caplog.records if "not ready in time" in record.getMessage())
        in_time = begun.exists() and begun.stat().st_mtime < given_up - 0.1
    assert "in start" in "".join(caught.value.__notes__)


def test_a_task_that_dies_too_often_tells_the_last_words_of_the_last(tmp_path: Path) -> None:
    path = tmp_path / "dies_again.py"
    path.write_text("import os, sys\nprint('again', file=sys.stderr)\nos._exit(1)\n")
    task = ScriptTask(path, restart=RestartPolicy(max_restarts=1))
    failed = heard(task, "error")
    task.start()
    ((failure,),) = failed.wait(1)
    assert "max_restarts" in str(failure.error)
    assert "again" in "".join(failure.error.__notes__)


def test_a_reload_whose_next_child_dies_tells_its_last_words(tmp_path: Path) -> None:
    path, broken = tmp_path / "reloaded.py", tmp_path / "broken"
    path.write_text(
        "import os, sys\n"
        "def start():\n"
        f"    if os.path.exists({str(broken)!r}):\n"
        "        print('it is broken', file=sys.stderr)\n"
        "        os._exit(4)\n"
    )
    with CallableTask(path) as task:
        broken.touch()
        with pytest.raises(StartError, match="exit code 4") as caught:
            task.reload().result(T)
        assert "it is broken" in "".join(caught.value.__notes__)


def test_every_cause_has_its_own(task: CallableTask) -> None:
    error = task.options(retries=1).get("print_lines", 2).exception(T)
    assert isinstance(error, RetriesExhausted)
    assert [cause.stderr for cause in error.causes if isinstance(cause, TaskDied)] == [("line 0", "line 1")] * 2


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_log_handlers_that_a_forked_child_inherits_write_to_its_own_streams(
    stream: str, program: Callable[..., Popen[str]]
) -> None:
    """The parent's stream may hold unwritten text, or a lock; and what is logged belongs to the last words."""
    running = program(
        f"""
        import logging, os, sys
        import relieve_py
        logging.basicConfig(stream=sys.{stream}, format="%(message)s")
        def speak():
            logging.error("in the child")
            os._exit(0)
        sys.{stream}.write("once\\n" * 1)
        task = relieve_py.CallableTask(speak, launcher="fork")
        with task:
            error = task.get().exception(20)
        print(error.stderr)
        """
    )
    out, err = running.communicate(timeout=T)
    assert (out + err).count("in the child") == (2 if stream == "stderr" else 1), (out, err)
    assert (out + err).count("once") == 1
    assert ("('in the child',)" in out) == (stream == "stderr")


# -- stacks ----------------------------------------------------------------------------------------


def test_a_crash_leaves_its_stack(task: CallableTask) -> None:
    error = died(task, "crash", signal.SIGSEGV)
    assert error.signal == "SIGSEGV"
    assert "Segmentation fault" in (error.stacks or "")
    shown = "".join(traceback.format_exception(error))
    assert "in string_at" in shown
    assert "in crash" in shown
    assert "calling.py" not in shown, "what this library did is no news"
    assert died(task, "crash", signal.SIGSEGV).stacks, "nor does the next child lack one"


@pytest.mark.parametrize("signum", [signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL])
def test_so_does_every_signal_of_a_crash(signum: signal.Signals) -> None:
    with CallableTask(LAST_WORDS) as task:
        error = died(task, "crash", signum)
    assert error.signal == signum.name
    assert "in crash" in (error.stacks or "")


def test_faulthandler_stays_as_the_user_wants_it(capfd: pytest.CaptureFixture[str]) -> None:
    with CallableTask(LAST_WORDS, launcher="spawn", env={"PYTHONFAULTHANDLER": "1"}) as task:
        error = died(task, "crash", signal.SIGSEGV)
    assert error.stacks is None
    assert "Segmentation fault" in capfd.readouterr().err


def _is_whole(dump: str) -> bool:
    """The stack of the main thread comes last, and its first frame is that of the interpreter's own start."""
    return "Current thread" in dump and dump.rstrip().endswith(("in <module>", "in _bootstrap"))


@needs_dumps
@pytest.mark.parametrize("how", ["loop_in_c", "loop_in_python", "sleep"])
def test_the_stacks_of_a_child_that_hangs_can_be_asked_for(task: CallableTask, how: str) -> None:
    hanging = task.wait_for("hanging")
    reply = task.get(how)
    hanging.result(T)
    birth = birth_of(task)
    place = ""
    while f" in {how}" not in place:  # it may still be telling that it is about to hang
        before = len(birth.box.stacks() or "")
        assert birth.ask_for_stacks()
        wait_until(lambda: _is_whole((birth.box.stacks() or "")[before:]))  # noqa: B023 - called at once
        place = "".join(current_stack(birth.box.stacks() or ""))
    task.kill(signal.SIGKILL).result(T)
    error = reply.exception(T)
    assert isinstance(error, TaskDied)
    assert error.stacks is not None
    assert "Thread 0x" in error.stacks, "of every thread"
    assert error.signal == "SIGKILL"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that has not begun to tell, as on a machine that is busy, is given long."""
    monkeypatch.setattr(slot, "STACKS_LONGER", T / 2)


@needs_dumps
@pytest.mark.usefixtures("patient")
def test_a_child_that_is_ended_because_it_does_not_react_is_asked(task: CallableTask) -> None:
    exits = heard(task, "exit")
    too_late(task, "loop_in_c")
    (exit,) = exits.wait(1)[-1]
    assert exit.forced
    assert " in loop_in_c" in "".join(current_stack(exit.stacks))


@needs_dumps
@pytest.mark.usefixtures("patient")
def test_a_call_whose_task_is_stopped_over_it_tells_where_it_was(task: CallableTask) -> None:
    hanging = task.wait_for("hanging")
    reply = task.get("loop_in_c")
    hanging.result(T)
    task.stop().result(T)
    error = reply.exception(T)
    assert isinstance(error, TaskDied)
    assert " in loop_in_c" in "".join(error.__notes__)


# -- of a call whose time is over ------------------------------------------------------------------

NEVER = 1e6  # seconds


def too_late(face: CallableTask | CloudWorker, *methods: str, hangs: int = 0, **options: Any) -> list[BaseException]:
    """The errors of calls that are made at once, and hang; their time is not over before all of them do, or they have
    hung so many times."""
    seconds = 0.05
    while True:
        seconds *= 2
        hanging, marked = heard(face, "hanging"), face.wait_for("mark")
        replies = [face.options(timeout=seconds, **options).get(method) for method in methods]
        errors = [reply.exception(T) for reply in replies]
        face.get("mark").result(T)
        marked.result(T)  # what was sent before is handled before
        face.off("hanging", hanging)
        if len(hanging) == (hangs or len(methods)):
            return [error for error in errors if error is not None]


def stacks_of(error: BaseException) -> str:
    """Where the child was when the time of a call was over."""
    assert isinstance(error, CallTimeout)
    return error.stacks or ""


@needs_dumps
@pytest.mark.parametrize("how", ["loop_in_c", "sleep"])
def test_a_call_that_takes_too_long_tells_where_the_child_was(task: CallableTask, how: str) -> None:
    (error,) = too_late(task, how)
    assert f" in {how}" in "".join(current_stack(stacks_of(error)))
    assert "Thread 0x" in stacks_of(error), "of every thread"
    assert f" in {how}" in "".join(error.__notes__)


@needs_dumps
@pytest.mark.parametrize("how", ["loop_in_python", "sleep"])
def test_it_fails_as_soon_as_the_child_has_told(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(overtime, "STACKS_GRACE", NEVER)
    with CallableTask(LAST_WORDS) as task, CloudWorker(CallableTask(LAST_WORDS), size=1, retries=1) as worker:
        assert f" in {how}" in stacks_of(*too_late(task, how))
        task.drain(T).result(T)
        (again,) = too_late(worker, how, hangs=2, retries=RetryPolicy(max=1))
        assert isinstance(again, RetriesExhausted)
        assert [f" in {how}" in (cause.stacks or "") for cause in again.causes] == [True, True]
        worker.drain(T).result(T)


@needs_dumps
def test_a_death_is_not_explained_by_where_the_child_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overtime, "STACKS_GRACE", NEVER)  # a child that is slow to tell is asked again, and tells twice
    with CallableTask(LAST_WORDS) as task:
        for _ in range(3):
            stacks = stacks_of(*too_late(task, "loop_in_python"))
            assert stacks.count("Current thread") == 1, "and of no earlier call"
        assert died(task, "say_all_and_die").stacks is None


@needs_dumps
def test_a_call_that_ends_as_its_time_does_leaves_no_stacks_behind() -> None:
    with CallableTask(LAST_WORDS) as task:
        assert task.get("mark").result(T) is None
        error = task.options(timeout=0.1).get("end_late_while_another_thread_keeps_the_gil", 0.13, 0.5).exception(T)
        assert isinstance(error, CallTimeout)
        assert task.get("mark").result(T) is None
        assert died(task, "say_all_and_die").stacks is None


@needs_dumps
def test_what_this_library_did_is_known_whatever_its_path_is(tmp_path: Path) -> None:
    home = tmp_path / "josé"
    home.mkdir()
    (home / "relieve_py").symlink_to(Path(relieve_py.__file__).parent)
    (home / "slow.py").write_text("def slow():\n    while True:\n        pass\n")
    program = "import relieve_py\nwith relieve_py.CallableTask('slow.py') as task:\n    task.get('slow').result()"
    program = program.replace("get", "options(timeout=0.3, retries=0).get")
    env = {**os.environ, "PYTHONPATH": str(home)}
    done = subprocess.run([sys.executable, "-c", program], cwd=home, env=env, capture_output=True, text=True, timeout=T)
    assert "in slow" in done.stderr
    assert "tell_stacks" not in done.stderr


@needs_dumps
def test_what_a_child_tells_at_its_end_is_kept_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overtime, "STACKS_GRACE", 0.1)  # so that its end begins before the call fails
    with CallableTask(LAST_WORDS, kill_timeout=0.08) as task:
        exited = task.wait_for("exit")
        too_late(task, "loop_in_c")
        (exit,) = exited.result(T)
    assert " in loop_in_c" in (exit.stacks or "")


@needs_dumps
def test_calls_that_run_at_once_tell_of_all_threads() -> None:
    with CallableTask(LAST_WORDS, concurrency=2) as task:
        for error in too_late(task, "loop_in_python", "burn"):
            assert " in loop_in_python" in stacks_of(error)
            assert " in burn" in stacks_of(error)
        assert died(task, "say_all_and_die").stacks is None


def test_a_call_that_takes_too_long_tells_nothing_where_that_is_declined(launcher: str) -> None:
    with CallableTask(LAST_WORDS, launcher=launcher, dump_stacks=False) as task:
        (error,) = too_late(task, "sleep")
        assert isinstance(error, CallTimeout)
        assert error.stacks is None
        assert not hasattr(error, "__notes__")


@needs_dumps
def test_a_child_that_cannot_tell_does_not_hold_up_the_error(task: CallableTask) -> None:
    assert task.get("sleep", 0).result(T) == "slept"
    signal_child(task, signal.SIGSTOP)
    error = task.options(timeout=0.01).get("sleep").exception(T)
    assert isinstance(error, CallTimeout)
    assert error.stacks is None
    signal_child(task, signal.SIGCONT)
    assert task.get("sleep", 0).result(T) == "slept"
    assert died(task, "say_all_and_die").stacks is None, "what it tells later is no news"


@needs_dumps
def test_whatever_comes_while_the_child_is_asked_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overtime, "STACKS_GRACE", NEVER)
    with CallableTask(LAST_WORDS, kill_timeout=NEVER) as task:
        asked = task._slot.traffic._deadlines.overtime
        for end in ("death", "cancel"):
            assert task.get("sleep", 0).result(T) == "slept"
            signal_child(task, signal.SIGSTOP)
            reply = task.options(timeout=0.01).get("sleep")
            wait_until(lambda: asked.open == 1)
            assert not reply.done()
            if end == "cancel":
                assert reply.cancel()
                with pytest.raises(CallCancelled):
                    reply.result(T)
            drained = task.drain(T)
            signal_child(task, signal.SIGKILL)
            if end == "death":
                assert isinstance(reply.exception(T), CallTimeout)
            drained.result(T)
            assert asked.open == 0
        assert task.stats().cancelled == 1


# -- asked -----------------------------------------------------------------------------------------


@needs_dumps
def test_a_child_that_was_asked_goes_on(task: CallableTask) -> None:
    hanging = task.wait_for("hanging")
    reply = task.get("sleep", 0.1)
    hanging.result(T)
    assert birth_of(task).ask_for_stacks()
    assert reply.result(T) == "slept"


def test_dumps_can_be_declined(launcher: str) -> None:
    with CallableTask(LAST_WORDS, launcher=launcher, dump_stacks=False) as task:
        assert not birth_of(task).ask_for_stacks()
        assert task.get("stderr_is_the_users").result(T)
        assert died(task, "crash", signal.SIGSEGV).stacks, "a crash is another thing"


def test_a_program_leaves_them_too(launcher: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("import ctypes, sys\nprint('so far', file=sys.stderr)\nctypes.string_at(0)\n")
    task = ScriptTask(path, launcher=launcher)
    task.start()
    exit = task.wait().result(T)
    assert (exit.signal, exit.stderr) == ("SIGSEGV", ("so far",))
    assert "in <module>" in exit.stacks
