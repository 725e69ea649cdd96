"""ON UPDATE: rows that change with what they point at are journalled with it, and an undo gives them back."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from reflecting import run

import crave_bulk as cb


@pytest.fixture(params=["SET NULL", "SET DEFAULT", "CASCADE"])
def shop(db: cb.Database, request: pytest.FixtureRequest) -> cb.Database:
    """Parents with a code, children that point at the code, and theirs; each of them follows in some way."""
    run(
        db,
        "CREATE TABLE parents (id bigint PRIMARY KEY, code text UNIQUE, n bigint)",
        "INSERT INTO parents VALUES (0, 'zero', 0), (1, 'one', 1), (2, 'two', 2)",
        "CREATE TABLE children (id bigint PRIMARY KEY, code text DEFAULT 'zero' UNIQUE REFERENCES parents (code) "
        f"ON UPDATE {request.param}, n bigint)",
        "INSERT INTO children VALUES (11, 'one', 1), (12, 'two', 2)",
        "CREATE TABLE grandchildren (id bigint PRIMARY KEY, code text REFERENCES children (code) ON UPDATE SET NULL)",
        "INSERT INTO grandchildren VALUES (21, 'one'), (22, 'two')",
    )
    return db


def everything(db: cb.Database) -> dict[str, list[tuple[Any, ...]]]:
    return {t: db.read(t, order_by="id").rows() for t in ("parents", "children", "grandchildren")}


CALLS = {
    "upsert": lambda db: db.upsert("parents", pl.DataFrame({"id": [1], "code": ["uno"], "n": [5]})),
    "update": lambda db: db.update("parents", pl.DataFrame({"id": [1], "code": ["uno"]})),
    "update_where": lambda db: db.update_where("parents", {"code": "uno"}, {"id": 1}),
    "sync": lambda db: db.sync(
        "parents", pl.DataFrame({"id": [0, 1, 2], "code": ["zero", "uno", "two"], "n": [0, 1, 2]})
    ),
}


@pytest.mark.parametrize("verb", CALLS)
def test_an_undo_gives_back_what_followed(shop: cb.Database, verb: str) -> None:
    before = everything(shop)
    report = CALLS[verb](shop)
    after = everything(shop)
    assert after["children"] != before["children"]
    assert after["grandchildren"][0] == (21, None)
    undone = report.undo()
    assert everything(shop) == before
    undone.undo()
    assert everything(shop) == after


def test_a_plan_says_what_follows(shop: cb.Database) -> None:
    before = everything(shop)
    plan = shop.update("parents", pl.DataFrame({"id": [1], "code": ["uno"]}), plan=True)
    assert everything(shop) == before
    lines = plan.changes.filter(column="code").select("old", "new").rows()
    assert ("one", "uno") in lines
    assert ("one", None) in lines  # of the grandchild
    plan.apply()
    assert everything(shop)["grandchildren"][0] == (21, None)


def test_a_change_of_another_column_asks_for_no_rows(shop: cb.Database) -> None:
    before = everything(shop)
    report = shop.update("parents", pl.DataFrame({"id": [1], "n": [9]}))
    assert everything(shop)["children"] == before["children"]
    report.undo()
    assert everything(shop) == before


def test_what_followed_and_was_changed_since_is_named(shop: cb.Database) -> None:
    report = shop.update("parents", pl.DataFrame({"id": [1], "code": ["uno"]}))
    shop.update("grandchildren", pl.DataFrame({"id": [21], "code": ["two"]}))
    with pytest.raises(cb.UndoRefused, match="grandchildren"):
        report.undo()


def test_a_table_that_points_at_itself(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE t (id bigint PRIMARY KEY, code text UNIQUE, up text REFERENCES t (code) ON UPDATE SET NULL)",
        "INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', 'a'), (3, 'c', 'b')",
    )
    before = db.read("t", order_by="id").rows()
    report = db.update("t", pl.DataFrame({"id": [1, 2], "code": ["x", "y"]}))
    assert db.read("t", order_by="id").rows() == [(1, "x", None), (2, "y", None), (3, "c", None)]
    report.undo()
    assert db.read("t", order_by="id").rows() == before
