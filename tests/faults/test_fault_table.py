"""Every case of the fault table is named by the marker of at least one test."""

from __future__ import annotations

import ast
from pathlib import Path

CASES = range(1, 77)
MISSING = frozenset({})
"""Cases that have no test yet. This only ever shrinks."""


def proved() -> set[int]:
    """The numbers in ``pytest.mark.fault(number)`` and in ``case(number, ...)``, which puts that mark on a row."""
    return {
        node.args[0].value
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pytest.mark.fault", "case")
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, int)
    }


def test_every_case_has_a_test() -> None:
    assert sorted(set(CASES) - proved() - MISSING) == [], "cases without a test"
    assert sorted(proved() & MISSING) == [], "cases that are not missing any more"
    assert sorted((proved() | MISSING) - set(CASES)) == [], "there are no such cases"
