"""Functions that read streams among their arguments."""

import hashlib
import os
import signal

from relieve_py import ipc

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
    import threading

    request = ipc.request()
    threading.Thread(target=lambda: request.respond(sum(rows))).start()
    return request


def nothing():
    return None


def open_streams():
    """How many streams this child still knows of."""
    return len(ipc._runtime.inflows)
