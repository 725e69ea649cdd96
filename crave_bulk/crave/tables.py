"""The tables of food discovery: entities, the connections between them, and the mentions that those rest on.

What unites, adds up or keeps its first value is declared here, and so is what may point at what: a connection goes from
a restaurant to a food, and lists of attributes and categories hold entities of the right type. Any verb refuses a row
that points elsewhere, with its reason.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import polars as pl

from crave_bulk.table import Table, field

EntityType = Literal["restaurant", "food", "food_attribute", "restaurant_attribute"]
ENTITY_TYPES = get_args(EntityType)
ACTIVITY = ("trending", "active", "normal")
SOURCES = ("post", "comment")
STATUSES = ("pending", "accepted", "rejected")
TOP_MENTIONS = 10

_TEXT = {"max_value": 255}
_NAME = {"min_value": 1, "max_value": 255}
Moment = pl.Datetime("us", "UTC")
Ids = pl.List(pl.String)
TopMention = pl.Struct(
    {
        "source_id": pl.String,
        "upvotes": pl.Int64,
        "created_at": Moment,
        "source_url": pl.String,
        "content_excerpt": pl.String,
    }
)
RunnersUp = pl.List(pl.Struct({"entity_id": pl.String, "confidence": pl.Float64, "name": pl.String}))


def _points_at(kind: EntityType) -> dict[str, Any]:
    return {"uuid": True, "references": "entities.entity_id", "references_where": {"type": kind}}


class Entities(Table):
    """One row per restaurant, food or attribute."""

    entity_id: str = field(key=True, uuid=True, default="uuid")
    name: str = field(str_length=_NAME)
    type: str = field(isin=ENTITY_TYPES)
    aliases: pl.List(pl.String) = field(merge="union", default=[])  # type: ignore[valid-type]
    restaurant_attributes: pl.List(pl.String) = field(  # type: ignore[valid-type]
        merge="union", default=[], **_points_at("restaurant_attribute")
    )
    restaurant_quality_score: Annotated[pl.Decimal, 10, 4] | None = field(coerce=True)
    general_praise_upvotes: int = field(ge=0, merge="add", default=0)
    latitude: Annotated[pl.Decimal, 10, 8] | None = field(ge=-90, le=90, coerce=True)
    longitude: Annotated[pl.Decimal, 11, 8] | None = field(ge=-180, le=180, coerce=True)
    address: str | None = field(str_length={"max_value": 500})
    google_place_id: str | None = field(unique=True, str_length=_TEXT)
    restaurant_metadata: str | None = field(json=True)
    last_updated: pl.Datetime("us", "UTC") = field(default="now", on_update="now")  # type: ignore[valid-type]
    created_at: pl.Datetime("us", "UTC") = field(default="now", merge="keep")  # type: ignore[valid-type]

    class Config:
        """The table's name, and what identifies an entity to people."""

        name = "entities"
        unique = ["name", "type"]  # noqa: RUF012


class Connections(Table):
    """One row per restaurant, food of it, and the attributes under which it was mentioned."""

    connection_id: str = field(key=True, uuid=True, default="uuid")
    restaurant_id: str = field(**_points_at("restaurant"))
    food_id: str = field(**_points_at("food"))
    categories: pl.List(pl.String) = field(merge="union", default=[], **_points_at("food"))  # type: ignore[valid-type]
    food_attributes: pl.List(pl.String) = field(default=[], **_points_at("food_attribute"))  # type: ignore[valid-type]
    mention_count: int = field(ge=0, merge="add", default=0)
    total_upvotes: int = field(merge="add", default=0)
    source_diversity: int = field(ge=0, merge="add", default=0)
    recent_mention_count: int = field(ge=0, merge="add", default=0)
    last_mentioned_at: Annotated[pl.Datetime, "us", "UTC"] | None = field(merge="max")
    activity_level: str = field(isin=ACTIVITY, default="normal")
    top_mentions: pl.List(TopMention) = field(  # type: ignore[valid-type]
        merge="union", best=(TOP_MENTIONS, "upvotes"), default=[]
    )
    food_quality_score: Annotated[pl.Decimal, 10, 4] | None = field(coerce=True)
    last_updated: pl.Datetime("us", "UTC") = field(default="now", on_update="now")  # type: ignore[valid-type]
    created_at: pl.Datetime("us", "UTC") = field(default="now", merge="keep")  # type: ignore[valid-type]

    class Config:
        """The table's name, and what identifies a connection to people."""

        name = "connections"
        unique = ["restaurant_id", "food_id", "food_attributes"]  # noqa: RUF012


class Mentions(Table):
    """One row per post or comment that a connection rests on."""

    mention_id: str = field(key=True, uuid=True, default="uuid")
    connection_id: str = field(uuid=True, references="connections.connection_id")
    source_type: str = field(isin=SOURCES)
    source_id: str = field(str_length=_NAME)
    thread: str | None = field(str_length=_TEXT)
    source_url: str | None
    subreddit: str | None
    content_excerpt: str | None
    author: str | None
    upvotes: int = field(default=0)
    created_at: pl.Datetime("us", "UTC")  # type: ignore[valid-type]

    class Config:
        """The table's name; a source counts once for a connection, whose mentions are found by the same index."""

        name = "mentions"
        unique = ["connection_id", "source_id"]  # noqa: RUF012


class Lookups(Table):
    """One row per name, with what was known of its place, that was found to mean an entity: it means that from then on."""

    lookup: str = field(key=True)
    entity_id: str = field(uuid=True)
    decision: str
    confidence: float = field(ge=0, le=1)
    created_at: pl.Datetime("us", "UTC") = field(default="now", merge="keep")  # type: ignore[valid-type]

    class Config:
        """The table's name."""

        name = "lookups"


class Reviews(Table):
    """One row per name that may mean an entity, but not surely: the review queue."""

    review_id: str = field(key=True, uuid=True, default="uuid")
    lookup: str
    type: str = field(isin=ENTITY_TYPES)
    name: str = field(str_length=_NAME)
    known: str | None = field(json=True)
    entity_id: str = field(uuid=True, references="entities.entity_id")
    confidence: float = field(ge=0, le=1)
    evidence: pl.List(pl.String) = field(default=[])  # type: ignore[valid-type]
    runners_up: RunnersUp = field(default=[])  # type: ignore[valid-type]
    status: str = field(isin=STATUSES, default="pending")
    created_at: pl.Datetime("us", "UTC") = field(default="now", merge="keep")  # type: ignore[valid-type]
    decided_at: Annotated[pl.Datetime, "us", "UTC"] | None

    class Config:
        """The table's name; one question is asked once."""

        name = "reviews"
        unique = ["lookup"]  # noqa: RUF012


class HeldMentions(Table):
    """One row per extracted mention that waits for a review."""

    held_id: str = field(key=True, uuid=True)
    review_id: str = field(uuid=True, references="reviews.review_id")
    mention: str = field(json=True)

    class Config:
        """The table's name; the mentions of a review are found by the unique key's index."""

        name = "held_mentions"
        unique = ["review_id", "held_id"]  # noqa: RUF012


TABLES: tuple[type[Table], ...] = (Entities, Connections, Mentions, Lookups, Reviews, HeldMentions)
