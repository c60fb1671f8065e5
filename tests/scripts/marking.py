"""Leaves a mark for each call, so that one that runs twice is seen."""

import os


def mark(number, path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{number}\n".encode())
    os.close(fd)
    return number


def same(value):
    return value


def items(count):
    yield from range(count)
