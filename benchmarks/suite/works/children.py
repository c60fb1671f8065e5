"""What children cost: their start, their replacement, their memory, and their sleep."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time

import psutil

from benchmarks.suite import functions
from benchmarks.suite.meeting import meeting
from benchmarks.suite.peers import Peer
from benchmarks.suite.peers.base import LIMIT
from benchmarks.suite.works import Figures, Sizes, Work

CALM = 1.0
"""Seconds that a pool of several gets to fall asleep, or to have ready what it keeps ready; one child gets a part."""


def start(peer: type[Peer], sizes: Sizes) -> Figures:
    """From nothing to the first value of one child, and to one value of each of several; a pool was there before."""
    with peer(1) as pool:
        assert pool.call(functions.same, 1) == 1
    one, several = [], []
    for _ in range(max(1, int(sizes["times"] * peer.share.get("start", 1.0)))):
        begin = time.perf_counter()
        with peer(1) as pool:
            value = pool.call(functions.same, 2)
            one.append(time.perf_counter() - begin)
            assert value == 2
        begin = time.perf_counter()
        with peer(sizes["children"]) as pool:
            pids = pool.pids()
            several.append(time.perf_counter() - begin)
            assert len(set(pids)) == sizes["children"]
    return {"start 1": statistics.median(one) * 1e3, "start 8": statistics.median(several) * 1e3}


def kill(peer: type[Peer], sizes: Sizes) -> Figures:
    """From the SIGKILL of an idle child to the next value; calls that fail are made again at once.

    What is not replaced after so many seconds as the sizes say never is.
    """
    pool, taken = peer(1), []
    patience = LIMIT if peer.promises else sizes["never"]
    pool.open()
    for number in range(sizes["kills"]):
        pid = pool.submit(functions.pid).result(LIMIT)
        time.sleep(sizes["calm"])
        begin = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        if not answers(pool, number, begin + patience):
            assert not peer.promises
            return {"kill": None}  # and no attempt to close it: a pool that is stuck may hang in that too
        taken.append(time.perf_counter() - begin)
    pool.close()
    return {"kill": statistics.median(taken) * 1e3}


def kill_busy(peer: type[Peer], sizes: Sizes) -> Figures:
    """From the SIGKILL of a child that runs a call to the value of the call after that one."""
    pool, taken = peer(1), []
    patience = LIMIT if peer.promises else sizes["never"]
    pool.open()
    for number in range(sizes["kills"]):
        with meeting() as place:
            lost = pool.submit(functions.meet, place.folder)
            (pid,) = place.wait_for(1)
            time.sleep(sizes["calm"])
            begin = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            if not answers(pool, number, begin + patience):
                assert not peer.promises
                return {"kill busy": None}
        taken.append(time.perf_counter() - begin)
        del lost
    pool.close()
    return {"kill busy": statistics.median(taken) * 1e3}


def answers(pool: Peer, number: int, deadline: float) -> bool:
    """True once it gives a value; False when it has not until the deadline."""
    while (left := deadline - time.perf_counter()) > 0:
        try:
            value = pool.submit(functions.same, number).result(left)
        except Exception:  # noqa: S112 - each peer has its own; that it gives none in the end is what counts
            continue
        assert value == number
        return True
    return False


def storm(peer: type[Peer], sizes: Sizes) -> Figures:
    """From the SIGKILL of all children at once to a value of each of those that follow."""
    taken = []
    with peer(sizes["children"]) as pool:
        for _ in range(sizes["storms"]):
            before = pool.pids()
            time.sleep(sizes["calm"])
            begin = time.perf_counter()
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            after = pool.pids()
            taken.append(time.perf_counter() - begin)
            assert len(set(after)) == sizes["children"]
            assert not set(after) & set(before)
    return {"storm": statistics.median(taken) * 1e3}


def weight(peer: type[Peer], sizes: Sizes) -> Figures:
    """Memory of each child of an idle pool. What several processes share is shared out between them."""
    with peer(sizes["children"]) as pool:
        pids = pool.pids()
        assert len(set(pids)) == sizes["children"]
        return {
            "memory of a child": statistics.median(psutil.Process(pid).memory_full_info().pss for pid in pids) / 1e6
        }


def idle(peer: type[Peer], sizes: Sizes) -> Figures:
    """How often the processes of an idle pool, the parent among them, wake up."""
    with peer(sizes["children"]) as pool:
        pids = pool.pids()
        assert len(set(pids)) == sizes["children"]
        time.sleep(min(CALM, sizes["seconds"]))
        before = switches()
        time.sleep(sizes["seconds"])
        woken = sum(count - before.get(thread, 0) for thread, count in switches().items())
    return {"wake-ups": woken / sizes["seconds"] * 10}


def switches() -> dict[tuple[int, int], int]:
    """How often each thread of this process and of all below it was switched; not this thread, which measures."""
    found = {}
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        for thread in process.threads():
            if thread.id == threading.get_native_id():
                continue
            with open(f"/proc/{process.pid}/task/{thread.id}/status", encoding="ascii") as status:
                lines = [line.split() for line in status if "ctxt_switches" in line]
            found[process.pid, thread.id] = sum(int(words[1]) for words in lines)
    return found


WORKS = (
    Work(name="start", run=start, full={"times": 3, "children": 8}, quick={"times": 1, "children": 2}, rounds=3),
    *(
        Work(
            name=name,
            run=run,
            full={"kills": 5, "never": 5.0, "calm": CALM / 5},
            quick={"kills": 1, "never": 0.5, "calm": 0.0},
            rounds=2,
        )
        for name, run in (("kill", kill), ("kill busy", kill_busy))
    ),
    Work(name="weight", run=weight, full={"children": 8}, quick={"children": 2}, rounds=2),
    Work(
        name="idle",
        together=True,
        run=idle,
        full={"children": 8, "seconds": 10.0},
        quick={"children": 2, "seconds": 0.1},
        rounds=1,
    ),
    Work(
        name="storm",
        run=storm,
        full={"children": 8, "storms": 5, "calm": CALM},
        quick={"children": 2, "storms": 1, "calm": 0.0},
    ),
)
