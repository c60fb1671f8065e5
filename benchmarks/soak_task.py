"""What the children of the soak run. Each call first leaves its token in a log, so that one that ran twice is found."""

import os
import time

_log = os.open(os.environ["SOAK_LOG"], os.O_WRONLY | os.O_APPEND)


def _begin(token):
    os.write(_log, token.to_bytes(8, "little"))


def answer(token, padding=b""):
    _begin(token)
    return token * 3 + len(padding), padding


def each(token):
    _begin(token)
    return token * 3


async def later(token):
    _begin(token)
    return token * 3


def rows(token, count):
    _begin(token)
    for number in range(count):
        yield token + number


def nap(token, seconds):
    _begin(token)
    time.sleep(seconds)
    return token * 3
