"""Dedupe: compare the batch with the rows that exist, where they are.

The question goes to the database as one join of the staging table with the target, by key: its cost
grows with the batch and never with the table. Only rows that are new or differ come back, each with a
bit mask of the columns that do. Measured at 200,000 rows, half changed and half new, this takes half the
time of fetching the existing rows and comparing them here, and it compares by the merge's own SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.session import Session
from crave_bulk.sql import chain, quote

if TYPE_CHECKING:
    from crave_bulk.pipeline.images import Images

_BITS = 60  # columns beyond share a bit, which then stands for all of them


def bit(number: int) -> int:
    """Give the bit of a compared column.

    Args:
        number: its place among the compared columns.

    Returns:
        A power of two that fits a signed 64-bit integer.

    Example:
        >>> bit(0), bit(3), bit(60)
        (1, 8, 1)
    """
    return 1 << number % _BITS


def changes_sql(wire: Wire, compare: Sequence[str], alive: str = "true", held: str = "") -> str:
    """Ask which staged rows are new, or differ from the row of their key.

    Args:
        wire: the table.
        compare: the columns that an upsert would change.
        alive: a condition that a row of the target must meet, or it counts as not there.
        held: columns of the target, as ``t``, that are wanted as well.

    Returns:
        A query: ``_row`` and ``mask``, -1 for a new row, else the bits of the columns that differ; and `held`.

    Example:
        >>> import crave_bulk as cb
        >>> from crave_bulk.examples import Foods
        >>> with cb.connect() as db:
        ...     print(changes_sql(Wire(cb.table.contract_of(Foods), db.backend), ["name"]))
        SELECT * FROM (SELECT s._row, CASE WHEN t."food_id" IS NULL THEN -1
        ELSE CASE WHEN t."name" COLLATE BINARY IS DISTINCT FROM s."name" COLLATE BINARY THEN 1 ELSE 0 END END AS mask
        FROM (SELECT s._row, s.c0 AS "food_id", s.c1 AS "name" FROM crave_bulk_stage AS s WHERE true) AS s
        LEFT JOIN "foods" AS t ON t."food_id" = s."food_id" AND true) AS changes WHERE mask <> 0
    """
    key = wire.contract.key
    spelling = wire.backend.spelling
    by_bit: dict[int, list[str]] = {}
    for place, name in enumerate(compare):
        by_bit.setdefault(bit(place), []).append(_differs(wire, name))
    flags = [f"CASE WHEN {chain(tests, 'OR')} THEN {value} ELSE 0 END" for value, tests in by_bit.items()]
    bits = f" {spelling.op('+')} ".join(flags) or "0"
    staged = wire.staged([*key, *compare], STAGE, extra=["s._row"])
    return (
        f"SELECT * FROM (SELECT s._row, CASE WHEN t.{quote(key[0])} IS NULL THEN -1\nELSE {bits} END AS mask{held and ', ' + held}\n"
        f"FROM ({staged}) AS s\n"
        f"LEFT JOIN {wire.target} AS t ON {wire.equal(key, 't', 's')} AND {alive}) AS changes WHERE {spelling.compare('mask', '<>', '0')}"
    )


def _differs(wire: Wire, name: str) -> str:
    form = wire.codecs[name].exact
    return wire.backend.spelling.differs(form.format(f"t.{quote(name)}"), form.format(f"s.{quote(name)}"))


def kept_sql(wire: Wire, names: Sequence[str], lock: str = "", read: str = "") -> str:
    """Ask what stands in some columns of the rows that exist for the staged keys.

    Args:
        wire: the table.
        names: the key, and the columns.
        lock: what keeps other writers from the rows until the end of the transaction.
        read: the select list, if it is another than that of the columns.

    Returns:
        A query over the short columns, each key once.
    """
    keys = f"SELECT DISTINCT {', '.join(map(quote, wire.contract.key))} FROM ({wire.staged(wire.contract.key, STAGE)}) AS k"
    match = wire.equal(wire.contract.key, "t", "s")
    return f"SELECT {read or wire.read(names)} FROM {wire.target} AS t JOIN ({keys}) AS s ON {match}{lock}"


def kept(session: Session, wire: Wire, rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Put what stands in the table in place of what an upsert would not write.

    Args:
        session: the connection, with `rows` staged.
        wire: the table.
        rows: ``mask`` and the short columns.
        names: columns that the frame did not have.

    Returns:
        `rows`, in which those columns of existing rows hold their values in the table.
    """
    key, columns = wire.shorts(wire.contract.key), wire.shorts(names)
    found = wire.fetch(session, kept_sql(wire, [*wire.contract.key, *names]), [*wire.contract.key, *names])
    joined = rows.join(found, on=key, how="left", suffix="_kept", maintain_order="left")
    new = pl.col("mask") == -1
    values = [pl.when(new).then(c).otherwise(f"{c}_kept").alias(c) for c in columns]
    return joined.with_columns(values).select(rows.columns)


