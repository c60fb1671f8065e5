"""Functions that read streams among their arguments."""

import hashlib
import os
import signal
import threading
import time

from relieve_py import EncodeError, ipc
from relieve_py.footprint import resident_bytes

_kept = []


def total(rows, more=()):
    return sum(rows) + sum(more)


async def total_in_a_loop(rows):
    result = 0
    async for row in rows:
        result += row
    return result


def inside(box):
    return sum(box["rows"])


def told_total(rows):
    ipc.send("total", sum(rows))


def first(rows, n):
    return [next(rows) for _ in range(n)]


def first_and_close(rows):
    """Goes on after it has closed the stream, until it is told to end."""
    first = next(rows)
    rows.close()
    ipc.send("closed", first, list(rows))
    rows.close()
    ipc.request()
    ipc.emit("may I end").result(30)


def read_nothing(rows):
    return type(rows).__name__


def doubled(rows):
    for row in rows:
        yield 2 * row


def told_error(rows):
    got = []
    try:
        got.extend(rows)  # ends with the error
    except Exception as error:
        return type(error).__name__, str(error), list(rows)
    return got


def every_item_then_error(rows):
    got = []
    try:
        for row in rows:
            got.append(row)
    except Exception as error:
        return got, type(error).__name__
    return got, None


def digest(file):
    digest = hashlib.sha256(file.readline())
    while block := file.read(10_000):
        digest.update(block)
    return digest.hexdigest()


def die_after(rows, n):
    for _ in range(n):
        next(rows)
    os.kill(os.getpid(), signal.SIGKILL)


def die_once_before(path, rows):
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(rows)


def wait_for_more(rows):
    for row in rows:
        ipc.send("row", row)


def keep(rows):
    _kept.append(rows)
    return next(rows)


def keep_unread(rows):
    _kept.append(rows)


def read_kept():
    try:
        return list(_kept.pop())
    except Exception as error:
        return type(error).__name__, str(error)


def later(rows):
    """Answers from another thread, which reads the stream while this one serves other calls."""
    request = ipc.request()
    threading.Thread(target=lambda: request.respond(sum(rows))).start()
    return request


def nothing():
    return None


def open_streams():
    """How many streams this child still knows of."""
    return len(ipc._runtime.inflows)


class Growth:
    """How far the memory of this process has grown above what it was at first, at most."""

    def __init__(self):
        self._first = resident_bytes(os.getpid())
        self.most = 0

    def look(self):
        self.most = max(self.most, resident_bytes(os.getpid()) - self._first)


def blocks(n, size):
    """Blocks of bytes, and in the end how far the memory of this child has grown."""
    growth = Growth()
    for _ in range(n):
        yield bytes(size)
        growth.look()
    yield growth.most


def swallow(rows):
    """Is slow at first: how many bytes there were, and how far the memory of this child has grown."""
    growth, nbytes = Growth(), 0
    for number, row in enumerate(rows):
        nbytes += len(row)
        if number == 0:
            time.sleep(0.4)
        growth.look()
    return nbytes, growth.most


def swallow_file(file):
    growth, nbytes = Growth(), 0
    while block := file.read(1 << 20):
        nbytes += len(block)
        growth.look()
    return nbytes, growth.most


def push(n):
    """Sends the items of a stream by hand, and ends it."""
    request = ipc.request()
    for item in range(n):
        request.write(item)
    request.ack()
    return "ignored"


def push_later(n):
    """The same from a thread, after the function has returned."""
    request = ipc.request()

    def work():
        try:
            for item in range(n):
                request.write(item)
            request.respond(range(n, n + 3))
        except RuntimeError as error:
            ipc.send("refused", str(error))

    threading.Thread(target=work).start()
    return request


@ipc.callback
def push_by_callback(n, done):
    done(range(n))


def write_or_why_not():
    request = ipc.request()
    try:
        request.write(1)
    except TypeError as error:
        return str(error)


def write_after_the_end():
    request = ipc.request()
    request.write(1)
    request.ack()
    try:
        request.write(2)
    except RuntimeError as error:
        ipc.send("refused", str(error))


def write_what_cannot_be_sent():
    request = ipc.request()
    try:
        request.write(item for item in "ab")
    except EncodeError:
        request.write(2)
    request.ack()


def outflows():
    return len(ipc._runtime.outflows)
