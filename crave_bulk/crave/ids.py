"""Ids: those of new entities, connections and mentions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

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


def well_formed(ids: Iterable[str]) -> pl.Series:
    """Select what can be an id at all: a database that has a type for them looks for nothing else.

    Args:
        ids: any texts.

    Returns:
        Those that are UUIDs.

    Example:
        >>> well_formed(["nonsense", "01a20ed8-a724-7ab1-b057-8a1507d84bac"]).len()
        1
    """
    return pl.Series("id", [one for one in ids if _is_uuid(one)], dtype=pl.String)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
