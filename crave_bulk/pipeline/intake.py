"""Take the frame: bring whatever was passed to Polars, and fit it to the table's columns."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from dataclasses import dataclass
from typing import Any

import polars as pl
from pandera.api.polars.types import PolarsData

from crave_bulk.engine import query
from crave_bulk.errors import ContractError
from crave_bulk.table import Column, Contract


@dataclass(frozen=True, slots=True)
class Intake:
    """A frame that has every column of its table, and what was in it from the start.

    Attributes:
        frame: all columns of the contract, in its order; nulls filled by defaults.
        given: the columns that the caller's frame had.
        stamped: the columns that were set to the time of the batch because of ``on_update``.
    """

    frame: pl.DataFrame
    given: frozenset[str]
    stamped: frozenset[str]


def to_polars(source: Any) -> pl.DataFrame:
    """Bring a frame of any kind to Polars, without a copy where the memory allows it.

    Args:
        source: a Polars DataFrame or LazyFrame, or anything with the Arrow interface: a pandas
            frame, a pyarrow table, a DuckDB relation.

    Returns:
        The Polars DataFrame.

    Raises:
        ContractError: it is none of these.

    Example:
        >>> import pyarrow as pa
        >>> to_polars(pa.table({"a": [1, 2]})).shape
        (2, 1)
    """
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if hasattr(source, "__arrow_c_stream__"):
        try:
            return pl.DataFrame(source)
        except Exception as error:  # pandas, pyarrow and Polars raise each their own
            raise ContractError(f"the {type(source).__name__} cannot be read as a frame: {error}") from error
    raise ContractError(
        f"a {type(source).__name__} is not a frame: pass a Polars DataFrame or LazyFrame, a pandas frame "
        "or a pyarrow table, for example pl.DataFrame(rows)"
    )


def fit(contract: Contract, frame: pl.DataFrame) -> Intake:
    """Check that a frame's columns are the table's, and fill in what may be left out.

    Args:
        contract: the table.
        frame: any rows.

    Returns:
        The frame with all columns of the contract.

    Raises:
        ContractError: columns are missing, unknown, misspelt or of another type; all of them are named.
    """
    if not frame.width:
        raise ContractError(f"the frame has no columns: pass one with the columns of table {contract.name}")
    problems = [*_unknown(contract, frame), *_missing(contract, frame), *_mistyped(contract, frame)]
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise ContractError(f"the frame does not fit table {contract.name}; nothing was written:{lines}")
    given = frozenset(frame.columns)
    stamped = {c.name for c in contract.columns if c.options.on_update and c.name not in given}
    now = dt.datetime.now(dt.UTC)
    columns = [_fill(column, frame, now, column.name in given) for column in contract.columns]
    return Intake(frame.with_columns(columns).select(contract.column_names), given, frozenset(stamped))


def _unknown(contract: Contract, frame: pl.DataFrame) -> list[str]:
    names = contract.column_names
    problems = []
    for name in frame.columns:
        if name not in names:
            missing = {n.casefold(): n for n in names if n not in frame.columns}
            near = difflib.get_close_matches(name.casefold(), missing, n=1)
            hint = f"did you mean {missing[near[0]]!r}?" if near else f"drop it, or add it to {contract.name}"
            problems.append(f"column {name!r} is not in the table: {hint}")
    return problems


def _missing(contract: Contract, frame: pl.DataFrame) -> list[str]:
    return [
        f"column {c.name!r} ({c.dtype}) is missing: add it to the frame, give the field a default, or "
        f"annotate it with `| None` if frames may leave it out"
        for c in contract.columns
        if c.name not in frame.columns
        and c.required
        and c.options.default is None
        and c.options.on_update is None
    ]


def _mistyped(contract: Contract, frame: pl.DataFrame) -> list[str]:
    problems = []
    for column in contract.columns:
        have = frame.schema.get(column.name)
        if have is None or column.coerce or have == pl.Null or _is_a(contract, column, have, frame):
            continue
        cast = re.sub(r"\b([A-Z]\w+)(?=[(,)]|$)", r"pl.\1", repr(column.dtype))
        problems.append(
            f"column {column.name!r} is {have}, the table has {column.dtype}: declare coerce=True, which refuses what "
            f"it would change, or use pl.col({column.name!r}).cast({cast}), which may round"
        )
    return problems


def _is_a(contract: Contract, column: Column, have: pl.DataType, frame: pl.DataFrame) -> bool:
    if isinstance(have, pl.Decimal) and isinstance(column.dtype, pl.Decimal):
        return True  # a decimal of another width is judged value by value
    expected = contract.schema.columns[column.name].dtype
    return bool(expected.check(have, PolarsData(frame.lazy(), column.name)))


def _fill(column: Column, frame: pl.DataFrame, now: dt.datetime, given: bool) -> pl.Expr:
    """Write the expression of one column: as given, with nulls filled, or made up altogether."""
    value = pl.col(column.name)
    default = column.options.default
    if given and (default is None or not frame[column.name].null_count()):
        return value.cast(column.dtype) if frame.schema[column.name] == pl.Null else value
    made = _make(column, frame.height, now)
    return made.alias(column.name) if not given else value.cast(column.dtype).fill_null(made)


def _make(column: Column, rows: int, now: dt.datetime) -> pl.Expr:
    default = column.options.default
    if default == "uuid":
        return pl.lit(new_uuids(rows))
    if default == "now" or (default is None and column.options.on_update):
        return _moment(column.dtype, now)
    return pl.lit(pl.Series([default], dtype=column.dtype)).first()


def _moment(dtype: pl.DataType, now: dt.datetime) -> pl.Expr:
    moment = pl.lit(now)  # UTC, microseconds
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        moment = moment.dt.convert_time_zone(dtype.time_zone)
    else:
        moment = moment.dt.replace_time_zone(None)
    return moment.cast(dtype)


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
