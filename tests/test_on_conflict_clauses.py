"""SQLite tables whose constraints say what becomes of a conflict: no other row disappears, and no transaction ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from reflecting import run

import crave_bulk as cb

TABLE = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT {0}, email TEXT COLLATE NOCASE UNIQUE ON CONFLICT {0}, "
    "v INT NOT NULL ON CONFLICT {0} DEFAULT 5, CHECK (v < 100) ON CONFLICT IGNORE)"
)


class Declared(cb.Table):
    id: int = cb.field(key=True)
    email: str
    v: int

    class Config:
        name = "t"


@pytest.fixture(params=["REPLACE", "IGNORE", "ROLLBACK", "FAIL", "ABORT"])
def mails(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[cb.Database]:
    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        run(db, TABLE.format(request.param), "INSERT INTO t VALUES (1, 'ann@x', 7), (2, 'bob@x', 8)")
        yield db


BEFORE = [(1, "ann@x", 7), (2, "bob@x", 8)]


def rows(db: cb.Database) -> list[tuple[object, ...]]:
    return db.read("t", order_by="id").rows()


@pytest.mark.parametrize("table", ["t", Declared], ids=["found", "declared"])
@pytest.mark.parametrize("verb", ["insert", "upsert"])
def test_a_row_in_conflict_is_refused(mails: cb.Database, verb: str, table: str | type[cb.Table]) -> None:
    frame = pl.DataFrame({"id": [3, 4, 5], "email": ["ANN@x", "dan@x", "eve@x"], "v": [1, 2, 300]})
    report = getattr(mails, verb)(table, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["rejected", "inserted", "rejected"]
    assert report.failures["stage"].to_list() == ["unique", "database"]
    assert rows(mails) == [*BEFORE, (4, "dan@x", 2)]
    report.undo()
    assert rows(mails) == BEFORE


@pytest.mark.parametrize("verb", ["upsert", "update"])
def test_a_row_that_exists_is_refused_too(mails: cb.Database, verb: str) -> None:
    frame = pl.DataFrame({"id": [1, 2], "email": ["BOB@x", "bob@x"], "v": [1, 9]})
    report = getattr(mails, verb)("t", frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["rejected", "updated"]
    assert rows(mails) == [BEFORE[0], (2, "bob@x", 9)]


def test_a_condition_is_refused(mails: cb.Database) -> None:
    with pytest.raises(cb.RejectedRows):
        mails.update_where("t", {"email": "BOB@x"}, {"id": 1})
    assert rows(mails) == BEFORE
    assert mails.update_where("t", {"email": "cid@x"}, {"id": 1}).counts == {"input": 1, "updated": 1}


def test_a_transaction_goes_on_after_a_refused_row(mails: cb.Database) -> None:
    with mails.transaction():
        mails.insert("t", pl.DataFrame({"id": [3], "email": ["BOB@x"], "v": [1]}), on_reject="keep")
        mails.insert("t", pl.DataFrame({"id": [3], "email": ["cid@x"], "v": [1]}))
    assert rows(mails) == [*BEFORE, (3, "cid@x", 1)]


def test_a_sync_hands_values_on(mails: cb.Database) -> None:
    frame = pl.DataFrame({"id": [2, 3], "email": ["ANN@x", "bob@x"], "v": [1, 2]})
    report = mails.sync("t", frame)
    assert report.counts == {"input": 3, "inserted": 1, "updated": 1, "deleted": 1}
    assert rows(mails) == [(2, "ANN@x", 1), (3, "bob@x", 2)]
    report.undo()
    assert rows(mails) == BEFORE
