"""The handlers of a child: order, patterns, events kept for a late handler, and errors that stop nothing.

The thread that handles events lives as long as its process, so each test runs in a program of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

PREAMBLE = """
import asyncio, threading
from relieve_py.child.handlers import AHEAD, KEEP, Handlers

handlers, heard, arrived = Handlers(), [], []

def put(name, *args):
    handlers.put(lambda: (name, list(args)), lambda: arrived.append(args))

def hear(*args):
    heard.append(args)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run that code behind the preamble; it must end well."""
    program = PREAMBLE + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done


def test_events_are_handled_in_order_on_one_other_thread() -> None:
    run("""
        threads = set()
        handlers.add("tick", lambda n: (heard.append(n), threads.add(threading.get_ident())), False)
        for n in range(3000):
            put("tick", n)
        handlers.settle()
        assert heard == list(range(3000))
        assert len(threads) == 1 and threading.get_ident() not in threads
    """)


def test_there_is_no_thread_before_the_first_event() -> None:
    run("""
        handlers.add("tick", hear, False)
        handlers.settle()
        assert threading.active_count() == 1
    """)


def test_once_patterns_and_removal() -> None:
    run("""
        handlers.add("a", lambda *args: heard.append(("once", *args)), True)
        handlers.add("job.*", lambda *args: heard.append(("job", *args)), False)
        handlers.add("job[1].*", lambda *args: heard.append(("bracket", *args)), False)
        for name in ("a", "a", "job.x", "jobs", "job[1].x", "job1.x"):
            put(name, name)
        handlers.settle()
        assert heard == [("once", "a"), ("job", "job.x"), ("bracket", "job[1].x")], heard
        assert handlers.any
        handlers.add("b", hear, False)
        handlers.remove("b", hear)
        handlers.remove("job.*", None)
        handlers.remove(None, None)
        assert not handlers.any
        put("job.x")
        handlers.settle()
        assert len(heard) == 3
    """)


def test_a_handler_that_raises_prints_its_traceback_and_stops_nothing() -> None:
    done = run("""
        def bad(n):
            raise {0: ValueError, 1: SystemExit, 2: KeyboardInterrupt}[n](f"number {n}")
        handlers.add("tick", bad, False)
        handlers.add("tick", hear, False)
        def broken():
            raise OSError("cannot be decoded")
        handlers.put(broken, lambda: None)
        for n in range(3):
            put("tick", n)
        handlers.settle()
        assert heard == [(0,), (1,), (2,)]
    """)
    for text in ("cannot be decoded", "ValueError: number 0", "SystemExit: number 1", "KeyboardInterrupt: number 2"):
        assert text in done.stderr


def test_async_handlers_are_awaited_in_order() -> None:
    done = run("""
        async def slow(n):
            await asyncio.sleep(0.001 * (3 - n))
            heard.append(n)
        async def bad(n):
            raise ValueError(f"async {n}")
        handlers.add("tick", slow, False)
        handlers.add("tick", bad, False)
        for n in range(3):
            put("tick", n)
        handlers.settle()
        assert heard == [0, 1, 2]
    """)
    assert done.stderr.count("ValueError: async") == 3


def test_events_that_nobody_hears_are_dropped() -> None:
    run("""
        put("early", 1)
        handlers.settle()
        handlers.add("early", hear, False)
        handlers.settle()
        assert heard == []
    """)


def test_a_program_hears_events_that_came_before_its_handler() -> None:
    run("""
        handlers.keeping = True
        put("early", 1)
        put("other", 2)
        put("early", 3)
        handlers.settle()
        handlers.add("early", hear, False)
        handlers.settle()
        assert heard == [(1,), (3,)], heard
        handlers.add("other", hear, False)
        handlers.settle()
        assert heard[2:] == [(2,)], heard
    """)


def test_kept_events_come_before_those_that_wait() -> None:
    run("""
        handlers.keeping = True
        put("a", 1)
        handlers.settle()
        go = threading.Event()
        handlers.put(lambda: (go.wait(10), ("blocker", []))[1], lambda: None)
        put("a", 2)
        handlers.add("a", hear, False)
        go.set()
        handlers.settle()
        assert heard == [(1,), (2,)], heard
    """)


def test_beyond_so_many_an_event_arrives_only_when_it_is_handled() -> None:
    run("""
        began, go = threading.Event(), threading.Event()
        handlers.add("first", lambda: (began.set(), go.wait(10)), False)
        handlers.add("a", lambda n: heard.append(arrived[-1] == (n,) if n >= AHEAD else n < len(arrived)), False)
        put("first")
        assert began.wait(10)
        arrived.clear()
        for n in range(AHEAD + 50):
            put("a", n)
        assert arrived == [(n,) for n in range(AHEAD)]
        go.set()
        handlers.settle()
        assert arrived == [(n,) for n in range(AHEAD + 50)]
        assert all(heard) and len(heard) == AHEAD + 50
    """)


def test_only_the_latest_events_are_kept() -> None:
    run("""
        handlers.keeping = True
        for n in range(KEEP + 50):
            put("a", n)
        handlers.settle()
        handlers.add("a", hear, False)
        handlers.settle()
        assert [n for n, in heard] == list(range(50, KEEP + 50))
    """)


def test_settle_waits_for_what_came_before_and_never_for_itself() -> None:
    run("""
        go, inside = threading.Event(), threading.Event()
        def slow():
            inside.set()
            go.wait(10)
            handlers.settle()  # on the handling thread this must not wait
            heard.append("slow")
        handlers.add("a", slow, False)
        put("a")
        inside.wait(10)
        waiting = threading.Thread(target=lambda: (handlers.settle(), heard.append("settled")))
        waiting.start()
        go.set()
        waiting.join(10)
        assert heard == ["slow", "settled"], heard
    """)


def test_a_handler_may_register_and_remove_handlers() -> None:
    run("""
        def first():
            handlers.remove("a", first)
            handlers.add("a", hear, False)
        handlers.add("a", first, False)
        put("a")
        put("a")
        handlers.settle()
        assert heard == [()]
    """)


def test_a_handler_that_blocks_does_not_keep_the_program_alive() -> None:
    done = run("""
        inside = threading.Event()
        handlers.add("a", lambda: (inside.set(), threading.Event().wait()), False)
        put("a")
        inside.wait(10)
        print("bye")
    """)
    assert done.stdout == "bye\n"
