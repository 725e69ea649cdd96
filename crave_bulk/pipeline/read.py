"""Read: rows of a table as a frame, by one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.compare import Operand, Parameters, sort_form
from crave_bulk.errors import ContractError
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session
from crave_bulk.sql import quote
from crave_bulk.where import Where, compile_where


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


def build(wire: Wire, backend: Backend, selection: Selection) -> Query:
    """Write the query of a selection.

    Args:
        wire: the table on its database.
        backend: the database.
        selection: what to read.

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
        SELECT t."name" AS c1 FROM "foods" AS t WHERE (t."food_id" > ?1) ORDER BY t."food_id" DESC NULLS LAST LIMIT 3
    """
    names, order = _checked(wire, selection)
    parameters = Parameters(backend)
    condition = compile_where(wire, backend, selection.where, parameters).sql
    tests = [condition, "true" if selection.include_deleted else wire.alive()]
    where = " AND ".join(test for test in tests if test != "true")
    statement = f"SELECT {wire.read(names)} FROM {wire.target} AS t{f' WHERE {where}' if where else ''}"
    if order:
        statement += " ORDER BY " + ", ".join(_term(wire, backend, part) for part in order)
    if selection.limit is not None:
        statement += f" LIMIT {selection.limit}"
    return Query(statement, names, parameters.frame())


def run(session: Session, wire: Wire, query: Query) -> pl.DataFrame:
    """Run a query.

    Args:
        session: the connection.
        wire: the table on its database.
        query: what `build` wrote.

    Returns:
        The rows, in the table's dtypes.

    Raises:
        BulkError: the database refused.
    """
    typed = session.backend.typed(query.statement, [wire.codecs[name].wire for name in query.names])
    fetched = session.fetch(typed or query.statement, query.parameters)
    rows = fetched if typed is None else fetched.slice(1)
    rows.columns = wire.shorts(query.names)
    return wire.decode(wire.from_wire(rows, query.names), query.names)


def _checked(wire: Wire, selection: Selection) -> tuple[list[str], list[str]]:
    """Check the columns to select and to sort by, and the limit."""
    contract, columns, limit = wire.contract, selection.columns, selection.limit
    columns = [columns] if isinstance(columns, str) else columns
    names = list(contract.column_names if columns is None else columns)
    order = [selection.order_by] if isinstance(selection.order_by, str) else list(selection.order_by or [])
    if (
        not names
        or len(set(names)) < len(names)
        or not (limit is None or (type(limit) is int and limit >= 0))
    ):
        raise ContractError(
            f"columns={columns!r}, limit={limit!r}: name each column once, and limit by 0 or more"
        )
    for name in [*names, *(part.removeprefix("-") for part in order)]:
        if name not in contract.column_names:
            raise ContractError(
                f"table {contract.name} has no column {name!r}: it has {contract.column_names}"
            )
    return names, order


def _term(wire: Wire, backend: Backend, part: str) -> str:
    """Write one term of ORDER BY."""
    name = part.removeprefix("-")
    column = Operand(f"t.{quote(name)}", wire.contract.column(name), wire.codecs[name])
    way = "DESC" if part.startswith("-") else "ASC"
    return f"{sort_form(backend, column).format(column.sql)} {way} NULLS LAST"
