"""``with`` and ``async with`` for what is started and stopped: tasks and workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from relieve_py import copies
from relieve_py.interruptions import raised_by_handler
from relieve_py.replies import Reply


class Entered(ABC):
    """Entering starts it and waits until it is ready; leaving finishes what it was given, and stops it.

    After an exception it is stopped at once. Whoever is interrupted on the way in or out leaves nothing running; Ctrl-C
    while it stops kills what has not left yet. In a process that was forked inside the block, leaving it does nothing:
    what was entered belongs to the original.
    """

    _entered_in: object = None  # the process

    @abstractmethod
    def start(self) -> Reply:
        """Start it; settles when it is ready."""

    @abstractmethod
    def stop(self) -> Reply:
        """Stop it; settles when it has."""

    @abstractmethod
    def kill(self) -> Reply:
        """Make it leave now."""

    @abstractmethod
    def drain(self, timeout: float | None = None) -> Reply:
        """Settles when it has nothing left to do, or after so many seconds."""

    def _enter(self) -> Reply | None:
        """Settles when it is ready, started for that if need be; None when there is nothing to wait for."""
        return self.start()

    def __enter__(self) -> Self:
        self._entered_in = copies.here
        try:
            ready = self._enter()
        except BaseException as error:
            if not isinstance(error, Exception) or raised_by_handler(error):  # it may have been started all the same
                self.stop().mark_seen()
            raise
        if ready is not None:
            try:
                ready.result()
            except BaseException:
                self.stop().mark_seen()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered_in is not copies.here:
            return
        try:
            if kind is None:
                self.drain().result()
        finally:
            self._stop_or_kill()

    def _stop_or_kill(self) -> None:
        try:
            self.stop().result()
        except Exception:
            raise
        except BaseException:  # the user does not want to wait any longer
            self.kill().mark_seen()
            raise

    async def __aenter__(self) -> Self:
        self._entered_in = copies.here
        ready = self._enter()
        if ready is not None:
            try:
                await ready
            except BaseException:
                self.stop().mark_seen()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered_in is not copies.here:
            return
        try:
            if kind is None:
                await self.drain()
        finally:
            await self.stop()
