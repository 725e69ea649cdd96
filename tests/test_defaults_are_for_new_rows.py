"""Defaults are for new rows: in a row that exists an explicit null means what its merge rule says."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb

BEFORE: dict[str, Any] = {
    "id": 1,
    "state": "done",
    "visits": 5,
    "least": 3,
    "most": 3,
    "kept": "old",
    "tags": ["a"],
    "log": ["a"],
    "note": "n",
    "token": "01890000-0000-7000-8000-000000000001",
    "at": dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
}


class Orders(cb.Table):
    """A column of each rule, all with defaults; what is replaced may be null."""

    id: int = cb.field(key=True)
    state: str = cb.field(merge="coalesce", default="new")
    visits: int = cb.field(merge="add", default=1)
    least: int = cb.field(merge="min", default=0)
    most: int = cb.field(merge="max", default=9)
    kept: str = cb.field(merge="keep", default="first")
    tags: pl.List(pl.String) = cb.field(merge="union", default=["new"])  # type: ignore[valid-type]
    log: pl.List(pl.String) = cb.field(merge="append", default=["new"])  # type: ignore[valid-type]
    note: str | None = cb.field(default="empty")
    token: str | None = cb.field(default="uuid", uuid=True)
    at: pl.Datetime("us", "UTC") = cb.field(default="now", nullable=True)  # type: ignore[valid-type]

    class Config:
        name = "orders"


class Strict(cb.Table):
    """What is replaced may not be null."""

    id: int = cb.field(key=True)
    state: str = cb.field(default="new")
    n: int | None

    class Config:
        name = "strict"


NULLS = pl.DataFrame({name: [None] for name in BEFORE}).with_columns(pl.lit(1, dtype=pl.Int64).alias("id"))


@pytest.fixture
def shop(db: cb.Database) -> cb.Database:
    db.create(Orders, Strict)
    return db


def order(db: cb.Database, number: int = 1) -> dict[str, Any]:
    return db.read(Orders, where={"id": number}).row(0, named=True)


def test_a_null_in_a_row_that_exists_means_what_its_rule_says(shop: cb.Database) -> None:
    shop.insert(Orders, pl.DataFrame([BEFORE]))
    assert shop.upsert(Orders, NULLS).counts == {"input": 1, "updated": 1}
    assert order(shop) == {**BEFORE, "note": None, "token": None, "at": None}
    assert shop.upsert(Orders, NULLS).counts == {"input": 1, "unchanged": 1}


def test_a_null_in_a_new_row_takes_the_default(shop: cb.Database) -> None:
    assert shop.upsert(Orders, NULLS).counts == {"input": 1, "inserted": 1}
    found = order(shop)
    assert found["token"]
    assert found["at"]
    assert {n: found[n] for n in ("state", "visits", "kept", "tags", "log", "note")} == {
        "state": "new",
        "visits": 1,
        "kept": "first",
        "tags": ["new"],
        "log": ["new"],
        "note": "empty",
    }


def test_a_later_row_of_the_batch_exists_already(shop: cb.Database) -> None:
    twice = pl.concat([NULLS, NULLS, NULLS.with_columns(pl.lit(2, dtype=pl.Int64).alias("id"))])
    assert shop.upsert(Orders, twice).counts == {"input": 3, "inserted": 2, "duplicate": 1}
    assert {n: order(shop)[n] for n in ("state", "visits", "log", "note", "token")} == {
        "state": "new",
        "visits": 1,
        "log": ["new"],
        "note": None,
        "token": None,
    }
    assert order(shop, 2)["note"] == "empty"


def test_a_sync_replaces_by_null_too(shop: cb.Database) -> None:
    shop.insert(Orders, pl.DataFrame([BEFORE]))
    report = shop.sync(Orders, NULLS.drop("state", "visits", "least", "most", "kept", "tags", "log"))
    assert report.counts == {"input": 1, "updated": 1}
    assert order(shop) == {**BEFORE, "note": None, "token": None, "at": None}


def test_a_null_that_may_not_be_is_a_reject_of_its_row(shop: cb.Database) -> None:
    shop.insert(Strict, pl.DataFrame({"id": [1], "state": ["done"], "n": [1]}))
    frame = pl.DataFrame(
        {"id": [1, 2, 2, 3], "state": pl.Series([None] * 4, dtype=pl.String), "n": [7, 7, 8, 7]}
    )
    report = shop.upsert(Strict, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["rejected", "inserted", "rejected", "inserted"]
    assert report.failures.select("row", "stage", "rule", "column").rows() == [
        (0, "validate", "not_nullable", "state"),
        (2, "validate", "not_nullable", "state"),
    ]
    assert "the default is for new rows" in report.failures["message"][0]
    assert shop.read(Strict, order_by="id").rows() == [(1, "done", 1), (2, "new", 7), (3, "new", 7)]


def test_the_first_row_that_is_written_makes_the_row(shop: cb.Database) -> None:
    """A row of the batch that is refused does not make the next one a row that exists."""
    with shop.session() as session:
        session.execute("DROP TABLE strict")
        session.execute(
            "CREATE TABLE strict (id bigint PRIMARY KEY, state text NOT NULL, n bigint CHECK (n < 5))"
        )
    frame = pl.DataFrame({"id": [1, 1], "state": pl.Series([None] * 2, dtype=pl.String), "n": [7, 2]})
    report = shop.upsert(Strict, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["rejected", "inserted"]
    assert shop.read(Strict).rows() == [(1, "new", 2)]


def test_an_update_writes_the_null(shop: cb.Database) -> None:
    shop.insert(Orders, pl.DataFrame([BEFORE]))
    shop.update(Orders, NULLS.select("id", "note", "token"))
    assert (order(shop)["note"], order(shop)["token"]) == (None, None)


def test_what_decides_the_age_may_be_null(db: cb.Database) -> None:
    class Prices(cb.Table):
        id: int = cb.field(key=True)
        price: int
        at: int | None = cb.field(default=100)

        class Config:
            name = "prices"

    db.create(Prices)
    frame = pl.DataFrame({"id": [1], "price": [1], "at": pl.Series([None], dtype=pl.Int64)})
    assert db.upsert(Prices, frame, newer="at").counts == {"input": 1, "inserted": 1}
    assert db.read(Prices).rows() == [(1, 1, 100)]
    assert db.upsert(Prices, frame.with_columns(price=pl.lit(2, dtype=pl.Int64)), newer="at").counts == {
        "input": 1,
        "stale": 1,
    }
    assert db.read(Prices).rows() == [(1, 1, 100)]


def test_a_sync_makes_the_table_equal_to_the_frame(shop: cb.Database) -> None:
    """Merge rules do not apply to it."""
    shop.insert(Orders, pl.DataFrame([BEFORE]))
    frame = pl.DataFrame([{**BEFORE, "kept": "new", "least": 7, "most": 1, "tags": ["z"], "log": ["z"]}])
    assert shop.sync(Orders, frame).counts == {"input": 1, "updated": 1}
    assert shop.read(Orders).equals(frame.select(shop.read(Orders).columns))
    assert shop.sync(Orders, frame).counts == {"input": 1, "unchanged": 1}
