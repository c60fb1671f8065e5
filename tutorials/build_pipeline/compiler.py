"""What the children of the first stage serve: one source file is checked and compiled at a time."""

import ast
import py_compile
from pathlib import Path

from relieve_py import ipc


def parse(source: Path) -> int:
    """How many statements there are. Raises SyntaxError."""
    return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(source.read_bytes(), str(source))))


def compile_file(job: tuple[Path, Path]) -> tuple[str, int]:
    """Compile ``(source, target)``; the name of the source, and its statements. Raises SyntaxError."""
    source, target = job
    statements = parse(source)
    ipc.send("stage.parsed", source.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(str(source), cfile=str(target), doraise=True)
    ipc.send("stage.compiled", source.name)
    return source.name, statements
