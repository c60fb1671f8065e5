"""``relieve map`` on pipes: order, failures, deaths, memory, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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
def task(tmp_path: Path) -> str:
    return script(
        tmp_path / "task.py",
        """
        import os, sys
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        class Odd(Exception):
            pass

        def default(text): return text.upper()
        def echo(text): return text
        def as_bytes_too(text): return os.fsencode(text) if text.startswith("bytes") else text
        def number(text): return int(text)
        def point(text): return Point(int(text))
        def shape(text): return {"text": text, "size": len(text)}
        def custom(text): raise Odd("very\\nodd")
        def chatty(text):
            print("printed", text)
            print("complained", text, file=sys.stderr)
            return text
        def result(text):
            if text == "async":
                return awaited()
            results = {"None": None, "12": 12, "dict": {"text": text}, "Point": Point(3)}
            return repr(sys.stdin.read()) if text == "stdin" else results.get(text, text)
        async def awaited(): return "awaited"
        def odd(text):
            if int(text) % 2:
                raise ValueError(f"{text} is odd")
            return text
        def die(text):
            if text == "3":
                os._exit(7)
            return text
        def wait(text):
            import time
            time.sleep(60)
        """,
    )


def test_lines_of_standard_input_in_order(task: str) -> None:
    lines = [f"line {number}" for number in range(1000)]
    done = relieve("map", task, "-n", 3, given="\n".join(lines))
    assert done.stdout.splitlines() == [line.upper() for line in lines]
    assert (done.returncode, done.stderr) == (0, "")


def test_arguments_instead_of_standard_input(task: str) -> None:
    done = relieve("map", f"{task}:echo", "b", "a", "--", "-n", given="not read\n")
    assert (done.returncode, done.stdout) == (0, "b\na\n-n\n")


def test_unordered_gives_each_result_once(task: str) -> None:
    done = relieve("map", task, "--unordered", "-n", 2, given="".join(f"{number}\n" for number in range(500)))
    assert sorted(done.stdout.split(), key=int) == [str(number) for number in range(500)]


def test_no_input_is_no_output(task: str) -> None:
    done = relieve("map", task, given="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_empty_lines_dos_line_ends_and_a_last_line_without_end(task: str) -> None:
    assert relieve("map", f"{task}:echo", given="a\n\nb\r\nc").stdout == "a\n\nb\nc\n"


def test_inputs_that_end_with_nul(task: str) -> None:
    assert relieve("map", f"{task}:number", "-0", given="1\n\x002\x00").stdout == "1\n2\n"


def test_what_a_result_looks_like(task: str) -> None:
    """Text and bytes as they are, None as nothing, all else as Python shows it, the script's classes too."""
    done = relieve("map", f"{task}:result", "text", "None", "12", "dict", "Point", "async", "stdin")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "text\n\n12\n{'text': 'dict'}\nPoint(x=3)\nawaited\n''\n"


def test_bytes_that_are_no_text_come_back_as_they_were(task: str) -> None:
    with start("map", f"{task}:as_bytes_too", text=False, bufsize=-1) as process:
        out, _ = process.communicate(b"caf\xe9 \xff\nbytes \xfe\n")
    assert out == b"caf\xe9 \xff\nbytes \xfe\n"


def test_json(task: str) -> None:
    done = relieve("map", f"{task}:shape", "--json", "é", "b")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"text": "é", "size": 1},
        {"text": "b", "size": 1},
    ]


def test_a_result_that_is_no_json_is_a_failure(task: str) -> None:
    done = relieve("map", f"{task}:point", "--json", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "failed: argument 1 '1': ValueError: the result is no JSON: Object of type Point is not JSON serializable\n"
    )


def test_failed_inputs_are_named_and_the_others_go_on(task: str) -> None:
    done = relieve("map", f"{task}:odd", given="0\n1\n2\n3\n4\n")
    assert (done.returncode, done.stdout) == (1, "0\n2\n4\n")
    assert done.stderr.splitlines() == [
        "failed: line 2 '1': ValueError: 1 is odd",
        "failed: line 4 '3': ValueError: 3 is odd",
    ]


def test_an_error_of_many_lines_takes_one(task: str) -> None:
    assert relieve("map", f"{task}:custom", "x").stderr == "failed: argument 1 'x': Odd: very odd\n"


def test_a_long_input_is_shortened_in_a_report(task: str) -> None:
    (line,) = relieve("map", f"{task}:custom", "x" * 10_000).stderr.splitlines()
    assert len(line) < 200


def test_a_death_costs_the_input_that_ran(task: str) -> None:
    done = relieve("map", f"{task}:die", "-n", 2, *range(10))
    assert (done.returncode, done.stdout.split()) == (1, list("012456789"))
    assert "argument 4 '3': TaskDied" in done.stderr
    assert "exit code 7" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_input_that_always_kills_its_child_runs_out_of_retries(task: str) -> None:
    done = relieve("map", f"{task}:die", "--retries", 1, *range(5))
    assert (done.returncode, done.stdout.split()) == (1, list("0124"))
    assert done.stderr.startswith("failed: argument 4 '3': RetriesExhausted")


def test_timeout(task: str) -> None:
    done = relieve("map", f"{task}:wait", "--timeout", 0.2, "x")
    assert done.returncode == 1
    assert done.stderr.startswith("failed: argument 1 'x': CallTimeout")


def test_what_the_function_prints_goes_to_standard_error(task: str) -> None:
    done = relieve("map", f"{task}:chatty", "a")
    assert done.stdout == "a\n"
    assert sorted(done.stderr.splitlines()) == ["complained a", "printed a"]


