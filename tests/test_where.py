"""A condition means the same as a Polars filter, as a mapping and as SQL, on every database."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from asking import ids, in_sql
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb

UTC = dt.UTC


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


@examples(60)
@given(condition=st.recursive(leaves(), trees, max_leaves=8))
def test_any_condition_is_a_filter(staff: cb.Database, condition: tuple[str, pl.Expr]) -> None:
    text, test = condition
    assert ids(staff, Staff, text) == STAFF.filter(test)["id"].to_list()
