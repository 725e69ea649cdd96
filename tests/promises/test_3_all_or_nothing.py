"""All or nothing, unless you ask: one reject and nothing is written."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.examples import Foods

GOOD = pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]})
BAD = pl.DataFrame({"food_id": [2, 3, 4], "name": ["rye", "", None]})


@pytest.mark.parametrize("verb", ["insert", "upsert"])
def test_a_reject_leaves_the_table_as_it_was(db: cb.Database, verb: str) -> None:
    db.create(Foods)
    db.insert(Foods, GOOD)
    with pytest.raises(cb.RejectedRows) as refused:
        getattr(db, verb)(Foods, BAD)
    report = refused.value.report
    assert not report.committed
    assert set(report.rejected["_row"]) >= {1, 2}
    assert sum(n for name, n in report.counts.items() if name != "input") == 3
    assert report.keys.is_empty()
    assert db.read(Foods, order_by="food_id").equals(GOOD)


def test_the_error_names_the_first_row_column_and_value(db: cb.Database) -> None:
    db.create(Foods)
    with pytest.raises(cb.RejectedRows, match=r"2 of 3 rows for table foods .* row 1: name = '': .*keep"):
        db.upsert(Foods, BAD)


def test_keep_writes_the_others(db: cb.Database) -> None:
    db.create(Foods)
    assert db.upsert(Foods, BAD, on_reject="keep").counts == {"input": 3, "inserted": 1, "rejected": 2}
    assert db.read(Foods)["food_id"].to_list() == [2]


@pytest.mark.parametrize("failing", ["MERGE", "INSERT", "DROP", "COMMIT", "ingest", "SELECT"])
def test_a_failure_at_any_statement_leaves_nothing_behind(db: cb.Database, failing: str) -> None:
    db.create(Foods)
    db.insert(Foods, GOOD)
    armed = [True]

    def fail(statement: str) -> None:
        if armed[0] and failing in statement:
            armed[0] = False
            raise KeyboardInterrupt

    db.trace(fail)
    changed = pl.DataFrame({"food_id": [2, 3], "name": ["rye", "cake"]})
    try:
        db.upsert(Foods, changed)
    except KeyboardInterrupt:
        assert db.read(Foods, order_by="food_id").equals(GOOD)
    armed[0] = False
    report: Any = db.upsert(Foods, changed)
    assert report.counts["input"] == 2
    assert db.read(Foods, order_by="food_id")["name"].to_list() == ["soup", "rye", "cake"]
    with db.session() as session:
        tables = (
            "sqlite_temp_master" if db.backend.name == "sqlite" else "pg_class WHERE relpersistence = 't'"
        )
        assert session.fetch(f"SELECT count(*) AS n FROM {tables}").item() == 0
