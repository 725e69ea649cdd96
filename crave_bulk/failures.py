"""Failures: one line per broken rule, in the same shape from every step."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from crave_bulk.backends.codec import within_years

STAGES = ("validate", "reference", "unique", "database")

SCHEMA = pl.Schema(
    {
        "row": pl.Int64(),
        "stage": pl.Enum(STAGES),
        "rule": pl.String(),
        "column": pl.String(),
        "value": pl.String(),
        "message": pl.String(),
    }
)


def none() -> pl.DataFrame:
    """Make a frame of no failures.

    Returns:
        An empty frame: row, stage, rule, column, value, message.
    """
    return pl.DataFrame(schema=SCHEMA)


def failures(
    stage: str, rule: str, column: str, rows: pl.Series, values: pl.Series, message: str
) -> pl.DataFrame:
    """Write the failures of one rule.

    Args:
        stage: the step that found them, one of `STAGES`.
        rule: the name of the rule.
        column: the column it is about, or several, separated by commas.
        rows: the numbers of the input rows that break it.
        values: what stands there, in the same order.
        message: what the rule asks for.

    Returns:
        One line per row.

    Example:
        >>> failures("validate", "ge", "praise", pl.Series([3]), pl.Series([-1]), "at least 0").row(0)
        (3, 'validate', 'ge', 'praise', '-1', 'at least 0')
    """
    frame = pl.DataFrame({"row": rows.cast(pl.Int64), "value": as_text(values)})
    constants = {"stage": stage, "rule": rule, "column": column, "message": message}
    return (
        frame.with_columns(pl.lit(v).alias(k) for k, v in constants.items())
        .select(SCHEMA.names())
        .cast(SCHEMA)
    )


def as_text(values: pl.Series) -> pl.Series:
    """Write values for people to read.

    Args:
        values: of any dtype.

    Returns:
        Text of the same length, null where the value is.
    """
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        return pl.Series(
            values.name, [None if v is None else str(v) for v in values.to_list()], dtype=pl.String
        )
    if isinstance(values.dtype, pl.Duration):
        return values.dt.to_string("polars")
    if isinstance(values.dtype, pl.Date | pl.Datetime):
        return _moments_as_text(values)
    return values.cast(pl.String)


def _moments_as_text(values: pl.Series) -> pl.Series:
    """Write dates; those outside the years that Polars can write appear as their count of units."""
    value = pl.col("v")
    inside = within_years(values.dtype)(value)
    written = pl.when(inside).then(value).cast(pl.String).fill_null(value.to_physical().cast(pl.String))
    return pl.DataFrame({"v": values}).select(written.alias(values.name)).to_series()


def gather(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Put failures together, in the order of their rows.

    Args:
        parts: frames of failures.

    Returns:
        One frame; rules of the same row keep their order, and those of rows without a number come last.
    """
    found = [part for part in parts if part.height]
    return pl.concat(found).sort("row", nulls_last=True, maintain_order=True) if found else none()
