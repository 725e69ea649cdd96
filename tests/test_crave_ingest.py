"""Ingestion: what the tables hold is what mentions counted one at a time come to."""

from __future__ import annotations

import datetime as dt
import random
import sqlite3
from collections.abc import Iterator
from typing import Any

import adbc_driver_postgresql.dbapi as driver
import polars as pl
import pytest
from conftest import empty_database
from crave_world import (
    DAY,
    NOW,
    Oracle,
    Row,
    changed,
    entity,
    frame,
    held,
    ingest,
    meanings,
    people,
    said,
    tables,
    whole,
)
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb
from crave_bulk import crave
from crave_bulk.card import OUTCOME_COLOURS, PHASE_COLOURS

pytestmark = pytest.mark.thorough_on_postgres  # here as everywhere, what the verbs do is tested on both

RESTAURANTS = ["Golden Lotus", "Brick Oven Barn", "Casa Verde"]
FOODS = ["ramen", "pizza", "brisket"]
CATEGORIES = ["pizza", "noodles", "barbecue"]
FOOD_ATTRIBUTES = ["spicy", "vegan"]
RESTAURANT_ATTRIBUTES = ["patio", "cheap"]
AGES = [0, 1, 6.9, 7, 8, 29.9, 30, 31, 90]


def lists(names: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), max_size=2)


MENTIONS = st.builds(
    said,
    st.sampled_from(RESTAURANTS),
    st.sampled_from(FOODS),
    st.sampled_from([f"s{n}" for n in range(8)]),
    st.integers(-3, 9),
    st.sampled_from(AGES),
    thread=st.sampled_from(["t1", "t2", None]),
    categories=lists(CATEGORIES),
    food_attributes=lists(FOOD_ATTRIBUTES),
    restaurant_attributes=lists(RESTAURANT_ATTRIBUTES),
)


def some(number: int, seed: int, sources: int) -> list[Row]:
    """Mentions drawn at random, of few restaurants by many sources."""
    draw = random.Random(seed)

    def few(names: list[str]) -> list[str]:
        return draw.sample(names, draw.randrange(3) % (len(names) + 1))

    return [
        said(
            draw.choice(RESTAURANTS[:2]),
            draw.choice(FOODS[:2]),
            f"s{draw.randrange(sources)}",
            draw.randrange(-2, 6),
            draw.choice(AGES),
            thread=draw.choice(["t1", "t2", "t3", None]),
            categories=few(CATEGORIES),
            food_attributes=few(FOOD_ATTRIBUTES) if draw.random() < 0.3 else [],
            restaurant_attributes=few(RESTAURANT_ATTRIBUTES),
        )
        for _ in range(number)
    ]


@pytest.fixture
def graph(db: cb.Database) -> cb.Database:
    db.create(*crave.TABLES)
    return db


@pytest.fixture
def memory() -> Any:
    """A graph for what does not depend on the database."""
    with cb.connect() as db:
        db.create(*crave.TABLES)
        yield db


PALM = said("Golden Lotus", "ramen", "s1", 3)


# -- what the tables hold --


def test_connections_and_metrics_are_those_of_mentions_counted_one_at_a_time(graph: cb.Database) -> None:
    mentions = some(120, seed=1, sources=40)
    report = ingest(graph, *mentions)
    oracle = Oracle(meanings(report)).say(mentions)
    assert held(graph) == oracle.told()
    assert any(len(one["top_mentions"]) == 10 < one["mention_count"] for one in oracle.told().values())
    attributes = graph.read(crave.Entities, columns=["entity_id", "restaurant_attributes"])
    assert {
        one: set(ids) for one, ids in attributes.iter_rows() if one in oracle.attributes
    } == oracle.attributes
    assert report.counts["inserted"] == graph.read(crave.Mentions).height
    assert report.counts["inserted"] + report.counts["duplicate"] == len(mentions)


@pytest.mark.thorough
@examples(12)
@given(st.lists(MENTIONS, min_size=1, max_size=12), st.data())
def test_mentions_in_batches_are_what_they_are_all_at_once(mentions: list[Row], data: st.DataObject) -> None:
    cuts = [*sorted(data.draw(st.sets(st.integers(1, len(mentions)), max_size=3))), len(mentions)]
    with cb.connect() as once, cb.connect() as cut:
        for db in (once, cut):
            db.create(*crave.TABLES)
        ingest(once, *mentions)
        start = 0
        for end in cuts:
            ingest(cut, *mentions[start:end])
            start = end
        assert whole(cut) == whole(once)
        assert held(once, named=True) == Oracle().say(mentions).told()
        before = tables(once, stamped=False)
        ingest(once, *mentions)
        assert changed(before, tables(once, stamped=False)) == []


