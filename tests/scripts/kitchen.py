"""Functions for the contract tests: each does one thing that a user's function may do."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

from relieve_py import ipc

COLOUR = "red"
_events = []
_notes = []


def start(*args):
    _notes.append(args)


def default(*args):
    return ["default", *args]


def echo(*args, **kwargs):
    return [*args, kwargs] if kwargs else args[0] if len(args) == 1 else list(args)


def add(a, b=1):
    return a + b


async def later(value):
    await asyncio.sleep(0)
    return value


async def forever():
    await asyncio.Event().wait()


def each(things):
    yield from things


def close_all(things):
    for thing in things:
        thing.close()
    return len(things)


def write_to(file, text):
    with file:
        file.write(text)


def descriptors():
    """How many this child has open."""
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def run_one(job):
    """A job names the function, and gives its one argument."""
    name, arg = job
    return globals()[name](arg)


def sum_of(rows):
    return sum(rows)


def rows(n):
    yield from range(n)


async def async_rows(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


def endless():
    n = 0
    while True:
        yield n
        n += 1


def rows_then_raise(n):
    yield from range(n)
    raise KeyError("after the items")


@ipc.callback
def by_callback(value, done):
    threading.Thread(target=done, args=(value,)).start()


@ipc.callback
def by_callback_error(text, done):
    done(error=ValueError(text))


@ipc.callback
def by_callback_twice(value, done):
    done(value)
    try:
        done(value)
    except RuntimeError as error:
        ipc.send("second", str(error))


def start_args():
    return _notes[0]


def pid():
    return os.getpid()


def argv():
    return list(ipc.argv), list(sys.argv[1:])


def task_name():
    return ipc.name


def cwd():
    return os.getcwd()


def env(name):
    return os.environ.get(name)


def module_name():
    return __name__


def tell(name, *args):
    ipc.send(name, *args)


def ask(name, *args):
    return ipc.emit(name, *args).result(30)


def listen(*names):
    for name in names:
        ipc.on(name, lambda *args, name=name: _events.append((name, args)))


def listen_once(name):
    ipc.once(name, lambda *args: _events.append((name, args)))


def unlisten(*names):
    if not names:
        ipc.off()
    for name in names:
        ipc.off(name)


def events():
    return list(_events)


def forget_events():
    _events.clear()


def echo_events(name):
    ipc.on(name, lambda *args: ipc.send(f"echo.{name}", *args))


def fail(text="broken"):
    raise ValueError(text)


class Odd(Exception):
    def __init__(self, code, *, detail):
        super().__init__(f"odd {code}")
        self.code = code
        self.detail = detail

    def __reduce__(self):
        return _odd, (self.code, self.detail)


def _odd(code, detail):
    return Odd(code, detail=detail)


def fail_oddly(code, detail):
    raise Odd(code, detail=detail)


class Unsendable(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.frame = sys._getframe()


def fail_unsendably(text):
    raise Unsendable(text)


def interrupt_itself():
    raise KeyboardInterrupt("not for the parent")


def leave(code):
    sys.exit(code)


def leave_at_once(code):
    os._exit(code)


def kill_itself(signum=signal.SIGKILL):
    os.kill(os.getpid(), signum)
    while True:
        signal.pause()


def die_once(path, value):
    """Kills itself the first time, as the file at path remembers."""
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def fail_once(path, value):
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        raise ConnectionError("the first time")
    return value


def note(path, text):
    """Append a line that shows that this call was begun."""
    with open(path, "a") as file:
        file.write(f"{text}\n")
    return text


def wait_for_file(path):
    """Blocks until somebody writes to the named pipe at path; returns what was written."""
    ipc.send("waiting", os.getpid())
    with open(path) as file:
        return file.readline().rstrip("\n")


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def hang(tag=None):
    ipc.send("hanging", tag, os.getpid())
    while True:
        time.sleep(3600)


def hang_uninterruptibly():
    """Swallows every interruption, as bad code does."""
    ipc.send("hanging", None, os.getpid())
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(3600)


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def spawn_sleeper():
    """A grandchild that would sleep for an hour; its pid."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid


def spawn_daemon():
    """A grandchild in a session of its own."""
    code = "import time; time.sleep(3600)"
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid


def write_garbage():
    """Writes what is no frame to every socket of this process: one of them is the channel."""
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, b"\xff" * 64)
    while True:
        time.sleep(3600)


def unsendable():
    return sys._getframe()


class Unbuildable:
    def __reduce__(self):
        return _refuse_to_build, ()


def _refuse_to_build():
    raise ImportError("cannot be rebuilt")


def unbuildable():
    return Unbuildable()


def request():
    now = ipc.request()
    return now.id, now.created_at, now.method


def respond_early(value):
    ipc.request().respond(value)
    return "ignored"


def respond_twice(value):
    request = ipc.request()
    request.respond(value)
    try:
        request.respond("again")
    except RuntimeError as error:
        ipc.send("second", type(error).__name__, str(error))


def ack():
    ipc.request().ack()
    return "ignored"


def hold():
    """Answered later, by the event "release"; its value is that of the event, and the ids of all open requests."""
    request = ipc.request()

    @ipc.once("release")
    def release(value):
        request.respond([value, [open.id for open in ipc.requests()]])

    ipc.send("holding")
    return request


def busy_until(name):
    """Takes no calls until that event."""
    ipc.once(name, ipc.ready)
    ipc.busy()


def ask_for(what):
    """For its end, or another in its place."""
    getattr(ipc, what)()
    return os.getpid()


def chatter(n):
    """Prints much to both standard streams: the protocol must not care."""
    print("x" * n)
    print("y" * n, file=sys.stderr)
    return n


def flags():
    return sys.warnoptions, dict(sys._xoptions), sys.gettrace() is None, sys.flags.debug


def read_from(sock):
    with sock:
        return sock.recv(64)


def accept_one(listener):
    with listener:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"accepted")


_sockets = []


def hold_sockets(n):
    _sockets.extend(socket.socket() for _ in range(n))
    return len(_sockets)


def close_all_sockets():
    """Loses the channel: the parent hears nothing any more."""
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.close(fd)
    while True:
        time.sleep(3600)


def return_late(seconds):
    """Goes on although it was interrupted, and then answers."""
    deadline = time.monotonic() + seconds
    ipc.send("hanging", None, os.getpid())
    while time.monotonic() < deadline:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)
    return "late"


def on_signal(signum):
    """From now on that signal is an event."""
    name = signal.Signals(signum).name
    signal.signal(signum, lambda *args: ipc.send("signal", name))


def debugger():
    return sys.gettrace() is None, sys.getprofile() is None, sys.flags.inspect, sys.flags.interactive


def interpreter():
    return list(sys.warnoptions), dict(sys._xoptions), list(sys.path)


def use_type(value):
    return type(value).__name__, value


def leave_now(signum):
    """From now on that signal is this child's own way to end: it tells the parent, and exits."""

    def handler(*args):
        ipc.send("hard stop")
        sys.exit(9)

    signal.signal(signum, handler)


def hold_the_lock(seconds):
    """Sleeps in C without letting any other thread of this interpreter run."""
    import ctypes

    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
