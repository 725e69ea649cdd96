"""A plan is not applied to anything but what it was made for."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

import crave_bulk as cb
from faults.counts import left


class Things(cb.Table):
    thing_id: int = cb.field(key=True)
    name: str = cb.field()
    note: str | None

    class Config:
        name = "things"


def things(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"thing_id": ids, "name": [f"n{i}" for i in ids], "note": ["x"] * len(ids)})


def execute(*statements: str) -> Callable[[cb.Database], None]:
    def change(db: cb.Database) -> None:
        with db.session() as session:
            for statement in statements:
                session.execute(statement)

    return change


CHANGES = {
    "a row was changed": execute("UPDATE things SET note = 'other' WHERE thing_id = 1"),
    "a row came": execute("INSERT INTO things VALUES (4, 'n4', 'x')"),
    "a row went": execute("DELETE FROM things WHERE thing_id = 2"),
    "a column came": execute("ALTER TABLE things ADD COLUMN more text"),
    "a column went": execute("ALTER TABLE things DROP COLUMN note"),
    "a column has another name": execute("ALTER TABLE things RENAME COLUMN note TO notes"),
    "the table went": execute("DROP TABLE things"),
    "another table has its name": execute(
        "DROP TABLE things", "CREATE TABLE things (thing_id integer PRIMARY KEY)"
    ),
    "the table is a new one": lambda db: (execute("DROP TABLE things")(db), db.create(Things))[1],
}


def contents(db: cb.Database) -> list[tuple[object, ...]]:
    try:
        return sorted(db.read("things").rows())
    except cb.TableNotFound:
        return []


@pytest.mark.thorough
@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("by_name", [False, True], ids=["declared", "by name"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_whose_table_has_changed_is_not_applied(
    db: cb.Database, url: str, change: str, by_name: bool
) -> None:
    db.create(Things)
    db.upsert(Things, things(1, 2, 3))
    frame = things(1, 2, 3, 4, 5).with_columns(name=pl.format("new {}", "name"))
    plan = db.upsert("things" if by_name else Things, frame, plan=True)
    assert plan.counts == {"input": 5, "updated": 3, "inserted": 2}
    with cb.connect(url) as other:
        CHANGES[change](other)
        before = contents(other)
        with pytest.raises(cb.PlanStale, match="plan again"):
            plan.apply()
        assert contents(other) == before
        assert other.batches().height == 1
    assert left(url) == []
    execute("DROP TABLE IF EXISTS things")(db)
    db.create(Things)
    again = db.upsert(Things, frame, plan=True).apply()
    assert again.counts == {"input": 5, "inserted": 5}
    assert db.batches()["batch_id"].to_list()[0] == again.batch_id
    assert left(url) == []


def test_a_plan_is_not_applied_twice(db: cb.Database, url: str) -> None:
    db.create(Things)
    plan = db.upsert(Things, things(1, 2), plan=True)
    report = plan.apply()
    with pytest.raises(cb.PlanStale):
        plan.apply()
    assert db.batches()["batch_id"].to_list() == [report.batch_id]
    assert db.read(Things).height == 2
    assert left(url) == []
