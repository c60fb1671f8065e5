"""Objects to payloads and back: what travels, how, what is refused by name, and that no descriptor is lost."""

from __future__ import annotations

import array
import contextlib
import datetime
import decimal
import functools
import gc
import io
import math
import os
import pickle
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relieve_py import serializers
from relieve_py.errors import DecodeError, EncodeError
from relieve_py.serializers import (
    OUT_OF_BAND,
    CborSerializer,
    Descriptors,
    JsonSerializer,
    Payload,
    PickleSerializer,
    Serializer,
    decode,
    encode,
)
from relieve_py.wire import MAX_BUFFERS

PICKLE = PickleSerializer()


def round_trip(obj: Any, serializer: Serializer = PICKLE) -> Any:
    return decode(serializer, travel(encode(serializer, obj)), "it")


def travel(payload: Payload) -> Payload:
    """As over a channel: other memory, other descriptors."""
    buffers = [bytearray(buffer) for buffer in payload.buffers]
    fds = [] if payload.descriptors is None else [os.dup(fd) for fd in payload.descriptors.fds]
    return Payload(bytes(payload.data), buffers, Descriptors(fds) if fds else None)


def open_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))


# -- plain data ------------------------------------------------------------------------------------

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary())
objects = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.sets(st.integers(), max_size=4),
    ),
    max_leaves=12,
)
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)


@given(objects)
def test_pickle_gives_equal_objects(obj: Any) -> None:
    assert round_trip(obj) == obj


@given(plain)
def test_json_gives_equal_plain_data(obj: Any) -> None:
    assert round_trip(obj, JsonSerializer()) == obj


@given(plain)
def test_cbor_gives_equal_plain_data(obj: Any) -> None:
    assert round_trip(obj, CborSerializer()) == obj


@given(st.binary(max_size=200))
def test_garbage_is_plain_data_or_a_decode_error(data: bytes) -> None:
    for serializer in (JsonSerializer(), CborSerializer()):
        with contextlib.suppress(DecodeError):
            decode(serializer, Payload(data), "the message")


# -- code ------------------------------------------------------------------------------------------


def adder(n: int) -> Callable[[int], int]:
    return lambda x: x + n


def factorial_maker() -> Callable[[int], int]:
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    return factorial


def counter() -> Callable[[], int]:
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return count

    return step


def local_class() -> type:
    class Local:
        shared = 5

        def __init__(self, value: Any) -> None:
            self.value = value

        def double(self) -> Any:
            return self.value * 2

        @classmethod
        def make(cls) -> Any:
            return cls(7)

        @property
        def half(self) -> Any:
            return self.value / 2

    return Local


def test_a_lambda_travels() -> None:
    assert round_trip(lambda x: x * 3)(5) == 15


def test_a_closure_travels_with_its_cells() -> None:
    assert round_trip(adder(10))(5) == 15


def test_a_recursive_local_function_travels() -> None:
    assert round_trip(factorial_maker())(6) == 720


def test_a_closure_keeps_its_state_and_is_a_copy() -> None:
    step = counter()
    step()
    copy = round_trip(step)
    assert (copy(), copy(), step()) == (2, 3, 2)


def test_a_function_with_module_globals_travels() -> None:
    assert round_trip(lambda x: math.sqrt(x))(9) == 3


def test_a_local_class_and_its_instances_travel() -> None:
    cls = local_class()
    again = round_trip(cls(4))
    assert (again.value, again.double(), again.half, again.make().value, again.shared) == (4, 8, 2, 7, 5)


def test_code_deep_inside_data_travels() -> None:
    got = round_trip({"steps": [lambda x: x + 1, functools.partial(adder(2))], "cls": local_class()})
    assert got["steps"][0](1) == 2
    assert got["steps"][1](1) == 3
    assert got["cls"](3).double() == 6


def test_importable_functions_travel_by_name() -> None:
    assert round_trip(adder) is adder
    assert round_trip(local_class) is local_class
    assert round_trip(os.path.join) is os.path.join


def test_a_bound_method_of_a_local_class_travels() -> None:
    assert round_trip(local_class()(21).double)() == 42


