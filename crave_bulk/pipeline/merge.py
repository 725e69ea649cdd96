"""Merge: one set-based statement applies the staging table to the target, and says what it did."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from crave_bulk.backends.base import Backend, MergeParts, read_back
from crave_bulk.errors import ContractError, DatabaseError
from crave_bulk.pipeline.intake import Intake
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.session import Session
from crave_bulk.sql import quote
from crave_bulk.table import Contract


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns a write touches.

    Attributes:
        update: what an existing row takes over.
        compare: what decides whether it changes at all.
    """

    update: list[str]
    compare: list[str]


def columns_to_write(contract: Contract, intake: Intake) -> Columns:
    """Choose the columns of a merge: what the frame gave, by each column's merge rule.

    A column that the frame did not have keeps its value in existing rows, as a default would
    destroy it; new rows take the default.

    Args:
        contract: the table.
        intake: the frame, and what was in it.

    Returns:
        The columns.

    Raises:
        ContractError: a merge rule is not available.
    """
    compare = []
    for column in contract.columns:
        if column.name not in intake.given or column.options.key:
            continue
        if column.options.merge != "replace":
            raise ContractError(
                f"table {contract.name}: merge={column.options.merge!r} of column {column.name!r} is not available "
                "in this version: use 'replace', or insert"
            )
        compare.append(column.name)
    stamped = [name for name in contract.column_names if name in intake.stamped]
    return Columns(update=compare + stamped, compare=compare)


def merge_parts(wire: Wire, backend: Backend, columns: Columns, wave: int = 0) -> MergeParts:
    """Collect what a merge statement is made of.

    Args:
        wire: the table.
        backend: its database.
        columns: which columns to write.
        wave: which staged rows to apply.

    Returns:
        The parts, quoted.

    Example:
        >>> import crave_bulk as cb
        >>> class Foods(cb.Table):
        ...     id: int = cb.field(key=True)
        ...     name: str
        >>> with cb.connect() as db:
        ...     wire = Wire(cb.table.contract_of(Foods), db.backend)
        ...     print(db.backend.merge(merge_parts(wire, db.backend, Columns(["name"], ["name"]))))
        INSERT INTO "Foods" AS t ("id", "name")
        SELECT "id", "name" FROM (SELECT s._row, s.c0 AS "id", s.c1 AS "name" FROM crave_bulk_stage AS s
        WHERE s.wave = 0) AS s WHERE true
        ON CONFLICT ("id") DO UPDATE SET "name" = excluded."name"
        WHERE t."name" IS DISTINCT FROM excluded."name"
    """
    contract = wire.contract
    return MergeParts(
        target=wire.target,
        source=wire.staged(contract.column_names, STAGE, f"s.wave = {wave}", ["s._row"]),
        key=tuple(map(quote, contract.key)),
        insert=tuple(map(quote, contract.column_names)),
        update=tuple(map(quote, columns.update)),
        compare=tuple((quote(name), wire.codecs[name].compare) for name in columns.compare),
        returning=tuple(
            (wire.codecs[n].read, quote(n), wire.short[n]) for n in contract.key if backend.reads_back
        ),
    )


def insert_sql(parts: MergeParts, *, ignore: bool) -> str:
    """Write the statement that inserts new rows only, which both databases take.

    Args:
        parts: what to write where.
        ignore: a row whose key is taken is left out rather than an error.

    Returns:
        One statement that reads back the rows it inserted.

    Example:
        >>> parts = MergeParts('"foods"', 'SELECT s.c0 AS "id" FROM stage AS s', ('"id"',), ('"id"',), (), (), (("{}", '"id"', "c0"),))
        >>> print(insert_sql(parts, ignore=True))
        INSERT INTO "foods" AS t ("id")
        SELECT "id" FROM (SELECT s.c0 AS "id" FROM stage AS s) AS s WHERE true
        ON CONFLICT ("id") DO NOTHING
        RETURNING "id" AS c0, true AS inserted
    """
    conflict = f"\nON CONFLICT ({', '.join(parts.key)}) DO NOTHING" if ignore else ""
    return (
        f"INSERT INTO {parts.target} AS t ({', '.join(parts.insert)})\n"
        f"SELECT {', '.join(parts.insert)} FROM ({parts.source}) AS s WHERE true"
        f"{conflict}{read_back(parts, 'true')}"
    )


def apply_wave(
    session: Session, wire: Wire, statement: str, rows: pl.DataFrame, *, only: bool
) -> pl.DataFrame:
    """Run one merge, and learn what it did.

    Args:
        session: the connection, with the rows staged.
        wire: the table.
        statement: the merge.
        rows: the rows that it should write: ``_row``, ``mask`` (-1 for a new row) and the short columns.
        only: it is the only wave; of several, one may find a row as the one before left it.

    Returns:
        ``_row`` of each row that was written, and ``inserted``.
    """
    if not session.backend.reads_back:
        return _count(session, statement, rows, only)
    done = session.fetch(statement)
    if "_row" in done.columns:
        return done.select("_row", "inserted")
    key = wire.shorts(wire.contract.key)
    return rows.join(wire.from_wire(done, wire.contract.key), on=key, how="inner").select("_row", "inserted")


def _count(session: Session, statement: str, rows: pl.DataFrame, only: bool) -> pl.DataFrame:
    """Run a merge under the write lock, where what it should write is known, and check that it did."""
    session.execute(statement)
    written = int(session.fetch("SELECT changes() AS written").item())
    if only and written != rows.height:
        raise DatabaseError(
            f"the merge wrote {written} rows where {rows.height} were expected, so it was rolled back: a trigger "
            "on the table leaves rows out; drop the trigger, or load around it"
        )
    return rows.select("_row", inserted=pl.col("mask") == -1)
