"""What children under chaos do; it imports nothing, for there are many of them."""


def same(value):
    return value


def touch(path):
    with open(path, "x"):
        pass


def rows(count):
    yield from range(count)


async def later(count):
    for number in range(count):
        yield number
