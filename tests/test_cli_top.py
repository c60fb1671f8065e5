"""``relieve top`` shows the workers of a running program to its own user, and costs that nothing."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import RELIEVE, Terminal, relieve

from relieve_py import CallableTask, CloudWorker, Worker, publishing
from relieve_py.cli.top import COLUMNS, duration, size
from relieve_py.publishing import publisher, snapshots

T = 20


DOUBLE = str(Path(__file__).parent / "scripts" / "double.py")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sockets of this test are, and no others. Its name is short: the path of a socket has 100 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="rt", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(publishing, "folders", lambda: [str(folder / f"relieve_py-{os.geteuid()}")])
    yield folder / f"relieve_py-{os.geteuid()}"
    shutil.rmtree(folder)


@pytest.fixture
def pool(place: Path) -> Iterator[CloudWorker]:
    """A published pool at work."""
    with CloudWorker(CallableTask(DOUBLE, name="doubler"), CallableTask(DOUBLE, name="other"), name="pool") as worker:
        worker.publish()
        yield worker
        worker.unpublish()


def sockets(place: Path) -> list[str]:
    return sorted(os.listdir(place)) if place.exists() else []


def told(pid: int | None = None) -> list[dict[str, Any]]:
    return list(snapshots(pid))


# -- publishing ------------------------------------------------------------------------------------


def test_nothing_is_there_until_it_is_asked_for(place: Path) -> None:
    with Worker(CallableTask(DOUBLE)):
        assert told() == sockets(place) == []
        assert "relieve-top" not in {thread.name for thread in threading.enumerate()}


def test_only_the_user_can_come_near(pool: CloudWorker, place: Path) -> None:
    (name,) = sockets(place)
    for path, mode in ((place, 0o700), (place / name, 0o600)):
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (mode, os.geteuid())


def test_a_stranger_is_told_nothing(pool: CloudWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(told()) == 1
    monkeypatch.setattr(publishing, "peer_uid", lambda sock: os.geteuid() + 1)
    assert told() == []


def test_who_is_at_the_other_end_is_asked_of_the_system() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert publishing.peer_uid(ours) == os.geteuid()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_can_enter_is_refused(place: Path, mode: int) -> None:
    place.mkdir()
    place.chmod(mode)
    worker = Worker(CallableTask(DOUBLE))
    with pytest.raises(PermissionError, match="0700"):
        worker.publish()
    assert told() == []


def test_a_folder_that_is_a_link_is_refused(place: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    place.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        Worker(CallableTask(DOUBLE)).publish()


def test_by_the_environment_every_worker_is_shown_and_what_fails_is_only_logged(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RELIEVE_TOP", "1")
    workers = [Worker(CallableTask(DOUBLE), name=name) for name in ("a", "b")]
    assert [worker["name"] for worker in told()[0]["workers"]] == ["a", "b"]
    for worker in workers:
        worker.unpublish()
    place.chmod(0o755)
    Worker(CallableTask(DOUBLE))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    monkeypatch.setenv("RELIEVE_TOP", "0")
    Worker(CallableTask(DOUBLE))
    assert len(caplog.records) == 1


def test_it_ends_with_the_last_that_is_shown(place: Path) -> None:
    one, two = Worker(CallableTask(DOUBLE), name="one"), Worker(CallableTask(DOUBLE), name="two")
    for worker in (one, two, two):
        worker.publish()
    thread = publisher._thread
    assert thread is not None
    one.unpublish()
    assert [worker["name"] for worker in told()[0]["workers"]] == ["two"]
    del two, worker
    gc.collect()
    thread.join(T)
    assert not thread.is_alive()
    assert sockets(place) == []
    one.publish()
    assert len(told(os.getpid())) == 1
    one.unpublish()


def test_who_does_not_read_holds_up_nothing(pool: CloudWorker, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is larger than the socket takes; calls go on meanwhile, and so does who asks next."""
    monkeypatch.setattr(publishing, "SLOWEST", 0.1)
    pool.to_dict = lambda: {"name": "x" * 5_000_000}  # type: ignore[method-assign]
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(place / sockets(place)[0]))
        assert pool.get("double", 4).result(T) == 8
        deadline = time.monotonic() + T
        while not (found := told()):
            assert time.monotonic() < deadline
    assert len(found[0]["workers"][0]["name"]) == 5_000_000


def test_a_worker_that_cannot_be_shown_costs_the_others_nothing(pool: CloudWorker) -> None:
    broken = Worker(CallableTask(DOUBLE))
    broken.to_dict = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    broken.publish()
    assert [worker["name"] for worker in told()[0]["workers"]] == ["pool"]
    broken.unpublish()


