"""Payloads that run code when they are unpickled, and the proof that they were not."""

from __future__ import annotations

import contextlib
import ctypes
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

assert ctypes, "is imported by who first borrows memory, and an import unmarshals what it has compiled"

exploded: list[str] = []
"""What has run."""


class _Bomb:
    """Pickles to a call of a builtin that notes it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return exec, (f"import bombs; bombs.exploded.append({self.name!r})",)


def _all() -> Iterator[tuple[str, bytes]]:
    for protocol in (0, 2, 5):
        yield f"pickle {protocol}", pickle.dumps(_Bomb(f"pickle {protocol}"), protocol)
    yield "in a list", pickle.dumps(["a", ["b", _Bomb("in a list")]], 5)
    yield "in an error", pickle.dumps(("ValueError", "text", "traceback", pickle.dumps(_Bomb("in an error"), 5)), 5)


BOMBS: dict[str, bytes] = dict(_all())


# An audit hook stays for the life of the process, so there is one, and it can be told to be silent.
_unpickled: list[str] | None = None


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if _unpickled is not None and event in ("pickle.find_class", "marshal.loads", "os.system", "os.exec", "os.fork"):
        _unpickled.append(f"{event} {args!r:.100}")


sys.addaudithook(_hear)


@contextlib.contextmanager
def nothing_unpickled() -> Iterator[None]:
    """Fails when anything in this process looks a name up for a pickle, or runs a program."""
    global _unpickled
    _unpickled = heard = []
    try:
        yield
    finally:
        _unpickled = None
    assert not heard, heard
    assert not exploded, exploded


def defused(function: Callable[[], None]) -> None:
    """Run it, where nothing may be unpickled."""
    with nothing_unpickled():
        function()
