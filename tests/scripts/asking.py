"""A child that asks its parent, from everywhere."""

import asyncio
import threading

from relieve_py import ipc

_at_start = []


def start(ask=False):
    if ask:
        _at_start.append(ipc.emit("double", 21).result(20))


def at_start():
    return _at_start


def ask(name, *args):
    return ipc.emit(name, *args).result(20)


async def ask_in_a_loop(name, *args):
    return await ipc.emit(name, *args)


async def ask_many_at_once(n):
    return await asyncio.gather(*[ipc.emit("double", number) for number in range(n)])


def ask_first_and_look_later(n):
    answers = [ipc.emit("double", number) for number in range(n)]
    return sum(answer.result(20) for answer in answers)


def why_not(name):
    try:
        return ipc.emit(name).result(20)
    except Exception as error:
        return type(error).__name__, str(error)


def why_not_within(name, timeout):
    try:
        return ipc.emit(name).result(timeout)
    except Exception as error:
        return type(error).__name__, str(error)


async def why_not_in_a_loop(name):
    try:
        return await ipc.emit(name)
    except Exception as error:
        return type(error).__name__, str(error)


def exception_of(name):
    return type(ipc.emit(name).exception(20)).__name__


def by_callback(n):
    called, got = threading.Event(), []
    ipc.emit("double", n).add_done_callback(lambda answer: (got.append(answer.result()), called.set()))
    called.wait(20)
    return got


def from_threads(n):
    got = []
    threads = [threading.Thread(target=lambda number=number: got.append(ask("double", number))) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(got)


def impatiently(name):
    try:
        ipc.emit(name).result(0.05)
    except TimeoutError:
        return "no answer"


async def impatiently_in_a_loop(name):
    try:
        await asyncio.wait_for(ipc.emit(name), 0.05)
    except TimeoutError:
        return "no answer"


def forget(name):
    """Asks and waits for nothing."""
    ipc.emit(name)


def unsendable():
    try:
        ipc.emit("double", (n for n in "ab"))
    except ValueError as error:
        return type(error).__name__


@ipc.on("event")
def event(number):
    ipc.send("handled", ask("double", number))


def ongoing():
    return [(request.id, request.method) for request in ipc.requests()]
