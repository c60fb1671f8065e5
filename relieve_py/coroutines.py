"""Runs the coroutines of async listeners: in the event loop in which the listener was registered, or in one of their
own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import Callable
from typing import Any

LOOK_AGAIN = 1.0
"""Seconds after which it is looked whether the loop still runs: nobody is told of its end. Less: more wake-ups while a
listener is slow; more: a listener whose loop has ended holds up the others for longer."""


class InLoop:
    """An async listener that was registered in an event loop. It equals the function itself, by which it is removed."""

    def __init__(self, function: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop

    def __call__(self, *args: Any) -> Any:
        """Run it there, and wait for its result here. Raises RuntimeError when the loop does not run any more."""
        self._must_run()
        future = asyncio.run_coroutine_threadsafe(self._function(*args), self._loop)
        while not concurrent.futures.wait([future], LOOK_AGAIN).done:
            self._must_run()
        return future.result()

    def _must_run(self) -> None:
        if not self._loop.is_running():
            raise RuntimeError(f"the event loop in which {self._function!r} was registered does not run any more")

    def __eq__(self, other: object) -> bool:
        return self._function == (other._function if isinstance(other, InLoop) else other)

    def __hash__(self) -> int:
        return hash(self._function)

    def __repr__(self) -> str:
        return repr(self._function)


def bound_to_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """The listener, which runs in the loop that runs here if it is async and there is one."""
    if not inspect.iscoroutinefunction(function):
        return function
    try:
        return InLoop(function, asyncio.get_running_loop())
    except RuntimeError:
        return function


def finished(result: Any) -> Any:
    """What a listener returned; of a coroutine, what that returns, run in a loop of its own."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result
