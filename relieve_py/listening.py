"""``on``, ``once`` and ``off``: the face that everything with listeners shows its user."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from relieve_py.events import Emitter, Listener


class Listening(ABC):
    """Something that tells listeners of events. They run on a thread of its own, in order, and survive restarts; async
    ones in the event loop in which they were registered, and without one in a loop of their own."""

    @property
    @abstractmethod
    def emitter(self) -> Emitter:
        """Who tells them."""

    def on(self, name: str, listener: Listener | None = None) -> Any:
        """Call ``listener(*args)`` at each event of that name: a child's, or a lifecycle event. ``job.*`` matches.

        On a worker that is any task's, also of tasks added later, and ``current_event().source`` is the task. Returns
        the listener; without one this is a decorator.
        """
        return self.emitter.on(name, listener) if listener is not None else lambda f: self.emitter.on(name, f)

    def once(self, name: str, listener: Listener | None = None) -> Any:
        """Like ``on``, for the next such event only."""
        return self.emitter.once(name, listener) if listener is not None else lambda f: self.emitter.once(name, f)

    def off(self, name: str | None = None, listener: Listener | None = None) -> None:
        """Remove that listener, all of that name, or, with no arguments, all."""
        self.emitter.off(name, listener)
