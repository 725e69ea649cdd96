"""Refreshing: connections that nobody mentions any more cool down, by the days that have passed alone."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

import crave_bulk as cb

pytestmark = pytest.mark.thorough_on_postgres  # here as everywhere, what the verbs do is tested on both

DAY = dt.datetime(2026, 5, 31, tzinfo=dt.UTC)


def levels(db: cb.Database) -> list[tuple[str, int]]:
    rows = db.read(cb.crave.Connections, columns=["activity_level", "recent_mention_count"])
    return sorted(rows.rows())


def mention(db: cb.Database, *, days_ago: int, source: str, food: str) -> None:
    said = {"restaurant": ["The Palm"], "food": [food], "source_id": [source]}
    row = pl.DataFrame(said).with_columns(created_at=pl.lit(DAY - dt.timedelta(days=days_ago)))
    cb.crave.ingest(db, row, as_of=DAY)


def test_levels_follow_the_days_that_pass(db: cb.Database) -> None:
    db.create(*cb.crave.TABLES)
    mention(db, days_ago=1, source="t1_a", food="steak")
    mention(db, days_ago=100, source="t1_b", food="soup")
    assert levels(db) == [("normal", 0), ("trending", 1)]
    report = cb.crave.refresh_metrics(db, as_of=DAY + dt.timedelta(days=31))
    assert report.counts == {"input": 1, "updated": 1}
    assert levels(db) == [("normal", 0), ("normal", 0)]


def test_nothing_changes_where_no_day_has_passed(db: cb.Database) -> None:
    db.create(*cb.crave.TABLES)
    mention(db, days_ago=1, source="t1_a", food="steak")
    assert cb.crave.refresh_metrics(db, as_of=DAY).counts == {"input": 1, "unchanged": 1}


def test_a_refresh_can_be_taken_back(db: cb.Database) -> None:
    db.create(*cb.crave.TABLES)
    mention(db, days_ago=1, source="t1_a", food="steak")
    cb.crave.refresh_metrics(db, as_of=DAY + dt.timedelta(days=31)).undo()
    assert levels(db) == [("trending", 1)]
