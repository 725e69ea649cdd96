"""Newcomers: the rows of new entities, and the aliases that known ones gain."""

from __future__ import annotations

import json

import polars as pl

from crave_bulk.crave.extraction import PLACE


def new_entities(resolved: pl.DataFrame, there: pl.DataFrame) -> pl.DataFrame:
    """Make the rows of the entities that names found.

    An entity has its name and type to itself. So a branch of a chain, whose name another has, is called by its city
    too, where that is not enough by its address, and at last by a number; its plain name becomes an alias.

    Args:
        resolved: names with their ``type``, ``entity_id``, ``founds`` (whether the name founds it), and columns of places.
        there: ``entity_id``, ``name``, ``type`` and ``google_place_id`` of all entities there are.

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
    others = named.select("entity_id", pl.col("names").alias("name")).explode("name")
    aliases = _unlike(others, named.select("entity_id", had=pl.concat_list("name")))
    known = pl.struct("city", "phone").struct.json_encode()
    metadata = pl.when(pl.any_horizontal(pl.col("city", "phone").is_not_null())).then(known)
    place = [pl.col(name).round(8) for name in ("latitude", "longitude")]
    free = with_free_places(named, there)
    return free.join(aliases, on="entity_id", how="left", maintain_order="left").select(
        "entity_id",
        "name",
        "type",
        "address",
        "google_place_id",
        *place,
        aliases=pl.col("aliases").fill_null([]),
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
    """Find the entities that gain an alias or an attribute, or of whose place more is known now.

    Args:
        resolved: names with the ``entity_id`` that they mean, and columns of places.
        there: those entities, with their ``name``, ``type``, ``aliases``, ``restaurant_attributes``, and columns of places.
        attributes: ``entity_id`` and ``restaurant_attributes``: ids that a restaurant was said to have.

    Returns:
        Rows of `crave_bulk.crave.tables.Entities` of those: what they gain, to be united with what they have.
    """
    told = resolved.group_by("entity_id", maintain_order=True).agg(
        pl.col(name).drop_nulls().first() for name in PLACE
    )
    aliases = _unlike(
        resolved.select("entity_id", "name"),
        there.join(resolved, on="entity_id", how="semi").select(
            "entity_id", had=pl.concat_list(pl.concat_list("name"), "aliases")
        ),
    )
    known = there.join(told, on="entity_id", suffix="_told", maintain_order="right")
    both = known.join(aliases, on="entity_id", how="left", suffix="_new", maintain_order="left").join(
        attributes, on="entity_id", how="left", suffix="_new", maintain_order="left"
    )
    new = {
        name: pl.col(f"{name}_new").list.set_difference(pl.col(name)).fill_null([])
        for name in ("aliases", "restaurant_attributes")
    }
    learnt = [pl.col(name).is_null() & pl.col(f"{name}_told").is_not_null() for name in PLACE]
    more = both.with_columns(**new, learnt=pl.any_horizontal(learnt)).filter(
        pl.col("learnt") | pl.any_horizontal(pl.col(*new).list.len() > 0)
    )
    metadata = [
        _metadata(*row) for row in more.select("restaurant_metadata", *_told("city", "phone")).iter_rows()
    ]
    facts = more.with_columns(_told("address", "google_place_id", "latitude", "longitude"))
    return facts.with_columns(
        pl.col("latitude", "longitude").round(8), restaurant_metadata=pl.Series(metadata, dtype=pl.String)
    ).select(
        "entity_id", "name", "type", *new, "address", "google_place_id", "latitude", "longitude", "restaurant_metadata"
    )  # fmt: skip


def with_free_places(rows: pl.DataFrame, there: pl.DataFrame) -> pl.DataFrame:
    """Leave place ids to the entities that have them: a place has one entity.

    Args:
        rows: of entities.
        there: ``entity_id`` and ``google_place_id`` of entities that are there.

    Returns:
        The rows; of several with one place id the first has it.
    """
    place = pl.col("google_place_id")
    pairs = rows.join(there.drop_nulls("google_place_id"), on="google_place_id", suffix="_there")
    taken = pairs.filter(pl.col("entity_id") != pl.col("entity_id_there"))["entity_id"]
    free = rows.with_columns(google_place_id=pl.when(~pl.col("entity_id").is_in(taken.implode())).then(place))
    return free.with_columns(google_place_id=pl.when(place.is_first_distinct()).then(place))


def _told(*names: str) -> list[pl.Expr]:
    """Add what was told to what was not known."""
    return [pl.coalesce(name, f"{name}_told").alias(name) for name in names]


def _metadata(known: str | None, city: str | None, phone: str | None) -> str | None:
    """Add to what is known of a place where it is, if that is new."""
    told = {name: text for name, text in (("city", city), ("phone", phone)) if text is not None}
    had = json.loads(known) if known else {}
    if not isinstance(had, dict) or all(had.get(name) is not None for name in told):
        return known
    return json.dumps({**had, **{name: text for name, text in told.items() if had.get(name) is None}})


def _unlike(names: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Collect the names that entities do not have yet; upper and lower case make no difference.

    Args:
        names: ``entity_id`` and ``name``.
        known: ``entity_id`` and ``had``, the names that each has.

    Returns:
        ``entity_id`` and ``aliases``.
    """
    lower = pl.col("name").str.to_lowercase()
    had = known.explode("had").drop_nulls("had").select("entity_id", lower=pl.col("had").str.to_lowercase())
    fresh = (
        names.drop_nulls("name")
        .with_columns(lower=lower)
        .unique(["entity_id", "lower"], keep="first", maintain_order=True)
    )
    new = fresh.join(had, on=["entity_id", "lower"], how="anti", maintain_order="left")
    return new.group_by("entity_id", maintain_order=True).agg(aliases="name")
