"""Write by a condition: one statement in one transaction, and every row that it touched accounted for."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import pandera.polars as pa
import polars as pl

from crave_bulk import failures
from crave_bulk.backends.base import Backend
from crave_bulk.compare import Operand, Parameters, unknown_column
from crave_bulk.engine import value
from crave_bulk.errors import ContractError
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.intake import moment
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.validate import validate
from crave_bulk.report import OUTCOME, Report
from crave_bulk.scalar import to_series
from crave_bulk.session import Session
from crave_bulk.sql import quote
from crave_bulk.table import Column, Contract
from crave_bulk.where import Where, compile_wanted

OpenSession = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that writes by a condition and gives the keys of the rows that it wrote."""

    sql: str
    parameters: pl.DataFrame | None


def update_where(open_session: OpenSession, wire: Wire, changes: Mapping[str, Any], where: Where) -> Report:
    """Set columns to values in the rows that meet a condition and do not have them yet.

    Args:
        open_session: gives a connection; a transaction that is open in this thread is joined.
        wire: the table on its database.
        changes: column to value.
        where: a condition that is not empty.

    Returns:
        The rows that changed, each as ``updated``.

    Raises:
        ContractError: the condition or a value is wrong, breaks a rule, or is of a key column.
        BulkError: the database refused; nothing was written.
    """

    def build(backend: Backend) -> Statement:
        frame = changed_values(wire, changes)
        return update_sql(wire, backend, frame, where, wire.alive(), only_changes=True)

    return _run(open_session, wire, "update_where", "updated", build)


def delete_where(open_session: OpenSession, wire: Wire, where: Where, *, hard: bool = False) -> Report:
    """Delete the rows that meet a condition: mark them where the table has a column for it.

    Args:
        open_session: gives a connection; a transaction that is open in this thread is joined.
        wire: the table on its database.
        where: a condition that is not empty.
        hard: remove the rows, whether marked or not.

    Returns:
        The rows that were deleted, each as ``deleted``.

    Raises:
        ContractError: the condition is wrong.
        BulkError: the database refused; nothing was written.
    """

    def build(backend: Backend) -> Statement:
        return deletion(wire, backend, where, "true", hard=hard)

    return _run(open_session, wire, "delete_where", "deleted", build)


def deletion(wire: Wire, backend: Backend, where: Where, state: str, *, hard: bool) -> Statement:
    """Write the statement that deletes, or marks as deleted, what meets a condition.

    Args:
        wire: the table on its database.
        backend: the database.
        where: the condition.
        state: SQL that a row must meet as well.
        hard: remove the rows, whether marked or not.

    Returns:
        The statement.

    Raises:
        ContractError: the condition is empty or not understood.
    """
    mark = wire.contract.soft_delete
    if mark is None or hard:
        return delete_sql(wire, backend, where, state)
    now = dt.datetime.now(dt.UTC)
    set_to = pl.lit(True) if isinstance(mark.dtype, pl.Boolean) else moment(mark.dtype, now)
    frame = pl.select(set_to.alias(mark.name))
    return update_sql(wire, backend, frame, where, _all([wire.alive(), state]))


def restore_where(open_session: OpenSession, wire: Wire, where: Where) -> Report:
    """Take the mark of deletion from the rows that meet a condition.

    Args:
        open_session: gives a connection; a transaction that is open in this thread is joined.
        wire: the table on its database.
        where: a condition that is not empty.

    Returns:
        The rows that were restored, each as ``updated``.

    Raises:
        ContractError: the condition is wrong, or the table does not mark what is deleted.
        BulkError: the database refused; nothing was written.
    """
    mark = wire.contract.soft_delete
    if mark is None:
        raise ContractError(
            f"table {wire.contract.name} has no soft_delete column, so what was deleted is gone: declare one "
            "with cb.field(soft_delete=True) before rows are deleted"
        )

    def build(backend: Backend) -> Statement:
        set_to = pl.lit(False if isinstance(mark.dtype, pl.Boolean) else None, dtype=mark.dtype)
        frame = pl.select(set_to.alias(mark.name))
        return update_sql(wire, backend, frame, where, f"NOT ({wire.alive()})")

    return _run(open_session, wire, "restore_where", "updated", build)


def changed_values(wire: Wire, changes: Mapping[str, Any]) -> pl.DataFrame:
    """Bring the values of an update to one row, and judge it by the rules of its columns.

    Args:
        wire: the table on its database.
        changes: column to value.

    Returns:
        One row, in the table's dtypes.

    Raises:
        ContractError: a column is unknown or cannot be set, or a value does not fit it or breaks its rules.
    """
    contract = wire.contract
    if not isinstance(changes, Mapping) or not changes:
        raise ContractError(f"changes={changes!r} sets nothing: write a mapping of column to value")
    frame = pl.DataFrame([_new_value(contract, name, new) for name, new in changes.items()])
    columns = tuple(contract.column(name) for name in changes)
    given = replace(
        contract,
        columns=columns,
        schema=pa.DataFrameSchema({name: contract.schema.columns[name] for name in changes}),
    )
    checked = validate(given, {name: wire.codecs[name] for name in changes}, frame)
    if checked.failures.height:
        lines = "".join(
            f"\n  - {column} = {shown}: {message} (rule {rule})"
            for column, shown, message, rule in checked.failures.select(
                "column", "value", "message", "rule"
            ).iter_rows()
        )
        raise ContractError(f"the changes break rules of table {contract.name}; nothing was written:{lines}")
    return checked.frame


