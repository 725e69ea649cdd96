"""A transaction that took back one of its own batches can be taken back as a whole, and brought back."""

from __future__ import annotations

import polars as pl
import pytest

import crave_bulk as cb


class Things(cb.Table):
    id: int = cb.field(key=True)
    n: int = cb.field(merge="add", default=0)

    class Config:
        name = "things"


def frame(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"id": ids, "n": [1] * len(ids)})


@pytest.fixture
def things(db: cb.Database) -> cb.Database:
    db.create(Things)
    db.insert(Things, frame(9))
    return db


def ids(db: cb.Database) -> list[int]:
    return db.read(Things, order_by="id")["id"].to_list()


@pytest.mark.parametrize("options", [{}, {"once": True}, {"once": "name"}])
def test_the_whole_transaction_is_taken_back_and_stands_again(
    things: cb.Database, options: dict[str, object]
) -> None:
    with things.transaction():
        things.upsert(Things, frame(1), **options).undo()
        right = things.upsert(Things, frame(1) if options else frame(2), **options)
        assert not right.replayed
    there = ids(things)
    assert things.batches()["undoable"].to_list() == [True, True, False, True]
    undone = right.undo()
    assert ids(things) == [9]
    again = undone.undo()
    assert ids(things) == there
    assert things.batches(where={"batch_id": right.batch_id})["undoable"].item()
    again.undo()
    assert ids(things) == [9]


def test_a_batch_that_was_taken_back_in_its_transaction_says_so(things: cb.Database) -> None:
    with things.transaction():
        wrong = things.insert(Things, frame(1))
        wrong.undo()
        things.insert(Things, frame(2))
    with pytest.raises(cb.UndoRefused, match="was taken back already, by batch"):
        wrong.undo()
    assert ids(things) == [2, 9]


def test_what_a_transaction_took_back_of_others_stands_again(things: cb.Database) -> None:
    earlier = things.insert(Things, frame(5))
    with things.transaction():
        things.insert(Things, frame(6)).undo()
        earlier.undo()
        last = things.insert(Things, frame(7))
    assert ids(things) == [7, 9]
    last.undo()
    assert ids(things) == [5, 9]
    assert things.batches(where={"batch_id": earlier.batch_id})["undone_by"].item() is None
    earlier.undo()
    assert ids(things) == [9]
