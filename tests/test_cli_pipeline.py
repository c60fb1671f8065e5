"""``relieve map`` between pipes: flat memory however large the input is, and a slow command behind it holds it back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cli_kit import RELIEVE, script

pytest.importorskip("click", reason="the command needs the extra cli")

LINE = 64 << 10
TOTAL = 2 << 30 if os.environ.get("RELIEVE_FULL") else 40 << 20
LIMIT = 20 << 20

SOURCE = "import sys\nfor n in range(int(sys.argv[1])): sys.stdout.buffer.write(b'%0*d\\n' % (int(sys.argv[2]), n))"

# The command, which in the end tells how large it was at most.
MEASURED = """
import re, sys
from pathlib import Path
from relieve_py.__main__ import main
try:
    main()
finally:
    sys.stderr.write(re.search("VmHWM.*", Path("/proc/self/status").read_text()).group())
"""


def source(lines: int, length: int) -> subprocess.Popen[bytes]:
    """Writes so many numbers, a line of that many digits each."""
    return subprocess.Popen([sys.executable, "-c", SOURCE, str(lines), str(length)], stdout=subprocess.PIPE)


def mapped(task: str, lines: int) -> tuple[list[bytes], int]:
    """The results for so many long lines, and how large the command was at most, in bytes."""
    with source(lines, LINE) as given:
        command = [sys.executable, "-c", MEASURED, "map", task, "-n", "2"]
        done = subprocess.run(command, stdin=given.stdout, capture_output=True, check=True)
    most = re.search(rb"VmHWM:\s+(\d+) kB", done.stderr)
    assert most is not None, done.stderr
    return done.stdout.splitlines(), int(most[1]) << 10


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.timeout(240)
def test_memory_is_flat_however_large_the_input_is(tmp_path: Path) -> None:
    task = script(tmp_path / "short.py", "def default(line): return f'{len(line)} {int(line[-9:])}'\n")
    count = TOTAL // LINE
    few, small = mapped(task, 100)
    many, large = mapped(task, count)
    assert many[:100] == few
    assert many == [b"%d %d" % (LINE, n) for n in range(count)]
    assert large - small < LIMIT


def test_a_slow_command_holds_back_the_one_before_it(tmp_path: Path) -> None:
    lines, length = 600, 4000
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    begun.touch()
    os.mkfifo(gate)
    fast = script(
        tmp_path / "fast.py",
        f"""
        def default(line):
            with open({str(begun)!r}, "a") as file:
                file.write(".")
            return line
        """,
    )
    slow = script(
        tmp_path / "slow.py",
        f"""
        opened = False

        def default(line):
            global opened
            if not opened:
                with open({str(gate)!r}) as file:
                    file.read()
            opened = True
            return int(line)
        """,
    )
    got: list[bytes] = []
    with (
        source(lines, length) as given,
        subprocess.Popen([*RELIEVE, "map", fast, "-n", "1"], stdin=given.stdout, stdout=subprocess.PIPE) as first,
        subprocess.Popen([*RELIEVE, "map", slow, "-n", "1"], stdin=first.stdout, stdout=subprocess.PIPE) as second,
    ):
        assert given.stdout is not None
        assert first.stdout is not None
        assert second.stdout is not None
        given.stdout.close()
        first.stdout.close()
        reader = threading.Thread(target=lambda: got.extend(second.stdout or []))
        reader.start()
        with gate.open("w"):  # once it is open, slow.py has its first line, and waits
            held_back = standstill(begun)
        reader.join()
    assert [first.returncode, second.returncode] == [0, 0]
    assert got == [b"%d\n" % n for n in range(lines)]
    assert 0 < held_back < lines / 4
    assert begun.stat().st_size == lines


def standstill(path: Path) -> int:
    """The size of that file once it has stopped to grow for a while."""
    size, since = -1, time.monotonic()
    pause = threading.Event()  # never set: nobody tells that nothing happens
    while time.monotonic() < since + 0.3:
        if path.stat().st_size != size:
            size, since = path.stat().st_size, time.monotonic()
        pause.wait(0.02)
    return size
