"""``best=``: of united elements only the best stay, however the rows were cut into batches."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb

REVIEW = pl.Struct({"text": pl.String, "votes": pl.Int64})


class Foods(cb.Table):
    """Keeps the three best reviews, as structs and as JSON text."""

    id: int = cb.field(key=True)
    reviews: pl.List(REVIEW) = cb.field(merge="union", best=(3, "votes"), nullable=True)  # type: ignore[valid-type]
    notes: str | None = cb.field(json=True, merge="union", best=(3, "votes"))

    class Config:
        name = "foods"


def reviews(*votes: int | None) -> list[dict[str, Any]]:
    return [{"text": f"t{v}", "votes": v} for v in votes]


def rows(*lists: Any, key: int | None = 1) -> pl.DataFrame:
    ids = [key if key is not None else i for i in range(len(lists))]
    return pl.DataFrame(
        {
            "id": ids,
            "reviews": list(lists),
            "notes": [None if x is None else json.dumps(x, sort_keys=True) for x in lists],
        },
        schema={"id": pl.Int64, "reviews": pl.List(REVIEW), "notes": pl.String},
    )


def held(db: cb.Database) -> list[Any]:
    """Read what stands there, which must be the same in both columns."""
    there = db.read(Foods, order_by="id")
    as_json = [None if text is None else json.loads(text) for text in there["notes"]]
    assert there["reviews"].to_list() == as_json
    return as_json


@pytest.fixture
def foods(db: cb.Database) -> cb.Database:
    db.create(Foods)
    return db


def test_what_exists_and_what_comes_are_united_and_cut(foods: cb.Database) -> None:
    foods.upsert(Foods, rows(reviews(1, 5, 3)))
    assert held(foods) == [reviews(5, 3, 1)]
    report = foods.upsert(Foods, rows(reviews(4), reviews(0, 9)))
    assert report.counts == {"input": 2, "duplicate": 1, "updated": 1}
    assert held(foods) == [reviews(9, 5, 4)]


@pytest.mark.parametrize("verb", ["insert", "upsert"])
def test_a_row_that_is_written_alone_is_cut_as_well(foods: cb.Database, verb: str) -> None:
    frame = rows(reviews(1, 2, 3, 4), reviews(2, 2), [], None, reviews(1, 2), key=None)
    assert getattr(foods, verb)(Foods, frame).counts["inserted"] == 5
    assert held(foods) == [reviews(4, 3, 2), reviews(2), [], None, reviews(2, 1)]


def test_a_sync_leaves_lists_as_they_are_in_the_frame(foods: cb.Database) -> None:
    frame = rows(reviews(1, 2, 3, 4), key=None)
    assert foods.sync(Foods, frame).counts == {"input": 1, "inserted": 1}
    assert held(foods) == [reviews(1, 2, 3, 4)]


def test_writing_the_same_again_changes_nothing(foods: cb.Database) -> None:
    frame = rows(reviews(1, 9, 3, 4), reviews(2, None, 7), reviews(None), key=None)
    foods.upsert(Foods, frame)
    assert foods.upsert(Foods, frame).counts == {"input": 3, "unchanged": 3}
    assert foods.upsert(Foods, rows(reviews(0), [], None, key=None)).counts == {"input": 3, "unchanged": 3}
    assert foods.upsert(Foods, frame.with_columns(pl.col("reviews").list.reverse())).counts["unchanged"] == 3


def test_equals_stay_in_the_order_of_arrival_and_nulls_come_last(foods: cb.Database) -> None:
    first = [{"text": "a", "votes": None}, {"text": "b", "votes": 2}, {"text": "c", "votes": 2}]
    foods.upsert(Foods, rows(first))
    assert [e["text"] for e in held(foods)[0]] == ["b", "c", "a"]
    foods.upsert(Foods, rows([{"text": "d", "votes": 2}, {"text": "e", "votes": 2}]))
    assert [e["text"] for e in held(foods)[0]] == ["b", "c", "d"]


def test_json_is_kept_to_the_letter_where_nothing_is_cut(foods: cb.Database) -> None:
    text = '[ {"votes": 2.50, "x": "a  b"}, {"votes": 1e0} , {"text": "none"}]'
    frame = pl.DataFrame(
        {"id": [1], "reviews": [None], "notes": [text]}, schema_overrides={"reviews": pl.List(REVIEW)}
    )
    foods.insert(Foods, frame)
    assert foods.read(Foods)["notes"].to_list() == [text]
    assert foods.upsert(Foods, frame).counts == {"input": 1, "unchanged": 1}
    foods.upsert(Foods, frame.with_columns(notes=pl.lit('[{"votes": 10}]')))
    assert foods.read(Foods)["notes"].to_list() == ['[{"votes":10},{"votes":2.50,"x":"a  b"},{"votes":1e0}]']


def test_json_values_of_any_type_have_an_order(foods: cb.Database) -> None:
    values = ["null", "3", '{"votes": null}', '{"votes": 9007199254740993}', '{"votes": 9007199254740992.5}']
    frame = pl.DataFrame(
        {"id": [1], "reviews": [None], "notes": [f'[{", ".join(values)}, {{"votes": "b"}}]']}
    )
    foods.insert(Foods, frame)
    found = json.loads(foods.read(Foods)["notes"][0])
    assert found == [{"votes": "b"}, {"votes": 9007199254740993}, {"votes": 9007199254740992.5}]


def test_a_row_that_is_refused_may_hold_anything(foods: cb.Database) -> None:
    frame = rows(reviews(1, 2), [], reviews(3), key=None)
    frame = frame.with_columns(notes=pl.Series([frame["notes"][0], "{", '{"votes": 1}']))
    report = foods.insert(Foods, frame, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected", "rejected"]
    assert report.rejected["reviews"].to_list() == [[], reviews(3)]


def test_update_sets_a_list_as_it_is(foods: cb.Database) -> None:
    foods.insert(Foods, rows([]))
    foods.update(Foods, rows(reviews(1, 2, 3, 4)))
    assert held(foods) == [reviews(1, 2, 3, 4)]


def test_plan_and_undo(foods: cb.Database) -> None:
    foods.insert(Foods, rows(reviews(1, 2, 3)))
    report = foods.upsert(Foods, rows(reviews(4, 5)), plan=True).apply()
    assert held(foods) == [reviews(5, 4, 3)]
    report.undo()
    assert held(foods) == [reviews(3, 2, 1)]


class Texts(cb.Table):
    """Chooses by something that is no number."""

    id: int = cb.field(key=True)
    seen: pl.List(pl.Struct({"at": pl.Date, "by": pl.String})) = cb.field(  # type: ignore[valid-type]
        merge="union", best=(1, "at")
    )

    class Config:
        name = "texts"


def test_any_value_that_has_an_order_will_do(db: cb.Database) -> None:
    db.create(Texts)
    seen = pl.Series([["2024-05-01", "2024-10-01", "2023-12-31"]]).list.eval(
        pl.struct(at=pl.element().str.to_date(), by=pl.element())
    )
    db.upsert(Texts, pl.DataFrame({"id": [1], "seen": seen}))
    assert [e["by"] for e in db.read(Texts)["seen"][0]] == ["2024-10-01"]


VOTES = st.lists(
    st.fixed_dictionaries({"text": st.sampled_from("abc"), "votes": st.sampled_from([None, 1, 2, 3])}),
    max_size=5,
)


@examples(40)
@given(lists=st.lists(st.none() | VOTES, min_size=1, max_size=6), cuts=st.sets(st.integers(1, 5)))
@example(lists=[reviews(1, 1), reviews(2, 3, 4, 4)], cuts={1})
def test_the_result_does_not_depend_on_how_rows_are_cut_into_batches(
    foods: cb.Database, lists: list[Any], cuts: set[int]
) -> None:
    with foods.session() as session:
        session.execute("DELETE FROM foods")
    frame, ends = rows(*lists), sorted({*cuts, len(lists)})
    for start, end in zip([0, *ends], ends, strict=False):
        if start < len(lists):
            foods.upsert(Foods, frame[start:end])
    assert held(foods) == [expected(lists)]


def expected(lists: list[Any]) -> list[Any] | None:
    """Unite and cut in the plainest way."""
    if all(one is None for one in lists):
        return None
    united: list[Any] = []
    for element in (e for one in lists if one for e in one):
        if element not in united:
            united.append(element)
    return sorted(united, key=lambda e: -(e["votes"] or 0))[:3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"best": (3, "votes")}, "it needs merge='union'"),
        ({"best": (3, "votes"), "merge": "append"}, "it needs merge='union'"),
        ({"best": (0, "votes"), "merge": "union"}, "how many, and by which"),
        ({"best": (True, "votes"), "merge": "union"}, "how many, and by which"),
        ({"best": (3, 4), "merge": "union"}, "how many, and by which"),
        ({"best": 3, "merge": "union"}, "how many, and by which"),
    ],
)
def test_best_must_be_understood(options: dict[str, Any], message: str) -> None:
    with pytest.raises(cb.ContractError, match=message):
        cb.field(**options)


@pytest.mark.parametrize(
    "dtype", [pl.List(REVIEW), pl.List(pl.String), pl.List(pl.Struct({"stars": pl.List(pl.Int64)}))]
)
def test_the_elements_must_have_such_a_field(dtype: Any) -> None:
    namespace = {
        "__annotations__": {"id": int, "list": dtype},
        "id": cb.field(key=True),
        "list": cb.field(merge="union", best=(3, "stars")),
    }
    with cb.connect() as db, pytest.raises(cb.ContractError, match="a field 'stars' that has an order"):
        db.create(type("Wrong", (cb.Table,), namespace))