def test_batches_on_every_database(graph: cb.Database) -> None:
    mentions = some(60, seed=2, sources=25)
    for start in (0, 7, 8, 30):
        ingest(graph, *mentions[start : {0: 7, 7: 8, 8: 30, 30: 60}[start]])
    assert held(graph, named=True) == Oracle().say(mentions).told()
    before = tables(graph)
    again = ingest(graph, *mentions)
    assert changed(before, tables(graph)) == []
    assert set(again.counts) == {"input", "unchanged", "duplicate"}


def test_a_known_source_with_news_counts_once(graph: cb.Database) -> None:
    ingest(graph, PALM, said("Golden Lotus", "ramen", "s2", 4))
    report = ingest(graph, {**PALM, "upvotes": 50, "content_excerpt": "wow"})
    assert report.counts == {"input": 1, "updated": 1}
    [found] = held(graph).values()
    assert (found["mention_count"], found["total_upvotes"]) == (2, 54)
    assert [top[:2] for top in found["top_mentions"]] == [("s1", 50), ("s2", 4)]


def test_of_one_source_in_a_batch_the_last_stands(memory: cb.Database) -> None:
    report = ingest(
        memory, PALM, {**PALM, "upvotes": 8, "categories": ["noodles"]}, said("Casa Verde", "ramen", "s1")
    )
    assert report.outcomes["outcome"].to_list() == ["duplicate", "inserted", "inserted"]
    assert report.counts == {"input": 3, "inserted": 2, "duplicate": 1}
    found = held(memory, named=True)["Golden Lotus", "ramen", ()]
    assert (found["mention_count"], found["total_upvotes"], found["categories"]) == (1, 8, ["noodles"])


def test_outcomes_are_told_row_by_row(memory: cb.Database) -> None:
    ingest(memory, PALM, said("Casa Verde", "pizza", "s2"))
    nobody = said("", "pizza", "s3")
    report = ingest(
        memory, {**PALM, "upvotes": 9}, nobody, said("Casa Verde", "pizza", "s2"), PALM, said("Casa Verde", "pizza", "s4"),
        on_reject="keep",
    )  # fmt: skip
    outcomes = ["duplicate", "rejected", "unchanged", "unchanged", "inserted"]
    assert report.outcomes["outcome"].to_list() == outcomes
    assert sum(rows for name, rows in report.counts.items() if name != "input") == report.counts["input"] == 5


def test_rows_that_need_nothing_of_each_other_may_be_of_any_number(memory: cb.Database) -> None:
    assert ingest(memory).counts == {"input": 0}
    assert changed(tables(memory), tables(memory)) == []
    assert crave.ingest(memory, frame(PALM).lazy(), as_of=NOW).counts == {"input": 1, "inserted": 1}


# -- names --


def test_every_way_a_name_is_written_becomes_an_alias(memory: cb.Database) -> None:
    ingest(memory, said("Joe's Café", "ramen", "s1"))
    ingest(memory, said("Joes Cafe", "ramen", "s2"), said("joe's café", "ramen", "s3"))
    ingest(memory, said("JOES CAFE", "ramen", "s4"), said("Joes-Cafe", "ramen", "s5"))
    assert people(memory)["restaurant", "Joe's Café"]["aliases"] == ["Joes Cafe", "Joes-Cafe"]
    assert [one["mention_count"] for one in held(memory).values()] == [5]


def test_aliases_do_not_depend_on_batches(memory: cb.Database) -> None:
    names = ["Joe's Café", "Joes Cafe", "joe's café", "Joe\u2019s Cafe"]
    mentions = [said(name, "ramen", f"s{n}") for n, name in enumerate(names)]
    ingest(memory, *mentions)
    with cb.connect() as other:
        other.create(*crave.TABLES)
        for one in mentions:
            ingest(other, one)
        assert whole(other) == whole(memory)


