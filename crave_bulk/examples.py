"""A small table and a small report, for the examples in the documentation."""

from __future__ import annotations

import polars as pl

from crave_bulk.database import connect
from crave_bulk.report import Report
from crave_bulk.table import Table, field


class Foods(Table):
    """One row per food."""

    food_id: int = field(key=True)
    name: str = field(str_length={"min_value": 1, "max_value": 40})

    class Config:
        """The table's name."""

        name = "foods"


def report() -> Report:
    """Write three foods, one of which has no name, to a database in memory.

    Returns:
        The report.

    Example:
        >>> report().counts
        {'input': 3, 'inserted': 2, 'rejected': 1}
    """
    with connect() as db:
        db.create(Foods)
        frame = pl.DataFrame({"food_id": [1, 2, 3], "name": ["soup", "", "bread"]})
        return db.upsert(Foods, frame, on_reject="keep")