def test_modules_and_mapping_proxies_travel() -> None:
    assert round_trip(math) is math
    assert round_trip(types.MappingProxyType({"a": 1})) == {"a": 1}


def test_a_local_class_sent_twice_is_one_class() -> None:
    cls = local_class()
    assert type(round_trip(cls(1))) is type(round_trip(cls(2))) is cls


def test_two_local_classes_of_one_name_stay_two() -> None:
    one, two = local_class(), local_class()
    assert type(round_trip(one(1))) is one
    assert type(round_trip(two(1))) is two


def test_an_instance_travels_together_with_its_local_class() -> None:
    cls = local_class()
    instance, same = round_trip((cls(1), cls))
    assert type(instance) is same


def test_a_local_exception_is_caught_by_its_own_class() -> None:
    class Odd(Exception):
        pass

    with pytest.raises(Odd, match="here"):
        raise round_trip(Odd("here"))


def test_classes_that_were_sent_are_not_kept_alive() -> None:
    cls = local_class()
    round_trip(cls(1))
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None


def test_threads_that_meet_a_class_for_the_first_time_agree_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two replies with the same unknown class, opened at once by two threads."""
    code = f"""
        import sys
        from relieve_py.serializers import PickleSerializer
        {textwrap.indent(textwrap.dedent(OWN_CLASS), " " * 8).strip()}
        data = bytes(PickleSerializer().encode(Own(1)).data)
        sys.stdout.buffer.write(data)
    """
    data = run_program(tmp_path, code)
    both_load = threading.Barrier(2)
    load = serializers._load_by_value

    def load_with_the_other(data: bytes) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):  # the other waits for this one: that is the way
            both_load.wait(0.5)
        return load(data)

    monkeypatch.setattr(serializers, "_load_by_value", load_with_the_other)
    found: list[type] = []
    workers = [threading.Thread(target=lambda: found.append(type(PICKLE.decode(Payload(data))))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found[0] is found[1]


# -- between processes -----------------------------------------------------------------------------

OWN_CLASS = """
class Own:
    def __init__(self, value):
        self.value = value
"""

PEER = """
import sys
from relieve_py.serializers import PickleSerializer, Payload
serializer, stdin, stdout = PickleSerializer(), sys.stdin.buffer, sys.stdout.buffer
while head := stdin.read(8):
    function, args = serializer.decode(Payload(stdin.read(int.from_bytes(head, "little"))))
    try:
        result = function(*args)
    except Exception as error:
        result = error
    data = bytes(serializer.encode(result).data)
    stdout.write(len(data).to_bytes(8, "little") + data)
    stdout.flush()
"""

PROGRAM = """
import subprocess, sys
from relieve_py.serializers import PickleSerializer, Payload

serializer = PickleSerializer()
peers = [subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
         for _ in range(2)]

def ask(peer, function, *args):
    data = bytes(serializer.encode((function, args)).data)
    peer.stdin.write(len(data).to_bytes(8, "little") + data)
    peer.stdin.flush()
    return serializer.decode(Payload(peer.stdout.read(int.from_bytes(peer.stdout.read(8), "little"))))

class Base:
    pass

class Own(Base):
    made = 0

    def __init__(self, value):
        self.value = value

    def doubled(self):
        return type(self)(self.value * 2)

class Problem(Exception):
    def __init__(self, code):
        super().__init__(f"problem {code}")
        self.code = code

    def __reduce__(self):
        return Problem, (self.code,)

FACTOR = 3

def scale(own):
    return Own(own.value * FACTOR)

def fail(code):
    raise Problem(code)

