"""Notices that files have changed, by watchfiles, which the extra ``watch`` installs."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from relieve_py.log import logger

STEP = 100
"""Milliseconds for which nothing more may change before what has changed is told. Less: one that is still being written
is loaded; more: it is loaded later."""
LONGEST = 1000
"""Milliseconds after which it is told all the same."""
LOOK_EVERY = 1000
"""Milliseconds after which files are looked at although nothing was told of them: they may have changed before that was
so. Less: sooner; more: fewer looks."""


def watched_paths(watch: Any) -> tuple[str, ...] | None:
    """What a user gave as ``watch``: None for False, else the paths beside the scripts. Raises TypeError,
    ValueError for what is not there, and ImportError without watchfiles."""
    if watch is False:
        return None
    given: Any = () if watch is True else watch
    if isinstance(given, (str, bytes, os.PathLike)) or not isinstance(given, Iterable):
        raise TypeError(f"watch must be True, False or a list of paths, not {watch!r}")
    paths = [os.path.realpath(os.fspath(path)) for path in given]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise ValueError(f"watch: there is no {missing[0]!r}")
    try:
        importlib.import_module("watchfiles")
    except ImportError as error:
        raise ImportError("watch needs watchfiles: pip install 'relieve-py[watch]'", name="watchfiles") from error
    return tuple(paths)


def file_of(kind: str, script: str) -> str | None:
    """The file of a script; None when it has none that is read anew, as an object that is sent. Imports nothing."""
    if kind == "path":
        return os.path.realpath(script)
    if kind != "module":
        return None
    places: Any = sys.path
    spec = None
    name = ""
    for part in script.split("."):
        name = f"{name}.{part}" if name else part
        spec = importlib.machinery.PathFinder.find_spec(name, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return os.path.realpath(spec.origin) if spec is not None and spec.origin is not None else None


class Watch:
    """Calls ``changed(paths)`` on a thread of its own whenever some of the files, or something below the directories,
    has changed. What changes while that runs is told afterwards."""

    def __init__(self, changed: Callable[[frozenset[str]], object]) -> None:
        self._changed = changed
        self._lock = threading.Lock()  # owner: whoever begins or ends
        self._paths: frozenset[str] = frozenset()
        self._over = threading.Event()

    def begin(self, paths: Iterable[str]) -> None:
        """Watch these, and no others, from now on."""
        wanted = frozenset(paths)
        with self._lock:
            if wanted == self._paths and not self._over.is_set():
                return
            self._over.set()
            self._over, self._paths = threading.Event(), wanted
            over = self._over
        directories = {path for path in wanted if os.path.isdir(path)}
        if directories:
            self._start(sorted(directories), True, over, lambda told: frozenset(told))
        if files := Files(wanted - directories):
            # Editors write another file and rename it, so what is watched of a file is the directory that it is in.
            self._start(sorted({os.path.dirname(path) for path in files.seen}), False, over, lambda _: files.changed())

    def _start(
        self,
        places: list[str],
        recursive: bool,
        over: threading.Event,
        which: Callable[[Iterable[str]], frozenset[str]],
    ) -> None:
        args = (places, recursive, over, which, self._changed)
        threading.Thread(target=_watch, args=args, name="relieve-watch", daemon=True).start()

    def end(self) -> None:
        """Watch nothing more."""
        with self._lock:
            self._over.set()
            self._paths = frozenset()


class Files:
    """Files as they were when they were last looked at, so that nothing is told twice, or missed before they were
    watched."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.seen = {path: _state_of(path) for path in paths}

    def __bool__(self) -> bool:
        return bool(self.seen)

    def changed(self) -> frozenset[str]:
        """Those that are there and have changed since the last look."""
        changed = []
        for path, before in self.seen.items():
            now = _state_of(path)
            if now is not None and now != before:
                self.seen[path] = now
                changed.append(path)
        return frozenset(changed)


def _state_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # it is being replaced
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _watch(
    places: list[str],
    recursive: bool,
    over: threading.Event,
    which: Callable[[Iterable[str]], frozenset[str]],
    changed: Callable[[frozenset[str]], object],
) -> None:
    """On a thread of its own, until ``over``."""
    watchfiles: Any = importlib.import_module("watchfiles")
    try:
        for changes in watchfiles.watch(
            *places,
            debounce=LONGEST,
            step=STEP,
            rust_timeout=LOOK_EVERY,
            yield_on_timeout=True,
            stop_event=over,
            recursive=recursive,
            raise_interrupt=False,
        ):
            paths = which(path for _, path in changes)
            if paths and not over.is_set():
                changed(paths)
    except Exception:  # a directory is gone, or there are too many of them
        logger.exception("relieve_py cannot watch %s any more", ", ".join(places))
