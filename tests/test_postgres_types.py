"""PostgreSQL's own types, in tables that other programs made."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from reflecting import (
    MOMENT,
    contract,
    dtypes,
    filled_in,
    longest,
    made_by,
    run,
    unchanged,
    write,
)

import crave_bulk as cb
from crave_bulk.table import TableName


@pytest.fixture
def types(server_db: cb.Database) -> cb.Database:
    made_by(server_db, "types")
    return server_db


def test_types_of_postgresql(types: cb.Database) -> None:
    found = contract(types, "t")
    assert dtypes(found) == {
        "id": pl.Int64(),
        "s": pl.Int32(),
        "small": pl.Int16(),
        "re": pl.Float32(),
        "dp": pl.Float64(),
        "n2": pl.Decimal(38, 18),
        "n3": pl.Decimal(38, 18),
        "n5": pl.Decimal(4, 4),
        "d": pl.Date(),
        "ti": pl.Time(),
        "ts": pl.Datetime("us"),
        "tz": pl.Datetime("us", "UTC"),
        "iv": pl.Duration("us"),
        "by": pl.Binary(),
        "m": pl.Enum(["sad", "ok", "happy"]),
        "om": pl.Enum(["it's {}"]),
        **dict.fromkeys(["v", "c", "nm", "u", "j", "jb", "e", "inet", "b3", "r"], pl.String()),
        **dict.fromkeys(["ea", "va", "ua", "jba", "ia"], pl.List(pl.String)),
        "ma": pl.List(pl.Enum(["sad", "ok", "happy"])),
        "na": pl.List(pl.Decimal(6, 2)),
        "ta": pl.List(pl.Time),
        "tza": pl.List(pl.Datetime("us", "UTC")),
        "ba": pl.List(pl.Binary),
        "boa": pl.List(pl.Boolean),
        "g": pl.Int32(),
    }
    assert filled_in(found) == ["id", "s", "u", "jb", "ts", "m", "e"]
    assert [c.name for c in found.columns if c.identity_always] == ["id"]
    assert found.column("id").default_sql == "pg_catalog.nextval('public.t_id_seq'::pg_catalog.regclass)"
    assert found.column("e").sql_type == "character varying(50)"
    assert not found.column("e").nullable
    assert longest(found, "e") == ["at most 50 characters"]
    fallible = {name for name, codec in types.backend.codecs(found).items() if codec.fallible}
    assert fallible == {"j", "jb", "jba", "ia", "inet", "b3", "r"}


def test_values_of_postgresql_types_come_back(types: cb.Database) -> None:
    key = "00000000-0000-7000-8000-000000000000"
    values: dict[str, Any] = {
        "s": 1,
        "small": -3,
        "re": 1.5,
        "dp": 0.1,
        "n2": "1.25",
        "n3": "2.5",
        "n5": "0.0012",
        "v": "é" * 5,
        "c": "ab",
        "nm": "name",
        "u": key,
        "j": '{"a":  1}',
        "jb": '{"a": 1}',
        "d": MOMENT.date(),
        "ti": MOMENT.time(),
        "ts": MOMENT,
        "tz": MOMENT.replace(tzinfo=dt.UTC),
        "iv": dt.timedelta(days=-3, microseconds=1),
        "by": b"\x00\xff",
        "m": "happy",
        "om": "it's {}",
        "e": "q@r",
        "ea": ["a@b"],
        "va": ["x", "", None],
        "ma": ["sad", None],
        "na": ["1.50", None],
        "ua": [key],
        "ta": [MOMENT.time()],
        "tza": [MOMENT.replace(tzinfo=dt.UTC)],
        "jba": ['{"a": 1}'],
        "ba": [b"\x00"],
        "boa": [True, None],
        "ia": ["10.0.0.0/8"],
        "inet": "10.0.0.1",
        "b3": "101",
        "r": "[1,3)",
    }
    frame = pl.DataFrame({name: [value, None] for name, value in values.items()})
    frame = frame.with_columns(e=pl.lit("q@r"), s=pl.int_range(2))
    assert write(types, "t", frame).is_empty()
    read = types.read("t", order_by="id")
    assert read.schema == dtypes(contract(types, "t"))
    decimals = {
        "n2": Decimal("1.25"),
        "n3": Decimal("2.5"),
        "n5": Decimal("0.0012"),
        "na": [Decimal("1.50"), None],
    }
    expected = values | decimals | {"id": 1, "g": 2, "s": 0}
    assert {k: v for k, v in read.row(0, named=True).items() if expected[k] != v} == {}
    assert [k for k, v in read.row(1, named=True).items() if v is not None] == ["id", "s", "e", "g"]
    assert unchanged(types, "t", read, "id")
    assert unchanged(types, "t", read.with_columns(jb=pl.lit('{ "a":1 }'))[:1], "id")


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("v", "123456", "at most 5 characters"),
        ("c", "ab ", "ends in a blank"),
        ("nm", "é" * 32, "longer than 63 bytes"),
        ("m", "glad", "must be one of sad, ok, happy"),
        ("ma", ["sad", "glad"], "without a change"),
        ("na", ["1.50", "1.505"], "without a change"),
        ("ua", ["x"], "must be a UUID"),
        ("ts", dt.datetime(2024, 5, 1, 0, 0, 0, 1), "finer than the 3 digits of a second"),
        ("n5", Decimal("0.00001"), "without a change"),
        ("n2", Decimal(10) ** 21, "fit decimal|without a change"),
        ("small", 40_000, "without a change"),
        ("dp", "x", "without a change"),
        ("u", "{00000000-0000-7000-8000-000000000000}", "must be a UUID"),
        ("jb", "{", "must be valid JSON"),
        ("inet", "a\0b", "holds a NUL"),
    ],
)
def test_what_a_type_does_not_keep_is_refused(types: cb.Database, column: str, value: Any, why: str) -> None:
    refused = write(types, "t", pl.DataFrame({column: [value], "e": ["q@r"], "s": [1], "id": [1]}))
    assert refused.select("row", "stage", "column").rows() == [(0, "validate", column)]
    assert pl.Series([refused["message"].item()]).str.contains(why).all(), refused["message"].item()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("d = 'infinity'", "infinity is no moment"),
        ("ts = '-infinity'", "infinity is no moment"),
        ("iv = '1 mon'", "1 mon has months"),
        ("n2 = 'NaN'", "NaN does not fit"),
        ("n2 = 1e-19", "does not fit"),
        ("ta = '{{12:00}}'", "more than one dimension"),
        ("boa = '{{t}}'", "more than one dimension"),
    ],
)
def test_what_a_frame_cannot_hold_is_an_error(types: cb.Database, change: str, why: str) -> None:
    run(types, "INSERT INTO t DEFAULT VALUES", f"UPDATE t SET {change}")
    with pytest.raises(cb.Unreadable, match=rf"of a frame cannot, in the row with id = 1: .*{why}"):
        types.read("t")


def test_rounding_to_hundreds_is_refused(server_db: cb.Database) -> None:
    run(server_db, "CREATE TABLE t (id int PRIMARY KEY, n numeric(5, -2))")
    assert write(server_db, "t", pl.DataFrame({"id": [1], "n": [700]})).is_empty()
    assert server_db.read("t").row(0) == (1, 700)
    assert (
        "no multiple of 100" in write(server_db, "t", pl.DataFrame({"id": [1], "n": [750]}))["message"].item()
    )


def test_kinds_of_tables_of_postgresql(server_db: cb.Database) -> None:
    run(
        server_db,
        "CREATE TABLE parted (a int PRIMARY KEY, b int) PARTITION BY RANGE (a)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (100)",
        "CREATE TABLE child (a int PRIMARY KEY REFERENCES parted)",
        "CREATE MATERIALIZED VIEW sums AS SELECT a, b FROM parted",
        "CREATE TABLE hosts (address inet PRIMARY KEY)",
        "CREATE TABLE later (a int PRIMARY KEY DEFERRABLE, b int NOT NULL UNIQUE)",
        "CREATE TABLE latest (a int PRIMARY KEY DEFERRABLE)",
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id int PRIMARY KEY, a int REFERENCES child, b int REFERENCES sales.orders)",
    )
    assert contract(server_db, "parted").key == contract(server_db, "parted_1").key == ("a",)
    assert list(map(str, contract(server_db, "child").references)) == ["a -> parted.a"]
    assert "is a materialized view" in (contract(server_db, "sums").read_only or "")
    assert "equal and yet written differently" in (contract(server_db, "hosts").read_only or "")
    assert contract(server_db, "later").key == ("b",)
    assert "deferrable" in (contract(server_db, "latest").read_only or "")
    assert [r.table for r in contract(server_db, "sales.orders").references] == [
        TableName("child", "public"),
        TableName("orders", "sales"),
    ]
    with pytest.raises(cb.errors.TableNotFound, match="did you mean 'sales.orders'"):
        contract(server_db, "sales.order")


@pytest.mark.parametrize(
    ("sql_type", "bad", "good"),
    [
        ('"char"', "abc", "a"),
        ("money", "1.005", "-$1,000.50"),
        ("interval hour", "01:45:30", "03:00:00"),
        ("timetz(0)", "10:00:00.75+00", "10:00:01+00"),
        ("oid", "-1", "5"),
        ("bit(3)", "1011", "101"),
        ("varchar(3)[]", ["abc  "], ["abc", None]),
        ("char(2)[]", ["abc"], ["ab"]),
    ],
)
def test_a_value_that_a_type_would_cut_off_or_round_is_refused(
    server_db: cb.Database, sql_type: str, bad: Any, good: Any
) -> None:
    run(server_db, f"CREATE TABLE t (id int PRIMARY KEY, v {sql_type})")
    frame = pl.DataFrame({"id": [1, 2, 3], "v": [bad, good, None]})
    report = server_db.insert("t", frame, on_reject="keep")
    assert report.failures.select("row", "stage", "rule", "column").rows() == [(0, "validate", "exact", "v")]
    with server_db.session() as session:
        lost = session.fetch("SELECT v::text AS v FROM t ORDER BY id")["v"].to_list()
    assert lost == ["{abc,NULL}" if good == ["abc", None] else "{ab}" if good == ["ab"] else good, None]
    with pytest.raises(cb.ContractError, match="would be stored as another value in column 'v' of table t"):
        server_db.update_where("t", {"v": bad}, where={"id": 3})
    assert server_db.update_where("t", {"v": good}, where={"id": 3}).counts["updated"] == 1
