"""Comparisons that mean the same on every database: a column's value with a bound one.

A value is brought to the column's dtype first, exactly or not at all; then it travels as a cell of a
frame would, and both sides are compared in the form in which the column's codec says it is exact.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.backends.codec import Codec, inner_dtype
from crave_bulk.errors import ContractError
from crave_bulk.scalar import json_text, kind_of, many, to_scalar, to_scalars, to_series, uuid_text
from crave_bulk.sql import FALSE, chain
from crave_bulk.table import Column, FieldOptions

EQUALITY = ("=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM")


@dataclass(frozen=True, slots=True)
class Operand:
    """An expression over a row, typed as a column is.

    Attributes:
        sql: the expression.
        column: what it is like; its name is for messages.
        codec: how values of it travel.
    """

    sql: str
    column: Column
    codec: Codec


class Parameters:
    """The values of one statement, bound by the driver under numbered placeholders.

    Args:
        backend: the database.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.values: list[pl.Series] = []

    def bind(self, value: pl.Series) -> str:
        """Take in one value.

        Args:
            value: a series of one row, in a wire's dtype.

        Returns:
            SQL that gives it, which may be used more than once.
        """
        phrases = self.backend.phrases
        mark = phrases.mark.format(len(self.values) + 1)
        if isinstance(value.dtype, pl.Datetime) and value.dtype.time_zone:
            value = value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            mark = phrases.moment.format(mark)
        self.values.append(value)
        return mark

    def frame(self) -> pl.DataFrame | None:
        """Give what the driver binds.

        Returns:
            One row, or None where there is no value.
        """
        columns = [value.alias(f"p{number}") for number, value in enumerate(self.values, 1)]
        return pl.DataFrame(columns) if columns else None


def synthetic(backend: Backend, dtype: pl.DataType, sql: str, name: str) -> Operand:
    """Type an expression that is no column of a table.

    Args:
        backend: the database.
        dtype: what it gives.
        sql: the expression.
        name: what messages call it.

    Returns:
        The operand.
    """
    column = Column("c", dtype, nullable=True, required=False, coerce=False, options=FieldOptions())
    codec = backend.codec(column)
    return Operand(
        sql,
        Column(name, dtype, nullable=True, required=False, coerce=False, options=column.options),
        codec,
    )


def sort_form(backend: Backend, operand: Operand) -> str:
    """Choose the SQL template that sorts as values do: text by code points, on every database.

    Args:
        backend: the database.
        operand: an expression.

    Returns:
        The template.

    Raises:
        ContractError: the dtype has no order.
    """
    column, codec = operand.column, operand.codec
    if column.dtype.is_nested() or column.options.json:
        raise ContractError(f"{_named(column)} has no order, so rows cannot be sorted by it")
    plain = isinstance(column.dtype, pl.String | pl.Categorical) and not column.options.uuid
    return backend.phrases.text.replace("{0}", _folded(backend, codec, codec.read)) if plain else codec.order


def _folded(backend: Backend, codec: Codec, form: str) -> str:
    """Bring texts to one case, where the database compares them whatever their case."""
    return f"{backend.spelling.fn('lower')}({form})" if codec.folds else form


