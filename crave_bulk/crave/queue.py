"""Queue: names that may mean an entity, but not surely, and the mentions that wait for somebody to say."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from crave_bulk.crave.extraction import COLUMNS, PLACE
from crave_bulk.crave.story import Story
from crave_bulk.crave.tables import HeldMentions, Reviews
from crave_bulk.database import Database
from crave_bulk.engine import query

_MENTION = list(COLUMNS)
_MENTION_JSON = pl.Struct({**COLUMNS, "created_at": pl.String()})
_MOMENT = "%Y-%m-%dT%H:%M:%S%.6fZ"


def pending(db: Database, names: pl.DataFrame) -> pl.DataFrame:
    """Find the questions that nobody has answered yet: they are not decided by the way.

    Args:
        db: the database.
        names: with their ``lookup``.

    Returns:
        ``lookup``, ``entity_id``, ``confidence``, ``evidence`` and ``runners_up`` of those in the queue.
    """
    columns = ["lookup", "entity_id", "confidence", "evidence", "runners_up"]
    return db.read(Reviews, columns=columns, where={"lookup__in": names["lookup"], "status": "pending"})


def enqueue(db: Database, story: Story, named: pl.DataFrame, held: pl.DataFrame, *, undo: bool) -> None:
    """Put names into the queue, and hold the mentions that wait for them.

    Args:
        db: the database, in a transaction.
        story: of the ingestion.
        named: names with what `crave_bulk.crave.resolve` says of them.
        held: mentions, each with the ``wish`` that it waits for.
        undo: keep what there was.
    """
    if not held.height:
        return
    known = pl.struct(PLACE).struct.json_encode()
    facts = pl.when(pl.any_horizontal(pl.col(PLACE).is_not_null())).then(known)
    asked = named.join(held, on="wish", how="semi").select(
        "wish", "type", "name", "entity_id", "confidence", "evidence", "runners_up", "lookup", known=facts
    )
    report = db.upsert(Reviews, asked.drop("wish"), on="lookup", undo=undo)
    story.add("reviews", report)
    of_wish = asked.select("wish").with_columns(review_id=report.keys["review_id"])
    texts = pl.struct(*_MENTION).struct.json_encode()
    waiting = (
        held.with_columns(pl.col("created_at").dt.strftime(_MOMENT))
        .join(of_wish, on="wish")
        .select(
            "review_id",
            "source_id",
            "restaurant",
            "food",
            pl.col("food_attributes").list.sort(),
            mention=texts,
        )
    )
    of = "to_json([source_id, restaurant, food, food_attributes::VARCHAR])"
    one = f"md5(concat_ws('|', review_id, {of}))::UUID::VARCHAR AS held_id"
    rows = query(f"SELECT {one}, review_id, mention FROM waiting", waiting=waiting)
    story.add("held mentions", db.upsert(HeldMentions, rows, undo=undo))


def waiting(db: Database, reviews: Sequence[str]) -> pl.DataFrame:
    """Read the mentions that wait for reviews.

    Args:
        db: the database.
        reviews: the ids of the reviews.

    Returns:
        ``held_id``, and the columns of an extraction.
    """
    held = db.read(HeldMentions, where={"review_id__in": list(reviews)}, order_by="held_id")
    mentions = held.select("held_id", pl.col("mention").str.json_decode(_MENTION_JSON)).unnest("mention")
    return mentions.with_columns(
        pl.col("created_at").str.to_datetime(_MOMENT, time_unit="us", time_zone="UTC")
    )
