"""Sockets, pipes and open files among arguments, results, events, answers and items: both ways, as the same type."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import T

from relieve_py import CallableTask, EncodeError, feed
from relieve_py.wire import MAX_DESCRIPTORS


def tcp(tmp_path: Path) -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return socket.create_connection(listener.getsockname())


def pipe_end(mode: str) -> Any:
    read, write = os.pipe()
    os.close(read if mode == "wb" else write)
    return os.fdopen(write if mode == "wb" else read, mode)


def unix_pair(tmp_path: Path) -> Any:
    ours, theirs = socket.socketpair()
    ours.close()
    return theirs


def unix_listener(tmp_path: Path) -> Any:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "listener"))
    listener.listen()
    return listener


def timed(tmp_path: Path) -> Any:
    sock = socket.socket()
    sock.settimeout(1.5)
    return sock


def opened(mode: str, **how: Any) -> Callable[[Path], Any]:
    return lambda tmp_path: (tmp_path / "file").open(mode, **how)


KINDS: dict[str, Callable[[Path], Any]] = {
    "tcp": tcp,
    "listening": lambda tmp_path: socket.create_server(("127.0.0.1", 0)),
    "udp": lambda tmp_path: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix": unix_pair,
    "unix listening": unix_listener,
    "with a timeout": timed,
    "read end": lambda tmp_path: pipe_end("rb"),
    "write end": lambda tmp_path: pipe_end("wb"),
    "text": opened("w", encoding="latin-1"),
    "binary": opened("wb"),
    "both": opened("w+b"),
    "raw": opened("wb", buffering=0),
}


def identity(thing: Any) -> tuple[Any, ...]:
    """What is the same of two descriptors for one thing, and how the object is set."""
    status = os.fstat(thing.fileno())
    how: tuple[Any, ...] = (type(thing), status.st_dev, status.st_ino, os.get_inheritable(thing.fileno()))
    if isinstance(thing, socket.socket):
        return (*how, thing.family, thing.type, thing.proto, thing.gettimeout(), thing.getsockname())
    if isinstance(thing, io.TextIOBase):
        return (*how, thing.encoding, thing.errors, thing.writable(), thing.readable())
    return (*how, thing.writable(), thing.readable())


@pytest.fixture(params=KINDS)
def thing(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with KINDS[request.param](tmp_path) as made:
        yield made


def test_the_same_thing_comes_back_from_a_call(kitchen: CallableTask, thing: Any) -> None:
    with kitchen.get("echo", thing).result(T) as again:
        assert identity(again) == identity(thing)
        assert again.fileno() != thing.fileno()
    assert identity(thing), "ours is still open"


def test_the_same_thing_comes_back_by_events(kitchen: CallableTask, thing: Any) -> None:
    kitchen.get("echo_events", "thing").result(T)
    try:
        echoed = kitchen.wait_for("echo.thing")
        kitchen.send("thing", {"deep": [thing]})
        with echoed.result(T)[0]["deep"][0] as again:
            assert identity(again) == identity(thing)
    finally:
        kitchen.get("unlisten", "thing").result(T)


def test_the_same_thing_comes_back_by_a_question_and_a_stream(served: CallableTask, thing: Any) -> None:
    heard: list[Any] = []

    def which(given: Any) -> Any:
        heard.append(given)
        return given

    served.on("which", which)
    try:
        with served.get("ask", "which", thing).result(T) as again:
            assert identity(again) == identity(thing)
        with heard[0]:
            assert identity(heard[0]) == identity(thing)
        (again,) = served.stream("each", feed([thing]))
        with again:
            assert identity(again) == identity(thing)
    finally:
        served.off("which")


def test_what_a_child_writes_is_behind_what_was_written_before(kitchen: CallableTask, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        file.write("ours, ")
        kitchen.get("write_to", file, "theirs").result(T)
        file.seek(0, os.SEEK_END)
        file.write(", ours")
    assert (tmp_path / "file").read_text() == "ours, theirs, ours"


def test_many_descriptors_go_and_none_is_left_on_either_side(kitchen: CallableTask) -> None:
    before = kitchen.get("descriptors").result(T)
    pairs = [socket.socketpair() for _ in range(50)]
    try:
        for _ in range(6):
            assert kitchen.get("close_all", [theirs for _, theirs in pairs]).result(T) == 50
    finally:
        for ours, theirs in pairs:
            ours.close()
            theirs.close()
    assert kitchen.get("descriptors").result(T) == before


def test_too_many_in_one_message_are_refused_by_name(served: CallableTask) -> None:
    with open(os.devnull, "rb") as null:
        copies = [os.dup(null.fileno()) for _ in range(MAX_DESCRIPTORS + 1)]
    files = [os.fdopen(fd, "rb") for fd in copies]
    try:
        with pytest.raises(EncodeError, match="descriptors"):
            served.get("close_all", files)
        assert served.get("close_all", files[1:]).result(T) == MAX_DESCRIPTORS
    finally:
        for file in files:
            file.close()
