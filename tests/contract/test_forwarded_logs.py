"""Log records of a child arrive in the parent's logging, each once, as if they had been made here."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import T, script

from relieve_py import CallableTask, ScriptTask, StartError, records
from relieve_py.records import Records

LOGGING = script("logs.py")
LAUNCHERS = pytest.mark.parametrize("launcher", ["forkserver", "spawn", "fork"])


class Kept(logging.Handler):
    """Keeps records, and tells when one that is waited for has come."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    def until(self, message: str) -> list[logging.LogRecord]:
        """All records, once that one has come."""
        with self._changed:
            came = self._changed.wait_for(lambda: any(r.getMessage() == message for r in self.records), T)
            assert came, [record.getMessage() for record in self.records]
            return list(self.records)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """At the root, at DEBUG, and what makes a child inherit a handler by fork."""
    handler, before = Kept(), logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    yield handler
    logging.root.removeHandler(handler)
    logging.root.setLevel(before)


def of_app(found: list[logging.LogRecord]) -> dict[str, logging.LogRecord]:
    return {record.getMessage(): record for record in found if record.name.startswith("app")}


@LAUNCHERS
def test_a_record_arrives_with_all_that_it_says(launcher: str, kept: Kept) -> None:
    with CallableTask(LOGGING, name="talker", log="INFO", launcher=launcher) as task:
        pid = task.get("talk").result(T)
        kept.until("from a thread")
        found = of_app(kept.until("last"))
    assert list(found)[:2] == ["hello there", "sneezed"]
    assert found.keys() == {"hello there", "sneezed", "from a thread"}
    hello = found["hello there"]
    assert (hello.name, hello.levelno, hello.levelname, hello.task) == ("app.db", logging.INFO, "INFO", "talker")
    assert (hello.process, hello.processName, hello.funcName, hello.user, hello.odd) == (
        pid,
        "talker",
        "talk",
        7,
        "{1}",
    )
    assert hello.pathname == LOGGING
    assert found["from a thread"].threadName == "aside"
    text = logging.Formatter("%(message)s").format(found["sneezed"])
    assert text.startswith("sneezed\nTraceback")
    assert text.endswith("ValueError: atishoo")


def test_without_the_option_records_stay_in_the_child(kept: Kept) -> None:
    with CallableTask(LOGGING) as task:
        task.get("talk").result(T)
    assert of_app(kept.records) == {}


def test_levels_and_loggers_of_the_parent_decide(kept: Kept) -> None:
    app = logging.getLogger("app")
    app.setLevel(logging.ERROR)
    try:
        with CallableTask(LOGGING, log=logging.DEBUG) as task:
            task.get("talk").result(T)
            found = of_app(kept.until("last"))
    finally:
        app.setLevel(logging.NOTSET)
    assert list(found) == ["sneezed"]
    assert "app.db" not in logging.root.manager.loggerDict, "a child makes no logger here"


def test_a_program_and_a_start_that_fails_are_heard(kept: Kept, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import logging\nlogging.getLogger('app').info('I ran')\n")
    task = ScriptTask(str(program), log="INFO")
    task.start().result(T)
    task.wait().result(T)
    kept.until("I ran")
    broken = tmp_path / "broken.py"
    broken.write_text("import logging\nlogging.getLogger('app').error('no good')\nraise ValueError\n")
    with pytest.raises(StartError):
        CallableTask(str(broken), log="INFO").start().result(T)
    kept.until("no good")


def test_handlers_of_the_script_stay_and_its_forks_are_silent(kept: Kept) -> None:
    with CallableTask(LOGGING, log="INFO") as task:
        assert task.get("own_handler").result(T) == (2, "for both")
        assert list(of_app(kept.until("end"))) == ["for both", "end"]


def test_slow_handlers_cost_records_and_not_memory(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_AHEAD", 3)
    go_on = threading.Event()
    kept.addFilter(lambda record: go_on.wait(T) or True)
    mine = Records("slow")
    for number in range(10):
        told = {"name": "app", "levelno": 20, "levelname": "INFO", "msg": str(number), "created": 1.0}
        mine.put(json.dumps(told).encode())
    go_on.set()
    found = kept.until("task 'slow': 7 of its log records are left out, since handlers are slow")
    assert list(of_app(found)) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b'{"name": 3}', b'{"name":"a","msg":"b","levelno":"c"}', b"\xff"]
)
def test_what_is_no_record_is_said_and_costs_nothing_else(kept: Kept, payload: bytes) -> None:
    mine = Records("odd")
    mine.put(payload)
    mine.put(json.dumps({"name": "app", "levelno": 20, "levelname": "INFO", "msg": "next", "created": 1.0}).encode())
    found = [record.getMessage() for record in kept.until("next") if record.name in ("app", "relieve_py")]
    assert len(found) == 2
    assert found[0].startswith("task 'odd' sent a log record that cannot be read: ")
