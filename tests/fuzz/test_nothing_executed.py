"""With json and cbor, nothing that a child sends is ever unpickled or run in its parent."""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bombs import BOMBS, exploded, nothing_unpickled
from plays import ANSWERS, nothing, played, replaced
from puppets import PATIENCE, PuppetLauncher, frame_bytes

from relieve_py import CallableTask, RelieveError, RemoteError, StartError, records
from relieve_py.texts import pack
from relieve_py.wire import Kind

HERE = Path(__file__).parent


@contextlib.contextmanager
def nothing_unpickled_of(made: Path) -> Iterator[None]:
    """The bombs of a true child make a folder."""
    yield
    assert not made.exists()


@pytest.mark.parametrize("bomb", sorted(BOMBS))
@pytest.mark.parametrize("serializer", ["json", "cbor"])
def test_a_pickle_is_never_loaded_from_a_child_that_is_not_trusted(serializer: str, bomb: str) -> None:
    """Wherever bytes can go: as payload, beside it, as the exception of an error, as answer or question or name."""
    data = BOMBS[bomb]
    error = pack(["ValueError", "text", "Traceback"])
    with nothing_unpickled(), played(serializer=serializer) as (task, puppet):
        ways = {"get": [Kind.RESULT, Kind.ERROR, Kind.MISSING], "call": [Kind.ERROR], "stream": [Kind.ITEM, Kind.ERROR]}
        number = 0
        for how, kinds in ways.items():
            for kind in kinds:
                number += 1
                heard = task.wait_for("*")
                reply = getattr(task, how)("something")
                puppet.send(frame_bytes(Kind.EVENT, 0, data, [data]) + frame_bytes(Kind.EVENT, 5, data, [data]))
                if kind == Kind.MISSING:
                    puppet.send(frame_bytes(kind, number, pack(["=" + data.decode("latin-1")]), [data]))
                elif kind == Kind.ERROR:
                    puppet.send(frame_bytes(kind, number, error, [data, data]))
                else:
                    puppet.send(frame_bytes(kind, number, data, [data]))
                if how == "stream":
                    puppet.send(frame_bytes(Kind.END, number))
                with contextlib.suppress(RelieveError):  # cbor may see plain data in a pickle
                    list(reply) if how == "stream" else reply.result(PATIENCE)
                heard.cancel()
        puppet.send(frame_bytes(Kind.FAILED, 0, error, [data]))
        replaced(task, puppet) if puppet.over.is_set() else puppet.die(1, None)
        assert task.get("probe").result(PATIENCE) == ["answer"]
    error_of_start(serializer, data)


def error_of_start(serializer: str, data: bytes) -> None:
    """A child that could not start tells why, with a bomb as the exception, which is looked at."""
    launcher = PuppetLauncher(ANSWERS["json"])
    task = CallableTask(nothing, launcher=launcher, serializer=serializer)
    with nothing_unpickled():
        started = task.start()
        assert launcher.there.wait(PATIENCE)
        launcher.made[0].send(frame_bytes(Kind.FAILED, 0, pack(["ValueError", "text", "Traceback"]), [data]))
        launcher.made[0].die(1, None)
        with pytest.raises(StartError) as caught:
            started.result(PATIENCE)
        assert isinstance(caught.value.__cause__, RemoteError)


def load(data: bytes) -> None:
    """As a careless parent would."""
    told = pickle.loads(data)
    if isinstance(told, tuple):
        pickle.loads(told[3])


def test_the_bombs_are_live() -> None:
    """They run where pickles are loaded, and this is seen, or the tests above would prove nothing."""
    for name, data in BOMBS.items():
        with pytest.raises(AssertionError, match="find_class"), nothing_unpickled():
            load(data)
        assert exploded == [name]
        exploded.clear()


def test_a_true_child_that_is_taken_over_runs_nothing_in_its_parent(tmp_path: Path) -> None:
    """With a process, a launcher and a server behind it."""
    made = tmp_path / "made"
    with (
        nothing_unpickled_of(made),
        CallableTask(str(HERE / "taken_over.py"), serializer="json", kill_timeout=0.5) as task,
    ):
        for way in ("result", "error", "event", "question", "missing", "item"):
            with contextlib.suppress(RelieveError):
                task.get("attack", way, str(made)).result(PATIENCE)
            with contextlib.suppress(RelieveError):
                list(task.stream("attack", way, str(made)))
        assert task.get("fine").result(PATIENCE) == 1


def test_a_log_record_in_another_encoding_is_refused_and_loads_no_codec() -> None:
    """Found by a fuzzer: json guesses the encoding of bytes, and a codec is code."""
    codec = sys.modules.pop("encodings.utf_32_be", None)
    try:
        with nothing_unpickled(), pytest.raises(ValueError, match="Expecting value"):
            records._record_of(b"\x00\x00\x00[")
    finally:
        if codec is not None:
            sys.modules["encodings.utf_32_be"] = codec
