"""Many ingestions into one database at once come to exactly what one ingestion of everything comes to."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from crave_world import Row, ingest, said, whole

import crave_bulk as cb
from crave_bulk import crave

WRITERS = 8
RESTAURANTS = ["Golden Lotus", "Brick Oven Barn", "Casa Verde", "Blue Whale", "Smoky Pit"]
FOODS = ["ramen", "pizza", "brisket", "cod"]
ATTRIBUTES = {"food_attributes": ["spicy", "vegan"], "restaurant_attributes": ["patio", "cheap"]}


def mentions(number: int = 160) -> list[Row]:
    """Mentions of new restaurants; what a source says is always the same."""
    draw = random.Random(11)
    return [
        said(
            draw.choice(RESTAURANTS),
            draw.choice(FOODS),
            f"s{source}",
            draw.randrange(-3, 50),
            draw.randrange(60),
            thread=f"t{draw.randrange(12)}",
            categories=draw.sample(["noodles", "bread", "fish"], draw.randrange(3)),
            **{name: draw.sample(names, draw.choice([0, 0, 1, 2])) for name, names in ATTRIBUTES.items()},
        )
        for source in range(number)
    ]


def slices() -> list[list[Row]]:
    """Parts of the mentions, each of which has half of the next in it; every part speaks of all restaurants."""
    every, step = mentions(), 160 // WRITERS
    return [(every + every)[start : start + step + step // 2] for start in range(0, 160, step)]


def load(url: str, rows: list[Row]) -> dict[str, int]:
    """Ingest a part in batches, through a connection of one's own."""
    counts: dict[str, int] = {}
    with cb.connect(url) as db:
        for start in range(0, len(rows), 16):
            for name, number in ingest(db, *rows[start : start + 16]).counts.items():
                counts[name] = counts.get(name, 0) + number
    return counts


def all_at_once(pool: Executor, url: str) -> list[dict[str, int]]:
    return list(pool.map(load, [url] * WRITERS, slices()))


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    """Processes of their own, which both databases use, as starting them takes its time."""
    with ProcessPoolExecutor(WRITERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(WRITERS) as pool:
        yield pool


@pytest.fixture(scope="module")
def alone() -> Any:
    """What one ingestion of everything comes to."""
    with cb.connect() as db:
        db.create(*crave.TABLES)
        ingest(db, *mentions())
        return whole(db)


# Eight processes take their time to start.
@pytest.mark.thorough
@pytest.mark.parametrize("workers", ["threads", pytest.param("processes", marks=pytest.mark.thorough)])
def test_writers_at_once_come_to_what_one_writer_does(
    url: str, alone: Any, workers: str, request: Any
) -> None:
    with cb.connect(url) as db:
        db.create(*crave.TABLES)
        counts = all_at_once(request.getfixturevalue(workers), url)
        assert whole(db) == alone
        # Every mention was written by one of those who had it, and found there by the others.
        assert sum(one["inserted"] for one in counts) == db.read(crave.Mentions).height == 160
        assert sum(one["input"] for one in counts) == 240
        assert {name for one in counts for name in one} <= {"input", "inserted", "unchanged"}
        assert db.read(crave.Reviews).height == 0


@pytest.mark.thorough
def test_answers_and_merges_take_their_turn_with_ingestions(db: cb.Database, url: str) -> None:
    db.create(*crave.TABLES)
    ingest(db, said("Golden Lotus", "ramen", "a", google_place_id="G"), said("Lotus House", "ramen", "b"))
    ingest(db, said("Zebra Noodles", "ramen", "c", google_place_id="G"))
    gone, into = (
        db.read(crave.Entities, columns=["entity_id"], where={"name": name})["entity_id"].item()
        for name in ("Lotus House", "Golden Lotus")
    )
    [question] = crave.review(db)["review_id"]
    more = [said("Lotus House", "ramen", f"m{n}") for n in range(24)]
    with ThreadPoolExecutor(4) as pool, cb.connect(url) as other:
        jobs = [pool.submit(load, url, more[:12]), pool.submit(load, url, more[12:])]
        jobs += [
            pool.submit(crave.merge_entities, db, gone, into),
            pool.submit(crave.accept, other, question),
        ]
        for job in jobs:
            job.result()
    assert db.read(crave.Connections)["mention_count"].to_list() == [27]
    assert db.read(crave.Connections)["total_upvotes"].to_list() == [27]
