"""What a child runs: scripts by path, modules by name, objects; the names it exports; its containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from relieve_py import ipc
from relieve_py.child.loading import Exports, load_container, load_module, load_program, run_container


@pytest.fixture(autouse=True)
def own_modules() -> Iterator[None]:
    """A child changes these for good; here they are put back."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]
    sys.modules.update(modules)
    sys.path[:] = path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("value = 'from beside'")
    sys.path.insert(0, str(tmp_path))
    return tmp_path


def write(folder: Path, name: str, code: str) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)
    return str(path)


# -- modules ---------------------------------------------------------------------------------------


def test_a_script_is_imported_under_its_own_name(tmp_path: Path) -> None:
    write(tmp_path, "neighbour.py", "value = 3")
    path = write(tmp_path, "my_script.py", "import neighbour, sys\nvalue = neighbour.value\nme = sys.modules[__name__]")
    module = load_module("path", path)
    assert (module.__name__, module.__file__, module.value) == ("my_script", path, 3)
    assert sys.modules["my_script"] is module is module.me
    assert sys.path[0] == str(tmp_path)


def test_a_script_is_what_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its size, and the second of its last change, are what they were."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "script.py"
    for number in (1, 2):
        path.write_text(f"def number(): return {number}\n")
        os.utime(path, (1e9, 1e9))
        assert load_module("path", str(path)).number() == number


def test_a_script_needs_no_ending(tmp_path: Path) -> None:
    assert load_module("path", write(tmp_path, "no_ending", "value = 4")).value == 4


def test_a_package_by_its_init_file_can_import_its_parts(tmp_path: Path) -> None:
    write(tmp_path, "parcel/part.py", "value = 5")
    path = write(tmp_path, "parcel/__init__.py", "from parcel.part import value")
    assert load_module("path", path).__name__ == "parcel"


def test_a_relative_path_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "relative_script.py", "value = 6")
    monkeypatch.chdir(tmp_path)
    assert load_module("path", "relative_script.py").__file__ == str(tmp_path / "relative_script.py")


def test_a_module_is_imported_by_its_name(folder: Path) -> None:
    assert load_module("module", "beside").value == "from beside"
    assert load_module("module", "os.path") is sys.modules["os.path"]


@pytest.mark.parametrize(
    ("name", "code", "error"),
    [
        ("absent.py", None, FileNotFoundError),
        ("wrong.py", "def f(:", SyntaxError),
        ("missing.py", "import no_such_module_anywhere", ModuleNotFoundError),
        ("raises.py", "raise KeyError('here')", KeyError),
        ("exits.py", "raise SystemExit(3)", SystemExit),
    ],
)
@pytest.mark.parametrize("as_program", [False, True])
def test_what_is_wrong_with_a_script_is_raised_as_it_is(
    tmp_path: Path, name: str, code: str | None, error: type[BaseException], as_program: bool
) -> None:
    path = str(tmp_path / name) if code is None else write(tmp_path, name, code)
    with pytest.raises(error) as caught:
        run("path", path) if as_program else load_module("path", path)
    if error in (FileNotFoundError, SyntaxError):
        assert path in str(caught.value) or caught.value.filename == path  # type: ignore[attr-defined]


# -- programs --------------------------------------------------------------------------------------


def run(kind: str, name: str) -> dict[str, Any]:
    code, main = load_program(kind, name)
    assert sys.modules["__main__"] is main
    exec(code, main.__dict__)
    return vars(main)


def test_a_program_runs_as_main_beside_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "neighbour.py", "value = 3")
    path = write(tmp_path, "prog.py", "import neighbour\nname, file = __name__, __file__\nvalue = neighbour.value")
    found = run("path", path)
    assert (found["name"], found["file"], found["value"]) == ("__main__", path, 3)


def test_a_folder_is_run_by_its_main_file(tmp_path: Path) -> None:
    write(tmp_path, "folder/__main__.py", "value = 7")
    assert run("path", str(tmp_path / "folder"))["value"] == 7


