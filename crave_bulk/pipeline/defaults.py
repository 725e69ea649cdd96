"""Defaults: a null of the frame takes the default of its column where the row is new; for a row that exists it is a null."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from crave_bulk.pipeline.combine import VALUE
from crave_bulk.pipeline.stage import Wire
from crave_bulk.table import Merge


def written_nulls(
    rows: pl.DataFrame, fresh: pl.Series, key: list[str], defaulted: Mapping[str, pl.Series]
) -> dict[str, pl.Series]:
    """Find the nulls that were filled by a default though their row exists, in the table or before them in the batch.

    Args:
        rows: ``_row`` and the short columns of the key, in row order.
        fresh: the numbers of the rows whose key is not in the table.
        key: the short names of the key.
        defaulted: column → which rows of the frame had a null there.

    Returns:
        Column → which of `rows` are to have a null there after all.

    Example:
        >>> rows = pl.DataFrame({"_row": [0, 1, 2], "c0": [7, 8, 8]})
        >>> null = pl.Series([True, True, True])
        >>> written_nulls(rows, pl.Series([1, 2]), ["c0"], {"state": null})["state"].to_list()
        [True, False, True]
    """
    creates = rows.select(pl.struct(key).is_first_distinct() & pl.col("_row").is_in(fresh.implode()))
    exists = ~creates.to_series()
    return {name: nulls.gather(rows["_row"]) & exists for name, nulls in defaulted.items()}


def with_nulls(rows: pl.DataFrame, wire: Wire, nulls: Mapping[str, pl.Series]) -> pl.DataFrame:
    """Put nulls in place of defaults.

    Args:
        rows: rows with short columns, or with values to combine, whose names begin with `VALUE`.
        wire: the table.
        nulls: from `written_nulls`, as long as `rows`.

    Returns:
        The rows.
    """
    columns = [
        pl.when(~where).then(pl.col(column)).alias(column)
        for name, where in nulls.items()
        for column in (wire.short[name], VALUE + name)
        if column in rows.columns
    ]
    return rows.with_columns(columns)


def forbidden(
    wire: Wire, rules: Mapping[str, Merge], rows: pl.DataFrame, nulls: Mapping[str, pl.Series]
) -> dict[str, pl.Series]:
    """Find the rows whose null would replace a value in a column that may not be null.

    Args:
        wire: the table.
        rules: column → merge rule; by all but ``replace`` a null changes nothing.
        rows: with ``_row``.
        nulls: from `written_nulls`, as long as `rows`.

    Returns:
        Column → the numbers of its rows.
    """
    strict = [n for n in nulls if n not in rules and not wire.contract.column(n).nullable]
    return {name: rows["_row"].filter(nulls[name]) for name in strict}
