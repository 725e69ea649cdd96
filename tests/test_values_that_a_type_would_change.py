"""What does not come back equal is refused up front, by column: types that cut off or round and say nothing."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb

TYPES = (
    "CREATE TYPE pt AS (n numeric(4,1), s text)",
    "CREATE TYPE boxed AS (p pt, ps pt[])",
    "CREATE DOMAIN dpt AS pt",
)
CUT = [
    ('"char"', "abc"),
    ('"char"[]', ["abc"]),
    ("money", "1.005"),
    ("money[]", ["1.005"]),
    ("interval hour", "01:45:30"),
    ("interval second(0)", "1.6 sec"),
    ("timetz(0)", "10:00:00.75+00"),
    ("timetz(0)[]", ["10:00:00.75+00"]),
    ("timetz", "10:00:00.1234567+00"),
    ("timetz[]", ["10:00:00.1234567+00"]),
    ("tsrange", "[2024-05-01 10:00:00.1234567,)"),
    ("pt", "(1.25,x)"),
    ("pt[]", ["(1.25,x)"]),
    ("dpt", "(1.25,x)"),
    ("boxed", '("(1.25,x)",)'),
    ("oid", "-1"),
    ("oid[]", ["-1"]),
    ("xid", "-1"),
    ("varchar(3)[]", ["abc  "]),
    ("bit(3)", "1011"),
    ("bit(3)[]", ["1011"]),
    ("point", "(1.00000000000000000001,2)"),
]
KEPT = [
    ('"char"', "a"),
    ('"char"[]', ["a", "b"]),
    ("interval hour", "01:00:00"),
    ("timetz(0)", "10:00:00+00"),
    ("timetz[]", ["10:00:00.123456+00"]),
    ("tsrange", '["2024-05-01 10:00:00",)'),
    ("pt", "(1.2,x)"),
    ("pt", '(1.2,"x y")'),
    ("pt[]", ["(1.2,x)"]),
    ("boxed", '("(1.2,x)",)'),
    ("oid", "4294967295"),
    ("oid[]", ["1", "2"]),
    ("varchar(3)[]", ["abc"]),
    ("bit(3)", "101"),
    ("point", "(1.5,2)"),
]


def make(db: cb.Database, kind: str) -> None:
    with db.session() as session:
        for statement in (*TYPES, f"CREATE TABLE t (id bigint PRIMARY KEY, v {kind})"):
            session.execute(statement)


@pytest.mark.parametrize(("kind", "value"), CUT, ids=lambda x: str(x))
def test_what_a_type_would_change_is_a_reject(server_db: cb.Database, kind: str, value: Any) -> None:
    make(server_db, kind)
    frame = pl.DataFrame({"id": [1], "v": [value]})
    for verb in (server_db.insert, server_db.upsert):
        report = verb("t", frame, on_reject="keep")
        assert report.counts == {"input": 1, "rejected": 1}
        assert report.failures.select("stage", "rule", "column").rows() == [("validate", "exact", "v")]
    server_db.insert("t", pl.DataFrame({"id": [1]}))
    with pytest.raises(cb.ContractError, match="stored as another value in column 'v'"):
        server_db.update_where("t", {"v": value}, {"id": 1})
    assert server_db.read("t")["v"].to_list() == [None]


@pytest.mark.parametrize(("kind", "value"), KEPT, ids=lambda x: str(x))
def test_what_a_type_keeps_comes_back(server_db: cb.Database, kind: str, value: Any) -> None:
    make(server_db, kind)
    frame = pl.DataFrame({"id": [1], "v": [value]})
    server_db.insert("t", frame)
    assert server_db.read("t").equals(frame)
    assert server_db.upsert("t", frame).counts == {"input": 1, "unchanged": 1}


MOMENT = dt.datetime(2024, 5, 1, 13, 30, 0, 250_000)
NARROWER: list[
    tuple[Any, str, Any, Any]
] = [  # declared, on the server, a value that is changed, and one that is not
    (pl.Decimal(8, 4), "numeric(8,1)", Decimal("1.2345"), Decimal("1.2000")),
    (pl.Datetime("us"), "date", MOMENT, dt.datetime(2024, 5, 1)),
    (pl.Datetime("us"), "timestamp(0)", MOMENT, MOMENT.replace(microsecond=0)),
    (pl.Time, "time(0)", dt.time(10, 0, 0, 5), dt.time(10)),
    (float, "integer", 1.6, 2.0),
    (float, "real", 0.1, 0.5),
    (pl.Float32, "integer", 1.5, 2.0),
    (str, "name", "x" * 70, "x"),
    (pl.Duration("us"), "interval hour", dt.timedelta(hours=1, minutes=1), dt.timedelta(hours=1)),
    (pl.List(pl.Float64), "real[]", [0.1], [0.5]),
    (pl.List(pl.String), "varchar(2)[]", ["abc"], ["ab"]),
]
NARROWER_ON_SQLITE: list[tuple[Any, str, Any, Any]] = [
    (pl.Decimal(8, 4), "NUMERIC", Decimal("1.2345"), None),
    (str, "INTEGER", "007", "x"),
    (str, "NUMERIC(8,1)", "1.50", "x"),
    (int, "TEXT", 5, None),
    (float, "VARCHAR(9)", 1.5, None),
    (int, "REAL", 2**60, None),
    (float, "INTEGER", 1e17, 1.5),
    (pl.List(pl.Int64), "TEXT", None, [1]),
]


def declared(dtype: Any) -> type[cb.Table]:
    body = {
        "__module__": __name__,
        "__annotations__": {"id": int, "v": dtype},
        "id": cb.field(key=True),
        "v": cb.field(nullable=True),
        "Config": type("Config", (), {"name": "t"}),
    }
    return type("T", (cb.Table,), body)


def check_narrower(db: cb.Database, dtype: Any, kind: str, changed: Any, kept: Any) -> None:
    with db.session() as session:
        session.execute(f"CREATE TABLE t (id bigint PRIMARY KEY, v {kind})")
    table = declared(dtype)
    schema = {"id": pl.Int64, "v": {float: pl.Float64, str: pl.String, int: pl.Int64}.get(dtype, dtype)}
    frame = pl.DataFrame({"id": [1, 2, 3], "v": [changed, kept, None]}, schema=schema)
    for verb in (db.insert, db.upsert):
        report = verb(table, frame, on_reject="keep")
        refused = [] if changed is None else [0]
        assert report.rejected["_row"].to_list() == refused
        assert report.failures.select("stage", "column").rows() == [("validate", "v")] * len(refused)
        assert db.read(table, order_by="id").equals(frame.slice(len(refused)))
        db.delete(table, frame.select("id"))
    if changed is not None:
        db.insert(table, frame.tail(1))
        with pytest.raises(cb.ContractError, match="stored as another value in column 'v'"):
            db.update_where(table, {"v": changed}, {"id": 3})


@pytest.mark.parametrize(("dtype", "kind", "changed", "kept"), NARROWER, ids=lambda x: str(x))
def test_a_declared_table_over_a_narrower_one(
    server_db: cb.Database, dtype: Any, kind: str, changed: Any, kept: Any
) -> None:
    check_narrower(server_db, dtype, kind, changed, kept)


@pytest.mark.parametrize(("dtype", "kind", "changed", "kept"), NARROWER_ON_SQLITE, ids=lambda x: str(x))
def test_a_declared_table_over_one_of_another_affinity(
    dtype: Any, kind: str, changed: Any, kept: Any
) -> None:
    with cb.connect() as db:
        check_narrower(db, dtype, kind, changed, kept)


def test_a_value_that_the_narrower_type_cannot_have_is_a_reject(server_db: cb.Database) -> None:
    with server_db.session() as session:
        session.execute("CREATE TABLE t (id bigint PRIMARY KEY, v integer)")
    frame = pl.DataFrame({"id": [1, 2, 3], "v": [1.0, 1e12, float("nan")]})
    report = server_db.insert(declared(float), frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected", "rejected"]
