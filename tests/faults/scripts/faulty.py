"""Functions that do everything that a child should not do, while they run; each takes one argument or none.

Children of this script die by the hundred, so what takes long to import is imported where it is used.
"""

import contextlib
import faulthandler
import gc
import itertools
import os
import signal
import socket
import sys
import threading
import time

from relieve_py import ipc

_kept = []


def echo(value=None):
    return value


def size_of(data):
    return len(data)


def nap(seconds_and_value):
    seconds, value = seconds_and_value
    time.sleep(seconds)
    return value


def items(n):
    yield from range(n)


def run(function):
    return function()


def same(pair):
    """Whether a list holds itself, as the one that was sent did."""
    return pair[0] is pair


# -- the end of the process ------------------------------------------------------------------------


def leave(code):
    sys.exit(code)


def leave_at_once(code):
    os._exit(code)


def crash(_=None):
    faulthandler.disable()  # what pytest has enabled would print every stack, in a forked child
    import ctypes

    ctypes.string_at(0)


def kill(pid=0):
    os.kill(pid or os.getpid(), signal.SIGKILL)
    return pid


# -- exceptions ------------------------------------------------------------------------------------


class OwnBase(BaseException):
    pass


def raise_key_error(_=None):
    raise KeyError("boom")


def raise_base(name):
    import asyncio

    raise {
        "KeyboardInterrupt": KeyboardInterrupt,
        "GeneratorExit": GeneratorExit,
        "CancelledError": asyncio.CancelledError,
        "OwnBase": OwnBase,
    }[name]("thrown")


def allocate_too_much(_=None):
    return bytearray(1 << 60)


def recurse(_=None):
    return recurse(_) + 1  # with the default, Python 3.13.0 forgets to count how deep it is


class Nested:
    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return repr(self.inner)


def recurse_in_c(_=None):
    """Goes down the C stack until it ends, unless the interpreter stops that."""
    faulthandler.disable()
    sys.setrecursionlimit(1 << 30)
    nested = Nested(None)
    nested.inner = nested
    return repr(nested)


# -- not coming back -------------------------------------------------------------------------------


def stop_itself(_=None):
    os.kill(os.getpid(), signal.SIGSTOP)


def spin(_=None):
    while True:
        pass


def spin_in_c(_=None):
    return sum(itertools.repeat(0))


def read_for_ever(_=None):
    read, _write = os.pipe()
    return os.read(read, 1)


def lock_for_ever(_=None):
    import fcntl
    import tempfile

    with tempfile.NamedTemporaryFile() as mine, open(mine.name) as other:
        fcntl.flock(mine, fcntl.LOCK_EX)
        fcntl.flock(other, fcntl.LOCK_EX)


def sleep_for_ever(_=None):
    while True:
        time.sleep(3600)


async def await_for_ever(_=None):
    import asyncio

    await asyncio.Event().wait()


def swallow_for_ever(_=None):
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(3600)


def ignore_signals(_=None):
    for signum in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(signum, signal.SIG_IGN)


def replace_handlers(_=None):
    """Swallows the signals that a program may want, and that this library uses."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGURG, signal.SIGUSR1):
        signal.signal(signum, lambda *_: None)


def ask(name):
    return ipc.emit(name).result(30)


# -- the channel -----------------------------------------------------------------------------------


def _sockets():
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            if socket.socket(fileno=os.dup(fd)).family == socket.AF_UNIX:
                yield fd


def close_channel(_=None):
    for fd in _sockets():
        os.close(fd)


def close_everything(_=None):
    os.closerange(0, 4096)


def close_everything_and_stay(_=None):
    os.closerange(0, 4096)
    sleep_for_ever()


def write_garbage(size):
    for fd in _sockets():
        with contextlib.suppress(OSError):
            os.write(fd, b"\xfe" * size)


def print_much(megabytes):
    """To both standard streams, by way of Python and past it."""
    part = "x" * ((1 << 20) - 1)
    for _ in range(megabytes // 2):
        print(part)
        print(part, file=sys.stderr)
        sys.stdout.flush()
        os.write(1, b"x" * (1 << 20))
        os.write(2, b"x" * (1 << 20))
    return megabytes


# -- processes of its own --------------------------------------------------------------------------


def fork_a_copy(_=None):
    pid = os.fork()
    if pid == 0:
        time.sleep(3600)
        os._exit(0)
    return pid


def fork_and_return_twice(_=None):
    return os.fork()


def leave_a_daemon(_=None):
    """A grandchild in a session of its own, which init would adopt."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(write, pid.to_bytes(8, "little"))
            os._exit(0)
        os.closerange(0, 256)
        time.sleep(3600)
        os._exit(0)
    os.wait()
    return int.from_bytes(os.read(read, 8), "little")


def start_a_program(_=None):
    import subprocess

    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True).pid


def square(n):
    return n * n


def use_a_process_pool(n=3):
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as executor:
        return list(executor.map(square, range(n)))


def leave_a_process_pool(_=None):
    from concurrent.futures import ProcessPoolExecutor

    executor = ProcessPoolExecutor(1)
    _kept.append(executor)
    return executor.submit(os.getpid).result()


# -- traces in the child ---------------------------------------------------------------------------


def change_surroundings(_=None):
    os.chdir("/")
    os.environ.clear()
    sys.path.clear()
    os.umask(0o777)


def surroundings(_=None):
    mask = os.umask(0)
    os.umask(mask)
    return os.getcwd(), dict(os.environ), list(sys.path), mask


class Fragile:
    def __del__(self):
        raise RuntimeError("in __del__")


class Bomb:
    """Ends the process when it is collected; who receives one gets a 0."""

    def __del__(self):
        os._exit(9)

    def __reduce__(self):
        return int, ()


def leave_fragile(_=None):
    fragile = Fragile()
    fragile.itself = fragile
    del fragile
    gc.collect()


def return_bomb(_=None):
    return Bomb()


def hide_bomb():
    """Goes off after the call, at a word."""
    bombs = [Bomb()]
    ipc.on("now", bombs.clear)
    return "hidden"


def leave_a_thread(_=None):
    threading.Thread(target=time.sleep, args=(3600,)).start()


def listen_slowly(path):
    """A handler of "slow" that holds up all that come after, until somebody opens the named pipe at path."""

    @ipc.on("slow")
    def wait(n):
        if n == 0:
            with open(path) as pipe:
                pipe.read()
        elif n < 0:
            ipc.send("heard", n)


def ask_in_a_handler(name):
    """A handler of "go" that asks the parent."""
    ipc.on("go", lambda: ipc.send("answered", ipc.emit(name).result(30)))


def eat_memory(megabytes):
    """Takes so much, a megabyte at a time, and touches it."""
    for _ in range(megabytes):
        _kept.append(bytearray(os.urandom(4096)) * 256)


def main_thread(_=None):
    main = threading.current_thread()
    return main.name, main.daemon, main is threading.main_thread(), threading.Thread().daemon


def hold_the_interpreter(seconds):
    """In C, without giving any other thread a turn."""
    import ctypes

    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    return seconds


def miss_the_interrupt(_=None):
    """As if it came in the moment before the wait, when it wakes nobody."""
    ours = signal.getsignal(signal.SIGURG)
    signal.signal(signal.SIGURG, lambda *_: signal.signal(signal.SIGURG, ours))
    sleep_for_ever()


def tell(name, *args):
    ipc.send(name, *args)


def begin_and_sleep_for_ever(_=None):
    ipc.send("began")
    sleep_for_ever()
