"""Its start() raises."""


def start(*args):
    raise LookupError("no such thing to start with")