class Comparer:
    """Writes comparisons for one statement, and binds their values."""

    def __init__(self, backend: Backend, parameters: Parameters) -> None:
        self.backend, self.parameters = backend, parameters

    def compare(self, left: Operand, operator: str, value: Any) -> str:
        """Compare with a value.

        Args:
            left: an expression.
            operator: of SQL, such as ``<``.
            value: a Python value that is not None.

        Returns:
            One boolean expression.

        Raises:
            ContractError: the value is none of the operand's dtype, or the dtype has no order.
        """
        left = self._as_given(left, [value])
        form = self.form(left, operator)
        constant = form.format(self.constant(left, operator, value))
        test = self.backend.spelling.compare(form.format(left.sql), operator, constant)
        return _if_ordered(test, operator, left)

    def compare_two(self, left: Operand, operator: str, right: Operand) -> str:
        """Compare two expressions of one stored form.

        Args:
            left: an expression.
            operator: of SQL.
            right: the other.

        Returns:
            One boolean expression.

        Raises:
            ContractError: the dtype has no order.
        """
        form, other = self.form(left, operator), self.form(right, operator)
        test = self.backend.spelling.compare(form.format(left.sql), operator, other.format(right.sql))
        return _if_ordered(test, operator, left, right)

    def form(self, operand: Operand, operator: str) -> str:
        """Choose the SQL template in which an operator is exact.

        Args:
            operand: an expression.
            operator: of SQL.

        Returns:
            The template.

        Raises:
            ContractError: the operator asks for an order, and the dtype has none.
        """
        column, codec = operand.column, operand.codec
        if operator in EQUALITY:
            return _folded(self.backend, codec, codec.compare)
        if column.dtype.is_nested() or column.options.json:
            raise ContractError(
                f"{_named(column)} has no order, so {operator} does not apply: test it for equality, or "
                "keep what you compare in a column of its own"
            )
        return sort_form(self.backend, operand)

    def constant(self, operand: Operand, lookup: str, value: Any) -> str:
        """Bind a value as one of an operand's.

        Args:
            operand: an expression.
            lookup: what it is for, for messages.
            value: a Python value, or None.

        Returns:
            SQL that gives the value in the column's type.

        Raises:
            ContractError: it is no value of the operand's dtype.
        """
        return operand.codec.stage.format(self.parameters.bind(self.encode(operand, lookup, value)))

    def encode(self, operand: Operand, lookup: str, value: Any) -> pl.Series:
        """Encode a value for the wire.

        Args:
            operand: an expression.
            lookup: what it is for, for messages.
            value: a Python value, or None.

        Returns:
            A series of one row.

        Raises:
            ContractError: it is no value of the operand's dtype.
        """
        try:
            value = _checked(operand, value)
            return self._wired(operand, to_series("v", value, operand.column.dtype))
        except (ValueError, pl.exceptions.PolarsError) as error:
            raise refused(operand.column, lookup, value, str(error)) from error

    def _as_given(self, operand: Operand, values: Sequence[Any]) -> Operand:
        """Take a column without a type for one of the kind of the values, which are compared as SQLite does."""
        if not operand.column.untyped:
            return operand
        kinds = {kind_of(value) for value in values}
        numbers = kinds == {pl.Int64(), pl.Float64()}
        dtype = pl.Float64() if numbers else kinds.pop() if len(kinds) == 1 else None
        column = replace(operand.column, dtype=dtype or pl.String())
        codec = self.backend.codec(column)
        return Operand(operand.sql, column, replace(codec, compare="+{0}") if dtype else codec)

    def _wired(self, operand: Operand, series: pl.Series) -> pl.Series:
        frame = pl.DataFrame({"v": series})
        for refusal in operand.codec.refusals:
            if frame.select(refusal.bad(pl.col("v")).fill_null(False).any()).item():
                raise ValueError(f"it {refusal.reason}")
        return frame.select(operand.codec.encode(pl.col("v"))).to_series()

    def member(self, operand: Operand, lookup: str, values: Any) -> tuple[str, bool]:
        """Test for being one of many values.

        Args:
            operand: an expression.
            lookup: what it is for, for messages.
            values: a collection.

        Returns:
            One boolean expression over the values that are not None, and whether None is among them.

        Raises:
            ContractError: it is no collection, or holds what is no value of the operand's dtype.
        """
        column = operand.column
        try:
            items = many(values)
        except ValueError as error:
            raise refused(column, lookup, values, str(error)) from error
        present = [item for item in items if item is not None]
        nulls = len(present) < len(items)
        if not present:
            return FALSE, nulls
        if column.dtype.is_nested():
            return chain([self.compare(operand, "=", item) for item in present], "OR"), nulls
        operand = self._as_given(operand, present)
        series = self._series(operand, lookup, present)
        item, table, bound = self.backend.many(series)
        form = self.form(operand, "=")
        source = table.format(self.parameters.bind(bound))
        chosen = f"SELECT {form.format(operand.codec.stage.format(item))} FROM {source}"
        return self.backend.spelling.among(form.format(operand.sql), chosen), nulls

    def _series(self, operand: Operand, lookup: str, values: Sequence[Any]) -> pl.Series:
        try:
            plain = to_scalars([_checked(operand, value) for value in values], operand.column.dtype)
            return self._wired(operand, pl.Series("v", plain, dtype=operand.column.dtype, strict=True))
        except (ValueError, TypeError, OverflowError, pl.exceptions.PolarsError) as error:
            wrong, why = _first_wrong(operand, values) or (values, str(error))
            raise refused(operand.column, lookup, wrong, why) from error

    def text(self, operand: Operand, lookup: str, value: Any) -> str:
        """Test a text for what it contains, begins or ends with; a list for an element.

        Args:
            operand: an expression.
            lookup: ``contains``, ``startswith`` or ``endswith``.
            value: what to find, to the letter.

        Returns:
            One boolean expression.

        Raises:
            ContractError: the operand is neither text nor such a list, or the value is no text.
        """
        column = operand.column
        if value is None:
            raise refused(column, lookup, value, "no text and no list contains NULL")
        if isinstance(column.dtype, pl.List) and lookup == "contains":
            return self._element(operand, value)
        if not isinstance(column.dtype, pl.String | pl.Enum | pl.Categorical):
            raise ContractError(
                f"{_named(column)} cannot be asked for {lookup}: that is for text columns"
                + ("" if lookup != "contains" else ", and for lists of text, whole numbers or booleans")
            )
        plain = synthetic(self.backend, pl.String(), self.as_text(operand), column.name)
        mark = _folded(self.backend, operand.codec, self.constant(plain, lookup, value))
        if value == "":
            self.parameters.values.pop()
            return f"{operand.sql} IS NOT NULL"
        phrase: str = getattr(self.backend.phrases, lookup)
        return phrase.format(plain.sql, mark)

    def as_text(self, operand: Operand) -> str:
        """Write a text operand as plain text that sorts by code points.

        Args:
            operand: of a text dtype, an Enum or a Categorical.

        Returns:
            SQL.
        """
        value = operand.codec.read.format(operand.sql)
        return self.backend.phrases.text.format(_folded(self.backend, operand.codec, value))

    def _element(self, operand: Operand, value: Any) -> str:
        column, codec = operand.column, operand.codec
        inner = inner_dtype(column.dtype) if isinstance(column.dtype, pl.List) else column.dtype
        array = isinstance(codec.wire, pl.List)
        if not (isinstance(inner, pl.String | pl.Boolean) or inner.is_integer()) or (
            array != ("ANY" in self.backend.phrases.element)
        ):
            raise ContractError(
                f"{_named(column)} cannot be asked for contains: that works for lists of text, whole numbers "
                "or booleans that the database keeps as a list; filter the frame that db.read gives"
            )
        element = synthetic(self.backend, inner, "", column.name)
        try:
            value = uuid_text(value) if column.options.uuid else value
        except ValueError as error:
            raise refused(column, "contains", value, str(error)) from error
        mark = self.constant(element, "contains", value)
        return self.backend.phrases.element.format(codec.read.format(operand.sql), mark)


