"""Merge: the set-based statements that apply the staging table to the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crave_bulk.backends.base import MergeParts, assignments, differs, read_back
from crave_bulk.pipeline.intake import Intake
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.sql import FALSE, TRUE, quote
from crave_bulk.table import Contract

Kind = Literal["insert", "merge", "update", "delete"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns a write touches.

    Attributes:
        insert: what a new row is given.
        update: what an existing row takes over.
        compare: what decides whether it changes at all.
    """

    insert: list[str]
    update: list[str]
    compare: list[str]


def columns_to_write(contract: Contract, intake: Intake, kind: Kind) -> Columns:
    """Choose the columns of a write: what the frame gave, by each column's merge rule.

    A column that the frame did not have keeps its value in existing rows, as a default would
    destroy it; new rows take the default. A row that was marked as deleted is revived by a merge.

    Args:
        contract: the table.
        intake: the frame, and what was in it.
        kind: how rows are applied.

    Returns:
        The columns, in the order of the table.
    """
    made = {name for name in contract.key if contract.column(name).default_sql}
    written = intake.written | made
    names = [name for name in contract.column_names if name in written]
    if kind in ("insert", "delete"):
        return Columns(names, [], [])
    given = intake.given | ({contract.soft_delete.name} if contract.soft_delete else set())  # a merge revives
    compare = [
        column.name
        for column in contract.columns
        if column.name in given
        and column.name in intake.written
        and not column.options.key
        and (kind == "update" or column.options.merge != "keep")
    ]
    stamped = [name for name in contract.column_names if name in intake.stamped]
    return Columns(names, compare + stamped, compare)


def merge_parts(
    wire: Wire, columns: Columns, where: str, *, read_keys: bool, overrides: bool = False
) -> MergeParts:
    """Collect what a statement is made of.

    Args:
        wire: the table.
        columns: which columns to write.
        where: which staged rows to apply, as ``s``.
        read_keys: whether to read back the keys of the rows that were written.
        overrides: whether keys were made for columns that the database always fills in itself.

    Returns:
        The parts, quoted.

    Example:
        >>> import crave_bulk as cb
        >>> class Foods(cb.Table):
        ...     id: int = cb.field(key=True)
        ...     name: str
        >>> with cb.connect() as db:
        ...     wire = Wire(cb.table.contract_of(Foods), db.backend)
        ...     columns = Columns(["id", "name"], ["name"], ["name"])
        ...     print(db.backend.merge(merge_parts(wire, columns, "s.wave = 0", read_keys=False)))
        INSERT INTO "Foods" AS t ("id", "name")
        SELECT s.c0, s.c1 FROM (SELECT s._row, s.c0 AS c0, s.c1 AS c1 FROM crave_bulk_stage AS s
        WHERE s.wave = 0) AS s WHERE true
        ON CONFLICT ("id") DO UPDATE SET "name" = excluded."name"
        WHERE t."name" COLLATE BINARY IS DISTINCT FROM excluded."name" COLLATE BINARY
    """
    contract = wire.contract
    named = {*contract.key, *columns.insert, *columns.update}
    names = [name for name in contract.column_names if name in named]
    return MergeParts(
        target=wire.target,
        source=wire.staged(names, STAGE, where, ["s._row"]),
        short={quote(name): wire.short[name] for name in names},
        key=tuple(map(quote, contract.key)),
        insert=tuple(map(quote, columns.insert)),
        update=tuple(map(quote, columns.update)),
        compare=tuple((quote(name), wire.codecs[name]) for name in columns.compare),
        returning=tuple((wire.codecs[n].read, quote(n), wire.short[n]) for n in contract.key if read_keys),
        overriding=" OVERRIDING SYSTEM VALUE" if overrides else "",
        spelling=wire.backend.spelling,
    )


def insert_sql(parts: MergeParts, *, ignore: bool = False) -> str:
    """Write the statement that inserts new rows only, which both databases take.

    Args:
        parts: what to write where.
        ignore: a row whose key is taken is left out rather than an error.

    Returns:
        One statement that reads back the rows it inserted.

    Example:
        >>> parts = MergeParts('"foods"', 'SELECT s.c0 AS c0 FROM stage AS s', {'"id"': "c0"}, ('"id"',), ('"id"',), (), (),
        ...     (("{}", '"id"', "c0"),))
        >>> print(insert_sql(parts, ignore=True))
        INSERT INTO "foods" AS t ("id")
        SELECT s.c0 FROM (SELECT s.c0 AS c0 FROM stage AS s) AS s WHERE true
        ON CONFLICT ("id") DO NOTHING
        RETURNING "id" AS c0, (1 IS NOT NULL) AS inserted
    """
    conflict = f"\nON CONFLICT ({', '.join(parts.key)}) DO NOTHING" if ignore else ""
    return (
        f"INSERT{parts.strict} INTO {parts.target} AS t ({', '.join(parts.insert)}){parts.overriding}\n"
        f"SELECT {parts.values(parts.insert)} FROM ({parts.source}) AS s WHERE true"
        f"{conflict}{read_back(parts, TRUE)}"
    )


