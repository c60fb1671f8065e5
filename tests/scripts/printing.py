"""Prints in every way there is."""

import os
import signal
import subprocess
import sys


def say(out: str, err: str = "") -> None:
    """By Python, by descriptor as C code does, and by another program."""
    print(out)
    os.write(1, f"C {out}\n".encode())
    subprocess.run(["echo", f"program {out}"], check=True)
    if err:
        print(err, file=sys.stderr)
        os.write(2, f"C {err}\n".encode())


def die_talking(lines: int, signum: int) -> None:
    for number in range(lines):
        print(f"line {number}")
    print("no end", end="", flush=True)
    signal.raise_signal(signum)


def flood(megabytes: int) -> int:
    line = b"x" * 1023 + b"\n"
    for _ in range(megabytes * 1024):
        os.write(1, line)
    return megabytes
