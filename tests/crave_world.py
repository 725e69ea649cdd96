"""Mentions for the tests of `crave_bulk.crave`, and an oracle of its graph: rows one at a time, in dict loops.

The oracle shares no code with crave_bulk. It knows which name means which entity, and works out from the mentions what
the connections come to.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

import crave_bulk as cb
from crave_bulk import crave

NOW = dt.datetime(2026, 6, 30, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
Row = Mapping[str, Any]
Named = tuple[str, str]
LISTS = ("categories", "food_attributes", "restaurant_attributes")
TYPES = {
    "restaurant": "restaurant",
    "food": "food",
    "categories": "food",
    "food_attributes": "food_attribute",
    "restaurant_attributes": "restaurant_attribute",
}
SCHEMA = {
    **dict.fromkeys(
        ("restaurant", "food", "source_id", "source_type", "thread", "content_excerpt"), pl.String
    ),
    "upvotes": pl.Int64,
    "created_at": pl.Datetime("us", "UTC"),
    **dict.fromkeys(LISTS, pl.List(pl.String)),
    **dict.fromkeys(("address", "city", "google_place_id", "restaurant_temp_id", "food_temp_id"), pl.String),
    "latitude": pl.Float64,
    "longitude": pl.Float64,
}


def said(restaurant: str, food: str, source: str, upvotes: int = 1, days: float = 1, **more: Any) -> Row:
    """One extracted mention, `days` before `NOW`."""
    row = dict.fromkeys(SCHEMA) | {"source_type": "comment"} | {name: [] for name in LISTS}
    named = {"restaurant": restaurant, "food": food, "source_id": source, "upvotes": upvotes}
    return row | named | {"created_at": NOW - days * DAY, "thread": f"thread of {source}"} | more


def frame(*rows: Row) -> pl.DataFrame:
    """An extraction."""
    return pl.DataFrame(list(rows), schema=SCHEMA)


def ingest(db: cb.Database, *rows: Row, **options: Any) -> crave.Ingested:
    """Ingest mentions as of `NOW`."""
    return crave.ingest(db, frame(*rows), **{"as_of": NOW, **options})


def tables(db: cb.Database, *, stamped: bool = True) -> dict[str, pl.DataFrame]:
    """Everything there is, in the order of its keys; without the times of writing, if so asked."""
    found = {table.__name__: db.read(table) for table in crave.TABLES}
    ordered = {name: rows.sort(rows.columns[0]) for name, rows in found.items()}
    return (
        ordered
        if stamped
        else {name: rows.drop("last_updated", strict=False) for name, rows in ordered.items()}
    )


def changed(before: Mapping[str, pl.DataFrame], after: Mapping[str, pl.DataFrame]) -> list[str]:
    """The tables that differ."""
    return [name for name in before if not before[name].equals(after[name])]


def meanings(report: crave.Ingested) -> dict[Named, str]:
    """What each name of an ingestion was found to mean."""
    return {
        (kind, name): entity
        for kind, name, entity in report.resolved.select("type", "name", "entity_id").iter_rows()
    }


class Oracle:
    """What connections come to when their mentions are counted one at a time."""

    def __init__(self, means: Mapping[Named, str] | None = None) -> None:
        self.means = means
        self.connections: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.attributes: dict[str, set[str]] = {}

    def say(self, rows: Iterable[Row]) -> Oracle:
        """Take mentions, in order."""
        for row in rows:
            self._one(row)
        return self

    def _one(self, row: Row) -> None:
        restaurant, food = self._id("restaurant", row["restaurant"]), self._id("food", row["food"])
        lists = {name: sorted({self._id(name, text) for text in row[name]}) for name in LISTS}
        self.attributes.setdefault(restaurant, set()).update(lists["restaurant_attributes"])
        key = (restaurant, food, tuple(lists["food_attributes"]))
        connection = self.connections.setdefault(key, {"categories": set(), "mentions": {}})
        connection["categories"].update(lists["categories"])
        connection["mentions"][row["source_id"]] = row

    def _id(self, role: str, name: str) -> str:
        return name if self.means is None else self.means[TYPES[role], name]

    def told(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The connections and their metrics."""
        return {
            key: {"categories": sorted(one["categories"]), **_counted(list(one["mentions"].values()))}
            for key, one in self.connections.items()
        }


