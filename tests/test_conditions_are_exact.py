"""Conditions mean the same on both databases, exactly, or are refused in the same words."""

from __future__ import annotations

import itertools
import uuid
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb

KEY = "0190a0a0-0000-7000-8000-00000000000a"
LARGEST = 2**63 - 1


class Rows(cb.Table):
    id: int = cb.field(key=True)
    net: pl.Decimal(20, 2) = cb.field(nullable=True)  # type: ignore[valid-type]
    rate: pl.Decimal(24, 4) = cb.field(nullable=True)  # type: ignore[valid-type]
    small: pl.Decimal(9, 0) = cb.field(nullable=True)  # type: ignore[valid-type]
    n: int | None
    x: float | None
    token: str | None = cb.field(uuid=True)
    tokens: pl.List(pl.String) = cb.field(uuid=True, nullable=True)  # type: ignore[valid-type]
    doc: str | None = cb.field(json=True)
    text: str | None
    nums: pl.List(pl.Int64) = cb.field(nullable=True)  # type: ignore[valid-type]
    info: pl.Struct({"a": pl.Int64}) = cb.field(nullable=True)  # type: ignore[valid-type]

    class Config:
        name = "rows"


FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3],
        "net": [Decimal("0.10"), Decimal("12345678901234567.01"), Decimal("-3.00")],
        "rate": [Decimal("0.1000"), Decimal("12345678901234567.0200"), Decimal("-3.0001")],
        "small": [0, 5, -3],
        "n": [LARGEST, 5, -LARGEST - 1],
        "x": [1e308, 2.0, 1e-308],
        "token": [KEY, None, None],
        "tokens": [[KEY], [], None],
        "doc": ['{"a": 1}', "5", None],
        "text": ["a", "B", "b"],
        "nums": [[10], [9], []],
        "info": [{"a": 10}, {"a": 9}, None],
    },
    schema_overrides={"net": pl.Decimal(20, 2), "rate": pl.Decimal(24, 4), "small": pl.Decimal(9, 0)},
)


@pytest.fixture
def rows(db: cb.Database) -> cb.Database:
    db.create(Rows)
    db.insert(Rows, FRAME)
    return db


def ids(db: cb.Database, where: Any) -> list[int]:
    return db.read(Rows, where=where, order_by="id")["id"].to_list()


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("net = rate", [1]),
        ("net < rate", [2]),
        ("net > rate", [3]),
        ("rate >= net", [1, 2]),
        ("small = net", [3]),
        ("small > rate", [3]),
        ("small < net", [1, 2]),
        ("id > net", [1, 3]),
        ("net <> rate", [2, 3]),
        ("coalesce(net, rate) = 0.1", [1]),
        ({"net": Decimal("12345678901234567.01")}, [2]),
        ({"net__in": ["0.1", "-3"]}, [1, 3]),
    ],
)
def test_decimals_are_compared_exactly(rows: cb.Database, where: Any, found: list[int]) -> None:
    assert ids(rows, where) == found


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("net + rate = 0.2 AND id = 1", [1]),
        ("rate * 3 <> 0.3 AND id = 3", [3]),
        ("rate * 3 = 0.3 AND id = 1", [1]),
        ("net - rate = 0.0001 AND id = 3", [3]),
        ("-net > 0 AND id = 3", [3]),
        ("abs(net) = 3 AND id = 3", [3]),
        ("small + 0.5 = 0.5", [1]),
        ("id + 0.1 = 1.1", [1]),
        ("small * small = 25", [2]),
        ("net * rate = 0.01 AND id = 1", [1]),
        ("small + net < rate AND id = 3", [3]),
    ],
)
def test_decimals_are_computed_exactly(rows: cb.Database, where: str, found: list[int]) -> None:
    rows.update(Rows, FRAME.head(1).select(pl.lit(2, dtype=pl.Int64).alias("id"), "net", "rate"))
    assert ids(rows, where) == found


@pytest.mark.parametrize("where", ["net * rate > 0", "rate * 1000000 > 0"])
def test_decimals_that_are_too_large_are_refused_or_exact(rows: cb.Database, where: str) -> None:
    if rows.backend.name == "postgresql":
        assert ids(rows, where)[:2] == [1, 2]
    else:
        with pytest.raises(cb.ContractError, match="computes a number that is too large"):
            ids(rows, where)


