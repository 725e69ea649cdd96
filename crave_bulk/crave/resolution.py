"""Resolve: decide for each name which entity it means, or that there is none yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from crave_bulk.crave.blocking import Side
from crave_bulk.crave.decide import TIERS, Rules, decide, only
from crave_bulk.crave.ids import new_ids
from crave_bulk.crave.sides import PLACE_COLUMNS, side
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
        names: a frame with ``name`` and, where known, ``type`` and the columns of places; or a list of names.
        against: a frame of entities with ``entity_id`` and ``name`` and, where known, ``type``, ``aliases`` (lists) and the
            columns of places; None where there are none yet.
        merge_at: the confidence, from 0 to 1, from which a name is taken for the entity.
        review_at: the confidence from which it goes to review; below, a new entity is created. None: 0.70, and 0.40
            where nothing is created.
        create: False only looks up: no new ids, and several candidates for every name, also where one is found exactly.
        candidates: how many entities to name for each at most.
        tiers: which of ``exact``, ``alias`` and ``fuzzy`` to try.

    Returns:
        One line per name, in order: ``row``, ``name``, ``type``, ``decision`` (``exact``, ``alias``, ``merge``, ``review``,
        ``create``; ``none`` where nothing is created), ``entity_id`` (of a new one a UUIDv7, which all names of it
        share; of a review the one it may be), ``entity_name``, ``confidence`` (the probability that it is that entity,
        and for a new one that it is none of them), ``tier``, ``with_row`` (the row that a new entity is created
        for), ``evidence`` (a list of texts) and ``runners_up`` (a list of entity_id, name, confidence).

    Raises:
        ContractError: a column is missing or of the wrong type, or a threshold makes no sense.

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
    asked, entities = _asked(names), _entities(against)
    if (
        "type" not in asked.columns or "type" not in entities.columns
    ):  # known on one side only, it tells nothing
        asked, entities = (frame.drop("type", strict=False) for frame in (asked, entities))
    left, lines = _once(side(asked))
    right = side(entities)
    decided = decide(left, right, rules)
    if create:
        decided = among_themselves(left, decided, rules)
    else:
        decided = decided.with_columns(founder=pl.lit(None, pl.UInt32))
    return _told(asked, lines, decided, _known(entities))


def _asked(names: Any) -> pl.DataFrame:
    """Check what is to be looked up."""
    if isinstance(names, list | tuple | pl.Series):
        names = pl.DataFrame({"name": pl.Series(names, dtype=pl.String)})
    return _checked(names, "the names to resolve", {"name": pl.String()})


def _entities(against: Any) -> pl.DataFrame:
    """Check the entities."""
    if against is None:
        return pl.DataFrame(schema={"entity_id": pl.String, "name": pl.String})
    entities = _checked(against, "the entities", {"name": pl.String()}, {"aliases": pl.List(pl.String)})
    if "entity_id" not in entities.columns:
        raise ContractError(f"the entities have no column 'entity_id': they have {entities.columns}")
    return entities


def _checked(
    frame: Any, what: str, needed: dict[str, pl.DataType], more: dict[str, pl.DataType] | None = None
) -> pl.DataFrame:
    frame = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    if not isinstance(frame, pl.DataFrame):
        raise ContractError(f"{what} are a {type(frame).__name__}: pass a Polars frame with a column 'name'")
    for name, dtype in needed.items():
        if name not in frame.columns:
            raise ContractError(f"{what} have no column {name!r}: they have {frame.columns}")
    known = {**needed, **(more or {}), "type": pl.String(), **PLACE_COLUMNS}
    try:
        return frame.with_columns(pl.col(name).cast(known[name]) for name in frame.columns if name in known)
    except pl.exceptions.PolarsError as error:
        raise ContractError(
            f"{what} have a column of the wrong type: {str(error).splitlines()[0]}"
        ) from error


def _once(every: Side) -> tuple[Side, pl.DataFrame]:
    """Take rows that are the same in all that counts for one.

    Returns:
        The different rows, in the order in which they come first, and ``row`` → ``left``, the id of its like.
    """
    own = every.names.filter(~pl.col("part") & ~pl.col("alias")).select("id", "simple")
    full = every.rows.join(own, on="id", how="left", maintain_order="left")
    same = full.drop("id").columns
    first = full.select("id", left=pl.col("id").first().over(same, order_by="id"))
    kept = first["left"].unique()
    return only(every, kept), first.rename({"id": "row"})


def _known(entities: pl.DataFrame) -> pl.DataFrame:
    return entities.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("right"), "entity_id", entity_name="name"
    )


def _told(
    asked: pl.DataFrame, lines: pl.DataFrame, decided: pl.DataFrame, known: pl.DataFrame
) -> pl.DataFrame:
    """Tell for each row what was decided, by ids and names."""
    new = _founded(asked, decided, known.schema["entity_id"])
    named = decided.join(known, on="right", how="left").join(new, on="founder", how="left")
    no_one = pl.col("decision").is_in(["create", "none"])
    told = named.select(
        "left",
        "decision",
        pl.when(no_one).then("new_id").otherwise(pl.coalesce("entity_id", "new_id")).alias("entity_id"),
        pl.when(no_one).then("new_name").otherwise(pl.coalesce("entity_name", "new_name")).alias("entity_name"),
        # Of what is created, it is the probability that it is none of the candidates.
        confidence=pl.when(no_one).then(1 - pl.col("some")).otherwise("confidence"),
        tier="tier",
        with_row="founder",
        evidence="evidence",
    )
    rows = asked.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"), pl.col("^(name|type)$"))
    every = rows.join(lines, on="row", how="left").join(told, on="left", how="left")
    return every.join(_rivals(decided, known), on="left", how="left").drop("left").sort("row")


def _founded(asked: pl.DataFrame, decided: pl.DataFrame, dtype: pl.DataType) -> pl.DataFrame:
    """Give each new entity its id, and the name of the row that founds it."""
    founders = decided.select(pl.col("founder").drop_nulls().unique().sort())
    ids = new_ids(founders.height) if dtype == pl.String() else [None] * founders.height
    return founders.with_columns(
        new_id=pl.Series(ids, dtype=dtype), new_name=asked["name"].gather(founders["founder"])
    )


def _rivals(decided: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Name the other candidates."""
    few = (
        decided.select("left", "rivals")
        .filter(pl.col("rivals").list.len() > 0)
        .explode("rivals")
        .unnest("rivals")
    )
    named = few.join(known, on="right", how="inner", maintain_order="left")
    rival = pl.struct("entity_id", "confidence", name="entity_name")
    return named.group_by("left", maintain_order=True).agg(runners_up=rival)
