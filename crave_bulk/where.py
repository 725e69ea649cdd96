"""Conditions: a mapping with lookups, or a SQL text, over the columns of one table."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.compare import Comparer, Operand, Parameters, refused, unknown_column
from crave_bulk.condition import compile_text
from crave_bulk.errors import ContractError, DatabaseError
from crave_bulk.pipeline.stage import Wire
from crave_bulk.scalar import many, settled
from crave_bulk.sql import FALSE, TRUE, chain, quote

Where = Mapping[str, Any] | str | None
_OUT_OF_RANGE = "22003"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as SQL, over the table as ``t``.

    Attributes:
        sql: one boolean expression, which can stand beside AND.
        values: what its placeholders stand for, each a series of one row.
    """

    sql: str
    values: tuple[pl.Series, ...]


@contextmanager
def computing() -> Iterator[None]:
    """Say what is wrong if a condition computes a number that its type cannot hold.

    Yields:
        Nothing.

    Raises:
        ContractError: it does.
    """
    try:
        yield
    except DatabaseError as error:
        if error.sqlstate != _OUT_OF_RANGE:
            raise
        raise ContractError(
            "where= computes a number that is too large: a whole number has 64 bits, and another is a double: compare "
            "with less, or filter the frame that db.read gives"
        ) from error


def settled_where(where: Where) -> Where:
    """Take a condition that can be compiled more than once, and told from another by all of its values.

    Args:
        where: as for `compile_where`.

    Returns:
        The same condition.

    Example:
        >>> settled_where({"id__in": map(int, "12")})
        {'id__in': [1, 2]}
    """
    return {key: settled(value) for key, value in where.items()} if isinstance(where, Mapping) else where


def compile_where(
    wire: Wire, backend: Backend, where: Where, parameters: Parameters | None = None
) -> Condition:
    """Compile a condition over a table; names are quoted and values are bound, always.

    Args:
        wire: the table on its database.
        backend: the database.
        where: columns and lookups with their values, all of which must hold; or a SQL condition; None
            for every row.
        parameters: the values that the statement binds already, whose numbers go on; they are added to.

    Returns:
        The condition.

    Raises:
        ContractError: a column or a lookup is not known, a value does not fit its column, or the text
            is not one boolean expression of what is allowed.

    Example:
        >>> import crave_bulk as cb
        >>> from crave_bulk.examples import Foods
        >>> from crave_bulk.table import contract_of
        >>> with cb.connect() as db:
        ...     wire = Wire(contract_of(Foods), db.backend)
        ...     print(compile_where(wire, db.backend, {"name": "soup", "food_id__lt": 9}).sql)
        ...     print(compile_where(wire, db.backend, "name = 'soup' AND food_id < 9").sql)
        (t."name" = ?1) AND ((t."food_id" < ?2 AND typeof(t."food_id") IN ('integer', 'real')))
        ((t."name" = ?1) AND ((t."food_id" < ?2 AND typeof(t."food_id") IN ('integer', 'real'))))
    """
    bound = parameters or Parameters(backend)
    before = len(bound.values)
    comparer = Comparer(backend, bound)
    columns = {
        column.name: Operand(f"t.{quote(column.name)}", column, wire.codecs[column.name])
        for column in wire.contract.columns
    }
    if where is None:
        sql = TRUE
    elif isinstance(where, str):
        sql = compile_text(comparer, str(wire.contract.name), columns, where)
    elif isinstance(where, Mapping):
        table = str(wire.contract.name)
        parts = [_entry(comparer, table, columns, key, value) for key, value in where.items()]
        sql = chain([f"({part})" for part in parts], "AND") or TRUE
    else:
        raise ContractError(
            f"where={where!r} is not a condition: write a mapping such as {{'price__lt': 5}}, or a SQL condition as text"
        )
    return Condition(sql, tuple(bound.values[before:]))


