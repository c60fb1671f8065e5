"""The examples in README.md and docs/ run and print what they say, and what the pages list is what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import relieve_py
from relieve_py import hookspecs, ipc, strategies
from relieve_py.lifecycle import _LEGAL, State

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<language>[^`]*)$")
MARK = re.compile(r"^<!-- (?P<mark>run(?:: exit \d+)?|not run: .+) -->$")
NAMED = re.compile(r"^# file: (?P<name>\S+\.\w+)$")
NEEDS = re.compile(r"^<!-- needs: (?P<module>\w+) -->$", re.MULTILINE)
SECONDS = 50
"""A page's program is stopped after this: a little before the test's own limit, so that its output can be shown."""


@attrs.frozen(kw_only=True)
class Block:
    """One fenced block of a page."""

    language: str
    first: int
    """The number of its first line of text, from 1."""
    lines: tuple[str, ...]
    mark: str
    """What the comment right above it says, as docs/writing.md describes; empty without one."""

    @property
    def file(self) -> str | None:
        """The name of the file that it is, where its first line says so."""
        named = NAMED.match(self.lines[0]) if self.lines else None
        return named["name"] if named else None

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks, in order. Raises AssertionError for a fence that does not end."""
    lines = page.read_text(encoding="utf-8").splitlines()
    number, mark = 0, ""
    while number < len(lines):
        fence = FENCE.match(lines[number])
        number += 1
        if fence is None:
            found = MARK.match(lines[number - 1])
            mark = found["mark"] if found else mark if not lines[number - 1] else ""
            continue
        assert fence["ticks"] in lines[number:], f"{page.name}:{number}: a block that does not end"
        end = lines.index(fence["ticks"], number)
        yield Block(language=fence["language"], first=number + 1, lines=tuple(lines[number:end]), mark=mark)
        number, mark = end + 1, ""


def programs_of(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "python" and not block.mark.startswith("not run")]


def commands_of(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "console" and block.mark.startswith("run")]


def has_body(page: Path) -> bool:
    """Some pages have files only, which their commands run."""
    return any(block.file is None for block in programs_of(page))


def write_files(blocks: list[Block], folder: Path) -> None:
    """Write the blocks that are files; each name once, for all are there before anything runs."""
    for block in blocks:
        if block.file is not None:
            path = folder / block.file
            assert not path.exists(), f"two blocks of one page are the file {block.file}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


def environment() -> dict[str, str]:
    """One in which ``python`` and ``relieve`` are those under test, and only what a page says is on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if has_body(page)], ids=name_of)
def test_python_examples_run_and_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    for needed in NEEDS.findall(page.read_text(encoding="utf-8")):
        pytest.importorskip(needed)
    blocks = programs_of(page)
    write_files(blocks, tmp_path)
    body = [block for block in blocks if block.file is None]
    # The program has each line where the page has it, so that a traceback points into the page.
    lines = [""] * (body[-1].first + len(body[-1].lines))
    for block in body:
        lines[block.first - 1 : block.first - 1 + len(block.lines)] = block.lines
    program = tmp_path / f"{page.stem}_md.py"
    program.write_text("\n".join(lines), encoding="utf-8")
    done = run([sys.executable, "-W", "error", str(program)], tmp_path)
    assert done.returncode == 0, f"{name_of(page)}:\n{done.stdout}{done.stderr}"
    expected = "".join(block.text for block in blocks_of(page) if block.language == "output")
    if expected:
        assert done.stdout == expected, done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=name_of)
def test_marked_console_examples_run_and_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    write_files(programs_of(page), tmp_path)
    for block in commands_of(page):
        commands = [line.removeprefix("$ ") for line in block.lines if line.startswith("$ ")]
        expected = "".join(f"{line}\n" for line in block.lines if not line.startswith("$ "))
        done = run(["bash", "-o", "pipefail", "-c", "\n".join(commands)], tmp_path)
        code = int(block.mark.removeprefix("run: exit ")) if block.mark != "run" else 0
        assert (done.returncode, done.stdout) == (code, expected), f"{name_of(page)}:{block.first}:\n{done.stderr}"


def test_readme_has_the_two_commands_once_and_in_one_line() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for mark in ("main-command", "test-command"):
        assert len(re.findall(rf"^<!-- {mark} -->\n+```\w*\n(?!\n)[^\n]+\n```$", readme, re.MULTILINE)) == 1, mark


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


# -- what the pages list is what there is ----------------------------------------------------------


def documented() -> set[str]:
    """The full names that the reference has an autodoc directive for."""
    found: set[str] = set()
    for page in (DOCS / "reference").rglob("*.md"):
        found.update(re.findall(r"\.\. auto\w+:: ([\w.]+)", page.read_text(encoding="utf-8")))
    return found


def test_reference_has_every_public_name() -> None:
    names = {f"relieve_py.{name}" for name in relieve_py.__all__ if name != "ipc"}
    assert names - documented() == set()


def test_reference_has_every_hook_strategy_and_function_of_ipc() -> None:
    hooks = {f"relieve_py.hookspecs.{name}" for name in vars(hookspecs) if name.startswith("relieve_")}
    chosen = {f"relieve_py.strategies.{strategy.__name__}" for strategy in strategies.BUILT_IN}
    functions = {
        f"relieve_py.ipc.{name}"
        for name, value in vars(ipc).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == ipc.__name__
    } - {"relieve_py.ipc.Runtime"}
    assert (hooks | chosen | functions) - documented() == set()


def drawn_moves() -> tuple[set[str], list[tuple[str, str]]]:
    """The states and moves of the diagram, by the data attributes of its nodes and arrows."""
    drawing = ET.parse(DOCS / "_static" / "lifecycle.svg").getroot()
    states = {node.attrib["data-state"] for node in drawing.iter() if "data-state" in node.attrib}
    moves = [
        (arrow.attrib["data-from"], arrow.attrib["data-to"]) for arrow in drawing.iter() if "data-from" in arrow.attrib
    ]
    return states, moves


def legal_moves() -> list[tuple[str, str]]:
    return sorted((before.value, after.value) for before, legal in _LEGAL.items() for after in legal)


def test_diagram_shows_every_state_and_legal_move_once() -> None:
    states, moves = drawn_moves()
    assert states == {state.value for state in State}
    assert sorted(moves) == legal_moves()


def test_lifecycle_page_explains_every_legal_move_once() -> None:
    page = (DOCS / "explanation" / "lifecycle.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| (\w+) \| (\w+) \| \w", page, re.MULTILINE)) == legal_moves()


def test_design_page_has_a_place_for_every_module() -> None:
    page = (DOCS / "explanation" / "design.md").read_text(encoding="utf-8")
    package = Path(relieve_py.__file__).parent
    rooms = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    unnamed = {room for room in rooms - {"__init__", "__main__"} if f"`{room}`" not in page}
    assert unnamed == set()


def test_every_proof_of_a_guarantee_is_a_test_of_that_file() -> None:
    page = (DOCS / "explanation" / "guarantees.md").read_text(encoding="utf-8")
    path, found = Path(), 0
    for word in re.findall(r"`([\w/]+\.py|test_\w+)`", page):
        if word.endswith(".py"):
            path = ROOT / "tests" / word
        else:
            assert re.search(rf"^def {word}\(", path.read_text(encoding="utf-8"), re.MULTILINE), f"{path}: {word}"
            found += 1
    assert found > 30
