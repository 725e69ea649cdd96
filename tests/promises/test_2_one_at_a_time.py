"""A bulk call means what its rows mean one at a time."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import Oracle
from properties import examples

import crave_bulk as cb

PARENTS = {1: "good", 2: "bad"}
SCHEMA = {
    "a": pl.Int64,
    "b": pl.String,
    "code": pl.Int64,
    "x": pl.String,
    "y": pl.Int64,
    "parent": pl.Int64,
    "best": pl.Int64,
    "amount": pl.Int64,
}


class Parents(cb.Table):
    """What items point at."""

    id: int = cb.field(key=True)
    kind: str

    class Config:
        name = "parents"


class Items(cb.Table):
    """A composite key, two unique keys, a reference, one with a condition, and a rule."""

    a: int = cb.field(key=True)
    b: str = cb.field(key=True)
    code: int | None = cb.field(unique=True)
    x: str
    y: int | None
    parent: int | None = cb.field(references="parents.id")
    best: int | None = cb.field(references="parents.id", references_where={"kind": "good"})
    amount: int = cb.field(ge=0)

    class Config:
        name = "items"
        unique = ["x", "y"]


# Small domains, so that rows meet: the same key, the same unique value, a value that was just given up.
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.integers(1, 3),
            "b": st.sampled_from("pq"),
            "code": st.none() | st.integers(1, 4),
            "x": st.sampled_from("uvw"),
            "y": st.none() | st.integers(1, 2),
            "parent": st.none() | st.integers(1, 3),
            "best": st.sampled_from([None, None, 1, 1, 2, 3]),
            "amount": st.sampled_from([0, 5, 9, -1]),
        }
    ),
    max_size=12,
)
VERBS = st.sampled_from([("upsert", "error"), ("insert", "error"), ("insert", "ignore")])
LEFT_OUT = st.sets(st.sampled_from(["code", "y", "parent", "best"]))
CALLS = st.lists(st.tuples(VERBS, ROWS, LEFT_OUT), max_size=3)


def row(a: int, code: int | None, **rest: Any) -> dict[str, Any]:
    return {
        "a": a,
        "b": "p",
        "code": code,
        "x": str(a),
        "y": None,
        "parent": None,
        "best": None,
        "amount": 0,
        **rest,
    }


SWAP_THROUGH_A_SPARE = [("upsert", "error"), [row(1, 9), row(2, 1), row(1, 2)]]
HAND_OVER = [("upsert", "error"), [row(1, 3), row(2, 1)]]
START = [("upsert", "error"), [row(1, 1), row(2, 2)]]


@pytest.fixture
def empty(db: cb.Database) -> cb.Database:
    db.create(Parents, Items)
    db.insert(Parents, pl.DataFrame({"id": list(PARENTS), "kind": list(PARENTS.values())}))
    return db


@examples(60)
@given(calls=CALLS)
@example(calls=[START, SWAP_THROUGH_A_SPARE])
@example(calls=[START, HAND_OVER])
@example(calls=[START, [("upsert", "error"), [row(3, None, amount=1), row(1, 9), row(3, 1, amount=5)]]])
@example(calls=[START, [("upsert", "error"), [row(1, 2), row(2, 1)]]])
@example(calls=[START, [("upsert", "error"), [row(1, 7), row(3, 1), row(1, 1)]]])
@example(calls=[START, [("upsert", "error"), [row(1, 9, best=2), row(2, 1, best=1), row(1, 2)]]])
@example(calls=[[("insert", "error"), [row(1, 1), row(2, 1), row(2, 2), row(2, 2)]]])
def test_bulk_equals_row_by_row(empty: cb.Database, calls: list[Any]) -> None:
    wipe(empty)
    oracle = Oracle(PARENTS)
    for (verb, on_conflict), whole_rows, *left_out in calls:
        without = left_out[0] if left_out else set()
        rows = [{name: value for name, value in row.items() if name not in without} for row in whole_rows]
        expected = oracle.apply(verb, rows, on_conflict)
        frame = pl.DataFrame(
            rows, schema={name: kind for name, kind in SCHEMA.items() if name not in without}
        )
        if verb == "upsert":
            report = empty.upsert(Items, frame, on_reject="keep")
        else:
            report = empty.insert(Items, frame, on_conflict=on_conflict, on_reject="keep")
        assert report.outcomes["outcome"].to_list() == expected
        assert (
            sum(n for name, n in report.counts.items() if name != "input")
            == report.counts["input"]
            == len(rows)
        )
        assert set(empty.read(Items).rows()) == set(oracle.rows().values())


def wipe(db: cb.Database) -> None:
    with db.session() as session:
        session.execute("DELETE FROM items")
