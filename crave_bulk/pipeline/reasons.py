"""Reasons: the failures that a report shows, one line for each row and rule, in words that say what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from crave_bulk import failures
from crave_bulk.errors import DatabaseError
from crave_bulk.pipeline.combine import VALUE
from crave_bulk.pipeline.constraints import Settled
from crave_bulk.pipeline.job import Job
from crave_bulk.pipeline.merge import Kind
from crave_bulk.pipeline.pointers import condition_value
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session
from crave_bulk.table import Pointer, Reference

# What the checks find as a rule, and the database where they cannot: a partial index, a reference between
# rows that are written one after the other.
STAGES = {
    "23505": "unique",
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
    "23503": "reference",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "reference",
}
_RULES = {"": "trigger", "P0001": "trigger"}  # RAISE of a trigger, which SQLite gives no code


def settled_failures(wire: Wire, frame: pl.DataFrame, settled: Settled) -> Iterator[pl.DataFrame]:
    """Write the failures of every row that is refused.

    Args:
        wire: the table.
        frame: the validated frame.
        settled: what became of the rows.

    Yields:
        A frame of failures per reference and unique key.
    """
    for reference, found in settled.orphans.items():
        if found:
            rows = pl.Series(sorted(found), dtype=pl.Int64)
            yield orphan_failures(frame, rows, reference, settled.lacking.get(reference))
    yield from unique_failures(wire, frame, settled)
    for reference, found in settled.depended.items():
        if found:
            yield dependent_failures(wire, frame, pl.Series(sorted(found), dtype=pl.Int64), reference)


def repeat_failures(wire: Wire, frame: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """Write one failure per row whose key is in the frame more than once.

    Args:
        wire: the table.
        frame: the validated frame.
        rows: the numbers of the rows.

    Returns:
        A frame of failures.
    """
    names = ", ".join(wire.contract.key)
    values = value_text(frame, wire.contract.key, rows.to_list())
    message = f"another row of the frame has this {names}: duplicates='combine' would combine them"
    return failures.failures("unique", "duplicates", names, rows, values, message)


def null_failures(name: str, rows: pl.Series) -> pl.DataFrame:
    """Write one failure per row that exists and would lose a value which it must have.

    Args:
        name: the column.
        rows: the numbers of the rows.

    Returns:
        A frame of failures.
    """
    message = f"{name} may not be null: the row exists already, and the default is for new rows"
    values = pl.Series([None] * len(rows), dtype=pl.String)
    return failures.failures("validate", "not_nullable", name, rows, values, message)


def unique_failures(wire: Wire, frame: pl.DataFrame, settled: Settled) -> Iterator[pl.DataFrame]:
    """Write one failure per row that another row stands in the way of.

    Args:
        wire: the table.
        frame: the validated frame, for the values as the user wrote them.
        settled: what `settle` found.

    Yields:
        A frame of failures per unique key.
    """
    key = wire.contract.key
    for unique in dict.fromkeys(unique for unique, _, _ in settled.refused.values()):
        rows = [row for row, (broken, _, _) in settled.refused.items() if broken == unique]
        names = ", ".join(unique)
        found = failures.failures(
            "unique",
            "key" if unique == key else f"unique({names})",
            names,
            pl.Series(rows),
            value_text(frame, unique, rows),
            "",
        )
        messages = []
        for row in rows:
            _, holder, ours = settled.refused[row]
            owner = f": its {', '.join(key)} is {', '.join(map(str, holder))}{_unseen(wire)}"
            if unique == key:
                messages.append(
                    f"an earlier row of the frame has this {names}" if ours else _exists(wire, names)
                )
            else:
                messages.append(f"another row holds this {names}{owner}")  # in the table or in the frame
        yield found.with_columns(pl.Series("message", messages, dtype=pl.String))


def _exists(wire: Wire, names: str) -> str:
    return f"a row with this {names} exists already{_unseen(wire)}"


def _unseen(wire: Wire) -> str:
    """Say that a row may be there which `read` does not show."""
    return " (perhaps marked as deleted: see include_deleted=True)" if wire.contract.soft_delete else ""


def key_failures(wire: Wire, frame: pl.DataFrame, rows: pl.Series, *, earlier: bool = False) -> pl.DataFrame:
    """Write one failure per row whose key exists in the table.

    Args:
        wire: the table.
        frame: the validated frame.
        rows: the numbers of the rows.
        earlier: not in the table, but in an earlier row of the batch.

    Returns:
        A frame of failures.
    """
    names = ", ".join(wire.contract.key)
    values = value_text(frame, wire.contract.key, rows.to_list())
    message = f"an earlier row of the frame has this {names}" if earlier else _exists(wire, names)
    return failures.failures("unique", "key", names, rows, values, message)


def lagging_failures(wire: Wire, keys: pl.DataFrame) -> pl.DataFrame:
    """Write one failure per row whose key the database has made, and which exists nevertheless.

    Args:
        wire: the table.
        keys: ``_row`` and the keys that were made; null where the database does not say them.

    Returns:
        A frame of failures.
    """
    key = wire.contract.key
    names = ", ".join(key)
    message = f"the {names} that the database made exists already"
    statements = [wire.backend.behind(wire.contract.name, wire.contract.column(name)) for name in key]
    if given := [statement for statement in statements if statement]:
        message += (
            ", as its sequence lags behind values that were given: set it, and run the call again: "
            + "; ".join(given)
        )
    known = keys.select(pl.all_horizontal(pl.col(key).is_not_null())).to_series()
    values = value_text(keys, key, range(keys.height)).zip_with(known, pl.Series([None], dtype=pl.String))
    return failures.failures("unique", "key", names, keys["_row"], values, message)


def orphan_failures(
    frame: pl.DataFrame, rows: pl.Series, reference: Reference, lacking: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Write one failure per row without a parent.

    Args:
        frame: the validated frame.
        rows: the numbers of the rows.
        reference: the column, and what it points at.
        lacking: ``_row`` and ``item``, the values without a parent, where it is a pointer.

    Returns:
        A frame of failures.
    """
    targets = ", ".join(reference.targets)
    where = reference.where if isinstance(reference, Pointer) else ()
    message = f"no row of {reference.table} has this {targets}"
    message += "".join(f" and {name} {condition_value(value)}" for name, value in where)
    values = value_text(frame, reference.columns, rows.to_list())
    if isinstance(reference, Pointer) and reference.each and lacking is not None:
        values = _lacking_text(rows, lacking)
    rule = f"references({', '.join([f'{reference.table}.{targets}', *map(_equals, where)])})"
    return failures.failures("reference", rule, ", ".join(reference.columns), rows, values, message)


