"""Write by a condition: one statement in one transaction, and every row that it touched accounted for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandera.polars as pa
import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.compare import Parameters, unknown_column
from crave_bulk.errors import ContractError
from crave_bulk.pipeline import dedupe, inheritance
from crave_bulk.pipeline.cascades import unindexed_note
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.facts import Facts, facts_of
from crave_bulk.pipeline.images import Images
from crave_bulk.pipeline.intake import moment, typed_as_given
from crave_bulk.pipeline.narrower import narrowed
from crave_bulk.pipeline.orphaned import orphaned_note
from crave_bulk.pipeline.pointers import check_values
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.staging import Staging
from crave_bulk.pipeline.validate import validate
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.work import Turn, Work
from crave_bulk.report import OUTCOME
from crave_bulk.scalar import kind_of, settled, to_series
from crave_bulk.session import NotText, Session
from crave_bulk.sql import TRUE, chain, quote
from crave_bulk.table import Column, Contract
from crave_bulk.where import Where, compile_wanted


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that writes by a condition and gives the keys of the rows that it wrote.

    Attributes:
        sql: the statement.
        parameters: the values that it binds.
        where: its condition by itself, over ``t``.
        chosen: the values that the condition binds.
        remain: the rows are there afterwards.
        sets: the columns that it sets.
    """

    sql: str
    parameters: pl.DataFrame | None
    where: str
    chosen: pl.DataFrame | None
    remain: bool
    sets: tuple[str, ...] = ()

    def strictly(self, strict: str) -> str:
        """Write the statement with what makes a broken constraint an error."""
        return self.sql.replace("UPDATE ", f"UPDATE{strict} ", 1) if strict else self.sql


class ConditionWork(Work):
    """A verb that writes, by one statement, whatever meets a condition.

    Args:
        wire: the table on its database.
        verb: such as ``delete_where``.
        outcome: what becomes of each row.
        statement: what is run.
        said: what the caller has passed, as `said` writes it.
        sets: the values that the statement sets, one row, where the caller has passed some.
    """

    def __init__(
        self,
        wire: Wire,
        verb: str,
        outcome: str,
        statement: Statement,
        said: str,
        sets: pl.DataFrame | None = None,
    ) -> None:
        self.wire, self.verb, self.outcome, self.statement = wire, verb, outcome, statement
        self._sets = sets
        self._said = said
        self.clock = Clock()
        self.source = pl.DataFrame(
            schema={name: wire.contract.column(name).dtype for name in wire.contract.key}
        )

    def write(self, turn: Turn) -> Verdict:
        """Run the statement."""
        staging = Staging(turn.session, self.clock, self.wire.shorts(self.contract.key))
        verdict, images = Verdict.over(0), turn.images(self.wire)
        facts = facts_of(turn.session, self.wire, known=images is None)
        with self.clock.phase("merge", 0):
            if self._sets is not None:
                wire = self.wire if facts.exact else narrowed(turn.session, self.wire)
                _check_kept(turn.session, wire, self._sets)
                check_values(turn.session, self.wire, self._sets)
            verdict.keys = execute(turn, self.wire, self.statement, images, staging, verdict, facts)
        staging.close()
        verdict.changes = images.changes if images else []
        return verdict

    def accounts(self, verdict: Verdict) -> tuple[pl.DataFrame, pl.Series]:
        """Give the rows that were found."""
        keys = self.source if verdict.keys is None else verdict.keys
        outcomes = pl.repeat(self.outcome, keys.height, dtype=OUTCOME, eager=True)
        if verdict.others is None or verdict.others_outcomes is None:
            return keys, outcomes
        return pl.concat([keys, verdict.others]), pl.concat([outcomes, verdict.others_outcomes])

    def about(self) -> str:
        """Name the condition and the values, but not the time of the call."""
        return self._said


def _check_kept(session: Session, wire: Wire, sets: pl.DataFrame) -> None:
    """Refuse a value that the type of its column would cut off or round in silence."""
    for series in sets.iter_columns():
        codec = wire.codecs[series.name]
        if not codec.kept:
            continue
        parameters = Parameters(wire.backend)
        encoded = series.to_frame().select(codec.encode(pl.col(series.name))).to_series()
        value = parameters.bind(encoded)
        if not codec.casts:  # else the test says of which type it is
            value = f"({value}::text{'[]' if encoded.dtype.is_nested() else ''})"
        kept = session.fetch(f"SELECT {codec.kept.format(value)} AS kept", parameters.frame()).item()
        if kept is not None and not kept:
            raise ContractError(
                f"{series.item()!r} would be stored as another value in column {series.name!r} of table "
                f"{wire.contract.name}, as {codec.sql_type} cuts it off or rounds it; nothing was written"
            )


