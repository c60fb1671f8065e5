"""The command of a fresh interpreter: for the server process, and for each child of ``spawn``."""

from __future__ import annotations

import os
import subprocess
import sys

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_HOME = os.path.dirname(_PACKAGE)


def interpreter_command() -> list[str]:
    """This interpreter with the flags it was given (-W, -X, -O, -I, ...), except those of debugging."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # as multiprocessing does
    return [sys.executable, *(flag for flag in flags if flag != "-d" and not flag.startswith("-Ximporttime"))]


def python_command(module: str, first: str = "") -> list[str]:
    """A command that calls ``module.main`` with the integers that are appended to it, after the statements ``first``
    that need the standard library only."""
    # -c puts the working directory first, where a file may have the name of a standard module. And this very package
    # must be the one that is imported, wherever else there is another.
    lines = (
        "import sys",
        f"sys.path[:] = [p for p in sys.path if p] + [{_HOME!r}]",
        *([first] if first else []),
        "from importlib.util import module_from_spec, spec_from_file_location as spec_of",
        f"spec = spec_of('relieve_py', {_PACKAGE!r} + '/__init__.py', submodule_search_locations=[{_PACKAGE!r}])",
        "sys.modules['relieve_py'] = module_from_spec(spec)",
        "spec.loader.exec_module(sys.modules['relieve_py'])",
        f"from {module} import main",
        "main(*map(int, sys.argv[1:]))",
    )
    return [*interpreter_command(), "-c", "; ".join(lines)]