def _checked(operand: Operand, value: Any) -> Any:
    """Bring a UUID to the form in which the database has it, and refuse what is none, or no JSON."""
    column = operand.column
    if value is None or not isinstance(column.dtype, pl.String):
        return value
    if column.options.uuid and operand.codec.sql_type in ("uuid", "UUID_TEXT"):
        return uuid_text(value)
    return json_text(value) if column.options.json else value


def _first_wrong(operand: Operand, values: Sequence[Any]) -> tuple[Any, str] | None:
    """Find the first value that is none of an operand's, and why."""
    for value in values:
        try:
            to_scalar(_checked(operand, value), operand.column.dtype)
        except ValueError as error:
            return value, str(error)
    return None


def _if_ordered(test: str, operator: str, *operands: Operand) -> str:
    """Let an operator that asks for an order be false of a value that has none among those of a frame."""
    guards = (
        [] if operator in EQUALITY else [o.codec.ordered.format(o.sql) for o in operands if o.codec.ordered]
    )
    return f"({' AND '.join([test, *guards])})" if guards else test


def refused(column: Column, lookup: str, value: Any, why: str) -> ContractError:
    """Build the error for a value that a column cannot be compared with.

    Args:
        column: the column.
        lookup: what the value was for.
        value: the value.
        why: the reason.

    Returns:
        The error.
    """
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return ContractError(
        f"{_named(column)}: {shown} (for {lookup}) is not one of its values: {why}: give a value of that type"
    )


def unknown_column(table: str, columns: Mapping[str, Any], name: Any) -> ContractError:
    """Build the error for a column that a table does not have.

    Args:
        table: its name.
        columns: its columns.
        name: what was asked for.

    Returns:
        The error.
    """
    near = difflib.get_close_matches(str(name), columns, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ContractError(f"table {table} has no column {name!r}: {hint}it has {list(columns)}")


def _named(column: Column) -> str:
    return f"column {column.name!r} ({column.dtype})"
