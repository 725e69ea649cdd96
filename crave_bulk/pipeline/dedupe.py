"""Dedupe: compare the batch with the rows that exist, in DuckDB.

Existing rows are fetched by the batch's own keys, so the cost grows with the batch and never with the
table. The comparison saves work; whether a row is really new or changed is decided by the merge. Columns
go by their neutral names (``c0``, ``c1``, …), as DuckDB does not tell ``Name`` from ``name``.
"""

from __future__ import annotations

import polars as pl

from crave_bulk.engine import query


def classify(
    rows: pl.DataFrame, existing: pl.DataFrame, key: list[str], compare: list[str], claims: list[str]
) -> pl.DataFrame:
    """Tell what each row would do to the row of its key.

    Args:
        rows: ``_row`` and the encoded columns of the batch.
        existing: the encoded rows that exist for keys of the batch, each key once.
        key: the key columns.
        compare: the columns that an upsert would change.
        claims: the columns of secondary unique keys.

    Returns:
        `rows` and three booleans: ``present`` (the key exists), ``differs`` (some compared value is
        not the existing one), ``claims`` (some unique value is not the existing one).

    Example:
        >>> rows = pl.DataFrame({"_row": [0, 1, 2], "c0": [1, 2, 3], "c1": ["a", "b", "c"]})
        >>> existing = pl.DataFrame({"c0": [2, 3], "c1": ["b", "x"]})
        >>> classify(rows, existing, ["c0"], ["c1"], [])["present", "differs"].rows()
        [(False, True), (True, False), (True, True)]
    """
    if not existing.height or not rows.height:
        flags = {"present": False, "differs": True, "claims": True}
        return rows.with_columns(pl.lit(value).alias(name) for name, value in flags.items())
    batch = rows.select("_row", *dict.fromkeys([*key, *compare, *claims]))
    flags_of = query(classify_sql(key, compare, claims), batch=batch, existing=existing)
    return pl.concat([rows, flags_of.select("present", "differs", "claims")], how="horizontal")


def classify_sql(key: list[str], compare: list[str], claims: list[str]) -> str:
    """Write the comparison, in DuckDB's dialect.

    Args:
        key: the key columns.
        compare: the columns that an upsert would change.
        claims: the columns of secondary unique keys.

    Returns:
        One query over ``batch`` and ``existing``, a row per row of the batch, in its order.

    Example:
        >>> print(classify_sql(["c0"], ["c1"], []))
        SELECT e.c0 IS NOT NULL AS present,
               e.c0 IS NULL OR b.c1 IS DISTINCT FROM e.c1 AS differs,
               e.c0 IS NULL AS claims
        FROM batch AS b LEFT JOIN existing AS e ON b.c0 = e.c0 ORDER BY b._row
    """
    absent = f"e.{key[0]} IS NULL"
    on = " AND ".join(f"b.{name} = e.{name}" for name in key)
    return (
        f"SELECT e.{key[0]} IS NOT NULL AS present,\n"
        f"       {_any_differs(absent, compare)} AS differs,\n"
        f"       {_any_differs(absent, claims)} AS claims\n"
        f"FROM batch AS b LEFT JOIN existing AS e ON {on} ORDER BY b._row"
    )


def _any_differs(absent: str, names: list[str]) -> str:
    return " OR ".join([absent, *(f"b.{n} IS DISTINCT FROM e.{n}" for n in names)])
