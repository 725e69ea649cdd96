"""Take the frame: bring whatever was passed to Polars, and fit it to the table's columns."""

from __future__ import annotations

import datetime as dt
import difflib
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from pandera.api.polars.types import PolarsData

from crave_bulk.backends.codec import instance
from crave_bulk.engine import query
from crave_bulk.errors import ContractError
from crave_bulk.scalar import to_scalars
from crave_bulk.table import Column, Contract


@dataclass(frozen=True, slots=True)
class Intake:
    """A frame that has every column of its table, and what was in it from the start.

    Attributes:
        frame: all columns of the contract, in its order; nulls filled by defaults, and null throughout
            where a column was left out and nothing is declared to fill it in.
        given: the columns that the caller's frame had.
        stamped: the columns that were set to the time of the batch because of ``on_update``.
        written: the columns that a new row is given; the database fills in the others.
        later: what fills the nulls of the columns that must be coerced first, which may refuse a value.
        gaps: the columns of the caller's frame that have nulls which a default fills.
    """

    frame: pl.DataFrame
    given: frozenset[str]
    stamped: frozenset[str]
    written: frozenset[str]
    later: Mapping[str, pl.Expr]
    gaps: frozenset[str]


def to_polars(source: Any) -> pl.DataFrame:
    """Bring a frame of any kind to Polars, without a copy where the memory allows it.

    Args:
        source: a Polars DataFrame or LazyFrame, or anything with the Arrow interface: a pandas
            frame, whose named index levels become columns, a pyarrow table, a DuckDB relation.

    Returns:
        The Polars DataFrame.

    Raises:
        ContractError: it is none of these, or its index or its columns have no clear meaning.

    Example:
        >>> import pyarrow as pa
        >>> to_polars(pa.table({"a": [1, 2]})).shape
        (2, 1)
    """
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        try:
            return source.collect()
        except Exception as error:  # Polars' own, and whatever the user's functions in it raise
            raise ContractError(
                f"the LazyFrame cannot be collected: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            ) from error
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        source = _with_index(pandas, source)
    if hasattr(source, "__arrow_c_stream__"):
        try:
            return pl.DataFrame(source)
        except Exception as error:  # pandas, pyarrow and Polars raise each their own
            raise ContractError(f"the {type(source).__name__} cannot be read as a frame: {error}") from error
    raise ContractError(
        f"an object of type {type(source).__name__} is not a frame: pass a Polars DataFrame or LazyFrame, a pandas frame "
        "or a pyarrow table, for example pl.DataFrame(rows)"
    )


def _with_index(pandas: Any, frame: Any) -> Any:
    """Make columns of the named levels of a pandas index, because a key is often there."""
    if frame.columns.nlevels > 1:
        raise ContractError(
            f"the columns of the pandas frame have {frame.columns.nlevels} levels: give each column one name, for "
            "example frame.columns = ['_'.join(name) for name in frame.columns]"
        )
    names = frame.index.names
    named = [level for level, name in enumerate(names) if name is not None]
    columns, levels = list(map(str, frame.columns)), [str(names[level]) for level in named]
    if twice := _repeated(columns):
        raise ContractError(f"the pandas frame has column {twice!r} more than once: give each its own name")
    if twice := _repeated(columns + levels):
        raise ContractError(
            f"{twice!r} is both a level of the index and another level or column of the pandas frame: drop "
            f"one, for example by frame.reset_index({twice!r}, drop=True)"
        )
    for level in set(range(len(names))) - set(named):
        # Numbers without a name are what a filter or a sort has left of the row numbers; anything else is data.
        labels = frame.index.get_level_values(level)
        if len(labels) and not pandas.api.types.is_integer_dtype(labels.dtype):
            raise ContractError(
                f"the pandas frame has an index of {labels.dtype} without a name, such as {labels[0]!r}: make it a "
                "column by frame.rename_axis('its name'), or drop it by frame.reset_index(drop=True)"
            )
    return frame.reset_index(level=named) if named else frame


def _repeated(names: Sequence[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)


def fit(
    contract: Contract,
    frame: pl.DataFrame,
    *,
    partial: bool = False,
    by_key: str = "",
    on: Sequence[str] = (),
) -> Intake:
    """Check that a frame's columns are the table's, and fill in what may be left out.

    Args:
        contract: the table.
        frame: any rows.
        partial: only the key is required, and nothing but the time of the change is filled in, as the
            rows exist already.
        by_key: why the key may not be left out, also if it could be made; empty if it may.
        on: other columns that may not be left out, because rows are matched by them.

    Returns:
        The frame with all columns of the contract.

    Raises:
        ContractError: columns are missing, unknown, misspelt or of another type; all of them are named.
    """
    if not frame.width:
        raise ContractError(f"the frame has no columns: pass one with the columns of table {contract.name}")
    problems = [
        *_unknown(contract, frame),
        *_missing(contract, frame, partial, by_key, on),
        *_mistyped(contract, frame),
    ]
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise ContractError(f"the frame does not fit table {contract.name}; nothing was written:{lines}")
    given = frozenset(frame.columns)
    stamped = {c.name for c in contract.columns if c.options.on_update and c.name not in given}
    made = stamped if partial else stamped | {c.name for c in contract.columns if _fills(c)}
    now = dt.datetime.now(dt.UTC)
    schema = frame.schema
    columns = [_fill(c, frame, schema.get(c.name), now, c.name in made) for c in contract.columns]
    filled = frame.with_columns(columns).select(contract.column_names)
    gaps = {c.name: c for c in contract.columns if c.name in made and _has_gaps(c, frame)}
    later = {
        name: _make(c, frame.height, now)
        for name, c in gaps.items()
        if schema[name] not in (c.dtype, pl.Null)
    }
    return Intake(filled, given, frozenset(stamped), given | made, later, frozenset(gaps))


def typed_as_given(contract: Contract, schema: Mapping[str, pl.DataType]) -> Contract:
    """Let columns to which the database gives no type have that of the frame, so that a number is written as one.

    Args:
        contract: the table.
        schema: of the frame.

    Returns:
        The contract in which those columns are of numbers, booleans or bytes where the frame's are; else text.
    """
    given = {
        c.name: instance(schema[c.name])
        for c in contract.columns
        if c.untyped and c.name in schema and _has_kind(instance(schema[c.name]))
    }
    if not given:
        return contract
    columns = (replace(c, dtype=given.get(c.name, c.dtype)) for c in contract.columns)
    return replace(contract, columns=tuple(columns))


def _has_kind(dtype: pl.DataType) -> bool:
    wide = isinstance(dtype, pl.Int128 | pl.UInt128)
    return (dtype.is_integer() and not wide) or dtype.is_float() or isinstance(dtype, pl.Boolean | pl.Binary)


def filled_by_database(contract: Contract, frame: pl.DataFrame, found: Callable[[], Contract]) -> Contract:
    """Learn from the catalog which columns that a frame lacks the database fills in.

    Args:
        contract: the table as it was declared, or as it was found.
        frame: any rows.
        found: reads the table from the catalog; called only where a column is lacking.

    Returns:
        The contract, in which such columns may be left out.
    """
    given = set(frame.columns)
    lacking = [
        c.name
        for c in contract.columns
        if c.name not in given and c.required and c.sql_type is None and not _fills(c)
    ]
    if not lacking:
        return contract
    known = {column.name: column for column in found().columns if column.name in lacking}
    columns = tuple(
        replace(
            column,
            required=False,
            default_sql=known[column.name].default_sql,
            identity_always=known[column.name].identity_always,
            insert_only=known[column.name].insert_only,
            filled_by_trigger=known[column.name].filled_by_trigger,
        )
        if column.name in known and not known[column.name].required
        else column
        for column in contract.columns
    )
    return replace(contract, columns=columns)


def fit_keys(contract: Contract, keys: Any) -> pl.DataFrame:
    """Bring keys, in whatever form, to a frame of the key columns.

    Args:
        contract: the table.
        keys: a frame that has the key columns, whatever else it has; or, as a list, a series or an array, the
            keys themselves: values where the key is one column, else tuples in its order.

    Returns:
        The key columns.

    Raises:
        ContractError: key columns are missing, or the list cannot be read as keys.

    Example:
        >>> from crave_bulk.examples import Foods
        >>> from crave_bulk.table import contract_of
        >>> fit_keys(contract_of(Foods), [1, 2])["food_id"].to_list()
        [1, 2]
    """
    key = contract.key
    if type(keys).__module__.partition(".")[0] in ("pandas", "numpy") and getattr(keys, "ndim", 0) == 1:
        keys = keys.tolist()
    if isinstance(keys, list | tuple | set | range | pl.Series):
        rows = [row if isinstance(row, tuple | list) else (row,) for row in keys]
        if wrong := [row for row in rows if len(row) != len(key)]:
            raise ContractError(
                f"{wrong[0]!r} is no key of table {contract.name}: pass a list of {', '.join(key)}"
                f"{', each as a tuple' if len(key) > 1 else ''}, or a frame"
            )
        columns = zip(*rows, strict=True) if rows else [()] * len(key)
        return pl.DataFrame([_keys_of(contract, n, values) for n, values in zip(key, columns, strict=True)])
    if not hasattr(keys, "__arrow_c_stream__") and not isinstance(keys, pl.LazyFrame):
        raise ContractError(
            f"{keys!r} is no list of keys: pass the keys of table {contract.name} as a list, or a frame"
        )
    frame = to_polars(keys)
    if missing := [name for name in key if name not in frame.columns]:
        raise ContractError(
            f"the keys of table {contract.name} need column {missing[0]!r}: the frame has {frame.columns}"
        )
    return frame.select(key)


def _keys_of(contract: Contract, name: str, values: Sequence[Any]) -> pl.Series:
    """Bring values to the dtype of a key column, exactly."""
    dtype = contract.column(name).dtype
    try:
        return pl.Series(name, to_scalars(values, dtype), dtype=dtype)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise ContractError(
            f"the keys cannot be read as {name} ({dtype}) of table {contract.name}: {str(error).splitlines()[0]}"
        ) from error


def with_constants(frame: pl.DataFrame, contract: Contract, values: dict[str, Any]) -> pl.DataFrame:
    """Add columns of one value.

    Args:
        frame: any rows.
        contract: the table that the columns are of.
        values: column → value; ``"now"`` is the time of the batch.

    Returns:
        The frame with the columns.
    """
    now = dt.datetime.now(dt.UTC)
    dtypes = {name: contract.column(name).dtype for name in values}
    columns = [
        (moment(dtypes[name], now) if value == "now" else pl.lit(value, dtype=dtypes[name])).alias(name)
        for name, value in values.items()
    ]
    return frame.with_columns(columns)


def _unknown(contract: Contract, frame: pl.DataFrame) -> list[str]:
    names = contract.column_names
    problems = []
    for name in frame.columns:
        if name not in names:
            missing = {n.casefold(): n for n in names if n not in frame.columns}
            near = difflib.get_close_matches(name.casefold(), missing, n=1)
            hint = f"did you mean {missing[near[0]]!r}?" if near else f"drop it, or add it to {contract.name}"
            problems.append(f"column {name!r} is not in the table: {hint}")
        elif contract.column(name).generated:
            problems.append(f"column {name!r} is computed by the database: drop it")
    return problems


def _missing(
    contract: Contract, frame: pl.DataFrame, partial: bool, by_key: str, on: Sequence[str]
) -> list[str]:
    problems, given = [], set(frame.columns)
    for column in contract.columns:
        if column.name in given:
            continue
        if column.options.key and by_key:
            problems.append(f"key column {column.name!r} is missing: {by_key}")
        elif column.name in on:
            problems.append(
                f"column {column.name!r} is missing: add it, because rows are matched by it (on=)"
            )
        elif column.required and not _fills(column) and not partial:
            problems.append(
                f"column {column.name!r} ({column.dtype}) is missing: add it to the frame, {_or_else(column)}"
            )
    return problems


def _or_else(column: Column) -> str:
    if column.options.key:
        return "give the field a default such as 'uuid', or let the database make it (identity, serial)"
    if column.sql_type is not None:
        return "or set some columns of rows that exist with db.update"
    return "give the field a default, or annotate it with `| None` if frames may leave it out"


def _fills(column: Column) -> bool:
    """Tell whether a column that is left out is filled in here."""
    options = column.options
    return bool(options.default is not None or options.on_update or options.soft_delete)


def _mistyped(contract: Contract, frame: pl.DataFrame) -> list[str]:
    problems, schema = [], frame.schema  # read once, as that costs by the number of columns
    for column in contract.columns:
        have = schema.get(column.name)
        if have is None or column.coerce or have == pl.Null or _is_a(contract, column, have, frame):
            continue
        problems.append(
            f"column {column.name!r} is {have}, the table has {column.dtype}: {_remedy(column, have)}"
        )
    return problems + [_zones(c, schema[c.name]) for c in contract.columns if _loses_zone(c, schema)]


def _remedy(column: Column, have: pl.DataType) -> str:
    name, dtype = column.name, column.dtype
    if _loses(column, have):
        return _zone_remedy(name, have)
    if isinstance(have, pl.String) and isinstance(dtype, pl.Date | pl.Datetime | pl.Time):
        kind = type(dtype).__name__.lower()
        return f"declare coerce=True, or use pl.col({name!r}).str.to_{kind}(…)"
    cast = re.sub(r"\b(?!None\b)([A-Z]\w+)(?=[(,)]|$)", r"pl.\1", repr(dtype))
    rounds = "" if widens(have, dtype) else ", which may round"
    return f"declare coerce=True, which refuses what it would change, or use pl.col({name!r}).cast({cast}){rounds}"


def _loses(column: Column, have: pl.DataType | None) -> bool:
    """Tell whether one of two moments has a zone, and the other has none: no cast is right then."""
    want = column.dtype
    if not (isinstance(have, pl.Datetime) and isinstance(want, pl.Datetime)):
        return False
    return (have.time_zone is None) != (want.time_zone is None)


def _loses_zone(column: Column, schema: Mapping[str, pl.DataType]) -> bool:
    return column.coerce and _loses(column, schema.get(column.name))


def _zones(column: Column, have: pl.DataType) -> str:
    return (
        f"column {column.name!r} is {have}, the table has {column.dtype}: {_zone_remedy(column.name, have)}"
    )


def _zone_remedy(name: str, have: pl.DataType) -> str:
    zone = "None" if getattr(have, "time_zone", None) else "'UTC'"
    return f"say what is meant by the zone, for example pl.col({name!r}).dt.replace_time_zone({zone})"


_BITS: dict[Any, int] = {
    pl.Int8: 7,
    pl.Int16: 15,
    pl.Int32: 31,
    pl.Int64: 63,
    pl.UInt8: 8,
    pl.UInt16: 16,
    pl.UInt32: 32,
    pl.UInt64: 64,
}


def widens(have: pl.DataType, want: pl.DataType) -> bool:
    """Tell whether every value of one number type is a value of another."""
    if isinstance(have, pl.Float32) and isinstance(want, pl.Float64):
        return True
    if type(have) not in _BITS or type(want) not in _BITS:
        return False
    return _BITS[type(have)] <= _BITS[type(want)] and not (
        have.is_signed_integer() and want.is_unsigned_integer()
    )


def _is_a(contract: Contract, column: Column, have: pl.DataType, frame: pl.DataFrame) -> bool:
    if isinstance(have, pl.Decimal) and isinstance(column.dtype, pl.Decimal):
        return True  # a decimal of another width is judged value by value
    expected = contract.schema.columns[column.name].dtype
    return bool(expected.check(have, PolarsData(frame.lazy(), column.name)))


def _fill(
    column: Column, frame: pl.DataFrame, have: pl.DataType | None, now: dt.datetime, made: bool
) -> pl.Expr:
    """Write the expression of one column: as given, with nulls filled, made up altogether, or null."""
    if have is None:
        return (_make(column, frame.height, now) if made else pl.lit(None, dtype=column.dtype)).alias(
            column.name
        )
    value = pl.col(column.name)
    if have == pl.Null:
        value = value.cast(column.dtype)
    if not made or not _has_gaps(column, frame) or have not in (column.dtype, pl.Null):
        return value
    return value.fill_null(_make(column, frame.height, now))


def _has_gaps(column: Column, frame: pl.DataFrame) -> bool:
    """Tell whether a default is to stand in place of nulls that the frame has."""
    name = column.name
    return column.options.default is not None and name in frame.columns and frame[name].null_count() > 0


def _make(column: Column, rows: int, now: dt.datetime) -> pl.Expr:
    default = column.options.default
    if default == "uuid":
        return pl.lit(new_uuids(rows))
    if default == "now" or (default is None and column.options.on_update):
        return moment(column.dtype, now)
    if default is None and isinstance(column.dtype, pl.Boolean):
        default = False  # a soft_delete mark
    return pl.lit(pl.Series([default], dtype=column.dtype)).first()


def moment(dtype: pl.DataType, now: dt.datetime) -> pl.Expr:
    """Write a moment as a value of a column.

    Args:
        dtype: a Date or Datetime.
        now: the moment, with its zone.

    Returns:
        A literal of the dtype; in UTC where it has no zone.
    """
    value = pl.lit(now)  # UTC, microseconds
    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    value = value.dt.convert_time_zone(zone) if zone else value.dt.replace_time_zone(None)
    return value.cast(dtype)


def new_uuids(count: int) -> pl.Series:
    """Make time-ordered UUIDs, version 7 (RFC 9562).

    Args:
        count: how many.

    Returns:
        Their text forms, 36 characters in lower case.

    Example:
        >>> new_uuids(2).str.len_chars().to_list()
        [36, 36]
    """
    return query(f"SELECT uuidv7()::VARCHAR AS id FROM range({count})")["id"]