def said(*passed: Any) -> str:
    """Write what a caller has passed, in one way.

    Args:
        passed: scalars, and mappings, lists and sets of them.

    Returns:
        Text that is the same for the same.

    Example:
        >>> said({"b": 1, "a": {2, 1}}) == said({"a": {1, 2}, "b": 1})
        True
    """

    def plain(value: Any) -> str:
        value = settled(value)
        if isinstance(value, Mapping):
            return repr(sorted((str(key), plain(part)) for key, part in value.items()))
        if isinstance(value, set | frozenset):
            return repr(sorted(map(plain, value)))
        return repr([plain(part) for part in value]) if isinstance(value, list | tuple) else repr(value)

    return plain(passed)


def execute(
    turn: Turn,
    wire: Wire,
    statement: Statement,
    images: Images | None,
    staging: Staging,
    verdict: Verdict,
    facts: Facts,
) -> pl.DataFrame:
    """Run a statement that writes by a condition.

    Args:
        turn: the attempt.
        wire: the table on its database.
        statement: what to run.
        images: where the rows are kept as they were, None where nobody wants them.
        staging: the staging table, which is used to find the rows again.
        verdict: is told where they cannot be kept.
        facts: of the table.

    Returns:
        The keys of the rows that it wrote.

    Raises:
        Raced: another writer came in between.
        BulkError: the database refused.
    """
    if images is not None and images.wire.children:
        inheritance.check(
            turn.session,
            wire,
            f"WHERE {statement.where}",
            "update" if statement.remain else "delete",
            undo=turn.undo,
            parameters=statement.chosen,
        )
    before = None if images is None else _before(turn, statement, images, verdict, facts)
    met = _met(turn.session, wire, statement) if images is not None and images.wire.policies else 0
    key = wire.contract.key
    try:
        found = turn.session.fetch(statement.strictly(facts.strict), statement.parameters)
    except NotText as error:
        raise wire.not_text(error, key) from error
    if not found.height:  # of no row, SQLite's driver does not know any dtype
        found = pl.DataFrame(schema={wire.short[name]: wire.codecs[name].wire for name in key})
    found = wire.readable(found, key)
    if (
        found.height and not statement.remain and images is not None and images.pointing is not None
    ):  # it has been asked for anyway
        verdict.note(unindexed_note(wire.backend, wire.contract.name, images.pointing))
    if before is not None and not statement.remain and found.height < before.height:
        # SQLite does not name the rows that went along with others before their turn came.
        found = _gone(turn.session, wire, before, staging)
    done = found.height
    if images is not None and before is not None and done < before.height:
        met = max(met, before.height)
        done += _changed_otherwise(images, before, found, staging, verdict, remain=statement.remain)
    if done < met:
        verdict.note(_kept_note(wire, met - done, remain=statement.remain))
    if images is not None and before is not None and found.height:
        rows = found.with_row_index("_row").with_columns(
            pl.col("_row").cast(pl.Int64), inserted=pl.lit(False)
        )
        if statement.remain:
            images.followed()
            staging.put(rows.drop("inserted").with_columns(wave=pl.lit(0, dtype=pl.Int32)))
            images.written(before, rows, numbered=False)
        else:
            images.gone(before, rows, numbered=False)
    return wire.decode(found, key)


def _met(session: Session, wire: Wire, statement: Statement) -> int:
    """Count the rows that meet a condition, where a policy may hide some of them from whoever locks or changes them."""
    count = session.backend.spelling.fn("count(*)")
    query = f"SELECT {count} AS met FROM {wire.target} AS t WHERE {statement.where}"
    return int(session.fetch(query, statement.chosen).item())


def _kept_note(wire: Wire, rows: int, *, remain: bool) -> str:
    """Say how many rows the database left as they were, or did something else with."""
    return (
        f"Rows that met the condition and were not {'changed' if remain else 'deleted'}, as a trigger or a policy of table "
        f"{wire.contract.name} kept them or did something else: {rows:,}."
    )


