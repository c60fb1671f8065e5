"""Every row of the feature table, and every rule, is named by the marker of at least one test."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
ROWS = range(1, 133)
RULES = range(1, 13)


def marked(marker: str) -> dict[int, list[str]]:
    """For each number that ``pytest.mark.<marker>(...)`` names on a test or class of tests, the tests."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if f"@pytest.mark.{marker}(" not in source:
            continue
        for node in ast.walk(ast.parse(source, str(path))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                for number in numbers(node, marker):
                    found.setdefault(number, []).append(f"{path.name}::{node.name}")
    return found


def numbers(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, marker: str) -> list[int]:
    return [
        argument.value
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{marker}"
        for argument in decorator.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    ]


def test_every_row_of_the_feature_table_has_a_test() -> None:
    rows = marked("feature")
    assert [row for row in ROWS if row not in rows] == []
    assert [row for row in rows if row not in ROWS] == [], "there are no such rows"


def test_every_rule_has_a_test() -> None:
    assert sorted(marked("rule")) == list(RULES)
