"""Pure policies: when a child is followed by another, when it is replaced, and when a call is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from relieve_py.exits import Exit

MIN_BACKOFF = 0.05
"""Seconds that the second restart of a crash loop waits at least, and the base of the backoff when ``delay`` is 0."""
LONGEST_DELAY = 86400.0
"""Seconds that no backoff exceeds, whatever its factor."""


def _grown(seconds: float, factor: float, times: int) -> float:
    """``seconds * factor ** times``, bounded."""
    try:
        return min(float(seconds * factor**times), LONGEST_DELAY)
    except OverflowError:
        return LONGEST_DELAY


def _at_least(limit: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{attribute.name} must be a number, not {value!r}")
        if not value >= limit:
            raise ValueError(f"{attribute.name} must be at least {limit}, not {value!r}")

    return check


def _above_zero(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    _at_least(0)(instance, attribute, value)
    if not 0 < value < float("inf"):
        raise ValueError(f"{attribute.name} must be a number of seconds above 0, not {value!r}")


def _whole(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be a whole number, not {value!r}")


def _or_none(check: Callable[[Any, attrs.Attribute[Any], Any], None]) -> Any:
    return attrs.validators.optional(check)


@attrs.frozen
class RestartPolicy:
    """When a child that ended is followed by another.

    A death counts towards the budget when no call was running (a death that a call caused costs that call) and it was
    no normal exit. Each such death in a row makes the next restart wait longer; a call that is finished, or a healthy
    uptime, starts over.
    """

    mode: str = attrs.field(default="always")
    """``"always"``, ``"on-failure"`` (not after exit code 0) or ``"never"``."""
    max_restarts: int = attrs.field(default=10, validator=[_whole, _at_least(0)])
    """The budget: this many counted deaths within ``within`` seconds; one more and the task is FAILED."""
    within: float = attrs.field(default=60.0, validator=_at_least(0))
    """Seconds of the sliding window of the budget."""
    delay: float = attrs.field(default=0.0, validator=_at_least(0))
    """Seconds before the first restart; 0 restarts at once."""
    backoff: float = attrs.field(default=2.0, validator=_at_least(1))
    """Each further restart of a crash loop waits this many times longer."""
    max_delay: float = attrs.field(default=30.0, validator=_at_least(0))
    """Seconds that no delay exceeds."""

    @mode.validator
    def _known(self, attribute: attrs.Attribute[str], value: str) -> None:
        if value not in ("always", "on-failure", "never"):
            raise ValueError(f"mode must be 'always', 'on-failure' or 'never', not {value!r}")

    def wants(self, exit: Exit) -> bool:
        """True when a child that ended like this should be followed by another."""
        return self.mode == "always" or (self.mode == "on-failure" and not exit.ok)

    def delay_before(self, in_a_row: int, jitter: float) -> float:
        """Seconds before the restart after ``in_a_row`` counted deaths; ``jitter`` in [0, 1) takes off up to a
        tenth."""
        if in_a_row <= 1:
            return min(self.delay, self.max_delay)
        seconds = _grown(max(self.delay, MIN_BACKOFF), self.backoff, in_a_row - 2 + (self.delay > 0))
        return min(seconds, self.max_delay) * (1 - 0.1 * jitter)


NEVER = RestartPolicy(mode="never")


def restart_policy(option: bool | RestartPolicy | None, default: RestartPolicy) -> RestartPolicy:
    """What a user's ``restart=`` means. Raises TypeError."""
    if option is None:
        return default
    if isinstance(option, bool):
        return RestartPolicy() if option else NEVER
    if isinstance(option, RestartPolicy):
        return option
    raise TypeError(f"restart must be True, False or a RestartPolicy, not {option!r}")


def _as_classes(on: type[BaseException] | Iterable[type[BaseException]]) -> tuple[type[BaseException], ...]:
    if isinstance(on, type) or not isinstance(on, Iterable):
        return (on,)  # what is no class is refused by the validator
    return tuple(on)


@attrs.frozen
class RetryPolicy:
    """When a call that failed is tried again: after a death of the child and a timeout; what the user's code
    raised only if ``on`` names it."""

    max: int = attrs.field(default=0, validator=[_whole, _at_least(0)])
    """How many times, after the first try."""
    on: tuple[type[BaseException], ...] = attrs.field(default=(), converter=_as_classes)
    """Exceptions of the user's code that are retried too."""
    delay: float = attrs.field(default=0.0, validator=_at_least(0))
    """Seconds before the first retry."""
    backoff: float = attrs.field(default=1.0, validator=_at_least(1))
    """Each further retry waits this many times longer."""

    @on.validator
    def _classes(self, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
        if not all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in value):
            raise TypeError(f"on must be exception classes, not {value!r}")

    def allows(self, failures: int, error: BaseException, died: bool) -> bool:
        """True when, after ``failures`` failed tries the last of which ended with ``error``, another is due."""
        return failures <= self.max and (died or isinstance(error, self.on))

    def delay_before(self, failures: int) -> float:
        """Seconds before the retry that follows ``failures`` failed tries."""
        return _grown(self.delay, self.backoff, failures - 1)


def retry_policy(option: int | RetryPolicy | None, default: RetryPolicy) -> RetryPolicy:
    """What a user's ``retries=`` means. Raises TypeError or ValueError."""
    if option is None:
        return default
    if isinstance(option, RetryPolicy):
        return option
    if isinstance(option, bool) or not isinstance(option, int):
        raise TypeError(f"retries must be a whole number or a RetryPolicy, not {option!r}")
    if option < 0:
        raise ValueError(f"retries must be at least 0, not {option!r}")
    return RetryPolicy(max=option)


@attrs.frozen
class RecyclePolicy:
    """When a child that works is replaced by a fresh one, always between two calls: none is lost."""

    max_calls: int | None = attrs.field(default=None, validator=_or_none(attrs.validators.and_(_whole, _at_least(1))))
    """After so many calls; None: never."""
    max_age: float | None = attrs.field(default=None, validator=_or_none(_above_zero))
    """After so many seconds, less up to a tenth by chance, so that the tasks of a worker do not all go at once."""
    rss: int | None = attrs.field(default=None, validator=_or_none(attrs.validators.and_(_whole, _at_least(1))))
    """When its resident memory is above so many bytes at the end of a call."""
    idle: float | None = attrs.field(default=None, validator=_or_none(_above_zero))
    """After so many seconds without a call it is let go, and the next call starts another."""

    @property
    def for_calls_only(self) -> tuple[str, ...]:
        """The names of what is set here that has a meaning only for a task that serves calls."""
        return tuple(name for name in ("max_calls", "idle") if getattr(self, name) is not None)


UNCHANGED = RecyclePolicy()
