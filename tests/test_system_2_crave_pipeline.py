"""System 2, the ingestion of a food-discovery backend: every line of it, from mentions to a graph with its metrics."""

from __future__ import annotations

import datetime as dt
import re
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.crave import (
    TABLES,
    Connections,
    Entities,
    Ingested,
    Mentions,
    accept,
    ingest,
    reject,
    resolve,
    review,
)
from crave_bulk.crave.metrics import metrics
from data.crave.generate import everything

pytestmark = pytest.mark.thorough_on_postgres  # here as everywhere, what the verbs do is tested on both

NOW = dt.datetime(2026, 5, 31, tzinfo=dt.UTC)
METRICS = [
    "mention_count",
    "total_upvotes",
    "source_diversity",
    "recent_mention_count",
    "last_mentioned_at",
    "activity_level",
    "top_mentions",
]


@pytest.fixture
def crave(db: cb.Database) -> cb.Database:
    db.create(*TABLES)
    return db


def said(restaurant: str, food: str, source: str, days: float = 1, **more: Any) -> dict[str, Any]:
    """Say what one source says, so many days ago."""
    ago = NOW - dt.timedelta(days=days)
    return {"restaurant": restaurant, "food": food, "source_id": source, "created_at": ago, **more}


def load(db: cb.Database, *mentions: dict[str, Any], **options: Any) -> Ingested:
    return ingest(db, pl.from_dicts(mentions), as_of=NOW, **options)


def names(db: cb.Database, kind: str) -> list[str]:
    return db.read(Entities, where={"type": kind}, order_by="name")["name"].to_list()


def aliases(db: cb.Database, name: str) -> list[str]:
    found: list[str] = db.read(Entities, where={"name": name})["aliases"].item().to_list()
    return found


def sizes(db: cb.Database) -> list[int]:
    return [db.read(table).height for table in TABLES]


def whole(db: cb.Database) -> list[tuple[Any, ...]]:
    """Read all tables, in the order of their keys."""
    return [row for table in TABLES for row in sorted(db.read(table).rows(), key=lambda row: row[0])]


def metric(db: cb.Database, name: str) -> Any:
    """Read a metric of the only connection."""
    return db.read(Connections, columns=[name]).rows()[0][0]


def counted(db: cb.Database) -> pl.DataFrame:
    """Read the metrics of all connections, and hold them to what their mentions come to."""
    columns = ["connection_id", *METRICS]
    there = db.read(Connections, columns=columns, order_by="connection_id")
    anew = metrics(db.read(Mentions), NOW).select(columns).sort("connection_id")
    assert there.equals(anew.cast(there.schema))
    return there


def graph(db: cb.Database) -> list[tuple[Any, ...]]:
    """Tell the connections by the names that they connect, with their metrics."""
    name = db.read(Entities, columns=["entity_id", "name"])
    rows = db.read(Connections).drop("top_mentions")
    for role in ("restaurant", "food"):
        rows = rows.join(name.rename({"entity_id": f"{role}_id", "name": role}), on=f"{role}_id")
    return sorted(rows.select("restaurant", "food", *[m for m in METRICS if m in rows.columns]).rows())


# -- several rows in one statement --


def test_entities_connections_and_mentions_are_written(crave: cb.Database) -> None:
    extra = {"subreddit": "FoodNYC", "author": "ada", "content_excerpt": "So good.", "source_type": "post"}
    report = load(crave, said("Palm", "steak", "t3_a", upvotes=3, source_url="https://x/a", **extra))
    assert report.counts == {"input": 1, "inserted": 1}
    assert [names(crave, kind) for kind in ("restaurant", "food")] == [["Palm"], ["steak"]]
    connection, mention = (crave.read(table).row(0, named=True) for table in (Connections, Mentions))
    ids = dict(report.ids.select("name", "entity_id").iter_rows())
    assert (connection["restaurant_id"], connection["food_id"]) == (ids["Palm"], ids["steak"])
    assert mention["connection_id"] == connection["connection_id"]
    assert (mention["source_id"], mention["upvotes"], mention["source_url"]) == ("t3_a", 3, "https://x/a")
    assert {name: mention[name] for name in extra} == extra