def taken_sql(wire: Wire) -> str:
    """Ask which staged rows have a key that exists.

    Args:
        wire: the table.

    Returns:
        A query: ``_row``.
    """
    key = wire.contract.key
    return (
        f"SELECT s._row FROM ({wire.staged(key, STAGE, extra=['s._row'])}) AS s\n"
        f"JOIN {wire.target} AS t ON {wire.equal(key, 't', 's')}"
    )


def misspelt_sql(wire: Wire, spelt: Sequence[str]) -> str:
    """Ask for a row that has the key of a staged row in another form, so that the merge would not find it.

    Args:
        wire: the table.
        spelt: the columns of its key that others may have written in other forms.

    Returns:
        A query: what stands there, a text, of one row at most.
    """
    others = [name for name in wire.contract.key if name not in spelt]
    tests = [f"t.{quote(n)} = {wire.codecs[n].stage.format(f's.{wire.short[n]}')}" for n in others]
    for name in spelt:
        staged = f"s.{wire.short[name]}"
        tests.append(f"t.{quote(name)} IN ({staged}, {wire.codecs[name].spellings.format(staged)})")
    differs = " OR ".join(f"t.{quote(name)} <> s.{wire.short[name]}" for name in spelt)
    found = " || ', ' || ".join(
        wire.codecs[name].text.format(f"t.{quote(name)}") for name in wire.contract.key
    )
    return (
        f"SELECT {found} AS found FROM {STAGE} AS s JOIN {wire.target} AS t\n"
        f"ON {' AND '.join(tests)} WHERE {differs} LIMIT 1"
    )


def changes(
    session: Session, wire: Wire, rows: pl.DataFrame, compare: Sequence[str], alive: str = "true"
) -> pl.DataFrame:
    """Find what an upsert would do to the row of each staged row's key.

    Args:
        session: the connection, with `rows` staged.
        wire: the table.
        rows: ``_row`` and the short columns.
        compare: the columns that an upsert would change.
        alive: a condition that a row of the target must meet, or it counts as not there.

    Returns:
        `rows` and ``mask``: -1 for a new row, 0 for one that changes nothing, else the bits of the
        columns that differ.
    """
    found = session.fetch(changes_sql(wire, compare, alive)).cast({"_row": pl.Int64, "mask": pl.Int64})
    return _masked(rows, found)


def changes_and_held(
    wire: Wire, rows: pl.DataFrame, compare: Sequence[str], alive: str, images: Images
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Find what an upsert would do, and read the rows that it would change on the way.

    Args:
        wire: the table.
        rows: ``_row`` and the short columns, which are staged.
        compare: the columns that an upsert would change.
        alive: a condition that a row of the target must meet, or it counts as not there.
        images: what reads all columns of the table.

    Returns:
        As `changes`; and the short columns of each row that would change, each key once.
    """
    found = images.read(lambda whole: changes_sql(wire, compare, alive, whole.read_all()), ["_row", "mask"])
    held = found.filter(pl.col("mask") > 0).drop("_row", "mask")
    key = wire.shorts(wire.contract.key)
    return _masked(rows, found), held.unique(key, maintain_order=True) if held.height else held


def _masked(rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Give each row its mask; those that were not found change nothing."""
    found = found.filter(pl.col("_row") <= rows["_row"][-1])  # rows are in input order
    masks = pl.repeat(0, int(rows["_row"][-1]) + 1, dtype=pl.Int64, eager=True)
    return rows.with_columns(mask=masks.scatter(found["_row"], found["mask"]).gather(rows["_row"]))


def taken(session: Session, wire: Wire) -> pl.Series:
    """Find the staged rows whose key exists.

    Args:
        session: the connection, with rows staged.
        wire: the table.

    Returns:
        The numbers of the rows, in order.
    """
    return session.fetch(taken_sql(wire))["_row"].cast(pl.Int64).sort()
