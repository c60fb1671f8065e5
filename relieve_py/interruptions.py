"""Exceptions that a signal handler of the program raises in the middle of the library's own work: they are no error of
that work, and belong to whoever called."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Iterator
from types import CodeType
from typing import Any


def raised_by_handler(error: BaseException) -> bool:
    """Whether one of the program's signal handlers raised it, or something that one called. Ctrl-C's own is C, and is
    not recognized; but what that raises is no ``Exception``."""
    if threading.current_thread() is not threading.main_thread():
        return False
    codes = set(_foreign_code(error))
    return bool(codes) and not codes.isdisjoint(_code_of_handlers())


def broke_system_call(error: OSError) -> bool:
    """Whether a handler raised it where a system call was made, as an alarm does its TimeoutError, without an errno."""
    return error.errno is None or raised_by_handler(error)


def _foreign_code(error: BaseException) -> Iterator[CodeType]:
    """What has run, but our own."""
    step = error.__traceback__
    while step is not None:
        # Not by what is in their variables: a look at those of any frame crashes CPython 3.11 at times.
        if not step.tb_frame.f_globals.get("__name__", "").startswith("relieve_py."):
            yield step.tb_frame.f_code
        step = step.tb_next


def _code_of_handlers() -> Iterator[CodeType]:
    for number in range(1, signal.NSIG):
        handler: Any = signal.getsignal(number)
        if callable(handler):
            while isinstance(handler, functools.partial):
                handler = handler.func
            for runs in (handler, handler.__call__):  # a function or method, or what can be called like one
                code = getattr(runs, "__code__", None)
                if isinstance(code, CodeType):
                    yield code
