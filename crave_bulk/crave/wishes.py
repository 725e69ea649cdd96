"""Wishes: the different names that an extraction uses, each to be resolved once, and which row uses which."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from crave_bulk.crave.extraction import PLACE
from crave_bulk.crave.names import simplified

ROLES = {
    "restaurant": "restaurant",
    "food": "food",
    "categories": "food",
    "food_attributes": "food_attribute",
    "restaurant_attributes": "restaurant_attribute",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """The names of an extraction.

    Attributes:
        names: ``wish`` (0, 1, …), ``type``, ``name``, the columns of places, and ``lookup``, all of these as one text: each
            different one once, in the first of its spellings.
        uses: ``row``, ``role`` (a column of the extraction), ``wish``, and ``name`` as it is written there.
    """

    names: pl.DataFrame
    uses: pl.DataFrame


def wishes(mentions: pl.DataFrame) -> Wishes:
    """Collect the names of an extraction.

    Args:
        mentions: what `crave_bulk.crave.extraction.read` gives.

    Returns:
        The names, restaurants first, in the order in which they come.

    Example:
        >>> import datetime as dt
        >>> from crave_bulk.crave.extraction import read
        >>> moment = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
        >>> said = {"restaurant": ["Palm", "Palm"], "food": ["pie", "stew"], "categories": [["pie"], []]}
        >>> found = wishes(read(pl.DataFrame(said).with_columns(source_id=pl.lit("a"), created_at=moment)))
        >>> found.names.select("type", "name").rows(), found.uses.height
        ([('restaurant', 'Palm'), ('food', 'pie'), ('food', 'stew')], 5)
    """
    restaurants = mentions.select("row", *PLACE, role=pl.lit("restaurant"), name="restaurant")
    foods = mentions.select("row", role=pl.lit("food"), name="food")
    listed = [
        mentions.select("row", role=pl.lit(role), name=role).explode("name").drop_nulls("name")
        for role in ROLES
        if role not in ("restaurant", "food")
    ]
    every = pl.concat([restaurants, foods, *listed], how="diagonal")
    every = every.sort(pl.col("role") != "restaurant", "row", maintain_order=True)
    looked = every.with_columns(type=pl.col("role").replace_strict(ROLES)).with_columns(lookup=_lookup())
    names = looked.select("lookup", "type", "name", *PLACE).unique(
        "lookup", keep="first", maintain_order=True
    )
    names = names.with_row_index("wish")
    uses = looked.join(names.select("lookup", "wish"), on="lookup", how="left", maintain_order="left")
    return Wishes(names, uses.select("row", "role", "wish", "name"))


def _lookup() -> pl.Expr:
    """Write what is looked up as one text; what varies in writing one and the same thing is left out."""
    texts = [pl.col(name).cast(pl.String).str.to_lowercase().fill_null("") for name in PLACE]
    facts = [text.str.replace_all("|", " ", literal=True) for text in texts]
    return pl.concat_str("type", simplified(pl.col("name")), *facts, separator="|").str.strip_chars_end("|")
