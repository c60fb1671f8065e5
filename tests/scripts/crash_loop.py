"""Dies a moment after it was ready, whatever it is asked."""

import os
import threading

from relieve_py import ipc


@ipc.on("die")
def die():
    os._exit(7)


def start(*args):
    if args:
        threading.Timer(0.0, lambda: os._exit(int(args[0]))).start()


def pid():
    return os.getpid()
