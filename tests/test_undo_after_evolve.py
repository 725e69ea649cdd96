"""Undo after a table got new columns: a value that somebody has put there since is a change."""

from __future__ import annotations

import polars as pl
import pytest

import crave_bulk as cb


class Before(cb.Table):
    id: int = cb.field(key=True)
    n: int | None

    class Config:
        name = "t"


class After(Before):
    note: str | None
    stars: int = cb.field(default=3)
    kind: str = cb.field(default="it's")
    token: str = cb.field(default="uuid", uuid=True)

    class Config:
        name = "t"


@pytest.fixture
def grown(db: cb.Database) -> tuple[cb.Database, cb.Report]:
    db.create(Before)
    report = db.insert(Before, pl.DataFrame({"id": [1, 2], "n": [1, 2]}))
    db.evolve(After)
    return db, report


def test_nothing_was_set(grown: tuple[cb.Database, cb.Report]) -> None:
    db, report = grown
    undone = report.undo()
    assert undone.counts == {"input": 2, "deleted": 2}
    undone.undo()
    assert sorted(db.read("t").select("id", "n", "note", "stars", "kind").rows()) == [
        (1, 1, None, 3, "it's"),
        (2, 2, None, 3, "it's"),
    ]


@pytest.mark.parametrize(("column", "value"), [("note", "important"), ("stars", 5), ("kind", "x")])
def test_what_was_set_since_is_a_change(
    grown: tuple[cb.Database, cb.Report], column: str, value: object
) -> None:
    db, report = grown
    db.update(After, pl.DataFrame({"id": [1], column: [value]}))
    with pytest.raises(cb.UndoRefused, match="1 row that batch .* wrote has changed since") as refused:
        report.undo()
    assert refused.value.rows.rows() == [("t", "1", column, None, str(value))]
    assert db.read("t").height == 2
    undone = db.undo(report.batch_id, force=True)
    assert undone.counts == {"input": 2, "deleted": 1, "stale": 1}
    assert db.read("t")["id"].to_list() == [1]


def test_a_row_that_was_only_updated_keeps_it(db: cb.Database) -> None:
    db.create(Before)
    db.insert(Before, pl.DataFrame({"id": [1], "n": [1]}))
    report = db.update(Before, pl.DataFrame({"id": [1], "n": [2]}))
    db.evolve(After)
    db.update(After, pl.DataFrame({"id": [1], "note": ["important"]}))
    assert report.undo().counts == {"input": 1, "updated": 1}
    assert db.read("t").select("n", "note").rows() == [(1, "important")]
