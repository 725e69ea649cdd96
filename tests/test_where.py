"""A condition means the same as a Polars filter, in each dtype, as a mapping and as SQL, on every database."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


def ids(db: cb.Database, table: type[cb.Table], where: Any, **options: Any) -> list[int]:
    return db.read(table, where=where, columns=["id"], order_by="id", **options)["id"].to_list()


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


def in_sql(value: Any) -> str | None:
    """Write a value as SQL, where it can be written."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | Decimal) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"'{value.isoformat()}'" if isinstance(value, dt.date | dt.time) else None


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


class Staff(cb.Table):
    """People, with names that SQL makes hard."""

    id: int = cb.field(key=True)
    dept: str
    salary: pl.Decimal(10, 2) = cb.field(nullable=True)
    age: pl.Int16
    rate: float
    active: bool = cb.field(nullable=True)
    hired: pl.Datetime("us", "UTC")
    a__b: str
    Name: str = cb.field(alias="Full Name")

    class Config:
        name = "staff"


STAFF = pl.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "dept": ["eng", "Eng", " ops ", ""],
        "salary": [Decimal("50.00"), Decimal("9.50"), None, Decimal("100.25")],
        "age": [30, 41, 0, -7],
        "rate": [1.5, -2.0, 0.0, 10.0],
        "active": [True, False, None, True],
        "hired": [dt.datetime(2024, m, 1, 12, tzinfo=UTC) for m in (1, 5, 6, 12)],
        "a__b": ["p", "q", "r", "s"],
        "Full Name": ["Ann", "Bob", "Cé", "Dan"],
    },
    schema_overrides={"salary": pl.Decimal(10, 2), "age": pl.Int16},
)
CONDITIONS: list[tuple[str, list[int]]] = [
    ("true", [1, 2, 3, 4]),
    ("false", []),
    ("TRUE AND id > 2", [3, 4]),
    ("active", [1, 4]),
    ("NOT active", [2]),
    ("active IS TRUE", [1, 4]),
    ("active IS NOT TRUE", [2, 3]),
    ("active = false", [2]),
    ("(id > 1) = active", [4]),
    ("dept = 'eng' OR dept = 'Eng'", [1, 2]),
    ("lower(dept) = 'eng' AND salary < 10", [2]),
    ("upper(trim(dept)) = 'OPS'", [3]),
    ("length(dept) > 3", [3]),
    ("dept = ''", [4]),
    ("DEPT = 'eng'", [1]),
    ("\"Full Name\" ILIKE 'a%'", [1]),
    ("a__b = 'q'", [2]),
    ("salary < 50", [2]),
    ("50 > salary", [2]),
    ("salary >= 50.0", [1, 4]),
    ("salary IS NULL OR salary > 1e2", [3, 4]),
    ("coalesce(salary, 0) < 10", [2, 3]),
    ("coalesce(active, true)", [1, 3, 4]),
    ("coalesce(lower(dept), a__b) = 'eng'", [1, 2]),
    ("salary * 2 > 100", [4]),
    ("salary > age", [1, 4]),
    ("abs(age) = 7", [4]),
    ("-age = 7", [4]),
    ("age = -7", [4]),
    ("age / 2 = 20", [2]),
    ("100 / age > 0", [1, 2]),
    ("age % 2 = 1", [2]),
    ("age + id * 10 - 1 = 39", [1]),
    ("age * 32767 * 32767 > 40000000000", [2]),
    ("rate / 0 IS NULL", [1, 2, 3, 4]),
    ("rate + id = 0", [2]),
    ("rate = 1.5", [1]),
    ("dept <> a__b", [1, 2, 3, 4]),
    ("dept < a__b", [1, 2, 3, 4]),
    ("hired >= '2024-06-01'", [3, 4]),
    ("hired >= DATE '2024-06-01'", [3, 4]),
    ("hired = '2024-05-01T12:00:00Z'", [2]),
    ("hired = '2024-05-01 14:00:00+02:00'::timestamptz", [2]),
    ("hired BETWEEN TIMESTAMP '2024-05-01 12:00:00' AND '2024-06-01T12:00:00Z'", [2, 3]),
    ("hired NOT BETWEEN '2024-05-01' AND '2024-07-01'", [1, 4]),
    ("id IN (1, 3) AND NOT (id = 3)", [1]),
    ("id NOT IN (1, 3)", [2, 4]),
    ("id BETWEEN 2 AND 3 OR id = 1", [1, 2, 3]),
    (" OR ".join(f"id = {n}" for n in range(2, 700)), [2, 3, 4]),
]


