"""Functions and classes that the other side cannot import: how they travel, and that they come back as themselves."""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import os
import subprocess
import sys
import textwrap
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serializing import PICKLE, round_trip

from relieve_py import byvalue
from relieve_py.serializers import (
    Payload,
)

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
    load = byvalue.load_by_value

    def load_with_the_other(data: bytes) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):  # the other waits for this one: that is the way
            both_load.wait(0.5)
        return load(data)

    monkeypatch.setattr(byvalue, "load_by_value", load_with_the_other)
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


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_a_program_defines_comes_back_as_itself_to_a_child_of_multiprocessing(tmp_path: Path, method: str) -> None:
    """There it is of another module, which is nowhere else."""
    code = f"""
        import multiprocessing
        from relieve_py import CallableTask

        class Own:
            def __init__(self, value):
                self.value = value

            def again(self):
                return Own(self.value)

        class OwnError(Exception):
            pass

        def helped(n):
            return 1 if n == 0 else n * helped(n - 1)

        def work(own):
            if own.value < 0:
                raise OwnError(own.value)
            return Own(helped(own.value)).again()

        def run():
            assert Own.__module__ == "__mp_main__"
            with CallableTask(work) as task:
                own = task.get(None, Own(4)).result(20)
                assert (type(own), own.value) == (Own, 24)
                try:
                    task.get(None, Own(-1)).result(20)
                except OwnError as error:
                    assert error.args == (-1,)
                    assert Own.__module__ == work.__module__ == "__mp_main__"
                    print("all well", flush=True)

        if __name__ == "__main__":
            process = multiprocessing.get_context({method!r}).Process(target=run)
            process.start()
            process.join(25)
            assert process.exitcode == 0
    """
    assert run_program(tmp_path, code) == b"all well\n"
