"""What `coerce=True` cannot read is a reject of its row, and ends no call."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb


class Loose(cb.Table):
    id: int = cb.field(key=True, coerce=True)
    flag: bool = cb.field(nullable=True, coerce=True)
    n: int = cb.field(nullable=True, coerce=True)
    x: float = cb.field(nullable=True, coerce=True)
    day: pl.Date = cb.field(nullable=True, coerce=True)
    time: pl.Time = cb.field(nullable=True, coerce=True)
    at: pl.Datetime("us", "UTC") = cb.field(nullable=True, coerce=True)  # type: ignore[valid-type]
    price: pl.Decimal(8, 2) = cb.field(nullable=True, coerce=True)  # type: ignore[valid-type]
    flags: pl.List(pl.Boolean) = cb.field(nullable=True, coerce=True)  # type: ignore[valid-type]
    days: pl.List(pl.Date) = cb.field(nullable=True, coerce=True)  # type: ignore[valid-type]
    numbers: pl.List(pl.Int64) = cb.field(nullable=True, coerce=True)  # type: ignore[valid-type]


class Filled(cb.Table):
    id: int = cb.field(key=True)
    n: int = cb.field(default=7, coerce=True)
    flag: bool = cb.field(default=False, coerce=True)
    day: pl.Date = cb.field(default="now", coerce=True)
    price: pl.Decimal(8, 2) = cb.field(default=1)  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("column", "bad", "good", "becomes"),
    [
        ("flag", "yes", " TRUE", True),
        ("flag", "1", "false", False),
        ("n", "12x", "12", 12),
        ("n", "1.5", "-3", -3),
        ("x", "1,5", "1.5", 1.5),
        ("day", "2024-02-31", "2024-02-29", dt.date(2024, 2, 29)),
        ("time", "25:00:00", "23:00:00", dt.time(23)),
        ("at", "2024-02-31 00:00:00Z", "2024-02-29T00:00:00Z", dt.datetime(2024, 2, 29, tzinfo=dt.UTC)),
        ("price", "1.005", "1.5", 1.5),
        ("flags", ["true", "yes"], ["true", None], [True, None]),
        ("days", ["2024-02-31"], ["2024-02-29"], [dt.date(2024, 2, 29)]),
        ("numbers", ["x"], ["1"], [1]),
        ("numbers", "[1]", None, None),
    ],
)
def test_text_that_does_not_parse_is_a_reject(
    db: cb.Database, column: str, bad: Any, good: Any, becomes: Any
) -> None:
    db.create(Loose)
    frame = pl.DataFrame({"id": ["1", "2", "x"], column: [bad, good, good]})
    report = db.insert(Loose, frame, on_reject="keep")
    assert report.counts == {"input": 3, "inserted": 1, "rejected": 2}
    found = report.failures.select("row", "stage", "rule", "column", "value").rows()
    assert found == [(0, "validate", "coerce", column, str(bad)), (2, "validate", "coerce", "id", "x")]
    assert report.failures["message"].str.starts_with(column).to_list() == [True, False]
    assert db.read(Loose)[column].to_list() == [becomes]
    with pytest.raises(cb.RejectedRows):
        db.update(Loose, frame)


@pytest.mark.parametrize(
    ("column", "values", "kept"),
    [
        ("n", ["12x", None, "5"], [7, 5]),
        ("n", [1.5, None, 5.0], [7, 5]),
        ("flag", ["yes", None, "true"], [False, True]),
        ("day", ["2024-02-31", None, "2024-02-29"], [None, dt.date(2024, 2, 29)]),
        ("price", pl.Series(["1.005", None, "2.500"]).cast(pl.Decimal(9, 3)), [1, 2.5]),
    ],
)
def test_a_default_fills_nulls_and_hides_nothing(
    db: cb.Database, column: str, values: Any, kept: list[Any]
) -> None:
    db.create(Filled)
    report = db.insert(Filled, pl.DataFrame({"id": [1, 2, 3], column: values}), on_reject="keep")
    assert report.counts == {"input": 3, "inserted": 2, "rejected": 1}
    assert report.failures.select("row", "column").rows() == [(0, column)]
    read = db.read(Filled, order_by="id")[column].to_list()
    assert [None if expected is None else value for value, expected in zip(read, kept, strict=True)] == kept
