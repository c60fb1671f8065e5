"""What ``map`` and ``pipe`` share: an item that could not be submitted, and how the result of one is given."""

from __future__ import annotations

from typing import Any

from relieve_py.errors import CallCancelled
from relieve_py.interruptions import raised_by_handler
from relieve_py.replies import Reply


class Refused:
    """Stands in the place of an item that could not be submitted."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def result(self) -> Any:
        """Raises the error."""
        raise self.error


def result_of(item: Reply | Refused, return_exceptions: bool, what: str) -> Any:
    """What became of one item of ``what``. Raises its error, unless that is to be returned."""
    try:
        return item.result()
    except (Exception, CallCancelled) as error:
        if return_exceptions and not raised_by_handler(error):
            return error
        if isinstance(error, (StopIteration, StopAsyncIteration)):  # raised as it is, it would end the iteration
            raise RuntimeError(f"a call of {what}() raised {type(error).__name__}") from error
        raise