def test_branches_in_two_cities_are_two_with_a_name_each(memory: cb.Database) -> None:
    report = ingest(
        memory,
        said("Burger Bros", "brisket", "s1", city="Austin"),
        said("Burger Bros", "brisket", "s2", city="Boston"),
        said("burger bros", "brisket", "s3", city="Austin"),
    )
    assert report.counts == {"input": 3, "inserted": 3}
    branches = {name: told for (kind, name), told in people(memory).items() if kind == "restaurant"}
    assert {name: told["metadata"]["city"] for name, told in branches.items()} == {
        "Burger Bros": "Austin",
        "Burger Bros (Boston)": "Boston",
    }
    assert {key[0]: one["mention_count"] for key, one in held(memory, named=True).items()} == {
        "Burger Bros": 2,
        "Burger Bros (Boston)": 1,
    }
    ingest(memory, said("Burger Bros", "brisket", "s4", city="Boston"))
    assert held(memory, named=True)["Burger Bros (Boston)", "brisket", ()]["mention_count"] == 2


def test_branches_that_differ_in_nothing_but_their_place_id_get_a_number(memory: cb.Database) -> None:
    ingest(
        memory,
        *(said("Burger Bros", "pizza", f"s{n}", city="Reno", google_place_id=f"G{n}") for n in range(3)),
    )
    names = sorted(
        (name for kind, name in people(memory) if kind == "restaurant"), key=lambda name: "#" in name
    )
    assert sorted(names[:2]) == ["Burger Bros", "Burger Bros (Reno)"]
    assert names[2].startswith("Burger Bros #")


def test_a_place_id_that_another_has_is_left_to_it(graph: cb.Database) -> None:
    ingest(graph, said("Golden Lotus", "ramen", "s1", city="Reno", google_place_id="G"))
    far = said("Casa Verde", "pizza", "s2", city="Boise", google_place_id="G", latitude=10.0, longitude=20.0)
    assert ingest(graph, far, merge_at=0.99, review_at=0.99).counts["inserted"] == 1
    assert people(graph)["restaurant", "Golden Lotus"]["google_place_id"] == "G"
    assert people(graph)["restaurant", "Casa Verde"]["google_place_id"] is None


def test_places_are_kept_as_they_are_known(memory: cb.Database) -> None:
    where = {
        "latitude": 40.71277539812345,
        "longitude": -174.00597281234567,
        "address": "1 Main St",
        "city": "Reno",
    }
    ingest(memory, said("Golden Lotus", "ramen", "s1", google_place_id="G", **where))
    told = people(memory)["restaurant", "Golden Lotus"]
    assert (str(told["latitude"]), str(told["longitude"])) == ("40.71277540", "-174.00597281")
    assert (told["address"], told["google_place_id"]) == ("1 Main St", "G")
    assert told["metadata"] == {"city": "Reno", "phone": None}


def test_what_is_learnt_later_of_a_place_is_added(graph: cb.Database) -> None:
    ingest(graph, said("Golden Lotus", "ramen", "s1", address="1 Main St"))
    later = {"city": "Reno", "google_place_id": "G", "latitude": 1.5, "longitude": 2.5}
    ingest(graph, said("Golden Lotus", "ramen", "s2", address="1 Main Street", **later))
    told = people(graph)["restaurant", "Golden Lotus"]
    assert (told["address"], told["google_place_id"], told["metadata"]["city"]) == ("1 Main St", "G", "Reno")
    assert (float(told["latitude"]), float(told["longitude"])) == (1.5, 2.5)


def test_temporary_ids_lead_to_the_ids_of_the_database(memory: cb.Database) -> None:
    report = ingest(
        memory,
        {**PALM, "restaurant_temp_id": "r1", "food_temp_id": "f1"},
        said("golden lotus", "Ramen", "s2", restaurant_temp_id="r2"),
    )
    lotus, ramen = entity(memory, "restaurant", "Golden Lotus"), entity(memory, "food", "ramen")
    assert report.ids.rows() == [
        (0, "r1", "restaurant", "Golden Lotus", lotus),
        (0, "f1", "food", "ramen", ramen),
        (1, "r2", "restaurant", "golden lotus", lotus),
        (1, None, "food", "Ramen", ramen),
    ]


