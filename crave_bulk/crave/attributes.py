"""Attributes: give restaurants attributes, and take them away, many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from crave_bulk.crave import graph
from crave_bulk.crave.ids import well_formed
from crave_bulk.crave.tables import Entities
from crave_bulk.database import Database
from crave_bulk.errors import ContractError
from crave_bulk.pipeline.work import OnReject
from crave_bulk.report import Report

Ids = Sequence[str] | pl.Series


def assign_attributes(
    db: Database, restaurants: Ids, attributes: Ids, *, on_reject: OnReject = "raise", undo: bool = True
) -> Report:
    """Give every one of some restaurants every one of some attributes.

    Args:
        db: the database.
        restaurants: their entity ids.
        attributes: the entity ids of restaurant attributes.
        on_reject: ``raise`` writes nothing when an id is refused; ``keep`` writes the others.
        undo: keep what there was.

    Returns:
        What became of each restaurant: ``updated``; ``unchanged`` where it has all of them already; ``missing`` where it is
        not there.

    Raises:
        ContractError: an id among `restaurants` is that of another type of entity.
        RejectedRows: an attribute is none of restaurants, and ``on_reject="raise"``; nothing was written.
        BulkError: the database refused; nothing was written.

    Example:
        >>> import polars as pl, crave_bulk as cb
        >>> rows = pl.DataFrame({"name": ["Palm", "patio"], "type": ["restaurant", "restaurant_attribute"]})
        >>> with cb.connect() as db:
        ...     db.create(*cb.crave.TABLES)
        ...     palm, patio = db.insert(cb.crave.Entities, rows).keys["entity_id"]
        ...     cb.crave.assign_attributes(db, [palm], [patio]).counts
        {'input': 1, 'updated': 1}
    """
    wanted = _ids(attributes)
    return _change(db, restaurants, lambda had: had.list.set_union(pl.lit(wanted).implode()), on_reject, undo)


def remove_attributes(
    db: Database, restaurants: Ids, attributes: Ids, *, on_reject: OnReject = "raise", undo: bool = True
) -> Report:
    """Take some attributes away from every one of some restaurants.

    Args:
        db: the database.
        restaurants: their entity ids.
        attributes: the entity ids of the attributes.
        on_reject: as for `assign_attributes`.
        undo: keep what there was.

    Returns:
        What became of each restaurant.

    Raises:
        ContractError: an id among `restaurants` is that of another type of entity.
        BulkError: the database refused; nothing was written.

    Example:
        >>> import crave_bulk as cb
        >>> with cb.connect() as db:
        ...     db.create(*cb.crave.TABLES)
        ...     cb.crave.remove_attributes(db, [], []).counts
        {'input': 0}
    """
    unwanted = _ids(attributes)
    return _change(
        db, restaurants, lambda had: had.list.set_difference(pl.lit(unwanted).implode()), on_reject, undo
    )


def _ids(ids: Ids) -> pl.Series:
    return pl.Series("id", [ids] if isinstance(ids, str) else ids, dtype=pl.String).unique(
        maintain_order=True
    )


def _change(
    db: Database, restaurants: Ids, change: Callable[[pl.Expr], pl.Expr], on_reject: OnReject, undo: bool
) -> Report:
    """Change the attributes of restaurants, from what they are when nobody else changes them."""

    def write() -> Report:
        ids = _ids(restaurants)
        there = db.read(
            Entities,
            columns=["entity_id", "name", "type", "restaurant_attributes"],
            where={"entity_id__in": well_formed(ids)},
        )
        if (others := there.filter(pl.col("type") != "restaurant")).height:
            first = others.row(0, named=True)
            raise ContractError(
                f"{first['entity_id']} is {first['name']!r}, a {first['type']}: only restaurants have attributes"
            )
        rows = ids.to_frame("entity_id").join(there, on="entity_id", how="left", maintain_order="left")
        had = pl.col("restaurant_attributes").fill_null([])
        new = change(had)
        same = new.list.len() == had.list.len()  # all that is there stays, or goes, in its order
        changed = rows.select(
            "entity_id", restaurant_attributes=pl.when(same).then(had).otherwise(new.list.sort())
        )
        return db.update(Entities, changed, on_reject=on_reject, undo=undo)

    return db.atomically(write, turn=graph.TURN)
