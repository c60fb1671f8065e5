"""Compress a list of folders, two at a time, with progress; one of them does not exist.

Run it with: python tutorials/compress_folders/example.py [FOLDER...]
"""

import os
import sys
import tarfile
import tempfile
from pathlib import Path

from relieve_py import QueueWorker, ScriptTask

ARCHIVE = Path(__file__).with_name("archive.py")
LIBRARY = Path(os.__file__).parent
FOLDERS = [LIBRARY / name for name in ("email", "json", "nowhere", "logging", "html")]


class Report:
    """What the children have told so far."""

    def __init__(self) -> None:
        self.steps = 0
        self.lines: dict[str, str] = {}

    def progress(self, folder: str, done: int, total: int) -> None:
        self.steps += 1
        if sys.stderr.isatty():
            print(f"\r{folder}: {done} of {total} files\033[K", end="", file=sys.stderr)

    def packed(self, folder: str, files: int, before: int, after: int) -> None:
        self.lines[folder] = f"{files} files, {before >> 10} KiB, packed to {after * 100 // before} %"

    def refused(self, folder: str, why: str) -> None:
        self.lines[folder] = why


def compress(folders: list[Path], target: Path) -> bool:
    """Pack each folder into an archive in ``target``; True when all went well."""
    report = Report()
    tasks = [ScriptTask(ARCHIVE, name=path.name, args=(path, target / f"{path.name}.tar.gz")) for path in folders]
    queue = QueueWorker(*tasks, concurrency=2)
    queue.on("progress", report.progress)
    queue.on("packed", report.packed)
    queue.on("refused", report.refused)
    exits = queue.run().result()
    for exit in exits:
        print(f"{exit.task}: {report.lines.get(exit.task, exit.describe())}")
    print("there was progress to show:", report.steps >= len([exit for exit in exits if exit.ok]))
    return all(exit.ok for exit in exits)


def main() -> None:
    folders = [Path(argument).resolve() for argument in sys.argv[1:]] or FOLDERS
    with tempfile.TemporaryDirectory() as name:
        went_well = compress(folders, Path(name))
        for path in sorted(Path(name).iterdir()):
            with tarfile.open(path) as archive:  # reads it to its end: a broken archive would raise
                print(f"{path.name} holds {len(archive.getnames())} files")
    print("all went well" if went_well else "some folders were not packed")


if __name__ == "__main__":
    main()
