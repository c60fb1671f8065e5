"""Checksums of a tree, written to an .sfv file and verified against it, by the command ``relieve map``.

Without arguments the tree is the standard library of the Python that runs it, as far as it is modules. With
``DIRECTORY [SFV]`` it is every file of that tree; ``DIRECTORY SFV --verify`` only compares it with an .sfv file that
exists.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from relieve_py import usable_cpus

HERE = Path(__file__).resolve().parent
TASK = HERE / "checksums_task.py"
SFV = HERE.parent / "build" / "checksums.sfv"
NOT_STANDARD = {"site-packages", "dist-packages", "__pycache__"}


def main() -> int:
    """Write and verify, or only verify; the exit status is 1 when a file could not be read or differs."""
    options = read_arguments()
    began = time.monotonic()
    if not options.verify:
        names = sorted(find(options.directory, options.pattern, options.sfv))
        lines = relieve_map("crc32", names, options)
        options.sfv.parent.mkdir(parents=True, exist_ok=True)
        options.sfv.write_text("".join(f"{line}\n" for line in lines), "utf-8", "surrogateescape")
    entries = [line for line in lines_of(options.sfv) if line and not line.startswith(";")]
    verdicts = relieve_map("verify", entries, options)
    wrong = [verdict for verdict in verdicts if not verdict.startswith("OK ")]
    for verdict in wrong:
        print(verdict.encode("utf-8", "backslashreplace").decode())
    unread = len(entries if options.verify else names) - len(verdicts)
    print(summary(options, entries, time.monotonic() - began, len(wrong), unread))
    return 1 if wrong or unread else 0


def read_arguments() -> argparse.Namespace:
    """The arguments, with what they leave open filled in."""
    parser = argparse.ArgumentParser(description="Checksums of a tree against an .sfv file.")
    parser.add_argument("directory", nargs="?", type=Path, help="the tree (default: Python's standard library)")
    parser.add_argument("sfv", nargs="?", type=Path, default=SFV, help=f"the .sfv file (default: {SFV})")
    parser.add_argument("--verify", action="store_true", help="compare with an .sfv file that exists")
    parser.add_argument("-n", "--children", type=int, default=usable_cpus(), help="children (default: %(default)s)")
    options = parser.parse_args()
    options.pattern = "*" if options.directory else "*.py"
    options.directory = (options.directory or Path(sysconfig.get_path("stdlib"))).resolve()
    options.sfv = options.sfv.resolve()
    if not options.directory.is_dir():
        parser.error(f"no such directory: {options.directory}")
    if options.verify and not options.sfv.is_file():
        parser.error(f"no such .sfv file: {options.sfv}")
    if options.children < 1:
        parser.error("there must be at least one child")
    return options


def find(directory: Path, pattern: str, sfv: Path) -> Iterator[str]:
    """The files of the tree, relative to it. What a line of an .sfv file cannot name is told and left out."""
    skipped = NOT_STANDARD if pattern == "*.py" else set()
    for path in directory.rglob(pattern):
        name = path.relative_to(directory)
        if skipped.intersection(name.parts) or path == sfv or not path.is_file():
            continue
        if any(end in str(name) for end in "\r\n") or str(name).startswith(";"):
            print(f"left out, an .sfv file cannot name it: {str(name)!r}", file=sys.stderr)
            continue
        yield str(name)


def relieve_map(function: str, inputs: list[str], options: argparse.Namespace) -> list[str]:
    """What that function of the task returns for each input, in their order."""
    # The names are relative to the tree. -P keeps the modules of the tree from being imported instead of Python's own.
    command = [sys.executable, "-P", "-m", "relieve_py", "map", f"{TASK}:{function}"]
    done = subprocess.run(
        [*command, "-n", str(options.children), "--retries", "1"],
        input="".join(f"{text}\n" for text in inputs).encode("utf-8", "surrogateescape"),
        stdout=subprocess.PIPE,
        cwd=options.directory,
        check=False,
    )
    if done.returncode not in (0, 1):  # 1: an input failed, which the command has reported, and which will be counted
        raise SystemExit(done.returncode)
    return done.stdout.decode("utf-8", "surrogateescape").split("\n")[:-1]


def lines_of(sfv: Path) -> list[str]:
    """The lines of an .sfv file, whose names may be any bytes."""
    return sfv.read_text("utf-8", "surrogateescape").split("\n")


def summary(options: argparse.Namespace, entries: list[str], seconds: float, wrong: int, unread: int) -> str:
    """What was done, in one line."""
    files = [options.directory / entry.rpartition(" ")[0] for entry in entries]
    sizes = sum(file.stat().st_size for file in files if file.is_file())
    done = "verified" if options.verify else "summed and verified"
    return (
        f"{len(files):,} files, {sizes:,} bytes {done} in {seconds:.1f} s by {options.children} workers: "
        f"{wrong} mismatches, {unread} unreadable ({os.path.relpath(options.sfv)})"
    )


if __name__ == "__main__":
    sys.exit(main())
