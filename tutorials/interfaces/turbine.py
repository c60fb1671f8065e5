"""What the child serves: each turn of the turbine burns fuel, and it tells how much."""

from relieve_py import ipc


def turn(times: int) -> int:
    """Turn so many times; the litres burnt so far go to whoever listens."""
    ipc.send("burnt", times * 2)
    return times


def jam() -> None:
    """End badly, with work in hand."""
    raise SystemExit(7)
