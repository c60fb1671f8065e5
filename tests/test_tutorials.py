"""The tutorials: each program runs as a beginner would run it, and its page shows what it really prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = ROOT / "tutorials"
PAGES = ROOT / "docs" / "tutorials"

RUN_ELSEWHERE = {
    "plugin": "needs its package installed: test_plugin_tutorial.py",
    "checksums": "tells a path and the number of processors: it has a test of its own below",
}


def names() -> list[str]:
    """Every tutorial: a folder with an ``example.py``, or a program beside the folders."""
    folders = [path.parent.name for path in TUTORIALS.glob("*/example.py")]
    programs = [path.stem for path in TUTORIALS.glob("*.py") if not path.stem.endswith("_task")]
    return sorted(folders + programs)


def program_of(name: str) -> Path:
    folder = TUTORIALS / name
    return folder / "example.py" if folder.is_dir() else folder.with_suffix(".py")


def sources_of(name: str) -> list[Path]:
    """The Python files that a reader of the page has to see."""
    folder = TUTORIALS / name
    found = folder.rglob("*.py") if folder.is_dir() else TUTORIALS.glob(f"{name}*.py")
    return sorted(path for path in found if "build" not in path.parts)  # a plug-in that was installed left it


def page_of(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def shown_output(page: str) -> str:
    """The block of text under the heading that announces it."""
    match = re.search(r"^## What you see\n.*?^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert match is not None, "the page has no block of text under '## What you see'"
    return match[1]


def without_numbers(text: str) -> str:
    """Numbers differ from one Python, and one machine, to the next."""
    return re.sub(r"\d+(\.\d+)*", "N", text)


RUNNABLE = [name for name in names() if name not in RUN_ELSEWHERE]


@attrs.frozen(kw_only=True)
class Run:
    """How a tutorial ended that was run from an empty folder, with another for temporary files."""

    done: subprocess.CompletedProcess[str]
    left: list[Path]
    """What it left in either of the two."""


@pytest.fixture(scope="module", params=RUNNABLE)
def tutorial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run]:
    name = str(request.param)
    here, temporary = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-W", "error", str(program_of(name))]
    env = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=50)
    return name, Run(done=done, left=[*here.iterdir(), *temporary.iterdir()])


def test_a_tutorial_prints_what_its_page_shows(tutorial: tuple[str, Run]) -> None:
    name, run = tutorial
    assert run.done.returncode == 0, run.done.stderr
    assert run.done.stderr == ""
    assert without_numbers(run.done.stdout) == without_numbers(shown_output(page_of(name)))


def test_a_tutorial_runs_from_any_folder_and_leaves_nothing_there_or_among_temporary_files(
    tutorial: tuple[str, Run],
) -> None:
    _, run = tutorial
    assert run.done.returncode == 0
    assert run.left == []


@pytest.mark.parametrize("name", names())
def test_the_page_of_a_tutorial_shows_every_file_and_how_to_run_it(name: str) -> None:
    page = page_of(name)
    shown = re.findall(r"^:::\{literalinclude\} (\S+)$", page, re.MULTILINE)
    resolved = {(PAGES / path).resolve() for path in shown}
    assert set(sources_of(name)) <= resolved
    assert all(path.is_file() for path in resolved)
    assert f"python {program_of(name).relative_to(ROOT)}" in page


def test_every_page_is_in_the_index() -> None:
    listed = re.findall(r"^(\w+)$", (PAGES / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "index")


def test_a_tutorial_that_is_not_run_here_exists() -> None:
    assert set(RUN_ELSEWHERE) <= set(names())


def checksums(*arguments: str | Path) -> tuple[int, list[str], str]:
    """The exit status of that tutorial, the lines that it prints, and what it says of errors."""
    pytest.importorskip("click", reason="the command needs the extra cli")
    command = [sys.executable, str(program_of("checksums")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files, also in a folder, with names that need care."""
    folder = tmp_path / "tree"
    (folder / "sub folder").mkdir(parents=True)
    for number, name in enumerate(["one.txt", "t w o.bin", "sub folder/drei ä.txt", "empty"]):
        (folder / name).write_bytes(bytes(range(256)) * 10_000 * number)
    return folder


def test_checksums_of_a_tree_are_those_of_zlib_and_verify(tree: Path, tmp_path: Path) -> None:
    sfv = tmp_path / "sums.sfv"
    code, lines, errors = checksums(tree, sfv)
    assert (code, errors) == (0, "")
    assert re.fullmatch(r"4 files, .* summed and verified .*: 0 mismatches, 0 unreadable .*", lines[-1])
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    expected = [f"{path.relative_to(tree)} {zlib.crc32(path.read_bytes()):08X}" for path in files]
    assert sorted(sfv.read_text(encoding="utf-8").splitlines()) == sorted(expected)


def test_checksums_name_what_differs_from_the_sfv_file_and_what_is_gone(tree: Path, tmp_path: Path) -> None:
    sfv = tmp_path / "sums.sfv"
    checksums(tree, sfv)
    (tree / "one.txt").write_text("changed")
    (tree / "empty").unlink()
    code, lines, _ = checksums(tree, sfv, "--verify")
    assert code == 1
    assert sorted(lines[:-1]) == ["MISMATCH one.txt", "MISSING empty"]
    assert "2 mismatches" in lines[-1]


def test_the_page_of_the_checksums_shows_the_summary_line_as_it_is(tree: Path, tmp_path: Path) -> None:
    def shape(line: str) -> str:
        """Without numbers, and without the path of the .sfv file."""
        return re.sub(r"[\d.,]*\d", "N", line.rpartition(" (")[0])

    _, lines, _ = checksums(tree, tmp_path / "sums.sfv")
    assert [shape(line) for line in lines] == [shape(line) for line in shown_output(page_of("checksums")).splitlines()]
