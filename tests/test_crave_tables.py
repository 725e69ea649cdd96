"""The tables of food discovery: what unites, adds up or stays, and what may point at what."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import polars as pl
import pytest
from crave_world import DAY, NOW

import crave_bulk as cb
from crave_bulk.crave import TABLES, Connections, Entities, Mentions

pytestmark = pytest.mark.thorough_on_postgres  # here as everywhere, what the verbs do is tested on both

PALM, BARN, STEAK, MEAT, PIE, SPICY, CRISP, PATIO, CHEAP, NOBODY = (str(uuid.UUID(int=n)) for n in range(10))
KINDS = {
    PALM: "restaurant",
    BARN: "restaurant",
    STEAK: "food",
    MEAT: "food",
    PIE: "food",
    SPICY: "food_attribute",
    CRISP: "food_attribute",
    PATIO: "restaurant_attribute",
    CHEAP: "restaurant_attribute",
}
CONNECTION, OTHER = str(uuid.UUID(int=100)), str(uuid.UUID(int=101))
TOP = pl.List(
    pl.Struct(
        {
            "source_id": pl.String,
            "upvotes": pl.Int64,
            "created_at": pl.Datetime("us", "UTC"),
            "source_url": pl.String,
            "content_excerpt": pl.String,
        }
    )
)
TYPES = {
    "aliases": pl.List(pl.String),
    "restaurant_attributes": pl.List(pl.String),
    "categories": pl.List(pl.String),
    "food_attributes": pl.List(pl.String),
    "top_mentions": TOP,
    "last_mentioned_at": pl.Datetime("us", "UTC"),
    "created_at": pl.Datetime("us", "UTC"),
}


def rows(*lines: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(lines), schema_overrides={k: v for k, v in TYPES.items() if k in lines[0]})


def connection(**more: Any) -> pl.DataFrame:
    return rows({"connection_id": CONNECTION, "restaurant_id": PALM, "food_id": STEAK, **more})


def tops(*upvotes: int) -> list[dict[str, Any]]:
    return [
        {"source_id": f"s{n}", "upvotes": n, "created_at": NOW, "source_url": None, "content_excerpt": None}
        for n in upvotes
    ]


@pytest.fixture
def graph(db: cb.Database) -> cb.Database:
    db.create(*TABLES)
    names = [f"thing {n}" for n in range(len(KINDS))]
    db.insert(Entities, pl.DataFrame({"entity_id": list(KINDS), "name": names, "type": list(KINDS.values())}))
    return db


def one(db: cb.Database, table: Any = Connections) -> dict[str, Any]:
    return db.read(table).row(0, named=True)


def palm(db: cb.Database) -> dict[str, Any]:
    return db.read(Entities, where={"entity_id": PALM}).row(0, named=True)


# -- merge rules --


def test_every_rule_by_which_entities_merge(graph: cb.Database) -> None:
    said = {"entity_id": PALM, "name": "Palm", "type": "restaurant"}
    early, late = NOW - DAY, NOW
    graph.upsert(
        Entities,
        rows(
            said
            | {
                "aliases": ["a", "b"],
                "restaurant_attributes": [PATIO],
                "general_praise_upvotes": 2,
                "created_at": early,
            }
        ),
    )
    born = palm(graph)
    graph.upsert(
        Entities,
        rows(
            said
            | {"name": "The Palm", "aliases": ["b", "c"], "restaurant_attributes": [CHEAP, PATIO]}
            | {"general_praise_upvotes": 3, "created_at": late}
        ),
    )
    now = palm(graph)
    assert (now["name"], now["aliases"]) == ("The Palm", ["a", "b", "c"])
    assert now["restaurant_attributes"] == [PATIO, CHEAP]
    assert now["general_praise_upvotes"] == 5
    assert now["created_at"] == born["created_at"]
    assert now["last_updated"] > born["last_updated"]


def test_every_rule_by_which_connections_merge(graph: cb.Database) -> None:
    counts = {"mention_count": 2, "total_upvotes": -5, "source_diversity": 1, "recent_mention_count": 1}
    first = {
        "categories": [MEAT],
        "last_mentioned_at": NOW,
        "created_at": NOW - DAY,
        "activity_level": "active",
    }
    second = {"categories": [PIE, MEAT], "last_mentioned_at": NOW - DAY, "created_at": NOW}
    graph.insert(Connections, connection(**counts, **first, top_mentions=tops(5, 3)))
    graph.upsert(
        Connections, connection(**counts, **second, activity_level="normal", top_mentions=tops(4, 5))
    )
    now = one(graph)
    assert {name: now[name] for name in counts} == {name: 2 * count for name, count in counts.items()}
    assert now["categories"] == [MEAT, PIE]
    assert now["last_mentioned_at"] == NOW
    assert now["activity_level"] == "normal"
    assert now["created_at"] == NOW - DAY
    assert [top["upvotes"] for top in now["top_mentions"]] == [5, 4, 3]


def test_the_ten_mentions_with_most_upvotes_stay(graph: cb.Database) -> None:
    graph.insert(Connections, connection(top_mentions=tops(*range(0, 16, 2))))
    graph.upsert(Connections, connection(top_mentions=tops(*range(1, 16, 2))))
    assert [top["upvotes"] for top in one(graph)["top_mentions"]] == list(range(15, 5, -1))


def test_rows_of_one_frame_merge_like_rows_that_come_one_at_a_time(graph: cb.Database) -> None:
    twice = [
        connection(mention_count=n, categories=[c], last_mentioned_at=NOW - n * DAY)
        for n, c in ((1, MEAT), (4, PIE))
    ]
    graph.upsert(Connections, pl.concat(twice))
    now = one(graph)
    assert (now["mention_count"], now["categories"]) == (5, [MEAT, PIE])
    assert now["last_mentioned_at"] == NOW - DAY


def test_a_first_mention_counts_where_there_was_none(graph: cb.Database) -> None:
    graph.insert(Connections, connection())
    assert (one(graph)["mention_count"], one(graph)["last_mentioned_at"]) == (0, None)
    graph.upsert(Connections, connection(last_mentioned_at=NOW))
    graph.upsert(Connections, connection(last_mentioned_at=None))
    assert one(graph)["last_mentioned_at"] == NOW


# -- what may point at what --

WRONG = [
    ("restaurant_id", STEAK),
    ("restaurant_id", PATIO),
    ("restaurant_id", NOBODY),
    ("food_id", PALM),
    ("food_id", SPICY),
    ("food_id", NOBODY),
    ("categories", [MEAT, PALM]),
    ("categories", [SPICY]),
    ("categories", [NOBODY]),
    ("food_attributes", [SPICY, PATIO]),
    ("food_attributes", [STEAK]),
    ("food_attributes", [NOBODY]),
]


def test_a_connection_that_points_elsewhere_is_refused_with_its_reason(graph: cb.Database) -> None:
    good = {"restaurant_id": PALM, "food_id": STEAK, "categories": [MEAT], "food_attributes": [SPICY]}
    lines = [good | {column: value} for column, value in WRONG]
    report = graph.insert(Connections, rows(*lines, good), on_reject="keep")
    assert report.counts == {"input": len(WRONG) + 1, "inserted": 1, "rejected": len(WRONG)}
    assert dict(report.failures.select("row", "column").iter_rows()) == {
        number: column for number, (column, _) in enumerate(WRONG)
    }
    kinds = {
        "restaurant_id": "restaurant",
        "food_id": "food",
        "categories": "food",
        "food_attributes": "food_attribute",
    }
    for column, message in report.failures.select("column", "message").iter_rows():
        assert kinds[column] in message


def test_an_attribute_that_is_none_of_restaurants_is_refused(graph: cb.Database) -> None:
    said = {"name": "new", "type": "restaurant"}
    lists = [[PATIO, SPICY], [PALM], [NOBODY], [CHEAP, PATIO]]
    lines = [said | {"name": f"new {n}", "restaurant_attributes": ids} for n, ids in enumerate(lists)]
    report = graph.insert(Entities, rows(*lines), on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["rejected"] * 3 + ["inserted"]
    assert report.failures["column"].unique().to_list() == ["restaurant_attributes"]


def test_an_upsert_that_would_point_elsewhere_is_refused_too(graph: cb.Database) -> None:
    graph.insert(Connections, connection(categories=[MEAT]))
    with pytest.raises(cb.RejectedRows, match="food"):
        graph.upsert(Connections, connection(categories=[PALM]))
    with pytest.raises(cb.RejectedRows, match="restaurant"):
        graph.update(Connections, pl.DataFrame({"connection_id": CONNECTION, "restaurant_id": PIE}))
    assert one(graph)["categories"] == [MEAT]


def test_a_mention_without_its_connection_is_refused(graph: cb.Database) -> None:
    graph.insert(Connections, connection())
    told = {"source_type": "post", "source_id": "s", "upvotes": 1, "created_at": NOW}
    report = graph.insert(
        Mentions,
        rows(told | {"connection_id": CONNECTION}, told | {"connection_id": OTHER}),
        on_reject="keep",
    )
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected"]


# -- what identifies --


def test_a_name_belongs_to_one_entity_of_a_type(graph: cb.Database) -> None:
    twice = [
        {"name": "pie", "type": "food"},
        {"name": "pie", "type": "food"},
        {"name": "pie", "type": "restaurant"},
    ]
    report = graph.insert(Entities, pl.DataFrame(twice), on_reject="keep")
    assert report.counts == {"input": 3, "inserted": 2, "rejected": 1}


def test_a_connection_is_one_for_its_restaurant_food_and_attributes(graph: cb.Database) -> None:
    pair = {"restaurant_id": PALM, "food_id": STEAK}
    lists: list[list[str]] = [[], [SPICY], [SPICY, CRISP], [SPICY]]
    report = graph.insert(
        Connections, rows(*(pair | {"food_attributes": ids} for ids in lists)), on_reject="keep"
    )
    assert report.counts == {"input": 4, "inserted": 3, "rejected": 1}


def test_a_source_counts_once_for_a_connection(graph: cb.Database) -> None:
    graph.insert(Connections, pl.concat([connection(), connection(connection_id=OTHER, food_id=PIE)]))
    told = {"source_type": "post", "source_id": "s", "upvotes": 1, "created_at": NOW}
    lines = [told | {"connection_id": one} for one in (CONNECTION, OTHER, CONNECTION)]
    report = graph.insert(Mentions, rows(*lines), on_reject="keep")
    assert report.counts == {"input": 3, "inserted": 2, "rejected": 1}


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (Entities, {"name": "", "type": "food"}),
        (Entities, {"name": "x", "type": "drink"}),
        (Entities, {"name": "x", "type": "food", "general_praise_upvotes": -1}),
        (Entities, {"name": "x", "type": "restaurant", "latitude": 91.0}),
        (Entities, {"name": "x", "type": "restaurant", "restaurant_metadata": "{"}),
        (Connections, {"restaurant_id": PALM, "food_id": STEAK, "mention_count": -1}),
        (Connections, {"restaurant_id": PALM, "food_id": STEAK, "activity_level": "hot"}),
        (
            Mentions,
            {"connection_id": CONNECTION, "source_type": "tweet", "source_id": "s", "created_at": NOW},
        ),
    ],
)
def test_values_that_make_no_sense_are_refused(table: Any, line: dict[str, Any]) -> None:
    with cb.connect() as db:
        db.create(*TABLES)
        assert db.insert(table, rows(line), on_reject="keep").counts["rejected"] == 1


def test_times_are_written_by_themselves(graph: cb.Database) -> None:
    before = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
    graph.insert(Connections, connection())
    assert min(one(graph)["created_at"], one(graph)["last_updated"]) > before
