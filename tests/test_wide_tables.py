"""Tables as wide as the databases take them: every verb, plan, undo and read."""

from __future__ import annotations

import time

import polars as pl
import pytest

import crave_bulk as cb

WIDEST = {"sqlite": 1_990, "postgresql": 1_590}
WIDE = 1_010  # an expression of SQLite may be 1,000 deep
ROWS = 5


@pytest.fixture(params=["wide", pytest.param("widest", marks=pytest.mark.thorough)])
def width(db: cb.Database, request: pytest.FixtureRequest) -> int:
    columns = WIDE if request.param == "wide" else WIDEST[db.backend.name]
    with db.session() as session:
        others = ", ".join(f"c{i} integer" for i in range(1, columns))
        session.execute(f"CREATE TABLE wide (id integer PRIMARY KEY, {others})")
    return columns


def rows(width: int, *, first: int = 0) -> pl.DataFrame:
    ids = pl.int_range(first, first + ROWS, dtype=pl.Int32, eager=True)
    return pl.DataFrame([ids.alias("id"), *((ids + i).alias(f"c{i}") for i in range(1, width))])


@pytest.mark.thorough
def test_every_verb(db: cb.Database, width: int) -> None:
    frame = rows(width)
    assert db.insert("wide", frame).counts == {"input": ROWS, "inserted": ROWS}
    assert db.read("wide", order_by="id").equals(frame)

    changed = frame.with_columns(pl.col("c1", f"c{width - 1}") + 1)
    plan = db.upsert("wide", changed, plan=True)
    assert plan.changes.height == 2 * ROWS
    assert set(plan.changes["column"]) == {"c1", f"c{width - 1}"}
    report = plan.apply()
    assert report.counts == {"input": ROWS, "updated": ROWS}
    assert db.read("wide", order_by="id").equals(changed)
    assert db.upsert("wide", changed).counts == {"input": ROWS, "unchanged": ROWS}
    assert db.undo(db.batches()["batch_id"].max()).counts["input"] == 0
    report.undo()
    assert db.read("wide", order_by="id").equals(frame)

    last = f"c{width - 1}"
    assert (
        db.update("wide", frame.with_columns(pl.lit(7, dtype=pl.Int32).alias(last))).counts["updated"] == ROWS
    )
    everything = dict.fromkeys(frame.columns[1:], 9)
    assert db.update_where("wide", everything, where={"id": 1}).counts["updated"] == 1
    assert db.update_where("wide", everything, where={"id": 1}).counts["input"] == 0
    assert db.read("wide", where=everything)["id"].to_list() == [1]
    synced = db.sync("wide", frame.head(3))
    assert synced.counts == {"input": ROWS, "updated": 3, "deleted": 2}
    synced.undo()
    assert db.read("wide").height == ROWS
    deleted = db.delete("wide", [0])
    deleted.undo()
    assert db.read("wide", where={"id": 0}).height == 1
    assert db.delete_where("wide", {"id__gte": 0}).counts == {"input": ROWS, "deleted": ROWS}


@pytest.mark.thorough
def test_a_difference_in_any_column_counts_once(db: cb.Database, width: int) -> None:
    frame = rows(width)
    db.insert("wide", frame)
    for names in (["c60", "c120"], ["c1", "c61", "c121", f"c{width - 2}"]):
        null = frame.with_columns(pl.lit(None, dtype=pl.Int32).alias(name) for name in names)
        assert db.upsert("wide", null).counts == {"input": ROWS, "updated": ROWS}
        assert db.read("wide", order_by="id").equals(null)
        assert db.upsert("wide", null).counts == {"input": ROWS, "unchanged": ROWS}
        assert db.upsert("wide", frame).counts == {"input": ROWS, "updated": ROWS}


def test_the_cost_grows_with_the_columns_and_not_with_their_square(db: cb.Database, width: int) -> None:
    few = 200
    with db.session() as session:
        others = ", ".join(f"c{i} integer" for i in range(1, few))
        session.execute(f"CREATE TABLE narrow (id integer PRIMARY KEY, {others})")

    def seconds(table: str, columns: int) -> float:
        took = []
        for part in range(2):
            begin = time.process_time()
            db.insert(table, rows(columns, first=part * ROWS))
            null = rows(columns, first=part * ROWS).with_columns(pl.exclude("id").replace(1, None))
            db.upsert(table, null).undo()
            took.append(time.process_time() - begin)
        return min(took)

    assert seconds("wide", width) < 1.25 * (width / few) * seconds("narrow", few)


@pytest.mark.thorough
def test_a_table_that_leaves_no_room_is_named(db: cb.Database) -> None:
    width = {"sqlite": 2_000, "postgresql": 1_600}[db.backend.name]
    others = ", ".join(f"c{i} boolean" for i in range(1, width))
    with db.session() as session:
        session.execute(f"CREATE TABLE wide (id integer PRIMARY KEY, {others})")
    frame = pl.DataFrame({"id": [1], **{f"c{i}": [True] for i in range(1, width)}})
    for write in (db.insert, db.upsert, db.sync):
        with pytest.raises(
            cb.ContractError,
            match=r"columns are to be staged, and a table of .* has at most .*: split the table",
        ):
            write("wide", frame)
