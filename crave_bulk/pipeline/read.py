"""Read: rows of a table as a frame, by one query."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.compare import Operand, Parameters, sort_form
from crave_bulk.errors import ContractError, DatabaseError, Unreadable, shown
from crave_bulk.pipeline.stage import KeyOf, Wire
from crave_bulk.session import Session
from crave_bulk.sql import TRUE, quote
from crave_bulk.where import Where, compile_where

_MOST = 2**63 - 1  # rows that a database can count
OnUnreadable = Literal["error", "text"]


_NOT_UTF_8 = "22021"
_HEX = "pg_catalog.encode(pg_catalog.convert_to({}, 'SQL_ASCII'), 'hex')"
_OTHERS = "name other columns by columns=, or change the value in the database"
_ADVICE = f"read with unreadable='text', {_OTHERS}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows and columns to read.

    Attributes:
        where: a condition; None for all rows.
        columns: which columns, in this order; None for all.
        order_by: columns to sort by, ``-name`` for descending.
        limit: rows at most.
        include_deleted: whether rows that are marked as deleted are read too.
    """

    where: Where = None
    columns: Sequence[str] | None = None
    order_by: str | Sequence[str] | None = None
    limit: int | None = None
    include_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """One query, ready to run: the statement, the columns that it selects, and the values to bind."""

    statement: str
    names: list[str]
    parameters: pl.DataFrame | None


def build(wire: Wire, backend: Backend, selection: Selection, as_text: Collection[str] = ()) -> Query:
    """Write the query of a selection.

    Args:
        wire: the table on its database.
        backend: the database.
        selection: what to read.
        as_text: which columns to read as text.

    Returns:
        The query.

    Raises:
        ContractError: a column is not in the table, or the condition is not understood.

    Example:
        >>> import crave_bulk as cb
        >>> from crave_bulk.examples import Foods
        >>> from crave_bulk.table import contract_of
        >>> with cb.connect() as db:
        ...     wire = Wire(contract_of(Foods), db.backend)
        ...     query = build(wire, db.backend, Selection({"food_id__gt": 1}, ["name"], "-food_id", 3))
        >>> print(query.statement)
        SELECT CASE WHEN typeof(t."name") IN ('text', 'null') THEN t."name" END AS c1,
        CASE WHEN NOT (typeof(t."name") IN ('text', 'null'))
        THEN '0' || json_array(quote(t."food_id")) || quote(t."name") END AS _unreadable
        FROM "foods" AS t WHERE ((t."food_id" > ?1 AND typeof(t."food_id") IN ('integer', 'real')))
        ORDER BY t."food_id" DESC NULLS LAST LIMIT 3
    """
    names, order = _checked(wire, selection)
    parameters = Parameters(backend)
    condition = compile_where(wire, backend, selection.where, parameters).sql
    tests = [condition, TRUE if selection.include_deleted else wire.alive()]
    where = " AND ".join(test for test in tests if test != TRUE)
    chosen = wire.as_text(as_text).read(names) if as_text else wire.read(names)
    statement = f"SELECT {chosen} FROM {wire.target} AS t{f' WHERE {where}' if where else ''}"
    if order:
        statement += " ORDER BY " + ", ".join(_term(wire, backend, part) for part in order)
    if selection.limit is not None:
        statement += f" LIMIT {selection.limit}"
    return Query(statement, names, parameters.frame())


def run(session: Session, wire: Wire, query: Query, key_of: KeyOf | None = None) -> pl.DataFrame:
    """Run a query.

    Args:
        session: the connection.
        wire: the table on its database.
        query: what `build` wrote.
        key_of: as for `Wire.decode`.

    Returns:
        The rows, in the table's dtypes.

    Raises:
        Unreadable: a row holds what a frame cannot.
        BulkError: the database refused.
    """
    rows = wire.fetch(session, query.statement, query.names, parameters=query.parameters)
    return wire.decode(rows, query.names, key_of)


