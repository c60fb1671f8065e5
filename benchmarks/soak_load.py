"""The callers of the soak: each makes calls of its kind, one round after the other, and checks how every one ended."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from relieve_py import CloudWorker, RelieveError, Reply, RetryPolicy
from relieve_py.remote import Remote

HANG = 60.0
"""Seconds after which a call that has not ended counts as hanging."""
# How the calls of each kind may end. Those that are tried again deliver, whatever happens to the children.
ENDS = {
    "get": {"value", "TaskDied"},
    "get, retried": {"value"},
    "get, awaited, retried": {"value"},
    "call": {"value", "TaskDied"},
    "call, retried": {"value"},
    "stream": {"value", "TaskDied"},
    "map, retried": {"value"},
    "map, unordered, retried": {"value"},
    "get, cancelled": {"value", "TaskDied", "CallCancelled"},
    "get, timed out": {"value", "TaskDied", "CallTimeout"},
    "event": {"value", "TaskDied"},
}


class Ledger:
    """What was called, and how it ended. Tokens are even for calls that may run once only, and odd for the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # owner: whoever writes something down
        self.ends: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []
        self.settled = bytearray()  # for each token how often its Reply has called back
        self.replies: set[int] = set()  # tokens of Replies that have not called back yet
        self._tokens = itertools.count()

    @property
    def calls(self) -> int:
        """How many calls have ended."""
        return self.ends.total()

    def token(self, retried: bool) -> int:
        """A new one."""
        with self._lock:
            self.settled += b"\0\0"
            return next(self._tokens) * 2 + retried

    def watch(self, token: int, reply: Reply) -> Reply:
        """Its Reply has to call back, once."""
        with self._lock:
            self.replies.add(token)
        reply.add_done_callback(lambda _: self._called_back(token))
        return reply

    def _called_back(self, token: int) -> None:
        with self._lock:
            self.settled[token] += 1
            self.replies.discard(token)
            if self.settled[token] != 1:
                self.faults.append(f"the reply of token {token} called back {self.settled[token]} times")

    def ended(self, kind: str, end: BaseException | None, calls: int = 1) -> None:
        """So many calls of that kind ended like that."""
        name = "value" if end is None else type(end).__name__
        with self._lock:
            self.ends[kind, name] += calls
            if name not in ENDS[kind]:
                self.faults.append(f"{kind}: {end!r} (cause: {end.__cause__!r})" if end is not None else kind)

    def fault(self, text: str) -> None:
        """Something is wrong."""
        with self._lock:
            self.faults.append(text)

    def check(self, kind: str, got: Any, expected: Any) -> None:
        """What a call gave."""
        if got != expected:
            self.fault(f"{kind}: {str(got)[:200]} instead of {str(expected)[:200]}")


