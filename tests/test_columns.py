"""Defaults, columns that are left out, references, and what an upsert may touch."""

from __future__ import annotations

import datetime as dt
import re

import polars as pl

import crave_bulk as cb


class Entities(cb.Table):
    """Everything that can be left out."""

    entity_id: str = cb.field(key=True, uuid=True, default="uuid")
    name: str
    aliases: pl.List(pl.String) = cb.field(default=[])
    meta: pl.Struct({"x": pl.Int64}) = cb.field(default={"x": 1})
    praise: int = cb.field(default=3)
    note: str | None = cb.field()
    created_at: pl.Datetime("us", "UTC") = cb.field(default="now")
    updated_at: pl.Datetime("us", "Europe/Berlin") = cb.field(default="now", on_update="now")
    day: pl.Date = cb.field(on_update="now")

    class Config:
        name = "entities"


def test_defaults_fill_what_is_left_out(db: cb.Database) -> None:
    db.create(Entities)
    before = dt.datetime.now(dt.UTC)
    report = db.insert(Entities, pl.DataFrame({"name": ["a", "b"]}))
    rows = db.read(Entities, order_by="name")
    assert rows["aliases"].to_list() == [[], []]
    assert rows["meta"].to_list() == [{"x": 1}, {"x": 1}]
    assert rows["praise"].to_list() == [3, 3]
    assert rows["note"].to_list() == [None, None]
    assert before <= rows["created_at"][0] <= dt.datetime.now(dt.UTC)
    assert rows["created_at"].n_unique() == 1
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", key)
        for key in rows["entity_id"]
    )
    keys = dict(report.keys.iter_rows())
    assert [keys[0], keys[1]] == rows["entity_id"].to_list()


def test_uuids_are_ordered_by_time(db: cb.Database) -> None:
    db.create(Entities)
    first = db.insert(Entities, pl.DataFrame({"name": ["a"]})).keys["entity_id"][0]
    later = [db.insert(Entities, pl.DataFrame({"name": ["b"]})).keys["entity_id"][0] for _ in range(3)]
    assert first[:13] <= min(later)[:13]


def test_nulls_take_the_default(db: cb.Database) -> None:
    db.create(Entities)
    frame = pl.DataFrame(
        {"entity_id": [None, None], "name": ["a", "b"], "praise": [None, 7], "aliases": [None, ["x"]]}
    )
    db.insert(Entities, frame)
    assert db.read(Entities, order_by="name", columns=["praise", "aliases"]).rows() == [(3, []), (7, ["x"])]


def test_an_upsert_leaves_alone_what_the_frame_does_not_have(db: cb.Database) -> None:
    db.create(Entities)
    db.insert(Entities, pl.DataFrame({"name": ["a"], "praise": [9], "aliases": [["x"]], "note": ["n"]}))
    was = db.read(Entities)
    report = db.upsert(Entities, was.select("entity_id", name=pl.lit("b")))
    now = db.read(Entities)
    assert report.counts == {"input": 1, "updated": 1}
    assert now["name"].item() == "b"
    kept = ["entity_id", "aliases", "meta", "praise", "note", "created_at"]
    assert now.select(kept).equals(was.select(kept))
    assert now["updated_at"].item() > was["updated_at"].item()


def test_on_update_stamps_only_rows_that_change(db: cb.Database) -> None:
    db.create(Entities)
    db.insert(Entities, pl.DataFrame({"name": ["a", "b"]}))
    was = db.read(Entities, order_by="name")
    report = db.upsert(Entities, was.select("entity_id", name=pl.Series(["a", "c"])))
    assert report.counts == {"input": 2, "updated": 1, "unchanged": 1}
    now = db.read(Entities, order_by="name")
    assert now["updated_at"][0] == was["updated_at"][0]
    assert now["updated_at"][1] > was["updated_at"][1]


class Tree(cb.Table):
    """Rows that point at rows of the same table."""

    id: int = cb.field(key=True)
    parent: int = cb.field(nullable=True, references="tree.id")
    size: int = cb.field(ge=0)

    class Config:
        name = "tree"


