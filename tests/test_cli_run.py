"""``relieve run`` and ``relieve queue``: programs kept running, and programs run in turn."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cli_kit import relieve, script, start


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """The command leaves SIGINT alone where it was started with that ignored, as these tests may have been."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def service(tmp_path: Path) -> str:
    """Says that it serves, and then does so until it is stopped."""
    return script(
        tmp_path / "service.py",
        """
        import os, sys, threading
        try:
            print("serving", os.getpid())
            threading.Event().wait()
        finally:
            sys.stderr.write("bye\\n")
        """,
    )


@pytest.fixture
def stubborn(tmp_path: Path) -> str:
    """Does not leave when asked."""
    return script(
        tmp_path / "stubborn.py",
        """
        import os, threading
        print("starting")
        while True:
            try:
                print("serving", os.getpid())
                threading.Event().wait()
            except SystemExit:
                print("I stay")
        """,
    )


def line_of(process: subprocess.Popen[str], pattern: str, stream: str = "stdout") -> str:
    """Read lines until one matches; everything must have a newline."""
    pipe = getattr(process, stream)
    while line := pipe.readline():
        if re.search(pattern, line):
            return str(line)
    raise AssertionError(f"no line matches {pattern!r}")


# -- run -------------------------------------------------------------------------------------------


def test_lines_have_the_name_in_front_on_the_stream_they_came_on(tmp_path: Path) -> None:
    one = script(tmp_path / "one.py", "import sys\nprint('a')\nprint('b', end='')\nprint('c', file=sys.stderr)\n")
    longer = script(tmp_path / "longer.py", "print('d')\n")
    done = relieve("run", one, longer)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["longer | d", "one    | a", "one    | b"]
    remarks = [re.sub(r"\d+(\.\d+)?", "N", line) for line in done.stderr.splitlines()]
    assert sorted(remarks) == [
        "longer * exit code N after N s",
        "longer * started, pid N",
        "one    * exit code N after N s",
        "one    * started, pid N",
        "one    | c",
    ]
    assert "\x1b" not in done.stdout + done.stderr


def test_copies_are_numbered(tmp_path: Path) -> None:
    done = relieve("run", "-n", 2, script(tmp_path / "one.py", "print('a')\n"))
    assert sorted(done.stdout.splitlines()) == ["one-1 | a", "one-2 | a"]


def test_a_script_that_fails_is_restarted_until_it_ends_well(tmp_path: Path) -> None:
    target = script(
        tmp_path / "flaky.py",
        f"""
        import pathlib, sys
        tries = pathlib.Path({str(tmp_path / "tries")!r})
        count = int(tries.read_text()) + 1 if tries.exists() else 1
        tries.write_text(str(count))
        print("try", count)
        sys.exit(0 if count == 3 else 4)
        """,
    )
    done = relieve("run", target)
    assert done.stdout.splitlines() == ["flaky | try 1", "flaky | try 2", "flaky | try 3"]
    assert done.returncode == 0
    assert len(re.findall(r"flaky \* exit code 4 after .* s, restart \d in 0\.\d s", done.stderr)) == 2


def test_a_script_that_never_ends_well_is_given_up(tmp_path: Path) -> None:
    done = relieve("run", "--max-restarts", 2, script(tmp_path / "bad.py", "raise SystemExit(4)\n"))
    assert done.returncode == 1
    assert len(re.findall(r"bad \* started", done.stderr)) == 3
    assert re.search(r"bad \* given up: .* the last time: exit code 4\n", done.stderr)
    assert done.stderr.endswith("failed: bad (1 of 1)\n")


def test_restart_never(tmp_path: Path) -> None:
    done = relieve("run", "--restart", "never", script(tmp_path / "bad.py", "print('once')\nraise SystemExit(4)\n"))
    assert (done.returncode, done.stdout) == (1, "bad | once\n")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_restart_always_until_a_signal(tmp_path: Path, signum: int) -> None:
    with start("run", "--restart", "always", script(tmp_path / "again.py", "print('again')\n")) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == "again | again\n"
        process.send_signal(signum)
        process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_them_gracefully(service: str, signum: int) -> None:
    with start("run", service, "-n", 2) as process:
        for _ in range(2):
            line_of(process, "serving")
        process.send_signal(signum)
        _, err = process.communicate()
    assert process.returncode == 0
    assert len(re.findall(r"service-\d \| bye\n", err)) == 2
    assert len(re.findall(r"service-\d \* exit code 0 after", err)) == 2
    assert "Traceback" not in err


