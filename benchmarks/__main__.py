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
from benchmarks.suite.charts import draw
from benchmarks.suite.figures import OURS, is_ours
from benchmarks.suite.machine import about
from benchmarks.suite.page import PAGE, RECORD, filled
from benchmarks.suite.peers import PLACES, peer
from benchmarks.suite.report import as_text, collected, left_out, renewed

SMOKE_SECONDS = 60.0
"""Deadline of all the small works of one peer."""
SAMPLED = 30_000
"""Round trips of which is told what takes their time."""
LINUX_ONLY = frozenset({"idle", "weight"})
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
    parser.add_argument("--again", action="store_true", help="only draw the charts and fill the page once more")
    parser.add_argument("--renew", action="store_true", help="keep the figures of the works that --only does not name")
    options = parser.parse_args(arguments)
    if options.renew and not options.only:
        parser.error("--renew needs --only")
    return options


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for; the record of it."""
    peers = options.peers or list(PLACES)
    skipped = {name: f"{peer(name).needs} is not installed" for name in peers if not peer(name).installed()}
    peers = [name for name in peers if name not in skipped]
    works = [name for name in options.only or WORKS if sys.platform == "linux" or name not in LINUX_ONLY]
    record: dict[str, Any] = {"about": about(peers)}
    if options.quick:
        peers = [name for name in peers if options.peers or peer(name).smoked]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(rounds.run, rounds.smoke(works, peers, SMOKE_SECONDS)))
    else:
        pieces = list(rounds.plan(works, peers, options.rounds, large=options.large))

        def tell(place: int, outcome: rounds.Outcome) -> None:
            told = f"{place}/{len(pieces)} {outcome.piece.peer}: {', '.join(outcome.piece.works)}: {outcome.took:.1f} s"
            print(told, "FAILED" if outcome.failed else "", file=sys.stderr)

        outcomes = rounds.run_all(pieces, tell)
    if "trip" in works and OURS in peers:
        record["profile"], record["no profile"] = rounds.sampled(SAMPLED // 1000 if options.quick else SAMPLED)
    record["about"]["load after"] = [round(load, 2) for load in os.getloadavg()]
    told = collected(outcomes)
    every = (len(cell["values"]) for cells in told["figures"].values() for cell in cells.values())
    record["about"]["rounds"] = max(every, default=0)  # fewer than were asked for, after Ctrl-C
    return {**record, **told, "skipped": skipped}


def write(results: dict[str, Any], folder: Path) -> None:
    """The record, the charts if they can be drawn, and the page of the docs when the folder is the one it is about."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD.name
    record.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    try:
        draw(results["figures"], folder)
    except ImportError as error:
        print(f"no charts: {error}")
    if record.resolve() == RECORD:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for; 1 when this library failed in anything."""
    options = parsed(arguments)
    if options.again:
        write(json.loads(RECORD.read_text(encoding="utf-8")), RECORD.parent)
        return 0
    results = measured(options)
    if options.quick:
        told = sum(len(cells) for cells in results["figures"].values())
        print(f"{told} figures from results that were all as expected. They are of small sizes, and say nothing.")
        print(left_out(results))
    else:
        print(as_text(results))
    if options.results:
        if options.renew:
            results = renewed(json.loads(RECORD.read_text(encoding="utf-8")), results, options.only)
        write(results, options.results)
    if results.get("no profile"):
        print(f"no profile: {results['no profile']}")
    return int(any(is_ours(one["peer"]) for one in results["failed"]) or bool(results.get("no profile")))


if __name__ == "__main__":
    sys.exit(main())
