"""The smallest that can be called."""


def double(n):
    return 2 * n
