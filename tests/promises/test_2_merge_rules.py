"""Merge rules, ``newer=``, update and delete mean what their rows mean one at a time."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import MergingOracle
from properties import examples

import crave_bulk as cb

PARENTS = [1, 2, 3]
SCHEMA = {
    "k": pl.Int64,
    "code": pl.Int64,
    "parent": pl.Int64,
    "kept": pl.String,
    "total": pl.Int64,
    "best": pl.Int64,
    "least": pl.Int64,
    "note": pl.String,
    "tags": pl.List(pl.String),
    "log": pl.List(pl.Int64),
    "at": pl.Int64,
}


class Parents(cb.Table):
    """What merged rows point at."""

    id: int = cb.field(key=True)

    class Config:
        name = "parents"


class Merged(cb.Table):
    """A column of every merge rule."""

    k: int = cb.field(key=True)
    code: int | None = cb.field(unique=True)
    parent: int | None = cb.field(references="parents.id")
    kept: str | None = cb.field(merge="keep")
    total: int | None = cb.field(merge="add")
    best: int | None = cb.field(merge="max")
    least: int | None = cb.field(merge="min")
    note: str | None = cb.field(merge="coalesce")
    tags: pl.List(pl.String) = cb.field(merge="union", nullable=True)  # type: ignore[valid-type]
    log: pl.List(pl.Int64) = cb.field(merge="append", nullable=True)  # type: ignore[valid-type]
    at: int | None

    class Config:
        name = "merged"


def few(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


ROW = st.fixed_dictionaries(
    {
        "k": st.integers(1, 3),
        "code": few(1, 2, 3, 4),
        "parent": few(1, 2, 9),
        "kept": few("a", "b"),
        "total": few(1, 2, -5),
        "best": few(1, 2, 3),
        "least": few(1, 2, 3),
        "note": few("x", "y"),
        "tags": st.none() | st.lists(st.sampled_from("pqr"), max_size=3),
        "log": st.none() | st.lists(st.integers(0, 2), max_size=2),
        "at": few(1, 2, 3),
    }
)
LEFT_OUT = st.sets(st.sampled_from([n for n in SCHEMA if n not in ("k", "at", "tags", "log")]), max_size=4)
WRITES = st.tuples(
    st.sampled_from(["upsert", "upsert", "newer", "update"]), st.lists(ROW, max_size=8), LEFT_OUT
)
DELETES = st.tuples(
    st.just("delete"),
    st.lists(st.fixed_dictionaries({"id": st.integers(1, 4)}), max_size=3),
    st.just(set()),
)


def row(k: int, **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(SCHEMA), "k": k, **values}


@pytest.fixture
def empty(db: cb.Database) -> cb.Database:
    db.create(Parents, Merged)
    return db


@examples(40)
@given(calls=st.lists(WRITES | DELETES, max_size=4))
@example(calls=[("upsert", [row(1, total=1), row(1, total=2, parent=9), row(1, total=4)], set())])
@example(calls=[("newer", [row(1, at=2, total=1), row(1, at=1, total=2), row(1, at=2, total=4)], set())])
@example(calls=[("newer", [row(1, at=3, code=1, parent=9), row(1, at=1, total=2)], set())])
@example(
    calls=[
        ("upsert", [row(1, code=1), row(2, code=2)], set()),
        ("upsert", [row(1, code=2, total=1), row(1, code=3, total=2), row(2, code=1)], set()),
    ]
)
@example(calls=[("upsert", [row(1, tags=["p", "p"]), row(1, tags=["p"])], set())])
@example(calls=[("upsert", [row(1, parent=1)], set()), ("delete", [{"id": 1}, {"id": 2}, {"id": 2}], set())])
def test_every_rule_equals_row_by_row(empty: cb.Database, calls: list[Any]) -> None:
    wipe(empty)
    oracle = MergingOracle(PARENTS)
    for verb, whole_rows, without in calls:
        rows = [{name: value for name, value in row.items() if name not in without} for row in whole_rows]
        expected = oracle.apply("upsert" if verb == "newer" else verb, rows, newer=verb == "newer")
        report = call(empty, verb, rows, without)
        assert report.outcomes["outcome"].to_list() == expected
        assert sum(report.counts.values()) == 2 * len(rows)
        assert {r[0]: r for r in empty.read(Merged).rows()} == oracle.rows()
        assert set(empty.read(Parents)["id"]) == set(oracle.rows("parents"))


def call(db: cb.Database, verb: str, rows: list[dict[str, Any]], without: set[str]) -> cb.Report:
    if verb == "delete":
        return db.delete(Parents, pl.DataFrame(rows, schema={"id": pl.Int64}), on_reject="keep")
    frame = pl.DataFrame(rows, schema={name: kind for name, kind in SCHEMA.items() if name not in without})
    if verb == "update":
        return db.update(Merged, frame, on_reject="keep")
    return db.upsert(Merged, frame, newer="at" if verb == "newer" else None, on_reject="keep", once=False)


def wipe(db: cb.Database) -> None:
    with db.session() as session:
        session.execute("DELETE FROM merged")
        session.execute("DELETE FROM parents")
    db.insert(Parents, pl.DataFrame({"id": PARENTS}))
