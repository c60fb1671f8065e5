"""Files that change, and workers that reload their tasks then."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relieve_py import CallableTask, CloudWorker, StartError, Worker
from relieve_py.watching import Files, Watch, file_of, watched_paths

pytest.importorskip("watchfiles", reason="the extra watch is not installed")
SECONDS = 20.0


def write(path: Path, text: str) -> None:
    """As an editor does: to another file, which takes the place of the old one."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.replace(path)


def no_watcher_is_left() -> bool:
    for thread in threading.enumerate():
        if thread.name == "relieve-watch":
            thread.join(SECONDS)
    return not any(thread.name == "relieve-watch" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _nothing_watches_afterwards() -> Iterator[None]:
    yield
    assert no_watcher_is_left()


# -- what a user may say ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watch", "error"),
    [
        ("script.py", TypeError),
        (Path("script.py"), TypeError),
        (1, TypeError),
        (None, TypeError),
        (["none"], ValueError),
    ],
)
def test_wrong_values_are_refused_by_name(watch: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^watch"):
        Worker(watch=watch)


def test_without_watchfiles_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    assert watched_paths(False) is None
    with pytest.raises(ImportError, match=r"relieve-py\[watch\]"):
        watched_paths(True)


def test_a_task_that_runs_no_file_is_refused() -> None:
    class Shop:
        pass

    with pytest.raises(ValueError, match=r"^watch: 'Shop'"):
        CloudWorker(CallableTask(Shop), watch=True)


def test_the_file_of_a_script_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "seldom"
    package.mkdir()
    for name in ("__init__.py", "used.py"):
        (package / name).write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert file_of("module", "seldom.used") == os.path.realpath(package / "used.py")
    assert file_of("module", "seldom") == os.path.realpath(package / "__init__.py")
    assert file_of("path", str(package / "used.py")) == os.path.realpath(package / "used.py")
    assert (file_of("module", "seldom.missing"), file_of("module", "nowhere"), file_of("object", "Shop")) == (None,) * 3


# -- files -----------------------------------------------------------------------------------------


def test_a_change_is_told_once_and_a_file_that_is_away_for_a_moment_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    files = Files([str(path)])
    assert files.changed() == frozenset()
    path.unlink()
    assert files.changed() == frozenset()
    write(path, "22")
    assert files.changed() == {str(path)}
    assert files.changed() == frozenset()


def test_files_and_directories_are_watched(tmp_path: Path) -> None:
    told: queue.Queue[frozenset[str]] = queue.Queue()
    root = Path(os.path.realpath(tmp_path))
    script, below, beside = root / "script.py", root / "lib" / "deep" / "part.py", root / "beside.py"
    below.parent.mkdir(parents=True)
    for path in (script, below, beside):
        path.write_text("1")
    watch = Watch(told.put)
    watch.begin([str(script), str(root / "lib")])
    try:
        beside.write_text("not watched")
        write(script, "2")
        assert told.get(timeout=SECONDS) == {str(script)}
        seen: set[str] = set()
        while str(below) not in seen:  # it may take a moment until the directory is watched
            below.write_text(str(time.monotonic()))
            try:
                seen |= told.get(timeout=0.5)
            except queue.Empty:
                continue
        assert str(beside) not in seen
    finally:
        watch.end()
    assert no_watcher_is_left()
    write(script, "3")
    while not told.empty():
        assert told.get_nowait() <= {str(below), str(below.parent), str(below.with_suffix(".new"))}


# -- workers ---------------------------------------------------------------------------------------


@pytest.fixture
def scripts(tmp_path: Path) -> Callable[[str, Any], str]:
    def make(name: str, version: Any) -> str:
        write(tmp_path / name, f"VERSION = {version}\n")
        return str(tmp_path / name)

    return make


def test_the_tasks_of_a_script_that_changes_are_reloaded_and_no_others(scripts: Callable[[str, Any], str]) -> None:
    one, two = scripts("one.py", 1), scripts("two.py", 1)
    with CloudWorker(CallableTask(one, name="a"), CallableTask(two, name="b"), size=3, watch=True) as worker:
        pids = {task.name: task.pid for task in worker}
        reloaded = worker.wait_for("reload")
        scripts("one.py", 2)
        (record,) = reloaded.result(SECONDS)
        assert (record.worker, record.paths, record.error) == (worker.name, (os.path.realpath(one),), None)
        assert [worker.script(one).get("VERSION").result(SECONDS) for _ in range(4)] == [2] * 4
        assert {name for name, pid in pids.items() if worker.task(name).pid == pid} == {"b"}


def test_what_cannot_be_loaded_leaves_the_old_children_until_it_can(scripts: Callable[[str, Any], str]) -> None:
    script = scripts("one.py", 1)
    with CloudWorker(CallableTask(script), watch=True) as worker:
        reloaded = worker.wait_for("reload")
        scripts("one.py", "1 +")
        assert isinstance(reloaded.result(SECONDS)[0].error, StartError)
        assert worker.get("VERSION").result(SECONDS) == 1
        reloaded = worker.wait_for("reload")
        scripts("one.py", 3)
        assert reloaded.result(SECONDS)[0].error is None
        assert worker.get("VERSION").result(SECONDS) == 3


def test_another_file_that_is_watched_reloads_all_and_a_stop_ends_the_watch(
    scripts: Callable[[str, Any], str], tmp_path: Path
) -> None:
    library = tmp_path / "numbers.txt"
    library.write_text("1")
    worker = Worker(CallableTask(scripts("one.py", 1)), CallableTask(scripts("two.py", 1)), watch=[library])
    assert no_watcher_is_left(), "nothing runs yet"
    with worker:
        pids = [task.pid for task in worker]
        reloaded = worker.wait_for("reload")
        write(library, "2")
        assert reloaded.result(SECONDS)[0].error is None
        assert not {task.pid for task in worker} & set(pids)
    assert no_watcher_is_left()
