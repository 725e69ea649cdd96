"""Every row is accounted for: each input row ends in exactly one outcome."""

from __future__ import annotations

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.__main__ import FoodKinds, FoodNames, Foods, data_folder
from crave_bulk.report import OUTCOMES


@pytest.fixture
def foods() -> pl.DataFrame:
    return pl.read_csv(data_folder() / "foods.csv")


def closed(report: cb.Report) -> bool:
    """Tell whether the outcomes sum to the input, whichever way they are counted."""
    by_row = dict(report.outcomes.group_by("outcome").len().iter_rows())
    listed = {name: rows for name, rows in report.counts.items() if name != "input"}
    assert set(listed) <= set(OUTCOMES)
    return listed == by_row and sum(listed.values()) == report.counts["input"] == report.outcomes.height


def test_the_real_foods_give_2480_and_95(db: cb.Database, foods: pl.DataFrame) -> None:
    db.create(Foods)
    first = db.upsert(Foods, foods, on_reject="keep")
    assert first.counts == {"input": 2575, "inserted": 2480, "rejected": 95}
    assert closed(first)
    assert set(first.failures.select("stage", "rule", "column").rows()) == {
        ("unique", "unique(name)", "name")
    }
    again = db.upsert(Foods, foods, on_reject="keep")
    assert again.counts == {"input": 2575, "unchanged": 2480, "rejected": 95}
    assert closed(again)
    assert again.failures.equals(first.failures)


def test_rejected_rows_come_back_as_they_went_in(db: cb.Database, foods: pl.DataFrame) -> None:
    db.create(Foods)
    report = db.upsert(Foods, foods, on_reject="keep")
    rejected = report.rejected
    assert rejected.columns == [*foods.columns, "_row", "_reasons"] or rejected.columns == [
        "_row",
        *foods.columns,
        "_reasons",
    ]
    assert rejected.select(foods.columns).equals(foods[rejected["_row"]])
    kept = foods.join(rejected, on="food_id", how="anti")
    assert db.read(Foods, order_by="food_id").equals(kept.sort("food_id"))
    assert rejected["_reasons"].list.len().to_list() == [1] * 95


def test_keys_say_which_row_is_in_the_table(db: cb.Database, foods: pl.DataFrame) -> None:
    db.create(Foods)
    report = db.upsert(Foods, foods, on_reject="keep")
    assert report.keys.height == 2480
    assert report.keys["food_id"].equals(foods["food_id"].gather(report.keys["_row"]))
    assert set(report.keys["food_id"]) == set(db.read(Foods)["food_id"])


def test_children_of_rejected_parents_are_rejected_by_reference(db: cb.Database, foods: pl.DataFrame) -> None:
    db.create(FoodKinds, FoodNames, Foods)  # in any order: parents are created first
    kept = foods.join(db.upsert(Foods, foods, on_reject="keep").rejected, on="food_id", how="anti")["food_id"]
    for table, name, columns in (
        (FoodNames, "aliases.csv", ["food_id"]),
        (FoodKinds, "is_a.csv", ["food_id", "category_id"]),
    ):
        frame = pl.read_csv(data_folder() / name)
        report = db.insert(table, frame, on_reject="keep")
        orphan = frame.select(
            pl.any_horizontal(~pl.col(c).is_in(kept.implode()) for c in columns)
        ).to_series()
        assert report.outcomes["outcome"].eq("rejected").equals(orphan)
        assert set(report.failures["stage"]) == {"reference"}
        assert report.failures.height >= report.counts["rejected"]
        assert closed(report)


def test_every_stage_at_once_gives_each_row_its_reasons(db: cb.Database) -> None:
    db.create(Foods, FoodNames)
    db.insert(Foods, pl.DataFrame({"food_id": ["00000001-n"], "name": ["soup"], "gloss": ["wet"]}))
    frame = pl.DataFrame(
        {
            "food_id": ["00000002-n", "2", "00000003-n", "00000004-n", None, "00000004-n"],
            "name": ["soup", "", "bread", "bread", "cake", "rye"],
            "gloss": ["a", None, "c", "d", "e", "f"],
        }
    )
    report = db.upsert(Foods, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == [
        "rejected",
        "rejected",
        "inserted",
        "rejected",
        "rejected",
        "inserted",
    ]
    reasons = report.failures.select("row", "stage", "rule", "value").rows()
    assert reasons == [
        (0, "unique", "unique(name)", "soup"),
        (1, "validate", "str_matches", "2"),
        (1, "validate", "str_length", ""),
        (1, "validate", "not_nullable", None),
        (3, "unique", "unique(name)", "bread"),
        (4, "validate", "not_nullable", None),
    ]
    assert closed(report)


@pytest.mark.parametrize("rows", [0, 1])
def test_small_frames_are_accounted_for(db: cb.Database, rows: int) -> None:
    db.create(Foods)
    frame = pl.DataFrame({"food_id": ["00000001-n"], "name": ["soup"], "gloss": ["wet"]}).head(rows)
    for verb in (db.upsert, db.insert):
        report = verb(Foods, frame, on_reject="keep")
        assert closed(report)
        assert report.rejected.height == report.counts.get("rejected", 0)