class Load:
    """The callers over one worker."""

    def __init__(self, worker: CloudWorker, ledger: Ledger, seed: int) -> None:
        self._worker = worker
        self._ledger = ledger
        self._seed = seed
        self._retried: Remote = worker.options(retries=RetryPolicy(max=200), poison_after=None)

    def callers(self) -> Iterator[threading.Thread]:
        """A thread for each, which ends when told to ``stop``."""
        self.stop = threading.Event()
        rounds = [self.gets, self.gets, self.calls, self.streams, self.maps, self.maps, self.cancels, self.timeouts]
        for number, each in enumerate([*rounds, self.awaits, self.events]):
            chance = random.Random(f"{self._seed}/{number}")
            yield threading.Thread(target=self._run, args=(each, chance), name=f"soak-{each.__name__}")

    def _run(self, each: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            while not self.stop.is_set():
                each(chance)
        except BaseException as error:
            self._ledger.fault(f"{each.__name__} could not go on: {error!r}")
            raise

    def _end_of(self, kind: str, reply: Reply) -> Any:
        """Wait for it and write down how it ended; its value, or None."""
        try:
            value = reply.result(HANG)
        except RelieveError as error:
            self._ledger.ended(kind, error)
            return None
        except TimeoutError as error:
            self._ledger.ended(kind, error)
            return None
        self._ledger.ended(kind, None)
        return value

    # -- one round of each -------------------------------------------------------------------------

    def gets(self, chance: random.Random) -> None:
        """A get, mostly small, sometimes larger than a socket takes at once."""
        retried = chance.random() < 0.5
        kind, face = ("get, retried", self._retried) if retried else ("get", self._worker)
        token = self._ledger.token(retried)
        padding = bytes(chance.choice((0, 0, 0, 10, 100_000, 2_000_000)))
        value = self._end_of(kind, self._ledger.watch(token, face.get("answer", token, padding)))
        if value is not None:
            self._ledger.check(kind, value, (token * 3 + len(padding), padding))

    def calls(self, chance: random.Random) -> None:
        """A few calls at once."""
        retried = chance.random() < 0.5
        kind, face = ("call, retried", self._retried) if retried else ("call", self._worker)
        tokens = [self._ledger.token(retried) for _ in range(chance.randint(1, 10))]
        for reply in [self._ledger.watch(token, face.call("each", token)) for token in tokens]:
            self._end_of(kind, reply)

    def streams(self, chance: random.Random) -> None:
        """A stream, read to its end or left early."""
        token, count, leave = self._ledger.token(False), chance.randint(0, 200), chance.random() < 0.2
        expected = iter(range(token, token + count))
        with self._worker.stream("rows", token, count) as stream:
            try:
                for item in stream:
                    self._ledger.check("stream", item, next(expected, None))
                    if leave:
                        break
                else:
                    self._ledger.check("stream", list(expected), [])
                self._ledger.ended("stream", None)
            except RelieveError as error:
                self._ledger.ended("stream", error)

    def maps(self, chance: random.Random) -> None:
        """A map of up to 400 items: whole, and in order unless that is not wanted."""
        unordered = chance.random() < 0.3
        kind = "map, unordered, retried" if unordered else "map, retried"
        tokens = [self._ledger.token(True) for _ in range(chance.randint(0, 400))]
        try:
            got = list(self._retried.map("each", tokens, unordered=unordered))
        except RelieveError as error:
            self._ledger.ended(kind, error)
            return
        self._ledger.check(kind, sorted(got) if unordered else got, [token * 3 for token in tokens])
        self._ledger.ended(kind, None, len(tokens))

    def cancels(self, chance: random.Random) -> None:
        """Some calls, of which most are cancelled: waiting, running or over."""
        tokens = [self._ledger.token(False) for _ in range(chance.randint(1, 8))]
        seconds = chance.choice((0, 0.001, 0.02))
        replies = [self._ledger.watch(token, self._worker.get("nap", token, seconds)) for token in tokens]
        self.stop.wait(chance.uniform(0, 0.02))
        for reply in replies:
            if chance.random() < 0.7:
                reply.cancel()
        for reply in replies:
            self._end_of("get, cancelled", reply)

    def timeouts(self, chance: random.Random) -> None:
        """A call that takes about as long as it may."""
        token = self._ledger.token(False)
        reply = self._worker.options(timeout=0.02).get("nap", token, chance.choice((0.015, 0.02, 0.2)))
        self._end_of("get, timed out", self._ledger.watch(token, reply))

    def awaits(self, chance: random.Random) -> None:
        """Calls that are awaited together, in an event loop of their own."""

        async def awaited(reply: Reply) -> Any:
            return await reply

        async def one(token: int) -> None:
            reply = self._ledger.watch(token, self._retried.get("later", token))
            try:
                value = await asyncio.wait_for(awaited(reply), HANG)
                self._ledger.check("get, awaited, retried", value, token * 3)
                self._ledger.ended("get, awaited, retried", None)
            except (RelieveError, TimeoutError) as error:
                self._ledger.ended("get, awaited, retried", error)

        async def all_of_them() -> None:
            await asyncio.gather(*(one(self._ledger.token(True)) for _ in range(chance.randint(1, 20))))

        asyncio.run(all_of_them())

    def events(self, chance: random.Random) -> None:
        """An event to some task."""
        token = self._ledger.token(False)
        self._end_of("event", self._ledger.watch(token, self._worker.send("noted", token)))
        self.stop.wait(chance.uniform(0, 0.01))
