"""Sides: bring names to look up, and the entities to look them up in, to the one form in which they compare."""

from __future__ import annotations

import polars as pl

from crave_bulk.crave import places
from crave_bulk.crave.blocking import Side
from crave_bulk.crave.names import simplified

PLACE_COLUMNS = {
    "google_place_id": pl.String(),
    "phone": pl.String(),
    "address": pl.String(),
    "city": pl.String(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
}


def side(frame: pl.DataFrame) -> Side:
    """Prepare a list of names or of entities.

    Args:
        frame: ``name``, and where there are any ``aliases`` (lists), ``type`` and the `PLACE_COLUMNS`.

    Returns:
        The list in the form in which it compares.
    """
    frame = frame.with_row_index("id")
    absent = {
        name: dtype
        for name, dtype in {"type": pl.String(), **PLACE_COLUMNS}.items()
        if name not in frame.columns
    }
    full = frame.lazy().with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())
    words = places.address_words(pl.col("address"))
    rows = full.with_columns(words=words).select(
        "id",
        pl.col("type").fill_null(""),
        place_id="google_place_id",
        phone=places.phone(pl.col("phone")),
        house=places.house(pl.col("words")),
        street=places.street(pl.col("words")),
        city=places.city(pl.col("city")),
        latitude=pl.col("latitude").cast(pl.Float64),
        longitude=pl.col("longitude").cast(pl.Float64),
    )
    return Side(_counted(rows.collect(engine="streaming").sort("id")), _names(full))


def _counted(rows: pl.DataFrame) -> pl.DataFrame:
    """Count who else has the telephone and the house: the restaurants of a hotel share them, and then they tell less."""
    phones = pl.when(pl.col("phone").is_not_null()).then(pl.len().over("phone"))
    houses = pl.when(pl.col("street").is_not_null()).then(pl.len().over("house", "street", "city"))
    return rows.with_columns(phones=phones, houses=houses)


# A branch or a description that is set apart: "Palm (Las Vegas)", "Palm - Las Vegas", "Palm: Steaks".
_PART = r"^(.*?[\p{L}\p{N}].*?)\s*(?:\(|\s[-–—]\s|: ).*$"


def _names(frame: pl.LazyFrame) -> pl.DataFrame:
    """List every name of each row, in its simplest form, and the first parts of those that have more."""
    own = frame.select("id", pl.col("type").fill_null(""), text="name", alias=False)
    parts = [own]
    if "aliases" in frame.collect_schema().names():
        other = frame.select("id", pl.col("type").fill_null(""), text="aliases", alias=True)
        parts.append(other.filter(pl.col("text").list.len() > 0).explode("text"))
    whole = pl.concat(parts).drop_nulls("text").with_columns(part=False)
    first = whole.with_columns(pl.col("text").str.extract(_PART, 1), part=True).drop_nulls("text")
    every = pl.concat([whole, first]).with_columns(simple=simplified(pl.col("text"))).drop("text")
    return every.collect(engine="streaming")