def _new_value(contract: Contract, name: str, new: Any) -> pl.Series:
    if name not in contract.column_names:
        raise unknown_column(str(contract.name), dict.fromkeys(contract.column_names), name)
    column = contract.column(name)
    if name in contract.key:
        raise ContractError(
            f"column {name!r} is part of the key of table {contract.name}, and a key never changes: insert the "
            "row under its new key and delete the old one"
        )
    if column.generated:
        raise ContractError(
            f"column {name!r} of table {contract.name} is computed by the database: leave it out"
        )
    try:
        return to_series(name, new, column.dtype)
    except ValueError as error:
        raise ContractError(
            f"column {name!r} ({column.dtype}) of table {contract.name} cannot be set to {new!r}: {error}"
        ) from error


def update_sql(
    wire: Wire,
    backend: Backend,
    changes: pl.DataFrame,
    where: Where,
    state: str,
    *,
    only_changes: bool = False,
) -> Statement:
    """Write the statement that sets columns in rows that meet a condition.

    Args:
        wire: the table on its database.
        backend: the database.
        changes: one row of new values.
        where: the condition.
        state: SQL that a row must meet as well, about its mark of deletion.
        only_changes: leave out rows that have the new values already.

    Returns:
        The statement.

    Raises:
        ContractError: the condition is empty or not understood.
    """
    parameters = Parameters(backend)
    sets, differs = [], []
    for series in changes.iter_columns():
        column, codec = wire.contract.column(series.name), wire.codecs[series.name]
        new = _bind(wire, parameters, series)
        old = Operand(f"t.{quote(column.name)}", column, codec)
        sets.append(f"{quote(column.name)} = {new}")
        differs.append(f"{codec.compare.format(old.sql)} IS DISTINCT FROM {codec.compare.format(new)}")
    for series in stamps(wire.contract.columns, changes.columns):
        sets.append(f"{quote(series.name)} = {_bind(wire, parameters, series)}")
    tests = [compile_wanted(wire, backend, where, parameters).sql, state]
    tests += [f"({' OR '.join(differs)})"] if only_changes else []
    return Statement(
        f"UPDATE {wire.target} AS t SET {', '.join(sets)} WHERE {_all(tests)} RETURNING {_keys(wire)}",
        parameters.frame(),
    )


def delete_sql(wire: Wire, backend: Backend, where: Where, state: str = "true") -> Statement:
    """Write the statement that removes the rows that meet a condition.

    Args:
        wire: the table on its database.
        backend: the database.
        where: the condition.
        state: SQL that a row must meet as well.

    Returns:
        The statement.

    Raises:
        ContractError: the condition is empty or not understood.
    """
    parameters = Parameters(backend)
    tests = [compile_wanted(wire, backend, where, parameters).sql, state]
    return Statement(
        f"DELETE FROM {wire.target} AS t WHERE {_all(tests)} RETURNING {_keys(wire)}", parameters.frame()
    )


def stamps(columns: tuple[Column, ...], given: list[str]) -> list[pl.Series]:
    """Make the values of the columns that are set to the time of the batch whenever a row changes.

    Args:
        columns: of the table.
        given: those that have a value already.

    Returns:
        One series of one row for each.
    """
    now = dt.datetime.now(dt.UTC)
    wanted = [column for column in columns if column.options.on_update and column.name not in given]
    return [pl.select(moment(column.dtype, now).alias(column.name)).to_series() for column in wanted]


def _bind(wire: Wire, parameters: Parameters, series: pl.Series) -> str:
    codec = wire.codecs[series.name]
    encoded = series.to_frame().select(codec.encode(pl.col(series.name))).to_series()
    return codec.stage.format(parameters.bind(encoded))


def _all(tests: list[str]) -> str:
    return " AND ".join(test for test in tests if test != "true") or "true"


def _keys(wire: Wire) -> str:
    """Write what is read back; RETURNING does not know the alias on SQLite."""
    return ", ".join(
        f"{wire.codecs[name].read.format(quote(name))} AS {wire.short[name]}" for name in wire.contract.key
    )


def _run(
    open_session: OpenSession, wire: Wire, verb: str, outcome: str, build: Callable[[Backend], Statement]
) -> Report:
    """Run one statement in one transaction, and report the rows whose keys it gives."""
    start, clock, contract = time.perf_counter(), Clock(), wire.contract
    with open_session() as session:
        statement = build(session.backend)
        with clock.phase("merge", 0), session.atomic():
            found = session.fetch(statement.sql, statement.parameters)
    keys = decoded(wire, found)
    timings = clock.frame().with_columns(rows=pl.lit(keys.height, dtype=pl.Int64))
    return Report(
        verb=verb,
        table=str(contract.name),
        batch_id=str(value("SELECT uuidv7()")),
        committed=True,
        source=keys.clear(),
        keys_by_row=keys,
        outcomes_by_row=pl.repeat(outcome, keys.height, dtype=OUTCOME, eager=True),
        failures=failures.none(),
        timings=timings,
        seconds=time.perf_counter() - start,
    )


def decoded(wire: Wire, found: pl.DataFrame) -> pl.DataFrame:
    """Bring keys that a statement gave to the table's dtypes; of no row, SQLite's driver does not know any.

    Args:
        wire: the table on its database.
        found: the short columns of the key.

    Returns:
        The key columns.
    """
    key = wire.contract.key
    if not found.height:
        found = pl.DataFrame(schema={wire.short[name]: wire.codecs[name].wire for name in key})
    return wire.decode(wire.from_wire(found, key), key)
