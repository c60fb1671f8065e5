"""Prepare a child's process before its script is loaded, without a line in the script.

Run it with: python tutorials/containers/example.py
"""

import os
from pathlib import Path

import rooms

from relieve_py import CallableTask, StartError

REPORTS = Path(__file__).with_name("reports.py")


def refuse() -> None:
    """A container that raises: the task does not start."""
    raise RuntimeError("no room for you")


def main() -> None:
    containers = [rooms.polite, rooms.scratch_folder, "rooms:log_to_parent"]  # functions, or where to find them
    with CallableTask(REPORTS, containers=containers) as task:
        logged = task.wait_for("log")
        folder = task.get("write", "quarter").result()
        level, line = logged.result()
        print("log of the child:", level, line)
        print("the report went to a scratch folder:", folder.startswith("scratch-"))
        print("the child steps back by", task.get("niceness").result() - os.nice(0))

    try:
        CallableTask(REPORTS, name="refused", containers=[refuse]).start().result()
    except StartError as error:
        print("not started:", error)


if __name__ == "__main__":
    main()