def test_attributes_unite(memory: cb.Database) -> None:
    ingest(memory, {**PALM, "restaurant_attributes": ["patio"], "categories": ["noodles"]})
    ingest(
        memory,
        said("Golden Lotus", "ramen", "s2", restaurant_attributes=["cheap", "patio"], categories=["pizza"]),
    )
    ingest(memory, said("Golden Lotus", "ramen", "s3", food_attributes=["vegan", "spicy"]))
    assert people(memory)["restaurant", "Golden Lotus"]["restaurant_attributes"] == ["cheap", "patio"]
    found = held(memory, named=True)
    assert found["Golden Lotus", "ramen", ()]["categories"] == ["noodles", "pizza"]
    assert found["Golden Lotus", "ramen", ("spicy", "vegan")]["mention_count"] == 1


# -- what is refused --

BAD: list[tuple[str, Any, str]] = [
    ("restaurant", None, "not_null"),
    ("restaurant", "  ", "not_empty"),
    ("food", "x" * 256, "str_length"),
    ("source_id", "", "not_empty"),
    ("created_at", None, "not_null"),
    ("created_at", dt.datetime(9999, 12, 31, tzinfo=dt.UTC) + 0 * DAY, ""),
    ("source_type", "tweet", "isin"),
    ("latitude", 91.0, "in_range"),
    ("longitude", float("nan"), "in_range"),
    ("upvotes", 2**40, "in_range"),
    ("food", "pie\0", "no_nul"),
    ("content_excerpt", "a\0b", "no_nul"),
    ("categories", ["x" * 256], "str_length"),
    ("food_attributes", ["ok", "b\0"], "no_nul"),
]


def test_rows_that_are_no_mentions_are_refused_with_their_reasons(graph: cb.Database) -> None:
    rows = [said("Casa Verde", "pizza", f"s{n}", **{column: value}) if column in ("latitude", "longitude") else
            {**said("Casa Verde", "pizza", f"s{n}"), column: value} for n, (column, value, _) in enumerate(BAD)]  # fmt: skip
    report = ingest(graph, PALM, *rows, on_reject="keep")
    refused = [(n, column, rule) for n, (column, _, rule) in enumerate(BAD, 1) if rule]
    assert sorted(report.failures.select("row", "column", "rule").iter_rows()) == refused
    assert report.counts == {"input": len(rows) + 1, "inserted": 2, "rejected": len(refused)}
    assert report.rejected.height == len(refused)
    assert len(held(graph)) == 2


def test_one_row_that_is_no_mention_and_nothing_is_written(graph: cb.Database) -> None:
    before = tables(graph)
    with pytest.raises(cb.RejectedRows, match="restaurant: a value is needed") as refused:
        ingest(graph, PALM, said(None, "pizza", "s2"))  # type: ignore[arg-type]
    assert changed(before, tables(graph)) == []
    report = refused.value.report
    assert (report.committed, dict(report.counts)) == (False, {"input": 2, "inserted": 1, "rejected": 1})


@pytest.mark.parametrize(
    ("extraction", "options", "message"),
    [
        (
            frame(PALM).drop("source_id"),
            {},
            "the extraction has no column 'source_id': it needs restaurant, food",
        ),
        (pl.DataFrame(), {}, "the extraction has no column 'restaurant'"),
        (
            frame(PALM).with_columns(pl.col("created_at").dt.replace_time_zone(None)),
            {},
            r"created_at has no time zone: say which it is in, as in pl.col\('created_at'\).dt.replace_time_zone\('UTC'\)",
        ),
        (frame(PALM).with_columns(upvotes=pl.lit("many")), {}, "a column of the wrong type"),
        ([PALM], {}, "the extraction is of type list: pass a Polars frame"),
        (frame(PALM), {"on_reject": "drop"}, "on_reject"),
        (frame(PALM), {"as_of": dt.datetime(2026, 1, 1)}, "as_of has no time zone"),
        (frame(PALM), {"merge_at": 2}, "merge_at"),
    ],
)
def test_what_is_no_extraction_is_an_error(
    memory: cb.Database, extraction: Any, options: Any, message: str
) -> None:
    with pytest.raises(cb.ContractError, match=message):
        crave.ingest(memory, extraction, **options)


def test_without_its_tables_nothing_can_be_ingested(db: cb.Database) -> None:
    with pytest.raises(cb.TableNotFound):
        ingest(db, PALM)


# -- all or nothing --


def test_a_statement_that_fails_in_the_middle_leaves_nothing(graph: cb.Database, url: str) -> None:
    ingest(graph, PALM)
    forbid(url)
    before, connections = tables(graph), held(graph)
    for on_reject in ("raise", "keep"):
        with pytest.raises(cb.BulkError):
            ingest(
                graph,
                said("Casa Verde", "pizza", "s2"),
                said("Casa Verde", "pizza", "forbidden"),
                on_reject=on_reject,
            )
    assert changed(before, tables(graph)) == []
    assert held(graph) == connections


