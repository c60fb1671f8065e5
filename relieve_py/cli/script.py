"""What SCRIPT and SCRIPT:FUNCTION mean on the command line."""

from __future__ import annotations

import os
import sys

import attrs

from relieve_py.cli.failures import WrongUse


@attrs.frozen(kw_only=True)
class Target:
    """A script and the function of it that is wanted."""

    script: str
    """A path or a dotted module name."""
    function: str | None = None
    """The function's name; None: the script's default function."""


def read_target(text: str) -> Target:
    """``SCRIPT[:FUNCTION]``, split at the last colon unless there is a file of the whole name. Raises WrongUse."""
    script, colon, function = text.rpartition(":")
    if not colon or os.path.exists(text):
        return Target(script=read_script(text))
    if not function.isidentifier():
        raise WrongUse(f"{text!r} names no function after the colon; it is SCRIPT or SCRIPT:FUNCTION")
    return Target(script=read_script(script), function=function)


def read_script(text: str) -> str:
    """A path that exists, or a dotted module name. Raises WrongUse."""
    if os.path.exists(text):
        return text
    if text.endswith(".py") or os.sep in text:
        raise WrongUse(f"no such script: {text}")
    if not all(part.isidentifier() for part in text.split(".")):
        raise WrongUse(f"no such script: {text!r} is neither a file nor a dotted module name")
    return text


def stem(script: str) -> str:
    """What a script is called in front of its output."""
    if os.path.exists(script):
        return os.path.splitext(os.path.basename(os.path.abspath(script)))[0]
    return script.rpartition(".")[2]


def prepare_path(scripts: list[str]) -> None:
    """Let modules be found as ``python -m`` finds them, and classes of a script when a result of it arrives here."""
    if not sys.flags.safe_path and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    for script in scripts:
        folder = os.path.dirname(os.path.abspath(script))
        if os.path.exists(script) and folder not in sys.path:
            sys.path.append(folder)