@pytest.mark.parametrize("where", ["net / 2 > 1", "rate % 2 = 0", "id / 0.5 = 2"])
def test_decimals_are_not_computed_with(rows: cb.Database, where: str) -> None:
    with pytest.raises(
        cb.ContractError, match="is a decimal, which cannot be computed with like this exactly"
    ):
        ids(rows, where)
    with pytest.raises(cb.ContractError, match="is a decimal"):
        rows.delete_where(Rows, where)


@pytest.mark.parametrize(
    ("where", "found"),
    [("net < x", [1, 3]), ("x + net > 1", [1, 2]), ("x = small", []), ("coalesce(net, x) < 0", [3])],
)
def test_beside_a_float_decimals_are_floats(rows: cb.Database, where: str, found: list[int]) -> None:
    """As in PostgreSQL itself."""
    assert ids(rows, where) == found


@pytest.mark.parametrize("where", ["net = text", "doc < rate"])
def test_decimals_are_not_compared_with_text(rows: cb.Database, where: str) -> None:
    with pytest.raises(cb.ContractError, match="cannot be compared with each other"):
        ids(rows, where)


DIGITS = st.decimals(-(10**6), 10**6, places=4, allow_nan=False)


@examples(30)
@given(pair=st.tuples(DIGITS, DIGITS))
def test_any_two_decimals_are_computed_with_as_in_python(
    db: cb.Database, pair: tuple[Decimal, Decimal]
) -> None:
    a, b = round(pair[0], 2), pair[1]
    schema = {"id": pl.Int64, "net": pl.Decimal(20, 2), "rate": pl.Decimal(24, 4)}
    db.create(Rows)
    db.sync(Rows, pl.DataFrame({"id": [0], "net": [a], "rate": [b]}, schema=schema), undo=False)
    computed = {"net + rate": a + b, "rate - net": b - a, "net * rate": a * b, "-rate": -b, "net * 3": a * 3}
    for text, value in computed.items():
        assert ids(db, f"{text} = {value:f}") == [0]
        assert ids(db, f"{text} <> {value:f}") == []
        assert ids(db, f"abs({text}) > 1") == [0] * (abs(value) > 1)


@examples(30)
@given(pairs=st.lists(st.tuples(DIGITS, DIGITS), min_size=1, max_size=6))
def test_any_two_decimals_are_compared_as_in_python(
    db: cb.Database, pairs: list[tuple[Decimal, Decimal]]
) -> None:
    pairs = [(round(a, 2), b) for a, b in pairs] + [(round(b, 2), b) for _, b in pairs]
    frame = pl.DataFrame(
        {"id": range(len(pairs)), "net": [a for a, _ in pairs], "rate": [b for _, b in pairs]},
        schema={"id": pl.Int64, "net": pl.Decimal(20, 2), "rate": pl.Decimal(24, 4)},
    )
    db.create(Rows)
    db.sync(Rows, frame, undo=False)
    for operator, test in {
        "=": Decimal.__eq__,
        "<": Decimal.__lt__,
        "<=": Decimal.__le__,
        "<>": Decimal.__ne__,
    }.items():
        assert ids(db, f"net {operator} rate") == [i for i, (a, b) in enumerate(pairs) if test(a, b)]


@pytest.mark.parametrize(
    "where",
    [
        "n + 1 > 0",
        "n - 1 < 0",
        "n * 2 > 0",
        "-n > 0",
        "abs(n) > 0",
        "x * 10 > 1",
        "x / 1e30 > 1",
        "x * x > 0",
        "n + n > 0",
    ],
)
def test_what_is_computed_beyond_its_type_is_refused(rows: cb.Database, where: str) -> None:
    with pytest.raises(cb.ContractError, match="computes a number that is too large"):
        ids(rows, where)
    for call in (
        lambda: rows.update_where(Rows, {"text": "z"}, where),
        lambda: rows.delete_where(Rows, where),
        lambda: rows.sync(Rows, FRAME.head(1), within=where),
    ):
        with pytest.raises(cb.ContractError, match="computes a number that is too large"):
            call()
    assert rows.read(Rows).height == 3


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("id * 2 + 1 = 5", [2]),
        ("n - 5 = id - id", [1, 2, 3]),
        ("id % 2 = 1", [1, 3]),
        ("x * id = 4.0", [2]),
        ("-id < -1", [2, 3]),
    ],
)
def test_what_fits_is_computed(rows: cb.Database, where: str, found: list[int]) -> None:
    rows.update(Rows, FRAME.select("id", pl.lit(5, dtype=pl.Int64).alias("n"), pl.lit(2.0).alias("x")))
    assert ids(rows, where) == found