def test_the_number_of_statements_does_not_grow_with_the_rows(crave: cb.Database) -> None:
    def statements(turn: str, rows: int) -> int:
        told: list[str] = []
        crave.trace(told.append)
        words = [md5(f"{turn}{n}".encode()).hexdigest()[:12] for n in range(2 * rows)]  # nothing alike
        many = [said(*pair, pair[0]) for pair in zip(words[:rows], words[rows:], strict=True)]
        assert load(crave, *many).counts == {"input": rows, "inserted": rows}
        crave._listeners.clear()
        return len([line for line in told if not re.match(r"-- ingest", line)])

    statements("first", 2)  # which also looks for the ledger
    assert statements("few", 5) == statements("many", 60)


# -- three tiers --


@pytest.mark.parametrize(
    ("written", "tier"),
    [("the KATZ'S  delicatessen", "exact"), ("Katz Deli NYC", "alias"), ("Katzs Delicatesen", "fuzzy")],
)
def test_a_name_is_resolved_in_three_tiers(crave: cb.Database, written: str, tier: str) -> None:
    there = {"name": ["Katz's Delicatessen"], "type": ["restaurant"], "aliases": [["Katz Deli NYC"]]}
    known = crave.insert(Entities, pl.DataFrame(there)).keys["entity_id"].item()
    report = load(crave, said(written, "pastrami", "a"))
    found = report.resolved.filter(type="restaurant").row(0, named=True)
    assert (found["tier"], found["entity_id"]) == (tier, known)
    assert names(crave, "restaurant") == ["Katz's Delicatessen"]


def test_a_name_is_looked_for_within_its_type(crave: cb.Database) -> None:
    load(crave, said("Ramen", "Ramen", "a", food_attributes=["ramen"], restaurant_attributes=["ramen"]))
    kinds = ("restaurant", "food", "food_attribute", "restaurant_attribute")
    assert [len(names(crave, kind)) for kind in kinds] == [1, 1, 1, 1]


# -- how sure is sure enough --

KNOWN = "Golden Dragon Palace"
LIKE = [
    "Goldn Dragon Palace",
    "Goden Dagon Palace",
    "Golden Dragon Palace Garden",
    "Golden East Dragon Palace",
    "GolnenDragon Palace",
    "Golden Dragons",
    "The Dragon Palace",
    "Silver Dragon Palace",
    "Golden Phoenix Palace",
    "Green Dragon Place",
]


def like(db: cb.Database, low: float, high: float) -> str:
    """Load a restaurant, and find a name that is as much like it."""
    load(db, said(KNOWN, "duck", "a"))
    sure = confidence(db)
    return next(name for name, value in sure.items() if low <= value < high)


def confidence(db: cb.Database) -> dict[str, float]:
    found = [resolve([name], db.read(Entities), create=False, review_at=0.01) for name in LIKE]
    return {one["name"].item(): one["confidence"].item() for one in found if one["entity_id"].item()}


def test_over_085_merges_and_the_raw_text_becomes_an_alias(crave: cb.Database) -> None:
    name = like(crave, 0.85, 1)
    report = load(crave, said(name, "duck", "b"))
    assert report.resolved["decision"].to_list() == ["merge", "exact"]
    assert names(crave, "restaurant") == [KNOWN]
    assert aliases(crave, KNOWN) == [name]
    assert metric(crave, "mention_count") == 2
    assert "aliases and attributes" not in load(crave, said(name, "duck", "c")).reports


def test_between_070_and_085_goes_to_review(crave: cb.Database) -> None:
    name = like(crave, 0.70, 0.85)
    report = load(crave, said(name, "duck", "b"), said(KNOWN, "duck", "c"))
    assert report.counts == {"input": 2, "inserted": 1, "review": 1}
    assert review(crave).select("name", "candidate", "mentions").rows() == [(name, KNOWN, 1)]
    assert (names(crave, "restaurant"), metric(crave, "mention_count")) == ([KNOWN], 2)


