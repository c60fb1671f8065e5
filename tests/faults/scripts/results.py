"""Functions whose results, exceptions and items do harm on their way to the parent; each takes one argument."""

import asyncio
import faulthandler
import os
import signal
import sys
import threading

from relieve_py import ipc


def echo(value=None):
    return value


def crash():
    import ctypes

    faulthandler.disable()  # what pytest has enabled would print every stack, in a forked child
    ctypes.string_at(0)


def throw(error):
    raise error


class Built:
    """Sent as a call: who receives it runs ``function(*args)``."""

    def __init__(self, function, *args):
        self.function = function
        self.args = args

    def __reduce__(self):
        return self.function, self.args


class RunWhenSent:
    """Runs ``function(*args)`` where it is pickled."""

    def __init__(self, function, *args):
        self.function = function
        self.args = args

    def __reduce__(self):
        self.function(*self.args)
        return int, ()


OBJECTS = {
    "generator": lambda: (n for n in range(3)),
    "frame": sys._getframe,
    "raises when sent": lambda: RunWhenSent(int, "x"),
    "leaves when sent": lambda: RunWhenSent(sys.exit, 3),
    "leaves at once when sent": lambda: RunWhenSent(os._exit, 0),
    "crashes when sent": lambda: RunWhenSent(crash),
    "stops when sent": lambda: RunWhenSent(throw, GeneratorExit("thrown")),
    "interrupts when sent": lambda: RunWhenSent(throw, KeyboardInterrupt("thrown")),
    "raises when built": lambda: Built(int, "x"),
    "leaves when built": lambda: Built(sys.exit, 3),
    "raises without text when built": lambda: Built(throw, NoText()),
    "stops when built": lambda: Built(throw, GeneratorExit("thrown")),
    "file": lambda: open(__file__),  # noqa: SIM115 - the parent closes it
    "lock": threading.Lock,
    "module": lambda: os,
}


def result(kind):
    return OBJECTS[kind]()


def ask(kind):
    return ipc.emit("question", OBJECTS[kind]()).result(30)


def items(kind):
    yield "first"
    yield OBJECTS[kind]()


def die_half_way(nbytes):
    """Kills itself when half of its result is written."""
    from relieve_py.channel import Channel
    from relieve_py.wire import encode

    send = Channel.send

    def send_half(channel, frame):
        chunks = [memoryview(chunk).cast("B") for chunk in encode(frame)]
        if sum(chunk.nbytes for chunk in chunks) < nbytes:
            return send(channel, frame)
        for chunk in chunks:
            channel._sock.sendall(chunk[: nbytes // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Channel.send = send_half
    return bytearray(nbytes)


# -- exceptions ------------------------------------------------------------------------------------


class OddInit(Exception):
    def __init__(self, a, b, *, c):
        super().__init__("odd")
        self.a, self.b, self.c = a, b, c


class Unsendable(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.frame = sys._getframe()


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class LeavesInText(Exception):
    def __str__(self):
        os._exit(4)


class LeavesWhenBuilt(Exception):
    def __reduce__(self):
        return sys.exit, (3,)


class StopsWhenBuilt(Exception):
    def __reduce__(self):
        return throw, (GeneratorExit("thrown"),)


def local_error():
    class Local(Exception):
        pass

    return Local("local")


def noted_error():
    error = ValueError("noted")
    error.add_note("a note")
    return error


def caused_error(depth=1):
    error = KeyError("the innermost")
    for n in range(depth):
        outer = ValueError(n)
        outer.__cause__ = error
        error = outer
    return error


def circular_error():
    error = ValueError("a circle")
    error.__cause__ = error
    return error


def error_in_context():
    try:
        try:
            raise KeyError("the context")
        except KeyError:
            raise ValueError("in context")  # noqa: B904 - that is the point
    except ValueError as error:
        return error


EXCEPTIONS = {
    "odd init": lambda: OddInit(1, 2, c=3),
    "unsendable": lambda: Unsendable("with a frame"),
    "no text": NoText,
    "leaves in text": LeavesInText,
    "leaves when built": lambda: LeavesWhenBuilt("leaving"),
    "stops when built": lambda: StopsWhenBuilt("stopping"),
    "local": local_error,
    "notes": noted_error,
    "cause": caused_error,
    "context": error_in_context,
    "deep": lambda: caused_error(3000),
    "circle": circular_error,
    "group": lambda: ExceptionGroup("a group", [ValueError(1), KeyError(2)]),
    "stop iteration": lambda: StopIteration(3),
    "time": lambda: TimeoutError("of its own"),
    "cancelled": lambda: asyncio.CancelledError("of its own"),
    "huge": lambda: ValueError("x" * 2_000_000),
}


def fail(kind):
    raise EXCEPTIONS[kind]()


# -- streams ---------------------------------------------------------------------------------------

_closed = []


def rows(n):
    try:
        yield from range(n)
    finally:
        _closed.append(n)


def closed(_=None):
    return len(_closed)


def rows_then_raise(n):
    yield from range(n)
    raise KeyError("after the items")


def rows_then_die(n):
    yield from range(n)
    os.kill(os.getpid(), signal.SIGKILL)