@pytest.mark.parametrize(
    "where",
    [
        {"token": KEY.upper()},
        {"token": "{" + KEY + "}"},
        {"token": KEY.replace("-", "")},
        {"token": uuid.UUID(KEY)},
        {"token__in": [KEY.upper()]},
        {"token__between": (KEY.upper(), KEY)},
        {"tokens__contains": KEY.upper()},
        f"token = '{KEY.upper()}'",
        f"token IN ('{KEY.upper()}')",
    ],
    ids=str,
)
def test_a_uuid_is_the_same_in_any_form(rows: cb.Database, where: Any) -> None:
    assert ids(rows, where) == [1]


@pytest.mark.parametrize(
    "where",
    [
        {"token": "none"},
        {"token__in": [KEY, "none"]},
        {"token__between": ("0", "1")},
        {"tokens__contains": "x"},
        "token = 'none'",
    ],
    ids=str,
)
def test_what_is_no_uuid_is_refused(rows: cb.Database, where: Any) -> None:
    with pytest.raises(cb.ContractError, match="it is no UUID"):
        ids(rows, where)


def test_what_is_no_json_is_refused(rows: cb.Database) -> None:
    assert ids(rows, {"doc": '{"a": 1}'}) == [1]
    for where in ({"doc": "no json"}, {"doc__in": ["5", "NaN"]}, "doc = 'no json'"):
        with pytest.raises(cb.ContractError, match="it is no JSON"):
            ids(rows, where)


@pytest.mark.parametrize("column", ["nums", "-info", "doc", "tokens"])
def test_what_has_no_order_cannot_be_sorted_by(rows: cb.Database, column: str) -> None:
    for order in (column, ["id", column]):
        with pytest.raises(cb.ContractError, match="has no order, so rows cannot be sorted by it"):
            rows.read(Rows, order_by=order, limit=2)


@pytest.mark.parametrize("lookup", ["text__contains", "text__startswith", "text__endswith", "nums__contains"])
def test_nothing_contains_null(rows: cb.Database, lookup: str) -> None:
    with pytest.raises(cb.ContractError, match="contains NULL"):
        ids(rows, {lookup: None})


@pytest.mark.parametrize("where", ["text LIKE 'a\0%'", "text ILIKE '\0'"])
def test_no_pattern_holds_a_nul_character(rows: cb.Database, where: str) -> None:
    with pytest.raises(cb.ContractError, match="NUL"):
        ids(rows, where)


def test_citext_is_compared_whatever_its_case(server_db: cb.Database) -> None:
    with server_db.session() as session:
        if not session.fetch("SELECT 1 AS n FROM pg_available_extensions WHERE name = 'citext'").height:
            # Not in every build: a type of that name compares as text there, and this much of it can be tried.
            session.execute("CREATE DOMAIN citext AS text")
            folds = False
        else:
            session.execute("CREATE EXTENSION citext")
            folds = True
        session.execute("CREATE TABLE mails (id bigint PRIMARY KEY, mail citext)")
    server_db.insert("mails", pl.DataFrame({"id": [1, 2], "mail": ["Ann@x", "bob@x"]}))
    same = [1] if folds else []
    wheres: list[Any] = [
        {"mail": "ann@X"},
        {"mail__in": ["ANN@x"]},
        {"mail__contains": "NN@"},
        {"mail__startswith": "aNN"},
        "mail = 'ann@x'",
        "mail LIKE 'ANN%'",
        {"mail__lt": "B"},
    ]
    for where in wheres[: -1 if not folds else None]:
        assert server_db.read("mails", where=where)["id"].to_list() == same
    assert server_db.read("mails", where={"mail__ne": "ann@x"}, order_by="mail")["id"].to_list() == (
        [2] if folds else [1, 2]
    )
    changed = server_db.upsert("mails", pl.DataFrame({"id": [1], "mail": ["ann@x"]}))
    assert changed.counts == {"input": 1, "updated": 1}  # a change of case is a change all the same


def test_both_say_the_same(db: cb.Database) -> None:
    """Every refusal of these tests is a `ContractError`, on both databases, before anything is asked."""
    db.create(Rows)
    for where, column in itertools.product(["{} + 1 = 2", "abs({}) = 1"], ["text", "doc", "nums"]):
        with pytest.raises(cb.ContractError):
            ids(db, where.format(column))
