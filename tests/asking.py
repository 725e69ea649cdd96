"""What the tests of conditions share: asking for ids, and writing values as SQL."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import crave_bulk as cb


def ids(db: cb.Database, table: type[cb.Table], where: Any, **options: Any) -> list[int]:
    return db.read(table, where=where, columns=["id"], order_by="id", **options)["id"].to_list()


def in_sql(value: Any) -> str | None:
    """Write a value as SQL, where it can be written."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | Decimal) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"'{value.isoformat()}'" if isinstance(value, dt.date | dt.time) else None
