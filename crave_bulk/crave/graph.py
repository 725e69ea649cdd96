"""Graph: read what is there of entities, connections and mentions."""

from __future__ import annotations

import polars as pl

from crave_bulk.crave.tables import Connections, Entities, Mentions
from crave_bulk.database import Database

TURN = (
    "crave"  # whoever changes the graph takes turns, so that two do not create one entity under two spellings
)
_NAMED = [
    "entity_id", "name", "type", "aliases", "restaurant_attributes", "address", "google_place_id", "latitude", "longitude",
    "restaurant_metadata",
]  # fmt: skip
_TAKEN = ["entity_id", "name", "type", "google_place_id"]
_OF_MENTIONS = [
    "mention_id",
    "connection_id",
    "source_id",
    "thread",
    "upvotes",
    "created_at",
    "source_url",
    "content_excerpt",
]
_TRIPLE = ["connection_id", "restaurant_id", "food_id", "food_attributes", "categories"]


def entities(db: Database, ids: pl.Series | None = None) -> pl.DataFrame:
    """Read entities, in the columns that `crave_bulk.crave.resolve` compares.

    Args:
        db: the database.
        ids: which; None for all.

    Returns:
        One line per entity; ``city`` and ``phone`` come from its metadata.
    """
    rows = db.read(Entities, columns=_NAMED, where=None if ids is None else {"entity_id__in": ids})
    told = pl.col("restaurant_metadata").str.json_path_match
    return rows.with_columns(
        pl.col("latitude", "longitude").cast(pl.Float64), city=told("$.city"), phone=told("$.phone")
    )


def connections(db: Database, restaurants: pl.Series) -> pl.DataFrame:
    """Read the connections of some restaurants.

    Args:
        db: the database.
        restaurants: their ids.

    Returns:
        connection_id, restaurant_id, food_id, food_attributes, categories.
    """
    return db.read(Connections, columns=_TRIPLE, where={"restaurant_id__in": restaurants})


def mentions(db: Database, of: pl.Series) -> pl.DataFrame:
    """Read the mentions of some connections.

    Args:
        db: the database.
        of: the ids of the connections.

    Returns:
        What `crave_bulk.crave.metrics.metrics` needs, and the mention_id.
    """
    return db.read(Mentions, columns=_OF_MENTIONS, where={"connection_id__in": of})


def named(db: Database, names: pl.Series, places: pl.Series) -> pl.DataFrame:
    """Read which entities have some names, and which have some places.

    Args:
        db: the database.
        names: the names, to the letter.
        places: Google's ids of places.

    Returns:
        ``entity_id``, ``name``, ``type`` and ``google_place_id``.
    """
    same = db.read(Entities, columns=_TAKEN, where={"name__in": names})
    return pl.concat([same, placed(db, places)])


def placed(db: Database, places: pl.Series) -> pl.DataFrame:
    """Read which entities have some places.

    Args:
        db: the database.
        places: Google's ids of places.

    Returns:
        ``entity_id``, ``name``, ``type`` and ``google_place_id``.
    """
    return db.read(Entities, columns=_TAKEN, where={"google_place_id__in": places.drop_nulls()})
