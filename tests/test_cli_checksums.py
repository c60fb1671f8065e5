"""The checksum tutorial: its sums are those of zlib, for every file, and a change is found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path

import pytest

CHECKSUMS = Path(__file__).parent.parent / "tutorials" / "checksums.py"


def checksums(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CHECKSUMS), *map(str, args)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )


def read_sfv(path: Path) -> dict[str, int]:
    lines = path.read_text("utf-8", "surrogateescape").splitlines()
    return {name: int(value, 16) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A few files, two of which have names that are hard to handle, one of which is large, and one is empty."""
    top = tmp_path / "tree"
    for number in range(40):
        folder = top / f"folder {number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number}.bin").write_bytes(os.urandom(number * 997))
    (top / "large").write_bytes(bytes(range(256)) * 12345)
    (top / "random.py").write_text("raise RuntimeError('a module of the tree was imported')")
    if sys.platform == "linux":  # others refuse such a name
        (Path(os.fsdecode(bytes(top) + b"/caf\xe9"))).write_text("latin")
    return top


def test_the_standard_library() -> None:
    """The main job: hundreds to thousands of real files, each sum as zlib has it."""
    sfv = CHECKSUMS.parent.parent / "build" / "checksums.sfv"
    library = Path(sysconfig.get_path("stdlib")).resolve()
    done = checksums()
    assert (done.returncode, done.stderr) == (0, "")
    sums = read_sfv(sfv)
    expected = {
        str(path.relative_to(library))
        for path in library.rglob("*.py")
        if not {"site-packages", "dist-packages"}.intersection(path.relative_to(library).parts) and path.is_file()
    }
    assert set(sums) == expected
    assert len(sums) > 500
    contents = {name: (library / name).read_bytes() for name in sums}
    assert {name: zlib.crc32(content) for name, content in contents.items()} == sums
    size = sum(map(len, contents.values()))
    found = re.fullmatch(
        r"([\d,]+) files, ([\d,]+) bytes summed and verified in [\d.]+ s by \d+ workers: "
        rf"0 mismatches, 0 unreadable \({re.escape(os.path.relpath(sfv))}\)\n",
        done.stdout,
    )
    assert found is not None, done.stdout
    assert [int(number.replace(",", "")) for number in found.groups()] == [len(sums), size]


def test_a_tree_of_ones_own_and_what_changed_in_it(tree: Path) -> None:
    sfv = tree / "sums.sfv"  # in the tree, and no part of it
    done = checksums(tree, sfv)
    assert (done.returncode, done.stderr) == (0, "")
    files = [path for path in tree.rglob("*") if path.is_file() and path != sfv]
    assert read_sfv(sfv) == {str(path.relative_to(tree)): zlib.crc32(path.read_bytes()) for path in files}
    sfv.write_text("; a comment\n" + sfv.read_text("utf-8", "surrogateescape"), "utf-8", "surrogateescape")
    (tree / "large").write_bytes(b"changed")
    (tree / "folder 1" / "file 1.bin").unlink()
    done = checksums(tree, sfv, "--verify")
    assert done.returncode == 1
    *wrong, summary = done.stdout.splitlines()
    assert sorted(wrong) == ["MISMATCH large", "MISSING folder 1/file 1.bin"]
    assert "2 mismatches, 0 unreadable" in summary


def test_a_line_that_is_no_sum_is_counted(tree: Path, tmp_path: Path) -> None:
    sfv = tmp_path / "sums.sfv"
    sfv.write_text("large not-a-sum\n")
    done = checksums(tree, sfv, "--verify")
    assert done.returncode == 1
    assert "0 mismatches, 1 unreadable" in done.stdout
    assert done.stderr.startswith("failed: line 1 'large not-a-sum': ValueError: invalid literal")


def test_wrong_arguments(tmp_path: Path) -> None:
    for args in ([tmp_path / "none"], [tmp_path, tmp_path / "none", "--verify"], [tmp_path, "-n", 0]):
        done = checksums(*args)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
