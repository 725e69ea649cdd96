"""Metrics: what the mentions of a connection come to."""

from __future__ import annotations

import datetime as dt

import polars as pl

from crave_bulk.crave.tables import TOP_MENTIONS
from crave_bulk.errors import ContractError

_RECENT = dt.timedelta(days=30)
_JUST_NOW = dt.timedelta(days=7)


def metrics(mentions: pl.DataFrame, as_of: dt.datetime) -> pl.DataFrame:
    """Work out the metrics of connections from all of their mentions.

    Args:
        mentions: ``connection_id``, ``source_id``, ``thread`` (a mention without one is a thread of its own), ``upvotes``,
            ``created_at``, ``source_url`` and ``content_excerpt``.
        as_of: the moment from which days are counted.

    Returns:
        One line per connection: ``connection_id``, ``mention_count``, ``total_upvotes``, ``source_diversity`` (different threads),
        ``recent_mention_count`` (of the last 30 days), ``last_mentioned_at``, ``top_mentions`` (the ten with most upvotes,
        of equals the newest first), and ``activity_level``: ``trending`` where all of these are of the last 30 days, else
        ``active`` where the last mention is of the last 7, else ``normal``.

    Example:
        >>> now = dt.datetime(2026, 5, 31, tzinfo=dt.UTC)
        >>> mentions = pl.DataFrame({
        ...     "connection_id": ["c", "c"], "source_id": ["a", "b"], "thread": ["t", "t"], "upvotes": [3, 5],
        ...     "created_at": [now - dt.timedelta(days=40), now], "source_url": ["", ""], "content_excerpt": ["", ""],
        ... })
        >>> metrics(mentions, now).select(pl.exclude("connection_id", "top_mentions", "last_mentioned_at")).row(0)
        (2, 8, 1, 1, 'active')
    """
    recent = pl.col("created_at") > as_of - _RECENT
    best = pl.struct("source_id", "upvotes", "created_at", "source_url", "content_excerpt")
    ranked = mentions.sort("upvotes", "created_at", "source_id", descending=[True, True, False])
    found = ranked.group_by("connection_id", maintain_order=True).agg(
        mention_count=pl.len().cast(pl.Int64),
        total_upvotes=pl.col("upvotes").sum(),
        source_diversity=pl.coalesce("thread", "source_id").n_unique().cast(pl.Int64),
        recent_mention_count=recent.sum().cast(pl.Int64),
        last_mentioned_at=pl.col("created_at").max(),
        top_mentions=best.head(TOP_MENTIONS),
        hot=recent.head(TOP_MENTIONS).all(),
    )
    active = pl.col("last_mentioned_at") > as_of - _JUST_NOW
    level = (
        pl.when("hot")
        .then(pl.lit("trending"))
        .when(active)
        .then(pl.lit("active"))
        .otherwise(pl.lit("normal"))
    )
    return found.with_columns(activity_level=level).drop("hot")


def moment(as_of: dt.datetime | None) -> dt.datetime:
    """Take the moment from which days are counted.

    Args:
        as_of: the moment; None for now.

    Returns:
        The moment, in UTC, as that of mentions.

    Raises:
        ContractError: it has no time zone.

    Example:
        >>> moment(dt.datetime(2026, 5, 1, tzinfo=dt.UTC)).year
        2026
    """
    if as_of is not None and as_of.tzinfo is None:
        raise ContractError(
            f"as_of has no time zone ({as_of}): say which it is in, as in as_of.replace(tzinfo=datetime.UTC)"
        )
    return (as_of or dt.datetime.now(dt.UTC)).astimezone(dt.UTC)
