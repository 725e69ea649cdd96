"""What a database's catalog says of a table, and the contract that follows from it.

Each database reads its catalog in its own words (`postgres_catalog`, `sqlite_catalog`) into the plain
facts here; what they mean for a frame is the same everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandera.polars as pa
import polars as pl

from crave_bulk.errors import TableNotFound
from crave_bulk.table import Column, Contract, FieldOptions, Reference, TableName, check_name

_FLAWS = {
    "deferrable": "is deferrable: it may not hold until the commit",
    "partial": "is partial: it holds for some rows only",
    "expression": "is over an expression, not over the columns themselves",
    "nulls": "is NULLS NOT DISTINCT, so that NULL is a value like any other",
    "collation": "compares by a collation of its own, by which different texts are equal",
    "operators": "compares by operators of its own",
    "type": "has a column of a type whose values can be equal and yet written differently",
}


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column as it stands in the database.

    Attributes:
        name: unquoted.
        sql_type: as the catalog writes it, a domain replaced by what it is made of.
        dtype: of the frame.
        nullable: whether it may hold NULL.
        default_sql: as in `Column.default_sql`.
        generated: as in `Column.generated`.
        identity_always: as in `Column.identity_always`.
        insert_only: as in `Column.insert_only`.
        filled_by_trigger: as in `Column.filled_by_trigger`.
        untyped: as in `Column.untyped`.
        uuid: the text is a UUID.
        json: the text is JSON.
        longest: characters at most, None for any number.
        distinct: two values are equal in the database exactly where they are equal on the wire, so
            that the column can be part of a key.
    """

    name: str
    sql_type: str
    dtype: pl.DataType
    nullable: bool
    default_sql: str | None = None
    generated: bool = False
    identity_always: bool = False
    insert_only: bool = False
    filled_by_trigger: bool = False
    untyped: bool = False
    uuid: bool = False
    json: bool = False
    longest: int | None = None
    distinct: bool = True


@dataclass(frozen=True, slots=True)
class Overview:
    """Which columns a table has, in short.

    Attributes:
        schema: where it was found, None on a database without schemas.
        columns: all of them, in order; of a plain type each, unless `own_types`.
        own_types: there are types that only the whole catalog explains.
        children: the tables that inherit from it, other than its partitions.
        policies: they may hide rows from who locks or changes them.
    """

    schema: str | None
    columns: tuple[Column, ...]
    own_types: bool = False
    children: tuple[str, ...] = ()
    policies: bool = False


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A primary or unique key.

    Attributes:
        columns: in the order of the key.
        primary: whether it is the primary key.
        plain: it is checked at once, for all rows, by the plain equality of its columns.
    """

    columns: tuple[str, ...]
    primary: bool
    plain: bool


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table as it stands in the database.

    Attributes:
        name: as the caller wrote it.
        columns: in order.
        keys: the primary key first.
        references: to other tables or to itself.
        not_a_table: why it cannot be written, where it is a view or the like.
        indexes: the columns that each index over all rows begins with.
    """

    name: TableName
    columns: tuple[ColumnFacts, ...]
    keys: tuple[KeyFacts, ...]
    references: tuple[Reference, ...]
    not_a_table: str | None = None
    indexes: tuple[tuple[str, ...], ...] = ()


def contract(facts: TableFacts) -> Contract:
    """Draw up the contract of a table that was found in the database.

    The key is the primary key, else the shortest unique key over columns that are never NULL. Frames
    are coerced, as nobody has declared a dtype: a value that a cast would change is refused.

    Args:
        facts: the table.

    Returns:
        The contract; `Contract.read_only` says why, where rows could not be told apart.

    Raises:
        ContractError: a column has a name that a frame or a report cannot use.

    Example:
        >>> columns = (ColumnFacts("id", "bigint", pl.Int64(), False), ColumnFacts("name", "text", pl.String(), True))
        >>> found = contract(TableFacts(TableName("foods"), columns, (KeyFacts(("id",), True, True),), ()))
        >>> found.key, found.columns[1]
        (('id',), Column(name='name', dtype=String, nullable=True, required=False))
    """
    for column in facts.columns:
        check_name(f"table {facts.name}", column.name)
    usable = _usable_keys(facts)
    key = _choose_key(facts, usable)
    # The key must be there from the start: by it a row is found again.
    columns = [replace(c, filled_by_trigger=c.filled_by_trigger and c.name not in key) for c in facts.columns]
    return Contract(
        name=facts.name,
        columns=tuple(_column(column, key) for column in columns),
        key=key,
        unique=tuple(columns for columns in usable if set(columns) != set(key)),
        references=facts.references,
        schema=_schema(facts.name, columns),
        read_only=facts.not_a_table or (None if key else _why_no_key(facts)),
        indexes=facts.indexes,
    )


def plain_column(name: str, sql_type: str, dtype: pl.DataType, found: Mapping[str, Any]) -> Column:
    """Describe a column as far as the journal has to know it.

    Args:
        name: unquoted.
        sql_type: as the catalog writes it.
        dtype: of a frame.
        found: ``filled``, ``generated`` and ``identity_always``.

    Returns:
        The column.
    """
    return Column(
        name=name,
        dtype=dtype,
        nullable=not found["filled"],
        required=False,
        coerce=False,
        options=FieldOptions(),
        sql_type=sql_type,
        generated=found["generated"],
        identity_always=found["identity_always"],
    )


