"""Columns that are called ``true`` or ``false``: SQLite does not let a column of a sub-query be called so."""

from __future__ import annotations

import polars as pl
import pytest

import crave_bulk as cb

NAMES = ["true", "false", "TRUE", "null", "rowid", "s", "c0", "wave"]
TEXTS = pl.DataFrame({"id": [1, 2], **{f"t{i}": [f"a{i}", f"b{i}"] for i in range(len(NAMES))}})


@pytest.fixture
def table(db: cb.Database) -> cb.Database:
    columns = ", ".join(
        f'"{name}" text' for name in NAMES if name != "TRUE" or db.backend.name == "postgresql"
    )
    with db.session() as session:
        session.execute(f"CREATE TABLE t (id bigint PRIMARY KEY, {columns})")
        session.execute(
            'CREATE TABLE k ("true" bigint, "false" text, "up" bigint, n bigint, PRIMARY KEY ("true", "false"))'
        )
        session.execute(
            'CREATE TABLE p ("true" bigint PRIMARY KEY, "up" bigint REFERENCES p ("true"), "false" text UNIQUE)'
        )
    return db


def named(db: cb.Database) -> pl.DataFrame:
    frame = TEXTS.rename({f"t{i}": name for i, name in enumerate(NAMES)})
    return frame if db.backend.name == "postgresql" else frame.drop("TRUE")


def test_each_column_keeps_its_own_values(table: cb.Database) -> None:
    frame = named(table)
    table.insert("t", frame)
    assert table.read("t", order_by="id").equals(frame.select(table.read("t").columns))
    changed = frame.with_columns(pl.col("true").str.to_uppercase(), pl.col("false").reverse())
    assert table.upsert("t", changed).counts == {"input": 2, "updated": 2}
    assert table.upsert("t", changed).counts == {"input": 2, "unchanged": 2}
    report = table.update("t", frame.select("id", "true"))
    assert report.counts == {"input": 2, "updated": 2}
    assert table.read("t", order_by="id").equals(
        changed.with_columns(frame["true"]).select(table.read("t").columns)
    )
    report.undo()
    assert table.read("t", order_by="id").equals(changed.select(table.read("t").columns))
    assert table.read("t", where={"true": "A0"})["id"].to_list() == [1]
    assert table.read("t", where="\"true\" = 'A0'")["id"].to_list() == [1]
    assert table.update_where("t", {"false": "z"}, {"true": "A0"}).counts == {"input": 1, "updated": 1}


def test_they_may_mark_rows_as_deleted(db: cb.Database) -> None:
    body = {
        "__annotations__": {"id": int, "true": bool, "false": bool | None},
        "id": cb.field(key=True),
        "true": cb.field(soft_delete=True, default=False),
        "false": cb.field(),
        "Config": type("Config", (), {"name": "marked"}),
        "__module__": __name__,
    }
    marked = type("Marked", (cb.Table,), body)
    db.create(marked)
    db.insert(marked, pl.DataFrame({"id": [1, 2, 3], "false": [True, False, None]}))
    assert db.delete(marked, [1]).counts == {"input": 1, "deleted": 1}
    assert db.read(marked, order_by="id")["id"].to_list() == [2, 3]
    assert db.read(marked, where="NOT false", order_by="id")["id"].to_list() == [2, 3]
    assert db.read(marked, where='NOT "false"')["id"].to_list() == [2]
    assert db.read(marked, where='"false" IS NOT TRUE', order_by="id")["id"].to_list() == [2, 3]
    assert db.read(marked, where={"false__in": []}).is_empty()
    assert db.restore_where(marked, "true").counts == {"input": 1, "updated": 1}
    assert db.sync(marked, pl.DataFrame({"id": [1]})).counts == {"input": 3, "unchanged": 1, "deleted": 2}


def test_they_may_be_the_key(table: cb.Database) -> None:
    frame = pl.DataFrame({"true": [1, 1, 2], "false": ["x", "y", "x"], "up": [7, 8, 9], "n": [1, 1, 1]})
    assert table.upsert("k", frame).counts == {"input": 3, "inserted": 3}
    report = table.sync("k", frame.head(2).with_columns(n=pl.lit(2, dtype=pl.Int64)))
    assert report.counts == {"input": 3, "updated": 2, "deleted": 1}
    report.undo()
    assert table.read("k", order_by="up").equals(frame)
    assert table.delete("k", frame.select("true", "false").head(1)).counts == {"input": 1, "deleted": 1}


def test_they_may_be_a_parent_and_a_unique_key(table: cb.Database) -> None:
    frame = pl.DataFrame({"true": [1, 2, 3], "up": [None, 1, 9], "false": ["a", "b", "c"]})
    report = table.upsert("p", frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted", "inserted", "rejected"]
    chain = pl.DataFrame({"true": [2, 1], "up": [1, None], "false": ["z", "b"]})
    assert table.upsert("p", chain).counts == {"input": 2, "updated": 2}
    found = pl.DataFrame({"true": [2], "false": ["z"], "up": [2]})
    assert table.upsert("p", found, on="false").counts == {
        "input": 1,
        "updated": 1,
    }
    assert table.read("p", order_by="true").rows() == [(1, None, "b"), (2, 2, "z")]
    refused = table.insert(
        "p",
        pl.DataFrame({"true": [4], "up": [None], "false": ["z"]}, schema_overrides={"up": pl.Int64}),
        on_reject="keep",
    )
    assert refused.counts == {"input": 1, "rejected": 1}
    assert table.delete_where("p", "true").counts == {"input": 2, "deleted": 2}
    assert table.read("p").is_empty()
