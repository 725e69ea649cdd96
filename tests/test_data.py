"""The data that comes with the checkout: the generator keeps its promises, and the labelled sets are what they were."""

from __future__ import annotations

import doctest
import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_frame_not_equal

from data.crave import generate
from data.crave.changes import CITY_NAMES
from data.crave.places import places
from data.crave.rewriting import table
from data.crave.words import cities
from data.febrl.labelled import read

CRAVE = Path(generate.__file__).parent
MODULES = [f"data.crave.{path.stem}" for path in sorted(CRAVE.glob("*.py")) if path.stem != "__init__"]
SAMPLES = ["extraction", "guide_first", "guide_second", "restaurants", "truth"]
N = 20_000


@pytest.fixture(scope="module")
def laid() -> pl.DataFrame:
    return places(N, 3)


@pytest.fixture(scope="module")
def made() -> tuple[pl.DataFrame, pl.DataFrame]:
    known = generate.restaurants(2_000, 3), generate.foods(), generate.attributes()
    return generate.extractions(N, *known, 3)


def folded(name: str = "name") -> pl.Expr:
    return pl.col(name).str.to_lowercase()


def share(frame: pl.DataFrame, condition: pl.Expr) -> float:
    return frame.select(condition.mean()).item()


@pytest.mark.parametrize("module", [*MODULES, "data.febrl.labelled"])
def test_the_examples_run(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_command_writes_the_samples(tmp_path, capsys):
    generate.main(["--restaurants", "300", "--mentions", "2000", "--listed", "400", "--out", str(tmp_path)])
    assert sorted(path.stem for path in (CRAVE / "sample").iterdir()) == SAMPLES
    for name in SAMPLES:
        assert_frame_equal(
            pl.read_parquet(tmp_path / f"{name}.parquet"),
            pl.read_parquet(CRAVE / "sample" / f"{name}.parquet"),
        )
    assert "guide_second: 400 rows" in capsys.readouterr().out
    assert sum(path.stat().st_size for path in (CRAVE / "sample").iterdir()) < 400_000


def test_the_readme_has_the_table_of_changes():
    assert table() in (CRAVE / "README.md").read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_and_another_does_not():
    assert_frame_equal(generate.restaurants(50, 1), generate.restaurants(50, 1))
    assert_frame_not_equal(generate.restaurants(50, 1), generate.restaurants(50, 2))
    again = generate.restaurants(50, 1)
    assert_frame_equal(generate.rewrite(again, 1), generate.rewrite(again, 1))
    assert_frame_not_equal(generate.rewrite(again, 1), generate.rewrite(again, 2))


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_few_have_the_same_columns(n):
    few, some = generate.everything(n, n, 1), generate.everything(20, 20, 1)
    assert {name: frame.schema for name, frame in few.items()} == {
        name: frame.schema for name, frame in some.items()
    }
    assert all(few[name].height == n for name in SAMPLES)


def test_restaurants_are_what_they_should_be(laid):
    frame = laid.select(generate.restaurants(1, 1).columns)
    assert frame.null_count().sum_horizontal().item() == frame["google_place_id"].null_count()
    assert frame["google_place_id"].null_count() / N == pytest.approx(0.1, abs=0.02)
    assert frame["entity_id"].is_unique().all()
    assert (
        frame["entity_id"]
        .str.contains("^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        .all()
    )
    assert frame["phone"].str.contains(r"^\d{3}-\d{3}-\d{4}$").all()
    assert frame["address"].str.contains(r"^[1-9]\d* \S").all()
    assert not frame.select(pl.col("name", "address").str.contains("^ |  | $|[{}]").any()).to_series().any()
    centre = frame.join(cities(), on="city", how="left")
    assert (
        centre.select(
            (pl.col(axis) - pl.col(f"{axis}_right")).abs().max() for axis in ("latitude", "longitude")
        )
        .max_horizontal()
        .item()
        < 0.25
    )


def test_names_are_mostly_distinct(laid):
    assert (
        laid.filter(kind="single").select(folded().n_unique()).item()
        > 0.99 * laid.filter(kind="single").height
    )
    assert laid["name"].str.split(" ").list.first().value_counts()["count"].max() > 100


def test_aliases_are_as_many_as_asked_for_and_distinct(laid):
    lines = laid.select("entity_id", "name", pl.col("aliases")).explode("aliases").drop_nulls()
    assert lines.height / N == pytest.approx(4.4, abs=0.1)
    assert lines.select(pl.struct("entity_id", folded("aliases")).is_unique().all()).item()
    assert lines.select((folded() != folded("aliases")).all()).item()
    assert generate.restaurants(100, 1, aliases=0)["aliases"].list.len().sum() == 0


def test_chains_hotels_and_namesakes_are_there(laid):
    rates = {kind: rows / N for kind, rows in laid["kind"].value_counts().rows()}
    assert rates == pytest.approx({"single": 0.89, "chain": 0.06, "hotel": 0.03, "namesake": 0.02}, abs=0.001)
    groups = (
        laid.filter(pl.col("kind") != "single")
        .group_by("kind", "group")
        .agg(pl.len(), pl.col("name", "city", "address", "phone", "latitude").n_unique())
    )
    chains, hotels, pairs = (groups.filter(kind=kind) for kind in ("chain", "hotel", "namesake"))
    assert chains.select((pl.col("name") == 1).all() & (pl.col("city") == pl.col("len")).all()).item()
    assert hotels.select((pl.col("name") == pl.col("len")).all()).item()
    assert hotels.select(pl.col("address", "latitude", "city").max()).row(0) == (1, 1, 1)
    assert share(hotels, pl.col("phone") == 1) == pytest.approx(0.6, abs=0.15)
    assert pairs.select(
        (pl.col("name") == 1).all() & (pl.col("address") == 2).all() & (pl.col("city") == 1).all()
    ).item()


def test_a_second_guide_changes_what_it_says_it_does(laid):
    second = generate.rewrite(laid, 5)
    assert second["true_id"].equals(laid["entity_id"])
    both = pl.concat([laid, second.select(pl.all().name.prefix("new_"))], how="horizontal")
    assert share(both, pl.col("new_phone").is_null()) == pytest.approx(0.04, abs=0.01)
    digits = pl.col("new_phone").str.replace_all(r"\D", "").str.tail(10)
    assert share(both, digits != pl.col("phone").str.replace_all("-", "")) == pytest.approx(0.05, abs=0.01)
    assert share(both, folded("new_name") == folded()) == pytest.approx(0.42, abs=0.04)
    no_number = ~pl.col("new_address").str.contains(r"^\d|, \d|Hotel, |hotel, ")
    assert share(both, no_number) == pytest.approx(0.02, abs=0.01)
    usual = pl.concat([cities()["city"], pl.Series(list(CITY_NAMES.values()))]).str.to_lowercase()
    assert share(both, ~folded("new_city").is_in(usual.implode())) == pytest.approx(0.125, abs=0.02)
    assert second.select("name", "address", "city").null_count().sum_horizontal().item() == 0


def test_a_typist_slips_more_often_and_levels_have_their_columns(laid):
    few = laid.head(2_000)
    same = {
        level: share(
            pl.concat(
                [few.select("name"), generate.rewrite(few, 5, level).select(new="name")], how="horizontal"
            ),
            folded() == folded("new"),
        )
        for level in ("guide", "typist")
    }
    assert same["typist"] < 0.5 * same["guide"]
    assert generate.rewrite(few, 5, "names").columns == ["true_id", "name"]
    seen = generate.rewrite(few, 5, evidence=True)
    assert seen.columns == [
        "true_id",
        "name",
        "address",
        "city",
        "phone",
        "latitude",
        "longitude",
        "google_place_id",
    ]
    assert (seen["latitude"] - few["latitude"]).abs().max() < 0.001
    assert seen["google_place_id"].drop_nulls().is_in(few["google_place_id"].drop_nulls().implode()).all()


def test_guides_share_what_they_are_told_to_and_tear_groups_apart():
    first, second = generate.guides(3_000, 0.4, 9)
    assert (first.height, second.height) == (3_000, 3_000)
    assert second["true_id"].drop_nulls().is_unique().all()
    assert second["true_id"].drop_nulls().is_in(first["entity_id"].implode()).all()
    assert second["true_id"].is_not_null().sum() == 1_200
    every = places(4_800, 9)
    torn = every.filter(pl.col("kind") == "hotel").with_columns(
        listed=pl.col("entity_id").is_in(first["entity_id"].implode())
    )
    sides = torn.group_by("group").agg(pl.col("listed").any() & ~pl.col("listed").all())
    assert sides["listed"].mean() > 0.5


def test_foods_and_attributes_are_entities_of_their_own():
    foods, attributes = generate.foods(), generate.attributes()
    for frame in (foods, attributes):
        assert frame.columns == ["entity_id", "name", "type", "aliases"]
        assert frame.select(
            pl.struct(folded(), "type").is_unique().all() & pl.col("entity_id").is_unique().all()
        ).item()
        lines = frame.explode("aliases").drop_nulls()
        assert lines.select(
            (folded() != folded("aliases")).all()
            & pl.struct("entity_id", folded("aliases")).is_unique().all()
        ).item()
    assert foods.height > 2_400
    assert attributes["type"].value_counts()["count"].min() >= 60


def test_names_of_foods_are_written_as_people_do():
    foods = generate.foods()
    new = generate.rewrite_names(foods, 4)
    assert new["true_id"].equals(foods["entity_id"])
    assert new["name"].null_count() == 0
    assert 0.3 < (new["name"].str.to_lowercase() == foods["name"].str.to_lowercase()).mean() < 0.7


def test_mentions_line_up_with_the_truth(made):
    mentions, truth = made
    assert mentions["source_id"].equals(truth["source_id"])
    assert all(name == "source_id" or name.startswith("true_") for name in truth.columns)
    known = pl.concat(
        [generate.restaurants(2_000, 3).select("entity_id", "name", "aliases"), generate.foods().drop("type")]
    )
    both = pl.concat([mentions.drop("source_id"), truth], how="horizontal")
    for what in ("restaurant", "food"):
        named = both.join(known, left_on=f"true_{what}_id", right_on="entity_id", how="left")
        assert (named["name"].is_null() == named[f"true_{what}_new"]).all()
        assert share(both, pl.col(f"true_{what}_new")) == pytest.approx(0.05, abs=0.01)
        plain = folded(what).str.replace_all(r"[^\p{L}\d]", "") == folded(
            f"true_{what}_name"
        ).str.replace_all(r"[^\p{L}\d]", "")
        assert named.filter(pl.col(f"true_{what}_written") == "exact").select(plain.all()).item()
        alias = named.filter(pl.col(f"true_{what}_written") == "alias", ~pl.col(f"true_{what}_new"))
        there = pl.col("aliases").list.eval(
            pl.element().str.to_lowercase().str.replace_all(r"[^\p{L}\d]", "")
        )
        assert alias.select(there.list.contains(folded(what).str.replace_all(r"[^\p{L}\d]", "")).all()).item()
        written = dict(both[f"true_{what}_written"].value_counts(normalize=True).rows())
        assert written["exact"] + written["alias"] == pytest.approx(0.7, abs=0.02)
        assert written["light"] == pytest.approx(0.2, abs=0.02)


def test_mentions_are_what_they_should_be(made):
    mentions, _ = made
    assert mentions.height == N
    assert mentions.drop("address", "city").null_count().sum_horizontal().item() == 0
    assert mentions["source_id"].str.contains("^t[13]_[0-9a-z]{6,8}$").all()
    sources = mentions.group_by("source_id").agg(
        pl.col("author", "thread", "created_at", "upvotes", "source_type", "source_url").n_unique()
    )
    assert sources.drop("source_id").max().row(0) == (1,) * 6
    assert sources.height < 0.8 * N
    assert mentions["thread"].n_unique() < 0.2 * N
    assert mentions.select("source_id", "restaurant", "food").is_unique().all()
    assert mentions["created_at"].dtype == pl.Datetime("us", "UTC")
    end = datetime(2026, 11, 1, tzinfo=UTC)
    assert mentions["created_at"].is_between(end - timedelta(days=730), end).all()
    assert mentions["upvotes"].max() > 100 * mentions["upvotes"].median()
    assert mentions["address"].is_not_null().mean() == pytest.approx(0.1, abs=0.02)
    assert mentions["city"].is_not_null().mean() == pytest.approx(0.25, abs=0.05)


def test_a_few_are_mentioned_often_and_ambiguous_names_come_with_a_city(made):
    mentions, truth = made
    counts = truth["true_restaurant_id"].value_counts(sort=True)["count"]
    assert counts.head(20).sum() > 0.2 * N
    many = generate.restaurants(2_000, 3).filter(folded().is_duplicated())["entity_id"]
    told = mentions.filter(truth["true_restaurant_id"].is_in(many.implode()))["city"].is_not_null()
    assert told.mean() == pytest.approx(0.85, abs=0.05)


@pytest.mark.parametrize(
    ("name", "rows", "persons"),
    [
        ("dataset1", 1_000, 500),
        ("dataset3", 5_000, 2_000),
        ("dataset4a", 5_000, 5_000),
        ("dataset4b", 5_000, 5_000),
    ],
)
def test_labelled_sets_are_read(name, rows, persons):
    frame = read(name)
    assert (frame.height, frame["true_id"].n_unique()) == (rows, persons)
    assert frame["rec_id"].is_unique().all()
    assert frame["phone"].null_count() == rows
    text = frame.select(pl.col(pl.String))
    assert not text.select(
        pl.any_horizontal((pl.all() == "") | pl.all().str.contains(r"^\s|\s$")).any()
    ).item()
    assert frame["name"].null_count() < 10