def _equals(condition: tuple[str, str | int | bool]) -> str:
    return f"{condition[0]}={condition_value(condition[1])}"


def _lacking_text(rows: pl.Series, lacking: pl.DataFrame) -> pl.Series:
    """Write the elements that point at nothing, one text a row: a list may hold many that do not."""
    texts = lacking.select("_row", value=failures.as_text(lacking["item"]))
    joined = texts.group_by("_row").agg(pl.col("value").unique(maintain_order=True).str.join(", "))
    return rows.to_frame("_row").join(joined, on="_row", how="left", maintain_order="left")["value"]


def dependent_failures(
    wire: Wire, frame: pl.DataFrame, rows: pl.Series, reference: Reference
) -> pl.DataFrame:
    """Write one failure per row that cannot be deleted, as rows of another table refer to it.

    Args:
        wire: the table.
        frame: the validated frame.
        rows: the numbers of the rows.
        reference: the other table, and its columns that point here.

    Returns:
        A frame of failures.
    """
    names, columns = ", ".join(wire.contract.key), ", ".join(reference.columns)
    message = f"rows of {reference.table} refer to it by {columns}: delete those first"
    if reference.table == wire.contract.name:
        message = f"rows of {reference.table} that stay refer to it by {columns}: point them elsewhere first"
    values = value_text(frame, wire.contract.key, rows.to_list())
    return failures.failures(
        "reference", f"referenced({reference.table}.{columns})", names, rows, values, message
    )


def value_text(frame: pl.DataFrame, names: Sequence[str], rows: Sequence[int]) -> pl.Series:
    """Write the values of some columns of some rows, separated by commas.

    Args:
        frame: the validated frame.
        names: its columns.
        rows: the numbers of the rows.

    Returns:
        One text a row, null if none of the columns has a value.
    """
    columns = [
        failures.as_text(frame[name].gather(list(rows))).alias(f"v{i}") for i, name in enumerate(names)
    ]
    text = pl.concat_str(pl.all(), separator=", ", ignore_nulls=True)
    nothing = pl.all_horizontal(pl.all().is_null())
    return pl.DataFrame(columns).select(pl.when(~nothing).then(text)).to_series()


