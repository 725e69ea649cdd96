"""What went in comes out: dtype for dtype, value for value; what cannot be held is refused up front."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from properties import examples

import crave_bulk as cb

UTC = dt.UTC
UUID_A, UUID_B = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
NESTED = pl.Struct(
    {"n": pl.Int64, "s": pl.String, "t": pl.Datetime("us", "UTC"), "l": pl.List(pl.Decimal(9, 2))}
)
MOMENT = dt.datetime(2024, 2, 29, 23, 59, 59, 999_999)

# dtype (and field options) → values at its edges; a null is added to each.
EDGES: dict[str, tuple[pl.DataType | type[pl.DataType], list[Any], dict[str, Any]]] = {
    "int8": (pl.Int8, [-128, 127], {}),
    "int16": (pl.Int16, [-(2**15), 2**15 - 1], {}),
    "int32": (pl.Int32, [-(2**31), 2**31 - 1], {}),
    "int64": (pl.Int64, [-(2**63), 2**63 - 1, 0], {}),
    "uint8": (pl.UInt8, [0, 255], {}),
    "uint16": (pl.UInt16, [0, 65_535], {}),
    "uint32": (pl.UInt32, [0, 2**32 - 1], {}),
    "uint64": (pl.UInt64, [0, 2**63 - 1], {}),
    "float32": (pl.Float32, [-3.4028234663852886e38, 1e-45, math.inf, -math.inf, 0.0], {}),
    "float64": (pl.Float64, [-1.7976931348623157e308, 5e-324, math.inf, 0.1 + 0.2, 1.0], {}),
    "boolean": (pl.Boolean, [True, False], {}),
    "text": (
        pl.String,
        ["", " ", "Crème brûlée 🍮", "'; DROP TABLE edges; --", '"', "\\N", "\t\n", "a" * 70_000],
        {},
    ),
    "binary": (pl.Binary, [b"", b"\x00\xff", b"abc"], {}),
    "date": (pl.Date, [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1969, 12, 31)], {}),
    "time": (pl.Time, [dt.time(0), dt.time(23, 59, 59, 999_999)], {}),
    "datetime_ms": (
        pl.Datetime("ms"),
        [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_000)],
        {},
    ),
    "datetime_us": (pl.Datetime("us"), [dt.datetime(1, 1, 1), dt.datetime.max, MOMENT], {}),
    "datetime_ns": (pl.Datetime("ns"), [dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1, 1, 1, 1, 1)], {}),
    "datetime_utc": (
        pl.Datetime("us", "UTC"),
        [dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime.max.replace(tzinfo=UTC)],
        {},
    ),
    "datetime_zone": (
        pl.Datetime("us", "America/New_York"),
        [
            MOMENT.replace(tzinfo=UTC),
            dt.datetime(2024, 11, 3, 5, 30, tzinfo=UTC),
            dt.datetime(2024, 11, 3, 6, 30, tzinfo=UTC),
        ],
        {},
    ),
    "duration_ms": (pl.Duration("ms"), [dt.timedelta(days=-400), dt.timedelta(milliseconds=1)], {}),
    "duration_us": (
        pl.Duration("us"),
        [dt.timedelta(days=36_500, microseconds=1), dt.timedelta(microseconds=-1)],
        {},
    ),
    "duration_ns": (pl.Duration("ns"), [dt.timedelta(days=400), dt.timedelta(microseconds=-3)], {}),
    "decimal": (
        pl.Decimal(10, 4),
        [Decimal("999999.9999"), Decimal("-999999.9999"), Decimal("0.0001"), Decimal(0)],
        {},
    ),
    "decimal_wide": (
        pl.Decimal(38, 10),
        [Decimal("9999999999999999999999999999.9999999999"), Decimal("-0.0000000001")],
        {},
    ),
    "enum": (pl.Enum(["b", "a", "ü 'x'"]), ["b", "a", "ü 'x'"], {}),
    "categorical": (pl.Categorical, ["x", "y", "x"], {}),
    "uuid": (pl.String, [UUID_A, UUID_B], {"uuid": True}),
    "json_text": (pl.String, ['{"b": 1, "a": [1.0, null]}', "[]", '"x"', "null", "5"], {"json": True}),
    "struct": (
        NESTED,
        [
            {"n": 2**62, "s": 'é"\\', "t": MOMENT.replace(tzinfo=UTC), "l": [Decimal("1.10"), None]},
            {"n": None, "s": None, "t": None, "l": None},
            {"n": 1, "s": "", "t": None, "l": []},
        ],
        {},
    ),
    "list_text": (pl.List(pl.String), [[], ["a", None, "", "'{}\",", "NULL"], [None]], {}),
    "list_int": (pl.List(pl.Int32), [[], [1, None, -(2**31)]], {}),
    "list_uint": (pl.List(pl.UInt8), [[255, 0]], {}),
    "list_float": (pl.List(pl.Float64), [[0.1 + 0.2, 1e300, None]], {}),
    "list_bool": (pl.List(pl.Boolean), [[True, None, False]], {}),
    "list_uuid": (pl.List(pl.String), [[UUID_A, UUID_B], [], [None]], {"uuid": True}),
    "list_date": (pl.List(pl.Date), [[dt.date(1, 1, 1), None]], {}),
    "list_datetime": (pl.List(pl.Datetime("us")), [[MOMENT, None]], {}),
    "list_zoned": (pl.List(pl.Datetime("us", "UTC")), [[MOMENT.replace(tzinfo=UTC), None]], {}),
    "list_time": (pl.List(pl.Time), [[dt.time(1, 2, 3, 4), None]], {}),
    "list_decimal": (pl.List(pl.Decimal(12, 3)), [[Decimal("-1.500"), None]], {}),
    "list_duration": (pl.List(pl.Duration("us")), [[dt.timedelta(days=3, microseconds=1), None]], {}),
    "list_binary": (pl.List(pl.Binary), [[b"\x00", None]], {}),
    "list_enum": (pl.List(pl.Enum(["a", "b"])), [["b", None]], {}),
    "list_struct": (pl.List(pl.Struct({"k": pl.Int64})), [[{"k": 1}, {"k": None}], []], {}),
    "list_list": (pl.List(pl.List(pl.Int64)), [[[1], [], None]], {}),
}


def table_of(dtype: Any, **options: Any) -> type[cb.Table]:
    """Declare a table with one column to test."""
    namespace = {
        "__annotations__": {"id": int, "value": dtype},
        "id": cb.field(key=True),
        "value": cb.field(nullable=True, **options),
        "Config": type("Config", (), {"name": "edges"}),
    }
    return type("Edges", (cb.Table,), namespace)


def frame_of(dtype: Any, values: list[Any]) -> pl.DataFrame:
    column = pl.Series("value", values, dtype=dtype if not isinstance(dtype, type) else dtype())
    return pl.DataFrame({"id": range(len(values))}).with_columns(column)


@pytest.mark.parametrize("name", EDGES)
def test_round_trip_of_every_dtype_with_its_extremes(db: cb.Database, name: str) -> None:
    dtype, values, options = EDGES[name]
    table, frame = table_of(dtype, **options), frame_of(dtype, [None, *values])
    db.create(table)
    assert db.insert(table, frame).counts == {"input": len(frame), "inserted": len(frame)}
    back = db.read(table, order_by="id")
    assert back.schema == frame.schema
    assert_frame_equal(back, frame)
    assert db.upsert(table, frame).counts == {"input": len(frame), "unchanged": len(frame)}
    moved = frame.with_columns(pl.col("value").shift(1))
    changed = int(frame["value"].ne_missing(moved["value"]).sum())
    assert db.upsert(table, moved).counts.get("updated", 0) == changed
    assert_frame_equal(db.read(table, order_by="id"), moved)


REFUSED: list[tuple[str, Any, list[Any], dict[str, Any], str, str]] = [
    # name, dtype, values (the last is refused), options, what the message says, on which databases
    ("uint64 above 2**63", pl.UInt64, [1, 2**63], {}, "9223372036854775808", "both"),
    ("time in nanoseconds", pl.Time, [1_000, 1], {}, "finer than a microsecond", "both"),
    ("datetime in nanoseconds", pl.Datetime("ns"), [1_000, 1], {}, "finer than a microsecond", "both"),
    ("duration in nanoseconds", pl.Duration("ns"), [1_000, 1], {}, "finer than a microsecond", "both"),
    ("date after 9999", pl.Date, [0, 2**31 - 1], {}, "years 1 to 9999", "both"),
    ("datetime before year 1", pl.Datetime("us"), [0, -(2**62)], {}, "years 1 to 9999", "both"),
    ("decimal too long", pl.Decimal(4, 2), [Decimal("1.25"), Decimal("100.00")], {}, "decimal(4, 2)", "both"),
    ("decimal too fine", pl.Decimal(4, 2), [Decimal("1.25"), Decimal("1.255")], {}, "decimal(4, 2)", "both"),
    ("NaN", pl.Float64, [1.0, math.nan], {}, "NaN", "sqlite"),
    ("NaN in a struct", pl.Struct({"x": pl.Float64}), [{"x": 1.0}, {"x": math.nan}], {}, "JSON", "both"),
    ("inf in a list of lists", pl.List(pl.List(pl.Float64)), [[[1.0]], [[math.inf]]], {}, "JSON", "both"),
    ("NUL in text", pl.String, ["ok", "a\0b"], {}, "NUL", "postgresql"),
    ("NUL in a list", pl.List(pl.String), [["ok"], ["a\0b"]], {}, "element", "postgresql"),
    ("NUL in a category", pl.Categorical, ["ok", "a\0b"], {}, "NUL", "postgresql"),
    ("UUID in capitals", pl.String, [UUID_A, UUID_B.upper()], {"uuid": True}, "lower case", "both"),
    ("UUID too short", pl.List(pl.String), [[UUID_A], [UUID_B[:-1]]], {"uuid": True}, "UUID", "both"),
    ("not JSON", pl.String, ["{}", "{a: 1}"], {"json": True}, "valid JSON", "both"),
]


def raw(dtype: Any, values: list[Any]) -> pl.Series:
    """Make a column also of values that Python's own types cannot write."""
    if isinstance(dtype, pl.Decimal):
        return pl.Series("value", values, dtype=pl.Decimal(20, 3))
    if all(isinstance(value, int) for value in values):
        return (
            pl.Series("value", values, dtype=pl.UInt64 if dtype == pl.UInt64 else pl.Int64)
            .cast(pl.Int32 if dtype == pl.Date else pl.Int64 if dtype != pl.UInt64 else pl.UInt64)
            .cast(dtype)
        )
    return pl.Series("value", values, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "values", "options", "says", "where"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_cannot_be_held_is_refused_with_column_row_and_value(
    db: cb.Database, dtype: Any, values: list[Any], options: dict[str, Any], says: str, where: str
) -> None:
    table = table_of(dtype, **options)
    frame = pl.DataFrame({"id": [0, 1]}).with_columns(raw(dtype, values))
    db.create(table)
    if where not in ("both", db.backend.name):
        db.insert(table, frame)
        assert_frame_equal(db.read(table, order_by="id"), frame)
        return
    with pytest.raises(cb.RejectedRows) as refused:
        db.insert(table, frame)
    message = str(refused.value)
    assert says in message
    assert "row 1" in message
    assert "value" in message
    assert refused.value.report.rejected["_row"].to_list() == [1]
    assert db.read(table).is_empty()
    kept = db.insert(table, frame, on_reject="keep")
    assert kept.counts == {"input": 2, "inserted": 1, "rejected": 1}
    assert db.read(table)["id"].to_list() == [0]


def test_nan_in_a_nullable_float_survives_on_postgresql(db: cb.Database) -> None:
    table = table_of(pl.Float32)
    frame = frame_of(pl.Float32, [math.nan, None, 1.5])
    db.create(table)
    if db.backend.name == "sqlite":
        with pytest.raises(cb.RejectedRows, match="NaN"):
            db.insert(table, frame)
    else:
        db.insert(table, frame)
        assert_frame_equal(db.read(table, order_by="id"), frame)


MIXED = {
    "whole": pl.Int64,
    "real": pl.Float64,
    "text": pl.String,
    "flag": pl.Boolean,
    "day": pl.Date,
    "moment": pl.Datetime("us", "Europe/Berlin"),
    "price": pl.Decimal(12, 3),
    "tags": pl.List(pl.String),
    "blob": pl.Binary,
}
NO_NUL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
VALUES = {
    "whole": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(allow_nan=False),
    "text": NO_NUL,
    "flag": st.booleans(),
    "day": st.dates(),
    "moment": st.datetimes(
        min_value=dt.datetime(1900, 1, 1), max_value=dt.datetime(2100, 1, 1), timezones=st.just(UTC)
    ),
    "price": st.decimals(-99_999, 99_999, places=3),
    "tags": st.lists(st.none() | NO_NUL, max_size=3),
    "blob": st.binary(max_size=6),
}


class Mixed(cb.Table):
    """One column of many kinds."""

    id: int = cb.field(key=True)
    whole: int = cb.field(nullable=True)
    real: float = cb.field(nullable=True)
    text: str = cb.field(nullable=True)
    flag: bool = cb.field(nullable=True)
    day: pl.Date = cb.field(nullable=True)
    moment: pl.Datetime("us", "Europe/Berlin") = cb.field(nullable=True)
    price: pl.Decimal(12, 3) = cb.field(nullable=True)
    tags: pl.List(pl.String) = cb.field(nullable=True)
    blob: pl.Binary = cb.field(nullable=True)


@pytest.fixture
def mixed(db: cb.Database) -> cb.Database:
    db.create(Mixed)
    return db


@examples(40)
@given(
    rows=st.lists(
        st.fixed_dictionaries({name: st.none() | kind for name, kind in VALUES.items()}), max_size=6
    )
)
def test_any_frame_round_trips(mixed: cb.Database, rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=MIXED).with_row_index("id").with_columns(pl.col("id").cast(pl.Int64))
    with mixed.session() as session:
        session.execute('DELETE FROM "Mixed"')
    mixed.insert(Mixed, frame)
    assert_frame_equal(mixed.read(Mixed, order_by="id"), frame)
    assert mixed.upsert(Mixed, frame).counts.get("unchanged", 0) == frame.height
