"""How calls come into the queue of a CloudWorker, and what becomes of one when that is full."""

from __future__ import annotations

from relieve_py import locks
from relieve_py.backlog import ANSWERS
from relieve_py.calls import EVENT, Call
from relieve_py.dispatch import Dispatcher
from relieve_py.errors import WorkerFull
from relieve_py.events import Dropped
from relieve_py.interruptions import raised_by_handler
from relieve_py.replies import Reply
from relieve_py.serializers import Serializer
from relieve_py.strands import Strand, must_not_wait, under_a_loop
from relieve_py.streams import Stream
from relieve_py.supervisor import shared


class Intake:
    """The way into one worker's queue. Methods may be called from any thread."""

    def __init__(self, dispatcher: Dispatcher, strand: Strand) -> None:
        self._strand = strand  # of the worker
        self._dispatcher = dispatcher
        self._backlog = dispatcher.backlog

    def submit(self, call: Call, serializer: Serializer) -> Reply | Stream:
        """Queue a call that was encoded by that serializer. Blocks, raises or drops when there is no room, as
        ``when_full`` says. Raises what a policy of the user raises, too, and CalledFromHandler."""
        locks.refuse_if_mine(self._dispatcher.mutex)
        try:
            reply = self._submit(call, serializer)
            if (self._backlog.bounded or self._backlog.unread.events) and self._backlog.crowded:
                self._say_full(reply)
            return reply
        except BaseException as error:
            if not isinstance(error, Exception) or raised_by_handler(error):
                self._dispatcher.mend()
            raise

    def _submit(self, call: Call, serializer: Serializer) -> Reply | Stream:
        if call.mode is EVENT and self._backlog.unread.full and not must_not_wait():
            self._wait_for_slack()
        how = None
        while (reply := self._take(call, how, serializer)) is None:
            how = self._what_to_do(call, serializer)
            if how == "wait" and not under_a_loop():
                shared().help_until(self._may_go_on, None)
        return reply

    def _say_full(self, reply: Reply | Stream) -> None:
        if isinstance(reply, Reply):
            reply.full = self._dispatcher.note_full()

    def _may_go_on(self) -> bool:
        return not self._backlog.full or self._dispatcher.refuses

    def _what_to_do(self, call: Call, serializer: Serializer) -> str:
        """What is to become of a call for which there is no room. Raises what the user's policy raises, TypeError for
        an answer that is none."""
        policy = self._backlog.when_full
        if isinstance(policy, str):
            return policy
        how = policy(call.seen(serializer))
        if how not in ANSWERS:
            raise TypeError(f"when_full must answer with one of {', '.join(ANSWERS)}, not {how!r}")
        return how

    def _take(self, call: Call, how: str | None, serializer: Serializer) -> Reply | Stream | None:
        """Queue a call, or refuse it. None when there is no room, and it is not decided what is to be done then."""
        dispatcher, victim, is_news = self._dispatcher, None, False
        with dispatcher.mutex:
            if self._backlog.bounded and self._backlog.full and not dispatcher.refuses:
                if how is None:
                    return None
                self._make_room(how)
            reply = call.make_reply(self._strand)
            call.home = call.carrier = dispatcher
            call.made_at = shared().now()
            refused = dispatcher.refuses
            if not refused:
                victim = self._backlog.add(call, how)
                is_news = dispatcher.came(call)
                if call.queue_timeout is not None:
                    call.await_turn(shared())
        if refused:
            call.reply.fail(dispatcher.refusal())
        if victim is not None:
            self._drop(victim, serializer)
        if is_news:
            dispatcher.pump()
        return reply

    def _make_room(self, how: str) -> None:
        """Under the lock, which waiting frees: wait until there is room, or raise WorkerFull."""
        if how == "raise":
            raise self._full(f"has {len(self._backlog.waiting)} calls waiting, which is max_pending")
        if how == "wait" and not under_a_loop():
            self._dispatcher.lock.wait_for(self._may_go_on)

    def _wait_for_slack(self) -> None:
        """Wait while too many events are here because no child reads."""

        def go_on() -> bool:
            return self._backlog.unread.slack or self._dispatcher.refuses

        shared().help_until(go_on, None)
        with self._dispatcher.lock:
            self._dispatcher.lock.wait_for(go_on)

    def _drop(self, call: Call, serializer: Serializer) -> None:
        call.await_turn_no_more()
        call.reply.fail(self._full("is full", f"call {call.id} of {call.title} was dropped: "))
        dropped = Dropped(
            worker=self._dispatcher.worker.name, call_id=call.id, method=call.method, call=call.seen(serializer)
        )
        self._dispatcher.worker.tell("drop", dropped)

    def _full(self, how: str, what: str = "") -> WorkerFull:
        name = self._dispatcher.worker.name
        return WorkerFull(f"{what}worker {name!r} {how}", worker=name, max_pending=self._backlog.max_pending)
