"""What ``relieve`` shows on a terminal: a progress line that nothing tears, colours, and the terminal as it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import RELIEVE, Terminal, script

CLEAR = "\r\x1b[2K"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def start_on(terminal: Terminal, *args: object, **streams: Any) -> subprocess.Popen[str]:
    """The command with everything on the terminal that is not named, as its foreground job."""
    keywords = {"stdin": subprocess.DEVNULL, "stdout": terminal.slave, "stderr": terminal.slave, **streams}
    env = {**os.environ, "TERM": "xterm-256color"}
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        env.pop(variable, None)
    return subprocess.Popen([*RELIEVE, *map(str, args)], text=True, env=env, **keywords)


def plain(text: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture
def gated(tmp_path: Path) -> tuple[str, Path]:
    """Answers at once but for "wait", which waits at the gate; fails for "bad"; says something for "talk"."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    code = f"""
    import os
    def default(text):
        if text == "bad":
            raise ValueError("not good")
        if text == "die":
            os._exit(1)
        if text == "talk":
            print("I say")
        if text == "wait":
            open({str(gate)!r}).read()
        return text
    """
    return script(tmp_path / "gated.py", code), gate


def test_progress_with_rate_errors_and_restarts(gated: tuple[str, Path], terminal: Terminal) -> None:
    target, gate = gated
    inputs = ["a", "bad", "die", "talk", "wait"]
    with start_on(terminal, "map", "-n", 1, target, *inputs, stdout=subprocess.PIPE) as process:
        terminal.read_until(r"4 done.*[\d,]+/s.*2 failed.*1 restart")
        gate.write_text("")
        assert process.stdout is not None
        assert process.stdout.read() == "a\ntalk\nwait\n"
        assert process.wait() == 1
        text = terminal.read_all()
    for line in ("failed: argument 2 'bad': ValueError: not good", "failed: argument 3 'die': TaskDied: ", "I say"):
        (start,) = re.findall(rf"(.*){re.escape(line)}", plain(text).replace("\r\n", "\n"))
        assert start == "" or start.endswith(CLEAR), "something else stands on that line"
    last = plain(text).rpartition(CLEAR)[2]
    assert re.fullmatch(r"\x1b\[\?25h5 done  2 failed  1 restart  [\d.]+ s  [\d,]+/s\r\n", last)
    assert text.count("\x1b[?25l") == 1  # the cursor was hidden, and came back


def test_results_on_the_same_terminal_stand_on_their_own_lines(gated: tuple[str, Path], terminal: Terminal) -> None:
    target, gate = gated
    inputs = [f"r{number}" for number in range(50)]
    with start_on(terminal, "map", "-n", 1, target, *inputs, "wait") as process:
        terminal.read_until("50 done")
        gate.write_text("")
        assert process.wait() == 0
        text = terminal.read_all()
    lines = [line.rpartition(CLEAR)[2] for line in plain(text).split("\r\n")]
    assert [line for line in lines if re.fullmatch(r"(\x1b\[\?25h)?(r\d+|wait)", line)] == [*inputs, "wait"]


def test_quiet_and_a_dumb_terminal_have_no_progress(gated: tuple[str, Path], terminal: Terminal) -> None:
    target, _ = gated
    with start_on(terminal, "map", "-q", target, "a") as process:
        assert process.wait() == 0
        assert terminal.read_all() == "a\r\n"


def test_control_c_at_the_terminal(gated: tuple[str, Path]) -> None:
    """Once and twice: no traceback, and the cursor is back."""
    target, _ = gated
    import pty

    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # these tests may have been started with it ignored
        os.execv(RELIEVE[0], [*RELIEVE, "map", "-n", "1", target, "a", "wait", "b"])
    text = ""

    def read_until(pattern: str) -> None:
        nonlocal text
        while not re.search(pattern, text):
            text += os.read(fd, 65536).decode()

    try:
        read_until("1 done")
        os.write(fd, b"\x03")
        read_until("stopping: ")
        os.write(fd, b"\x03")
        _, status = os.waitpid(pid, 0)
        read_until(r"\x1b\[\?25h")
    finally:
        os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 130
    assert "Traceback" not in text


def test_names_in_colour(tmp_path: Path, terminal: Terminal) -> None:
    one = script(tmp_path / "one.py", "print('a')\n")
    two = script(tmp_path / "two.py", "print('b')\n")
    with start_on(terminal, "run", one, two) as process:
        assert process.wait() == 0
        text = terminal.read_all()
    assert "one | a\r\n" in plain(text)
    colours = re.findall(r"\x1b\[(\d+)m(one|two) \| ", text)
    assert len({colour for colour, _ in colours}) == 2


def test_the_table_fits_the_terminal(tmp_path: Path) -> None:
    terminal = Terminal(columns=40)
    try:
        job = script(tmp_path / "job.py", "pass\n")
        with start_on(terminal, "queue", job, "x" * 90) as process:
            assert process.wait() == 0
            text = plain(terminal.read_all().rpartition("\x1b[?25h")[2])
    finally:
        terminal.close()
    assert max(len(line) for line in text.split("\r\n")) <= 40
    assert "1 run, none failed" in text
