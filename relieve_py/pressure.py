"""Pure: what a worker tells of its room, each thing once: that calls have to wait, and that they need not any more."""

from __future__ import annotations

from relieve_py.events import Available, Drained, Unavailable


class Pressure:
    """What one worker has told of its room, and has to take back. Not locked: its dispatcher does that."""

    def __init__(self) -> None:
        self.full = False  # somebody was told that there is no room in the queue
        self._since: float | None = None  # when it was told that calls have to wait

    @property
    def short(self) -> bool:
        """True when it was told that calls have to wait, and not yet that they need not."""
        return self._since is not None

    def waits(self, worker: str, reason: str, now: float) -> Unavailable | None:
        """A call has to wait. Returns what is to be told of that."""
        if self._since is not None:
            return None
        self._since = now
        return Unavailable(worker=worker, reason=reason)

    def eased(self, worker: str, now: float) -> Available | None:
        """No call waits, and a task has room. Returns what is to be told of that."""
        since, self._since = self._since, None
        return Available(worker=worker, after=now - since) if since is not None else None

    def drained(self, worker: str) -> Drained:
        """There is room in the queue again. Returns what is to be told of that."""
        self.full = False
        return Drained(worker=worker)
