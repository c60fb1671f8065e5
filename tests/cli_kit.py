"""Runs the command as its users do: as a program of its own, with pipes or a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RELIEVE = [sys.executable, "-m", "relieve_py"]


def script(path: Path, code: str) -> str:
    """A script with that code, as the command takes it."""
    path.write_text(textwrap.dedent(code))
    return str(path)


def start(*args: object, **keywords: Any) -> subprocess.Popen[str]:
    """The command with text pipes, which is read while it runs."""
    standard: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    standard |= {"text": True, "bufsize": 1}
    return subprocess.Popen([*RELIEVE, *map(str, args)], **{**standard, **keywords})


def relieve(*args: object, given: str | None = "", **keywords: Any) -> subprocess.CompletedProcess[str]:
    """The command from its start to its end."""
    with start(*args, **keywords) as process:
        out, err = process.communicate(given)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


EACH = """
import contextlib, io, json, sys
from relieve_py.cli import main
for args in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(args)
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""


def relieve_each(commands: Sequence[Sequence[str]]) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each, one after the other in one process.

    For commands that end before they start anything: nearly all that they cost is an interpreter's start.
    """
    done = subprocess.run([sys.executable, "-c", EACH], input=json.dumps(commands), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return [(status, out, err) for status, out, err in map(json.loads, done.stdout.splitlines())]


class Terminal:
    """A pseudo-terminal. ``text`` is all that was written to it so far."""

    def __init__(self, columns: int = 100) -> None:
        self.fd, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.text = ""

    def read_until(self, pattern: str) -> str:
        """Wait until the pattern is there; returns what matched."""
        while (found := re.search(pattern, self.text)) is None:
            self._read()
        return found.group()

    def read_all(self) -> str:
        """Everything, when all who write have ended."""
        os.close(self.slave)
        self.slave = -1
        while self._read():
            continue
        return self.text

    def _read(self) -> bool:
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # Linux: nobody has the other side open
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.fd)
        if self.slave >= 0:
            os.close(self.slave)
