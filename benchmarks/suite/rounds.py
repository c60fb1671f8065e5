"""Running pieces: interleaved over rounds, each under a deadline, and nothing left of it when it is over."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import psutil

from benchmarks.suite.catalogue import WORKS
from benchmarks.suite.machine import ROOT
from benchmarks.suite.peers import peer
from benchmarks.suite.works.echoes import LARGEST

SIDE_BY_SIDE = 4
"""Pieces that sleep most of the time."""
GRACE = 10
"""Seconds after its deadline at which a piece ends itself, when it was not ended."""
SAID = 2000
"""Characters of what a piece that failed has said that are kept."""


@attrs.frozen(kw_only=True)
class Piece:
    """Works by one peer, in one interpreter."""

    peer: str
    works: Mapping[str, Mapping[str, Any]]
    """The sizes, by name of the work."""
    seconds: float
    """Its deadline."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of a piece."""

    piece: Piece
    figures: Mapping[str, Mapping[str, float | None]]
    """By work; empty when it failed."""
    failed: str = ""
    """Why."""
    took: float = 0.0
    """Seconds."""


def plan(works: Sequence[str], peers: Sequence[str], rounds: int, large: bool = False) -> Iterator[Piece]:
    """Every work by every peer that can do it, once a round; the order of the peers differs from round to round."""
    chance = random.Random(rounds)
    for number in range(rounds):
        for name in works:
            work = WORKS[name]
            sizes = with_largest(work.full) if large and name == "sizes" else work.full
            for who in chance.sample(peers, len(peers)):
                if name in peer(who).can and number < min(work.rounds, peer(who).rounds):
                    yield Piece(peer=who, works={name: sizes}, seconds=work.seconds)


def run_all(pieces: Sequence[Piece], tell: Callable[[int, Outcome], None]) -> list[Outcome]:
    """Run them in order, those side by side that can be; ``tell`` hears of each that is over, by its place.

    After Ctrl-C what was measured until then is given.
    """
    outcomes: list[Outcome] = []
    never: set[tuple[str, str]] = set()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool, contextlib.suppress(KeyboardInterrupt):
        for name, some in itertools.groupby(pieces, key=lambda piece: next(iter(piece.works))):
            # Who never answers again takes seconds to say so, and says the same each time.
            wanted = (piece for piece in some if (piece.peer, name) not in never)
            for outcome in (pool.map if WORKS[name].together else map)(run, wanted):
                outcomes.append(outcome)
                tell(len(outcomes), outcome)
                if None in outcome.figures.get(name, {}).values():
                    never.add((outcome.piece.peer, name))
    return outcomes


def with_largest(sizes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sizes of an echo, and the one that needs gigabytes."""
    return {"sizes": (*sizes["sizes"], LARGEST)}


def smoke(works: Sequence[str], peers: Sequence[str], seconds: float) -> Iterator[Piece]:
    """All works of a peer as one piece, in small sizes."""
    for who in peers:
        chosen = {name: WORKS[name].quick for name in works if name in peer(who).can}
        if chosen:
            yield Piece(peer=who, works=chosen, seconds=seconds)


def run(piece: Piece) -> Outcome:
    """Run it to its end, or to its deadline."""
    order = json.dumps({"peer": piece.peer, "works": piece.works, "seconds": int(piece.seconds) + GRACE})
    begin = time.monotonic()
    answer, failed = answered("piece", order, piece.seconds)
    return Outcome(piece=piece, figures=answer or {}, failed=failed, took=time.monotonic() - begin)


def sampled(calls: int) -> tuple[Any, str]:
    """What ``sampling`` has met in that many round trips, as ``answered`` gives it."""
    return answered("sampling", str(calls), 60.0 + calls / 500)


def answered(module: str, order: str, seconds: float) -> tuple[Any, str]:
    """Run a module of this package, which writes JSON; what it wrote, or None and why there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        answer, said = Path(folder) / "answer", Path(folder) / "said"
        with said.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.suite.{module}", order, os.fspath(answer)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end(process)
        if status == 0 and answer.exists():
            return json.loads(answer.read_text(encoding="utf-8")), ""
        why = f"exit status {status}" if status is not None else f"not over after {seconds:g} s"
        words = said.read_bytes()[-SAID:].decode(errors="replace").strip()
        return None, f"{why}: {words}" if words else why


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a piece: what it has made, and what stayed in its group after its maker was gone."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=GRACE)
