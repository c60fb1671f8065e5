"""What one server process imports once, for all the children that are forked from it."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Preload:
    """Tasks for which this is equal share a server."""

    modules: tuple[str, ...] = ()
    """Dotted names of modules, and paths of scripts, in their order."""
    script: tuple[str, str] | None = None
    """What is imported at the top of this one, too: its kind (``"path"`` or ``"module"``) and name."""
    sys_path: tuple[str, ...] = ()
    """Where modules are found."""
    cwd: str = "/"
    """The working directory of the imports."""
    env: tuple[tuple[str, str], ...] = ()
    """What the task adds to its environment, since libraries read theirs when they are imported."""
