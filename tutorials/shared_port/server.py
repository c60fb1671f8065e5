"""What each child runs: it takes connections from a listening socket that all children have."""

import os
import selectors
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

asked_to_stop, stop_asking = socket.socketpair()
talkers = ThreadPoolExecutor(max_workers=100)
accepting: list[threading.Thread] = []


def start(listener: socket.socket) -> None:
    """Runs before the child counts as ready: from then on it takes connections."""
    accepting.append(threading.Thread(target=accept, args=(listener,)))
    accepting[0].start()


def accept(listener: socket.socket) -> None:
    """Take connections until this child is stopped."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(listener, selectors.EVENT_READ)
        waiting.register(asked_to_stop, selectors.EVENT_READ)
        while all(key.fileobj is not asked_to_stop for key, _ in waiting.select()):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:  # another child was faster
                continue
            connection.setblocking(True)
            talkers.submit(talk, connection)


def talk(connection: socket.socket) -> None:
    """Answer one client: each line comes back with this child's pid before it."""
    with connection, connection.makefile("rw", encoding="utf-8", newline="\n") as stream:
        for line in stream:
            stream.write(f"{os.getpid()} {line}")
            stream.flush()


def stop() -> None:
    """Runs on a soft stop: take no more connections, and finish those that were taken."""
    stop_asking.send(b"!")
    accepting[0].join()
    talkers.shutdown()
