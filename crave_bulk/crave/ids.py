"""Ids: those of new entities, connections and mentions."""

from __future__ import annotations

import polars as pl

from crave_bulk.engine import query


def new_ids(number: int) -> pl.Series:
    """Make ids: UUIDv7 (RFC 9562), which grow with time, so that an index of them grows at its end.

    Args:
        number: how many.

    Returns:
        Their text forms.

    Example:
        >>> new_ids(3).str.len_chars().to_list()
        [36, 36, 36]
    """
    return query(f"SELECT uuidv7()::VARCHAR AS id FROM range({number})")["id"]