def test_below_070_creates(crave: cb.Database) -> None:
    name = like(crave, 0.1, 0.70)
    assert load(crave, said(name, "duck", "b")).resolved["decision"][0] == "create"
    assert names(crave, "restaurant") == sorted([KNOWN, name])
    assert aliases(crave, KNOWN) == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("merge_at", "review_at", "decision"),
    [(-0.01, -0.02, "merge"), (0.01, -0.01, "review"), (0.02, 0.01, "create")],
)
def test_other_thresholds_are_as_exact(
    crave: cb.Database, merge_at: float, review_at: float, decision: str
) -> None:
    name = like(crave, 0.3, 0.8)
    sure = confidence(crave)[name]
    report = load(crave, said(name, "duck", "b"), merge_at=sure + merge_at, review_at=sure + review_at)
    assert report.resolved["decision"][0] == decision


@pytest.mark.parametrize("answer", ["accept", "reject"])
def test_a_review_is_answered_and_its_mentions_come_in(crave: cb.Database, answer: str) -> None:
    name = like(crave, 0.70, 0.85)
    load(crave, *[said(name, "duck", "b", food_attributes=[word]) for word in ("hot", "mild")])
    report = (accept if answer == "accept" else reject)(crave, review(crave)["review_id"])
    assert report.counts == {"input": 2, "inserted": 2}
    assert names(crave, "restaurant") == ([KNOWN] if answer == "accept" else sorted([KNOWN, name]))
    assert crave.read(Connections).height == 3  # one source may speak of two, by their attributes
    assert review(crave).height == 0
    assert load(crave, said(name.upper(), "duck", "c")).counts == {"input": 1, "inserted": 1}


# -- what a batch says twice --


def test_duplicates_in_the_batch_are_consolidated_by_normalised_name(crave: cb.Database) -> None:
    spellings = ["Café Roma", "cafe roma", "The Cafe  Roma", "CAFE ROMA!"]
    report = load(crave, *[said(name, "Pie", name) for name in spellings], said("Cafe Roma", " pie", "e"))
    assert [names(crave, kind) for kind in ("restaurant", "food")] == [["Café Roma"], ["Pie"]]
    assert report.reports["entities"].counts == {"input": 2, "inserted": 2}
    assert metric(crave, "mention_count") == 5


def test_a_source_counts_once_for_a_connection(crave: cb.Database) -> None:
    report = load(crave, said("Palm", "pie", "a", upvotes=1), said("palm", "Pie", "a", upvotes=5))
    assert report.counts == {"input": 2, "inserted": 1, "duplicate": 1}
    assert load(crave, said("Palm", "pie", "a", upvotes=9)).counts == {"input": 1, "updated": 1}
    assert [metric(crave, name) for name in ("mention_count", "total_upvotes")] == [1, 9]


def test_temp_ids_are_mapped_to_database_ids(crave: cb.Database) -> None:
    known = load(crave, said("Palm", "pie", "a")).ids["entity_id"][0]
    temp = [("r1", "f1"), ("r2", "f2"), ("r3", "f3")]
    three = [said("palm", "stew", "b"), said("Nobu", "stew", "c"), said("Nobu", "PIE", "d")]
    mentions = [
        {**mention, "restaurant_temp_id": r, "food_temp_id": f}
        for mention, (r, f) in zip(three, temp, strict=True)
    ]
    ids = dict(load(crave, *mentions).ids.select("temp_id", "entity_id").iter_rows())
    assert ids["r1"] == known
    assert ids["r2"] == ids["r3"] != known
    assert ids["f1"] == ids["f2"] != ids["f3"]
    there = crave.read(Entities, where={"entity_id__in": list(ids.values())})
    assert set(there["name"]) == {"Palm", "Nobu", "pie", "stew"}


def test_the_map_leaves_open_what_is_for_a_review_to_say(crave: cb.Database) -> None:
    asked = said(like(crave, 0.70, 0.85), "duck", "b", restaurant_temp_id="r1", food_temp_id="f1")
    ids = dict(load(crave, asked).ids.select("temp_id", "entity_id").iter_rows())
    assert ids["r1"] is None
    assert ids["f1"] is not None


