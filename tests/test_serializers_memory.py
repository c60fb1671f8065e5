"""Large buffers travel beside the pickle, and sockets and files by their descriptors, of which none is lost."""

from __future__ import annotations

import array
import gc
import io
import os
import pickle
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serializing import PICKLE, Exploding, Unpicklable, open_descriptors, round_trip, travel

from relieve_py.errors import DecodeError, EncodeError
from relieve_py.reducing import OUT_OF_BAND
from relieve_py.serializers import (
    Descriptors,
    Payload,
    decode,
    encode,
)
from relieve_py.wire import MAX_BUFFERS

# -- buffers ---------------------------------------------------------------------------------------


def test_large_arrays_travel_beside_the_pickle_and_arrive_writable() -> None:
    source = np.arange(OUT_OF_BAND, dtype="float64").reshape(-1, 64)
    payload = encode(PICKLE, {"a": source, "b": source[:2]})
    assert len(payload.data) < 2000
    assert sum(memoryview(buffer).nbytes for buffer in payload.buffers) >= source.nbytes
    got = decode(PICKLE, travel(payload), "it")
    assert np.array_equal(got["a"], source)
    assert got["a"].shape == source.shape
    got["a"][0, 0] = -1.0
    assert source[0, 0] == 0.0


def test_encoding_a_large_array_copies_nothing() -> None:
    source = np.zeros(OUT_OF_BAND, dtype="uint8")
    payload = encode(PICKLE, source)
    source[7] = 9
    assert memoryview(payload.buffers[0])[7] == 9


@pytest.mark.parametrize(
    "make",
    [
        lambda: [1],
        lambda: lambda: 1,
        lambda: memoryview(bytes(OUT_OF_BAND)),
        lambda: memoryview(np.ones((128, 128), order="F")),
        lambda: memoryview(np.zeros(2 * OUT_OF_BAND + 1, dtype="u1")[1:].view("i2")),
    ],
)
def test_a_payload_that_is_part_of_a_cycle_is_collected_in_silence(make: Callable[[], object]) -> None:
    sent = make()
    cycle: list[object] = [sent, encode(PICKLE, sent)]
    del sent
    cycle.append(cycle)
    seen: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", seen.append)
        del cycle
        gc.collect()
    assert not seen


@pytest.mark.parametrize("rows", [3, 3000])
def test_memoryviews_of_any_order_arrive_equal(rows: int) -> None:
    array = np.arange(rows * 8).reshape(rows, 8)
    for sent in (array, np.asfortranarray(array), array[::2, ::-1]):
        assert np.array_equal(np.asarray(round_trip(memoryview(sent))), sent)


@pytest.mark.parametrize("size", [1, OUT_OF_BAND - 1, OUT_OF_BAND, OUT_OF_BAND + 1])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_arrays_of_any_size_and_order_arrive_equal(size: int, order: str) -> None:
    source = np.arange(size * 4, dtype="uint8")
    if order == "F":
        source = np.asfortranarray(source.reshape(4, size))
    elif order == "strided":
        source = source[::2]
    got = round_trip(source)
    assert np.array_equal(got, source)
    assert got.dtype == source.dtype


def test_more_arrays_than_a_frame_has_places_for_arrive() -> None:
    block = bytes(OUT_OF_BAND)
    payload = encode(PICKLE, [pickle.PickleBuffer(block)] * (MAX_BUFFERS + 5))
    assert len(payload.buffers) == MAX_BUFFERS
    got = decode(PICKLE, Payload(bytes(payload.data), payload.buffers), "it")
    assert len(got) == MAX_BUFFERS + 5
    assert {bytes(part) for part in got} == {block}


@pytest.mark.parametrize("size", [0, 10, OUT_OF_BAND])
def test_a_memoryview_arrives_as_a_memoryview(size: int) -> None:
    got = round_trip({"view": memoryview(bytearray(b"x" * size))})["view"]
    assert type(got) is memoryview
    assert got.tobytes() == b"x" * size


@pytest.mark.parametrize("read_only", [False, True])
def test_a_memoryview_keeps_its_format_and_shape(read_only: bool) -> None:
    source = memoryview(array.array("d", range(12))).cast("B").cast("d", (3, 4))
    got = round_trip(source.toreadonly() if read_only else source)
    assert (got.format, got.shape, got.tolist()) == ("d", (3, 4), source.tolist())


@pytest.mark.parametrize("count", [3, OUT_OF_BAND])
@pytest.mark.parametrize("format", ["f8", "i4", "?"])
def test_a_memoryview_of_what_is_not_aligned_travels(format: str, count: int) -> None:
    size = np.dtype(format).itemsize * count
    source = np.arange(size + 1, dtype="u1")[1:].view(format)
    got = round_trip(memoryview(source))
    assert got.itemsize == source.itemsize
    assert bytes(got) == source.tobytes()


@pytest.mark.parametrize(("format", "shape"), [(">f8", 4), ("i8,f4", 4), ("S3", 4), ("c16", 4), ("f8", (0, 3))])
def test_a_memoryview_that_cannot_be_made_again_is_refused_where_it_is(format: str, shape: Any) -> None:
    with pytest.raises(EncodeError, match="memoryview"):
        encode(PICKLE, [memoryview(np.zeros(shape, format))])


