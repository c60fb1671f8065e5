"""The plug-in package of the tutorial: it is installed, found by its name, and does what its page says."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "tutorials" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which the tutorial's package is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    source, target = folder / "source", folder / "target"
    shutil.copytree(PLUGIN, source)  # the build writes beside its source
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    subprocess.run(command, check=True, timeout=50)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT)])}


def run_python(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=50, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.feature(82)
def test_the_strategy_of_an_installed_package_is_there_by_name(installed: dict[str, str]) -> None:
    code = (
        "from relieve_py import plugins; made = plugins.strategy('peak-ewma'); "
        "print(type(made).__module__, type(made).__name__)"
    )
    assert run_python(installed, "-c", code) == "relieve_py_peak_ewma.strategy PeakEwma\n"


@pytest.mark.feature(82)
def test_a_cloud_worker_uses_the_strategy_of_an_installed_package_by_name(installed: dict[str, str]) -> None:
    lines = run_python(installed, str(PLUGIN / "example.py")).splitlines()
    calls = {line.split(": ")[0]: int(line.split()[1]) for line in lines}
    assert list(calls) == ["slow", "fast", "faster"]
    assert sum(calls.values()) == 30
    assert 1 <= calls["slow"] < 10, "in turn it would have had ten"


@pytest.fixture(scope="module")
def peak_ewma() -> Any:
    """The strategy's class, read from the tutorial's folder."""
    path = PLUGIN / "relieve_py_peak_ewma" / "strategy.py"
    spec = importlib.util.spec_from_file_location("peak_ewma_strategy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PeakEwma


class Scene:
    """Three tasks and a clock for the tutorial's strategy."""

    def __init__(self, cls: Any) -> None:
        self.now = 1000.0
        self.strategy = cls(memory=10.0, clock=lambda: self.now)
        self.tasks = tuple(SimpleNamespace(name=name, load=0) for name in "abc")
        for task in self.tasks:
            self.strategy.push(task)
        self._ids = 0

    def choose(self) -> str:
        return str(self.strategy.next(self.tasks, None).name)

    def run(self, name: str, seconds: float) -> None:
        """A call on that task, and so much time."""
        (task,) = (task for task in self.tasks if task.name == name)
        self._ids += 1
        call = SimpleNamespace(id=self._ids)
        self.strategy.start(task, call)
        self.now += seconds
        self.strategy.end(task, call)


def test_peak_ewma_tries_each_newcomer_once_and_then_prefers_the_fastest(peak_ewma: Any) -> None:
    scene = Scene(peak_ewma)
    for name, seconds in [("a", 0.3), ("b", 0.1), ("c", 0.2)]:
        assert scene.choose() == name
        scene.run(name, seconds)
    assert scene.choose() == "b"


def test_peak_ewma_weighs_how_slow_a_task_is_against_how_much_it_has_to_do(peak_ewma: Any) -> None:
    scene = Scene(peak_ewma)
    for name, seconds in [("a", 0.4), ("b", 0.1), ("c", 9.0)]:
        scene.run(name, seconds)
    picks = ""
    for _ in range(6):
        picks += scene.choose()
        scene.tasks["abc".index(picks[-1])].load += 1
    assert picks.count("c") == 0
    assert picks.count("b") > picks.count("a") > 0


def test_peak_ewma_believes_a_slow_call_at_once_and_forgets_it_with_time(peak_ewma: Any) -> None:
    scene = Scene(peak_ewma)
    for name in "abc":
        scene.run(name, 0.1)
    scene.run("a", 5.0)
    scene.run("b", 0.2)
    scene.run("c", 0.2)
    assert scene.choose() != "a"
    scene.now += 40
    for _ in range(3):
        scene.run("b", 0.2)
        scene.run("c", 0.2)
    assert scene.choose() == "a"


def test_peak_ewma_gives_a_busy_newcomer_no_second_call_before_the_first_has_ended(peak_ewma: Any) -> None:
    scene = Scene(peak_ewma)
    scene.run("b", 1.0)
    scene.run("c", 2.0)
    scene.tasks[0].load = 1
    assert scene.choose() == "b"


def test_peak_ewma_keeps_nothing_of_removed_tasks_and_ended_calls(peak_ewma: Any) -> None:
    scene = Scene(peak_ewma)
    for task in scene.tasks:
        scene.strategy.remove(task)
        scene.run(task.name, 1.0)
    assert not any(value for value in vars(scene.strategy).values() if isinstance(value, dict))


def test_peak_ewma_refuses_a_memory_of_no_time(peak_ewma: Any) -> None:
    with pytest.raises(ValueError, match="memory must be more than 0 seconds, not 0"):
        peak_ewma(memory=0)
