"""A Call: one unit of remote work, queued, sent, begun, then done, failed, timed out or cancelled."""

from __future__ import annotations

import enum
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from relieve_py.errors import CallTimeout, EncodeError
from relieve_py.feeds import Feed, encode_with_feeds
from relieve_py.interruptions import raised_by_handler
from relieve_py.policies import RetryPolicy
from relieve_py.reducing import StreamInside
from relieve_py.replies import Reply
from relieve_py.serializers import Payload, Serializer, cannot_send, decode, encode, encode_call
from relieve_py.strands import Strand
from relieve_py.streams import Items, Stream
from relieve_py.supervisor import Supervisor, Timer

_ids = itertools.count(1)


def take_ids(count: int) -> int:
    """The first of so many in a row. No other thread gets one in between: what takes them is not Python code."""
    return next(itertools.islice(_ids, count - 1, None)) - count + 1


def title_of(method: str | None) -> str:
    """What a call of that method calls, for messages."""
    return f"{method}()" if method is not None else "the default function"


@functools.lru_cache(256)  # asked for each result
def result_of(method: str | None) -> str:
    """What such a call returns, for messages."""
    return f"the result of {title_of(method)}"


class Mode(enum.IntEnum):
    """What the caller wants of a call; the value is the flags byte of its frame."""

    GET = 0
    """Its value."""
    CALL = 1
    """That it runs."""
    STREAM = 2
    """Its items."""
    EVENT = 3
    """No call: an event to the child, which is delivered."""
    CHUNK = 4
    """The outcomes of many items."""
    BUNDLE = 5
    """Those of many calls."""


GET, CALL, STREAM, EVENT, CHUNK, BUNDLE = Mode
"""The same by themselves: to look up a member of an enum takes a while."""


class Carrier(Protocol):
    """Where a call waits or runs: who can cancel it, and read the channel for it."""

    @property
    def owner(self) -> Any:
        """Whose slot or queue it is."""
        ...

    def cancel(self, call: Call) -> None:
        """The caller has no more use for the call."""
        ...

    def read_for(self, call: Call, settled: Callable[[], bool], deadline: float | None) -> None:
        """Read the call's channel until ``settled()``; returns at once when that is not possible."""
        ...

    def expire(self, call: Call, error: CallTimeout) -> bool:
        """Fail a call that has waited for its turn for too long; False when it does not wait here any more."""
        ...

    def attend(self, call: Call) -> None:
        """Somebody waits for the call without reading its channel."""
        ...

    def credit(self, call: Call, items: int) -> None:
        """Let the call's stream send so many more items."""
        ...


class Home(Protocol):
    """Where a call returns to when it has to be sent again."""

    def resubmit(self, calls: list[Call], delay: float = 0.0) -> None:
        """Queue them again, in that order and before all others of their priority, after ``delay`` seconds."""
        ...

    def ended(self, calls: Sequence[Call], carrier: Carrier) -> None:
        """The calls have left the slot they were on, however that went."""
        ...


def by_home(calls: list[Call]) -> list[tuple[Home, list[Call]]]:
    """Those of each home, in their order."""
    homes = dict.fromkeys([call.home for call in calls])
    if len(homes) == 1:  # most often
        return [(home, calls) for home in homes if home is not None]
    return [(home, [call for call in calls if call.home is home]) for home in homes if home is not None]


NOTHING = Payload(b"")
HAND_OVER = 0.05
"""Seconds that a call may be on its way from a queue to a child, before it is looked at again whether it waits."""


@attrs.frozen(kw_only=True)
class CallOptions:
    """How a call is to be treated."""

    timeout: float | None = None
    """Seconds it may run, from when it is sent to the child; None: for ever."""
    queue_timeout: float | None = None
    """Seconds it may wait for its turn, from when it is made until it is first sent to a child; None: for ever."""
    retries: RetryPolicy = attrs.field(factory=RetryPolicy)
    """When it is tried again."""
    poison_after: int | None = 3
    """It is refused with PoisonCall once it has killed so many children; None: never."""
    key: Any = None
    """What a sticky strategy goes by."""
    priority: int = 0
    """Of those that wait, the one with the highest has its turn first."""
    script: Any = None
    """Whose tasks may take it, of a worker that has several; None: any."""


DEFAULTS = CallOptions()


