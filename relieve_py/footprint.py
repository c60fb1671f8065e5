"""How much memory a process has, by one small read that does not wait."""

from __future__ import annotations

import os
import sys

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int | None:
    """The resident memory of that process; None when it is gone."""
    if not sys.platform.startswith("linux"):
        return _by_psutil(pid)
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            return int(file.read(100).split()[1]) * _PAGE
    except (OSError, IndexError):
        return None


def _by_psutil(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