def touch_sql(parts: MergeParts, column: str) -> str:
    """Write the statement that finds the key under which the database would insert a row that collides with another.

    Args:
        parts: the row, and where.
        column: the quoted name of one that may be set.

    Returns:
        One statement that inserts it or touches the row that has its key, and reads back that key.

    Example:
        >>> parts = MergeParts('"foods"', 'SELECT s.c0 AS c0 FROM stage AS s', {'"id"': "c0"}, ('"id"',), ('"id"',), (), (),
        ...     (("{}", '"id"', "c0"),))
        >>> print(touch_sql(parts, '"id"'))
        INSERT INTO "foods" AS t ("id")
        SELECT s.c0 FROM (SELECT s.c0 AS c0 FROM stage AS s) AS s WHERE true
        ON CONFLICT ("id") DO UPDATE SET "id" = t."id"
        RETURNING "id" AS c0, (1 IS NULL) AS inserted
    """
    return (
        f"INSERT{parts.strict} INTO {parts.target} AS t ({', '.join(parts.insert)}){parts.overriding}\n"
        f"SELECT {parts.values(parts.insert)} FROM ({parts.source}) AS s WHERE true\n"
        f"ON CONFLICT ({', '.join(parts.key)}) DO UPDATE SET {column} = t.{column}{read_back(parts, FALSE)}"
    )


def update_sql(parts: MergeParts, target: str = "t.") -> str:
    """Write the statement that updates existing rows only, which both databases take.

    Args:
        parts: what to write where.
        target: what ``RETURNING`` calls the target.

    Returns:
        One statement; a row that would not change is neither written nor read back.

    Example:
        >>> from crave_bulk.backends.codec import Codec
        >>> import polars as pl
        >>> parts = MergeParts('"foods"', 'SELECT s.c0 AS c0, s.c1 AS c1 FROM stage AS s', {'"id"': "c0", '"n"': "c1"},
        ...     ('"id"',), (), ('"n"',), (('"n"', Codec("bigint", pl.Int64())),), (("{}", '"id"', "c0"),))
        >>> print(update_sql(parts))
        UPDATE "foods" AS t SET "n" = s.c1
        FROM (SELECT s.c0 AS c0, s.c1 AS c1 FROM stage AS s) AS s
        WHERE t."id" = s.c0 AND (1 IS NOT NULL) AND (t."n" IS DISTINCT FROM s.c1)
        RETURNING t."id" AS c0, (1 IS NULL) AS inserted
    """
    return (
        f"UPDATE{parts.strict} {parts.target} AS t SET {assignments(parts, 's')}\nFROM ({parts.source}) AS s\n"
        f"WHERE {parts.match} AND {parts.alive} AND ({differs(parts, 's')}){read_back(parts, FALSE, target)}"
    )


def let_go_sql(parts: MergeParts, columns: Sequence[str]) -> str:
    """Write the statement that lets the rows of the staged keys point at nothing.

    Args:
        parts: which rows.
        columns: the quoted columns by which they point.

    Returns:
        One statement.

    Example:
        >>> parts = MergeParts('"n"', 'SELECT s.c0 AS c0 FROM stage AS s', {'"id"': "c0"}, ('"id"',), (), (), (), ())
        >>> print(let_go_sql(parts, ['"boss"']))
        UPDATE "n" AS t SET "boss" = NULL
        WHERE (t."id") IN (SELECT s.c0 FROM (SELECT s.c0 AS c0 FROM stage AS s) AS s)
    """
    values = ", ".join(f"{column} = NULL" for column in columns)
    return f"UPDATE{parts.strict} {parts.target} AS t SET {values}\nWHERE {_chosen(parts)}"


def delete_sql(parts: MergeParts) -> str:
    """Write the statement that deletes the rows of the staged keys, which both databases take.

    Args:
        parts: what to delete where.

    Returns:
        One statement that reads back the rows it deleted.

    Example:
        >>> parts = MergeParts('"names"', 'SELECT s.c0 AS c0, s.c1 AS c1 FROM stage AS s', {'"a"': "c0", '"b"': "c1"},
        ...     ('"a"', '"b"'), (), (), (), ())
        >>> print(delete_sql(parts))
        DELETE FROM "names" AS t
        WHERE (t."a", t."b") IN (SELECT s.c0, s.c1 FROM (SELECT s.c0 AS c0, s.c1 AS c1 FROM stage AS s) AS s)
    """
    return f"DELETE FROM {parts.target} AS t\nWHERE {_chosen(parts)}{read_back(parts, FALSE)}"


def _chosen(parts: MergeParts) -> str:
    """Test for the staged keys."""
    key = ", ".join(f"t.{name}" for name in parts.key)
    return parts.spelling.among(f"({key})", f"SELECT {parts.values(parts.key)} FROM ({parts.source}) AS s")