def test_module_by_its_dotted_name(task: str) -> None:
    done = relieve("map", "task:echo", "a", cwd=Path(task).parent)
    assert (done.returncode, done.stdout) == (0, "a\n")


def test_the_last_colon_separates_unless_there_is_a_file_of_that_name(tmp_path: Path) -> None:
    named = script(tmp_path / "a:b.py", "def default(text): return 'default'\ndef other(text): return 'other'\n")
    assert relieve("map", named, "x").stdout == "default\n"
    assert relieve("map", f"{named}:other", "x").stdout == "other\n"


@pytest.mark.parametrize("launcher", ["forkserver", "spawn", "fork"])
def test_launchers_by_name(task: str, launcher: str) -> None:
    done = relieve("map", task, "--launcher", launcher, "a", env={**os.environ, "PYTHONWARNINGS": "ignore"})
    assert (done.returncode, done.stdout) == (0, "A\n")


def test_a_strategy_by_name(task: str) -> None:
    assert relieve("map", task, "--strategy", "least-recently-used", "-n", 2, *"abc").stdout == "A\nB\nC\n"


# -- as they come ----------------------------------------------------------------------------------


def test_each_result_is_there_before_the_next_input_is(task: str) -> None:
    """A pipe that is slow at one end is no reason to hold anything back."""
    with start("map", task) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("one", "two", "three"):
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{word.upper()}\n"
        process.stdin.close()
    assert process.returncode == 0


ENDLESS = "import itertools, sys\nfor n in itertools.count(): sys.stdout.write(f'{n} ' + 'x' * 2000 + chr(10))"
GROWTH = 8 << 20
"""Bytes that the memory of the parent may grow by; as much passes through it twice between the two looks."""


def test_memory_is_flat_on_an_endless_input_and_a_closed_pipe_ends_it(task: str) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source,
        start("map", f"{task}:echo", stdin=source.stdout) as process,
    ):
        assert source.stdout is not None
        assert process.stdout is not None
        assert process.stderr is not None
        source.stdout.close()  # so that the source ends when nobody reads from it
        seen: list[int] = []
        for number in range(6000):
            assert process.stdout.readline().partition(" ")[0] == str(number)
            if number in (1000, 5999):
                seen.append(psutil.Process(process.pid).memory_info().rss)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
    assert seen[1] - seen[0] < GROWTH


def test_head_ends_it_quietly(task: str) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source,
        start("map", task, stdin=source.stdout) as process,
        subprocess.Popen(["head", "-n", "2"], stdin=process.stdout, stdout=subprocess.PIPE, text=True) as head,
    ):
        assert source.stdout is not None
        assert process.stdout is not None
        assert process.stderr is not None
        source.stdout.close()
        process.stdout.close()
        out, _ = head.communicate()
        assert [line.split()[0] for line in out.splitlines()] == ["0", "1"]
        assert process.stderr.read() == ""
    assert process.returncode == 0


# -- a child is killed -----------------------------------------------------------------------------


def test_sigkill_in_the_middle_loses_and_repeats_no_line_with_a_retry(tmp_path: Path) -> None:
    """The child is killed while it runs a call, and once more whenever the test happens to do it."""
    target = script(
        tmp_path / "victim.py",
        f"""
        import os, signal
        def default(text):
            if text == "150":
                try:
                    os.close(os.open({str(tmp_path / "killed")!r}, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    pass
                else:
                    os.kill(os.getpid(), signal.SIGKILL)
            return f"{{text}} {{os.getpid()}}"
        """,
    )
    with start("map", target, "-n", 2, "--retries", 1, *range(1500)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(400)]
        os.kill(int(lines[-1].split()[1]), signal.SIGKILL)
        lines += process.stdout.readlines()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert [int(line.split()[0]) for line in lines] == list(range(1500))
    assert (tmp_path / "killed").exists()
    assert len({line.split()[1] for line in lines}) >= 4  # two children, and two that followed


# -- signals ---------------------------------------------------------------------------------------


@pytest.fixture
def gate(tmp_path: Path) -> tuple[str, Path]:
    """A script whose calls say that they began, and end when the test writes to the gate."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    code = f"""
    import os
    def default(text):
        print("began", os.getpid())
        with open({str(path)!r}) as gate:
            return text + gate.read()
    """
    return script(tmp_path / "gated.py", code), path


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_lets_the_running_call_finish_and_starts_no_other(
    gate: tuple[str, Path], signum: int, status: int
) -> None:
    target, path = gate
    with start("map", target, "-n", 1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("a\nb\nc\n")
        process.stdin.flush()  # and it stays open: more could come
        assert process.stderr.readline().startswith("began")
        process.send_signal(signum)
        assert process.stderr.readline().startswith("stopping: ")
        path.write_text("!")
        assert process.stdout.read() == "a!\n"
        assert process.stderr.read() == "not run: 2 inputs that had been read, the first: line 2 'b'\n"
    assert process.returncode == status


def test_the_second_signal_ends_at_once(gate: tuple[str, Path]) -> None:
    target, _ = gate
    with start("map", target, "-n", 1, "a", "b") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        child = psutil.Process(int(process.stderr.readline().split()[1]))
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("stopping: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=4) == 130  # less than the grace of five seconds
        assert process.stdout.read() == process.stderr.read() == ""
    assert child.wait(timeout=4) is None or not child.is_running()


def test_a_signal_while_it_waits_for_input(task: str) -> None:
    with start("map", task) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("a\n")
        process.stdin.flush()
        assert process.stdout.readline() == "A\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
