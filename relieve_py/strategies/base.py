"""What a strategy is, and the two small faces through which it sees tasks and calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar


class Candidate(Protocol):
    """What a strategy may read of a task."""

    @property
    def name(self) -> str:
        """The task's name, unique in its worker."""
        ...

    @property
    def load(self) -> int:
        """The calls that wait for this task or run on it."""
        ...

    @property
    def pid(self) -> int | None:
        """The process id of the child, None while there is none."""
        ...


class Keyed(Protocol):
    """What a strategy may read of a call."""

    @property
    def key(self) -> Hashable:
        """What the caller gave with ``options(key=...)``, or None."""
        ...

    @property
    def method(self) -> Any:
        """The name that is called in the child, or None for its default."""
        ...

    @property
    def id(self) -> int:
        """The call's number, unique in this process."""
        ...


T = TypeVar("T", bound=Candidate)


class Strategy(ABC):
    """Base of the strategies here, and a convenience for others: only ``next`` must be written."""

    name: str = ""
    """How users ask for it."""
    waits: bool = False
    """True: all running tasks are candidates, busy ones too, and the call waits for the one chosen."""
    trusted: bool = False
    """True: it never blocks or raises, so any thread may call it. A subclass must say so itself."""
    indexed: bool = False
    """True: ``next`` may be given Candidates, and finds its choice without looking at each. A subclass must say so
    itself."""
    alike: bool = False
    """True: it does not look at the call, so that short ones that wait may go together to the task of its choice. A
    subclass must say so itself."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Trust is in the code that was read, and a subclass brings code of its own.
        for promise in ("trusted", "indexed", "alike"):
            if promise not in cls.__dict__:
                setattr(cls, promise, False)

    def push(self, task: Candidate) -> None:  # noqa: B027 - optional
        """A task has joined the worker."""

    def remove(self, task: Candidate) -> None:  # noqa: B027 - optional
        """A task has left the worker. Its last calls may end after this."""

    def start(self, task: Candidate, call: Keyed) -> None:  # noqa: B027 - optional
        """``call`` was given to ``task``."""

    def end(self, task: Candidate, call: Keyed) -> None:  # noqa: B027 - optional
        """``call`` is over on ``task``: done, failed, timed out, cancelled, or its child died."""

    @abstractmethod
    def next(self, tasks: Sequence[T], call: Keyed) -> T:
        """The one of ``tasks`` that gets ``call``, or an awaitable of it. ``tasks`` is in order of membership and never
        empty."""
