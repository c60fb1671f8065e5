"""Three containers: what they prepare is there before the script is loaded, in every child of the task."""

import atexit
import logging
import os
import shutil
import tempfile
from types import ModuleType


def polite() -> None:
    """Let others have the processor first."""
    os.nice(5)


def scratch_folder() -> None:
    """Give the child a folder of its own for temporary files, and remove it at the end."""
    folder = tempfile.mkdtemp(prefix="scratch-")
    tempfile.tempdir = folder
    atexit.register(shutil.rmtree, folder)


def log_to_parent(ipc: ModuleType) -> None:
    """Send the child's log to the parent. A container that takes an argument is given ``ipc``."""

    class ToParent(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ipc.send("log", record.levelname, f"{record.name}: {record.getMessage()}")

    logging.basicConfig(level=logging.INFO, handlers=[ToParent()])
