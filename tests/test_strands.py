"""Strands: one callback after the other, on threads that come and go."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator

import pytest

from relieve_py import strands
from relieve_py.events import Emitter
from relieve_py.strands import Strand


def after_all(strand: Strand) -> None:
    """Wait until all that was submitted has run."""
    done = threading.Event()
    strand.submit(done.set)
    assert done.wait(10)


def test_a_strand_runs_one_callback_at_a_time() -> None:
    strand, inside, most = Strand(), [0], [0]

    def work() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.0005)  # let other threads in, if there are any
        inside[0] -= 1

    submitters = [threading.Thread(target=lambda: [strand.submit(work) for _ in range(10)]) for _ in range(6)]
    for thread in submitters:
        thread.start()
    for thread in submitters:
        thread.join()
    after_all(strand)
    assert most == [1]


def test_a_strand_knows_its_own_thread() -> None:
    strand, found = Strand(), []
    strand.submit(lambda: found.append(strand.here))
    after_all(strand)
    assert found == [True]
    assert not strand.here


# -- threads ---------------------------------------------------------------------------------------


@pytest.fixture
def own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[threading.Thread]]]:
    """Callback threads that are of this test only, and do not linger; gives those that live."""
    fresh = strands._Threads()
    fresh.LINGER = 0.05  # type: ignore[misc]
    before = set(threading.enumerate())
    monkeypatch.setattr(strands, "threads", fresh)

    def living() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith("relieve-callbacks") and t not in before]

    yield living
    for thread in living():
        thread.join(10)


def test_there_is_no_thread_before_the_first_event_and_none_after_the_last(
    own_threads: Callable[[], list[threading.Thread]],
) -> None:
    emitter = Emitter()
    emitter.on("a", lambda: None)
    assert own_threads() == []
    emitter.emit("a")
    after_all(emitter.strand)
    for thread in own_threads():
        thread.join(10)
        assert not thread.is_alive()
    assert own_threads() == []
    emitter.emit("a")  # and it goes on when there is more
    after_all(emitter.strand)


def test_strands_share_threads(own_threads: Callable[[], list[threading.Thread]]) -> None:
    """Many strands with little work need few threads."""
    ran: list[int | None] = []
    for _ in range(200):
        strand = Strand()
        strand.submit(lambda: ran.append(threading.current_thread().ident))
        after_all(strand)
    assert len(set(ran)) < 20


def test_callback_threads_do_not_keep_a_program_alive() -> None:
    code = """
        import threading
        from relieve_py.events import Emitter
        emitter, inside = Emitter(), threading.Event()
        emitter.on("a", lambda: (inside.set(), threading.Event().wait()))
        emitter.emit("a")
        inside.wait()
        print("bye")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=20, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