def compile_wanted(wire: Wire, backend: Backend, where: Where, parameters: Parameters) -> Condition:
    """Compile the condition of a verb that writes, which must not be empty by mistake.

    Args:
        wire: the table on its database.
        backend: the database.
        where: as for `compile_where`, but not empty.
        parameters: the values that the statement binds already; they are added to.

    Returns:
        The condition.

    Raises:
        ContractError: the condition is empty or not understood.
    """
    if where is None or (isinstance(where, str | Mapping) and not (where and str(where).strip())):
        raise ContractError(
            f"where={where!r} is no condition, so it would meet every row: say where='true' if that is meant"
        )
    return compile_where(wire, backend, where, parameters)


def _entry(comparer: Comparer, table: str, columns: Mapping[str, Operand], key: Any, value: Any) -> str:
    """Compile one entry of a mapping; a column whose name is the whole key comes first."""
    if key in columns:
        return _equal(comparer, columns[key], value)
    name, separator, lookup = str(key).rpartition("__")
    if not separator or not isinstance(key, str):
        raise unknown_column(table, columns, key)
    if name not in columns:
        raise unknown_column(table, columns, name if lookup in _LOOKUPS else key)
    if lookup not in _LOOKUPS:
        near = difflib.get_close_matches(lookup, _LOOKUPS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ContractError(
            f"{lookup!r} of {key!r} is not a lookup: {hint}the lookups are {', '.join(_LOOKUPS)}"
        )
    return _LOOKUPS[lookup](comparer, columns[name], value)


def _equal(comparer: Comparer, column: Operand, value: Any) -> str:
    return f"{column.sql} IS NULL" if value is None else comparer.compare(column, "=", value)


def _unequal(comparer: Comparer, column: Operand, value: Any) -> str:
    return f"{column.sql} IS NOT NULL" if value is None else comparer.compare(column, "<>", value)


def _ordered(operator: str) -> Callable[[Comparer, Operand, Any], str]:
    def lookup(comparer: Comparer, column: Operand, value: Any) -> str:
        if value is None:
            raise refused(column.column, operator, value, "nothing is above or below NULL")
        return comparer.compare(column, operator, value)

    return lookup


def _in(comparer: Comparer, column: Operand, value: Any) -> str:
    test, nulls = comparer.member(column, "in", value)
    return f"{test} OR {column.sql} IS NULL" if nulls else test


def _notin(comparer: Comparer, column: Operand, value: Any) -> str:
    test, nulls = comparer.member(column, "notin", value)
    test = TRUE if test == FALSE else f"NOT ({test})"
    return f"{test} AND {column.sql} IS NOT NULL" if nulls else test


def _isnull(_: Comparer, column: Operand, value: Any) -> str:
    if not isinstance(value, bool):
        raise ContractError(f"{column.column.name}__isnull={value!r}: say True or False")
    return f"{column.sql} IS NULL" if value else f"{column.sql} IS NOT NULL"


def _between(comparer: Comparer, column: Operand, value: Any) -> str:
    try:
        low, high = many(value)
    except ValueError:
        raise refused(column.column, "between", value, "a pair is needed, (lowest, highest)") from None
    at_least, at_most = _ordered(">="), _ordered("<=")
    return f"{at_least(comparer, column, low)} AND {at_most(comparer, column, high)}"


def _text(name: str) -> Callable[[Comparer, Operand, Any], str]:
    return lambda comparer, column, value: comparer.text(column, name, value)


_LOOKUPS: dict[str, Callable[[Comparer, Operand, Any], str]] = {
    "lt": _ordered("<"),
    "lte": _ordered("<="),
    "gt": _ordered(">"),
    "gte": _ordered(">="),
    "ne": _unequal,
    "in": _in,
    "notin": _notin,
    "isnull": _isnull,
    "contains": _text("contains"),
    "startswith": _text("startswith"),
    "endswith": _text("endswith"),
    "between": _between,
}