def _changed_note(wire: Wire, rows: int, *, remain: bool) -> str:
    """Say how many rows a trigger has changed in its own way."""
    return (
        f"Rows that a trigger of table {wire.contract.name} changed in its own way, where they were to be "
        f"{'set' if remain else 'deleted'}: {rows:,}."
    )


def _changed_otherwise(
    images: Images,
    before: pl.DataFrame,
    found: pl.DataFrame,
    staging: Staging,
    verdict: Verdict,
    *,
    remain: bool,
) -> int:
    """Account for the rows that were not written and are not as they were, and keep them for an undo."""
    key = images.key
    rows = before.select(key).join(found.select(key), on=key, how="anti").with_row_index("_row")
    rows = rows.with_columns(pl.col("_row").cast(pl.Int64))
    staging.put(rows.with_columns(wave=pl.lit(0, dtype=pl.Int32)))
    changed = images.changed(before, rows)
    if changed.height:
        staging.put(changed.with_columns(wave=pl.lit(0, dtype=pl.Int32)))
        images.written(before, changed.with_columns(inserted=pl.lit(False)), numbered=False)
        verdict.others = images.wire.decode(changed, images.wire.contract.key)
        verdict.others_outcomes = pl.repeat("updated", changed.height, dtype=OUTCOME, eager=True)
        verdict.note(_changed_note(images.wire, changed.height, remain=remain))
    return changed.height


def _before(
    turn: Turn, statement: Statement, images: Images, verdict: Verdict, facts: Facts
) -> pl.DataFrame | None:
    """Read the rows as they are, where they can be kept."""
    try:
        _must_be_found(turn.session, images.wire, statement)
        before = images.before_where(statement.where, statement.chosen, deletes=not statement.remain)
        if not statement.remain:
            verdict.note(orphaned_note(turn.session, images.wire, before))
        if statement.sets and before.height and facts.followed:
            images.moving(before, statement.sets)
        return before
    except ContractError as error:
        if turn.must:
            raise
        verdict.keep_nothing(error)
        return None


def _must_be_found(session: Session, wire: Wire, statement: Statement) -> None:
    """Refuse to keep rows whose keys others wrote in another form, as they would not be found again."""
    keys = {name: f"t.{quote(name)}" for name in wire.contract.key if wire.codecs[name].spellings}
    if not keys:
        return
    differs = " OR ".join(f"{key} <> {wire.codecs[name].read.format(key)}" for name, key in keys.items())
    query = f"SELECT 1 AS other FROM {wire.target} AS t WHERE ({statement.where}) AND ({differs}) LIMIT 1"
    if session.fetch(query, statement.chosen).height:
        raise ContractError(
            f"table {wire.contract.name} has a row with a key ({', '.join(keys)}) which another program wrote in another "
            "form than crave_bulk, so that it would not be found by its key"
        )


def _gone(session: Session, wire: Wire, before: pl.DataFrame, staging: Staging) -> pl.DataFrame:
    """Find the rows that are not there any more."""
    key = wire.shorts(wire.contract.key)
    rows = before.select(key).with_row_index("_row").with_columns(pl.col("_row").cast(pl.Int64))
    staging.put(rows)
    there = dedupe.taken(session, wire)
    return rows.filter(~pl.col("_row").is_in(there.implode())).drop("_row")


def update_where(wire: Wire, changes: Mapping[str, Any], where: Where) -> ConditionWork:
    """Set columns to values in the rows that meet a condition and do not have them yet.

    Args:
        wire: the table on its database.
        changes: column to value.
        where: a condition that is not empty.

    Returns:
        The work: the rows that change, each as ``updated``.

    Raises:
        ContractError: the condition or a value is wrong, breaks a rule, or is of a key column.
    """
    wire = _typed_as_given(wire, changes)
    frame = changed_values(wire, changes)
    statement = update_sql(wire, wire.backend, frame, where, wire.alive(), only_changes=True)
    return ConditionWork(wire, "update_where", "updated", statement, said(changes, where), frame)


def _typed_as_given(wire: Wire, changes: Mapping[str, Any]) -> Wire:
    """Let columns without a type have the kind of the new values, so that a number is written as one."""
    if not any(column.untyped for column in wire.contract.columns) or not isinstance(changes, Mapping):
        return wire
    kinds = {name: dtype for name, value in changes.items() if (dtype := kind_of(value))}
    return Wire(typed_as_given(wire.contract, kinds), wire.backend)


