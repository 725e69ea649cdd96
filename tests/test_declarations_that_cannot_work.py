"""A declaration that no write could ever meet is refused before any, by one error that names table and column."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from test_wrong_arguments import declared

import crave_bulk as cb
from crave_bulk.table import contract_of

UTC = pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    "annotation",
    [pl.List, pl.Decimal, pl.Enum, pl.Struct, pl.Array, pl.List(pl.List), pl.List(pl.Decimal),
     pl.Struct({"a": pl.List}), pl.List | None, pl.Decimal | None],
)  # fmt: skip
def test_a_dtype_that_lacks_its_parts(annotation: Any) -> None:
    with pytest.raises(cb.ContractError, match=r"table Q: column 'x' has pl\.\w+ alone"):
        contract_of(declared(annotation, cb.field()))
    assert contract_of(declared(pl.Decimal(28, 0), cb.field())).columns[1].dtype == pl.Decimal(28, 0)


@pytest.mark.parametrize(
    ("annotation", "options"),
    [
        *((int, {option: "a"}) for option in ("eq", "ne", "gt", "ge", "lt", "le")),
        (int, {"in_range": {"min_value": "a", "max_value": "b"}}),
        (int | None, {"ge": "a"}),
        (int, {"ge": dt.date(2024, 1, 1)}),
        (str, {"ge": 5}),
        (pl.Decimal(8, 2), {"ge": "a"}),
        (pl.Date, {"ge": "2024-01-01"}),
        (pl.Date, {"ge": 5}),
        (UTC, {"ge": dt.datetime(2024, 1, 1)}),
        (pl.Duration("us"), {"ge": 5}),
        (pl.List(pl.Int64), {"ge": 5}),
        (pl.Enum(["a"]), {"eq": "z"}),
        (int, {"isin": ["a"]}),
        (int, {"isin": [1, "a"]}),
        (int, {"notin": ["a"]}),
        (str, {"isin": [5]}),
        *((int, {option: "a"}) for option in ("str_matches", "str_startswith", "str_endswith", "str_contains")),
        (int, {"str_length": {"max_value": 3}}),
        (pl.List(pl.String), {"str_matches": "a"}),
        (pl.Enum(["a"]), {"str_matches": "a"}),
        (str, {"str_matches": "(?=a)"}),
        (str, {"str_contains": r"(a)\1"}),
        (str, {"str_length": {"max_value": "a"}}),
        (str, {"str_startswith": 5}),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_tested(annotation: Any, options: dict[str, Any]) -> None:
    with pytest.raises(cb.ContractError, match=r"table Q: column 'x' is .*, and its rule (\w+) ") as error:
        contract_of(declared(annotation, cb.field(**options)))
    assert next(iter(options)) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["isin", "notin", "unique_values_eq"])
@pytest.mark.parametrize("value", [5, "abc"])
def test_what_is_no_list_of_values(option: str, value: Any) -> None:
    with pytest.raises(cb.ContractError, match=f"{option}={re.escape(repr(value))} is not a list"):
        cb.field(**{option: value})


@pytest.mark.parametrize(
    ("annotation", "options", "value"),
    [
        (int, {"ge": 0, "lt": 10.5, "isin": range(9)}, 1),
        (int | None, {"gt": Decimal(0), "notin": [5]}, 1),
        (float, {"ge": 0, "in_range": (0, 1)}, 0.5),
        (bool, {"eq": True, "isin": [True]}, True),
        (str, {"str_matches": r"^a+$", "str_length": (1, 3), "isin": ["a"], "ge": "a"}, "a"),
        (str, {"str_contains": re.compile("a"), "str_startswith": "a", "str_endswith": "a"}, "a"),
        (pl.Date, {"ge": dt.date(2020, 1, 1), "isin": [dt.date(2024, 1, 1)]}, dt.date(2024, 1, 1)),
        (pl.Datetime("ms"), {"ge": dt.datetime(2020, 1, 1)}, dt.datetime(2024, 1, 1)),
        (UTC, {"le": dt.datetime(2025, 1, 1, tzinfo=dt.UTC)}, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        (pl.Time, {"ge": dt.time(1)}, dt.time(2)),
        (pl.Duration("us"), {"ge": dt.timedelta(1)}, dt.timedelta(2)),
        (pl.Decimal(8, 2), {"ge": 0, "le": Decimal("9.5"), "isin": [Decimal("1.5")]}, Decimal("1.5")),
        (pl.Enum(["a", "b"]), {"isin": ["a", "z"], "ge": "a"}, "a"),
        (pl.Categorical, {"isin": ["a"]}, "a"),
        (pl.UInt8, {"ge": -1, "le": 10**9}, 5),
        (bytes, {"isin": [b"a"]}, b"a"),
    ],
)
def test_rules_that_can_be_tested(annotation: Any, options: dict[str, Any], value: Any) -> None:
    table = declared(annotation, cb.field(**options))
    dtype = contract_of(table).columns[1].dtype
    with cb.connect() as db:
        db.create(table)
        frame = pl.DataFrame({"id": [1], "x": pl.Series([value], dtype=dtype)})
        assert db.insert(table, frame).counts == {"input": 1, "inserted": 1}


class Parts(cb.Table):
    id: int = cb.field(key=True)
    code: str = cb.field(unique=True, uuid=True)
    size: pl.Enum(["s", "m"]) = cb.field(unique=True)  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("annotation", "target", "said"),
    [
        (str, "Parts.id", "'x', which is String, references Parts.id, which is Int64: declare both alike"),
        (int, "Parts.code", "references Parts.code, which is String with uuid=True"),
        (pl.Date, "Parts.id", "which is Date, references"),
        (str, "Parts.code", "'x', which is String, references Parts.code, which is String with uuid=True"),
        (str, "q.id", "'x', which is String, references q.id, which is Int64"),
    ],
)
def test_a_reference_to_another_type(annotation: Any, target: str, said: str, db: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match=re.escape(said)):
        db.create(Parts, declared(annotation, cb.field(references=target)))


@pytest.mark.parametrize(
    ("annotation", "target"),
    [(int, "Parts.id"), (pl.Int32, "Parts.id"), (str, "Parts.size"), (int, "q.id")],
)
def test_a_reference_to_the_same_kind(annotation: Any, target: str, db: cb.Database) -> None:
    table = declared(annotation, cb.field(references=target))
    db.create(Parts, table)
    assert db.read(table).is_empty()
