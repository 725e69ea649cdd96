"""How good `resolve` is, on data that had no part in fitting it: floors a little under what was measured."""

from __future__ import annotations

from functools import cache

import polars as pl
import pytest

from crave_bulk.crave import resolve
from data.crave.generate import foods, guides, restaurants, rewrite, rewrite_names
from data.febrl.labelled import read

PLACES = ["address", "city", "phone"]
PERSON = ["name", "address", "city"]


@cache
def linked(n: int, overlap: float, seed: int, level: str = "guide") -> pl.DataFrame:
    first, second = guides(n, overlap, seed, level)
    found = resolve(second.select("name", *PLACES), first.select("entity_id", "name", *PLACES))
    return found.with_columns(second["true_id"])


def small_guides() -> pl.DataFrame:
    return pl.concat([linked(400, 0.3, seed) for seed in range(901, 911)])


def truth(found: pl.DataFrame) -> pl.DataFrame:
    """Mark what is taken for an entity that was there, and whether that is right."""
    taken = pl.col("decision").is_in(["exact", "alias", "merge"]) & pl.col("with_row").is_null()
    right = (pl.col("entity_id") == pl.col("true_id")).fill_null(False)
    return found.with_columns(taken=taken, right=right)


def precision_and_recall(found: pl.DataFrame) -> tuple[float, float]:
    marked = truth(found)
    right = marked.filter(pl.col("taken") & pl.col("right")).height
    return right / marked["taken"].sum(), right / found["true_id"].count()


def pairs(found: pl.DataFrame) -> tuple[float, float]:
    """Measure clusters: of the pairs that are put together, and of those that belong together."""

    def count(*columns: str) -> int:
        sizes = found.group_by(columns).len()["len"].cast(pl.Int64)
        return int((sizes * (sizes - 1) // 2).sum())

    both = count("cluster", "true_id")
    return both / count("cluster"), both / count("true_id")


def clusters(frame: pl.DataFrame) -> pl.DataFrame:
    """Resolve a list against itself; what is only a question is in no cluster."""
    found = resolve(frame.drop("true_id"))
    sure = pl.when(pl.col("decision") != "review").then("entity_id").otherwise(pl.col("row").cast(pl.String))
    return found.select(sure.alias("cluster")).with_columns(frame["true_id"])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("found", "precise", "complete"),
    [
        pytest.param(small_guides, 0.99, 0.975, id="guides of 400 that share 120"),
        pytest.param(lambda: linked(3000, 0.5, 931), 0.993, 0.98, id="guides of 3,000 that share 1,500"),
        pytest.param(lambda: linked(3000, 0.2, 941), 0.99, 0.975, id="guides of 3,000 that share 600"),
        pytest.param(lambda: linked(3000, 0.5, 951, "typist"), 0.99, 0.94, id="a hasty typist"),
    ],
)
def test_guides_are_matched(found: object, precise: float, complete: float) -> None:
    precision, recall = precision_and_recall(found())
    assert precision >= precise
    assert recall >= complete


def test_a_name_in_its_simplest_form_with_what_is_known_of_the_place_is_sure() -> None:
    marked = truth(linked(3000, 0.5, 931)).filter(pl.col("taken") & (pl.col("tier") == "exact"))
    assert marked.height > 700
    assert marked["right"].mean() >= 0.998


@pytest.mark.parametrize(("listed", "precise", "complete"), [(1.0, 0.995, 0.86), (0.7, 0.985, 0.86)])
def test_foods_are_found_by_their_names_alone(listed: float, precise: float, complete: float) -> None:
    every = foods()
    known = every.sample(fraction=listed, seed=9)
    names = rewrite_names(every, 971)
    found = resolve(names.select("name"), known.drop("aliases", "type"))
    there = pl.when(pl.col("true_id").is_in(known["entity_id"].implode())).then("true_id")
    precision, recall = precision_and_recall(found.with_columns(names["true_id"]).with_columns(true_id=there))
    assert precision >= precise
    assert recall >= complete


def test_persons_are_linked() -> None:
    known, asked = read("dataset4a"), read("dataset4b")
    there = known.select(*PERSON, entity_id=pl.col("true_id").cast(pl.String))
    found = resolve(asked.select(PERSON), there).with_columns(asked["true_id"].cast(pl.String))
    precision, recall = precision_and_recall(found)
    assert precision >= 0.998
    assert recall >= 0.84


@pytest.mark.parametrize(
    ("name", "precise", "complete"), [("dataset1", 0.995, 0.81), ("dataset3", 0.99, 0.62)]
)
def test_persons_of_one_list_are_put_together(name: str, precise: float, complete: float) -> None:
    precision, recall = pairs(clusters(read(name).select("true_id", *PERSON)))
    assert precision >= precise
    assert recall >= complete


def test_restaurants_of_one_list_are_put_together() -> None:
    every = restaurants(1500, 981)
    again = rewrite(every, 5).select("true_id", "name", *PLACES)
    both = pl.concat([every.select(pl.col("entity_id").alias("true_id"), "name", *PLACES), again])
    precision, recall = pairs(clusters(both.sample(fraction=1, shuffle=True, seed=1)))
    assert precision >= 0.99
    assert recall >= 0.96


@pytest.mark.thorough
def test_confidence_is_the_share_that_is_true() -> None:
    every = [small_guides(), *(linked(3000, share, seed) for share, seed in ((0.5, 931), (0.2, 941)))]
    named = truth(pl.concat(every)).filter(pl.col("with_row").is_null())
    for low, high, off in ((0.5, 0.85, 0.25), (0.85, 0.95, 0.08), (0.95, 0.99, 0.05), (0.99, 1.0, 0.005)):
        within = named.filter(pl.col("confidence").is_between(low, high, closed="right"))
        assert within.height >= 15
        assert within["right"].mean() == pytest.approx(within["confidence"].mean(), abs=off)


def test_a_higher_threshold_is_more_precise_and_less_complete() -> None:
    marked = truth(linked(3000, 0.5, 931))
    old = marked.filter(pl.col("with_row").is_null())
    by_threshold = [old.filter(pl.col("confidence") >= at) for at in (0.7, 0.85, 0.99)]
    assert [part["right"].mean() for part in by_threshold] == sorted(
        part["right"].mean() for part in by_threshold
    )
    assert len({part.height for part in by_threshold}) == 3