one, two = peers
assert ask(one, lambda x: x + FACTOR, 4) == 7
got = ask(one, scale, Own(5))
assert type(got) is Own and got.value == 15, got
assert type(ask(one, lambda own: own, Own(1))) is Own                       # there and back
assert type(ask(one, Own, 3)) is Own                                        # the class itself as a function
assert type(ask(one, Own.doubled, Own(3))) is Own
assert ask(one, lambda cls: cls, Own) is Own
assert ask(one, lambda own: isinstance(own, Base) and isinstance(own, Own), Own(1)) is True
assert ask(one, lambda a, b: type(a) is type(b), Own(1), Own(2)) is True    # in one message
ask(one, lambda own: __import__("builtins").__dict__.__setitem__("kept", type(own)), Own(1))
assert ask(one, lambda own: type(own) is __import__("builtins").kept, Own(2)) is True  # and in two
try:
    raise ask(one, fail, 9)
except Problem as problem:
    assert problem.code == 9
relayed = ask(two, scale, ask(one, scale, Own(1)))                          # through two other processes
assert type(relayed) is Own and relayed.value == 9
born_there = ask(one, lambda: type("Born", (), {"x": 1}))                   # a class that was made there
assert type(ask(one, lambda cls: cls(), born_there)) is born_there
for peer in peers:
    peer.stdin.close()
    assert peer.wait() == 0
    peer.stdout.close()
print("all well")
"""


def run_program(folder: Path, code: str, *args: str) -> bytes:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, str(path), *args], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_what_a_program_defines_comes_back_as_itself(tmp_path: Path) -> None:
    """Functions, classes, instances and exceptions of ``__main__``, to two other processes and back."""
    peer = tmp_path / "peer.py"
    peer.write_text(PEER)
    assert run_program(tmp_path, PROGRAM, str(peer)) == b"all well\n"


def test_a_class_of_main_is_not_taken_for_the_other_sides_main(tmp_path: Path) -> None:
    data = run_program(
        tmp_path,
        f"""
        import sys
        from relieve_py.serializers import PickleSerializer
        {textwrap.indent(textwrap.dedent(OWN_CLASS), " " * 8).strip()}
        sys.stdout.buffer.write(PickleSerializer().encode([Own(8)]).data)
        """,
    )
    assert not hasattr(sys.modules["__main__"], "Own")
    (own,) = PICKLE.decode(Payload(data))
    assert (own.value, type(own).__name__) == (8, "Own")


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


# -- what cannot be sent ---------------------------------------------------------------------------


class Unpicklable:
    """Refused by pickle and by dill."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("it will not go")


