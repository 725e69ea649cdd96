"""DuckDB inside this process: one instance, a cursor per query."""

from __future__ import annotations

import os
import threading
import uuid
from functools import cache

import duckdb
import polars as pl

from crave_bulk import forks

_starting = threading.Lock()
_numbering = threading.Lock()
_last = 0
_warming: threading.Thread | None = None


@cache
def _instance() -> duckdb.DuckDBPyConnection:
    # Starting an instance takes some 30 ms, a cursor of it a tenth of one.
    return duckdb.connect()


def _start_anew() -> None:
    """Let a fork of this process have an instance, and locks, of its own."""
    global _starting, _numbering
    _starting, _numbering = threading.Lock(), threading.Lock()
    if _instance.cache_info().currsize:
        forks.keep(_instance())  # whose threads are not there to be joined
        _instance.cache_clear()


def _wait_until_warm() -> None:
    """Let DuckDB finish what it makes once in a process: a fork in the midst would wait for it for ever."""
    if _warming:
        _warming.join()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_wait_until_warm, after_in_child=_start_anew)


def warm_up() -> None:
    """Start the instance in the background, so that the first batch does not wait for it."""
    global _warming
    if _instance.cache_info().currsize:
        return
    _warming = threading.Thread(target=value, args=("SELECT uuidv7()",), name="crave_bulk-duckdb")
    _warming.start()


def value(statement: str) -> object:
    """Run a query that gives one value; a third of the cost of a frame of one.

    Args:
        statement: one query, in DuckDB's dialect.

    Returns:
        The value.

    Example:
        >>> value("SELECT 40 + 2")
        42
    """
    with _starting:
        instance = _instance()
    with instance.cursor() as cursor:
        row = cursor.execute(statement).fetchone()
    return row[0] if row else None


def next_id() -> str:
    """Make the id of a batch: a UUIDv7 (RFC 9562) that is greater than every one before it in this process.

    Several within a millisecond have no order of their own, and a clock may be set back.

    Returns:
        Its text form.

    Example:
        >>> next_id() < next_id()
        True
    """
    global _last
    with _numbering:
        _last = max(uuid.UUID(str(value("SELECT uuidv7()"))).int, _last + 1)
        return str(uuid.UUID(int=_last))


def query(statement: str, **frames: pl.DataFrame) -> pl.DataFrame:
    """Run a query over frames.

    Args:
        statement: one query, in DuckDB's dialect.
        frames: the frames that it names.

    Returns:
        The result.

    Example:
        >>> query("SELECT sum(a) AS total FROM numbers", numbers=pl.DataFrame({"a": [1, 2]})).rows()
        [(Decimal('3'),)]
    """
    with _starting:
        instance = _instance()
    # A cursor of its own: a connection whose last result was not read to the end refuses the next.
    with instance.cursor() as cursor:
        for name, frame in frames.items():
            cursor.register(name, frame)
        result: pl.DataFrame = cursor.sql(statement).pl()
        return result