def test_what_a_killed_program_left_is_removed(place: Path) -> None:
    place.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place / "4711-0a.sock"))
    assert told() == sockets(place) == []


def test_a_forked_copy_shows_nothing_and_takes_nothing_away(pool: CloudWorker, place: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if publisher._socket is None and not publisher._shown else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(told()) == 1


# -- the command -----------------------------------------------------------------------------------


def test_one_picture_and_json(pool: CloudWorker) -> None:
    for number in range(7):
        assert pool.get("double", number).result(T) == 2 * number
    done = relieve("top", "--once", env={**os.environ, "COLUMNS": "120"})
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"^pool +CloudWorker +2 tasks: 2 ready\n0 queued +0 running +7 done +0 failed", done.stdout, re.MULTILINE
    )
    head = next(line for line in done.stdout.splitlines() if line.startswith("task"))
    assert re.split(r" {2,}", head.strip()) == list(COLUMNS)
    for task in pool:
        assert re.search(
            rf"^{task.name} +ready +{task.pid} +\d+ +[\d.]+ MiB +\d:\d\d +0 +0 +[34] +0 +0 ", done.stdout, re.M
        )
    (line,) = relieve("top", str(os.getpid()), "--json").stdout.splitlines()
    assert [task["health"]["pid"] for task in json.loads(line)["workers"][0]["tasks"]] == [task.pid for task in pool]


def test_columns_are_left_out_where_there_is_no_room(pool: CloudWorker) -> None:
    text = relieve("top", "--once", env={**os.environ, "COLUMNS": "60"}).stdout
    head = next(line for line in text.splitlines() if line.startswith("task"))
    assert "memory" in head
    assert "restarts" not in head
    assert max(map(len, text.splitlines())) <= 60
    assert "…" not in text


@pytest.mark.parametrize("pid", [(), ("1",)])
def test_no_program_is_wrong_use(place: Path, pid: tuple[str, ...]) -> None:
    done = relieve("top", *pid)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("relieve: no program ")


@contextlib.contextmanager
def top_on(terminal: Terminal) -> Iterator[subprocess.Popen[bytes]]:
    """The command, live on that terminal."""
    env = {**os.environ, "TERM": "xterm-256color"}
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        env.pop(variable, None)
    streams = {"stdin": terminal.slave, "stdout": terminal.slave, "stderr": terminal.slave}
    with subprocess.Popen([*RELIEVE, "top", "--interval", "0.05"], env=env, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal(120)
    yield made
    made.close()


def test_it_shows_a_pool_that_works_until_a_key(pool: CloudWorker, terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.slave)
    with top_on(terminal) as process:
        terminal.read_until(r"\x1b\[\?1049h")  # the other screen, so that what was there comes back
        terminal.read_until(r"0 done")
        for number in range(12):
            assert pool.get("double", number).result(T) == 2 * number
        terminal.read_until(r"12 done.*?[\d,]+/s")
        next(iter(pool)).kill().result(T)
        terminal.read_until(r"stopped")
        os.write(terminal.fd, b"q")
        assert process.wait(T) == 0
    assert termios.tcgetattr(terminal.slave) == before
    text = terminal.read_all()
    assert text.endswith("\x1b[?25h\x1b[?1049l"), "the cursor and what was on the screen before are back"
    assert "Traceback" not in text


def test_it_ends_with_the_program(pool: CloudWorker, terminal: Terminal) -> None:
    with top_on(terminal) as process:
        terminal.read_until("2 ready")
        pool.unpublish()
        assert process.wait(T) == 0
    assert "relieve top: the program has ended" in terminal.read_all()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0 µs"),
        (12.34e-6, "12.3 µs"),
        (0.0012, "1.2 ms"),
        (0.9996, "1 s"),
        (61.0, "61 s"),
        (100, "1:40"),
    ],
)
def test_durations_have_three_digits(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_have_a_unit() -> None:
    assert [size(n) for n in (0, 1000, 5 << 20, 3 << 30)] == ["0 B", "0.977 KiB", "5 MiB", "3 GiB"]


def test_the_picture_in_the_docs_has_what_is_shown_today() -> None:
    picture = (Path(__file__).parent.parent / "docs" / "_static" / "top.svg").read_text(encoding="utf-8")
    shown = re.sub(r"<[^>]+>", " ", picture).replace("&#160;", " ")
    for column in COLUMNS:
        assert re.search(rf"\b{re.escape(column)}", shown), column
