"""Signals that come at any moment of what a child sends."""

import os
import random
import signal

from relieve_py import EncodeError, ipc

armed = []
over = []


def raise_timeout(signum, frame):
    """As the handlers of many programs do. TimeoutError is an OSError, as what a socket raises."""
    if armed:
        armed.clear()
        raise TimeoutError("took too long")


def signals(handler, every):
    """From now on, at intervals of so many seconds, more or less."""

    def handle(signum, frame):
        try:
            handler(signum, frame)
        finally:
            if not over:
                signal.setitimer(signal.ITIMER_REAL, chance.random() * every + 1e-6)

    chance = random.Random(1)
    over.clear()
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, every)


def no_more_signals():
    over.append(True)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


def send_while_handlers_raise(times, size):
    """Send so many events; the numbers of those whose sending raised nothing, and how many raised."""
    sure, raised = [], 0
    signals(raise_timeout, 0.0001)
    for number in range(times):
        try:
            armed.append(True)
            ipc.send("number", number, b"x" * size)
            sure.append(number)
            armed.clear()
        except (TimeoutError, EncodeError):  # the latter if it came while that was encoded
            raised += 1
    no_more_signals()
    return sure, raised


def send_in_handlers(every):
    """From now on a handler sends an event each time, and counts them."""
    signals(lambda signum, frame: ipc.send("counted", count()), every)


counted = []


def count():
    counted.append(True)
    return len(counted)


def how_many():
    no_more_signals()
    return len(counted)


def same(value):
    return value


def end_in_handler(after):
    """Send events until a handler sends the last one, and ends the process."""

    def last(signum, frame):
        ipc.send("last")
        os._exit(7)

    signal.signal(signal.SIGALRM, last)
    signal.setitimer(signal.ITIMER_REAL, after)
    while True:
        ipc.send("number", 1)


def mask_after_sending(size):
    """Whether a signal that the user has blocked is still, and none besides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        ipc.send("number", 1, b"x" * size)
        return signal.pthread_sigmask(signal.SIG_BLOCK, []) == before | {signal.SIGUSR1}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def send_until_cancelled():
    while True:
        ipc.send("number", 1)