class Exploding:
    """Encodes, and raises while it is decoded."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return explode, (self.how,)


def explode(how: str) -> Any:
    if how == "exit":
        sys.exit(3)
    raise ZeroDivisionError("while decoding\nand a second line")


class Holder:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


class Slotted:
    __slots__ = ("absent", "inner")

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((Unpicklable(),), {}, "args[0]"),
        ((1, [2, Unpicklable()]), {}, "args[1][1]"),
        ((), {"lock": Unpicklable()}, "kwargs['lock']"),
        (({"key": (0, Unpicklable())},), {}, "args[0]['key'][1]"),
        ((Holder(name="a", inner=Holder(lock=Unpicklable())),), {}, "args[0].inner.lock"),
        ((Slotted(Unpicklable()),), {}, "args[0].inner"),
        ((functools.partial(print, Unpicklable()),), {}, "args[0]"),
    ],
    ids=["itself", "in a list", "keyword", "dict and tuple", "attributes", "slots", "opaque"],
)
def test_the_error_names_the_part_that_cannot_be_sent(args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(PICKLE, ("method", args, kwargs), args=args, kwargs=kwargs)
    assert caught.value.path == path
    assert path in str(caught.value)
    assert "pickle serializer" in str(caught.value)
    assert "it will not go" in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_cyclic_object_that_cannot_be_sent_ends_with_its_path() -> None:
    ring: list[Any] = [1]
    ring += [ring, Holder(back=ring, lock=Unpicklable())]
    with pytest.raises(EncodeError) as caught:
        encode(PICKLE, (ring,), args=(ring,))
    assert caught.value.path.startswith("args[0]")


def test_a_cyclic_object_arrives_cyclic() -> None:
    ring: list[Any] = [1]
    ring.append({"back": ring})
    got = round_trip(ring)
    assert got[1]["back"] is got


@pytest.mark.parametrize("serializer", [PICKLE, JsonSerializer()], ids=["pickle", "json"])
def test_an_object_nested_too_deep_is_refused_by_name(serializer: Serializer) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EncodeError, match=r"args\[0\].*cannot be sent") as caught:
        encode(serializer, (deep,), args=(deep,))
    assert isinstance(caught.value.__cause__, RecursionError)
    while deep:  # taken apart from outside, so that freeing it needs no deep stack either
        deep = deep[0]


def test_data_nested_too_deep_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="the message cannot be rebuilt: RecursionError"):
        decode(JsonSerializer(), Payload(b"[" * 100_000 + b"]" * 100_000), "the message")


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_what_raises_while_it_is_decoded_is_a_decode_error(how: str) -> None:
    """An exit asked for by data must not end the process that reads it."""
    with pytest.raises(DecodeError, match=r"^the result of data\(\) cannot be rebuilt: ") as caught:
        decode(PICKLE, encode(PICKLE, Exploding(how)), "the result of data()")
    assert "second line" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError if how == "raise" else SystemExit)


def test_a_missing_module_is_explained() -> None:
    with pytest.raises(DecodeError, match="make that module importable here, or return plain data"):
        decode(PICKLE, Payload(b"cno_such_module_anywhere\nthing\n."), "the result")


# -- json, cbor, and one's own ---------------------------------------------------------------------


def test_json_carries_any_text_and_refuses_objects_by_path() -> None:
    assert round_trip("\ud800 ü \0", JsonSerializer()) == "\ud800 ü \0"
    assert round_trip((1, (2,)), JsonSerializer()) == [1, [2]]
    with pytest.raises(EncodeError, match="json serializer") as caught:
        encode(JsonSerializer(), [{"when": Holder()}], args=[{"when": Holder()}])
    assert caught.value.path == "args[0]['when']"


def test_cbor_carries_bytes_dates_decimals_and_sets() -> None:
    told = {
        "raw": b"\0\xff",
        "when": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        "price": decimal.Decimal("1.10"),
        "set": {1, 2},
    }
    assert round_trip(told, CborSerializer()) == told


def test_cbor_says_what_to_install_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(ImportError, match=r"pip install 'relieve-py\[cbor\]'"):
        CborSerializer()


@pytest.mark.parametrize("serializer", [JsonSerializer(), CborSerializer()], ids=["json", "cbor"])
def test_plain_data_never_runs_code(serializer: Serializer) -> None:
    assert not serializer.any_object
    with pytest.raises((EncodeError, DecodeError)):
        round_trip(Exploding("raise"), serializer)


class Upper:
    """A serializer of a user."""

    name = "upper"
    any_object = False

    def encode(self, obj: Any) -> Payload:
        return Payload(str.upper(obj).encode())

    def decode(self, payload: Payload) -> Any:
        return bytes(payload.data).decode()


def test_a_serializer_of_ones_own_is_wrapped_in_the_same_errors() -> None:
    assert isinstance(Upper(), Serializer)
    assert round_trip("text", Upper()) == "TEXT"
    with pytest.raises(EncodeError, match="the message cannot be sent with the upper serializer: int object"):
        encode(Upper(), 3)
    with pytest.raises(DecodeError, match="UnicodeDecodeError"):
        decode(Upper(), Payload(b"\xff"), "the message")


@pytest.mark.parametrize("serializer", [PICKLE, JsonSerializer(), CborSerializer()], ids=lambda s: s.name)
def test_the_built_in_ones_are_serializers_that_can_be_sent(serializer: Serializer) -> None:
    assert isinstance(serializer, Serializer)
    assert round_trip(serializer).name == serializer.name


def test_an_encode_error_of_the_serializer_is_kept_as_it_is() -> None:
    class Strict(Upper):
        def encode(self, obj: Any) -> Payload:
            raise EncodeError("only on Mondays", path="args")

    with pytest.raises(EncodeError, match="only on Mondays"):
        encode(Strict(), "x", args="x")


def test_the_length_of_a_payload_is_all_of_it() -> None:
    assert len(Payload(b"abc", [b"de", bytearray(4)])) == 9
