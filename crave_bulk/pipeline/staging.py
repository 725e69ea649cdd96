"""Staging: the temporary table that a batch is ingested into, one content after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.stage import STAGE
from crave_bulk.session import Session

_FEW = 20_000  # numbers of rows in a statement, of which SQLite takes a million characters
_SMALL = 10_000  # rows; above, a hash join over a target of the like size is the better plan


class Staging:
    """The staging table of one batch, and how the planner is to look at the target beside it.

    Attributes:
        rows: how many are staged, None where there is no staging table.
    """

    def __init__(self, session: Session, clock: Clock, key: Sequence[str]) -> None:
        self.session, self.clock, self.key = session, clock, list(key)
        self.rows: int | None = None
        self._avoiding = False  # the planner is kept from scanning the target

    def put(self, rows: pl.DataFrame) -> None:
        """Ingest rows, in place of what was there.

        Args:
            rows: ``_row``, the short columns, and what the statements need to know of each row.
        """
        self.drop()
        with self.clock.phase("stage", rows.height):
            rows = rows.drop("mask", "group", strict=False)
            if rows.height < _SMALL:
                rows = rows.sort(self.key)  # two small batches meet in one order, and so do not deadlock
            self.session.ingest(STAGE, rows)
        self.rows = rows.height

    def take_out(self, gone: Collection[int], left: pl.DataFrame) -> None:
        """Take rows out.

        Args:
            gone: their numbers.
            left: the rows that stay, as they are staged.
        """
        if len(gone) > min(_FEW, left.height):
            self.put(left)
            return
        with self.clock.phase("stage", left.height):
            spelling = self.session.backend.spelling
            listed = spelling.listed("_row", map(str, sorted(gone)))
            self.session.execute(f"DELETE FROM {spelling.temp(STAGE)} WHERE {listed}")

    def drop(self) -> None:
        """Drop the staging table, where there is one."""
        if self.rows is not None:
            self.session.execute(f"DROP TABLE {self.session.backend.spelling.temp(STAGE)}")
        self.rows = None

    def avoid_scans(self, rows: pl.DataFrame | None = None) -> None:
        """Keep the planner to the target's indexes: for all of a small batch, and for every merge.

        Args:
            rows: the batch; None before a merge.
        """
        small = rows is None or rows.height < _SMALL
        if small and not self._avoiding and self.session.backend.avoid_scans:
            self.session.execute(self.session.backend.avoid_scans)
            self._avoiding = True

    def close(self) -> None:
        """Leave the session as it was."""
        self.drop()
        if self._avoiding and self.session.backend.allow_scans:
            self.session.execute(self.session.backend.allow_scans)
            self._avoiding = False
