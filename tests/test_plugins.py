"""Plug-ins: what they can give, that a bad one harms nobody, and how the installed ones are found."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from relieve_py import plugins, serializers, strategies
from relieve_py.hookspecs import hookimpl
from relieve_py.plugins import LAUNCHER, SERIALIZER, STRATEGY, Registry

ROOT = Path(__file__).parent.parent


class Chooser:
    """The least that a strategy is."""

    def push(self, task: Any) -> None: ...
    def remove(self, task: Any) -> None: ...
    def start(self, task: Any, call: Any) -> None: ...
    def end(self, task: Any, call: Any) -> None: ...
    def next(self, tasks: Any, call: Any) -> Any:
        return tasks[-1]


class Plugin:
    """A plug-in that answers each hook with what the test gave it."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def _answer(self, hook: str) -> Any:
        answer = self.answers.get(hook)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @hookimpl
    def relieve_strategies(self) -> Any:
        return self._answer("strategies")

    @hookimpl
    def relieve_launchers(self) -> Any:
        return self._answer("launchers")

    @hookimpl
    def relieve_containers(self, task: Any) -> Any:
        return self._answer("containers")

    @hookimpl
    def relieve_interfaces(self, task: Any) -> Any:
        return self._answer("interfaces")


class Watcher:
    """A plug-in that keeps the events it sees."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        self.seen: list[tuple[Any, str, Any]] = []

    @hookimpl
    def relieve_event(self, task: Any, name: str, record: Any) -> None:
        self.seen.append((task, name, record))
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def register() -> Iterator[Callable[[Any], Any]]:
    """Registers with this process, until the test is over."""
    registered = []

    def add(plugin: Any) -> Any:
        plugins.register(plugin)
        registered.append(plugin)
        return plugin

    yield add
    for plugin in registered:
        plugins.unregister(plugin)


class Points:
    """Installed plug-ins, as the test says."""

    def __init__(self) -> None:
        self.points: list[Any] = []
        self.loaded: list[str] = []

    def add(self, name: str, load: Callable[[], Any]) -> None:
        def noted() -> Any:
            self.loaded.append(name)
            return load()

        dist = SimpleNamespace(name=f"dist-of-{name}")
        self.points.append(SimpleNamespace(name=name, value=f"module_{name}", dist=dist, load=noted))


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Points:
    installed = Points()

    def entry_points(*, group: str) -> list[Any]:
        assert group == "relieve_py"
        return installed.points

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return installed


# -- by name, class or instance -----------------------------------------------------------------------------


@pytest.mark.feature(82)
@pytest.mark.parametrize("cls", strategies.BUILT_IN)
def test_every_built_in_strategy_is_there_by_name_and_made_anew(
    cls: type[strategies.Strategy],
) -> None:
    made = plugins.strategy(cls.name)
    assert type(made) is cls
    assert plugins.strategy(cls.name) is not made


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("pickle", serializers.PickleSerializer),
        ("json", serializers.JsonSerializer),
        ("cbor", serializers.CborSerializer),
    ],
)
def test_every_built_in_serializer_is_there_by_name(name: str, cls: type) -> None:
    assert type(plugins.serializer(name)) is cls
    assert plugins.serializer(name) is not plugins.serializer(name)


@pytest.mark.parametrize("name", ["forkserver", "spawn", "fork"])
def test_every_built_in_launcher_is_there_by_name_once_in_a_process(name: str) -> None:
    launcher = plugins.launcher(name)
    assert launcher.name == name
    assert plugins.launcher(name) is launcher


@pytest.mark.feature(82)
def test_a_strategy_may_be_a_class_or_an_instance() -> None:
    assert type(plugins.strategy(Chooser)) is Chooser
    mine = Chooser()
    assert plugins.strategy(mine) is mine


def test_a_launcher_class_means_one_instance_and_an_instance_means_itself() -> None:
    class Mine:
        name = "mine"

        def launch(self) -> None: ...

    assert plugins.launcher(Mine) is plugins.launcher(Mine)
    other = Mine()
    assert plugins.launcher(other) is other


class Broken(Chooser):
    def __init__(self) -> None:
        raise OSError("no disk")


class Choosy(Chooser):
    def __init__(self, needed: int) -> None: ...


@pytest.mark.parametrize(
    ("choose", "option", "error", "message"),
    [
        (
            plugins.strategy,
            "fastest",
            ValueError,
            "strategy 'fastest' is not known; there are: fewest-sockets, idle-first, least-recently-used, lowest-rss, "
            "random, round-robin, sticky, two-choices, weighted",
        ),
        (
            plugins.serializer,
            "yaml",
            ValueError,
            "serializer 'yaml' is not known; there are: cbor, json, pickle",
        ),
        (
            plugins.launcher,
            "vm",
            ValueError,
            "launcher 'vm' is not known; there are: fork, forkserver, spawn",
        ),
        (
            plugins.strategy,
            None,
            TypeError,
            "strategy must be a name, a class or an instance: NoneType object lacks",
        ),
        (
            plugins.strategy,
            len,
            TypeError,
            "strategy must be a name, a class or an instance: builtin_function",
        ),
        (
            plugins.strategy,
            dict,
            TypeError,
            "strategy dict is not one: dict object lacks push(), remove(), start()",
        ),
        (
            plugins.strategy,
            type("Half", (), {"push": print, "next": print, "end": 3}),
            TypeError,
            "strategy Half is not one: Half object lacks remove(), start(), end()",
        ),
        (plugins.strategy, strategies.Strategy, TypeError, "strategy Strategy cannot be made: "),
        (plugins.strategy, Choosy, TypeError, "strategy Choosy cannot be made: "),
        (plugins.strategy, Broken, ValueError, "strategy Broken cannot be made: no disk"),
        (
            plugins.serializer,
            json,
            TypeError,
            "serializer must be a name, a class or an instance: module object lacks name, any_object, "
            "encode(), decode()",
        ),
        (plugins.serializer, int, TypeError, "serializer int is not one: int object lacks name, any_object"),
        (
            plugins.launcher,
            object(),
            TypeError,
            "launcher must be a name, a class or an instance: object object lacks",
        ),
        (plugins.launcher, 7, TypeError, "lacks name, launch()"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name_and_what_there_is_or_lacks(
    choose: Callable[[Any], Any], option: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        choose(option)
    assert type(caught.value) is error
    assert message in str(caught.value)


def test_a_serializer_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(ImportError, match="pip install"):
        plugins.serializer("cbor")


# -- registered by hand -------------------------------------------------------------------------------------


@pytest.mark.feature(82)
def test_what_is_registered_after_the_first_look_up_counts_for_later_ones() -> None:
    with pytest.raises(ValueError, match="'mine' is not known"):
        plugins.strategy("mine")
    plugin = Plugin(strategies={"mine": Chooser})
    plugins.register(plugin)
    try:
        assert type(plugins.strategy("mine")) is Chooser
        with pytest.raises(ValueError, match="least-recently-used, lowest-rss, mine, random"):
            plugins.strategy("other")
    finally:
        plugins.unregister(plugin)
    with pytest.raises(ValueError, match="'mine' is not known"):
        plugins.strategy("mine")


def test_the_last_registered_plugin_wins_a_name_also_from_a_built_in(register: Callable[[Any], Any]) -> None:
    class Other(Chooser):
        pass

    register(Plugin(strategies={"random": Chooser}))
    assert type(plugins.strategy("random")) is Chooser
    other = Plugin(strategies={"random": Other})
    plugins.register(other)
    assert type(plugins.strategy("random")) is Other
    plugins.unregister(other)
    assert type(plugins.strategy("random")) is Chooser


def test_a_module_can_be_a_plugin(register: Callable[[Any], Any]) -> None:
    module = ModuleType("my_plugin")

    @hookimpl
    def relieve_strategies() -> Any:
        return {"of-a-module": Chooser}

    module.relieve_strategies = relieve_strategies  # type: ignore[attr-defined] # made here
    register(module)
    assert type(plugins.strategy("of-a-module")) is Chooser


def test_a_launcher_made_for_a_plugin_is_not_given_out_after_the_plugin_has_gone() -> None:
    def plugin() -> Plugin:
        make = lambda: SimpleNamespace(name="mine", launch=print)  # noqa: E731 - a new one for each plug-in
        return Plugin(launchers={"mine": make})

    first, second = plugin(), plugin()
    plugins.register(first)
    launcher = plugins.launcher("mine")
    assert plugins.launcher("mine") is launcher
    plugins.unregister(first)
    plugins.register(second)
    assert plugins.launcher("mine") is not launcher
    plugins.unregister(second)


class Misspelt:
    @hookimpl
    def relieve_strategy(self) -> None: ...


class TooCurious:
    @hookimpl
    def relieve_containers(self, task: Any, worker: Any) -> None: ...


class Wrapping:
    @hookimpl(wrapper=True)
    def relieve_strategies(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (Misspelt(), "plugin Misspelt: there is no hook 'relieve_strategy'; there are: relieve_containers,"),
        (TooCurious(), "plugin TooCurious does not fit its hooks: "),
        (Wrapping(), "plugin Wrapping: relieve_strategies is a wrapper"),
        (Watcher, "plugin Watcher is a class: register an instance of it"),
        (object(), "plugin object has no hook marked with hookimpl; there are: relieve_containers,"),
        (None, "plugin NoneType has no hook marked with hookimpl"),
    ],
)
def test_a_plugin_that_could_not_work_is_refused_and_leaves_nothing_behind(plugin: Any, message: str) -> None:
    before = plugins.manager().list_name_plugin()
    with pytest.raises(TypeError) as caught:
        plugins.register(plugin)
    assert message in str(caught.value)
    assert plugins.manager().list_name_plugin() == before


def test_a_plugin_is_registered_once_and_unregistered_once() -> None:
    watcher = Watcher()
    plugins.register(watcher)
    with pytest.raises(ValueError, match="plugin Watcher is registered already"):
        plugins.register(watcher)
    plugins.unregister(watcher)
    with pytest.raises(ValueError, match="plugin Watcher is not registered"):
        plugins.unregister(watcher)


# -- containers, interfaces, events -------------------------------------------------------------------------


def test_containers_and_interfaces_come_from_all_plugins(register: Callable[[Any], Any]) -> None:
    one, two = SimpleNamespace(attach=print), SimpleNamespace(attach=print)
    register(Plugin(containers=["pkg.mod:setup"], interfaces=(one,)))
    register(Plugin(containers=iter([print]), interfaces=[two]))
    register(Plugin())
    assert plugins.containers_for("task") == [print, "pkg.mod:setup"]
    assert plugins.interfaces_for("task") == [two, one]


def test_hooks_are_told_which_task_they_are_asked_for(register: Callable[[Any], Any]) -> None:
    class Selective:
        @hookimpl
        def relieve_containers(self, task: Any) -> list[str]:
            return [f"setup:{task}"]

        @hookimpl
        def relieve_interfaces(self) -> None:
            """Takes no argument, which is allowed."""

    register(Selective())
    assert plugins.containers_for("web") == ["setup:web"]
    assert plugins.interfaces_for("web") == []


@pytest.mark.rule(12)
@pytest.mark.parametrize("answer", [ZeroDivisionError("oops"), SystemExit(3), "pkg.mod:setup", 7, [7]])
def test_a_plugin_that_raises_or_answers_nonsense_is_logged_and_the_others_are_heard(
    register: Callable[[Any], Any], caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    interface = SimpleNamespace(attach=print)
    register(Plugin(strategies={"mine": Chooser}, containers=["good:one"], interfaces=[interface]))
    register(Plugin(strategies=answer, containers=answer, interfaces=answer))
    assert type(plugins.strategy("mine")) is Chooser
    assert plugins.containers_for("task") == ["good:one"]
    assert plugins.interfaces_for("task") == [interface]
    for hook in ("relieve_strategies", "relieve_containers", "relieve_interfaces"):
        (record,) = [record for record in caplog.records if hook in record.getMessage()]
        assert record.levelno == logging.ERROR
        assert record.getMessage().startswith("plugin Plugin 0x")


@pytest.mark.rule(12)
def test_a_generator_of_a_plugin_that_raises_half_way_is_logged(
    register: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    def half() -> Iterator[str]:
        yield "one:setup"
        raise ZeroDivisionError

    register(Plugin(containers=half()))
    assert plugins.containers_for("task") == []
    assert "raised in relieve_containers" in caplog.text


def test_a_name_that_maps_to_nothing_callable_is_logged_and_the_other_names_stay(
    register: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    register(Plugin(strategies={"bad": 3, 4: Chooser, "good": Chooser}))
    assert type(plugins.strategy("good")) is Chooser
    assert "must map text to a callable, not 'bad'" in caplog.text
    assert "must map text to a callable, not 4" in caplog.text


def test_events_are_observed_only_while_a_plugin_wants_to_see_them() -> None:
    assert not plugins.observed()
    watcher = Watcher()
    plugins.register(watcher)
    assert plugins.observed()
    plugins.tell("task", "exit", 1)
    plugins.unregister(watcher)
    assert not plugins.observed()
    plugins.tell("task", "exit", 2)
    assert watcher.seen == [("task", "exit", 1)]


@pytest.mark.rule(12)
@pytest.mark.parametrize("fault", [ZeroDivisionError(), SystemExit(1)])
def test_an_observer_that_raises_is_logged_and_the_others_see_the_event(
    register: Callable[[Any], Any], caplog: pytest.LogCaptureFixture, fault: BaseException
) -> None:
    watchers = [register(Watcher()), register(Watcher(fault)), register(Watcher())]
    plugins.tell("task", "ready", "record")
    assert all(watcher.seen == [("task", "ready", "record")] for watcher in watchers)
    assert caplog.text.count("raised in relieve_event") == 1


# -- installed plug-ins -------------------------------------------------------------------------------------


def test_installed_plugins_are_loaded_when_something_is_first_asked_and_only_once(points: Points) -> None:
    points.add("mine", lambda: Plugin(strategies={"mine": Chooser}))
    registry = Registry()
    assert points.loaded == []
    assert type(registry.resolve(STRATEGY, "mine")) is Chooser
    registry.resolve(SERIALIZER, "json")
    assert points.loaded == ["mine"]


@pytest.mark.rule(12)
@pytest.mark.parametrize(
    "broken",
    [ImportError("no such module"), SystemExit(2), Misspelt(), TooCurious(), None, "same name"],
)
def test_a_broken_installed_plugin_is_logged_by_name_and_the_others_are_there(
    points: Points, caplog: pytest.LogCaptureFixture, broken: Any
) -> None:
    def load() -> Any:
        if isinstance(broken, BaseException):
            raise broken
        return broken

    points.add("broken", load)
    points.add("mine", lambda: Plugin(strategies={"mine": Chooser}))
    assert type(Registry().resolve(STRATEGY, "mine")) is Chooser
    (record,) = caplog.records
    assert record.getMessage() == ("plugin broken of dist-of-broken (module_broken) cannot be loaded and is left out")
    assert record.exc_info is not None


def test_of_two_installed_plugins_of_one_name_the_second_is_logged_and_left_out(
    points: Points, caplog: pytest.LogCaptureFixture
) -> None:
    points.add("mine", lambda: Plugin(strategies={"one": Chooser}))
    points.add("mine", lambda: Plugin(strategies={"two": Chooser}))
    registry = Registry()
    registry.resolve(STRATEGY, "one")
    with pytest.raises(ValueError, match="'two' is not known"):
        registry.resolve(STRATEGY, "two")
    assert "another plugin is registered already under the name 'mine'" in caplog.text


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_plugin_by_hand_wins_over_an_installed_one_whenever_it_came(points: Points, when: str) -> None:
    class ByHand(Chooser):
        pass

    points.add("mine", lambda: Plugin(strategies={"round-robin": Chooser}))
    registry = Registry()
    if when == "after":
        assert type(registry.resolve(STRATEGY, "round-robin")) is Chooser
    registry.register(Plugin(strategies={"round-robin": ByHand}))
    assert type(registry.resolve(STRATEGY, "round-robin")) is ByHand


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_installed_plugin_may_be_registered_by_hand_too(
    points: Points, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    plugin = Plugin(strategies={"mine": Chooser})
    points.add("mine", lambda: plugin)
    registry = Registry()
    if when == "after":
        registry.load()
    registry.register(plugin)
    assert type(registry.resolve(STRATEGY, "mine")) is Chooser
    assert caplog.records == []
    registry.unregister(plugin)
    with pytest.raises(ValueError, match="'mine' is not known"):
        registry.resolve(STRATEGY, "mine")


def test_a_plugin_may_choose_and_register_while_it_is_imported(points: Points) -> None:
    registry = Registry()
    extra = Plugin(strategies={"extra": Chooser})

    def load() -> Any:
        registry.register(extra)
        registry.resolve(STRATEGY, "extra")
        return Plugin(strategies={"mine": Chooser})

    points.add("mine", load)
    assert type(registry.resolve(STRATEGY, "mine")) is Chooser


def test_threads_that_ask_first_at_the_same_time_all_find_the_installed_plugins(points: Points) -> None:
    asked = threading.Barrier(8, timeout=30)
    points.add("mine", lambda: Plugin(launchers={"mine": lambda: SimpleNamespace(name="mine", launch=print)}))
    registry = Registry()
    found: list[Any] = []

    def ask() -> None:
        asked.wait()
        found.append(registry.resolve_shared(LAUNCHER, "mine"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert len({id(launcher) for launcher in found}) == 1
    assert points.loaded == ["mine"]


def test_a_forked_child_makes_its_own_launchers_and_waits_for_no_lock_of_its_parent() -> None:
    # In a process of its own, for a fork beside the threads of a test run would be a gamble.
    code = """
        import os, threading
        from relieve_py import plugins

        mine = plugins.launcher("fork")
        held, release = threading.Event(), threading.Event()

        def hold():
            with plugins._process._lock, plugins._process._launching, plugins._process._loading:
                held.set()
                release.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            other = plugins.launcher("fork")
            os._exit(0 if other is not mine and other is plugins.launcher("fork") else 1)
        release.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert plugins.launcher("fork") is mine
    """
    run = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)]
    subprocess.run(run, check=True, timeout=30, cwd=ROOT)