@pytest.fixture(scope="module")
def staff(lasting_db: cb.Database) -> cb.Database:
    lasting_db.create(Staff)
    lasting_db.upsert(Staff, STAFF)
    return lasting_db


@pytest.mark.parametrize(("where", "finds"), CONDITIONS, ids=[c[:60] for c, _ in CONDITIONS])
def test_sql_conditions(staff: cb.Database, where: str, finds: list[int]) -> None:
    assert ids(staff, Staff, where) == finds


@pytest.mark.parametrize(
    ("where", "finds"),
    [
        ({"dept": "eng", "salary__gte": 50}, [1]),
        ({"salary__gte": "50.00", "salary__lt": 100.25}, [1]),
        ({"a__b": "q"}, [2]),
        ({"a__b__in": ("q", "r")}, [2, 3]),
        ({"Full Name__startswith": "C"}, [3]),
        ({"hired__lt": "2024-05-01T12:00:00Z"}, [1]),
        ({"hired__lt": dt.date(2024, 5, 2)}, [1, 2]),
        ({"id__in": {1, 2}, "age__between": [30, 30]}, [1]),
        ({"id__in": pl.Series([3, 4])}, [3, 4]),
        ({"id__in": range(100_000)}, [1, 2, 3, 4]),
        ({"id": 1.0}, [1]),
        ({}, [1, 2, 3, 4]),
        (None, [1, 2, 3, 4]),
    ],
)
def test_mappings(staff: cb.Database, where: Any, finds: list[int]) -> None:
    assert ids(staff, Staff, where) == finds


WRONG: list[tuple[Any, str]] = [
    ({"salery": 1}, "has no column 'salery': did you mean 'salary'"),
    ({"salery__lt": 1}, "has no column 'salery'"),
    ({"salary__less": 1}, "'less' of 'salary__less' is not a lookup"),
    ({"salary__lte_": 1}, "did you mean 'lte'"),
    ({3: 1}, "has no column 3"),
    ({"age": "abc"}, r"column 'age' \(Int16\): 'abc' \(for =\)"),
    ({"age__lt": True}, "of type bool"),
    ({"age": 1.5}, "not a whole number"),
    ({"age": 40_000}, "outside -32768 to 32767"),
    ({"age": 10**500}, "too large"),
    ({"age": float("nan")}, "not a finite number"),
    ({"age__lt": None}, "nothing is above or below NULL"),
    ({"age__in": 5}, "a list of values is needed"),
    ({"age__in": "55"}, "a list of values is needed"),
    ({"age__in": [1, "x"]}, r"'x' \(for in\)"),
    ({"age__between": (1, 2, 3)}, "a pair is needed"),
    ({"age__isnull": 1}, "say True or False"),
    ({"age__contains": "1"}, "is for text columns"),
    ({"dept": 5}, "of type int"),
    ({"dept__contains": 5}, "of type int"),
    ({"dept": "\ud800"}, "surrogate"),
    ({"salary": "1.234"}, "more than 2 digits after the point"),
    ({"salary": 10**9}, "digits before the point"),
    ({"salary": "abc"}, "not a number"),
    ({"hired": "yesterday"}, "not in the ISO form"),
    ({"hired": 5}, "of type int"),
    ({"active": 1}, "of type int"),
    ({"active": "yes"}, "of type str"),
    ({"rate": 2**53 + 1}, "so many digits"),
    ({"rate": "1"}, "it is text"),
    (5, "is not a condition"),
    ("", "is empty"),
    ("  ", "is empty"),
    ("1", "is not true or false"),
    ("dept", "is not true or false"),
    ("'x'", "is not true or false"),
    ("age + 1", "is not true or false"),
    ("age = 1 AND dept", "is not true or false"),
    ("nope = 1", "has no column 'nope'"),
    ('"DEPT" = 1', "has no column 'DEPT'"),
    ("age = 'abc'", "column 'age'"),
    ("age > 2.5", "not a whole number"),
    ("salary > 2.555", "more than 2 digits"),
    ("age = NULL", "write IS NULL"),
    ("age IN (1, NULL)", "write IS NULL"),
    ("age IN ()", "at least one"),
    ("1 = 1", "compares no column"),
    ("dept = age", "cannot be compared"),
    ("dept + 1 = 2", "is no number"),
    ("rate % 2 = 1", "whole numbers"),
    ("hired = TIME '10:00'", "it is of type time"),
    ("hired = DATE 'x'", "is no Date"),
    ("dept LIKE 'x\\'", "is no pattern"),
    ("dept LIKE a__b", "takes literals"),
    ("age = 1 AND", "is not one SQL condition"),
    ("(" * 500 + "true" + ")" * 500, "nested too deeply|not one SQL condition"),
    ("age = " + "9" * 5000, "."),
    ("x" * 100_001, "is longer than"),
]


