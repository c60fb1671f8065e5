"""Chaos for the tests of users: children are killed, stopped, delayed and made to write garbage, at given rates."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from types import TracebackType
from typing import Any, Self

import attrs

from relieve_py import plugins
from relieve_py.hookspecs import hookimpl
from relieve_py.patterns import matches
from relieve_py.testing.striking import Page, Striker


@attrs.frozen(kw_only=True)
class ChaosCounts:
    """How often chaos has struck."""

    calls: int = 0
    """Calls that began in children under chaos; each try counts."""
    kills: int = 0
    """Children that died by SIGKILL."""
    stops: int = 0
    """Children that were stopped by SIGSTOP."""
    delays: int = 0
    """Calls that began late."""
    corruptions: int = 0
    """Children that wrote garbage to their channel."""

    def __add__(self, other: ChaosCounts) -> ChaosCounts:
        mine, others = attrs.asdict(self), attrs.asdict(other)
        return ChaosCounts(**{name: mine[name] + others[name] for name in mine})


class Chaos:
    """A context in which the children of every task made there suffer, at these rates::

        with Chaos(kill=0.01, delay=0.05) as chaos:
            test_my_program()
        print(chaos.counts)

    ``kill``, ``stop``, ``delay`` and ``corrupt`` are probabilities, from 0 to 1, for each call (``get``, ``call``, each
    item of a ``map``, a ``stream`` as a whole; each try of a call that is tried again) that begins in a child. A call
    suffers one of the first, second and fourth at most, so these three may add up to 1. They strike before the
    function runs, or when it is through and its answer is not sent yet, either half of the times; in a stream, before
    its first item or after that.

    - ``kill``: the child dies by SIGKILL.
    - ``stop``: it is stopped by SIGSTOP; only a ``timeout`` of the call or the ``heartbeat`` of the task notices.
    - ``delay``: the call begins ``delay_seconds`` late.
    - ``corrupt``: the child writes garbage to its channel, for which its parent kills and replaces it.

    Events draw nothing, but a child that is struck loses those that it has not handled. Programs (ScriptTask, ForkTask)
    have no calls and are spared.

    ``only`` restricts it to tasks whose name matches that pattern (``"web-*"``) when they are made. What befalls the
    n-th call on the m-th task made here depends on ``seed`` (a number or a text), n and m alone; without one it is
    drawn, and shown by ``repr()``. Leaving the context ends it for all. Another may be entered within, and the same
    one again after. Raises TypeError or ValueError that name the option.
    """

    def __init__(
        self,
        *,
        kill: float = 0.0,
        stop: float = 0.0,
        delay: float = 0.0,
        corrupt: float = 0.0,
        delay_seconds: float = 0.05,
        seed: int | str | None = None,
        only: str | None = None,
    ) -> None:
        self._rates = {"kill": kill, "stop": stop, "delay": delay, "corrupt": corrupt}
        for name, rate in self._rates.items():
            if not 0 <= _number(name, rate) <= 1:
                raise ValueError(f"{name} must be a probability from 0 to 1, not {rate!r}")
        if kill + stop + corrupt > 1 + 1e-9:  # 0.1 + 0.2 + 0.7 is more than 1 to a computer
            raise ValueError("kill, stop and corrupt must add up to 1 at most: a call suffers only one of them")
        if not 0 <= _number("delay_seconds", delay_seconds) < threading.TIMEOUT_MAX:
            raise ValueError(f"delay_seconds must be a number of seconds, not {delay_seconds!r}")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, str))):
            raise TypeError(f"seed must be a whole number or a text, not {seed!r}")
        if only is not None and not isinstance(only, str):
            raise TypeError(f"only must be a pattern of task names, not {only!r}")
        self.seed: int | str = secrets.randbits(32) if seed is None else seed
        """What all that happens depends on."""
        self._delay_seconds = delay_seconds
        self._only = only
        self._lock = threading.Lock()  # owner: whoever touches what follows
        self._folder: str | None = None  # where the pages are; None outside the context
        self._pages: list[Page] = []
        self._over = ChaosCounts()  # of the contexts that were left

    def __repr__(self) -> str:
        rates = "".join(f"{name}={rate:g}, " for name, rate in self._rates.items() if rate)
        return f"Chaos({rates}seed={self.seed!r})"

    @property
    def counts(self) -> ChaosCounts:
        """How often it has struck until now; after the context, in all."""
        with self._lock:
            return sum((ChaosCounts(**page.counts()) for page in self._pages), self._over)

    def __enter__(self) -> Self:
        with self._lock:
            if self._folder is not None:
                raise RuntimeError(f"{self!r} has been entered already")
            self._folder = os.path.abspath(tempfile.mkdtemp(prefix="relieve-chaos-"))
        plugins.register(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        plugins.unregister(self)
        with self._lock:
            pages, self._pages = self._pages, []
            for page in pages:
                page.on = False
                self._over += ChaosCounts(**page.counts())
                page.close()
            folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder)

    @hookimpl
    def relieve_containers(self, task: Any) -> list[Striker]:
        """What strikes in the children of that task."""
        if self._only is not None and not matches(self._only, task.name):
            return []
        with self._lock:
            if self._folder is None:
                return []
            number = len(self._pages)
            path = os.path.join(self._folder, str(number))
            self._pages.append(Page(path, make=True))
        return [Striker(path, self.seed, number, self._rates, self._delay_seconds)]


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    return value