def test_a_package_is_run_by_its_main_module(folder: Path) -> None:
    write(folder, "parcel2/__init__.py", "inside = 8")
    write(folder, "parcel2/__main__.py", "from parcel2 import inside")
    assert run("module", "parcel2")["inside"] == 8


def test_a_module_is_run_as_main(folder: Path) -> None:
    found = run("module", "beside")
    assert (found["__name__"], found["value"]) == ("__main__", "from beside")
    assert "beside" not in sys.modules


@pytest.mark.parametrize("name", ["no_such_module_anywhere", "no_such.thing"])
def test_a_missing_module_is_named(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name.split(".")[0]):
        load_program("module", name)


def test_future_imports_of_the_library_do_not_reach_the_program(tmp_path: Path) -> None:
    path = write(tmp_path, "prog.py", "def f(x: 1 + 1): ...\nseen = f.__annotations__")
    assert run("path", path)["seen"] == {"x": 2}


def test_a_program_may_say_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "latin.py"
    path.write_bytes("# coding: latin-1\nvalue = 'größe'".encode("latin-1"))
    assert run("path", str(path))["value"] == "größe"


# -- exports ---------------------------------------------------------------------------------------


def module_of(code: str, name: str = "a_script") -> ModuleType:
    module = ModuleType(name)
    exec(code, module.__dict__)
    return module


MODULE = """
import os
from os import path
from collections import OrderedDict
VALUE = 3
_hidden = 4
def start(*args): ...
def stop(): ...
def data(): return "data"
async def fetch(): ...
class Shelf: ...
def _helper(): ...
"""


def test_a_module_exports_its_own_functions_and_classes() -> None:
    exports = Exports(module_of(MODULE), ())
    assert exports.names() == ("Shelf", "data", "fetch")
    assert exports.find("data")() == "data"
    assert exports.find("VALUE") == 3
    assert exports.start().__name__ == "start"
    assert exports.stop().__name__ == "stop"


def test_a_module_may_list_its_exports() -> None:
    assert Exports(module_of("__all__ = ['b', 'a']\na = b = c = len"), ()).names() == ("a", "b")


@pytest.mark.parametrize("name", ["_hidden", "_helper", "__builtins__", "__class__", "nothing", ""])
def test_private_and_missing_names_are_not_found(name: str) -> None:
    with pytest.raises(LookupError):
        Exports(module_of(MODULE), ()).find(name)


def test_a_dict_is_its_items() -> None:
    exports = Exports(module_of("exports = {'a': len, 'b': 3, '_c': 1, 5: 6, 'default': max}\ndef start(): ..."), ())
    assert exports.names() == ("a", "b", "default")
    assert exports.find("a") is len
    assert exports.find(None) is max
    assert exports.start() is not None


