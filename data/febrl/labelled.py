"""Read febrl's labelled sets: persons, of whom some are there more than once, and who is who."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Literal

import polars as pl

HERE = Path(__file__).parent
Name = Literal["dataset1", "dataset3", "dataset4a", "dataset4b"]


def _raw(name: Name) -> pl.DataFrame:
    """Read a file as text, trimmed, with null where nothing is written.

    Args:
        name: The set's name.

    Returns:
        Its rows.
    """
    frame = pl.read_csv(gzip.decompress((HERE / f"{name}.csv.gz").read_bytes()), infer_schema=False)
    return frame.rename(str.strip).with_columns(pl.all().str.strip_chars().replace("", None))


def _joined(*columns: str) -> pl.Expr:
    """Join what is there of some columns, with spaces.

    Args:
        *columns: Their names.

    Returns:
        The text, or null if nothing is there.
    """
    return pl.concat_str(*columns, separator=" ", ignore_nulls=True).replace("", None)


def read(name: Name) -> pl.DataFrame:
    """Read a labelled set.

    Args:
        name: The set's name.

    Returns:
        One line per record: rec_id, true_id (the same for one person), name, address, city, postcode, phone (null
        throughout), date_of_birth, soc_sec_id; all but true_id are text.

    Example:
        >>> read("dataset1").select("rec_id", "true_id", "name").row(1)
        ('rec-122-org', 122, 'lachlan berry')
    """
    return _raw(name).select(
        "rec_id",
        pl.col("rec_id").str.extract(r"^rec-(\d+)-").cast(pl.Int64).alias("true_id"),
        _joined("given_name", "surname").alias("name"),
        _joined("street_number", "address_1", "address_2").alias("address"),
        pl.col("suburb").alias("city"),
        "postcode",
        pl.lit(None, dtype=pl.String).alias("phone"),
        "date_of_birth",
        "soc_sec_id",
    )
