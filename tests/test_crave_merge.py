"""Merging entities, and attributes of many restaurants: what is there afterwards is as if it had been known from the start."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from typing import Any

import polars as pl
import pytest
from crave_world import NOW, Row, changed, entity, frame, held, ingest, people, said, tables, whole

import crave_bulk as cb
from crave_bulk import crave

pytestmark = pytest.mark.thorough_on_postgres  # here as everywhere, what the verbs do is tested on both

NAMES: dict[str, list[str]] = {
    "restaurant": ["Golden Lotus", "Brick Oven Barn"],
    "food": ["ramen", "pizza", "brisket"],
    "food_attribute": ["spicy", "vegan", "crispy"],
    "restaurant_attribute": ["patio", "cheap", "loud"],
}
PAIRS = [
    ("restaurant", "Brick Oven Barn", "Golden Lotus"),
    ("food", "pizza", "ramen"),
    ("food_attribute", "vegan", "spicy"),
    ("restaurant_attribute", "cheap", "patio"),
]


def mentions(number: int = 60) -> list[Row]:
    """Mentions by few sources, so that one speaks of both of a pair; each has its own upvotes, time and thread."""
    draw = random.Random(5)

    def few(kind: str) -> list[str]:
        return draw.sample(NAMES[kind], draw.choice([0, 0, 1, 2]))

    rows = []
    for _ in range(number):
        source = draw.randrange(20)
        rows.append(
            said(
                draw.choice(NAMES["restaurant"]),
                draw.choice(NAMES["food"]),
                f"s{source}",
                source * 7 % 10,
                source * 3,
                thread=f"t{source % 5}",
                categories=few("food"),
                food_attributes=few("food_attribute"),
                restaurant_attributes=few("restaurant_attribute"),
            )
        )
    return rows


def renamed(row: Row, gone: str, into: str) -> Row:
    """A mention by somebody who knows that the two are one."""
    return {
        key: [into if one == gone else one for one in value] if isinstance(value, list) else into if value == gone else value
        for key, value in row.items()
    }  # fmt: skip


@pytest.fixture
def graph(db: cb.Database) -> cb.Database:
    db.create(*crave.TABLES)
    ingest(db, *mentions())
    return db


@pytest.fixture
def memory() -> Any:
    """A graph for what does not depend on the database."""
    with cb.connect() as db:
        db.create(*crave.TABLES)
        yield db


def merge(db: cb.Database, kind: str, gone: str, into: str) -> crave.Merged:
    return crave.merge_entities(db, entity(db, kind, gone), entity(db, kind, into), as_of=NOW)


# -- merges --


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "gone", "into"), PAIRS)
def test_merged_it_is_as_if_it_had_been_known_from_the_start(
    graph: cb.Database, memory: cb.Database, kind: str, gone: str, into: str
) -> None:
    ingest(memory, *(renamed(row, gone, into) for row in mentions()))
    before = tables(graph)
    done = merge(graph, kind, gone, into)
    expected, connections = whole(memory)
    expected[kind, into]["aliases"] = [gone]
    assert whole(graph) == (expected, connections)
    done.undo()
    assert changed(before, tables(graph)) == []


@pytest.mark.parametrize(("kind", "gone", "into"), PAIRS)
def test_a_later_mention_of_the_old_name_goes_to_the_survivor(
    memory: cb.Database, kind: str, gone: str, into: str
) -> None:
    ingest(memory, *mentions())
    merge(memory, kind, gone, into)
    before = tables(memory)
    assert set(ingest(memory, *mentions()).counts) == {"input", "unchanged", "duplicate"}
    assert changed(before, tables(memory)) == []
    new = said(gone.upper() if kind == "restaurant" else "Golden Lotus", "brisket", "z", city="Austin")
    lists = {"food_attributes": ["vegan"], "restaurant_attributes": ["cheap"], "categories": ["pizza"]}
    ingest(memory, {**new, **lists})
    kinds = [name for of, name in people(memory) if of == kind]
    assert gone not in kinds
    assert len(kinds) == len(NAMES[kind]) - 1


def test_what_was_done_is_counted(memory: cb.Database) -> None:
    ingest(
        memory,
        said("Golden Lotus", "ramen", "s1", 2),
        said("Brick Oven Barn", "ramen", "s1", 2),
        said("Brick Oven Barn", "ramen", "s2", 3),
        said("Brick Oven Barn", "pizza", "s3", 4),
    )
    done = merge(memory, "restaurant", "Brick Oven Barn", "Golden Lotus")
    assert done.counts == {"connections": 2, "united": 1, "mentions": 2, "repeated": 1}
    assert done.entity_id == entity(memory, "restaurant", "Golden Lotus")
    found = held(memory, named=True)
    assert {key[1]: (one["mention_count"], one["total_upvotes"]) for key, one in found.items()} == {
        "ramen": (2, 5),
        "pizza": (1, 4),
    }


def test_of_a_source_that_both_have_the_news_stands(memory: cb.Database) -> None:
    ingest(memory, said("Golden Lotus", "ramen", "s1", 2), said("Brick Oven Barn", "pizza", "s2", 9))
    ingest(memory, said("Brick Oven Barn", "ramen", "s1", 30))
    ingest(memory, said("Golden Lotus", "pizza", "s2", 1))
    merge(memory, "restaurant", "Brick Oven Barn", "Golden Lotus")
    assert {key[1]: one["total_upvotes"] for key, one in held(memory, named=True).items()} == {
        "ramen": 30,
        "pizza": 1,
    }


def test_what_each_knew_of_itself_is_known_of_the_survivor(graph: cb.Database) -> None:
    gone, into = (entity(graph, "restaurant", name) for name in ("Brick Oven Barn", "Golden Lotus"))
    graph.update(
        crave.Entities,
        pl.DataFrame(
            {
                "entity_id": [gone, into],
                "aliases": [["Barn", "Lotus"], ["Lotus"]],
                "general_praise_upvotes": [3, 4],
                "address": ["1 Main St", None],
                "google_place_id": ["G", None],
            }
        ),
    )
    crave.merge_entities(graph, gone, into)
    row = graph.read(crave.Entities, where={"entity_id": into}).row(0, named=True)
    assert (row["name"], sorted(row["aliases"])) == ("Golden Lotus", ["Barn", "Brick Oven Barn", "Lotus"])
    assert (row["general_praise_upvotes"], row["address"], row["google_place_id"]) == (7, "1 Main St", "G")
    assert graph.read(crave.Entities, where={"entity_id": gone}).height == 0


def test_figures_that_rest_on_no_mentions_are_put_together(memory: cb.Database) -> None:
    kinds = ["restaurant", "restaurant", "food"]
    names = pl.DataFrame({"name": ["Palm", "The Palm", "pie"], "type": kinds})
    palm, same, pie = memory.insert(crave.Entities, names).keys["entity_id"]
    figures = {
        "mention_count": [2, 3],
        "total_upvotes": [5, 6],
        "last_mentioned_at": [NOW - dt.timedelta(1), NOW],
    }
    memory.insert(crave.Connections, pl.DataFrame({"restaurant_id": [palm, same], "food_id": pie, **figures}))
    crave.merge_entities(memory, same, palm)
    [found] = held(memory).values()
    assert (found["mention_count"], found["total_upvotes"], found["last_mentioned_at"]) == (5, 11, NOW)


def test_an_open_question_about_what_goes_is_about_the_survivor(memory: cb.Database) -> None:
    ingest(
        memory, said("Golden Lotus", "ramen", "s1"), said("Casa Verde", "ramen", "s2", google_place_id="G")
    )
    ingest(memory, said("Zebra Noodles", "ramen", "s3", google_place_id="G"))
    assert crave.review(memory)["candidate"].to_list() == ["Casa Verde"]
    merge(memory, "restaurant", "Casa Verde", "Golden Lotus")
    assert crave.review(memory)["candidate"].to_list() == ["Golden Lotus"]
    crave.accept(memory, crave.review(memory)["review_id"])
    assert [one["mention_count"] for one in held(memory).values()] == [3]


def test_what_makes_no_sense_is_not_merged(graph: cb.Database) -> None:
    lotus, ramen = entity(graph, "restaurant", "Golden Lotus"), entity(graph, "food", "ramen")
    nobody = str(uuid.UUID(int=1))
    before = tables(graph)
    for gone, into, message in [
        (lotus, lotus, "cannot be merged into itself"),
        (nobody, lotus, f"there is no entity '{nobody}'"),
        (lotus, nobody, f"there is no entity '{nobody}'"),
        (lotus, "nonsense", "there is no entity 'nonsense'"),
        (lotus, ramen, "only entities of one type can be one"),
    ]:
        with pytest.raises(cb.ContractError, match=message):
            crave.merge_entities(graph, gone, into)
    with pytest.raises(cb.ContractError, match="as_of has no time zone"):
        crave.merge_entities(graph, nobody, lotus, as_of=dt.datetime(2026, 1, 1))
    assert changed(before, tables(graph)) == []


# -- attributes --


def attributes(db: cb.Database) -> dict[str, list[str]]:
    return {
        name: told["restaurant_attributes"]
        for (kind, name), told in people(db).items()
        if kind == "restaurant"
    }


def test_many_restaurants_get_many_attributes_at_once(db: cb.Database) -> None:
    db.create(*crave.TABLES)
    names = [f"place {number}" for number in range(300)]
    kinds = ["restaurant"] * 300 + ["restaurant_attribute"] * 2 + ["food"]
    rows = pl.DataFrame({"name": [*names, "patio", "cheap", "pie"], "type": kinds})
    *places, patio, cheap, pie = db.insert(crave.Entities, rows).keys["entity_id"]
    assert crave.assign_attributes(db, places[:200], [cheap]).counts == {"input": 200, "updated": 200}
    before = tables(db)
    nobody = str(uuid.UUID(int=1))
    report = crave.assign_attributes(db, [*places, nobody], [patio, cheap, patio])
    assert report.counts == {"input": 301, "updated": 300, "missing": 1}
    assert set(map(tuple, attributes(db).values())) == {("cheap", "patio")}
    assert crave.assign_attributes(db, places, [patio]).counts == {"input": 300, "unchanged": 300}
    report.undo()
    assert changed(before, tables(db)) == []
    assert crave.remove_attributes(db, pl.Series([*places, nobody]), [cheap, pie]).counts == {
        "input": 301,
        "updated": 200,
        "unchanged": 100,
        "missing": 1,
    }
    assert set(map(tuple, attributes(db).values())) == {()}


def test_the_order_of_attributes_that_are_there_is_no_change(memory: cb.Database) -> None:
    rows = pl.DataFrame(
        {"name": ["Palm", "patio", "cheap"], "type": ["restaurant", *["restaurant_attribute"] * 2]}
    )
    palm, patio, cheap = memory.insert(crave.Entities, rows).keys["entity_id"]
    for order in ([patio, cheap], [cheap, patio]):
        memory.update(crave.Entities, pl.DataFrame({"entity_id": palm, "restaurant_attributes": [order]}))
        assert crave.assign_attributes(memory, [palm], [cheap]).counts == {"input": 1, "unchanged": 1}


def test_what_is_no_restaurant_or_no_attribute_of_one_is_refused(graph: cb.Database) -> None:
    lotus, ramen, spicy, patio = (
        entity(graph, kind, NAMES[kind][0])
        for kind in ("restaurant", "food", "food_attribute", "restaurant_attribute")
    )
    before = tables(graph)
    for change in (crave.assign_attributes, crave.remove_attributes):
        with pytest.raises(cb.ContractError, match="is 'ramen', a food: only restaurants have attributes"):
            change(graph, [lotus, ramen], [patio])
    for wrong in (spicy, ramen, lotus, str(uuid.UUID(int=1))):
        with pytest.raises(cb.RejectedRows, match="restaurant_attribute"):
            crave.assign_attributes(graph, [lotus], [patio, wrong])
    with pytest.raises(cb.RejectedRows, match="'nonsense'"):
        crave.assign_attributes(graph, [lotus, "nonsense"], [patio])
    kept = crave.assign_attributes(graph, [lotus], [spicy], on_reject="keep")
    assert kept.counts == {"input": 1, "rejected": 1}
    assert changed(before, tables(graph)) == []


def test_one_id_may_be_given_as_it_is(memory: cb.Database) -> None:
    crave.ingest(memory, frame(said("Golden Lotus", "ramen", "s1", restaurant_attributes=["patio"])))
    lotus, patio = (
        entity(memory, "restaurant", "Golden Lotus"),
        entity(memory, "restaurant_attribute", "patio"),
    )
    assert crave.remove_attributes(memory, lotus, patio).counts == {"input": 1, "updated": 1}
    assert crave.assign_attributes(memory, lotus, patio).counts == {"input": 1, "updated": 1}
