"""What a user gives as a ``timeout``, checked before anything is done about it."""

from __future__ import annotations


def check_timeout(timeout: float | None) -> None:
    """Raises TypeError or ValueError for what is no number of seconds. Less than 0 is no time, as everywhere."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
    if timeout != timeout or (isinstance(timeout, int) and abs(timeout) > 2**62):
        raise ValueError(f"timeout must be a number of seconds, not {timeout!r}")