def test_a_slice_of_a_memoryview_travels() -> None:
    assert round_trip(memoryview(b"0123456789")[2:5]).tobytes() == b"234"


# -- descriptors -----------------------------------------------------------------------------------


def test_a_socket_arrives_as_a_socket_with_its_timeout() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.settimeout(2.5)
        with round_trip(there) as got:
            assert type(got) is socket.socket
            assert got.fileno() != there.fileno()
            assert (got.family, got.type, got.gettimeout()) == (there.family, there.type, 2.5)
            got.sendall(b"over the copy")
            assert here.recv(100) == b"over the copy"


def test_both_ends_of_a_pipe_travel_in_one_message() -> None:
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "wb") as writer:
        got_reader, got_writer = round_trip((reader, writer))
        with got_reader, got_writer:
            assert (type(got_reader), type(got_writer)) == (io.BufferedReader, io.BufferedWriter)
            got_writer.write(b"through\n")
            got_writer.flush()
            assert reader.readline() == b"through\n"


BINARY = ["rb", "wb", "ab", "r+b", "w+b", "xb"]
TEXT = ["r", "w", "a", "r+", "w+", "x"]


@pytest.mark.parametrize(("mode", "buffering"), [(m, -1) for m in TEXT + BINARY] + [(m, 0) for m in BINARY])
def test_a_file_arrives_as_the_same_kind_of_file(tmp_path: Path, mode: str, buffering: int) -> None:
    path = tmp_path / "file"
    if "x" not in mode:
        path.write_bytes(b"first\nsecond\n")
    with open(path, mode, buffering=buffering) as file, round_trip(file) as got:
        assert type(got) is type(file)
        assert (got.readable(), got.writable()) == (file.readable(), file.writable())
        if got.readable() and "w" not in mode:
            assert got.read() == file.read() or got.tell() == file.tell()
        if got.writable():
            got.seek(0, io.SEEK_END)
            got.write(b"more" if "b" in mode else "more")
            got.flush()
            assert path.read_bytes().endswith(b"more")


def test_what_was_written_to_a_file_before_is_not_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "w") as file:
        file.write("before ")
        with round_trip(file) as got:
            got.write("after")
        file.flush()
    assert path.read_text() == "before after"


@pytest.mark.parametrize("mode", ["r", "rb", "r+", "r+b"])
def test_a_file_that_was_partly_read_goes_on_where_it_was(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "lines"
    path.write_text("one\ntwo\nthree\n")
    with open(path, mode) as file:
        file.readline()
        with round_trip(file) as got:
            rest = got.read()
    assert rest in ("two\nthree\n", b"two\nthree\n")


def test_encoding_and_errors_of_a_text_file_arrive(tmp_path: Path) -> None:
    path = tmp_path / "latin"
    path.write_bytes("größe".encode("latin-1"))
    with open(path, encoding="latin-1", errors="replace") as file, round_trip(file) as got:
        assert (got.encoding, got.errors, got.read()) == ("latin-1", "replace", "größe")


def test_a_socket_among_large_buffers_travels() -> None:
    here, there = socket.socketpair()
    with here, there:
        array_, got = round_trip([np.zeros(OUT_OF_BAND), there])
        with got:
            assert array_.shape == (OUT_OF_BAND,)
            got.sendall(b"x")
            assert here.recv(1) == b"x"


def test_a_closed_socket_is_refused_by_its_path() -> None:
    closed = socket.socket()
    closed.close()
    with pytest.raises(EncodeError) as caught:
        encode(PICKLE, (1, closed), args=(1, closed))
    assert caught.value.path == "args[1]"


def test_an_ssl_socket_is_refused() -> None:
    """Its descriptor could travel, but what is written to the copy would not be encrypted."""
    here, there = socket.socketpair()
    with here, there:
        wrapped = ssl.create_default_context().wrap_socket(there, server_hostname="x", do_handshake_on_connect=False)
        with wrapped, pytest.raises(EncodeError, match="SSL"):
            encode(PICKLE, wrapped)


def test_descriptors_of_a_message_that_cannot_be_sent_are_closed() -> None:
    with open(os.devnull) as file:
        before = open_descriptors()
        with pytest.raises(EncodeError):
            encode(PICKLE, [file, file, threading.Lock(), Unpicklable()])
        assert open_descriptors() == before


def test_descriptors_of_a_message_that_is_never_decoded_are_closed() -> None:
    with open(os.devnull) as file:
        before = open_descriptors()
        payload = travel(encode(PICKLE, file))
        assert open_descriptors() == before + 1
        del payload
        assert open_descriptors() == before


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # nobody has the file that could close it
def test_descriptors_of_a_message_whose_decoding_fails_are_closed() -> None:
    with open(os.devnull) as file:
        before = open_descriptors()
        with pytest.raises(DecodeError):
            round_trip([file, Exploding("no")])
        assert open_descriptors() == before


def test_a_message_whose_descriptors_are_missing_is_a_decode_error() -> None:
    with open(os.devnull) as file:
        payload = encode(PICKLE, file)
        with pytest.raises(DecodeError, match="descriptor"):
            decode(PICKLE, Payload(bytes(payload.data)), "the message")


def test_a_descriptor_closed_by_someone_else_disturbs_nobody() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    other = os.open(os.devnull, os.O_RDONLY)
    owner = Descriptors([other, fd])
    os.close(fd)
    del owner
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(other)
