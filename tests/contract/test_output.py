"""What children print goes where the option ``output`` says, whoever prints it, and the last lines are never lost."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support import KITCHEN, Heard, T, script

from relieve_py import CallableTask, CloudWorker, Output, OutputLine, ScriptTask, StartError, TaskDied, outlet
from relieve_py.sinks import FileSink, RotatedFile

PRINTING = script("printing.py")


def texts(lines: tuple[OutputLine, ...], stream: str) -> list[str]:
    return [line.text for line in lines if line.stream == stream]


@pytest.mark.feature(109, 120)
@pytest.mark.parametrize("launcher", ["forkserver", "spawn", "fork"])
def test_everything_that_is_printed_is_captured(launcher: str, capfd: pytest.CaptureFixture[str]) -> None:
    with CallableTask(PRINTING, output="capture", launcher=launcher) as task:
        task.get("say", "hello", "oh").result(T)
        exit = task.stop().result(T)
    assert texts(task.output(), "stdout") == ["hello", "C hello", "program hello"]
    assert texts(task.output(), "stderr") == ["oh", "C oh"]
    assert (exit.stdout, exit.stderr) == (("hello", "C hello", "program hello"), ("oh", "C oh"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.feature(120)
def test_by_default_it_is_inherited(capfd: pytest.CaptureFixture[str]) -> None:
    with CallableTask(PRINTING) as task:
        task.get("say", "hello", "oh").result(T)
    assert capfd.readouterr() == ("hello\nC hello\nprogram hello\n", "oh\nC oh\n")
    assert task.output() == ()


@pytest.mark.feature(109)
def test_the_output_of_each_script() -> None:
    with CloudWorker(CallableTask(PRINTING, output="capture"), CallableTask(KITCHEN, output="capture")) as worker:
        for task in worker:
            if task.name.startswith("printing"):
                task.get("say", task.name).result(T)
        worker.stop().result(T)
    assert worker.output("printing")[0].text.startswith("printing-")
    assert len(worker.output()) == len(worker.output("printing")) == 3
    assert worker.output("kitchen") == ()


def test_the_last_lines_of_a_child_that_is_killed_are_in_the_error() -> None:
    with CallableTask(PRINTING, output="capture", restart=False) as task, pytest.raises(TaskDied) as caught:
        task.get("die_talking", 1000, 9).result(T)
    expected = (*(f"line {n}" for n in range(951, 1000)), "no end")
    assert caught.value.stdout == task.exit.stdout == expected
    assert "The last that the child wrote to stdout:\n  line 991\n" in "".join(caught.value.__notes__)


def test_what_a_start_that_failed_has_printed_is_in_its_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import os\nprint('so far so good')\nos._exit(7)\n")
    with pytest.raises(StartError) as caught:
        CallableTask(str(broken), output="capture").start().result(T)
    assert "so far so good" in "".join(caught.value.__notes__)


def test_what_is_kept_is_bounded_and_is_of_the_last() -> None:
    with CallableTask(PRINTING, output=Output("capture", last=4096)) as task:
        assert task.get("flood", 2).result(T) == 2
        task.restart().result(T)
        kept = task.output()
    assert len(kept) == 4
    assert {line.text for line in kept} == {"x" * 1023}


def test_a_file_has_all_lines_in_the_order_they_were_printed(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "{script}-{task}.log"
    with CallableTask(PRINTING, output=path, name="talker") as task:
        for word in ("one", "two"):
            task.get("say", word, "err").result(T)
    lines = (tmp_path / "logs" / "printing-talker.log").read_text().splitlines()
    said = ["one", "C one", "program one", "err", "C err"]
    assert lines == [*said, *(line.replace("one", "two") for line in said)]


def test_tasks_share_a_file_and_no_line_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    with CloudWorker(CallableTask(PRINTING, output=Output(path, stderr=tmp_path / "err.log")), size=2) as worker:
        assert [reply.result(T) for reply in [worker.get("flood", 1), worker.get("flood", 1)]] == [1, 1]
    lines = path.read_bytes().splitlines()
    assert (len(lines), set(map(len, lines))) == (2048, {1023})
    assert (tmp_path / "err.log").exists() is False, "a file comes to be with its first line"


@pytest.mark.feature(120)
def test_a_file_is_rotated_by_size_and_none_is_larger(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    with CallableTask(PRINTING, output=Output(path, max_bytes=300 * 1024, keep=3)) as task:
        task.get("flood", 1).result(T)
    sizes = {name: os.path.getsize(tmp_path / name) for name in sorted(os.listdir(tmp_path))}
    assert sizes == {
        "out.log": 124 * 1024,
        "out.log.1": 300 * 1024,
        "out.log.2": 300 * 1024,
        "out.log.3": 300 * 1024,
    }


def test_rotation_by_time_by_size_and_of_lines_that_are_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("relieve_py.sinks.time.monotonic", lambda: now)
    file = RotatedFile(str(tmp_path / "a.log"))
    options = Output("a.log", every=60, max_bytes=10, keep=2)
    file.write([b"one"], options)
    now += 59
    file.write([b"two"], options)
    now += 1
    file.write([b"three"], options)
    file.write([b"more than ten bytes", b"x"], options)
    file.close()
    left = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert left == {"a.log": "x\n", "a.log.1": "more than ten bytes\n", "a.log.2": "three\n"}


def test_a_file_that_cannot_be_written_costs_its_lines_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no directory")
    sink = FileSink(str(tmp_path / "file" / "out.log"), Output())
    sink.take("stdout", [b"lost"])
    sink.take("stdout", [b"lost"])
    (tmp_path / "file").unlink()
    sink.take("stdout", [b"kept"])
    sink.close()
    assert (tmp_path / "file" / "out.log").read_text() == "kept\n"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_it_is_logged_with_task_stream_and_level(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, logger="relieve_py.output"),
        CallableTask(PRINTING, output="log", name="t") as task,
    ):
        task.get("say", "hello", "oh").result(T)
        task.stop().result(T)
    logged = [record for record in caplog.records if record.name == "relieve_py.output"]
    assert sorted({(record.levelname, record.stream, record.task) for record in logged}) == [
        ("INFO", "stdout", "t"),
        ("WARNING", "stderr", "t"),
    ]
    assert "t: program hello" in [record.getMessage() for record in logged]


def test_a_function_gets_each_line_as_it_comes_and_what_it_raises_costs_nothing() -> None:
    heard = Heard()

    def listen(line: OutputLine) -> None:
        heard(line.stream, line.text)
        raise ValueError("not my day")

    with CallableTask(PRINTING, output=Output(listen, stderr="inherit")) as task:
        task.get("say", "now").result(T)
        assert heard.wait(3) == [("stdout", "now"), ("stdout", "C now"), ("stdout", "program now")]


def test_what_hangs_on_the_way_hangs_no_child_and_what_is_left_out_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The child waits for a while, then its output is left out; all other tasks go on."""
    monkeypatch.setattr(outlet, "PATIENCE", 0.1)
    blocked, go_on, last = threading.Event(), threading.Event(), Heard()

    def hang(line: OutputLine) -> None:
        if not blocked.is_set():
            blocked.set()
            go_on.wait(T)
        if "left out" in line.text or line.text == "and on":
            last(line.text)

    with CallableTask(PRINTING, output=hang) as task, CallableTask(PRINTING, output="capture") as other:
        reply = task.get("flood", 3)
        assert blocked.wait(T)
        other.get("say", "unharmed").result(T)
        assert reply.result(T) == 3
        go_on.set()
        (note,) = last.wait(1)
        task.get("say", "and on").result(T)
        assert last.wait(2)[1] == ("and on",)
    assert int(note[0].split()[1]) > 1 << 20


def test_a_program_that_ends_has_all_its_output_in_the_record_of_its_exit(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)\n")
    task = ScriptTask(str(program), output="capture")
    task.start().result(T)
    exit = task.wait().result(T)
    assert (exit.code, exit.stdout, exit.stderr) == (3, ("out",), ("err",))


def test_a_reloaded_child_prints_to_the_same_place(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    with CallableTask(KITCHEN, output=path) as task:
        task.get("chatter", 3).result(T)
        task.reload().result(T)
        task.get("chatter", 4).result(T)
    assert [line for line in path.read_text().splitlines() if set(line) == {"x"}] == ["xxx", "xxxx"]


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"max_bytes": 1.5}, {"every": 0}, {"keep": -1}, {"last": None}])
def test_wrong_outputs_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"output: {next(iter(wrong))}"):
        Output("a.log", **wrong)
