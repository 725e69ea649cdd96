"""The verdict: what is known so far of what becomes of each row."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from crave_bulk.journal import Change
from crave_bulk.report import OUTCOME


@dataclass(slots=True)
class Verdict:
    """Outcome by row (null: not yet), the failures, and the rows of the table that were deleted besides.

    Attributes:
        outcomes: the outcome of each input row.
        failures: frames of failures, as `crave_bulk.failures` makes them.
        keys: ``_row`` and the key of each row, where the frame does not say it.
        deleted: the keys of rows that were not in the frame.
        changes: the rows that were changed, as they were and as they are, where they are kept.
        unkept: why they could not be kept.
        notes: what else there is to say.
    """

    outcomes: pl.Series
    failures: list[pl.DataFrame] = field(default_factory=list)
    keys: pl.DataFrame | None = None
    deleted: pl.DataFrame | None = None
    changes: list[Change] = field(default_factory=list)
    unkept: str = ""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def over(cls, rows: int) -> Verdict:
        """Begin with nothing known.

        Args:
            rows: how many rows the frame has.

        Returns:
            The verdict.
        """
        return cls(pl.repeat(None, rows, dtype=OUTCOME, eager=True))

    def set(self, rows: pl.Series, outcome: str) -> None:
        """Give rows their outcome.

        Args:
            rows: the numbers of the rows.
            outcome: one of `crave_bulk.report.OUTCOMES`.
        """
        if len(rows):
            self.outcomes = self.outcomes.scatter(rows, pl.Series([outcome], dtype=OUTCOME))

    def reject(self, found: pl.DataFrame) -> None:
        """Refuse rows.

        Args:
            found: one line per broken rule.
        """
        if found.height:
            self.failures.append(found)
            self.set(found["row"].unique(), "rejected")

    def open(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Select the rows that have no outcome yet.

        Args:
            rows: with ``_row``.

        Returns:
            Those of them.
        """
        return rows.filter(self.outcomes.gather(rows["_row"]).is_null())
