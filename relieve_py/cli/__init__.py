"""The command ``relieve``: the library for those who do not want to write a program first.

This package is also imported by children, for the redirection of their streams, so it loads nothing by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

NEEDS = ("click", "rich")
"""What the extra ``cli`` installs."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command with those arguments (``sys.argv[1:]`` if None) and exit with its status."""
    missing = [package for package in NEEDS if find_spec(package) is None]
    if missing:
        there = " and ".join(missing)
        sys.stderr.write(f"relieve: the command needs {there}, install with: pip install 'relieve-py[cli]'\n")
        sys.exit(2)
    try:
        from relieve_py.cli.app import run

        status = run(args)
    except KeyboardInterrupt:  # before the command had its own handler
        status = 130
    sys.exit(status)
