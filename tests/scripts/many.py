"""Many calls at once: who meets whom, on which thread."""

import asyncio
import atexit
import contextlib
import os
import resource
import signal
import sys
import threading
import time

from relieve_py import ipc

_barriers = {}
_lock = threading.Lock()


def meet(many):
    """Return once so many calls are here, each on its thread."""
    with _lock:
        barrier = _barriers.setdefault(many, threading.Barrier(many))
    barrier.wait(20)
    return threading.current_thread().name


async def meet_async(many):
    """The same for coroutines, which share a thread."""
    with _lock:
        there = _barriers.setdefault(("async", many), [[], asyncio.Event()])
    there[0].append(threading.get_ident())
    if len(there[0]) == many:
        there[1].set()
    await asyncio.wait_for(there[1].wait(), 20)
    return len(set(there[0])), threading.current_thread() is threading.main_thread()


def spin(note):
    """Never return by itself; says how it ends."""
    try:
        ipc.send("spinning", note)  # it may be given up from here on
        while True:
            time.sleep(0.001)
    finally:
        ipc.send("spun", note)


async def forever(note):
    """The same for a coroutine."""
    try:
        ipc.send("spinning", note)  # it may be given up from here on
        await asyncio.Event().wait()
    finally:
        ipc.send("spun", note)


def chatter(note):
    """Be interrupted in the middle of sending."""
    ipc.send("spinning", note)
    with contextlib.suppress(KeyError):
        while True:
            ipc.send("chat", "x" * 100_000)


def sleep(seconds):
    """Sleep where nothing interrupts a thread; an interrupt on the way there is not heeded either."""
    with contextlib.suppress(BaseException):
        ipc.send("spinning", "sleep")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(seconds)


def hold(path):
    """Wait at a named pipe."""
    with open(path) as file:
        return file.readline().strip()


def count(many):
    """A stream."""
    yield from range(many)


async def count_async(many):
    """The same of a coroutine."""
    for number in range(many):
        await asyncio.sleep(0)
        yield number


def who():
    """The call that runs, as it says itself."""
    time.sleep(0.01)
    return ipc.request().id


async def who_async():
    """The same of a coroutine."""
    await asyncio.sleep(0.01)
    return ipc.request().id


def die():
    """Die."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave(code):
    """End the child."""
    sys.exit(code)


async def leave_async(code):
    """The same of a coroutine."""
    await asyncio.sleep(0)
    sys.exit(code)


async def leave_by_a_task(code):
    """The same of a task that nobody awaits."""

    async def leave():
        sys.exit(code)

    left = asyncio.create_task(leave())
    await asyncio.Event().wait()
    return left


def want_threads():
    """From here on the system gives this process no memory for the stack of a thread."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 20), size + (2 << 20)))


def leave_late(seconds):
    """End the child, which takes it so long."""
    atexit.register(time.sleep, seconds)
    ipc.send("spinning", "leaving")
    sys.exit(3)


def fail(text):
    """Raise."""
    raise ValueError(text)


_last = []


@ipc.on("note")
def note(value):
    """Remember it."""
    time.sleep(0.01)
    _last.append(value)


def noted():
    """What was remembered last."""
    return _last[-1]


def double(number):
    """Twice that."""
    return 2 * number


def mask():
    """The signals that its thread takes not."""
    return [int(signum) for signum in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
