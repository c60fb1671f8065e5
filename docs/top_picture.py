"""Makes the picture of ``relieve top``: what it shows of a pool at work, as SVG.

``python docs/top_picture.py`` writes ``docs/_static/top.svg``.
"""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console

from relieve_py import CallableTask, CloudWorker, RestartPolicy
from relieve_py.cli.top import Picture
from relieve_py.publishing import snapshots

PICTURE = Path(__file__).parent / "_static" / "top.svg"
CALLS = 40
"""That are open at any time."""


def resize(number: int) -> int:
    """Takes some milliseconds; fails at times, and crashes at others."""
    end = time.process_time() + 0.002
    while time.process_time() < end:
        pass
    time.sleep(0.004)
    if number % 211 == 0:
        raise ValueError("this is no picture")
    if number % 900 == 450:
        os.abort()
    return number


def feed(worker: CloudWorker, enough: threading.Event) -> None:
    """Keep it at work."""
    number = 0
    while not enough.is_set():
        replies = [worker.get(None, number + place) for place in range(CALLS)]
        number += CALLS
        for reply in replies:
            reply.exception()


def main() -> None:
    """Two looks a moment apart, so that there is a rate; the second is the picture."""
    console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
    task = CallableTask(resize, restart=RestartPolicy(max_restarts=100))
    enough = threading.Event()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, CloudWorker(task, size=4, name="thumbnails") as worker:
        os.environ["XDG_RUNTIME_DIR"] = folder
        worker.publish()
        feeder = threading.Thread(target=feed, args=(worker, enough))
        feeder.start()
        picture = Picture(console)
        for wait in (4.0, 1.0):
            time.sleep(wait)
            seen = picture.of(list(snapshots(os.getpid())))
        console.print(seen)
        enough.set()
        feeder.join()
        worker.unpublish()
    PICTURE.write_text(console.export_svg(title="relieve top"), encoding="utf-8")


if __name__ == "__main__":
    main()