# -- the metrics of a connection accumulate --


def twice(db: cb.Database) -> None:
    """Load five mentions of one connection, in two batches."""
    load(
        db,
        said("Palm", "pie", "a", days=400, upvotes=7, thread="t1", categories=["dessert"]),
        said("Palm", "pie", "b", days=40, upvotes=1, thread="t1"),
        said("Palm", "pie", "c", days=12, upvotes=-2, thread="t2"),
    )
    load(
        db,
        said("Palm", "pie", "d", days=3, upvotes=20, thread="t2", categories=["pastry", "Dessert"]),
        said("Palm", "pie", "e", days=29, upvotes=7),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mention_count", 5),
        ("total_upvotes", 33),
        ("source_diversity", 3),  # different threads; one without is its own
        ("recent_mention_count", 3),  # within 30 days
        ("last_mentioned_at", NOW - dt.timedelta(days=3)),
        ("activity_level", "active"),
    ],
)
def test_metrics_accumulate(crave: cb.Database, name: str, value: object) -> None:
    twice(crave)
    assert metric(crave, name) == value
    counted(crave)


@pytest.mark.parametrize(
    ("days", "level"),
    [
        ((1, 20), "trending"),
        ((1, 31), "active"),
        ((8, 31), "normal"),
        ((300,), "normal"),
        ((29,), "trending"),
    ],
)
def test_activity_levels(crave: cb.Database, days: tuple[int, ...], level: str) -> None:
    load(crave, *[said("Palm", "pie", str(day), days=day) for day in days])
    assert metric(crave, "activity_level") == level


def test_top_mentions_are_the_ten_best_in_order(crave: cb.Database) -> None:
    for part in ([5, 1, 9, 9], [2, 30, 4], [8, 7, 6, 3, 0]):
        load(crave, *[said("Palm", "pie", f"{part}{n}", upvotes=up) for n, up in enumerate(part)])
    top = metric(crave, "top_mentions")
    assert [one["upvotes"] for one in top] == [30, 9, 9, 8, 7, 6, 5, 4, 3, 2]
    assert set(top[0]) == {"source_id", "upvotes", "created_at", "source_url", "content_excerpt"}
    assert metric(crave, "mention_count") == 12


def test_categories_unite(crave: cb.Database) -> None:
    twice(crave)
    ids = metric(crave, "categories")
    there = crave.read(Entities, where={"entity_id__in": ids})
    assert set(there["name"]) == {"dessert", "pastry"}
    assert set(there["type"]) == {"food"}


def test_attributes_of_restaurants_unite(crave: cb.Database) -> None:
    load(crave, said("Palm", "pie", "a", restaurant_attributes=["patio"]))
    load(crave, said("palm", "stew", "b", restaurant_attributes=["view", "Patio"]))
    ids = crave.read(Entities, where={"name": "Palm"})["restaurant_attributes"].item()
    there = crave.read(Entities, where={"entity_id__in": ids})
    assert set(there["name"]) == {"patio", "view"}


def test_attributes_of_foods_make_connections_whatever_their_order(crave: cb.Database) -> None:
    lists = [["hot", "vegan"], ["Vegan", "hot", "hot"], ["hot"], []]
    load(crave, *[said("Palm", "pie", str(n), food_attributes=words) for n, words in enumerate(lists)])
    there = crave.read(Connections, order_by="mention_count")
    assert there["mention_count"].to_list() == [1, 1, 2]
    assert sorted(there["food_attributes"].list.len()) == [0, 1, 2]


# -- all of it or nothing, also when many load --


def test_entities_connections_mentions_and_metrics_are_one_transaction(crave: cb.Database) -> None:
    twice(crave)
    assert crave.batches()["transaction_id"].n_unique() == 2


