"""The pure parts of the suite of benchmarks: statistics, what is run, the report, and the page with its figures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from benchmarks.suite import charts, page, report, rounds
from benchmarks.suite.catalogue import METRICS, WORKS
from benchmarks.suite.figures import best_peer, ranked, summary, times_worse
from benchmarks.suite.goals import GOALS, lost, verdicts
from benchmarks.suite.peers import PLACES, peer

CELLS = {
    "relieve": {"median": 50.0, "quartiles": [49.0, 51.0]},
    "relieve fork": {"median": 45.0, "quartiles": [45.0, 45.0]},
    "raw": {"median": 25.0, "quartiles": [25.0, 25.0]},
    "execnet": {"median": 100.0, "quartiles": [90.0, 110.0]},
    "executor fork": {"median": 500.0, "quartiles": [500.0, 500.0]},
    "loky": {"values": [None]},
}


def outcome(who: str, **figures: float | None) -> rounds.Outcome:
    return rounds.Outcome(piece=rounds.Piece(peer=who, works={"trip": {}}, seconds=1), figures={"trip": figures})


def test_a_summary_has_the_median_and_the_quartiles() -> None:
    told = summary([4.0, 1.0, 2.0, 3.0, 5.0])
    assert told == {"median": 3.0, "quartiles": [2.0, 4.0], "values": [4.0, 1.0, 2.0, 3.0, 5.0]}
    assert summary([7.00049])["median"] == 7.0


def test_a_summary_of_what_never_happened_has_no_median() -> None:
    assert summary([1.0, None]) == {"values": [1.0, None]}


def test_a_ratio_says_how_many_times_worse_whichever_way_is_better() -> None:
    assert times_worse("trip", 50.0, 25.0) == 2.0
    assert times_worse("submits", 50.0, 25.0) == 0.5
    assert times_worse("trip", 50.0, 0.0) is None


def test_the_best_peer_is_neither_this_library_nor_raw() -> None:
    assert best_peer("trip", CELLS) == "execnet"
    assert best_peer("submits", CELLS) == "executor fork"
    assert best_peer("trip", CELLS, among=["executor fork", "executor spawn"]) == "executor fork"
    assert best_peer("trip", {"relieve": CELLS["relieve"]}) is None


def test_raw_is_ranked_first_and_who_never_ended_last() -> None:
    assert ranked("trip", CELLS) == ["raw", "relieve fork", "relieve", "execnet", "executor fork", "loky"]
    assert ranked("submits", CELLS)[:2] == ["raw", "executor fork"]


def test_goals_are_judged_by_the_figures_of_one_run() -> None:
    told = verdicts({"trip": CELLS, "submits": CELLS, "start 1": CELLS})
    trip, executor, submits, start = told
    assert executor.goal.text == "20 x ProcessPoolExecutor"
    assert (trip.reached, trip.holds, trip.missed_by) == (2.0, False, 1.25)
    assert (submits.beside, submits.reached, submits.holds, submits.missed_by) == (100.0, 2.0, False, 8.0)
    assert (start.beside, start.reached, start.missed_by) == (None, 50.0, 10.0)


def test_a_goal_that_was_not_measured_is_not_judged() -> None:
    assert verdicts({"trip": {"relieve": CELLS["relieve"]}, "map": CELLS}) == []


def test_where_a_peer_wins_is_told() -> None:
    better = {**CELLS, "loky": {"median": 1.0, "quartiles": [1.0, 1.0]}}
    figures = {"trip": CELLS, "submits": CELLS, "map": {"relieve": CELLS["relieve"]}}
    figures |= {"queued call @ 1": {**CELLS, "loky": {"median": 25.0}}, "queued call @ 9": better}
    assert lost(figures) == [("queued call @ 9", "loky", 50.0), ("submits", "executor fork", 10.0)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0424, "0.042"),
        (0.424, "0.42"),
        (1.0, "1.00"),
        (35.55, "35.5"),
        (999.6, "1,000"),
        (123456, "123,000"),
    ],
)
def test_numbers_are_told_by_what_counts_of_them(value: float, text: str) -> None:
    assert report.number(value) == text


def test_outcomes_are_collected_in_the_order_of_the_catalogue() -> None:
    outcomes = [outcome("raw", map=2.0, trip=1.0), outcome("raw", trip=3.0), outcome("loky", trip=None)]
    told = report.collected([*outcomes, rounds.Outcome(piece=outcomes[0].piece, figures={}, failed="no")])
    assert list(told["figures"]) == ["trip", "map"]
    assert told["figures"]["trip"]["raw"]["median"] == 2.0
    assert "median" not in told["figures"]["trip"]["loky"]
    assert told["failed"] == [{"peer": "raw", "works": "trip", "why": "no"}]


def test_works_that_are_run_again_take_the_place_of_their_figures_only() -> None:
    about = {"date": "2026-01-02T03:04:05", "commit": "abc", "rounds": 2}
    failed = [{"peer": "raw", "works": work, "why": "no"} for work in ("map", "trip")]
    old = {"about": {"cpus": 2}, "figures": {"trip": CELLS, "map": CELLS}, "failed": failed, "skipped": {}}
    new = {"about": about, "figures": {"trip": {}}, "failed": [], "skipped": {"Ray": "no"}}
    told = report.renewed(old, new, ["trip"])
    assert list(told["figures"].items()) == [("trip", {}), ("map", CELLS)]
    assert told["failed"] == failed[:1]
    assert told["about"] == {"cpus": 2, "again": {"trip": about}}


def test_points_of_a_series_are_in_the_order_of_what_grows() -> None:
    keys = ["queued call @ 1000", "trip", "queued call @ 9", "queued call @ 100000"]
    assert sorted(keys, key=report.place_of) == ["trip", keys[2], keys[0], keys[3]]


def test_a_report_has_every_figure_and_who_is_left_out() -> None:
    results = {
        "figures": {"trip": CELLS, "queued call @ 1000": {"relieve": CELLS["relieve"]}},
        "failed": [{"peer": "pebble", "works": "map", "why": "no reason"}],
        "skipped": {"Ray": "ray is not installed"},
    }
    text = report.as_text(results)
    assert "execnet           100   90.0 to 110   4.00         1.00" in text
    assert "1,000 calls that wait" in text
    assert [line for line in text.splitlines() if line.startswith("loky")] == ["loky            never"]
    assert text.endswith("FAILED pebble: map: no reason\nskipped Ray: ray is not installed")


def test_a_round_has_every_peer_once_for_each_work_that_it_can_do() -> None:
    names = ["raw", "relieve", "joblib", "Ray"]
    pieces = list(rounds.plan(["trip", "map"], names, 3))
    told = [(piece.peer, *piece.works) for piece in pieces]
    assert sorted(told[:3]) == [("Ray", "trip"), ("raw", "trip"), ("relieve", "trip")]
    assert {work for _, work in told[3:7]} == {"map"}
    assert told.count(("relieve", "map")) == 3
    assert told.count(("Ray", "map")) == 1, "it takes long, and says so"


def test_who_never_answered_again_is_not_asked_in_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(piece: rounds.Piece) -> rounds.Outcome:
        asked.append(piece.peer)
        return rounds.Outcome(piece=piece, figures={"kill": {"kill": None if piece.peer == "loky" else 1.0}})

    monkeypatch.setattr(rounds, "run", run)
    rounds.run_all(list(rounds.plan(["kill"], ["loky", "relieve"], 2)), lambda place, outcome: None)
    assert sorted(asked) == ["loky", "relieve", "relieve"]


def test_a_run_that_is_interrupted_gives_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(piece: rounds.Piece) -> rounds.Outcome:
        if "map" in piece.works:
            raise KeyboardInterrupt
        return rounds.Outcome(piece=piece, figures={"trip": {"trip": 1.0}})

    monkeypatch.setattr(rounds, "run", run)
    told = rounds.run_all(list(rounds.plan(["trip", "map"], ["raw", "relieve"], 1)), lambda place, outcome: None)
    assert sorted(one.piece.peer for one in told) == ["raw", "relieve"]


def test_a_piece_that_hangs_is_ended_with_all_that_it_made() -> None:
    calls = 10**9 + os.getpid()
    told = rounds.run(rounds.Piece(peer="raw", works={"trip": {"calls": calls}}, seconds=0.4))
    assert told.failed.startswith("not over after 0.4 s")
    assert told.figures == {}
    left = [one.pid for one in psutil.process_iter(["cmdline"]) if str(calls) in " ".join(one.info["cmdline"] or [])]
    assert left == []


def test_a_piece_that_fails_says_why() -> None:
    told = rounds.run(rounds.Piece(peer="raw", works={"trip": {}}, seconds=30))
    assert told.failed.startswith("exit status 1")
    assert "KeyError: 'calls'" in told.failed


def test_every_adapter_names_works_that_there_are() -> None:
    for name in PLACES:
        kind = peer(name)
        assert kind.__doc__
        assert kind.can, name
        assert kind.can | set(kind.share) <= set(WORKS), name


def test_every_goal_and_picture_is_of_a_metric_that_there_is() -> None:
    assert {goal.key for goal in GOALS} <= set(METRICS)
    assert {key for keys in charts.DOTS.values() for key in keys} | set(charts.LINES) <= set(METRICS)


def test_the_page_tells_the_figures_of_the_record() -> None:
    """Run ``python -m benchmarks --again`` when this fails: the page or the record was changed alone."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert set(page.BLOCKS) == {found[2] for found in page.BLOCK.finditer(text)}
    assert page.filled(text, json.loads(page.RECORD.read_text(encoding="utf-8"))) == text


def test_the_page_shows_pictures_that_are_there() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    shown = [part.partition(")")[0] for part in text.split("](")[1:] if ".svg)" in part]
    assert shown
    for path in shown:
        assert (page.PAGE.parent / Path(path)).exists(), path


def test_a_block_that_nobody_writes_is_refused() -> None:
    with pytest.raises(KeyError):
        page.filled("<!-- figures: weather -->\n<!-- end of figures -->", {"figures": {}})
