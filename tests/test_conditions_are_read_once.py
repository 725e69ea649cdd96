"""Collections in conditions are read once, and told from others by all of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import crave_bulk as cb


class Things(cb.Table):
    id: int = cb.field(key=True)
    n: int
    gone: bool = cb.field(soft_delete=True, default=False)

    class Config:
        name = "things"


@pytest.fixture
def things(db: cb.Database) -> cb.Database:
    db.create(Things)
    db.insert(Things, pl.DataFrame({"id": range(4000), "n": [0] * 4000}))
    return db


ONE = list(range(2000))
OTHER = [*range(3), *range(2000, 3994), *range(1997, 2000)]  # whose ends are the same
COLLECTIONS: dict[str, Callable[[list[int]], Any]] = {
    "array": np.array,
    "series": pl.Series,
    "pandas": pd.Series,
    "index": pd.Index,
    "list": list,
    "set": set,
    "iterator": iter,
    "generator": lambda ids: (i for i in ids),
    "dictionary keys": lambda ids: dict.fromkeys(ids).keys(),
}


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_another_collection_is_another_batch(things: cb.Database, kind: str) -> None:
    make = COLLECTIONS[kind]
    for ids in (ONE, OTHER):
        report = things.update_where(Things, {"n": 1}, {"id__in": make(ids)}, once=True)
        assert not report.replayed
        assert things.update_where(Things, {"n": 1}, {"id__in": make(ids)}, once=True).replayed
    assert things.read(Things, where={"id__in": make(OTHER), "n": 0}).is_empty()
    for ids in (ONE, OTHER):
        assert not things.delete_where(Things, {"id__in": make(ids)}, once=True).replayed
        assert things.delete_where(Things, {"id__in": make(ids)}, once=True).replayed
    assert things.restore_where(Things, {"id__in": make(ONE)}, once=True).counts == {
        "input": 2000,
        "updated": 2000,
    }


@pytest.mark.parametrize("make", [iter, lambda ids: map(int, ids)])
def test_what_can_be_read_once_is_not_used_up(
    things: cb.Database, make: Callable[[Iterable[int]], Any]
) -> None:
    assert things.read(Things, where={"id__in": make([1, 2])}).height == 2
    assert things.update_where(Things, {"n": 9}, {"id__in": make([1, 2])}).counts == {
        "input": 2,
        "updated": 2,
    }
    plan = things.update_where(Things, {"n": 8}, {"id__in": make([1, 2])}, plan=True)
    assert plan.apply().counts == {"input": 2, "updated": 2}
    frame = pl.DataFrame({"id": [1], "n": [8]})
    report = things.sync(Things, frame, within={"id__in": make([1, 2])})
    assert report.counts == {"input": 2, "unchanged": 1, "deleted": 1}
    assert things.restore_where(Things, {"id__in": make([1, 2])}).counts == {"input": 1, "updated": 1}
    operation = cb.Operation("update_where", Things, ({"n": 7}, {"id__in": make([1, 2])}))
    for _ in range(2):
        things.update_where(Things, {"n": 0}, "true")
        assert things.run([operation], recovery="retry")[0].report.counts == {"input": 2, "updated": 2}


def test_within_is_told_by_all_of_its_values(things: cb.Database) -> None:
    frame = pl.DataFrame({"id": [0], "n": [0]})
    for ids in (ONE, OTHER):
        report = things.sync(Things, frame, within={"id__in": np.array(ids)}, once=True)
        assert not report.replayed
    assert things.sync(Things, frame, within={"id__in": ONE}, once=True).replayed


def test_a_restored_row_whose_unique_value_is_taken(db: cb.Database) -> None:
    db.create(Things)
    with db.session() as session:
        session.execute("CREATE UNIQUE INDEX live ON things (n) WHERE NOT gone")
    db.insert(Things, pl.DataFrame({"id": [1, 2, 3], "n": [10, 20, 30]}))
    db.delete(Things, [1, 2])
    db.insert(Things, pl.DataFrame({"id": [4], "n": [20]}))
    with pytest.raises(cb.RejectedRows, match="1 of 2 rows") as refused:
        db.restore_where(Things, "true")
    assert refused.value.report.rejected["id"].to_list() == [2]
    assert db.read(Things, order_by="id")["id"].to_list() == [3, 4]
    report = db.restore_where(Things, "true", on_reject="keep")
    assert report.counts == {"input": 2, "updated": 1, "rejected": 1}
    assert db.read(Things, order_by="id")["id"].to_list() == [1, 3, 4]
    report.undo()
    assert db.read(Things, order_by="id")["id"].to_list() == [3, 4]
