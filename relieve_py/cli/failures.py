"""What goes wrong, in one line each."""

from __future__ import annotations

from relieve_py.errors import RemoteError, RemoteTraceback

LONGEST = 100
"""Characters of an input that are shown; the middle of a longer one is left out."""
TAIL = 6
"""Lines of a child's traceback that are shown: the last call, its line, and the exception."""


class WrongUse(Exception):
    """Raised when the command was used wrongly: one line, and perhaps lines from a child that explain it."""

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details


def one_line(error: BaseException) -> str:
    """An error as ``Type: text``, on one line."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, RemoteError):
        kind, text = error.type.rpartition(".")[2], error.text
    text = " ".join(text.split())
    return f"{kind}: {text}" if text else kind


def quoted(text: str) -> str:
    """An input as it would be written in a program, shortened."""
    shown = repr(text)
    half = (LONGEST - 3) // 2
    return shown if len(shown) <= LONGEST else f"{shown[:half]}...{shown[-half:]}"


def traceback_tail(error: BaseException) -> tuple[str, ...]:
    """The last lines of the traceback that came with the error from a child; none if none came."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (RemoteTraceback, RemoteError)):
        cause = cause.__cause__
    if cause is None:
        return ()
    return tuple(cause.traceback.rstrip().splitlines()[-TAIL:])


def why_not_started(script: str, error: BaseException) -> WrongUse:
    """The wrong use that a failed start is."""
    reason = error.__cause__ if error.__cause__ is not None else error
    if isinstance(reason, RemoteTraceback):
        reason = error
    return WrongUse(f"{script} cannot be started: {one_line(reason)}", traceback_tail(error))
