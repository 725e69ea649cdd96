"""Resolve: decide for each name which entity it means, or that there is none yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from crave_bulk.crave.blocking import Side
from crave_bulk.crave.decide import DECISION, TIERS, Rules, decide, only
from crave_bulk.crave.ids import new_ids
from crave_bulk.crave.index import Index
from crave_bulk.crave.sides import PLACE_COLUMNS, checked, side, typed, untyped
from crave_bulk.crave.themselves import among_themselves
from crave_bulk.errors import ContractError


def resolve(
    names: Any,
    against: Any = None,
    *,
    merge_at: float = 0.85,
    review_at: float | None = None,
    create: bool = True,
    candidates: int = 4,
    tiers: Sequence[str] = TIERS,
) -> pl.DataFrame:
    """Decide for each name which entity it means.

    Three tiers are tried: the name in its simplest form (`simplified`) within its type, the same among the aliases, and
    names that are only alike. Whatever is known of the place on both sides (address, city, phone, google_place_id,
    latitude and longitude) counts for or against, on every tier: two branches of a chain in two cities stay two. At
    most one entity can be meant, so candidates that are equally good take confidence from each other. Names that mean
    no entity are resolved against each other, and two entities are never taken for one.

    Args:
        names: a frame with ``name`` and, where known, ``type`` and the columns of places; or a list of names. Where some types
            are known, names and entities without one have a type of their own.
        against: a frame of entities with ``entity_id`` and ``name`` and, where known, ``type``, ``aliases`` (lists) and the
            columns of places; or an `Index` of them; None where there are none yet.
        merge_at: the confidence, from 0 to 1, from which a name is taken for the entity.
        review_at: the confidence from which it goes to review; below, a new entity is created. None: 0.70, and 0.40
            where nothing is created.
        create: False only looks up: no new ids, and several candidates for every name, also where one is found exactly.
        candidates: how many entities to name for each at most.
        tiers: which of ``exact``, ``alias`` and ``fuzzy`` to try.

    Returns:
        One line per name, in order:

        - ``row``, ``name`` and, where given, ``type``
        - ``decision``: ``exact``, ``alias``, ``merge``, ``review``, ``create``; ``none`` where nothing is created, and where there
          is no name
        - ``entity_id``, ``entity_name``: of a new entity a UUIDv7, which all names of it share, or null where ids are no
          texts; of a review the entity that it may be
        - ``confidence``: the probability that it is that entity; of a new one that it is none of those that there are
        - ``tier``: the one that found the entity; null where it is new
        - ``with_row``: the row that a new entity is created for; null where it was there
        - ``evidence``: texts that say what speaks for and against the entity; where none is meant, the likeliest of the
          runners-up
        - ``runners_up``: the other candidates, a list of ``entity_id``, ``confidence`` and ``name``

    Raises:
        ContractError: a column is missing or of the wrong type, an entity has no id, or a threshold makes no sense.

    Example:
        >>> import polars as pl
        >>> there = pl.DataFrame({"entity_id": ["a", "b"], "name": ["The Palm", "Joe's Café"], "city": ["Miami", "Reno"]})
        >>> new = pl.DataFrame({"name": ["Joes Cafe", "Palm", "Palm"], "city": ["Reno", "Boise", "Boise"]})
        >>> found = resolve(new, there)
        >>> found.select("decision", "entity_name", "with_row").rows()
        [('exact', "Joe's Café", None), ('create', 'Palm', 1), ('exact', 'Palm', 1)]
    """
    low = review_at if review_at is not None else min(merge_at, 0.70 if create else 0.40)
    rules = Rules(merge_at, low, create, candidates, tuple(tiers))
    asked = _asked(names)
    index = against if isinstance(against, Index) else Index(_as_far_as_asked(against, asked), keep=False)
    left, lines = _once(side(asked))
    decided = among_themselves(left, decide(*_typed_alike(left, index), rules), rules)
    return _told(asked, lines, decided, index.known)


def _asked(names: Any) -> pl.DataFrame:
    """Check what is to be looked up."""
    if isinstance(names, list | tuple | pl.Series):
        try:
            names = pl.DataFrame({"name": pl.Series(names, dtype=pl.String)})
        except (TypeError, pl.exceptions.PolarsError) as error:
            raise ContractError(f"the names to resolve are no texts: {str(error).splitlines()[0]}") from error
    return checked(names, "the names to resolve", {"name": pl.String()})


def _as_far_as_asked(entities: Any, asked: pl.DataFrame) -> Any:
    """Leave out what is known of the places of entities, but of no name: preparing it would be in vain."""
    unknown = [n for n in PLACE_COLUMNS if n not in asked.columns or asked[n].null_count() == asked.height]
    return (
        entities.drop(unknown, strict=False)
        if isinstance(entities, pl.DataFrame | pl.LazyFrame)
        else entities
    )


def _typed_alike(left: Side, index: Index) -> tuple[Side, Side]:
    """Forget the types where they are known on one side only: there they tell nothing."""
    if typed(left) == typed(index.side) or not len(index):
        return left, index.side
    return untyped(left), index.untyped


def _once(every: Side) -> tuple[Side, pl.DataFrame]:
    """Take rows that are the same in all that counts for one.

    Returns:
        The different rows, in the order in which they come first, and ``row`` → ``left``, the id of its like.
    """
    own = every.names.filter(~pl.col("part")).select("id", "simple")
    full = every.rows.join(own, on="id", maintain_order="left")
    same = full.drop("id").columns
    first = full.select("id", left=pl.col("id").first().over(same, order_by="id"))
    return only(every, first["left"].unique()), first.rename({"id": "row"})


def _told(
    asked: pl.DataFrame, lines: pl.DataFrame, decided: pl.DataFrame, known: pl.DataFrame
) -> pl.DataFrame:
    """Tell for each row what was decided, by ids and names."""
    new = _founded(asked, decided, known.schema["entity_id"])
    named = decided.join(known, on="right", how="left").join(new, on="founder", how="left")
    told = named.select(
        "left",
        "decision",
        pl.coalesce("entity_id", "new_id").alias("entity_id"),
        pl.coalesce("entity_name", "new_name").alias("entity_name"),
        "confidence",
        "tier",
        with_row="founder",
        evidence="evidence",
    )
    rows = asked.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"), pl.col("^(name|type)$"))
    every = rows.join(lines, on="row", how="left").join(told, on="left", how="left")
    full = every.join(_rivals(decided, known), on="left", how="left")
    again = (pl.col("decision") == "create") & (pl.col("row") != pl.col("with_row"))
    return (
        full.with_columns(
            # One row founds an entity; the others that are the same have its name exactly.
            decision=pl.when(again).then(pl.lit("exact", DECISION)).otherwise("decision").fill_null("none"),
            tier=pl.when(again).then(pl.lit("exact")).otherwise("tier"),
            evidence=pl.when(again).then(["same in all that is known"]).otherwise("evidence").fill_null([]),
            runners_up=pl.col("runners_up").fill_null([]),
        )
        .drop("left")
        .sort("row")
    )


def _founded(asked: pl.DataFrame, decided: pl.DataFrame, dtype: pl.DataType) -> pl.DataFrame:
    """Give each new entity its id, and the name of the row that founds it."""
    founders = decided.select(pl.col("founder").drop_nulls().unique().sort())
    ids = new_ids(founders.height) if dtype == pl.String() else [None] * founders.height
    return founders.with_columns(
        new_id=pl.Series(ids, dtype=dtype), new_name=asked["name"].gather(founders["founder"])
    )


def _rivals(decided: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Name the other candidates."""
    few = decided.select("left", "rivals").filter(pl.col("rivals").list.len() > 0)
    named = few.explode("rivals").unnest("rivals").join(known, on="right", maintain_order="left")
    rival = pl.struct("entity_id", "confidence", name="entity_name")
    return named.group_by("left", maintain_order=True).agg(runners_up=rival)
