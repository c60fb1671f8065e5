"""Finds and loads what a child is to run: a script by path, a module by name, or an object; and its containers."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

preloaded: dict[str, ModuleType] = {}
"""The scripts, by path, that were loaded before this process was forked from the one that did that."""
paths_of_preload: list[str] = []
"""What that has added to ``sys.path``."""


def load_module(kind: str, name: str) -> ModuleType:
    """Import the script under its own name. Raises whatever its code raises, or FileNotFoundError."""
    if kind == "module":
        return importlib.import_module(name)
    if name in preloaded:
        return preloaded[name]
    from importlib.util import module_from_spec, spec_from_file_location

    path = _existing(name)
    sys.path.insert(0, os.path.dirname(path))
    module_name = os.path.splitext(os.path.basename(path))[0]
    if path.endswith("__init__.py"):
        module_name = os.path.basename(os.path.dirname(path))
    loader = _uncached()(module_name, path)
    spec = spec_from_file_location(module_name, path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[module_name] = module
    loader.exec_module(module)
    return module


@functools.cache
def _uncached() -> Callable[[str, str], Any]:
    """A loader of the script as it is now: Python's cache takes one that was written again within a second, to the same
    size, for the old one."""
    from importlib.machinery import SourceFileLoader

    class Uncached(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType:
            return self.source_to_code(self.get_data(self.path), self.path)

    return Uncached


def load_program(kind: str, name: str) -> tuple[CodeType, ModuleType]:
    """The compiled script and the empty ``__main__`` that it runs in. Raises SyntaxError, ImportError,
    FileNotFoundError."""
    main = ModuleType("__main__")
    if kind == "module":
        code, path = _code_of_module(name)
    else:
        path = _existing(name)
        if os.path.isdir(path):
            path = _existing(os.path.join(path, "__main__.py"))
        sys.path.insert(0, os.path.dirname(path))
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
    main.__file__ = path
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    return code, main


def _code_of_module(name: str) -> tuple[CodeType, str]:
    from importlib.util import find_spec

    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"{name}.__main__")
    code = spec.loader.get_code(spec.name) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]
    if spec is None or code is None:
        raise ModuleNotFoundError(f"no module named {name!r} that can be run", name=name)
    return code, spec.origin or name


def _existing(path: str) -> str:
    path = os.path.abspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such script: {path}")
    return path


class Exports:
    """The names that a child answers to."""

    def __init__(self, source: Any, args: tuple[Any, ...]) -> None:
        self._module = source if isinstance(source, ModuleType) else None
        self._start = getattr(source, "start", None) if self._module is not None else None
        exported = getattr(source, "exports", source) if self._module is not None else source
        self.default: Any = None
        if isinstance(exported, type):
            exported = self._instance(exported, args)
        elif self._module is None and not isinstance(exported, (dict, FunctionType)):
            self._start = getattr(exported, "start", None)
        self.target = exported
        self._lookup = _lookup_in(exported)
        self._choose_default()

    def _instance(self, cls: type, args: tuple[Any, ...]) -> Any:
        """A class is instantiated: with the start arguments, unless a ``start`` takes them."""
        if self._start is not None:
            return cls()
        if callable(getattr(cls, "start", None)):
            instance = cls()
            self._start = instance.start
            return instance
        return cls(*args)

    def _choose_default(self) -> None:
        found = self._lookup("default", None)
        if callable(found):
            self.default = found
        elif callable(self.target) and not isinstance(self.target, ModuleType):
            self.default = self.target

    def start(self) -> Any:
        """The ``start`` hook, or None."""
        return self._start if callable(self._start) else None

    def stop(self) -> Any:
        """The ``stop`` hook, or None."""
        stop = getattr(self._module, "stop", None) if self._module is not None else None
        if stop is None and not isinstance(self.target, (dict, FunctionType)):
            stop = getattr(self.target, "stop", None)
        return stop if callable(stop) else None

    def find(self, name: str | None) -> Any:
        """What that name means; None is the default function. Raises LookupError."""
        if name is None:
            if self.default is None:
                raise LookupError
            return self.default
        found = self._lookup(name, _NOTHING) if not name.startswith("_") else _NOTHING
        if found is _NOTHING:
            raise LookupError
        return found

    def names(self) -> tuple[str, ...]:
        """The public names, sorted; of a module its own functions and classes, or its ``__all__``."""
        if isinstance(self.target, dict):
            found = [name for name in self.target if isinstance(name, str) and not name.startswith("_")]
        elif isinstance(self.target, FunctionType):
            found = [self.target.__name__]
        elif isinstance(self.target, ModuleType):
            found = self._names_of_module(self.target)
        else:
            found = [name for name in dir(self.target) if not name.startswith("_") and name not in ("start", "stop")]
        return tuple(sorted(found))

    @staticmethod
    def _names_of_module(module: ModuleType) -> list[str]:
        listed = getattr(module, "__all__", None)
        if listed is not None:
            return [str(name) for name in listed]
        return [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and name not in ("start", "stop", "exports")
            and callable(value)
            and getattr(value, "__module__", None) == module.__name__
        ]


_NOTHING: Any = object()


def _lookup_in(target: Any) -> Callable[[str, Any], Any]:
    """What gives what a name means there, or else its second argument."""
    if isinstance(target, dict):
        return target.get
    if isinstance(target, FunctionType):
        return {target.__name__: target}.get
    return functools.partial(getattr, target)


def load_container(container: Any) -> Any:
    """A container by ``"pkg.mod:name"``, or as it is. Raises ImportError, AttributeError or TypeError."""
    if isinstance(container, str):
        module, _, name = container.partition(":")
        found: Any = importlib.import_module(module)
        for part in (name or "setup").split("."):
            found = getattr(found, part)
        container = found
    if not callable(container):
        raise TypeError(f"a container is callable; {container!r} is not")
    return container


def run_container(container: Any, ipc: ModuleType) -> None:
    """Call it, with ``ipc`` if it takes an argument."""
    from inspect import signature

    function = load_container(container)
    try:
        signature(function).bind(ipc)
        takes_ipc = True
    except (TypeError, ValueError):  # it takes nothing; or it is a builtin, which tells nothing of itself
        takes_ipc = False
    if takes_ipc:
        function(ipc)
    else:
        function()
