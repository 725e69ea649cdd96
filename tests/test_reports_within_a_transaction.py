"""A report of a batch within a transaction is pending until that has ended, and then says what became of it."""

from __future__ import annotations

import pickle

import polars as pl
import pytest

import crave_bulk as cb


class Things(cb.Table):
    id: int = cb.field(key=True)

    class Config:
        name = "things"


def frame(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"id": ids})


@pytest.fixture(params=[True, False], ids=["ledger", "no ledger"])
def things(url: str, request: pytest.FixtureRequest) -> cb.Database:
    with cb.connect(url, ledger="crave_bulk_batches" if request.param else False) as db:
        db.create(Things)
        yield db  # type: ignore[misc]


def test_it_is_pending_and_then_committed(things: cb.Database) -> None:
    with things.transaction():
        report = things.insert(Things, frame(1))
        assert not report.committed
        assert report.keys["id"].to_list() == [1]
        assert "PENDING until its transaction is committed" in repr(report)
        assert "Pending" in report._repr_html_()
        assert report.counts == {"input": 1, "inserted": 1}
    assert report.committed
    assert report.keys["id"].to_list() == [1]
    assert "PENDING" not in repr(report)
    assert things.insert(Things, frame(2)).committed


def test_what_is_rolled_back_says_so(things: cb.Database) -> None:
    with pytest.raises(ZeroDivisionError), things.transaction():
        report = things.insert(Things, frame(1))
        deleted = things.delete(Things, [1])
        assert deleted.deleted["id"].to_list() == [1]
        raise ZeroDivisionError
    assert not report.committed
    assert report.keys.is_empty()
    assert deleted.deleted.is_empty()
    assert "ROLLED BACK with its transaction" in repr(report)
    assert "Rolled back" in report._repr_html_()
    with pytest.raises(cb.UndoRefused, match="was rolled back with its transaction"):
        report.undo()


def test_a_block_within_a_block(things: cb.Database) -> None:
    with things.transaction():
        outer = things.insert(Things, frame(1))
        with pytest.raises(ZeroDivisionError), things.transaction():
            inner = things.insert(Things, frame(2))
            raise ZeroDivisionError
        assert not inner.committed
        assert inner.keys.is_empty()
        with things.transaction():
            kept = things.insert(Things, frame(3))
        assert "PENDING" in repr(kept)
    assert (outer.committed, inner.committed, kept.committed) == (True, False, True)
    assert things.read(Things, order_by="id")["id"].to_list() == [1, 3]


def test_an_operation_that_is_taken_back_says_so(things: cb.Database) -> None:
    good = cb.Operation("insert", Things, (frame(1),))
    bad = cb.Operation("insert", Things, (frame(1),))
    results = things.run([good, bad], recovery="skip")
    assert [result.status for result in results] == ["completed", "failed"]
    assert results[0].report.committed


def test_a_report_goes_to_another_process(things: cb.Database) -> None:
    with things.transaction():
        report = things.insert(Things, frame(1))
    assert pickle.loads(pickle.dumps(report)).committed


def test_a_replay_of_what_is_pending_is_pending_too(url: str) -> None:
    with cb.connect(url) as db:
        db.create(Things)
        with pytest.raises(ZeroDivisionError), db.transaction():
            db.insert(Things, frame(1), once="x")
            again = db.insert(Things, frame(1), once="x")
            assert again.replayed
            raise ZeroDivisionError
        assert not again.committed
