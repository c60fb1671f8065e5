"""Makes a process a child, and ends it: signals, the parent's death, and the way out."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import traceback
from _signal import pthread_sigmask  # type: ignore[import-not-found] # private, and there in every CPython
from types import FrameType
from typing import Any, NoReturn

from relieve_py.blackbox import DUMP_SIGNAL
from relieve_py.telling import user_traceback

INTERRUPT = signal.SIGURG
"""The signal that wakes the main thread for an interrupt. Its default action is nothing, so it can never kill."""


# Below the functions of the signal module, which make enums of all signals.
_BLOCK, _UNBLOCK, _SETMASK = int(signal.SIG_BLOCK), int(signal.SIG_UNBLOCK), int(signal.SIG_SETMASK)
_HELD = tuple(
    int(getattr(signal, f"SIG{name}"))
    for name in ("HUP", "QUIT", "TERM", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "URG", "CHLD", "WINCH", "IO")
)
_OF_MAIN = _HELD if DUMP_SIGNAL is None else (*_HELD, int(DUMP_SIGNAL))


def hold_signals() -> None:
    """Have the main thread run no handler of these signals; handlers that are due run first."""
    pthread_sigmask(_BLOCK, _HELD)


def leave_signals() -> None:
    """Have this thread, which serves the main one, take no signal that is for that: it may hold signals, and writes its
    stacks before it heeds an interrupt."""
    pthread_sigmask(_BLOCK, _OF_MAIN)


def take_signals() -> None:
    """The opposite, for while it runs code of the user: a process that is started has the mask of the thread that does
    so. So has a thread."""
    pthread_sigmask(_UNBLOCK, _OF_MAIN)


def masked_signals() -> set[int]:
    """The signals of which this thread runs no handler."""
    mask: set[int] = pthread_sigmask(_BLOCK, ())
    return mask


def mask_signals(mask: set[int]) -> None:
    """Have this thread run no handler of these signals, and those of all others; those that are due run now."""
    pthread_sigmask(_SETMASK, mask)


def become_child() -> None:
    """Signals of a child: the terminal's are the parent's business. Nothing of a tracing debugger is inherited."""
    sys.settrace(None)
    sys.setprofile(None)
    threading.settrace(None)
    threading.setprofile(None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A child has its own process group, so reading the terminal would stop it for ever; ignored, the read fails
    # instead.
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)


def forget_parents_state(clean: bool) -> None:
    """After a fork: what the parent would do at its exit is not the child's, unless that was a ``clean`` server, which
    does nothing but what its imports want. Its streams are another matter."""
    if not clean:
        atexit._clear()
    main = threading.current_thread()
    main.name = "MainThread"
    main._daemonic = False  # type: ignore[attr-defined] # of a daemon's thread, and what it starts would be one, too
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)


def leave_with_parent() -> NoReturn:
    """The parent is gone: go at once, with the whole process group if it is ours."""
    pid = os.getpid()
    if os.getpgrp() == pid:
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    os._exit(1)


def print_error(error: BaseException) -> None:
    """The traceback of the user's code, as the interpreter would print it, without the frames of this library."""
    traceback.print_exception(type(error), error, user_traceback(error))


def exit_code_of(error: SystemExit) -> int:
    """The exit code that the interpreter would use; a message is printed."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 - what the interpreter does
    return 1


def leave(code: int) -> NoReturn:
    """Join threads, run exit functions, write what is buffered, and end the process."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except SystemExit as error:
        code = exit_code_of(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):  # a closed pipe or stream: nobody reads it
                continue
        os._exit(code)


def on_interrupt(handler: Any) -> None:
    """Call ``handler()`` in the main thread when it is interrupted."""

    def handle(signum: int, frame: FrameType | None) -> None:
        handler()

    signal.signal(INTERRUPT, handle)


def interrupt(main_thread: int) -> None:
    """Wake the main thread, also out of a blocking system call, and run the handler there."""
    signal.pthread_kill(main_thread, INTERRUPT)
