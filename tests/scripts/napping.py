"""Takes its time."""

import os
import time


def pid():
    return os.getpid()


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def trickle(seconds):
    for _ in range(2):
        time.sleep(seconds / 2)
        yield os.getpid()


def linger(seconds):
    """Say that it has begun, and nap then."""
    yield os.getpid()
    time.sleep(seconds)