def rows(session: Session, wire: Wire, selection: Selection, unreadable: OnUnreadable) -> pl.DataFrame:
    """Read a selection.

    Args:
        session: the connection.
        wire: the table on its database.
        selection: what to read.
        unreadable: whether a value that a frame cannot hold is an error, or makes its column text.

    Returns:
        The rows, in the table's dtypes, or as text.

    Raises:
        Unreadable: a row holds what a frame cannot.
        BulkError: the condition is not understood, or the database refused.
    """
    as_text: set[str] = set()
    while True:
        try:
            return run(
                session,
                wire.as_text(as_text) if as_text else wire,
                build(wire, session.backend, selection, as_text),
                lambda name, text: _key_of(session, wire, selection, name, text),
            )
        except Unreadable as error:
            if unreadable == "error" or not error.is_text or not set(error.columns) - as_text:
                advice = _ADVICE if error.is_text else _OTHERS
                raise Unreadable(error.said, error.columns, advice) from error
            as_text |= set(error.columns)
        except DatabaseError as error:
            if error.sqlstate == _NOT_UTF_8 and not session.in_transaction:  # which has ended
                _check_text(session, wire, selection)
            raise


def _check_text(session: Session, wire: Wire, selection: Selection) -> None:
    """Refuse text that is not UTF-8, as a database in SQL_ASCII may hold; PostgreSQL does not say where it is."""
    chosen = _checked(wire, selection)[0]
    names = list(dict.fromkeys([*wire.contract.key, *chosen]))
    forms = {name: replace(codec, text=_HEX.format(codec.text)) for name, codec in wire.codecs.items()}
    coded = Wire(wire.contract, wire.backend, forms)
    wider = replace(selection, columns=names, order_by=None, limit=None)
    found = run(session, coded.as_text(names), build(coded, session.backend, wider, names))
    for name in chosen:
        number = next((n for n, text in enumerate(found[name]) if _decoded(text) is None), None)
        if number is not None:
            row = {part: _decoded(text) for part, text in found.row(number, named=True).items()}
            key = [(part, row[part]) for part in wire.contract.key if row[part] is not None]
            error = wire.refusal([name], key, "text that is not UTF-8")
            raise Unreadable(error.said, error.columns, _OTHERS)


def _decoded(text: str | None) -> str | None:
    """Read bytes that are written as hex, if they are UTF-8; NULL is."""
    try:
        return bytes.fromhex(text or "").decode()
    except UnicodeDecodeError:
        return None


def _key_of(
    session: Session, wire: Wire, selection: Selection, name: str, text: str
) -> list[tuple[str, str]]:
    """Find the key of a row that has a text in a column; another writer may have changed it just now."""
    names = list(dict.fromkeys([*wire.contract.key, name]))
    wider = replace(selection, columns=names, order_by=None, limit=None)
    found = run(session, wire.as_text(names), build(wire, session.backend, wider, names))
    keys = found.filter(pl.col(name) == text).head(1).select(wire.contract.key)
    return list(zip(keys.columns, keys.row(0), strict=True)) if keys.height else []


def _checked(wire: Wire, selection: Selection) -> tuple[list[str], list[str]]:
    """Check the columns to select and to sort by, and the limit."""
    contract, columns, limit = wire.contract, selection.columns, selection.limit
    names = contract.column_names if columns is None else _names("columns", columns)
    order = [] if selection.order_by is None else _names("order_by", selection.order_by)
    if (
        not names
        or len(set(names)) < len(names)
        or not (limit is None or (type(limit) is int and 0 <= limit <= _MOST))
    ):
        raise ContractError(
            f"columns={shown(columns)}, limit={shown(limit)}: name each column once, and limit by 0 to {_MOST}"
        )
    for name in [*names, *(part.removeprefix("-") for part in order)]:
        if name not in contract.column_names:
            raise ContractError(
                f"table {contract.name} has no column {name!r}: it has {contract.column_names}"
            )
    return names, order


def _names(option: str, value: Any) -> list[str]:
    """Take one name, or several."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple | pl.Series) or not all(isinstance(name, str) for name in names):
        raise ContractError(f"{option}={shown(value)} is not understood: name a column, or a list of columns")
    return list(names)


def _term(wire: Wire, backend: Backend, part: str) -> str:
    """Write one term of ORDER BY."""
    name = part.removeprefix("-")
    column = Operand(f"t.{quote(name)}", wire.contract.column(name), wire.codecs[name])
    way = "DESC" if part.startswith("-") else "ASC"
    return f"{sort_form(backend, column).format(column.sql)} {way} NULLS LAST"
