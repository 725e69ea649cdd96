"""Change PostgreSQL's tables: add what they lack, and tell which types will do for which."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl

from crave_bulk import sql
from crave_bulk.backends.codec import Codec
from crave_bulk.backends.ddl import Missing, fill_of, on_wire
from crave_bulk.backends.postgres_types import SqlType, codec, parse_type
from crave_bulk.table import Column

_UUIDV7 = 18  # the major version that brought uuidv7()
_MICROSECONDS = 6
_WIDENING = (("smallint", "integer", "bigint"), ("real", "double precision"))
_TEXT = ("text", "character varying")
_LONG = {
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
}


def holds(declared: Column, found: Column) -> bool:
    """Tell whether a column of the database holds every value of a declared one, and compares with it.

    Args:
        declared: the column as declared.
        found: the column as it is there.

    Returns:
        Whether its type is the same or a wider one.
    """
    want, have = _kind(codec(declared).sql_type), _kind(codec(found).sql_type)
    if want.array or have.array:
        return (want.array, want.base) == (have.array, have.base)
    for types in _WIDENING:
        if want.base in types and have.base in types:
            return types.index(want.base) <= types.index(have.base)
    if want.base == "numeric" and have.base == "numeric" and have.args:
        return have.args[1] >= want.args[1] and have.args[0] - have.args[1] >= want.args[0] - want.args[1]
    if want.base in _TEXT and have.base in _TEXT:
        return True
    whole = have.base in ("numeric", *_TEXT) or not have.args or have.args[0] >= _MICROSECONDS
    return want.base == have.base and whole


def keeps(declared: Column, found: Column) -> str:
    """Write the test for a value of a declared column that is the same after a cast to the type that is there, and back.

    Args:
        declared: the column as declared.
        found: the column as it is there.

    Returns:
        SQL over the staging table's column; nothing if every value is kept, or the types cannot be compared.

    Example:
        >>> from dataclasses import replace
        >>> from crave_bulk.table import FieldOptions
        >>> price = Column("price", pl.Decimal(8, 4), False, True, False, FieldOptions())
        >>> keeps(price, replace(price, dtype=pl.Decimal(8, 1), sql_type="numeric(8,1)"))
        '({0}::numeric(8, 4))::numeric(8,1)::numeric(8, 4) OPERATOR(pg_catalog.=) ({0}::numeric(8, 4))'
    """
    form = codec(declared)
    if form.sql_type in ("json", "uuid") or isinstance(found.dtype, pl.Enum) or holds(declared, found):
        return ""
    value = f"({{0}}::{form.sql_type})"
    there = str(found.sql_type).replace("{", "{{").replace("}", "}}")
    return sql.pinned(f"{value}::{there}::{form.sql_type} [=] {value}")


def _kind(sql_type: str) -> SqlType:
    kind = parse_type(sql_type.replace(", ", ","))
    return SqlType(_LONG.get(kind.base, kind.base), kind.args, kind.array)


def alterations(table: str, missing: Missing, parents: list[str], version: int) -> tuple[str, ...]:
    """Write the statements that add what a table lacks.

    Args:
        table: its quoted name.
        missing: what it lacks.
        parents: the quoted names of the tables that its new references point at.
        version: the server's major version.

    Returns:
        The statements.

    Example:
        >>> from crave_bulk.table import FieldOptions
        >>> rank = Column("rank", pl.Int32(), False, True, False, FieldOptions(default=1))
        >>> for statement in alterations('"foods"', Missing((rank,), (("name",),)), [], 18):
        ...     print(statement)
        ALTER TABLE "foods" ADD COLUMN "rank" integer DEFAULT '1'::integer NOT NULL
        ALTER TABLE "foods" ADD UNIQUE ("name")
    """
    columns = [f"ALTER TABLE {table} ADD COLUMN {_definition(c, version)}" for c in missing.columns]
    unique = [f"ALTER TABLE {table} ADD UNIQUE ({sql.quote_all(key)})" for key in missing.unique]
    references = [
        f"ALTER TABLE {table} ADD FOREIGN KEY ({sql.quote_all(r.columns)}) REFERENCES {parent} ({sql.quote_all(r.targets)})"
        for r, parent in zip(missing.references, parents, strict=True)
    ]
    return (*columns, *unique, *references, *missing.indexes)


def _definition(column: Column, version: int) -> str:
    """Write a new column; its DEFAULT, which fills the rows that exist, stays for who does not know it."""
    form = codec(column)
    fill = fill_of(column)
    default = "" if fill is None else f" DEFAULT {_expression(column, fill, form, version)}"
    return f"{sql.quote(column.name)} {form.sql_type}{default}{'' if column.nullable else ' NOT NULL'}"


def _expression(column: Column, fill: Any, form: Codec, version: int) -> str:
    if fill == "uuid":
        new = "pg_catalog.uuidv7()" if version >= _UUIDV7 else "pg_catalog.gen_random_uuid()"
        return new if form.sql_type == "uuid" else f"({new}::text)"
    if fill == "now" and isinstance(column.dtype, pl.Date | pl.Datetime):
        if form.sql_type == "timestamptz":
            return "pg_catalog.now()"
        return f"((pg_catalog.now() AT TIME ZONE 'UTC')::{form.sql_type})"
    return f"{constant(on_wire(column, form))}::{form.sql_type}"


def constant(value: Any) -> str:
    """Write a constant, to be cast to its type.

    Args:
        value: as it travels to PostgreSQL.

    Returns:
        SQL.

    Example:
        >>> constant("it's"), constant(True), constant([1, None]), constant(dt.timedelta(seconds=1))
        ("'it''s'", "'true'", "ARRAY['1', NULL]", "'1000000 microseconds'")
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "'true'" if value else "'false'"
        case bytes():
            return sql.literal("\\x" + value.hex())
        case list():
            return f"ARRAY[{', '.join(map(constant, value))}]"
        case dt.timedelta():
            return sql.literal(f"{value // dt.timedelta(microseconds=1)} microseconds")
        case dt.date() | dt.time():
            return sql.literal(value.isoformat())
    return sql.literal(str(value))
