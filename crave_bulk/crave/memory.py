"""Memory: what a name was found to mean, it means from then on.

So that loading the same mentions once more changes nothing, though there are more entities by then that a name could mean;
and so that names which were seen before cost one look at an index, and no comparison with every entity.
"""

from __future__ import annotations

import polars as pl

from crave_bulk.crave.graph import entities
from crave_bulk.crave.tables import Lookups
from crave_bulk.database import Database
from crave_bulk.report import Report


def remembered(db: Database, names: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Find the names whose meaning is known.

    Args:
        db: the database.
        names: with their ``lookup``.

    Returns:
        ``lookup``, ``entity_id``, ``decision`` and ``confidence`` of those; and their entities. A name that created its entity
        has it exactly.
    """
    known = db.read(Lookups, where={"lookup__in": names["lookup"]}).drop("created_at")
    known = known.with_columns(pl.col("decision").replace("create", "exact"))
    there = entities(db, known["entity_id"].unique())
    return known.join(there, on="entity_id", how="semi"), there  # an entity may have been deleted


def remember(db: Database, named: pl.DataFrame, *, undo: bool) -> Report:
    """Remember what names mean.

    Args:
        db: the database, in a transaction.
        named: ``lookup``, ``entity_id``, ``decision`` and ``confidence``.
        undo: keep what there was.

    Returns:
        What became of each.
    """
    rows = named.select(
        "lookup", "entity_id", pl.col("decision").cast(pl.String), pl.col("confidence").clip(0, 1)
    )
    return db.upsert(Lookups, rows, undo=undo)
