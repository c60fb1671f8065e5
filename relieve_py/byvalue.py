"""Functions and classes that the other side cannot import: sent by what they are, with dill.

A class is known on both sides by a token, so that it comes back as the class that left, and ``except MyError`` works
for a class of the user's ``__main__``.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from types import FunctionType
from typing import Any

MAIN = "__main__"
MAIN_OF_MULTIPROCESSING = "__mp_main__"
"""What the program is called in a child of ``multiprocessing`` that was not forked."""
MAINS = (MAIN, MAIN_OF_MULTIPROCESSING)


def importable(obj: Any) -> bool:
    """True when the other side finds the same function or class by its module and name."""
    module = getattr(obj, "__module__", None)
    if module is None or module in MAINS:
        return False
    found: Any = sys.modules.get(module)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def dump_by_value(obj: Any, within: frozenset[type] = frozenset()) -> bytes:
    """dill's pickle of ``obj``. Classes are sent so that each side knows its own again, see reduce_class."""
    import dill

    class ByValue(dill.Pickler):  # type: ignore[misc] # dill is untyped
        def reducer_override(self, part: Any) -> Any:
            if isinstance(part, type) and part not in within and not importable(part):
                return reduce_class(part, within)
            return NotImplemented

        def save(self, part: Any, *args: Any) -> None:
            if isinstance(part, (FunctionType, type)) and part.__module__ == MAIN_OF_MULTIPROCESSING:
                with _of_main(part):
                    super().save(part, *args)
            else:
                super().save(part, *args)

    file = io.BytesIO()
    try:
        ByValue(file, protocol=5, recurse=True).dump(obj)
    except RecursionError:  # a closure that holds itself: dill manages that only with all of its globals
        file = io.BytesIO()
        ByValue(file, protocol=5, recurse=False).dump(obj)
    return file.getvalue()


_renaming = threading.RLock()  # owner: the thread that dumps what has another name meanwhile


@contextlib.contextmanager
def _of_main(obj: Any) -> Iterator[None]:
    """What belongs to the program, by the name by which dill knows that."""
    with _renaming:
        name, obj.__module__ = obj.__module__, MAIN
        try:
            yield
        finally:
            obj.__module__ = name


def load_by_value(data: bytes) -> Any:
    """What ``dump_by_value`` was given, again."""
    import dill

    return dill.loads(data, ignore=True)


_token_of_class: weakref.WeakKeyDictionary[type, tuple[str, bytes]] = weakref.WeakKeyDictionary()
_rebuilding = threading.RLock()  # owner: the thread that rebuilds a class, so that no two make the same
_class_of_token: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


def reduce_class(cls: type, within: frozenset[type] = frozenset()) -> Any:
    """How a class travels by value; NotImplemented for one that is everywhere."""
    if getattr(sys.modules.get("builtins"), cls.__name__, None) is cls or cls.__module__ == "builtins":
        return NotImplemented
    known = _token_of_class.get(cls)
    if known is None:
        known = os.urandom(16).hex(), dump_by_value(cls, within | {cls})
        _token_of_class[cls] = known
        _class_of_token[known[0]] = cls
    return _rebuild_class, known


def _rebuild_class(token: str, data: bytes) -> type:
    with _rebuilding:
        cls = _class_of_token.get(token)
        if cls is None:
            cls = load_by_value(data)
            _token_of_class[cls] = token, data
            _class_of_token[token] = cls
    return cls