def test_a_parent_in_the_same_batch_counts_as_present(db: cb.Database) -> None:
    db.create(Tree)
    frame = pl.DataFrame(
        {"id": [1, 2, 3, 4, 5, 6], "parent": [2, None, 3, 9, 4, 5], "size": [0, 0, 0, 0, 0, 0]}
    )
    report = db.upsert(Tree, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted"] * 3 + ["rejected"] * 3
    assert set(report.failures["rule"]) == {"references(tree.id)"}


def test_a_rejected_parent_takes_its_children_along(db: cb.Database) -> None:
    db.create(Tree)
    frame = pl.DataFrame({"id": [1, 2, 3, 4], "parent": [None, 1, 2, None], "size": [-1, 0, 0, 0]})
    report = db.insert(Tree, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["rejected", "rejected", "rejected", "inserted"]
    assert report.failures["stage"].to_list() == ["validate", "reference", "reference"]


class Keyless(cb.Table):
    """Nothing but a key."""

    a: int = cb.field(key=True)
    b: pl.Date = cb.field(key=True)

    class Config:
        name = "pairs"


def test_a_table_that_is_nothing_but_its_key(db: cb.Database) -> None:
    db.create(Keyless)
    frame = pl.DataFrame(
        {"a": [1, 1, 1], "b": [dt.date(2024, 1, 1), dt.date(2024, 1, 2), dt.date(2024, 1, 1)]}
    )
    assert db.upsert(Keyless, frame).counts == {"input": 3, "inserted": 2, "duplicate": 1}
    assert db.upsert(Keyless, frame).counts == {"input": 3, "unchanged": 2, "duplicate": 1}
    assert db.insert(Keyless, frame, on_conflict="ignore").counts == {"input": 3, "ignored": 3}


def test_keys_of_many_types(db: cb.Database) -> None:
    for dtype, values in (
        (pl.Decimal(8, 2), ["1.10", "2.25"]),
        (pl.Enum(["x", "y"]), ["x", "y"]),
        (pl.Datetime("us", "Asia/Tokyo"), ["2024-01-01", "2024-01-02"]),
        (pl.Binary, [b"\0", b"\xff"]),
        (pl.Boolean, [True, False]),
        (pl.Float64, [0.1, 1e300]),
        (pl.Time, [dt.time(1), dt.time(2, 3, 4, 5)]),
        (pl.Duration("us"), [dt.timedelta(1), dt.timedelta(microseconds=1)]),
    ):
        namespace = {
            "__annotations__": {"k": dtype, "u": dtype, "v": int},
            "k": cb.field(key=True),
            "u": cb.field(unique=True),
            "Config": type("Config", (), {"name": f"keys {dtype}"[:40]}),
        }
        table = type("Keys", (cb.Table,), namespace)
        column = (
            pl.Series(values).str.to_datetime("%Y-%m-%d", time_zone="Asia/Tokyo")
            if isinstance(dtype, pl.Datetime)
            else pl.Series(values)
        )
        frame = pl.DataFrame({"k": column, "u": column, "v": [1, 2]}).with_columns(
            pl.col("k", "u").cast(dtype)
        )
        db.create(table)
        assert db.insert(table, frame).counts["inserted"] == 2
        assert db.upsert(table, frame.with_columns(v=pl.lit(1, dtype=pl.Int64))).counts == {
            "input": 2,
            "updated": 1,
            "unchanged": 1,
        }
        stolen = db.upsert(table, frame.head(1).with_columns(frame["u"].tail(1)), on_reject="keep")
        assert stolen.counts == {"input": 1, "rejected": 1}


class Pairs(cb.Table):
    """A unique key over a column that may be left out, and a reference with a default."""

    id: int = cb.field(key=True)
    x: str
    y: int = cb.field(default=1)
    parent: int | None = cb.field(default=99, references="pairs.id")

    class Config:
        name = "pairs"
        unique = ["x", "y"]


def test_what_is_left_out_is_judged_as_it_stands_in_the_table(db: cb.Database) -> None:
    db.create(Pairs)
    start = {"id": [1, 2, 99], "x": ["a", "b", "c"], "y": [1, 2, 1], "parent": [1, 1, 1]}
    db.insert(Pairs, pl.DataFrame(start))
    report = db.upsert(Pairs, pl.DataFrame({"id": [2, 3, 4], "x": ["a", "a", "d"]}), on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["updated", "rejected", "inserted"]
    assert db.read(Pairs, order_by="id").rows() == [
        (1, "a", 1, 1),
        (2, "a", 2, 1),
        (4, "d", 1, 99),
        (99, "c", 1, 1),
    ]
    with db.session() as session:
        session.execute("UPDATE pairs SET parent = NULL")
        session.execute("DELETE FROM pairs WHERE id = 99")
    assert db.upsert(Pairs, pl.DataFrame({"id": [2], "x": ["z"]})).counts["updated"] == 1


class Chain(cb.Table):
    """A unique value and a reference to the same table."""

    id: int = cb.field(key=True)
    code: int = cb.field(unique=True)
    boss: int = cb.field(nullable=True, references="chain.id")

    class Config:
        name = "chain"


def test_a_refusal_that_did_not_hold_condemns_nobody(db: cb.Database) -> None:
    db.create(Chain)
    frame = pl.DataFrame({"id": [10, 11, 12], "code": [7, 7, 8], "boss": [999, None, 11]})
    report = db.upsert(Chain, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["rejected", "inserted", "inserted"]


def test_nan_in_a_unique_column(server_db: cb.Database) -> None:
    class Scores(cb.Table):
        id: int = cb.field(key=True)
        score: float = cb.field(nullable=True, unique=True)

    server_db.create(Scores)
    frame = pl.DataFrame({"id": [1, 2, 3], "score": [float("nan"), float("nan"), None]})
    report = server_db.upsert(Scores, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected", "inserted"]


def test_lists_as_keys(db: cb.Database) -> None:
    class Routes(cb.Table):
        stops: pl.List(pl.String) = cb.field(key=True)
        name: str = cb.field(unique=True)

    db.create(Routes)
    frame = pl.DataFrame({"stops": [["a", "b"], ["a"], ["a", "b"]], "name": ["x", "x", "y"]})
    report = db.upsert(Routes, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["duplicate", "rejected", "inserted"]


def test_decimals_and_enums_sort_as_they_should(db: cb.Database) -> None:
    class Sizes(cb.Table):
        id: int = cb.field(key=True)
        price: pl.Decimal(8, 2)
        size: pl.Enum(["low", "mid {", "high"])

    db.create(Sizes)
    frame = pl.DataFrame(
        {"id": [1, 2, 3], "price": [9, 10, -3], "size": ["high", "low", "mid {"]}
    ).with_columns(
        pl.col("price").cast(pl.Decimal(8, 2)), pl.col("size").cast(pl.Enum(["low", "mid {", "high"]))
    )
    db.insert(Sizes, frame)
    assert db.read(Sizes, order_by="price")["id"].to_list() == [3, 1, 2]
    assert db.read(Sizes, order_by="-size")["id"].to_list() == [1, 3, 2]