def test_the_second_signal_ends_at_once(stubborn: str) -> None:
    with start("run", stubborn) as process:
        child = psutil.Process(int(line_of(process, "serving").split()[-1]))
        process.send_signal(signal.SIGTERM)
        line_of(process, "I stay")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=4) == 143  # less than the grace of five seconds
    assert child.wait(timeout=4) is None or not child.is_running()


def test_a_killed_script_is_restarted(service: str) -> None:
    with start("run", service) as process:
        os.kill(int(line_of(process, "serving").split()[-1]), signal.SIGKILL)
        line_of(process, r"killed by SIGKILL after .* restart 1 in", "stderr")
        line_of(process, "serving")
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0


def test_who_reads_the_output_may_leave(service: str) -> None:
    """The next line that cannot be written ends it, without a complaint."""
    with start("run", "--restart", "always", service) as process:
        assert process.stdout is not None
        pid = int(line_of(process, "serving").split()[-1])
        process.stdout.close()
        os.kill(pid, signal.SIGKILL)  # the next one says again that it serves
        assert process.wait() == 0


# -- queue -----------------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path) -> str:
    return script(
        tmp_path / "job.py",
        """
        import os, signal, sys
        word = sys.argv[1]
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if word.isdigit():
            sys.exit(int(word))
        print("did", word, sys.argv[2:], repr(sys.stdin.read()))
        """,
    )


def rows(table: str) -> list[list[str]]:
    """The cells of a table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


@pytest.mark.feature(72, 73)
def test_a_run_for_each_argument_and_a_table_of_exits(job: str) -> None:
    done = relieve("queue", "-c", 2, job, "a b", "0", "3", "kill")
    assert done.returncode == 1
    assert "did a b [] ''\n" in done.stdout
    assert [row[:3] for row in rows(done.stdout)] == [
        ["#", "argument", "exit"],
        ["1", "a b", "exit code 0"],
        ["2", "0", "exit code 0"],
        ["3", "3", "exit code 3"],
        ["4", "kill", "killed by SIGKILL"],
    ]
    assert done.stdout.endswith("\n4 runs, 2 failed\n")


def test_all_well_is_status_0(job: str) -> None:
    done = relieve("queue", job, given="0\n0")
    assert done.returncode == 0
    assert done.stdout.endswith("\n2 runs, none failed\n")


def test_no_line_is_no_run(job: str) -> None:
    done = relieve("queue", job, given="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_so_many_at_a_time(tmp_path: Path) -> None:
    """Three that wait for each other, then five of which each must be alone."""
    folder = tmp_path / "running"
    folder.mkdir()
    target = script(
        tmp_path / "count.py",
        f"""
        import os, pathlib, sys, time
        folder = pathlib.Path({str(folder)!r})
        (folder / sys.argv[1]).touch()
        deadline = time.monotonic() + 20
        while len(os.listdir(folder)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        sys.exit(len(os.listdir(folder)) < 3)
        """,
    )
    done = relieve("queue", "-c", 3, target, *range(3))
    assert done.returncode == 0, done.stdout
    for mark in folder.iterdir():
        mark.unlink()
    done = relieve("queue", "-c", 1, script(tmp_path / "alone.py", f"""
        import os, sys
        mark = os.path.join({str(folder)!r}, sys.argv[1])
        os.close(os.open(mark, os.O_CREAT))
        alone = os.listdir({str(folder)!r}) == [sys.argv[1]]
        os.unlink(mark)
        sys.exit(0 if alone else 1)
        """), *range(5))  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_many_lines(tmp_path: Path) -> None:
    target = script(tmp_path / "quick.py", "import sys\nsys.exit(sys.argv[1] == '20')\n")
    done = relieve("queue", target, given="".join(f"{number}\n" for number in range(40)))
    table = rows(done.stdout)[1:]
    assert [row[1] for row in table] == [str(number) for number in range(40)]
    assert [row[1] for row in table if row[2] != "exit code 0"] == ["20"]
    assert done.returncode == 1


def test_a_signal_ends_the_queue_with_what_was_done(service: str, tmp_path: Path) -> None:
    with start("queue", "-c", 1, service, "a", "b", "c") as process:
        line_of(process, "serving")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert [row[1:3] for row in rows(out)[1:]] == [["a", "exit code 0"], ["b", "not run"]]
    assert sorted(err.splitlines()) == ["bye", "stopping: running scripts may finish; once more to leave at once"]
