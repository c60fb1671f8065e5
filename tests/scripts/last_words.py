"""Functions that leave last words: on stderr, by a crash, by hanging, by using too much."""

import collections
import ctypes
import fcntl
import io
import itertools
import logging
import os
import signal
import sys
import threading
import time

from relieve_py import ipc

if __name__ == "__main__":  # a program that grows
    grown = [bytearray(1 << 20) for _ in range(int(sys.argv[1]))]
    while True:
        time.sleep(60)


def quietly():
    """What is written to stderr from here on goes nowhere, as far as the system is concerned."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def say_all_and_die():
    quietly()
    print("by print", file=sys.stderr)
    logger = logging.getLogger("last.words")
    logger.addHandler(logging.StreamHandler())
    logger.error("by logging")
    try:
        raise LookupError("by a traceback")
    except LookupError:
        sys.excepthook(*sys.exc_info())
    print("unfinished", end="", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def count_on_stderr():
    """Numbered lines of many lengths, for ever."""
    quietly()
    ipc.send("counting")
    for number in itertools.count():
        print(number, "x" * (number * 7 % 301), file=sys.stderr)


def print_lines(n):
    quietly()
    for number in range(n):
        print("line", number, file=sys.stderr)
    os._exit(3)


def print_to_a_pipe_that_nobody_reads(blocking, width):
    there, here = os.pipe()
    fcntl.fcntl(here, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(here, blocking)
    raw = getattr(sys.stderr.buffer, "raw", sys.stderr.buffer)  # with PYTHONUNBUFFERED there is no buffer
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True)
    os.dup2(here, 2)
    try:
        for number in itertools.count():
            print("line", number, "x" * width, file=sys.stderr)
    except BlockingIOError:
        assert os.read(there, 4096), "now there is room"
        print("after", number, file=sys.stderr)
        os._exit(3)


def stderr_is_the_users():
    return sys.stderr.fileno(), sys.stderr.isatty(), sys.stderr.line_buffering, sys.stderr.name, sys.stderr.errors


def crash(signum):
    if signum == signal.SIGSEGV:
        ctypes.string_at(0)
    os.kill(os.getpid(), signum)
    signal.pause()


def crash_in_a_fork():
    """Forks, and the copy writes and crashes."""
    pid = os.fork()
    if pid == 0:
        print("the copy speaks", file=sys.stderr, flush=True)
        ctypes.string_at(0)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status)


def loop_in_c():
    """Never releases the GIL, and looks at no signal."""
    ipc.send("hanging")
    collections.deque(itertools.repeat(None), maxlen=0)


def loop_in_python():
    ipc.send("hanging")
    while True:
        pass


def sleep(seconds=60):
    ipc.send("hanging")
    time.sleep(seconds)
    return "slept"


def end_late_while_another_thread_keeps_the_gil(late, kept):
    """Neither lets the thread that watches run; so the call is over when that reads that it is not wanted."""
    hold = ctypes.PyDLL(None).usleep
    sys.setswitchinterval(10)

    def other():
        time.sleep(0.05)
        hold(int(kept * 1e6))

    threading.Thread(target=other, daemon=True).start()
    time.sleep(0.01)
    hold(int(late * 1e6))


def mark():
    ipc.send("mark")


def eat(megabytes):
    """Has that much memory, until it is told to stop."""
    eaten = [bytearray(b"x") * (1 << 20) for _ in range(megabytes)]
    ipc.send("ate")
    time.sleep(60)
    return len(eaten)


def ask_for(megabytes):
    return len(bytearray(megabytes << 20))


def open_all():
    kept = []
    while True:
        kept.append(open(os.devnull))  # noqa: SIM115 - that is what it is for


def burn():
    ipc.send("hanging")
    while True:
        sum(range(10_000))
