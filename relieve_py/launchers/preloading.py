"""Imports in a server process what its children are to share, and refuses what must not be shared.

A fork copies memory, and one thread. A thread that a module has started is not there in the children, but the locks
that it held are closed for ever; a socket or a pipe would be one and the same in all of them; a process would belong
to nobody. So each import is looked at, and whatever leaves such a thing behind is refused by its name.

A server that imports nothing does not load this.
"""

from __future__ import annotations

import _thread
import functools
import importlib
import os
import pickle
import signal
import stat
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from typing import Any

from relieve_py.channel import Channel
from relieve_py.child import loading
from relieve_py.launchers.reaping import children_of
from relieve_py.telling import user_traceback
from relieve_py.wire import Frame, Kind

_HANDLED = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)  # what a child sets to the default otherwise


class Refused(Exception):
    """Raised when what was imported cannot be shared. It says what, and why."""


class Effects:
    """What the imports did to the process itself, which each child has to have, too."""

    def __init__(self, env: dict[str, str], handlers: dict[int, Any]) -> None:
        self.env = env
        self.handlers = handlers

    def take_on(self) -> None:
        """In a child, once its signals are its own. The variables go into the environment that it gets."""
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)
        random = sys.modules.get("numpy.random")
        if random is not None:  # or all children would draw the same numbers; Python's own sees to that by itself
            random.seed()


def preload(channel: Channel, order: Frame) -> Effects:
    """Do what a PRELOAD frame says and tell the parent of it. Ends the process when it must not be forked."""
    modules, script, sys_path, cwd = pickle.loads(order.payload)
    env, known = dict(os.environ), set(sys.modules)
    for signum in _HANDLED:
        signal.signal(signum, _ignore)
    sys.path[:] = sys_path
    os.chdir(cwd)
    try:
        for name, load in _imports(modules, script):
            channel.send(Frame(Kind.IMPORTING, 0, name.encode()))
            _import(name, load)
    except Refused as refusal:
        channel.send(Frame(Kind.IMPORTED, 0, pickle.dumps((str(refusal), []))))
        leave()
    loading.paths_of_preload += [path for path in sys.path if path not in sys_path]
    channel.send(Frame(Kind.IMPORTED, 0, pickle.dumps((None, _stamps(script, known)))))
    return Effects(
        {name: value for name, value in os.environ.items() if env.get(name) != value},
        {signum: handler for signum in _HANDLED if (handler := signal.getsignal(signum)) not in (_ignore, None)},
    )


def _ignore(signum: int, frame: object) -> None:
    """A handler that no import has set."""


def leave() -> None:
    """End this process, and first what its imports have started."""
    for pid in children_of(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    os._exit(1)


# -- the imports -----------------------------------------------------------------------------------


def _imports(modules: tuple[str, ...], script: tuple[str, str] | None) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each with the name by which it is told of."""
    for name in modules:
        if name.endswith(".py"):
            yield name, functools.partial(_script, name)
        else:
            yield name, functools.partial(importlib.import_module, name)
    if script is not None:
        for statement in _statements(*script):
            yield statement[0], functools.partial(_as_far_as_it_goes, *statement)


def _script(path: str) -> None:
    loading.preloaded[path] = loading.load_module("path", path)


def _statements(kind: str, name: str) -> list[tuple[str, list[str]]]:
    """The imports at the top of a script: modules, and what is imported from each. None of one that cannot be read,
    which its child will say."""
    import ast

    try:
        path = name if kind == "path" else _file_of(name)
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
    except (OSError, SyntaxError, ValueError, ImportError):
        return []
    package = name.rpartition(".")[0] if kind == "module" else ""
    found: list[tuple[str, list[str]]] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (not node.level or package):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found.append((module, [alias.name for alias in node.names if alias.name != "*"]))
    return [statement for statement in found if statement[0] and statement[0] != "__future__"]


def _file_of(module: str) -> str:
    from importlib.util import find_spec

    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(module)
    return spec.origin


def _as_far_as_it_goes(module: str, names: list[str]) -> None:
    """Import it as the statement would. What fails fails again in each child, and is told there."""
    try:
        __import__(module, fromlist=names)
    except Exception:
        return


def _import(name: str, load: Callable[[], object]) -> None:
    """Raises Refused when it cannot be imported, or must not be shared."""
    here, before = os.getpid(), _connections()
    try:
        load()
    except BaseException as error:
        import traceback

        told = "".join(traceback.format_exception(type(error), error, user_traceback(error))).rstrip()
        raise Refused(f"preload: {name!r} could not be imported:\n{told}") from error
    finally:
        if os.getpid() != here:  # it has forked, and this is the copy, which would be a second server
            os._exit(0)
    if _thread._count():
        names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        raise Refused(f"preload: {name!r} started threads, which no fork copies: {', '.join(names) or 'without names'}")
    if _has_children():
        raise Refused(f"preload: {name!r} started a process, which would be no child's")
    if left := sorted(_connections() - before):
        raise Refused(f"preload: {name!r} left descriptors open that children cannot share (sockets, pipes): {left}")


# -- what must not be shared -----------------------------------------------------------------------


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _connections() -> set[int]:
    """The descriptors of sockets, of pipes, and of what has no name in a file system, such as an epoll."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    found = set()
    for entry in os.listdir(folder):
        try:
            mode = os.fstat(int(entry)).st_mode
        except OSError:  # of this listing
            continue
        if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) or stat.S_IFMT(mode) == 0:
            found.add(int(entry))
    return found


def _stamps(script: tuple[str, str] | None, known: set[str]) -> list[tuple[str, int, int]]:
    """The files of which a change makes this server out of date, as they are: those of the imports, but for what is
    installed, since a server may have thousands of these, and they change by an installation only."""
    places = sysconfig.get_paths()
    installed = tuple({places[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    files = [getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if name not in known]
    if script is not None and script[0] == "path":
        files.append(script[1])
    stamps = []
    for file in dict.fromkeys(filter(None, files)):
        if file.startswith(installed) or "site-packages" in file:
            continue
        try:
            info = os.stat(file)
        except OSError:
            continue
        stamps.append((file, info.st_mtime_ns, info.st_size))
    return stamps
