"""Functions that do everything that a child should not do; each takes one argument, which most ignore."""

import ctypes
import faulthandler
import os
import signal
import sys


def echo(value=None):
    return value


def raise_key_error(_=None):
    raise KeyError("boom")


def leave(code):
    sys.exit(code)


def leave_at_once(code):
    os._exit(code)


def crash(_=None):
    faulthandler.disable()  # what pytest has enabled would print every stack, in a forked child
    ctypes.string_at(0)


def kill_itself(_=None):
    os.kill(os.getpid(), signal.SIGKILL)