def test_what_the_database_refuses_at_the_end_takes_all_of_it_back(crave: cb.Database) -> None:
    load(crave, said("Palm", "pie", "a", author="ada", upvotes=1))
    with crave.session() as session:
        session.execute("CREATE UNIQUE INDEX one_each ON mentions (author)")
    before = whole(crave), crave.batches()
    with pytest.raises(cb.RejectedRows, match="mentions"):
        load(
            crave,
            said("Palm", "pie", "b", author="lin", upvotes=4, restaurant_attributes=["patio"]),
            said("Nobu", "stew", "c", author="ada"),
        )
    assert whole(crave) == before[0]
    assert crave.batches().equals(before[1])


def test_rows_that_are_no_mentions(crave: cb.Database) -> None:
    mentions = [said("Palm", "pie", "a"), said("", "pie", "b"), said("Palm", "p\0e", "c", source_type="post")]
    with pytest.raises(cb.RejectedRows):
        load(crave, *mentions)
    assert sizes(crave) == [0] * len(TABLES)
    report = load(crave, *mentions, on_reject="keep")
    assert report.counts == {"input": 3, "inserted": 1, "rejected": 2}
    assert report.failures.select("row", "column", "rule").rows() == [
        (1, "restaurant", "not_empty"),
        (2, "food", "no_nul"),
    ]


def test_days_are_counted_from_a_moment_with_a_time_zone(crave: cb.Database) -> None:
    frame = pl.from_dicts([said("Palm", "pie", "a", days=1)])
    with pytest.raises(cb.ContractError, match="as_of has no time zone"):
        ingest(crave, frame, as_of=NOW.replace(tzinfo=None))
    ingest(crave, frame, as_of=NOW.astimezone(dt.timezone(dt.timedelta(hours=5))))
    assert metric(crave, "activity_level") == "trending"


def test_an_ingestion_can_be_taken_back(crave: cb.Database) -> None:
    load(crave, said("Palm", "pie", "a"))
    before = whole(crave)
    load(crave, said("Palms", "pie", "b", restaurant_attributes=["patio"]), said("Nobu", "stew", "c")).undo()
    assert whole(crave) == before


@pytest.mark.thorough
def test_loads_at_the_same_time_agree_with_one_after_the_other(crave: cb.Database) -> None:
    every = [
        said(
            f"Place {n % 4}",
            f"dish {n % 3}",
            f"s{n}",
            days=n % 50,
            upvotes=n,
            restaurant_attributes=[f"a{n % 5}"],
        )
        for n in range(48)
    ]
    parts = [every[start::8] for start in range(8)]
    with ThreadPoolExecutor(4) as threads:
        reports = list(threads.map(lambda part: load(crave, *part), parts))
    assert sum(report.counts["inserted"] for report in reports) == 48
    assert sizes(crave)[:3] == [4 + 3 + 5, 12, 48]
    counted(crave)
    with cb.connect() as alone:
        alone.create(*TABLES)
        load(alone, *every)
        assert graph(alone) == graph(crave)


def test_the_same_load_at_the_same_time_counts_once(crave: cb.Database) -> None:
    mentions = [said("Palm", f"dish {n % 3}", f"s{n}", upvotes=n) for n in range(12)]
    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(lambda _: load(crave, *mentions), range(3)))
    assert sorted(report.counts["inserted"] for report in reports) == [0, 0, 12]
    assert sizes(crave)[:3] == [4, 3, 12]
    counted(crave)


@pytest.mark.thorough
def test_generated_mentions_leave_the_graph_whole(crave: cb.Database) -> None:
    """Load what has the mistakes that people make, in batches, and then once more."""
    made = everything(40, 200, 7, listed=2)
    for kind in ("restaurants", "attributes"):
        columns = [name for name in made[kind].columns if name in ("entity_id", "name", "type", "aliases")]
        once = made[kind].select(columns).unique(["name", "type"], keep="first", maintain_order=True)
        crave.insert(Entities, once)
    halves = [made["extraction"].head(100), made["extraction"].slice(100)]
    for half in halves:
        report = ingest(crave, half, as_of=NOW)
        assert sum(report.counts[name] for name in ("inserted", "updated", "duplicate", "review")) == 100
    counted(crave)
    before = whole(crave)
    for half in halves:
        assert ingest(crave, half, as_of=NOW).counts["inserted"] == 0
    assert whole(crave) == before
