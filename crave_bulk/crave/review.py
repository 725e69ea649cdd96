"""Review: answer whether a name means the entity that it is like."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import polars as pl

from crave_bulk.connections import one_of
from crave_bulk.crave import graph
from crave_bulk.crave.extraction import PLACE
from crave_bulk.crave.ids import new_ids
from crave_bulk.crave.ingestion import ingest
from crave_bulk.crave.memory import remember
from crave_bulk.crave.newcomers import gained, new_entities, spellings, with_free_places
from crave_bulk.crave.queue import waiting
from crave_bulk.crave.story import Ingested
from crave_bulk.crave.tables import STATUSES, Entities, HeldMentions, Reviews
from crave_bulk.database import Database
from crave_bulk.errors import ContractError

_FACTS = pl.Struct(
    {name: pl.Float64() if name in ("latitude", "longitude") else pl.String() for name in PLACE}
)

_NO_ATTRIBUTES = pl.DataFrame(schema={"entity_id": pl.String, "restaurant_attributes": pl.List(pl.String)})


def review(db: Database, *, status: str = "pending", limit: int | None = None) -> pl.DataFrame:
    """Show the names that may mean an entity, but not surely.

    Args:
        db: the database.
        status: ``pending``, ``accepted`` or ``rejected``.
        limit: how many at most, the surest first.

    Returns:
        One line per name: ``review_id``, ``type``, ``name``, ``candidate`` (the name of the entity), ``confidence``, ``evidence``,
        ``mentions`` (how many wait for it), ``known`` (of its place, as JSON), ``entity_id``, ``runners_up``, ``status`` and
        ``created_at``.

    Raises:
        ContractError: the status is not one of these.
        BulkError: the database refused.

    Example:
        >>> import crave_bulk as cb
        >>> with cb.connect() as db:
        ...     db.create(*cb.crave.TABLES)
        ...     cb.crave.review(db).height
        0
    """
    one_of("status", status, STATUSES)
    rows = db.read(Reviews, where={"status": status}, order_by=["-confidence", "review_id"], limit=limit)
    named = db.read(
        Entities, columns=["entity_id", "name"], where={"entity_id__in": rows["entity_id"].unique()}
    )
    held = db.read(HeldMentions, columns=["review_id"], where={"review_id__in": rows["review_id"]})
    counted = held.group_by("review_id").agg(mentions=pl.len())
    both = rows.join(named.rename({"name": "candidate"}), on="entity_id", how="left", maintain_order="left")
    told = both.join(counted, on="review_id", how="left", maintain_order="left")
    return told.select(
        "review_id", "type", "name", "candidate", "confidence", "evidence", pl.col("mentions").fill_null(0), "known",
        "entity_id", "runners_up", "status", "created_at",
    )  # fmt: skip


def accept(
    db: Database,
    reviews: str | Sequence[str] | pl.Series,
    *,
    entity_id: str | None = None,
    as_of: dt.datetime | None = None,
) -> Ingested:
    """Say that names mean the entities that they are like; what waited for them is ingested.

    Args:
        db: the database.
        reviews: the ids of one or more reviews.
        entity_id: the entity that all of them mean, such as one of the runners-up; their candidates, if not given.
        as_of: the moment from which the days of the metrics are counted; now, if not given.

    Returns:
        What became of the mentions that waited; one that waits for another name too is held again.

    Raises:
        ContractError: there is no such review, or it was answered already, or no such entity.
        BulkError: the database refused; nothing was written.

    Example:
        >>> import crave_bulk as cb
        >>> with cb.connect() as db:
        ...     db.create(*cb.crave.TABLES)
        ...     cb.crave.accept(db, []).counts
        {'input': 0}
    """

    def answer() -> Ingested:
        rows = _open(db, reviews)
        meant = rows.with_columns(entity_id=pl.lit(entity_id) if entity_id else pl.col("entity_id"))
        there = graph.entities(db, meant["entity_id"].unique())
        if missing := set(meant["entity_id"]) - set(there["entity_id"]):
            raise ContractError(f"there is no entity {missing.pop()!r}: choose one of the candidates")
        kinds = meant.join(there.select("entity_id", kind="type", called="name"), on="entity_id")
        if (others := kinds.filter(pl.col("type") != pl.col("kind"))).height:
            first = others.row(0, named=True)
            raise ContractError(
                f"review {first['review_id']} is of a {first['type']}: {first['called']!r} is a {first['kind']}"
            )
        # A name that is another entity's as well would send every later mention to review: that is what memory is for.
        more = gained(_facts(meant), there, _NO_ATTRIBUTES)
        if more.height:
            db.upsert(Entities, with_free_places(more, graph.placed(db, more["google_place_id"])))
        return _answered(db, meant, "accepted", as_of)

    return db.atomically(answer, turn=graph.TURN)


def reject(
    db: Database, reviews: str | Sequence[str] | pl.Series, *, as_of: dt.datetime | None = None
) -> Ingested:
    """Say that names mean none of the entities that they are like: each becomes an entity, and what waited is ingested.

    Args:
        db: the database.
        reviews: the ids of one or more reviews.
        as_of: the moment from which the days of the metrics are counted; now, if not given.

    Returns:
        What became of the mentions that waited; one that waits for another name too is held again.

    Raises:
        ContractError: there is no such review, or it was answered already.
        BulkError: the database refused; nothing was written.

    Example:
        >>> import crave_bulk as cb
        >>> with cb.connect() as db:
        ...     db.create(*cb.crave.TABLES)
        ...     cb.crave.reject(db, []).counts
        {'input': 0}
    """

    def answer() -> Ingested:
        rows = _open(db, reviews)
        own = _facts(rows).with_columns(entity_id=new_ids(rows.height), founds=True)
        if own.height:
            db.insert(Entities, new_entities(own, graph.named(db, spellings(own), own["google_place_id"])))
        return _answered(db, own, "rejected", as_of)

    return db.atomically(answer, turn=graph.TURN)


def _facts(rows: pl.DataFrame) -> pl.DataFrame:
    """Read what reviews know of their places."""
    facts = rows.select(pl.col("known").fill_null("{}").str.json_decode(_FACTS)).unnest("known")
    return rows.select("review_id", "lookup", "type", "name", "entity_id").hstack(facts)


def _open(db: Database, reviews: str | Sequence[str] | pl.Series) -> pl.DataFrame:
    """Read reviews that are to be answered."""
    ids = [reviews] if isinstance(reviews, str) else list(dict.fromkeys(reviews))
    rows = db.read(Reviews, where={"review_id__in": ids})
    if unknown := set(ids) - set(rows["review_id"]):
        raise ContractError(
            f"there is no review {min(unknown)!r}: crave_bulk.crave.review(db) shows those there are"
        )
    answered = rows.filter(pl.col("status") != "pending")
    if answered.height:
        first = answered.row(0, named=True)
        raise ContractError(f"review {first['review_id']} of {first['name']!r} was {first['status']} already")
    return rows


def _answered(db: Database, meant: pl.DataFrame, status: str, as_of: dt.datetime | None) -> Ingested:
    """Write an answer down, remember it, and ingest what waited for it."""
    sure = meant.with_columns(decision=pl.lit("alias"), confidence=1.0)
    remember(db, sure, undo=True)
    told = meant.select(
        "review_id", "entity_id", status=pl.lit(status), decided_at=pl.lit(dt.datetime.now(dt.UTC))
    )
    db.update(Reviews, told)
    mentions = waiting(db, meant["review_id"].to_list())
    db.delete(HeldMentions, mentions["held_id"])
    return ingest(db, mentions.drop("held_id"), on_reject="keep", as_of=as_of)
