"""A condition means the same as a Polars filter in each dtype, on every database."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from asking import ids, in_sql

import crave_bulk as cb

UTC = dt.UTC
A, B, C = (f"{c * 8}-{c * 4}-{c * 4}-{c * 4}-{c * 12}" for c in "19f")
ENUM = pl.Enum(["low", "mid {'", "high"])

# dtype, three values in their order, field options
DTYPES: dict[str, tuple[Any, list[Any], dict[str, Any]]] = {
    "int8": (pl.Int8, [-128, 0, 127], {}),
    "int16": (pl.Int16, [-(2**15), 0, 2**15 - 1], {}),
    "int32": (pl.Int32, [-(2**31), 0, 2**31 - 1], {}),
    "int64": (pl.Int64, [-(2**63), 0, 2**63 - 1], {}),
    "uint8": (pl.UInt8, [0, 1, 255], {}),
    "uint32": (pl.UInt32, [0, 1, 2**32 - 1], {}),
    "uint64": (pl.UInt64, [0, 1, 2**63 - 1], {}),
    "float32": (pl.Float32, [-math.inf, 0.1, 3.5e37], {}),
    "float64": (pl.Float64, [-1.7976931348623157e308, 0.1 + 0.2, math.inf], {}),
    "boolean": (pl.Boolean, [False, False, True], {}),
    "text": (pl.String, ["Z", "a'; --", "é\\%"], {}),
    "binary": (pl.Binary, [b"", b"\x00\xff", b"abc"], {}),
    "date": (pl.Date, [dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(9999, 12, 31)], {}),
    "time": (pl.Time, [dt.time(0), dt.time(1, 2, 3), dt.time(23, 59, 59, 999_999)], {}),
    "datetime_ms": (
        pl.Datetime("ms"),
        [dt.datetime(1, 1, 1), dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 0, 0, 0, 1000)],
        {},
    ),
    "datetime_us": (
        pl.Datetime("us"),
        [dt.datetime(1, 1, 1), dt.datetime(2024, 1, 1, 1, 1, 1, 1), dt.datetime.max],
        {},
    ),
    "datetime_ns": (
        pl.Datetime("ns"),
        [dt.datetime(1700, 1, 1), dt.datetime(2024, 1, 1), dt.datetime(2200, 1, 1, 1, 1, 1, 1)],
        {},
    ),
    "datetime_utc": (
        pl.Datetime("us", "UTC"),
        [
            dt.datetime(1, 1, 1, tzinfo=UTC),
            dt.datetime(2024, 1, 1, tzinfo=UTC),
            dt.datetime.max.replace(tzinfo=UTC),
        ],
        {},
    ),
    "datetime_zone": (
        pl.Datetime("us", "America/New_York"),
        [
            dt.datetime(2024, 11, 3, 5, 30, tzinfo=UTC),
            dt.datetime(2024, 11, 3, 6, 30, tzinfo=UTC),
            dt.datetime(2025, 1, 1, tzinfo=UTC),
        ],
        {},
    ),
    "duration_ms": (pl.Duration("ms"), [dt.timedelta(days=-400), dt.timedelta(0), dt.timedelta(days=40)], {}),
    "duration_us": (
        pl.Duration("us"),
        [dt.timedelta(microseconds=-1), dt.timedelta(days=29), dt.timedelta(days=36_500, microseconds=1)],
        {},
    ),
    "duration_ns": (
        pl.Duration("ns"),
        [dt.timedelta(microseconds=-3), dt.timedelta(1), dt.timedelta(400)],
        {},
    ),
    "decimal": (pl.Decimal(10, 2), [Decimal("-9.50"), Decimal("9.50"), Decimal("10.00")], {}),
    "decimal_wide": (
        pl.Decimal(38, 10),
        [
            Decimal("-9999999999999999999999999999.9999999999"),
            Decimal("1234567890123456789012345678.0000000001"),
            Decimal("1234567890123456789012345678.0000000002"),
        ],
        {},
    ),
    "decimal_below": (
        pl.Decimal(38, 2),
        [Decimal("-12345678901234567890.02"), Decimal("-12345678901234567890.01"), Decimal("-1.00")],
        {},
    ),
    "enum": (ENUM, ["low", "mid {'", "high"], {}),
    "categorical": (pl.Categorical, ["B", "a", "c"], {}),
    "uuid": (pl.String, [A, B, C], {"uuid": True}),
    "json_text": (pl.String, ['"x"', "[1.0, null]", '{"b": 1}'], {"json": True}),
    "struct": (
        pl.Struct({"n": pl.Int64, "t": pl.Datetime("us", "UTC"), "l": pl.List(pl.Decimal(9, 2))}),
        [
            {"n": 1, "t": dt.datetime(2024, 1, 1, tzinfo=UTC), "l": [Decimal("1.10"), None]},
            {"n": None, "t": None, "l": None},
            {"n": 2, "t": None, "l": []},
        ],
        {},
    ),
    "list_text": (pl.List(pl.String), [[], ["a", None, "'{}\","], [None]], {}),
    "list_int": (pl.List(pl.Int32), [[], [1, None], [2]], {}),
    "list_bool": (pl.List(pl.Boolean), [[], [True, None], [False]], {}),
    "list_uuid": (pl.List(pl.String), [[A, B], [], [None]], {"uuid": True}),
    "list_zoned": (
        pl.List(pl.Datetime("us", "UTC")),
        [[dt.datetime(2024, 1, 1, tzinfo=UTC), None], [], [None]],
        {},
    ),
    "list_time": (pl.List(pl.Time), [[dt.time(1, 2, 3, 4), None], [], [None]], {}),
    "list_decimal": (pl.List(pl.Decimal(12, 3)), [[Decimal("-1.500"), None], [], [None]], {}),
    "list_duration": (pl.List(pl.Duration("us")), [[dt.timedelta(3), None], [], [None]], {}),
    "list_binary": (pl.List(pl.Binary), [[b"\x00", None], [], [None]], {}),
    "list_struct": (pl.List(pl.Struct({"k": pl.Int64})), [[{"k": 1}], [], [{"k": None}]], {}),
}
ORDERED = [n for n in DTYPES if not n.startswith(("list", "struct", "json"))]
SAYS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "ne": "<>"}


def table_of(dtype: Any, called: str = "things", **options: Any) -> type[cb.Table]:
    namespace = {
        "__annotations__": {"id": int, "x": dtype},
        "id": cb.field(key=True),
        "x": cb.field(nullable=True, **options),
        "Config": type("Config", (), {"name": called}),
    }
    return type("Things", (cb.Table,), namespace)


def filled(db: cb.Database, name: str) -> type[cb.Table]:
    """Write the three values of a dtype as rows 0 to 2, and a null as row 3; once for each database."""
    dtype, values, options = DTYPES[name]
    return kept(db, name, dtype, [*values, None], options)


def kept(
    db: cb.Database, name: str, dtype: Any, values: list[Any], options: dict[str, Any] | None = None
) -> type[cb.Table]:
    """Fill a table of a name of its own, unless it is there."""
    table = table_of(dtype, f"things_{name}", **(options or {}))
    db.create(table)
    column = (
        pl.Series("x", values).cast(dtype)
        if name.startswith("texts")
        else pl.Series("x", values, dtype=dtype)
    )
    db.upsert(table, pl.DataFrame({"id": range(len(values))}).with_columns(column))
    return table


def expected(name: str, lookup: str, number: int) -> list[int]:
    """Ask Polars; a comparison with NULL is not true."""
    dtype, values, _ = DTYPES[name]
    frame = pl.DataFrame({"id": range(4)}).with_columns(pl.Series("x", [*values, None], dtype=dtype))
    x, value = pl.col("x"), pl.lit(frame["x"].slice(number, 1)).first()
    test = {
        "lt": x < value,
        "lte": x <= value,
        "gt": x > value,
        "gte": x >= value,
        "ne": x != value,
        "eq": x == value,
    }
    return frame.filter(test[lookup])["id"].to_list()


@pytest.mark.thorough_on_postgres
@pytest.mark.parametrize("name", DTYPES)
def test_equality_of_each_dtype(lasting_db: cb.Database, name: str) -> None:
    table, values = filled(lasting_db, name), DTYPES[name][1]
    for number, value in enumerate(values):
        same = [n for n, other in enumerate(values) if other == value]
        others = [n for n in range(3) if n not in same]
        assert ids(lasting_db, table, {"x": value}) == same
        assert ids(lasting_db, table, {"x__ne": value}) == others
        assert ids(lasting_db, table, {"x__in": [value]}) == same
        assert ids(lasting_db, table, {"x__in": [value, None]}) == [*same, 3]
        assert ids(lasting_db, table, {"x__notin": [value]}) == others
        assert ids(lasting_db, table, {"x__notin": [value, None]}) == others
        if (text := in_sql(value)) is not None and name != "json_text":
            assert ids(lasting_db, table, f"x = {text}") == expected(name, "eq", number)
            assert ids(lasting_db, table, f"x IN ({text})") == same
            assert ids(lasting_db, table, f"x NOT IN ({text}, {text})") == others
            assert ids(lasting_db, table, f"x IS DISTINCT FROM {text}") == [*others, 3]
            assert ids(lasting_db, table, f"{text} IS NOT DISTINCT FROM x") == same
    assert ids(lasting_db, table, {"x__in": values}) == [0, 1, 2]
    assert ids(lasting_db, table, {"x__in": pl.Series(values[:0], dtype=pl.Int64)}) == []
    assert ids(lasting_db, table, {"x__notin": []}) == [0, 1, 2, 3]
    assert (
        ids(lasting_db, table, {"x": None})
        == ids(lasting_db, table, {"x__isnull": True})
        == ids(lasting_db, table, "x IS NULL")
        == [3]
    )
    assert (
        ids(lasting_db, table, {"x__ne": None}) == ids(lasting_db, table, {"x__isnull": False}) == [0, 1, 2]
    )
    assert ids(lasting_db, table, "NOT x IS NULL") == ids(lasting_db, table, "x IS NOT NULL") == [0, 1, 2]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ORDERED)
def test_order_of_each_dtype(lasting_db: cb.Database, name: str) -> None:
    table, values = filled(lasting_db, name), DTYPES[name][1]
    for number, value in enumerate(values):
        for lookup, sign in SAYS.items():
            assert ids(lasting_db, table, {f"x__{lookup}": value}) == expected(name, lookup, number), (
                lookup,
                value,
            )
            if (text := in_sql(value)) is not None:
                assert ids(lasting_db, table, f"x {sign} {text}") == expected(name, lookup, number), (
                    sign,
                    text,
                )
        both = set(expected(name, "gte", 1)) & set(expected(name, "lte", number))
        assert ids(lasting_db, table, {"x__between": (values[1], value)}) == sorted(both)
        if (text := in_sql(value)) is not None and (low := in_sql(values[1])) is not None:
            assert ids(lasting_db, table, f"x BETWEEN {low} AND {text}") == sorted(both)


@pytest.mark.parametrize("name", [n for n in DTYPES if n not in ORDERED])
def test_what_has_no_order_says_so(lasting_db: cb.Database, name: str) -> None:
    table = filled(lasting_db, name)
    with pytest.raises(cb.ContractError, match="has no order"):
        lasting_db.read(table, where={"x__lt": DTYPES[name][1][0]})


TEXTS = ["", "abc", "ABC", "a%c", "a_c", "a*c", "[a]?", "back\\slash", "é🍮", "it's", None]


@pytest.mark.parametrize("piece", ["", "a", "C", "%", "_", "*", "[a]", "\\", "🍮", "'", "abcd", "abc"])
@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum([t for t in TEXTS if t is not None])])
def test_text_lookups_are_literal_and_mind_the_case(lasting_db: cb.Database, piece: str, dtype: Any) -> None:
    table = kept(lasting_db, f"texts_{type(dtype).__name__}{getattr(dtype, '__name__', '')}", dtype, TEXTS)
    frame = pl.DataFrame({"id": range(len(TEXTS)), "x": TEXTS})
    x = pl.col("x").str
    for lookup, test in {
        "contains": x.contains(piece, literal=True),
        "startswith": x.starts_with(piece),
        "endswith": x.ends_with(piece),
    }.items():
        assert ids(lasting_db, table, {f"x__{lookup}": piece}) == frame.filter(test)["id"].to_list()


@pytest.mark.parametrize(
    ("pattern", "fold", "finds"),
    [
        ("a%", False, ["abc", "a%c", "a_c", "a*c"]),
        ("A%", True, ["abc", "ABC", "a%c", "a_c", "a*c"]),
        ("a_c", False, ["abc", "a%c", "a_c", "a*c"]),
        (r"a\_c", False, ["a_c"]),
        (r"a\%C", True, ["a%c"]),
        ("a*c", False, ["a*c"]),
        ("[a]?", False, ["[a]?"]),
        ("[A]?", True, ["[a]?"]),
        (r"back\\%", False, [r"back\slash"]),
        ("_🍮", False, ["é🍮"]),
        ("É🍮", True, []),
        ("", False, [""]),
        ("%", True, [t for t in TEXTS if t is not None]),
    ],
)
def test_like_is_the_same_everywhere(
    lasting_db: cb.Database, pattern: str, fold: bool, finds: list[str]
) -> None:
    table = kept(lasting_db, "texts", pl.String, TEXTS)
    word = "ILIKE" if fold else "LIKE"
    assert ids(lasting_db, table, f"x {word} '{pattern}'") == [TEXTS.index(t) for t in finds]
    rest = [n for n, t in enumerate(TEXTS) if t is not None and t not in finds]
    assert ids(lasting_db, table, f"x NOT {word} '{pattern}'") == rest


def test_a_nul_in_text(db: cb.Database) -> None:
    table = table_of(pl.String)
    db.create(table)
    if db.backend.name == "postgresql":
        with pytest.raises(cb.ContractError, match="NUL"):
            db.read(table, where={"x": "a\0b"})
        with pytest.raises(cb.ContractError, match="NUL"):
            db.read(table, where={"x__contains": "\0"})
        return
    db.insert(table, pl.DataFrame({"id": [0, 1], "x": ["a\0b", "ab"]}))
    for where in ({"x": "a\0b"}, {"x__contains": "\0b"}, {"x__endswith": "\0b"}, {"x__startswith": "a\0"}):
        assert ids(db, table, where) == [0]
    assert ids(db, table, {"x__in": ["a\0b"]}) == [0]


@pytest.mark.parametrize(
    ("name", "value", "finds"),
    [
        ("list_text", "a", [1]),
        ("list_text", "'{}\",", [1]),
        ("list_int", 2, [2]),
        ("list_bool", False, [2]),
        ("list_uuid", B, [0]),
    ],
)
def test_a_list_contains_an_element(lasting_db: cb.Database, name: str, value: Any, finds: list[int]) -> None:
    assert ids(lasting_db, filled(lasting_db, name), {"x__contains": value}) == finds


def test_a_list_of_what_cannot_be_looked_for_says_so(lasting_db: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match="filter the frame"):
        lasting_db.read(filled(lasting_db, "list_time"), where={"x__contains": dt.time(1)})


def test_nan_is_a_value_or_refused(db: cb.Database) -> None:
    table = table_of(pl.Float64)
    db.create(table)
    db.insert(table, pl.DataFrame({"id": [1], "x": [1.0]}))
    if db.backend.name == "sqlite":
        with pytest.raises(cb.ContractError, match="NaN"):
            db.read(table, where={"x": math.nan})
    else:
        assert ids(db, table, {"x": math.nan}) == []
