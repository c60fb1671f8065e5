"""Exports a function: it is what an unnamed call runs."""


def exports(a, b):
    return a * b
