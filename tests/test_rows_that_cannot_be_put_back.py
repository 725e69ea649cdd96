"""A deletion that no undo can take back says so: a row that points at nothing, as its reference was never checked."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from reflecting import run

import crave_bulk as cb


@pytest.fixture
def orphans(db: cb.Database) -> cb.Database:
    run(
        db,
        "CREATE TABLE parents (id bigint PRIMARY KEY)",
        "INSERT INTO parents VALUES (1)",
        f"CREATE TABLE t (id bigint PRIMARY KEY, parent bigint{' REFERENCES parents' if db.backend.name == 'sqlite' else ''})",
    )
    if db.backend.name == "sqlite":
        run(
            db,
            "PRAGMA foreign_keys = OFF",
            "INSERT INTO t VALUES (1, 7), (2, 1), (3, NULL)",
            "PRAGMA foreign_keys = ON",
        )
    else:
        run(
            db,
            "INSERT INTO t VALUES (1, 7), (2, 1), (3, NULL)",
            "ALTER TABLE t ADD FOREIGN KEY (parent) REFERENCES parents NOT VALID",
        )
    return db


CALLS: dict[str, Callable[[cb.Database, int], cb.Report]] = {
    "delete": lambda db, key: db.delete("t", [key, 2]),
    "delete_where": lambda db, key: db.delete_where("t", {"id__in": [key, 2]}),
    "sync": lambda db, key: db.sync("t", pl.DataFrame({"id": [1 + 3 - key]})),
}


@pytest.mark.parametrize("verb", CALLS)
def test_the_report_says_so(orphans: cb.Database, verb: str) -> None:
    report = CALLS[verb](orphans, 1)
    assert report.counts["deleted"] == 2
    assert "Rows that point at no row of parents, and so can be put back by no undo: 1." in report.notes
    with pytest.raises(cb.UndoRefused, match="cannot be put back"):
        report.undo()


@pytest.mark.parametrize("verb", CALLS)
def test_other_deletions_say_nothing(orphans: cb.Database, verb: str) -> None:
    report = CALLS[verb](orphans, 3)
    assert not any("no undo" in note for note in report.notes)
    report.undo()
    assert orphans.read("t").height == 3
