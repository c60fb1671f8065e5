"""This library beside its peers and the bare machine, on the same work, interleaved in one run.

``python -m benchmarks [--quick] [--only WORK ...] [--peers NAME ...] [--rounds 5] [--results FOLDER] [--large]``. Every
result is asserted. A peer that is not installed is skipped; one that hangs or fails is reported, and the status is 1
when that was this library.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.suite import rounds
from benchmarks.suite.catalogue import WORKS
from benchmarks.suite.figures import is_ours
from benchmarks.suite.machine import about
from benchmarks.suite.peers import PLACES, peer
from benchmarks.suite.report import as_text, collected, left_out

SMOKE_SECONDS = 60.0
"""Deadline of all the small works of one peer."""
LINUX_ONLY = frozenset({"idle"})
"""Works that read /proc."""


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, once: to see that all of it works")
    parser.add_argument("--only", action="append", choices=list(WORKS), metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--peers", action="append", choices=list(PLACES), metavar="NAME", help=", ".join(PLACES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write figures and charts there")
    parser.add_argument("--large", action="store_true", help="also an echo of 1 GiB")
    return parser.parse_args(arguments)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for; the record of it."""
    peers = options.peers or list(PLACES)
    skipped = {name: f"{peer(name).needs} is not installed" for name in peers if not peer(name).installed()}
    peers = [name for name in peers if name not in skipped]
    works = [name for name in options.only or WORKS if sys.platform == "linux" or name not in LINUX_ONLY]
    record: dict[str, Any] = {"about": about(peers)}
    outcomes = []
    if options.quick:
        peers = [name for name in peers if options.peers or peer(name).smoked]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(rounds.run, rounds.smoke(works, peers, SMOKE_SECONDS)))
    else:
        pieces = list(rounds.plan(works, peers, options.rounds, large=options.large))
        for place, piece in enumerate(pieces, start=1):
            outcomes.append(rounds.run(piece))
            told = f"{place}/{len(pieces)} {piece.peer}: {', '.join(piece.works)}: {outcomes[-1].took:.1f} s"
            print(told, "FAILED" if outcomes[-1].failed else "", file=sys.stderr)
    record["about"]["load after"] = [round(load, 2) for load in os.getloadavg()]
    record["about"]["rounds"] = 1 if options.quick else options.rounds
    return {**record, **collected(outcomes), "skipped": skipped}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for; 1 when this library failed in anything."""
    options = parsed(arguments)
    results = measured(options)
    if options.quick:
        told = sum(len(cells) for cells in results["figures"].values())
        print(f"{told} figures from results that were all as expected. They are of small sizes, and say nothing.")
        print(left_out(results))
    else:
        print(as_text(results))
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        with open(options.results / "suite.json", "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
    return int(any(is_ours(one["peer"]) for one in results["failed"]))


if __name__ == "__main__":
    sys.exit(main())