def impossible_failures(job: Job, impossible: pl.DataFrame) -> pl.DataFrame:
    """Write one failure per value that cannot be combined with what its key holds.

    Args:
        job: the batch.
        impossible: ``_row`` and ``column``.

    Returns:
        A frame of failures.
    """
    found = []
    for (column,), part in impossible.group_by("column", maintain_order=True):
        name = str(column).removeprefix(VALUE)
        rule, dtype = job.rules[name], job.wire.contract.column(name).dtype
        what = f"of type {dtype}" if rule == "add" else "a JSON array"
        what += ", and at most 9223372036854775807" if isinstance(dtype, pl.UInt64) else ""
        message = f"{name} cannot be combined with what is there by {rule!r}: the result must be {what}"
        values = job.frame[name].gather(part["_row"])
        found.append(failures.failures("validate", f"merge({rule})", name, part["_row"], values, message))
    return failures.gather(found)


# -- what the database refused -------------------------------------------------------------------------


def refusals(
    session: Session,
    wire: Wire,
    frame: pl.DataFrame,
    errors: Mapping[int, DatabaseError],
    kind: Kind = "merge",
) -> pl.DataFrame:
    """Write one failure per row that the database refused, in its own words.

    Args:
        session: the connection.
        wire: the table.
        frame: the validated frame.
        errors: row → what the database said.
        kind: what was done; a row that cannot be deleted is named by its key.

    Returns:
        A frame of failures.
    """
    unnamed = any(error.constraint and not error.columns for error in errors.values())
    about = _constraints(session, wire) if unnamed else {}
    found = []
    for row, error in errors.items():
        named = error.columns or about.get(error.constraint or "", ((), True))[0]
        if kind == "delete":
            named = wire.contract.key
        columns = [name for name in wire.contract.column_names if name in named]
        values = value_text(frame, columns, [row]) if columns else pl.Series([None], dtype=pl.String)
        rule = error.constraint or _RULES.get(error.sqlstate, error.sqlstate)
        stage = STAGES.get(error.sqlstate, "database")
        found.append(failures.failures(stage, rule, ", ".join(columns), pl.Series([row]), values, error.said))
    return failures.gather(found)


def about_key(session: Session, wire: Wire, errors: Mapping[int, DatabaseError]) -> list[int]:
    """Select the rows that the database refused as another has their key.

    Args:
        session: the connection.
        wire: the table.
        errors: row → what the database said.

    Returns:
        The numbers of the rows.
    """
    taken = {row: error.constraint or "" for row, error in errors.items() if error.sqlstate == "23505"}
    about = _constraints(session, wire) if taken else {}
    key = set(wire.contract.key)
    return [row for row, constraint in taken.items() if set(about.get(constraint, ((),))[0]) == key]


def changed(wire: Wire, frame: pl.DataFrame, name: str, rows: pl.Series) -> pl.DataFrame:
    """Write one failure per value that the type of its column would cut off or round in silence.

    Args:
        wire: the table.
        frame: the validated frame.
        name: the column.
        rows: the numbers of the rows.

    Returns:
        A frame of failures.
    """
    values = value_text(frame, [name], rows.to_list())
    message = (
        f"{name} would be stored as another value, as {wire.codecs[name].sql_type} cuts it off or rounds it"
    )
    return failures.failures("validate", "exact", name, rows, values, message)


def checkable(session: Session, wire: Wire, constraint: str | None) -> bool:
    """Tell whether the checks look at a constraint, so that they will find who stands in the way.

    Args:
        session: the connection.
        wire: the table.
        constraint: its name.

    Returns:
        False for a unique key that holds for some rows only, or that nobody has declared.
    """
    columns, whole = _constraints(session, wire).get(constraint or "", ((), True))
    facts = session.backend.seen.get(wire.target)
    if facts is not None and frozenset(columns) in facts.blind:
        return False
    known = {wire.contract.key, *wire.contract.unique, *(r.columns for r in wire.contract.references)}
    return whole and (not columns or set(columns) in [set(key) for key in known])


def _constraints(session: Session, wire: Wire) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Ask what the constraints of the table are about: name → columns, and whether for all rows."""
    query = session.backend.constraints_sql(wire.contract.name)
    found = json.loads(session.fetch(query).item()) if query else {}
    return {name: (tuple(about["columns"]), about["whole"]) for name, about in found.items()}
