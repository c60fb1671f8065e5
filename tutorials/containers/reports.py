"""What the child serves. It knows nothing of the containers that prepare its process."""

import logging
import os
import tempfile
from pathlib import Path

logger = logging.getLogger("reports")


def write(title: str) -> str:
    """Write a report to a scratch file, with a line in the log."""
    path = Path(tempfile.gettempdir(), f"{title}.txt")
    path.write_text(title.upper(), encoding="utf-8")
    logger.info("wrote %s", path.name)
    return path.parent.name


def niceness() -> int:
    """How far this process steps back behind others."""
    return os.nice(0)