class Shelf:
    """As a user may export it."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self._hidden = 1

    def get(self) -> Any:
        return self.args

    def __call__(self) -> str:
        return "called"


class Startable:
    started: tuple[Any, ...] = ()

    def start(self, *args: Any) -> None:
        self.started = args

    def stop(self) -> None: ...

    def get(self) -> Any:
        return self.started


def test_a_class_is_made_with_the_start_arguments() -> None:
    exports = Exports(Shelf, (1, 2))
    assert exports.names() == ("args", "get")
    assert exports.find("get")() == (1, 2)
    assert exports.start() is None
    assert exports.find(None)() == "called"


def test_a_class_with_a_start_gets_the_arguments_there() -> None:
    exports = Exports(Startable, (1, 2))
    exports.start()(1, 2)
    assert exports.find("get")() == (1, 2)
    assert exports.names() == ("get", "started")
    assert exports.stop() is not None


def test_the_start_of_a_module_takes_the_arguments_before_its_class() -> None:
    module = module_of("def start(*args): return args\nclass exports:\n    def get(self): return 'made'")
    exports = Exports(module, (1,))
    assert exports.find("get")() == "made"
    assert exports.start()(1) == (1,)


def test_an_object_exports_its_attributes_and_has_its_hooks() -> None:
    thing = Startable()
    exports = Exports(thing, ())
    assert exports.target is thing
    assert exports.start() == thing.start
    assert exports.stop() == thing.stop


def test_a_function_is_its_own_default() -> None:
    def double(x: int) -> int:
        return 2 * x

    exports = Exports(double, ())
    assert exports.names() == ("double",)
    assert exports.find(None) is exports.find("double") is double
    assert (exports.start(), exports.stop()) == (None, None)
    with pytest.raises(LookupError):
        exports.find("other")


def test_a_builtin_function_is_its_own_default() -> None:
    assert Exports(len, ()).find(None) is len


@pytest.mark.parametrize(
    ("code", "gives"),
    [
        ("def default(): return 1", 1),
        ("def exports(): return 2", 2),
        ("class exports:\n    def __call__(self): return 3", 3),
        ("exports = {'default': lambda: 4}", 4),
        ("class exports:\n    def default(self): return 5\n    def __call__(self): return 6", 5),
    ],
)
def test_what_an_unnamed_call_runs(code: str, gives: int) -> None:
    assert Exports(module_of(code), ()).find(None)() == gives


@pytest.mark.parametrize("source", [module_of("default = 3"), {"a": 1}, Startable()], ids=["module", "dict", "object"])
def test_without_a_default_an_unnamed_call_finds_nothing(source: Any) -> None:
    with pytest.raises(LookupError):
        Exports(source, ()).find(None)


def test_a_hook_that_cannot_be_called_is_none() -> None:
    exports = Exports(module_of("start = 3\nstop = 'x'"), ())
    assert (exports.start(), exports.stop()) == (None, None)


# -- containers ------------------------------------------------------------------------------------

CONTAINERS = """
seen = []
def setup(ipc): seen.append(("setup", ipc.__name__))
def without(): seen.append("without")
def optional(ipc=None): seen.append(("optional", ipc is not None))
def many(*args): seen.append(("many", len(args)))
def only_keyword(*, x=1): seen.append("only_keyword")
class Holder:
    @staticmethod
    def inner(ipc): seen.append("inner")
value = 3
"""


@pytest.mark.parametrize(
    ("name", "sees"),
    [
        ("boxes", ("setup", "relieve_py.ipc")),
        ("boxes:setup", ("setup", "relieve_py.ipc")),
        ("boxes:without", "without"),
        ("boxes:optional", ("optional", True)),
        ("boxes:many", ("many", 1)),
        ("boxes:only_keyword", "only_keyword"),
        ("boxes:Holder.inner", "inner"),
    ],
)
def test_a_container_is_called_with_ipc_if_it_takes_it(folder: Path, name: str, sees: Any) -> None:
    write(folder, "boxes.py", CONTAINERS)
    run_container(name, ipc)
    assert sys.modules["boxes"].seen == [sees]


def test_a_container_may_be_a_builtin_that_tells_nothing_of_itself() -> None:
    import faulthandler

    was_enabled = faulthandler.is_enabled()
    try:
        run_container("faulthandler:disable", ipc)
        assert not faulthandler.is_enabled()
    finally:
        if was_enabled:
            faulthandler.enable()


def test_a_container_may_be_an_object_that_is_callable() -> None:
    seen: list[Any] = []
    run_container(seen.append, ipc)
    assert seen == [ipc]


@pytest.mark.parametrize(
    ("container", "error"),
    [
        ("no_such_module_anywhere:setup", ModuleNotFoundError),
        ("boxes:absent", AttributeError),
        ("boxes:value", TypeError),
        (3, TypeError),
    ],
)
def test_a_container_that_cannot_be_had_is_an_error(folder: Path, container: Any, error: type[Exception]) -> None:
    write(folder, "boxes.py", CONTAINERS)
    with pytest.raises(error):
        load_container(container)


def test_a_type_error_inside_a_container_is_its_own(folder: Path) -> None:
    write(folder, "boxes.py", "calls = []\ndef setup(ipc):\n    calls.append(1)\n    len(3)")
    with pytest.raises(TypeError, match="len"):
        run_container("boxes", ipc)
    assert sys.modules["boxes"].calls == [1]
