"""Resolve: which key each row has, where the frame does not say it itself.

A row that is matched by another unique key (``on=``) takes the key of the row that holds it; a key that
the database makes up (identity, ``INTEGER PRIMARY KEY``, a default) is made before the merge, one value
for each new row and none for a row that exists. From here on every row has a key like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.session import Session
from crave_bulk.sql import quote

FRESH = "fresh"  # 1 for a row that must not exist yet, 0 for one that is known to exist


def holders_sql(wire: Wire, on: Sequence[str]) -> str:
    """Ask which key holds the staged values of another unique key.

    Args:
        wire: the table.
        on: the columns of the unique key.

    Returns:
        A query: ``_row`` and the short columns of the key.

    Example:
        >>> import crave_bulk as cb
        >>> from crave_bulk.examples import Foods
        >>> with cb.connect() as db:
        ...     print(holders_sql(Wire(cb.table.contract_of(Foods), db.backend), ["name"]))
        SELECT s._row, t."food_id" AS c0 FROM "foods" AS t
        JOIN (SELECT s._row, s.c1 AS "name" FROM crave_bulk_stage AS s WHERE true) AS s ON t."name" = s."name"
    """
    return (
        f"SELECT s._row, {wire.read(wire.contract.key)} FROM {wire.target} AS t\n"
        f"JOIN ({wire.staged(on, STAGE, extra=['s._row'])}) AS s ON {wire.equal(on, 't', 's')}"
    )


def by_unique(session: Session, wire: Wire, rows: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """Give each row the key of the row that holds its unique value, in the table or before it in the batch.

    Args:
        session: the connection, with `rows` staged.
        wire: the table.
        rows: ``_row`` and the short columns.
        on: the columns of the unique key; a row with a NULL there matches no other.

    Returns:
        The rows with their keys, and ``fresh``: 1 where the key is the row's own.
    """
    key = wire.shorts(wire.contract.key)
    found = wire.fetch(session, holders_sql(wire, on), wire.contract.key, numbers=["_row"])
    found = found.select("_row", *(pl.col(name).alias(f"{name}_held") for name in key), held=True)
    rows = rows.join(found, on="_row", how="left", maintain_order="left")
    values = wire.shorts(on)
    # A row without a value is a group of its own.
    group = pl.when(pl.all_horizontal(pl.col(c).is_not_null() for c in values)).then(
        pl.col("_row").first().over(values)
    )
    rows = rows.with_columns(pl.coalesce(group, "_row").alias("group"))
    own = [
        pl.when("held").then(f"{name}_held").otherwise(pl.col(name).first().over("group")).alias(name)
        for name in key
    ]
    fresh = pl.col("held").is_null().cast(pl.Int32).alias(FRESH)
    return rows.with_columns(*own, fresh).drop("held", *(f"{name}_held" for name in key))


def made_keys(session: Session, wire: Wire, rows: pl.DataFrame) -> pl.DataFrame:
    """Make the keys that the database makes, for the rows that have none.

    Args:
        session: the connection.
        wire: the table.
        rows: ``_row``, the short columns, and ``group`` where rows share a key.

    Returns:
        The rows, in which no such key is null.
    """
    for name in wire.contract.key:
        expression = wire.contract.column(name).default_sql
        short = wire.short[name]
        if expression is None or not rows[short].null_count():
            continue
        group = "group" if "group" in rows.columns else "_row"
        without = rows.filter(pl.col(short).is_null()).select(group).unique(maintain_order=True)
        values = wire.fetch(
            session, new_values_sql(wire, session.backend.series, name, without.height), [name]
        )
        brought = (
            rows[short].max() if values[short].dtype.is_integer() and session.backend.counts_on else None
        )
        if isinstance(brought, int) and brought >= int(values[short][0]):
            # One at a time, a row that comes after another gets a number above it.
            values = values.with_columns(pl.col(short) + (brought + 1 - int(values[short][0])))
        made = without.with_columns(values[short].alias("made"))
        rows = rows.join(made, on=group, how="left", maintain_order="left")
        rows = rows.with_columns(pl.coalesce(short, "made").alias(short)).drop("made")
    return rows


def new_values_sql(wire: Wire, series: str, name: str, count: int) -> str:
    """Write the query that has the database make values for a column.

    Args:
        wire: the table.
        series: how the database counts to a number, as a table with the column ``i``.
        name: the column, which has a default.
        count: how many.

    Returns:
        A query of one column.
    """
    column = wire.contract.column(name)
    made = f"SELECT {column.default_sql} AS {quote(name)} FROM {series.format(count)}"
    return f"SELECT {wire.read([name], 's')} FROM ({made}) AS s"


def usurpers(rows: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Find new rows that bring a key which an earlier new row of another group has brought.

    Args:
        rows: as `by_unique` returns them.
        key: the short names of the key.

    Returns:
        The numbers of the rows.
    """
    fresh = rows.filter(pl.col(FRESH) == 1)
    return fresh.filter(pl.col("group") != pl.col("group").first().over(key))["_row"]