def not_found(name: TableName, others: Sequence[str]) -> TableNotFound:
    """Build the error for a table that is not there.

    Args:
        name: as the caller wrote it.
        others: the tables that are.

    Returns:
        The error, with the nearest names.

    Example:
        >>> print(not_found(TableName("isues"), ["issues", "users"]))
        there is no table isues in the database: did you mean 'issues'?
    """
    folded = {other.casefold(): other for other in others}
    near = [folded[match] for match in difflib.get_close_matches(str(name).casefold(), folded, n=3)]
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else "create it with db.create(...), or check its name and schema"
    )
    if not others:
        hint = "the database has no tables: create one with db.create(...), or check the URL"
    return TableNotFound(f"there is no table {name} in the database: {hint}")


def why_not_matched(uniques: Sequence[dict[str, Any]], on: Sequence[str]) -> str:
    """Say why the unique keys that are there over some columns are none to match rows by.

    Args:
        uniques: as `Backend.uniques_sql` gives them.
        on: the columns.

    Returns:
        A part of a sentence; empty if there are no such keys.

    Example:
        >>> found = [{"name": "u", "columns": ["mail"], "others": ["gone"], "expression": False, "flaws": ["partial"]}]
        >>> print(why_not_matched(found, ["mail"]))
        , as rows can be matched by (u is partial: it holds for some rows only)
    """
    wanted, said = set(on), []
    for unique in uniques:
        columns, others = set(unique["columns"]), set(unique["others"])
        if columns == wanted or (unique["expression"] and columns <= wanted <= columns | others):
            flaws = unique["flaws"] or ["type"]
            said.append(f"{unique['name']} {' and '.join(_FLAWS[flaw] for flaw in flaws)}")
    return f", as rows can be matched by ({'; '.join(said)})" if said else ""


def _usable_keys(facts: TableFacts) -> list[tuple[str, ...]]:
    """Select the keys whose rows can be told apart outside of the database as well."""
    distinct = {column.name for column in facts.columns if column.distinct and not column.generated}
    keys = [key.columns for key in facts.keys if key.plain and distinct.issuperset(key.columns)]
    return list(dict.fromkeys(keys))


def _choose_key(facts: TableFacts, usable: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    primary = next((key.columns for key in facts.keys if key.primary), None)
    if primary is not None and primary in usable:
        return primary
    present = {column.name for column in facts.columns if not column.nullable}
    return min((key for key in usable if present.issuperset(key)), key=len, default=())


def _why_no_key(facts: TableFacts) -> str:
    primary = next((key for key in facts.keys if key.primary), None)
    if primary is None:
        return (
            f"table {facts.name} has no primary key, and no unique key over columns that are NOT NULL: add one, "
            "so that its rows can be told apart"
        )
    names = ", ".join(primary.columns)
    if any(column.generated for column in facts.columns if column.name in primary.columns):
        return (
            f"the primary key ({names}) of table {facts.name} is computed by the database, so a frame cannot say which row "
            "it means: add a unique key over columns that are written and are NOT NULL"
        )
    if not primary.plain:
        return (
            f"the primary key ({names}) of table {facts.name} is deferrable or ignores case, so a row cannot be "
            "found by it for certain: add a plain unique key over columns that are NOT NULL"
        )
    return (
        f"the primary key ({names}) of table {facts.name} has a type whose values can be equal and yet written "
        "differently: add a unique key over columns of plain types that are NOT NULL"
    )


def _column(facts: ColumnFacts, key: Sequence[str]) -> Column:
    return Column(
        name=facts.name,
        dtype=facts.dtype,
        nullable=facts.nullable,
        required=_required(facts),
        coerce=True,
        options=FieldOptions(key=facts.name in key, uuid=facts.uuid, json=facts.json),
        sql_type=facts.sql_type,
        default_sql=facts.default_sql,
        generated=facts.generated,
        identity_always=facts.identity_always,
        insert_only=facts.insert_only,
        filled_by_trigger=facts.filled_by_trigger,
        untyped=facts.untyped,
    )


def _required(facts: ColumnFacts) -> bool:
    return not (facts.nullable or facts.default_sql is not None or facts.generated or facts.filled_by_trigger)


def _schema(name: TableName, columns: Sequence[ColumnFacts]) -> pa.DataFrameSchema:
    found = {
        column.name: pa.Column(
            column.dtype,
            nullable=column.nullable or column.filled_by_trigger,
            required=_required(column),
            checks=_checks(column),
            coerce=True,
        )
        for column in columns
    }
    return pa.DataFrameSchema(found, name=str(name))


def _checks(column: ColumnFacts) -> list[pa.Check]:
    if column.longest is None:
        return []
    at_most = f"at most {column.longest} character{'' if column.longest == 1 else 's'}"
    return [pa.Check.str_length(max_value=column.longest, error=at_most)]
