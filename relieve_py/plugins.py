"""The plug-in manager: who is registered, and what they give by name, for each task, or see of each event.

Hooks are asked when something is chosen, never on the path of a call. Each plug-in is asked by itself, so
that one which raises is logged by name and the others are heard.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any

import attrs
import pluggy

from relieve_py import hookspecs, serializers, strategies
from relieve_py.hookspecs import ENTRY_POINT_GROUP, Factory, hookimpl
from relieve_py.launchers.base import Launcher
from relieve_py.log import logger

BUILT_IN = "relieve_py"
"""The name of the plug-in that is built in."""

# What plug-in code may raise without harm to others; sys.exit() in a plug-in is a fault of the plug-in.
_FAULTS = (Exception, SystemExit)


@attrs.frozen(kw_only=True)
class _Kind:
    """One of the things that users choose by name."""

    option: str
    """The option of tasks and workers that takes it."""
    hook: str
    """The hook that supplies it."""
    methods: tuple[str, ...]
    """What an instance must be able to do."""
    attributes: tuple[str, ...] = ()
    """What an instance must know besides."""


STRATEGY = _Kind(option="strategy", hook="relieve_strategies", methods=("push", "remove", "start", "end", "next"))
SERIALIZER = _Kind(
    option="serializer",
    hook="relieve_serializers",
    methods=("encode", "decode"),
    attributes=("name", "any_object"),
)
LAUNCHER = _Kind(option="launcher", hook="relieve_launchers", methods=("launch",), attributes=("name",))


class BuiltIn:
    """The plug-in that supplies what relieve_py brings along."""

    @hookimpl
    def relieve_launchers(self) -> Mapping[str, Factory]:
        return {"forkserver": _forkserver, "spawn": _spawn, "fork": _fork}

    @hookimpl
    def relieve_serializers(self) -> Mapping[str, Factory]:
        made = serializers.PickleSerializer, serializers.JsonSerializer, serializers.CborSerializer
        return {serializer.name: serializer for serializer in made}

    @hookimpl
    def relieve_strategies(self) -> Mapping[str, Factory]:
        return {strategy.name: strategy for strategy in strategies.BUILT_IN}


def _forkserver() -> Launcher:
    from relieve_py.launchers.forkserver import ForkserverLauncher

    return ForkserverLauncher()


def _spawn() -> Launcher:
    from relieve_py.launchers.spawn import SpawnLauncher

    return SpawnLauncher()


def _fork() -> Launcher:
    from relieve_py.launchers.fork import ForkLauncher

    return ForkLauncher()


class Registry:
    """The plug-ins of a process. Installed ones are loaded when something is first asked of it."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.hookimpl.project_name)
        self.manager.add_hookspecs(hookspecs)
        self.manager.register(BuiltIn(), BUILT_IN)
        self._by_hand: set[str] = set()
        self._launchers: dict[Any, Any] = {}
        self._begun = self._loaded = False
        self.renew_locks()

    def renew_locks(self) -> None:
        """For a forked child, where the thread that held a lock does not exist."""
        # Guards the manager's tables and _by_hand. No plug-in is asked while it is held.
        self._lock = threading.RLock()
        # Held while installed plug-ins are imported.
        self._loading = threading.RLock()
        # Guards _launchers, and is held while a launcher is made, so that there is one only.
        self._launching = threading.RLock()
        self._begun = self._loaded

    # -- who is there ------------------------------------------------------------------------------

    def register(self, plugin: Any, name: str | None = None) -> None:
        """Add a plug-in, by hand if it has no ``name``. Raises TypeError or ValueError."""
        self._check_plugin(plugin)
        with self._lock:
            known_as = self.manager.get_name(plugin)
            if known_as is None:
                known_as = self._add(plugin, name)
            elif name is None and known_as in self._by_hand:
                raise ValueError(f"plugin {_describe(plugin)} is registered already")
            # One that is installed may be registered by hand too, before it was loaded or after.
            if name is None:
                self._by_hand.add(known_as)

    def _add(self, plugin: Any, name: str | None) -> str:
        """Give the plug-in to pluggy, and return the name under which it is there."""
        if name is None:
            name = f"{_describe(plugin)} {id(plugin):#x}"  # two modules or objects may be called the same
        elif self.manager.has_plugin(name):
            raise ValueError(f"another plugin is registered already under the name {name!r}")
        try:
            self.manager.register(plugin, name)
        except pluggy.PluginValidationError as error:
            raise TypeError(f"plugin {_describe(plugin)} does not fit its hooks: {error}") from error
        return name

    def unregister(self, plugin: Any) -> None:
        """Take a plug-in out again. Raises ValueError if it is not there."""
        with self._lock:
            name = self.manager.get_name(plugin)
            if name is None:
                raise ValueError(f"plugin {_describe(plugin)} is not registered")
            self.manager.unregister(plugin)
            self._by_hand.discard(name)
        with self._launching:  # another plug-in may come under the same name
            self._launchers = {key: made for key, made in self._launchers.items() if key[1] != name}

    def _check_plugin(self, plugin: Any) -> None:
        known = {name for name in vars(hookspecs) if name.startswith("relieve_")}
        found = 0
        for attribute in dir(plugin):
            options = self.manager.parse_hookimpl_opts(plugin, attribute)
            if options is None:
                continue
            found += 1
            hook = options.get("specname") or attribute
            if hook not in known and not options.get("optionalhook"):
                raise TypeError(f"plugin {_describe(plugin)}: there is no hook {hook!r}; there are: {_listed(known)}")
            if options.get("wrapper") or options.get("hookwrapper"):
                raise TypeError(f"plugin {_describe(plugin)}: {attribute} is a wrapper, and hooks are not wrapped here")
            if inspect.isclass(plugin) and inspect.isfunction(inspect.getattr_static(plugin, attribute)):
                raise TypeError(f"plugin {_describe(plugin)} is a class: register an instance of it")
        if not found:
            raise TypeError(f"plugin {_describe(plugin)} has no hook marked with hookimpl; there are: {_listed(known)}")

    def load(self) -> None:
        """Load the installed plug-ins, once. One that fails is logged and left out."""
        if self._loaded:
            return
        with self._loading:
            if self._begun:  # done by another thread meanwhile, or a plug-in asks while this thread imports it
                return
            self._begun = True
            try:
                for point in sorted(metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
                    self._load_one(point)
            finally:
                self._loaded = True

    def _load_one(self, point: metadata.EntryPoint) -> None:
        try:
            self.register(point.load(), point.name)
        except _FAULTS:
            source = f" of {point.dist.name}" if point.dist is not None else ""
            logger.exception("plugin %s%s (%s) cannot be loaded and is left out", point.name, source, point.value)

    # -- asking them -------------------------------------------------------------------------------

    def hook_functions(self, hook: str) -> list[pluggy.HookImpl]:
        """Who implements ``hook``: by hand, then installed, then built in, and the last to come first."""
        self.load()
        with self._lock:
            found = getattr(self.manager.hook, hook).get_hookimpls()
            found.reverse()
            return sorted(found, key=lambda function: function.plugin_name not in self._by_hand)

    def ask(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """The name and the answer of each plug-in that has one, the first to be heard first."""
        answers = []
        for function in self.hook_functions(hook):
            try:
                answer = function.function(*(arguments[name] for name in function.argnames))
            except _FAULTS:
                logger.exception("plugin %s raised in %s", function.plugin_name, hook)
                continue
            if answer is not None:
                answers.append((function.plugin_name, answer))
        return answers

    def collect(self, hook: str, task: Any, fits: Callable[[Any], bool], what: str) -> list[Any]:
        """All that the plug-ins list for ``task``. What does not fit is logged and left out."""
        collected = []
        for plugin, answer in self.ask(hook, task=task):
            if isinstance(answer, str) or not isinstance(answer, Iterable):
                logger.error("plugin %s: %s must give a list of %s, not %r", plugin, hook, what, answer)
                continue
            try:
                items = list(answer)  # it may be a generator of the plug-in
            except _FAULTS:
                logger.exception("plugin %s raised in %s", plugin, hook)
                continue
            for item in items:
                if fits(item):
                    collected.append(item)
                else:
                    logger.error("plugin %s: %s must give %s, not %r", plugin, hook, what, item)
        return collected

    def factories(self, kind: _Kind) -> dict[str, tuple[str, Factory]]:
        """For each name of that kind, the plug-in that gives it and what makes one."""
        factories: dict[str, tuple[str, Factory]] = {}
        for plugin, answer in self.ask(kind.hook):
            if not isinstance(answer, Mapping):
                logger.error("plugin %s: %s must give a mapping of names, not %r", plugin, kind.hook, answer)
                continue
            for name, factory in answer.items():
                if isinstance(name, str) and callable(factory):
                    factories.setdefault(name, (plugin, factory))
                else:
                    logger.error("plugin %s: %s must map text to a callable, not %r", plugin, kind.hook, name)
        return factories

    # -- choosing ----------------------------------------------------------------------------------

    def resolve(self, kind: _Kind, option: Any) -> Any:
        """The instance that an option means: a name and a class make one, an instance is taken as it is."""
        if isinstance(option, str):
            _, factory = self._find(kind, option)
            return _make(kind, factory, repr(option))
        if isinstance(option, type):
            return _make(kind, option, option.__qualname__)
        _check_made(kind, option, f"{kind.option} must be a name, a class or an instance")
        return option

    def resolve_shared(self, kind: _Kind, option: Any) -> Any:
        """As ``resolve``, but a name or class means the same instance every time in this process."""
        if not isinstance(option, (str, type)):
            return self.resolve(kind, option)
        plugin = self._find(kind, option)[0] if isinstance(option, str) else ""
        # A forked child makes its own: what belongs to its parent it must neither use nor close.
        key = (os.getpid(), plugin, option)
        with self._launching:
            if key not in self._launchers:
                self._launchers[key] = self.resolve(kind, option)
            return self._launchers[key]

    def _find(self, kind: _Kind, name: str) -> tuple[str, Factory]:
        factories = self.factories(kind)
        if name not in factories:
            raise ValueError(f"{kind.option} {name!r} is not known; there are: {_listed(factories)}")
        return factories[name]


def _make(kind: _Kind, factory: Factory, called: str) -> Any:
    try:
        made = factory()
    except ImportError:
        raise  # it names the package to install
    except _FAULTS as error:
        wrong = TypeError if isinstance(error, TypeError) else ValueError
        raise wrong(f"{kind.option} {called} cannot be made: {error}") from error
    _check_made(kind, made, f"{kind.option} {called} is not one")
    return made


def _check_made(kind: _Kind, made: Any, complaint: str) -> None:
    missing = [name for name in kind.attributes if not hasattr(made, name)]
    missing += [f"{name}()" for name in kind.methods if not callable(getattr(made, name, None))]
    if missing:
        raise TypeError(f"{complaint}: {type(made).__name__} object lacks {', '.join(missing)}")


def _describe(plugin: Any) -> str:
    return str(getattr(plugin, "__name__", None) or type(plugin).__qualname__)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


# -- the plug-ins of this process ------------------------------------------------------------------

_process = Registry()
os.register_at_fork(after_in_child=_process.renew_locks)


def manager() -> pluggy.PluginManager:
    """The plug-in manager of this process, with the installed plug-ins loaded."""
    _process.load()
    return _process.manager


def register(plugin: Any) -> None:
    """Add a plug-in: a module or an object with functions marked with ``hookimpl``.

    What it gives goes before what installed plug-ins give. Raises TypeError when a marked function is no hook
    or takes what the hook does not give, and ValueError when the plug-in is there already.
    """
    _process.register(plugin)


def unregister(plugin: Any) -> None:
    """Take a plug-in out again; who has something of it keeps it. Raises ValueError if it is not there."""
    _process.unregister(plugin)


def strategy(option: Any) -> Any:
    """The strategy that a name, class or instance means; for the first two a new one.

    Raises ValueError for a name that nobody gives, and TypeError for what is no strategy; both name the
    option.
    """
    return _process.resolve(STRATEGY, option)


def serializer(option: Any) -> serializers.Serializer:
    """The serializer that a name, class or instance means; for the first two a new one.

    Raises ValueError for a name that nobody gives, TypeError for what is no serializer (both name the
    option), and ImportError when it needs a package that is not installed.
    """
    made: serializers.Serializer = _process.resolve(SERIALIZER, option)
    return made


def launcher(option: Any) -> Launcher:
    """The launcher that a name, class or instance means; for the first two the same one every time.

    Raises ValueError for a name that nobody gives, and TypeError for what is no launcher; both name the
    option.
    """
    made: Launcher = _process.resolve_shared(LAUNCHER, option)
    return made


def containers_for(task: Any) -> list[str | Callable[..., Any]]:
    """The containers that plug-ins want to run in the child of ``task``."""
    return _process.collect("relieve_containers", task, _is_container, "texts and functions")


def interfaces_for(task: Any) -> list[Any]:
    """The interfaces that plug-ins want to attach to ``task``."""
    return _process.collect("relieve_interfaces", task, _is_interface, "objects with attach()")


def _is_container(item: Any) -> bool:
    return isinstance(item, str) or callable(item)


def _is_interface(item: Any) -> bool:
    return callable(getattr(item, "attach", None))


def observed() -> bool:
    """Whether any plug-in wants to see events."""
    return bool(_process.hook_functions("relieve_event"))


def tell(task: Any, name: str, record: Any) -> None:
    """Show an event to every plug-in that wants to see events. What one raises is logged."""
    _process.ask("relieve_event", task=task, name=name, record=record)
