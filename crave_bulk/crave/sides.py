"""Sides: bring names to look up, and the entities to look them up in, to the one form in which they compare."""

from __future__ import annotations

from typing import Any

import polars as pl

from crave_bulk.crave import places
from crave_bulk.crave.blocking import Side
from crave_bulk.crave.names import simplified
from crave_bulk.errors import ContractError

PLACE_COLUMNS: dict[str, pl.DataType] = {
    "google_place_id": pl.String(),
    "phone": pl.String(),
    "address": pl.String(),
    "city": pl.String(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
}


def checked(
    frame: Any, what: str, of: dict[str, pl.DataType | None], more: dict[str, pl.DataType] | None = None
) -> pl.DataFrame:
    """Select what counts of a frame, and check it.

    Args:
        frame: a frame of Polars.
        what: what it holds, for the message.
        of: the columns that it must have, with their types, or None where any will do.
        more: those that it may have, beside ``type`` and the `PLACE_COLUMNS`; every other is left out.

    Returns:
        The columns, cast.

    Raises:
        ContractError: it is no frame, or a column is missing or of the wrong type.
    """
    frame = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    if not isinstance(frame, pl.DataFrame):
        kind = f"{type(frame).__module__}.{type(frame).__qualname__}"
        raise ContractError(f"{what} are of type {kind}: pass a Polars frame with a column 'name'")
    for name in of:
        if name not in frame.columns:
            raise ContractError(f"{what} have no column {name!r}: they have {frame.columns}")
    known = {**(more or {}), "type": pl.String(), **PLACE_COLUMNS}
    wanted = {**of, **{name: dtype for name, dtype in known.items() if name in frame.columns}}
    try:
        return frame.select(pl.col(n) if t is None else pl.col(n).cast(t) for n, t in wanted.items())
    except pl.exceptions.PolarsError as error:
        message = str(error).splitlines()[0]
        raise ContractError(f"{what} have a column of the wrong type: {message}") from error


def side(frame: pl.DataFrame, ids: pl.Series | None = None) -> Side:
    """Prepare a list of names or of entities.

    Args:
        frame: ``name``, and where there are any ``aliases`` (lists), ``type`` and the `PLACE_COLUMNS`.
        ids: the number of each row, where that is not its place; of rows with one number the first tells the place, and
            all tell names.

    Returns:
        The list in the form in which it compares.
    """
    numbers = pl.int_range(pl.len(), dtype=pl.UInt32) if ids is None else pl.lit(ids.cast(pl.UInt32))
    absent = {n: t for n, t in {"type": pl.String(), **PLACE_COLUMNS}.items() if n not in frame.columns}
    full = frame.lazy().with_columns(
        numbers.alias("id"), *(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())
    )
    full = full.with_columns(pl.col("type").fill_null(""), words=places.address_words(pl.col("address")))
    rows = full.select(
        "id",
        "type",
        place_id=pl.col("google_place_id").replace("", None),
        phone=places.phone(pl.col("phone")),
        house=places.house(pl.col("words")),
        street=places.street(pl.col("words")),
        city=places.city(pl.col("city")),
        latitude=pl.col("latitude").fill_nan(None),
        longitude=pl.col("longitude").fill_nan(None),
    ).collect(engine="streaming")
    once = rows if ids is None else rows.unique("id", keep="first", maintain_order=True)
    return Side(_counted(once.sort("id")), _names(full))


def untyped(side: Side) -> Side:
    """Forget the types.

    Args:
        side: names or entities.

    Returns:
        The same, all of one type.
    """
    none = pl.lit("").alias("type")
    kept: dict[str, pl.DataFrame] | None = None if side.kept is None else {}
    return Side(side.rows.with_columns(none), side.names.with_columns(none), kept)


def typed(side: Side) -> bool:
    """Tell whether anything is known of the types.

    Args:
        side: names or entities.

    Returns:
        False where every row is without a type.
    """
    return bool((side.rows["type"] != "").any())


def _counted(rows: pl.DataFrame) -> pl.DataFrame:
    """Count who else has the telephone and the house: the restaurants of a hotel share them, and then they tell less."""
    phones = pl.when(pl.col("phone").is_not_null()).then(pl.len().over("phone"))
    houses = pl.when(pl.col("street").is_not_null()).then(pl.len().over("house", "street", "city"))
    return rows.with_columns(phones=phones, houses=houses)


# A branch or a description that is set apart: "Palm (Las Vegas)", "Palm - Las Vegas", "Palm: Steaks".
_PART = r"^(.*?[\p{L}\p{N}].*?)\s*(?:\(|\s[-–—]\s|: ).*$"


def _names(frame: pl.LazyFrame) -> pl.DataFrame:
    """List every name of each row, in its simplest form, and the first parts of those that have more."""
    own = frame.select("id", "type", text="name", alias=False)
    parts = [own]
    if "aliases" in frame.collect_schema().names():
        other = frame.select("id", "type", text="aliases", alias=True)
        parts.append(other.filter(pl.col("text").list.len() > 0).explode("text"))
    whole = pl.concat(parts).drop_nulls("text").with_columns(part=False)
    first = whole.with_columns(pl.col("text").str.extract(_PART, 1), part=True).drop_nulls("text")
    every = pl.concat([whole, first]).with_columns(simple=simplified(pl.col("text"))).drop("text")
    return every.filter(pl.col("simple") != "").collect(engine="streaming")
