"""coerce=True refuses what it would change in a struct or a list too, and never writes one as another shape."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest
from test_wrong_arguments import declared

import crave_bulk as cb
from crave_bulk.table import contract_of

NUMBER = pl.Struct({"a": pl.Int64})


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (NUMBER, {"a": 1.0}, {"a": 1.5}),
        (NUMBER, {"a": 1, "b": None}, {"a": 1, "b": 2}),
        (NUMBER, {"a": "1"}, {"a": "x"}),
        (pl.Struct({"a": pl.Int8}), {"a": 3}, {"a": 300}),
        (pl.Struct({"a": pl.Struct({"b": pl.Date})}), {"a": {"b": dt.datetime(2024, 1, 1)}}, {"a": {"b": dt.datetime(2024, 1, 1, 5)}}),
        (pl.List(NUMBER), [{"a": 2.0}, {"a": None}], [{"a": 2.0}, {"a": 1.9}]),
        (pl.List(NUMBER), [{"a": 2, "b": None}], [{"a": 2, "b": "lost"}]),
        (pl.Struct({"a": pl.List(pl.Int64)}), {"a": [1.0]}, {"a": [1.5]}),
    ],
)  # fmt: skip
def test_what_a_cast_would_change_is_a_reject_of_its_row(
    db: cb.Database, dtype: pl.DataType, good: Any, bad: Any
) -> None:
    table = declared(dtype, cb.field(coerce=True, nullable=True))
    db.create(table)
    frame = pl.DataFrame({"id": [1, 2, 3], "x": pl.Series([good, bad, None], strict=False)})
    report = db.insert(table, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected", "inserted"]
    assert report.failures.select("row", "rule", "column").rows() == [(1, "coerce", "x")]
    exact = pl.Series([good, None]).cast(dtype, strict=False)
    assert db.read(table, order_by="id")["x"].to_list() == exact.to_list()


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, {"a": 1}),
        (int, {"a": 1}),
        (NUMBER, 5),
        (NUMBER, [1]),
        (pl.List(pl.String), [{"a": 1}]),
        (pl.Struct({"a": pl.String}), {"a": {"b": 1}}),
        (pl.Struct({"a": pl.String}), {"a": [1]}),
    ],
)
def test_values_of_another_shape_are_an_error_of_the_frame(
    db: cb.Database, annotation: Any, value: Any
) -> None:
    table = declared(annotation, cb.field(coerce=True))
    db.create(table)
    with pytest.raises(cb.ContractError, match=r"column 'x' of table q cannot be coerced from "):
        db.insert(table, pl.DataFrame({"id": [1], "x": [value]}), on_reject="keep")
    assert db.read(table).is_empty()


def test_a_struct_is_not_written_into_a_column_without_a_type(tmp_path: Any) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/t.db") as db:
        with db.session() as session:
            session.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        with pytest.raises(cb.ContractError, match="write it as JSON text"):
            db.insert("t", pl.DataFrame({"id": [1], "x": [{"name": "a,b", "c": "}"}]}))


def test_bytes_that_are_no_text_are_a_reject_of_their_row(db: cb.Database) -> None:
    table = declared(str, cb.field(coerce=True))
    db.create(table)
    frame = pl.DataFrame({"id": [1, 2, 3], "x": [b"ok", b"\xff", "ä".encode()]})
    report = db.insert(table, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected", "inserted"]
    assert db.read(table, order_by="id")["x"].to_list() == ["ok", "ä"]


@pytest.mark.parametrize(
    ("dtype", "default"),
    [
        (NUMBER, {"b": 1}),
        (NUMBER, {"a": 1.5}),
        (pl.List(NUMBER), [{"zz": 1}]),
        (pl.Struct({"a": NUMBER}), {"a": {"a": 1, "b": 2}}),
    ],
)
def test_a_default_that_would_be_stored_as_another_value(dtype: Any, default: Any) -> None:
    with pytest.raises(cb.ContractError, match=r"default=.* of column 'x' is no .*: it would be stored as"):
        contract_of(declared(dtype, cb.field(default=default)))


@pytest.mark.parametrize(
    ("dtype", "default"),
    [
        (NUMBER, {"a": 1}),
        (NUMBER, {}),
        (pl.Struct({"a": pl.Float64, "b": pl.String}), {"a": 1}),
        (pl.List(pl.Date), [dt.date(2024, 1, 1)]),
        (pl.List(NUMBER), []),
    ],
)
def test_a_default_that_says_less_than_its_struct(dtype: Any, default: Any) -> None:
    assert contract_of(declared(dtype, cb.field(default=default))).column("x").options.default == default
