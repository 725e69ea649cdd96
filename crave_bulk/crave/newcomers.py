"""Newcomers: the rows of new entities, and the aliases that known ones gain."""

from __future__ import annotations

import polars as pl

from crave_bulk.crave.extraction import PLACE


def new_entities(resolved: pl.DataFrame, there: pl.DataFrame) -> pl.DataFrame:
    """Make the rows of the entities that names found.

    An entity has its name and type to itself. So a branch of a chain, whose name another has, is called by its city
    too, where that is not enough by its address, and at last by a number; its plain name becomes an alias.

    Args:
        resolved: names with their ``type``, ``entity_id``, ``founds`` (whether the name founds it), and columns of places.
        there: the ``name`` and ``type`` of all entities there are.

    Returns:
        Rows of `crave_bulk.crave.tables.Entities`.
    """
    told = [pl.col(name).drop_nulls().first() for name in PLACE]
    each = resolved.group_by("entity_id", maintain_order=True).agg(
        pl.col("type").first(),
        pl.col("name").sort_by("founds", descending=True, maintain_order=True).first(),
        *told,
        names=pl.col("name").unique(maintain_order=True),
    )
    named = _told_apart(each, there)
    others = pl.col("names").list.set_difference(pl.concat_list("name"))
    known = pl.struct("city", "phone").struct.json_encode()
    metadata = pl.when(pl.any_horizontal(pl.col("city", "phone").is_not_null())).then(known)
    place = [pl.col(name).round(8) for name in ("latitude", "longitude")]
    return named.select(
        "entity_id",
        "name",
        "type",
        "address",
        "google_place_id",
        *place,
        aliases=others,
        restaurant_metadata=metadata,
    )


def spellings(each: pl.DataFrame) -> pl.Series:
    """List the names that new entities may get.

    Args:
        each: ``entity_id``, ``name``, ``city`` and ``address``.

    Returns:
        Different texts.
    """
    every = [each.select(way.str.slice(0, 255).alias("name")) for way in _ways()]
    return pl.concat(every)["name"].drop_nulls().unique()


def _ways() -> list[pl.Expr]:
    """Call an entity by its name; where another has that, by its city too, by its address, at last by a number."""
    city = pl.col("city").fill_null("")
    return [
        pl.col("name"),
        pl.format("{} ({})", "name", "city"),
        pl.format("{} ({}, {})", "name", "address", city).str.replace(", )", ")", literal=True),
        pl.format("{} #{}", "name", pl.col("entity_id").str.slice(-6)),
    ]


def _told_apart(each: pl.DataFrame, there: pl.DataFrame) -> pl.DataFrame:
    """Give each its own name."""
    taken, waiting, done = there.select("name", "type"), each, []
    for way in _ways():
        called = waiting.with_columns(way.str.slice(0, 255).alias("called")).with_columns(
            again=pl.col("called").is_null()
        )
        clash = called.join(taken, left_on=["called", "type"], right_on=["name", "type"], how="semi")
        # The first of several new ones keeps the name.
        free = pl.col("called").is_not_null() & pl.struct("called", "type").is_first_distinct()
        ours = called.filter(free & ~pl.col("entity_id").is_in(clash["entity_id"].implode()))
        done.append(ours.with_columns(name="called").select(each.columns))
        taken = pl.concat([taken, ours.select(name="called", type="type")])
        waiting = waiting.join(ours.select("entity_id"), on="entity_id", how="anti", maintain_order="left")
    return pl.concat(done)


def gained(resolved: pl.DataFrame, there: pl.DataFrame, attributes: pl.DataFrame) -> pl.DataFrame:
    """Find the entities that gain an alias or an attribute.

    Args:
        resolved: names with the ``entity_id`` that they mean.
        there: those entities, with ``name``, ``type``, ``aliases`` and ``restaurant_attributes``.
        attributes: ``entity_id`` and ``restaurant_attributes``: ids that a restaurant was said to have.

    Returns:
        ``entity_id``, ``name``, ``type``, ``aliases`` and ``restaurant_attributes`` of those: what they gain, to be united.
    """
    names = resolved.group_by("entity_id", maintain_order=True).agg(
        names=pl.col("name").unique(maintain_order=True)
    )
    both = there.join(names, on="entity_id", how="left").join(
        attributes, on="entity_id", how="left", suffix="_new"
    )
    had = pl.concat_list(pl.concat_list("name"), "aliases")
    more = both.with_columns(
        aliases=pl.col("names").list.set_difference(had).fill_null([]),
        restaurant_attributes=pl.col("restaurant_attributes_new")
        .list.set_difference(pl.col("restaurant_attributes"))
        .fill_null([]),
    )
    some = (pl.col("aliases").list.len() > 0) | (pl.col("restaurant_attributes").list.len() > 0)
    return more.filter(some).select("entity_id", "name", "type", "aliases", "restaurant_attributes")
