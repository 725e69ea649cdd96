"""The one-pass verdicts equal Pandera's own."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandera.errors import SchemaErrors, SchemaWarning
from properties import examples

import crave_bulk as cb
from crave_bulk.pipeline.intake import fit
from crave_bulk.pipeline.validate import validate
from crave_bulk.table import contract_of


class Rules(cb.Table):
    """Every built-in check, custom checks and dataframe checks."""

    id: int = cb.field(key=True, ge=0, lt=90)
    size: float = cb.field(gt=-1, le=50, nullable=True)
    ratio: float = cb.field(in_range={"min_value": 0, "max_value": 1, "include_max": False})
    kind: str = cb.field(isin=["a", "b", "cc"], ne="b", nullable=True)
    code: str = cb.field(str_length={"min_value": 1, "max_value": 3}, str_matches=r"[a-c]+$", nullable=True)
    tag: str = cb.field(str_startswith="a", str_endswith="z", str_contains="m", notin=["amxz"], nullable=True)
    flag: bool = cb.field(eq=True, nullable=True)

    @pa.check("size")
    def even(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(pl.col(data.key).floor() % 2 == 0)

    @pa.check("id", element_wise=True)
    def not_seven(cls, value: int) -> bool:  # noqa: N805
        return value != 7

    @pa.check("kind", ignore_na=False)
    def known(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(pl.col(data.key).is_in(["a", "b", "cc", "d"]))

    @pa.dataframe_check
    def size_fits_id(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(pl.col("size") <= pl.col("id"))

    class Config:
        name = "rules"


SCHEMA = {
    "id": pl.Int64,
    "size": pl.Float64,
    "ratio": pl.Float64,
    "kind": pl.String,
    "code": pl.String,
    "tag": pl.String,
    "flag": pl.Boolean,
}
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.none() | st.sampled_from([-1, 0, 3, 7, 89, 90]),
            "size": st.none() | st.sampled_from([-1.0, 0.0, 1.0, 2.5, 50.0, 51.0, float("inf")]),
            "ratio": st.none() | st.sampled_from([-0.1, 0.0, 0.5, 1.0, float("nan")]),
            "kind": st.none() | st.sampled_from(["a", "b", "cc", "x"]),
            "code": st.none() | st.sampled_from(["", "a", "abc", "abcd", "ad"]),
            "tag": st.none() | st.sampled_from(["amz", "amxz", "az", "mz", ""]),
            "flag": st.none() | st.booleans(),
        }
    ),
    max_size=6,
)


def by_pandera(frame: pl.DataFrame, row: int) -> bool:
    """Ask Pandera for one row: whether it fails depends on that row alone."""
    try:
        Rules.validate(frame[row : row + 1], lazy=True)
    except SchemaErrors:
        return False
    return True


@pytest.mark.thorough
@examples(150)
@given(rows=ROWS)
def test_verdicts_equal_panderas(rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    contract = contract_of(Rules)
    with cb.connect() as db:
        codecs = db.backend.codecs(contract)
    found = validate(contract, codecs, fit(contract, frame).frame).failures
    of_pandera = found.filter(pl.col("rule") != "exact")  # what SQLite cannot hold is no rule of Pandera's
    expected = [row for row in range(frame.height) if not by_pandera(frame, row)]
    assert sorted(set(of_pandera["row"])) == expected


@examples(60)
@given(rows=ROWS.filter(bool))
def test_rules_broken_equal_panderas(rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    contract = contract_of(Rules)
    with cb.connect() as db:
        found = validate(contract, db.backend.codecs(contract), fit(contract, frame).frame).failures
    ours = set(found.filter(pl.col("rule") != "exact").select("rule", "column").rows())
    theirs: set[tuple[str, str]] = set()
    try:
        Rules.validate(frame, lazy=True)
    except SchemaErrors as errors:
        for error in errors.schema_errors:
            check = getattr(error.check, "name", error.check)
            theirs.add(
                (str(check), error.schema.name if isinstance(error.schema, pa.Column) else ", ".join(SCHEMA))
            )
    assert ours == theirs


class Loose(cb.Table):
    """Columns that are coerced."""

    id: int = cb.field(key=True, coerce=True)
    day: pl.Date = cb.field(coerce=True, nullable=True)

    class Config:
        name = "loose"


def test_coercion_rejects_the_rows_that_cannot_be_cast(db: cb.Database) -> None:
    db.create(Loose)
    frame = pl.DataFrame({"id": ["1", "x", "3"], "day": [19_000, None, 19_001]})
    report = db.upsert(Loose, frame, on_reject="keep")
    assert report.counts == {"input": 3, "inserted": 2, "rejected": 1}
    assert ("coerce", "id", "x") in report.failures.select("rule", "column", "value").rows()
    assert db.read(Loose, order_by="id")["id"].to_list() == [1, 3]
    assert report.rejected["id"].to_list() == ["x"]


class WholeFrame(cb.Table):
    """A rule with one verdict for the frame, and one that only warns."""

    id: int = cb.field(key=True)
    amount: int = cb.field(le=5, raise_warning=True)

    @pa.dataframe_check
    def total_is_small(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(pl.col("amount").sum() < 100)

    class Config:
        name = "whole"


def test_one_verdict_for_the_frame_rejects_every_row(db: cb.Database) -> None:
    db.create(WholeFrame)
    report = db.upsert(WholeFrame, pl.DataFrame({"id": [1, 2], "amount": [5, 4]}))
    assert report.counts["inserted"] == 2
    with pytest.warns(SchemaWarning, match="2 rows: amount must satisfy"):
        report = db.upsert(WholeFrame, pl.DataFrame({"id": [3, 4], "amount": [60, 60]}), on_reject="keep")
    assert report.counts == {"input": 2, "rejected": 2}


class Broken(cb.Table):
    """A check that fails itself."""

    id: int = cb.field(key=True)

    @pa.check("id")
    def oops(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(pl.col("nowhere") > 0)

    class Config:
        name = "broken"


def test_a_check_that_fails_itself_is_named(db: cb.Database) -> None:
    db.create(Broken)
    with pytest.raises(cb.ContractError, match=r"check 'oops' of column 'id' of table broken failed"):
        db.insert(Broken, pl.DataFrame({"id": [1]}))


def test_text_is_read_as_the_moment_that_it_says() -> None:
    class Moments(cb.Table):
        id: int = cb.field(key=True)
        day: pl.Date = cb.field(coerce=True, nullable=True)
        at: pl.Datetime("us") = cb.field(coerce=True, nullable=True)  # type: ignore[valid-type]
        zoned: pl.Datetime("us", "UTC") = cb.field(coerce=True, nullable=True)  # type: ignore[valid-type]
        time: pl.Time = cb.field(coerce=True, nullable=True)

    frame = pl.DataFrame(
        {
            "id": [1, 2, 3],
            "day": ["2024-05-01", "2024-13-01", None],
            "at": ["2024-05-01T12:00:00.5", "2024-05-01 12:00:00", "2024-05-01"],
            "zoned": ["2024-05-01T12:00:00+02:00", "2024-05-01 12:00:00", None],
            "time": ["12:30:00", "25:00:00", None],
        }
    )
    with cb.connect() as db:
        db.create(Moments)
        report = db.insert(Moments, frame, on_reject="keep")
        assert report.failures.select("row", "column").rows() == [(1, "day"), (1, "zoned"), (1, "time")]
        there = db.read(Moments, order_by="id")
    assert there["at"].to_list() == [dt.datetime(2024, 5, 1, 12, 0, 0, 500_000), dt.datetime(2024, 5, 1)]
    assert there["zoned"].to_list() == [dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC), None]


class Naive(cb.Table):
    """A moment without a zone."""

    id: int = cb.field(key=True)
    at: pl.Datetime("us") = cb.field(coerce=True)  # type: ignore[valid-type]


class Zoned(cb.Table):
    """A moment with one."""

    id: int = cb.field(key=True)
    at: pl.Datetime("us", "UTC") = cb.field(coerce=True)  # type: ignore[valid-type]


@pytest.mark.parametrize(("table", "zone"), [(Naive, "Europe/Berlin"), (Zoned, None)])
def test_a_zone_is_never_dropped_nor_made_up(table: type[cb.Table], zone: str | None) -> None:
    frame = pl.DataFrame({"id": [1], "at": [dt.datetime(2020, 1, 1, 12)]})
    frame = frame.with_columns(pl.col("at").dt.replace_time_zone(zone))
    with cb.connect() as db:
        db.create(table)
        with pytest.raises(cb.ContractError, match="say what is meant by the zone"):
            db.insert(table, frame)