@pytest.mark.parametrize(("where", "says"), WRONG, ids=[str(w)[:50] for w, _ in WRONG])
def test_what_is_wrong_with_a_condition(staff: cb.Database, where: Any, says: str) -> None:
    with pytest.raises(cb.ContractError, match=says):
        staff.read(Staff, where=where)
    assert staff.read(Staff).height == 4


def test_nan_is_a_value_or_refused(db: cb.Database) -> None:
    table = table_of(pl.Float64)
    db.create(table)
    db.insert(table, pl.DataFrame({"id": [1], "x": [1.0]}))
    if db.backend.name == "sqlite":
        with pytest.raises(cb.ContractError, match="NaN"):
            db.read(table, where={"x": math.nan})
    else:
        assert ids(db, table, {"x": math.nan}) == []


def test_columns_that_differ_by_case(server_db: cb.Database) -> None:
    class Cases(cb.Table):
        id: int = cb.field(key=True)
        name: int
        Name: int

    server_db.create(Cases)
    server_db.insert(Cases, pl.DataFrame({"id": [1], "name": [1], "Name": [2]}))
    assert ids(server_db, Cases, "Name = 2 AND name = 1") == [1]
    with pytest.raises(cb.ContractError, match="has no column 'NAME'"):
        server_db.read(Cases, where="NAME = 2")


class Marked(cb.Table):
    """Rows that are marked rather than removed."""

    id: int = cb.field(key=True)
    deleted_at: pl.Datetime("us", "UTC") = cb.field(soft_delete=True, nullable=True)


def test_reading_hides_what_is_marked_as_deleted(db: cb.Database) -> None:
    db.create(Marked)
    db.insert(
        Marked,
        pl.DataFrame({"id": [1, 2, 3], "deleted_at": [None, dt.datetime(2024, 1, 1, tzinfo=UTC), None]}),
    )
    assert ids(db, Marked, None) == [1, 3]
    assert ids(db, Marked, "id = 1 OR id = 2") == [1]
    assert ids(db, Marked, None, include_deleted=True) == [1, 2, 3]
    assert ids(db, Marked, {"deleted_at__ne": None}, include_deleted=True) == [2]


# -- any condition -------------------------------------------------------------------------------------

SIGNS: dict[str, Any] = {
    "=": pl.Expr.__eq__,
    "<>": pl.Expr.__ne__,
    "<": pl.Expr.__lt__,
    "<=": pl.Expr.__le__,
    ">": pl.Expr.__gt__,
    ">=": pl.Expr.__ge__,
}
VALUES = {
    "id": st.integers(-1, 6),
    "age": st.integers(-10, 50),
    "rate": st.sampled_from([-2.0, 0.0, 1.5, 3.25]),
    "dept": st.sampled_from(["eng", "Eng", "", " ops ", "z'"]),
}


@st.composite
def leaves(draw: Any) -> tuple[str, pl.Expr]:
    name = draw(st.sampled_from(list(VALUES)))
    sign, value = draw(st.sampled_from(list(SIGNS))), draw(VALUES[name])
    return f"{name} {sign} {in_sql(value)}", SIGNS[sign](pl.col(name), pl.lit(value))


def trees(inner: Any) -> Any:
    def join(word: str) -> Any:
        return lambda two: (
            f"({two[0][0]}) {word} ({two[1][0]})",
            two[0][1] & two[1][1] if word == "AND" else two[0][1] | two[1][1],
        )

    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(join("AND")), pairs.map(join("OR")), inner.map(lambda one: (f"NOT ({one[0]})", ~one[1]))
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(condition=st.recursive(leaves(), trees, max_leaves=8))
def test_any_condition_is_a_filter(staff: cb.Database, condition: tuple[str, pl.Expr]) -> None:
    text, test = condition
    assert ids(staff, Staff, text) == STAFF.filter(test)["id"].to_list()