def delete_where(wire: Wire, where: Where, *, hard: bool = False) -> ConditionWork:
    """Delete the rows that meet a condition: mark them where the table has a column for it.

    Args:
        wire: the table on its database.
        where: a condition that is not empty.
        hard: remove the rows, whether marked or not.

    Returns:
        The work: the rows that are deleted, each as ``deleted``.

    Raises:
        ContractError: the condition is wrong.
    """
    mark = wire.contract.soft_delete
    if mark is None or hard:
        statement = delete_sql(wire, wire.backend, where)
    else:
        statement = update_sql(wire, wire.backend, pl.select(deleted(mark)), where, wire.alive())
    return ConditionWork(wire, "delete_where", "deleted", statement, said(where, hard))


def deleted(mark: Column) -> pl.Expr:
    """Write the value that marks a row as deleted now.

    Args:
        mark: the column with the mark.

    Returns:
        A literal of its name.
    """
    now = dt.datetime.now(dt.UTC)
    return (pl.lit(True) if isinstance(mark.dtype, pl.Boolean) else moment(mark.dtype, now)).alias(mark.name)


def restored(mark: Column) -> pl.Expr:
    """Write the value that takes the mark of deletion away.

    Args:
        mark: the column with the mark.

    Returns:
        A literal of its name.
    """
    return pl.lit(False if isinstance(mark.dtype, pl.Boolean) else None, dtype=mark.dtype).alias(mark.name)


def restore_where(wire: Wire, where: Where) -> ConditionWork:
    """Take the mark of deletion from the rows that meet a condition.

    Args:
        wire: the table on its database.
        where: a condition that is not empty.

    Returns:
        The work: the rows that are restored, each as ``updated``.

    Raises:
        ContractError: the condition is wrong, or the table does not mark what is deleted.
    """
    mark = wire.contract.soft_delete
    if mark is None:
        raise ContractError(
            f"table {wire.contract.name} has no soft_delete column, so what was deleted is gone: declare one "
            "with cb.field(soft_delete=True) before rows are deleted"
        )
    frame = pl.select(restored(mark))
    statement = update_sql(wire, wire.backend, frame, where, f"NOT ({wire.alive()})")
    return ConditionWork(wire, "restore_where", "updated", statement, said(where))


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
    new = {series.name: _bind(wire, parameters, series) for series in changes.iter_columns()}
    sets = [f"{quote(name)} = {value}" for name, value in new.items()]
    for series in stamps(wire.contract.columns, changes.columns):
        sets.append(f"{quote(series.name)} = {_bind(wire, parameters, series)}")
    tests = [compile_wanted(wire, backend, where, parameters).sql, state]
    tests += [_differs(wire, new)] if only_changes else []

    bound = Parameters(backend)
    chosen = [compile_wanted(wire, backend, where, bound).sql, state]
    if only_changes:
        chosen.append(_differs(wire, {s.name: _bind(wire, bound, s) for s in changes.iter_columns()}))
    return Statement(
        f"UPDATE {wire.target} AS t SET {', '.join(sets)} WHERE {_all(tests)} RETURNING {wire.read(wire.contract.key, '')}",
        parameters.frame(),
        _all(chosen),
        bound.frame(),
        remain=True,
        sets=tuple(changes.columns),
    )


def _differs(wire: Wire, new: Mapping[str, str]) -> str:
    """Write the condition that a row does not have some values yet."""
    forms = {name: wire.codecs[name].exact for name in new}
    parts = [
        wire.backend.spelling.differs(forms[name].format(f"t.{quote(name)}"), forms[name].format(value))
        for name, value in new.items()
    ]
    return f"({chain(parts, 'OR')})"


def delete_sql(wire: Wire, backend: Backend, where: Where) -> Statement:
    """Write the statement that removes the rows that meet a condition.

    Args:
        wire: the table on its database.
        backend: the database.
        where: the condition.

    Returns:
        The statement.

    Raises:
        ContractError: the condition is empty or not understood.
    """
    parameters = Parameters(backend)
    tests = compile_wanted(wire, backend, where, parameters).sql
    bound = parameters.frame()
    sql = f"DELETE FROM {wire.target} AS t WHERE {tests} RETURNING {wire.read(wire.contract.key, '')}"
    return Statement(sql, bound, tests, bound, remain=False)


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
    return " AND ".join(test for test in tests if test != TRUE) or TRUE
