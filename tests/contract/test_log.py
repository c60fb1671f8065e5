"""Logging, with handlers and filters of the user that may raise."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from support import KITCHEN, T, heard

from relieve_py import CallableTask
from relieve_py.log import logger


class Bad(logging.Handler):
    """Raises what it is told to."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


@pytest.fixture(params=[RuntimeError("a bad handler"), SystemExit("a handler that leaves")], ids=["raises", "leaves"])
def bad_handler(request: pytest.FixtureRequest) -> Iterator[Bad]:
    handler = Bad(request.param)
    logging.getLogger("relieve_py").addHandler(handler)
    yield handler
    logging.getLogger("relieve_py").removeHandler(handler)


@pytest.mark.rule(12)
def test_a_log_handler_that_raises_stops_nobodys_work(bad_handler: Bad) -> None:
    def raises(*args: object) -> None:
        raise LookupError("which is logged")

    with CallableTask(KITCHEN) as task:
        task.on("note", raises)
        notes = heard(task, "note")
        for n in (1, 2):
            task.get("tell", "note", n).result(T)
            assert notes.wait(n)[-1] == (n,)
        assert task.call("fail").result(T) is None  # whose error nobody listens to
        assert task.get("tell", "note", 3).result(T) is None
        assert notes.wait(3)[-1] == (3,)
        stopped = task.stop().result(T)
        assert (stopped.code, stopped.forced) == (0, False)


def test_its_failure_is_told_as_the_standard_handlers_tell_of_theirs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Bad(RuntimeError("a bad handler"))
    logging.getLogger("relieve_py").addHandler(handler)
    try:
        logger.error("something")
        assert "RuntimeError: a bad handler" in capsys.readouterr().err
        monkeypatch.setattr(logging, "raiseExceptions", False)
        logger.error("something")
        assert capsys.readouterr().err == ""
    finally:
        logging.getLogger("relieve_py").removeHandler(handler)


def test_a_record_names_the_place_that_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning("from here: %d", 1)
    assert [(record.filename, record.getMessage()) for record in caplog.records] == [("test_log.py", "from here: 1")]
