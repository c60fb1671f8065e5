"""Where what children print may go, and one line of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import attrs

WORDS = ("inherit", "capture", "log")
KEPT = 64 * 1024


@attrs.frozen(kw_only=True)
class OutputLine:
    """A line that a child has printed."""

    task: str
    """The task's name."""
    stream: str
    """``"stdout"`` or ``"stderr"``."""
    text: str
    """The line without its end; bytes that are no UTF-8 are replaced."""
    at: float
    """When it was read, in seconds since the epoch."""


Target = str | os.PathLike[str] | Callable[[OutputLine], object]


def _as_target(target: Any) -> Any:
    if isinstance(target, os.PathLike):
        return os.path.abspath(target)
    return os.path.abspath(target) if is_path(target) else target


def _is_target(instance: Any, attribute: attrs.Attribute[Any], target: Any) -> None:
    name = "output" if attribute.name == "to" else f"output: {attribute.name}"
    if target is None and attribute.name == "stderr":
        return
    if not isinstance(target, str) and not callable(target):
        raise TypeError(f"{name} must be {', '.join(WORDS)}, a path, a function of a line or an Output, not {target!r}")
    if isinstance(target, str) and not is_path(target) and target not in WORDS:
        raise ValueError(f"{name} must be one of {', '.join(WORDS)}, or a path with a dot or a slash, not {target!r}")


def is_path(target: object) -> bool:
    """True for the path of a file, which shows in a dot or a slash."""
    return isinstance(target, str) and ("." in target or os.sep in target)


def _above(least: float, kind: Any, what: str) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and attribute.default is None:
            return
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"output: {attribute.name} must be {what}, not {value!r}")
        if not least <= value < float("inf"):
            raise ValueError(f"output: {attribute.name} must be {what} from {least:g} on, not {value!r}")

    return check


@attrs.frozen
class Output:
    """Where what the children of a task print goes: their Python code, C code, and the programs that they start.

    ``to`` is ``"inherit"`` (the parent's own streams), ``"capture"`` (the last of it is kept in memory), ``"log"``
    (records of the logger ``relieve_py.output``: standard output at INFO, standard error at WARNING), a path, or a
    function that is called with each ``OutputLine``. In a path ``{task}`` and ``{script}`` stand for the names of
    the task and of its script; directories are made, and tasks may share a file. Of all but what is inherited the
    last is kept: ``task.output()``, and ``stdout`` and ``stderr`` of an ``Exit`` and of a ``TaskDied``.
    """

    to: Any = attrs.field(default="inherit", converter=_as_target, validator=_is_target)
    """For standard output, and for standard error unless ``stderr`` says otherwise."""
    stderr: Any = attrs.field(default=None, kw_only=True, converter=_as_target, validator=_is_target)
    """For standard error; None: the same."""
    max_bytes: int | None = attrs.field(
        default=None, kw_only=True, validator=_above(1, int, "a number of bytes or None")
    )
    """A file that would grow above it is renamed to ``NAME.1`` first, and that to ``NAME.2``, and so on."""
    every: float | None = attrs.field(
        default=None, kw_only=True, validator=_above(0.001, (int, float), "a number of seconds or None")
    )
    """A file that is older is renamed likewise, before more is written."""
    keep: int = attrs.field(default=5, kw_only=True, validator=_above(0, int, "a number of files"))
    """Renamed files that stay; older ones are deleted."""
    last: int = attrs.field(default=KEPT, kw_only=True, validator=_above(0, int, "a number of bytes"))
    """Bytes of the last lines that are kept in memory for each task."""

    @property
    def targets(self) -> dict[str, Any]:
        """For each stream that is not inherited, where it goes."""
        both = {"stdout": self.to, "stderr": self.to if self.stderr is None else self.stderr}
        return {stream: target for stream, target in both.items() if target != "inherit"}


INHERIT = Output()


def as_output(value: Any) -> Any:
    """What a user gave for the option ``output``."""
    return value if isinstance(value, Output) else Output(value)
