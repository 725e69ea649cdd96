"""Resolve: which key each row has, where the frame does not say it itself.

A row that is matched by another unique key (``on=``) takes the key of the row that holds it; a key that
the database makes up (identity, ``INTEGER PRIMARY KEY``, a default) is made before the merge, one value
for each new row and none for a row that exists. From here on every row has a key like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import polars as pl

from crave_bulk.errors import DatabaseError, PermissionRefused
from crave_bulk.pipeline.bisect import bisect
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.session import Session
from crave_bulk.sql import FALSE, quote, quote_all

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
        SELECT s._row, ... AS c0, ... FROM "foods" AS t
        JOIN (SELECT s._row, s.c1 AS c1 FROM crave_bulk_stage AS s WHERE (1 IS NOT NULL)) AS s ON t."name" = s.c1
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
            session,
            new_values_sql(wire, session.backend.series, name, without.height),
            [name],
            checked=False,
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


def drawn_keys(
    session: Session, wire: Wire, rows: pl.DataFrame, insert: Sequence[str]
) -> tuple[pl.DataFrame, dict[int, DatabaseError]]:
    """Have the database make keys for a login that may insert rows, but not ask the sequence for a value.

    The rows are inserted without a key and taken back. A sequence gives no value twice, whatever is rolled back, so
    the values that were made are the rows' own from then on.

    Args:
        session: the connection, with `rows` staged.
        wire: the table.
        rows: as for `made_keys`.
        insert: the columns that a new row is given.

    Returns:
        The rows, in which no key is null but of those that were refused; and row → what the database said.

    Raises:
        PermissionRefused: the rows can be inserted, but come to no key.
    """
    key = wire.contract.key
    group = "group" if "group" in rows.columns else "_row"
    without = rows.filter(pl.any_horizontal(pl.col(wire.shorts(key)).is_null())).unique(
        group, maintain_order=True
    )
    names = [name for name in insert if name not in key or without[wire.short[name]].null_count() == 0]
    errors: dict[int, DatabaseError] = {}

    def draw(part: Sequence[int]) -> pl.DataFrame:
        made: list[pl.DataFrame] = []
        with suppress(_TakenBack), session.atomic():
            made.append(wire.from_wire(session.fetch(drawn_sql(wire, names, part)), key))
            raise _TakenBack
        return made[0]

    wanted = without["_row"].sort().to_list()
    none = without.select(wire.shorts(key)).clear()
    found = pl.concat([none, *bisect(session, wanted, draw, errors.__setitem__)])
    wanted = [row for row in wanted if row not in errors]
    while found.height < len(
        wanted
    ):  # some were refused for others: any row that is not can be inserted again
        more = draw(wanted[: len(wanted) - found.height])
        if not more.height:
            raise PermissionRefused(
                f"table {wire.contract.name} gives no key to rows that are inserted: grant the login USAGE on the sequence"
            )
        found = pl.concat([found, more])
    made = without.filter(pl.col("_row").is_in(wanted)).select(group).sort(group)
    made = made.with_columns(
        *(found[name].head(made.height).alias(f"{name}_made") for name in wire.shorts(key))
    )
    rows = rows.join(made, on=group, how="left", maintain_order="left")
    keys = [pl.coalesce(name, f"{name}_made").alias(name) for name in wire.shorts(key)]
    return rows.with_columns(keys).drop(f"{name}_made" for name in wire.shorts(key)), errors


class _TakenBack(Exception):
    pass


def drawn_sql(wire: Wire, names: Sequence[str], rows: Sequence[int]) -> str:
    """Write the statement that inserts staged rows without a key, and reads the keys that the database makes."""
    chosen = wire.backend.spelling.listed("s._row", map(str, rows)) if rows else FALSE
    nulls = " AND ".join(
        f"s.{short} IS NULL" for short in wire.shorts(n for n in wire.contract.key if n not in names)
    )
    staged = wire.staged(names, STAGE, f"{chosen} AND {nulls}", ["s._row"])
    read = ", ".join(wire.codecs[n].read.format(quote(n)) + f" AS {wire.short[n]}" for n in wire.contract.key)
    return (
        f"INSERT INTO {wire.target} ({quote_all(names)}) SELECT {', '.join(wire.shorts(names))} FROM ({staged}) AS s "
        f"ORDER BY s._row RETURNING {read}"
    )


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
    made = f"SELECT {column.default_sql} AS {wire.short[name]} FROM {series.format(count)}"
    return f"SELECT {wire.read_staged([name])} FROM ({made}) AS s"


def usurpers(givers: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Find new rows that bring a key which an earlier new row has brought.

    Args:
        givers: the first row of each group that is new, as `by_unique` returns them.
        key: the short names of the key.

    Returns:
        ``_row``, and ``earlier``, the row that has brought it.
    """
    earlier = pl.col("_row").first().over(key).alias("earlier")
    return givers.select("_row", earlier).filter(pl.col("_row") != pl.col("earlier"))


def repeated_keys(rows: pl.DataFrame, key: Sequence[str], made: pl.Series) -> pl.DataFrame:
    """Find rows whose key was made, and is one that an earlier row has brought.

    Args:
        rows: ``_row`` and the short columns.
        key: the short names of the key.
        made: the rows whose keys were made.

    Returns:
        As `usurpers`.
    """
    earlier = pl.col("_row").first().over(key).alias("earlier")
    found = rows.select("_row", earlier).filter(pl.col("_row") != pl.col("earlier"))
    return found.filter(pl.col("_row").is_in(made.implode()))
