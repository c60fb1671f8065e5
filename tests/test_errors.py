"""The errors: the tree that is drawn is the tree that is; each is a fitting builtin, and survives pickling whole."""

from __future__ import annotations

import builtins
import concurrent.futures
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from relieve_py import errors
from relieve_py.errors import (
    AlreadyRunning,
    CallCancelled,
    CalledFromHandler,
    CallTimeout,
    DecodeError,
    EncodeError,
    LimitExceeded,
    MethodNotFound,
    NotRepeatable,
    NotRunning,
    PoisonCall,
    ProtocolError,
    RelieveError,
    RemoteError,
    RemoteTraceback,
    RetriesExhausted,
    StartError,
    Stopped,
    StrategyError,
    TaskDied,
    WorkerFull,
)

EXAMPLES: list[Callable[[], RelieveError]] = [
    lambda: RelieveError("something"),
    lambda: StartError("no start", task="web"),
    lambda: NotRunning("not running", task="web"),
    lambda: Stopped("stopped", task="web"),
    lambda: AlreadyRunning("runs", task="web"),
    lambda: TaskDied(
        "died",
        task="web",
        pid=7,
        exit_code=3,
        signal="SIGKILL",
        uptime=1.5,
        restarts=2,
        call_id=9,
        method="data",
        stderr=("the last", "words"),
        stacks="Current thread 0x1 (most recent call first):",
        out_of_memory=True,
    ),
    lambda: LimitExceeded("too much", limit="rss", allowed=100, task="web", pid=7),
    lambda: CallTimeout("late", task="web", call_id=9, method="data", timeout=2.5, stacks="Current thread 0x1:"),
    lambda: CallCancelled("cancelled", call_id=9, method="data"),
    lambda: MethodNotFound("no such name", asked="dota", available=("data", "work")),
    lambda: WorkerFull("full", worker="pool", max_pending=5),
    lambda: NotRepeatable("partly", call_id=9, method="data"),
    lambda: PoisonCall("poison", deaths=3, call_id=9, method="data"),
    lambda: RetriesExhausted("exhausted", causes=(ValueError("a"), KeyError("b")), call_id=9, method="data"),
    lambda: EncodeError("cannot", path="args[0].lock"),
    lambda: DecodeError("cannot"),
    lambda: ProtocolError("broken"),
    lambda: CalledFromHandler("a signal handler calls"),
    lambda: StrategyError("chose badly", strategy="random"),
    lambda: RemoteTraceback("Traceback: here\n"),
    lambda: RemoteError("pkg.Odd", "its text", "Traceback: there\n"),
]
BUILTINS = {
    StartError: RuntimeError,
    NotRunning: RuntimeError,
    AlreadyRunning: RuntimeError,
    TaskDied: RuntimeError,
    CallTimeout: TimeoutError,
    CallCancelled: concurrent.futures.CancelledError,
    MethodNotFound: AttributeError,
    WorkerFull: RuntimeError,
    NotRepeatable: RuntimeError,
    PoisonCall: RuntimeError,
    RetriesExhausted: RuntimeError,
    EncodeError: ValueError,
    DecodeError: ValueError,
    CalledFromHandler: RuntimeError,
    StrategyError: RuntimeError,
}


def _classes() -> list[type[RelieveError]]:
    return [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, RelieveError) and cls.__module__ == errors.__name__
    ]


def _drawn_tree() -> dict[str, tuple[str, str | None]]:
    """Name -> (its parent, the builtin in brackets), as the module's docstring draws it."""
    drawn: dict[str, tuple[str, str | None]] = {}
    above: list[tuple[int, str]] = [(-1, "RelieveError")]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([| ]*)\+-- (\w+)(?: \((\w+)\))?", line)
        if found is None:
            continue
        depth = len(found[1])
        while above[-1][0] >= depth:
            above.pop()
        drawn[found[2]] = above[-1][1], found[3]
        above.append((depth, found[2]))
    return drawn


def test_the_tree_that_is_drawn_holds_every_class_under_its_parent() -> None:
    is_so = {cls.__name__: cls.__bases__[0].__name__ for cls in _classes() if cls is not RelieveError}
    assert {name: parent for name, (parent, _) in _drawn_tree().items()} == is_so


def test_the_builtins_that_are_drawn_are_bases() -> None:
    drawn = {name: builtin for name, (_, builtin) in _drawn_tree().items() if builtin is not None}
    assert drawn == {cls.__name__: base.__name__ for cls, base in BUILTINS.items()}
    for cls, base in BUILTINS.items():
        assert issubclass(cls, base)


def test_a_handler_of_the_builtin_catches_the_error() -> None:
    for cls, base in BUILTINS.items():
        with pytest.raises(base):
            raise cls("caught")


def test_stopped_is_also_not_running() -> None:
    assert issubclass(Stopped, NotRunning)


def test_nothing_here_is_a_base_exception_that_escapes_except_exception() -> None:
    assert all(issubclass(cls, Exception) for cls in _classes())


@pytest.mark.parametrize("cls", _classes(), ids=lambda cls: cls.__name__)
def test_each_docstring_says_when_it_is_raised(cls: type[RelieveError]) -> None:
    if cls not in (RelieveError, RemoteTraceback):  # a base, and a cause that nothing raises
        assert (cls.__doc__ or "").startswith("Raised when ")


def test_the_examples_are_of_every_class() -> None:
    assert {type(make()) for make in EXAMPLES} == set(_classes())


@pytest.mark.parametrize("make", EXAMPLES, ids=lambda make: type(make()).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_each_survives_pickling_with_its_attributes(make: Callable[[], RelieveError], protocol: int) -> None:
    error = make()
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert again.args == error.args
    assert str(again) == str(error)
    assert _plain(vars(again)) == _plain(vars(error))


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Exceptions compare by identity, so they are compared by what they show."""
    return {name: repr(value) for name, value in state.items()}


def test_notes_and_attributes_of_the_user_survive_pickling() -> None:
    error = StartError("no start", task="web")
    error.add_note("look at line 7")
    error.more = [1, 2]  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(error))
    assert again.__notes__ == ["look at line 7"]
    assert again.more == [1, 2]


def test_a_subclass_with_an_init_of_its_own_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(OddInit(3, colour="red")))
    assert type(again) is OddInit
    assert (str(again), again.task, again.number, again.colour) == ("3 is red", "odd", 3, "red")


class OddInit(StartError):
    """What a user may derive: its parameters are not its ``args``."""

    def __init__(self, number: int, *, colour: str) -> None:
        super().__init__(f"{number} is {colour}", task="odd")
        self.number = number
        self.colour = colour


def test_a_remote_error_reads_as_the_exception_it_stands_for() -> None:
    assert str(RemoteError("pkg.Odd", "its text")) == "pkg.Odd: its text"
    assert str(RemoteError("pkg.Odd", "")) == "pkg.Odd"


def test_a_remote_traceback_is_shown_when_it_is_a_cause() -> None:
    import traceback

    error = ValueError("of the child")
    error.__cause__ = RemoteTraceback("Traceback (most recent call last):\n  in the child\n")
    assert "  in the child" in "".join(traceback.format_exception(error))


def test_every_builtin_named_is_a_builtin_or_of_concurrent_futures() -> None:
    for base in BUILTINS.values():
        assert getattr(builtins, base.__name__, None) is base or base is concurrent.futures.CancelledError