def _counted(mentions: list[Row]) -> dict[str, Any]:
    threads, upvotes, recent = set(), 0, 0
    last = mentions[0]["created_at"]
    for one in mentions:
        threads.add(one["source_id"] if one["thread"] is None else one["thread"])
        upvotes += one["upvotes"]
        recent += one["created_at"] > NOW - 30 * DAY
        last = max(last, one["created_at"])
    best = sorted(mentions, key=lambda one: one["source_id"])
    best = sorted(best, key=lambda one: one["created_at"], reverse=True)
    best = sorted(best, key=lambda one: one["upvotes"], reverse=True)[:10]
    hot = all(one["created_at"] > NOW - 30 * DAY for one in best)
    return {
        "mention_count": len(mentions),
        "total_upvotes": upvotes,
        "source_diversity": len(threads),
        "recent_mention_count": recent,
        "last_mentioned_at": last,
        "activity_level": "trending" if hot else "active" if last > NOW - 7 * DAY else "normal",
        "top_mentions": [(one["source_id"], one["upvotes"], one["created_at"]) for one in best],
        "sources": sorted((one["source_id"], one["upvotes"], one["thread"]) for one in mentions),
    }


def held(db: cb.Database, *, named: bool = False) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The connections that the tables hold, in the oracle's terms: by ids, or by the names of entities."""
    names = dict(db.read(crave.Entities, columns=["entity_id", "name"]).iter_rows()) if named else {}
    sources: dict[str, list[tuple[Any, ...]]] = {}
    columns = ["connection_id", "source_id", "upvotes", "thread"]
    for connection, *source in db.read(crave.Mentions, columns=columns).iter_rows():
        sources.setdefault(connection, []).append(tuple(source))

    def call(entity: str) -> str:
        return names.get(entity, entity)

    found = {}
    for row in db.read(crave.Connections).iter_rows(named=True):
        key = (
            call(row["restaurant_id"]),
            call(row["food_id"]),
            tuple(sorted(map(call, row["food_attributes"]))),
        )
        assert key not in found
        best = [(top["source_id"], top["upvotes"], top["created_at"]) for top in row["top_mentions"]]
        found[key] = {
            "categories": sorted(map(call, row["categories"])),
            **{name: row[name] for name in _METRICS},
            "top_mentions": best,
            "sources": sorted(sources.pop(row["connection_id"], [])),
        }
    assert not sources
    return found


_METRICS = (
    "mention_count", "total_upvotes", "source_diversity", "recent_mention_count", "last_mentioned_at", "activity_level",
)  # fmt: skip


def people(db: cb.Database) -> dict[Named, dict[str, Any]]:
    """The entities by type and name, in terms that do not depend on their ids."""
    rows = db.read(crave.Entities)
    names = dict(rows.select("entity_id", "name").iter_rows())
    return {
        (row["type"], row["name"]): {
            "aliases": sorted(row["aliases"]),
            "restaurant_attributes": sorted(names[one] for one in row["restaurant_attributes"]),
            "metadata": json.loads(row["restaurant_metadata"] or "{}"),
            **{name: row[name] for name in ("address", "google_place_id", "latitude", "longitude")},
        }
        for row in rows.iter_rows(named=True)
    }


def whole(db: cb.Database) -> tuple[Any, ...]:
    """Entities and connections with all that they have, by names."""
    return people(db), held(db, named=True)


def entity(db: cb.Database, kind: str, name: str) -> str:
    """The id of an entity."""
    rows = db.read(crave.Entities, columns=["entity_id"], where={"type": kind, "name": name})
    found: str = rows["entity_id"].item()
    return found
