"""What is read item by item, sync and async, once, and may be left before its end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self


class Reading(Iterator[Any], AsyncIterator[Any]):
    """An iterator of both kinds. Leaving a ``with`` or ``async with`` block closes it."""

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    def close(self) -> None:
        """Read no more. Closing twice is fine."""

    async def aclose(self) -> None:
        """Like ``close``."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()
