"""The module of the design's first example."""

from relieve_py import ipc

began: list[tuple[object, ...]] = []


def start(*args: object) -> None:
    began.append(args)


def stop() -> None:
    ipc.send("stopped")


def data() -> dict[str, str]:
    return {"foo": "bar"}


async def fetch(n: int) -> int:
    return n * 2


def rows(n: int):
    yield from range(n)


def work() -> None:
    ipc.send("progress", 3, 10)


def started_with() -> tuple[object, ...]:
    return began[0]


NAME = "a value"
