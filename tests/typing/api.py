"""Typed calls that a checker must accept: run by mypy, never by Python."""

from __future__ import annotations

import polars as pl

import crave_bulk as cb
from crave_bulk.examples import Foods


def calls(frame: pl.DataFrame) -> None:
    """Use every public name as its types say."""
    with cb.connect("sqlite:///x.db") as db:
        db.create(Foods)
        report: cb.Report = db.insert(Foods, frame, on_conflict="ignore", on_reject="keep")
        report = db.upsert(Foods, frame.lazy(), on_reject="raise")
        counts: dict[str, int] = report.counts
        frames: list[pl.DataFrame] = [
            report.rejected,
            report.failures,
            report.outcomes,
            report.keys,
            report.timings,
        ]
        numbers: list[float] = [report.seconds, report.rows_per_second, counts["input"]]
        back: pl.DataFrame = db.read(Foods, columns=["name"], order_by=["-name"], limit=3)
        print(frames, numbers, back, report.batch_id, report.plot())
    with cb.embedded_postgres("pgdata") as url:
        name: str = url
        print(name)
