"""A parent that blocks signals, as one does that waits for them with ``sigwait``."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from faulting import DEADLINE

PROGRAM = """
    import os, signal, sys
    from relieve_py import CallableTask, TaskDied

    def dies():
        os._exit(3)

    def mask():
        return sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))

    if __name__ == "__main__":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with CallableTask(mask, launcher=sys.argv[1]) as task:
            assert task.get().result(20) == []
        with CallableTask(dies, launcher=sys.argv[1]) as task:
            try:
                task.get().result(20)
            except TaskDied as error:
                assert error.exit_code == 3
            else:
                raise AssertionError
"""


def test_what_a_parent_blocks_keeps_no_end_of_a_child_from_being_told(launcher: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    subprocess.run([sys.executable, str(path), launcher], check=True, timeout=DEADLINE, stdin=subprocess.DEVNULL)
