"""The report: in words, as a card, as a chart."""

from __future__ import annotations

import pickle
from pathlib import Path

import polars as pl
import pytest
from matplotlib.figure import Figure

import crave_bulk as cb
from crave_bulk import card, examples
from crave_bulk.__main__ import main
from crave_bulk.examples import Foods


def test_a_report_in_words() -> None:
    words = repr(examples.report())
    assert "upsert foods: 3 rows -> 2 inserted, 1 rejected" in words
    assert "rejected at validate: 1 x str_length on name" in words
    assert "merge" in words


def test_a_refused_report_says_that_nothing_was_written() -> None:
    with cb.connect() as db:
        db.create(Foods)
        with pytest.raises(cb.RejectedRows) as refused:
            db.insert(Foods, pl.DataFrame({"food_id": [1], "name": [""]}))
    report = refused.value.report
    assert "NOTHING WRITTEN" in repr(report)
    assert "Nothing was written" in report._repr_html_()


def test_the_card_escapes_what_rows_hold() -> None:
    with cb.connect() as db:
        db.create(Foods)
        report = db.insert(
            Foods, pl.DataFrame({"food_id": [1], "name": ["<script>alert(1)</script>" * 3]}), on_reject="keep"
        )
    html = report._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<div") == html.count("</div>")


@pytest.mark.timed
def test_timings_cover_the_call() -> None:
    report = examples.report()
    assert report.timings.columns == ["batch", "phase", "seconds", "rows"]
    assert report.timings["phase"].to_list() == ["validate", "dedupe", "stage", "merge", "ledger", "report"]
    assert 0.5 * report.seconds <= report.timings["seconds"].sum() <= report.seconds
    assert report.rows_per_second == pytest.approx(3 / report.seconds)


def test_a_report_goes_to_another_process() -> None:
    with cb.connect() as db:
        db.create(Foods)
        report = db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["soup"]}))
    there = pickle.loads(pickle.dumps(report))
    assert there.counts == report.counts
    assert there.outcomes.equals(report.outcomes)
    with pytest.raises(cb.UndoRefused, match="db.undo"):
        there.undo()


def test_the_chart_has_a_bar_a_batch() -> None:
    figure = examples.report().plot()
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1. upsert foods"]
    assert len(axes.patches) == 6


def test_an_ingestion_has_a_chart_and_a_card_of_its_own_phases_and_outcomes() -> None:
    said = {"restaurant": ["The Palm"], "food": ["steak"], "source_id": ["t1_a"]}
    moment = pl.Series("created_at", ["2026-05-01"]).str.to_datetime(time_zone="UTC")
    with cb.connect() as db:
        db.create(*cb.crave.TABLES)
        report = cb.crave.ingest(db, pl.DataFrame(said).with_columns(moment))
    figure = report.plot()
    figure.draw_without_rendering()  # which lays it out
    (legend,) = figure.legends
    phases = [text.get_text() for text in legend.get_texts()]
    assert phases == report.timings["phase"].to_list()
    assert phases[:4] == ["validate", "read", "resolve", "metrics"]
    assert set(phases) <= set(card.PHASE_COLOURS)
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.width
    assert len(set(card.PHASE_COLOURS.values())) == len(card.PHASE_COLOURS)
    assert "review" in card.OUTCOME_COLOURS


@pytest.mark.parametrize(("seconds", "words"), [(0.0004, "0 ms"), (0.9, "900 ms"), (61, "61.0 s")])
def test_durations(seconds: float, words: str) -> None:
    assert card.duration(seconds) == words


def test_the_main_job_runs_twice(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chart = tmp_path / "chart.png"
    main(["--to", url, "--chart", str(chart)])
    first = capsys.readouterr().out
    assert "foods: 2,575 rows -> 2,480 inserted, 95 rejected" in first
    assert "food_names: 3,762 rows -> 3,606 inserted, 156 rejected" in first
    assert "food_kinds: 2,576 rows -> 2,370 inserted, 206 rejected" in first
    main(["--to", url, "--chart", str(chart)])
    again = capsys.readouterr().out
    assert "2,480 unchanged, 95 rejected" in again
    assert "inserted" not in again
    with pytest.raises(SystemExit, match="the data is loaded, but the chart cannot be written"):
        main(["--to", url, "--chart", str(tmp_path / "nowhere" / "chart.png")])
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_the_main_job_says_what_is_wrong() -> None:
    with pytest.raises(SystemExit, match="ConnectionFailed: cannot open"):
        main(["--to", "sqlite:////nowhere/at/all.db"])
