"""Newer columns: what somebody has put into columns that a table got after a batch, and an undo would delete."""

from __future__ import annotations

import re

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.errors import CHANGED_SINCE
from crave_bulk.pipeline.stage import STAGE
from crave_bulk.pipeline.staging import Staging
from crave_bulk.pipeline.whole import Whole
from crave_bulk.session import Session
from crave_bulk.sql import quote
from crave_bulk.table import Column

_CONSTANT = re.compile(
    r"\(?([-+]?[0-9.]+|'(''|[^'])*'|true|false)(::[a-z ]+(\([0-9, ]+\))?)?\)?", re.IGNORECASE
)


def set_since(session: Session, staging: Staging, wire: Whole, new: pl.DataFrame) -> pl.DataFrame:
    """Find the rows that would be deleted with a value which somebody has put into a column that is newer than they.

    Args:
        session: the connection, in a transaction.
        staging: the staging table, which is free.
        wire: the table, as the batch knew it.
        new: the keys of the rows that the batch made.

    Returns:
        The keys of such rows, with ``column`` and ``found``, the value as text.

    Raises:
        BulkError: the database refused.
    """
    backend, key = session.backend, wire.contract.key
    found = [new.clear().with_columns(column=pl.lit(None, pl.String), found=pl.lit(None, pl.String))]
    there = (
        {column.name for column in backend.overview(session, wire.contract.name).columns}
        if new.height
        else set()
    )
    if not there - wire.forms.keys():
        return found[0]
    columns = backend.reflect(session, wire.contract.name).columns
    staging.put(new.rename(wire.short, strict=False).with_row_index("_row").cast({"_row": pl.Int64}))
    staged = wire.staged(key, STAGE, extra=["s._row"])
    for column in columns:
        test = "" if column.name in wire.forms or column.generated else _test(backend, column)
        if test:
            text = backend.codec(column).text.format(f"t.{quote(column.name)}")
            rows = session.fetch(
                f"SELECT s._row, {text} AS found FROM {wire.target} AS t JOIN ({staged}) AS s "
                f"ON {wire.equal(key, 't', 's')} WHERE {test}"
            ).cast({"_row": pl.Int64, "found": pl.String})
            keys = new[rows["_row"]] if rows.height else new.clear()
            found.append(keys.with_columns(column=pl.lit(column.name, pl.String), found=rows["found"]))
    staging.close()
    return pl.concat(found)


def _test(backend: Backend, column: Column) -> str:
    """Write the test that a column holds something else than its default.

    Of a default that is another for each row, such as a UUID, it cannot be told whether somebody has set it.
    """
    value, default = f"t.{quote(column.name)}", column.default_sql
    if default is None:
        return f"{value} IS NOT NULL" if column.nullable else ""  # it was filled when it was added
    if not _CONSTANT.fullmatch(default):
        return ""
    raw = backend.form(column).raw.read
    given = f"CAST({default} AS {column.sql_type})" if column.sql_type else default
    return f"{value} IS NOT NULL AND {backend.spelling.differs(raw.format(value), raw.format(given))}"


def changed_lines(table: str, wire: Whole, found: pl.DataFrame) -> pl.DataFrame:
    """Write the values of columns that are newer than the batch as an `UndoRefused` lists them.

    Args:
        table: the table's name.
        wire: the table.
        found: from `set_since`.

    Returns:
        A frame of `CHANGED_SINCE`.
    """
    keys = [pl.col(name).cast(pl.String) for name in wire.contract.key]
    return found.select(
        pl.lit(table).alias("table"),
        pl.concat_str(keys, separator=", ").alias("key"),
        "column",
        pl.lit(None, pl.String).alias("written"),
        "found",
    ).cast(pl.Schema(CHANGED_SINCE))