class Call:
    """One unit of remote work."""

    __slots__ = (
        "__weakref__",
        "carrier",
        "causes",
        "created_at",
        "deaths",
        "feeds",
        "home",
        "id",
        "key",
        "made_at",
        "method",
        "mode",
        "number",
        "out",
        "payload",
        "poison_after",
        "priority",
        "queue_timeout",
        "reply",
        "retries",
        "script",
        "sent_at",
        "timeout",
        "turn_timer",
        "within",
    )

    def __init__(self, mode: Mode, method: str | None, options: CallOptions) -> None:
        self.id = next(_ids)
        self.mode = mode
        self.method = method
        self.payload = NOTHING
        self.created_at = time.time()
        self.made_at = self.sent_at = 0.0  # when it was submitted and first sent, of the supervisor's time; 0: not yet
        self.timeout = options.timeout
        self.queue_timeout = options.queue_timeout
        self.turn_timer: Timer | None = None  # until it is first sent
        self.retries = options.retries
        self.poison_after = options.poison_after
        self.key = options.key
        self.priority = options.priority
        self.script = options.script
        self.number = 0  # on the channel it was sent on; 0 while it is with no child
        self.out = 0  # on how many of its worker's tasks it counts: two while it is on its way back from one
        self.causes: tuple[BaseException, ...] = ()
        self.deaths = 0
        self.feeds: tuple[Feed, ...] = ()
        self.home: Home | None = None
        self.carrier: Carrier | None = None
        self.within: Any = None  # the bundle that it travels in
        self.reply: Reply | Items

    def encode(self, serializer: Serializer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the arguments, encoded. Raises EncodeError that names the part that cannot be sent, or the limit."""
        if self.mode is EVENT:
            payload = encode(serializer, (self.method, args), args=args)
        else:
            call = (self.method, self.id, self.created_at, args, kwargs)
            try:
                payload = encode_call(serializer, call, args, kwargs)
            except EncodeError:
                raise
            except StreamInside:
                payload, self.feeds = encode_with_feeds(serializer, call, self, args, kwargs)
            except Exception as error:
                if raised_by_handler(error):
                    raise
                raise cannot_send(serializer, call, error, {"args": args, "kwargs": kwargs}) from error
        payload.check()
        self.payload = payload

    def make_reply(self, strand: Strand) -> Reply | Stream:
        """The caller's handle, made once the call is sure to be submitted."""
        if self.mode is STREAM:
            self.reply = Items()
            return Stream(self, self.reply)
        self.reply = Reply(self, strand)
        return self.reply

    def reply_of(self) -> Reply:
        """Its Reply, where that is no stream."""
        assert isinstance(self.reply, Reply)
        return self.reply

    def seen(self, serializer: Serializer) -> PendingCall:
        """As users see it."""
        return PendingCall(
            id=self.id,
            mode=self.mode.name.lower(),
            method=self.method,
            key=self.key,
            priority=self.priority,
            created_at=self.created_at,
            payload=self.payload,
            serializer=serializer,
        )

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.mode.name.lower()} {self.method or 'default'}>"

    def left(self) -> int:
        """How many pieces of work it has that are open."""
        return 1

    @property
    def partly_answered(self) -> bool:
        """True when the caller has part of its answer, so that trying again would repeat that."""
        return isinstance(self.reply, Items) and self.reply.begun

    @property
    def partly_fed(self) -> bool:
        """True when its child has read some of a stream among its arguments, which cannot be read again."""
        return any(feed.begun for feed in self.feeds)

    def timed_out(self, task: str) -> CallTimeout:
        """The error of this call when its time is over."""
        return CallTimeout(
            f"call {self.id} of {self.title} on task {task!r} took longer than {self.timeout:g} seconds",
            task=task,
            call_id=self.id,
            method=self.method,
            timeout=self.timeout,
        )

    def await_turn(self, supervisor: Supervisor) -> None:
        """It is queued for the first time: have it fail when its ``queue_timeout`` is over."""
        if self.queue_timeout is not None:
            due = supervisor.now() + self.queue_timeout
            self.turn_timer = supervisor.at(due, self._turn_overdue, supervisor)

    def await_turn_no_more(self) -> None:
        """It is sent to a child, or will never be."""
        if self.turn_timer is not None:
            self.turn_timer.cancel()
            self.turn_timer = None

    def _turn_overdue(self, supervisor: Supervisor) -> None:
        """I/O thread."""
        if self.turn_timer is None or self.reply.settled() or self.carrier is None:
            return
        error = CallTimeout(
            f"call {self.id} of {self.title} waited for its turn longer than {self.queue_timeout:g} seconds "
            f"(queue_timeout)",
            call_id=self.id,
            method=self.method,
            timeout=self.queue_timeout,
        )
        if not self.carrier.expire(self, error):  # on its way from a worker's queue to a task: it may come back
            self.turn_timer = supervisor.at(supervisor.now() + HAND_OVER, self._turn_overdue, supervisor)

    @property
    def title(self) -> str:
        """What it calls, for messages."""
        return title_of(self.method)


@attrs.frozen(kw_only=True)
class PendingCall:
    """A call that waits in a worker's queue, or was dropped from it, as users see it."""

    id: int
    """Its number, unique in this process; ``id`` of its Reply."""
    mode: str
    """``"get"``, ``"call"``, ``"stream"``, or ``"event"`` for what ``send`` sends."""
    method: str | None
    """What it calls, or the event's name; None for the default function."""
    key: Any
    """What a sticky strategy goes by."""
    priority: int
    """Of those that wait, the one with the highest has its turn first."""
    created_at: float
    """When it was made, in seconds since the epoch."""
    _payload: Payload = attrs.field(repr=False, eq=False)
    _serializer: Serializer = attrs.field(repr=False, eq=False)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Copies of its arguments, as ``(args, kwargs)``, made from what would be sent. Raises DecodeError."""
        payload = self._payload.copy()
        value = decode(self._serializer, payload, "the arguments")
        return (tuple(value[1]), {}) if self.mode == "event" else (tuple(value[3]), dict(value[4]))


@attrs.frozen(kw_only=True)
class Outcome:
    """How a call ended on one task."""

    task: str
    """The task's name."""
    value: Any = None
    """What the call returned; None when it failed."""
    error: BaseException | None = None
    """What it raised; None when it did not."""

    def result(self) -> Any:
        """The value. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.value
