"""Reply as a future: results, cancelling, callbacks, reading for itself, failures that nobody sees, several as one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest
from replying import FakeCarrier, encoded_error, flush, later, make_call, make_reply, reply_in

from relieve_py.errors import CallCancelled
from relieve_py.replies import Reply, gather
from relieve_py.strands import Strand

# -- a future --------------------------------------------------------------------------------------


def test_it_gives_its_value_to_whoever_waits() -> None:
    reply = make_reply()
    got: list[Any] = []
    waiting = [threading.Thread(target=lambda: got.append(reply.result())) for _ in range(4)]
    for thread in waiting:
        thread.start()
    assert reply.settle(5)
    for thread in waiting:
        thread.join()
    assert got == [5] * 4
    assert (reply.done(), reply.settled(), reply.exception()) == (True, True, None)


def test_it_raises_its_error() -> None:
    reply, error = make_reply(), ValueError("of the call")
    assert reply.fail(error)
    with pytest.raises(ValueError, match="of the call"):
        reply.result()
    assert reply.exception() is error


@pytest.mark.rule(1)
def test_it_settles_once() -> None:
    reply = make_reply()
    assert reply.settle(1)
    assert not reply.settle(2)
    assert not reply.fail(ValueError())
    assert not reply.cancel()
    assert reply.result() == 1


@pytest.mark.rule(1)
def test_of_many_threads_that_settle_it_one_wins() -> None:
    for _ in range(50):
        reply, won, start = make_reply(), [], threading.Barrier(4)

        def settle(how: Any, start: Any = start, won: Any = won) -> None:
            start.wait()
            won.append(how())

        hows = [lambda r=reply: r.settle(1), lambda r=reply: r.settle(2), lambda r=reply: r.fail(OSError())]
        threads = [later(settle, how) for how in [*hows, reply.cancel]]
        for thread in threads:
            thread.join()
        assert won.count(True) == 1
        reply.mark_seen()


def test_who_waits_too_short_is_told_what_for_and_that_a_call_goes_on() -> None:
    of_call, other = make_call().reply_of(), Reply(None, Strand(), "stop() of task 'a'")
    with pytest.raises(TimeoutError, match=r"^call \d+ of .* is not over yet; it goes on, unless you cancel\(\) it$"):
        of_call.result(0)
    with pytest.raises(TimeoutError, match=r"^stop\(\) of task 'a' is not over yet$"):
        other.exception(0)


def test_waiting_has_an_end() -> None:
    reply = make_reply()
    for timeout in (0, 0.01, -1):
        with pytest.raises(TimeoutError):
            reply.result(timeout)
        with pytest.raises(TimeoutError):
            reply.exception(timeout)
    reply.settle(1)
    assert reply.result(0) == 1


def test_cancelled_it_says_which_call_it_was() -> None:
    carrier = FakeCarrier()
    call = make_call(carrier=carrier)
    reply = call.reply
    assert isinstance(reply, Reply)
    assert reply.cancel()
    assert reply.cancelled()
    assert carrier.cancelled == [call]
    for ask in (reply.result, reply.exception):
        with pytest.raises(CallCancelled, match=rf"call {call.id} of data\(\) was cancelled") as caught:
            ask()
        assert (caught.value.call_id, caught.value.method) == (call.id, "data")
        assert isinstance(caught.value, CancelledError)


def test_cancelling_again_changes_nothing() -> None:
    carrier = FakeCarrier()
    call = make_call(carrier=carrier)
    assert call.reply.cancel()  # type: ignore[union-attr]
    assert call.reply.cancel()  # type: ignore[union-attr]
    assert len(carrier.cancelled) == 1
    assert not call.reply.settle(3)


def test_wait_and_as_completed_know_it() -> None:
    replies = [make_reply() for _ in range(4)]
    replies[0].settle(0)
    replies[1].cancel()
    done, waiting = concurrent.futures.wait(replies, timeout=0)
    assert (done, waiting) == ({replies[0], replies[1]}, {replies[2], replies[3]})
    other = later(lambda: (replies[3].settle(3), replies[2].fail(ValueError())))
    assert set(concurrent.futures.as_completed(replies, timeout=10)) == set(replies)
    other.join()
    assert replies[2].exception() is not None
    done, _ = concurrent.futures.wait(replies, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert done == set(replies)


def test_a_wait_for_the_first_error_ends_with_what_a_child_raised() -> None:
    slow, bad = make_reply(), make_reply()
    bad.mark_seen()
    ended: list[set[Any]] = []
    waiting = later(lambda: ended.append(concurrent.futures.wait([slow, bad], 20, "FIRST_EXCEPTION").done))
    while bad._gate is None or not bad._waiters:
        assert waiting.is_alive()
    bad.settle(encoded_error("ValueError", "of the child", "Traceback: line 7", None))
    waiting.join(10)
    slow.settle(1)
    waiting.join()
    assert ended == [{bad}]


# -- callbacks -------------------------------------------------------------------------------------


def test_callbacks_run_on_the_callback_thread_in_order() -> None:
    strand = Strand()
    reply, ran = make_reply(strand), []
    for n in range(3):
        reply.add_done_callback(lambda r, n=n: ran.append((n, r is reply, strand.here)))
    reply.settle(1)
    reply.add_done_callback(lambda r: ran.append((3, r is reply, strand.here)))
    flush(strand)
    assert ran == [(n, True, True) for n in range(4)]


def test_callbacks_run_after_an_error_and_after_a_cancel() -> None:
    strand = Strand()
    failed, cancelled, ran = make_reply(strand), make_reply(strand), []
    for reply in (failed, cancelled):
        reply.add_done_callback(ran.append)
    failed.fail(ValueError())
    cancelled.cancel()
    flush(strand)
    assert ran == [failed, cancelled]


@pytest.mark.rule(12)
def test_a_callback_that_raises_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    strand = Strand()
    reply, ran = make_reply(strand), []
    reply.add_done_callback(lambda r: 1 / 0)
    reply.add_done_callback(ran.append)
    reply.settle(1)
    reply.add_done_callback(lambda r: 1 / 0)
    reply.add_done_callback(ran.append)
    flush(strand)
    assert ran == [reply, reply]
    assert caplog.text.count("ZeroDivisionError") >= 2


@pytest.mark.rule(12)
def test_a_callback_that_blocks_holds_up_no_result() -> None:
    go = threading.Event()
    reply = make_reply()
    reply.add_done_callback(lambda r: go.wait(30))
    reply.settle(4)
    assert reply.result(5) == 4
    go.set()


def test_wakers_run_at_once_on_the_settling_thread() -> None:
    reply, ran = make_reply(), []
    reply.when_settled(lambda: ran.append(threading.get_ident()))
    reply.settle(1)
    assert ran == [threading.get_ident()]
    reply.when_settled(lambda: ran.append(0))
    assert ran[1:] == [0]


# -- reading for itself ----------------------------------------------------------------------------


def test_a_caller_reads_the_channel_of_a_sent_call_itself() -> None:
    carrier = FakeCarrier(on_read=lambda call: call.reply.settle(4))
    assert make_call(carrier=carrier, sent=True).reply.result() == 4  # type: ignore[union-attr]
    assert carrier.reads == [None]


def test_a_call_that_was_not_sent_is_only_waited_for() -> None:
    carrier = FakeCarrier()
    call = make_call(carrier=carrier)
    with pytest.raises(TimeoutError):
        call.reply.result(0.01)  # type: ignore[union-attr]
    assert carrier.reads == []


def test_a_caller_that_cannot_read_waits_for_the_other_reader() -> None:
    carrier = FakeCarrier()
    call = make_call(carrier=carrier, sent=True)
    other = later(call.reply.settle, 3)
    assert call.reply.result(10) == 3  # type: ignore[union-attr]
    other.join()


# -- errors that nobody sees -----------------------------------------------------------------------


def log_of(replies: list[Reply], strand: Strand, caplog: pytest.LogCaptureFixture) -> str:
    """What is logged when the last reference to the only one of them goes."""
    replies.clear()
    gc.collect()
    flush(strand)
    return caplog.text


@pytest.mark.parametrize("way", ["plain", "encoded"])
def test_a_failure_that_nobody_asked_for_is_logged(way: str, caplog: pytest.LogCaptureFixture) -> None:
    strand = Strand()
    replies = [make_reply(strand)]
    if way == "plain":
        replies[0].fail(ValueError("unseen"))
    else:
        replies[0].settle(encoded_error("ValueError", "unseen", "Traceback: line 7", None))
    assert "unseen" in log_of(replies, strand, caplog)


@pytest.mark.parametrize("look", ["result", "exception", "callback", "await", "mark"])
def test_a_failure_that_somebody_asked_for_is_not_logged(look: str, caplog: pytest.LogCaptureFixture) -> None:
    strand = Strand()
    replies = [make_reply(strand)]
    replies[0].fail(ValueError("was seen"))
    match look:
        case "result":
            with pytest.raises(ValueError, match="was seen"):
                replies[0].result()
        case "exception":
            replies[0].exception()
        case "callback":
            replies[0].add_done_callback(lambda reply: None)
        case "await":
            with pytest.raises(ValueError, match="was seen"):
                asyncio.run(reply_in(replies[0]))
        case _:
            replies[0].mark_seen()
    flush(strand)
    assert "was seen" not in log_of(replies, strand, caplog)


@pytest.mark.parametrize("how", ["value", "cancelled", "open"])
def test_without_a_failure_nothing_is_logged(how: str, caplog: pytest.LogCaptureFixture) -> None:
    strand = Strand()
    replies = [make_reply(strand)]
    if how == "value":
        replies[0].settle(1)
    elif how == "cancelled":
        replies[0].cancel()
    assert log_of(replies, strand, caplog) == ""


def test_a_failed_reply_collected_in_the_middle_of_a_submit_is_no_dead_lock() -> None:
    """The collector may run wherever memory is taken, also under the strand's own lock."""
    strand = Strand()
    replies = [make_reply(strand)]
    replies[0].fail(ValueError("unseen"))

    def collect_inside() -> None:
        with strand._lock:
            replies.clear()

    thread = threading.Thread(target=collect_inside, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    flush(strand)


def test_a_settled_reply_lets_go_of_its_call() -> None:
    import weakref

    call = make_call()
    reply, gone = call.reply, weakref.ref(call)
    reply.settle(1)
    del call
    assert gone() is None
    assert reply.result() == 1  # type: ignore[union-attr]


# -- several as one --------------------------------------------------------------------------------


def test_gather_settles_when_all_are_settled() -> None:
    strand = Strand()
    replies = [make_reply(strand) for _ in range(3)]
    together = gather(replies, strand, lambda all_: [reply.exception() or reply.result() for reply in all_])
    replies[1].settle(1)
    error = ValueError()
    replies[0].fail(error)
    assert not together.done()
    replies[2].settle(2)
    assert together.result(10) == [error, 1, 2]


def test_gather_of_nothing_is_settled() -> None:
    assert gather([], Strand(), lambda replies: len(replies)).result(10) == 0


def test_an_error_of_the_combination_is_the_error_of_the_whole() -> None:
    strand = Strand()
    replies = [make_reply(strand), make_reply(strand)]
    together = gather(replies, strand, lambda all_: [reply.result() for reply in all_])
    replies[0].cancel()
    replies[1].settle(1)
    with pytest.raises(CallCancelled):
        together.result(10)


def test_gather_settles_once_when_many_threads_settle_its_parts() -> None:
    strand, combined = Strand(), []
    replies = [make_reply(strand) for _ in range(8)]
    together = gather(replies, strand, lambda all_: combined.append(len(all_)))
    start = threading.Barrier(8)
    threads = [later(lambda r=reply: (start.wait(), r.settle(1))) for reply in replies]
    for thread in threads:
        thread.join()
    together.result(10)
    assert combined == [8]


@pytest.mark.parametrize(("timeout", "kind"), [("1", TypeError), ([], TypeError), (float("nan"), ValueError)])
def test_a_wrong_timeout_says_what_it_has_to_be(timeout: Any, kind: type[Exception]) -> None:
    reply = make_reply()
    for wait in (reply.result, reply.exception):
        with pytest.raises(kind, match="timeout must be a number of seconds, not "):
            wait(timeout)
