"""A program whose standard streams are closed, as a daemon's may be: no channel gets their numbers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from faulting import DEADLINE

PROGRAM = """
    import os, sys
    from relieve_py import CallableTask, CloudWorker

    def speak(n):
        for fd in (1, 2):
            os.write(fd, b"nobody hears this")
        return n

    def pool(launcher):
        with CloudWorker(CallableTask(speak, launcher=launcher), size=2) as worker:
            return sum(worker.map(None, range(100)))

    def pool_in_a_child(launcher):
        with CallableTask(pool, launcher=launcher) as task:
            return task.get(None, launcher).result(20)

    def main(launcher, path):
        found = [pool(launcher), pool_in_a_child(launcher)]
        for fd in range(3):
            try:
                os.close(fd)
            except OSError:
                pass
        found += [pool(launcher), pool_in_a_child(launcher)]
        with open(path, "w") as result:
            print(*found, file=result)

    if __name__ == "__main__":
        main(*sys.argv[1:])
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_closed_and_nothing_else(launcher: str, tmp_path: Path, closed: str) -> None:
    path, result = tmp_path / "program.py", tmp_path / "result"
    path.write_text(textwrap.dedent(PROGRAM))
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, str(path), launcher, str(result)]
    subprocess.run(command, check=True, timeout=DEADLINE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert result.read_text().split() == ["4950"] * 4