def forbid(url: str) -> None:
    """Let the database refuse a mention by its own rule."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute(
                "CREATE TRIGGER no BEFORE INSERT ON mentions WHEN new.source_id = 'forbidden'"
                " BEGIN SELECT raise(ABORT, 'not this one'); END"
            )
        connection.close()
        return
    with driver.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE mentions ADD CHECK (source_id <> 'forbidden')")


@pytest.fixture
def killing(databases: dict[str, str]) -> Iterator[cb.Database]:
    """A graph whose connection is killed once it is about to write mentions, but once only."""
    killed: list[int] = []
    url = databases["postgres"]
    with driver.connect(url, autocommit=True) as own, own.cursor() as cursor:

        def listen(statement: str) -> None:
            if "mentions" in statement and "mention_id" in statement and "INSERT" in statement and not killed:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                killed.append(len(cursor.fetchall()))

        with cb.connect(url) as db:
            db.create(*crave.TABLES)
            db.trace(listen)
            yield db
    empty_database(url)
    assert killed


def test_a_connection_that_is_killed_in_the_middle_leaves_nothing(
    killing: cb.Database, databases: dict[str, str]
) -> None:
    with pytest.raises(cb.BulkError), killing.transaction():
        ingest(killing, PALM)
    with cb.connect(databases["postgres"]) as other:
        assert [rows.height for rows in tables(other).values()] == [0] * len(crave.TABLES)


def test_an_ingestion_whose_connection_is_killed_is_tried_again(killing: cb.Database) -> None:
    assert ingest(killing, PALM).counts == {"input": 1, "inserted": 1}
    assert held(killing, named=True) == Oracle().say([PALM]).told()


def test_an_ingestion_is_part_of_the_transaction_around_it(graph: cb.Database) -> None:
    before = tables(graph)
    with pytest.raises(RuntimeError), graph.transaction():
        ingest(graph, PALM)
        assert len(held(graph)) == 1
        raise RuntimeError
    assert changed(before, tables(graph)) == []
    with graph.transaction():
        ingest(graph, PALM)
        ingest(graph, said("Golden Lotus", "ramen", "s2"))
    assert [one["mention_count"] for one in held(graph).values()] == [2]


def test_undo_restores_everything(graph: cb.Database) -> None:
    ingest(graph, *some(20, seed=3, sources=10))
    before = tables(graph)
    lists = {"restaurant_attributes": ["new one"], "categories": ["new two"]}
    report = ingest(
        graph,
        *some(25, seed=4, sources=15),
        said("Golden-Lotus", "Pizzas", "x", **lists),
        said("Blue Whale", "cod", "y"),
    )
    assert set(changed(before, tables(graph))) >= {"Entities", "Connections", "Mentions", "Lookups"}
    report.undo()
    assert changed(before, tables(graph)) == []
    assert ingest(graph, PALM).counts["input"] == 1


def test_without_undo_nothing_is_kept(memory: cb.Database) -> None:
    report = ingest(memory, PALM, undo=False)
    with pytest.raises(cb.UndoRefused):
        report.undo()


# -- the report --


def test_the_report_shows_itself(memory: cb.Database) -> None:
    report = ingest(memory, PALM)
    assert "ingest mentions: 1 row -> 1 inserted" in repr(report)
    assert report.plot().axes[0].get_xlabel() == "seconds"
    drawn = report._repr_html_()
    assert {"read", "resolve", "metrics"} <= set(report.timings["phase"]) <= set(PHASE_COLOURS)
    assert all(f"background:{PHASE_COLOURS[phase]}" in drawn for phase in ("read", "resolve", "metrics"))
    assert "review" in OUTCOME_COLOURS
    assert list(report.reports) == ["entities", "lookups", "connections", "mentions"]


def test_resolved_tells_of_each_name_once(memory: cb.Database) -> None:
    report = ingest(memory, PALM, said("golden lotus", "pizza", "s2", categories=["Ramen"]))
    assert report.resolved.select("type", "name").rows() == [
        ("restaurant", "Golden Lotus"),
        ("food", "ramen"),
        ("food", "pizza"),
    ]
