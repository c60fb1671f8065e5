"""Functions of one item, as map calls them."""

import asyncio
import itertools
import os
import pickle
import signal
import sys
import threading

from relieve_py import ipc, outcomes


def note(path, item):
    """One line for each time that an item runs."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{item}\n".encode())
    os.close(fd)


def same(item):
    return item


def noted(item):
    path, number, what = item
    with open(path, "a+") as file:
        file.seek(0)
        first = f"{number}\n" not in file.readlines()
    note(path, number)
    if what == "die" or (what == "die once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "leave":
        sys.exit(7)
    elif what == "raise":
        raise ValueError(number)
    return number


def done(item):
    """Gives nothing, as what is called for its effect."""
    noted(item)


def make(what):
    """A value of that kind."""
    kind, size = what
    match kind:
        case "text":
            return "x" * size
        case "bytes":
            return b"x" * size
        case "buffer":
            return pickle.PickleBuffer(bytearray(b"x" * size))
        case "list":
            return [size]
        case "function":
            return lambda: size
        case "generator":
            return (n for n in range(size))
        case "none":
            return None


kept = []


def keep(item):
    """Always the same list, which changes."""
    kept.append(item)
    return kept


def hold(item):
    """An item with a path waits there."""
    number, path = item
    if path is not None:
        ipc.send("holding", number)
        with open(path) as file:
            file.readline()
    return number


async def later(item):
    await asyncio.sleep(0)
    if item % 10 == 3:
        raise ValueError(item)
    return item


def who(item):
    request = ipc.request()
    assert ipc.request() is request
    return item, request.id, request.method


def respond(item):
    """By its request; what the function does after that is nobody's business."""
    if item % 3 == 0:
        ipc.request().respond(-item)
    elif item % 3 == 1:
        ipc.request().fail(ValueError(item))
    if item % 2:
        raise TypeError("too late")
    return item


@ipc.callback
def call_back(item, done):
    if item % 2:
        threading.Timer(0.001, done, (item,)).start()
    else:
        done(item)


def spin(item):
    if item == 5:
        ipc.send("spinning", item)
        while True:
            pass
    return item


class Bomb:
    """An item that harms the child when it arrives there."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return go_off, (self.how, os.getpid())


def go_off(how, maker):
    if os.getpid() == maker:
        return Bomb(how)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise LookupError(how)


def stay(path):
    """Heed no interrupt, from when it writes there on: not a line of Python runs after that."""
    fd = os.open(path, os.O_WRONLY)
    sum(itertools.chain(map(os.write, [fd], [b"\n"]), itertools.repeat(0)))


def forget_to_leave(item):
    """Fork, and have the copy return, too."""
    path, number, _ = item
    note(path, number)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return number


def close_all():
    """The channel, too, so that nothing can be sent any more."""
    os.closerange(3, 256)


def break_down():
    """From here on what is kept together cannot be sent, as when there is no memory for it."""

    def no_memory(*_):
        raise MemoryError("there is none")

    outcomes.Several.payload = no_memory


def has_imported(module):
    return module in sys.modules
