"""The verdict: what is known so far of what becomes of each row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import polars as pl

from crave_bulk import failures
from crave_bulk.errors import ContractError, Unreadable
from crave_bulk.journal import Change
from crave_bulk.report import OUTCOME


@dataclass(slots=True)
class Verdict:
    """Outcome by row (null: not yet), the failures, and what became of rows of the table that are not in the frame.

    Attributes:
        outcomes: the outcome of each input row.
        failures: frames of failures, as `crave_bulk.failures` makes them.
        keys: ``_row`` and the key of each row, where the frame does not say it.
        rekeyed: the same of rows to which a trigger of the database has given another key.
        others: the keys of rows that were not in the frame, and were to be deleted.
        others_outcomes: what became of each of them.
        changes: the rows that were changed, as they were and as they are, where they are kept.
        unkept: why they could not be kept.
        notes: what else there is to say.
    """

    outcomes: pl.Series
    failures: list[pl.DataFrame] = field(default_factory=list)
    keys: pl.DataFrame | None = None
    rekeyed: pl.DataFrame | None = None
    others: pl.DataFrame | None = None
    others_outcomes: pl.Series | None = None
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

    def copy(self) -> Verdict:
        """Give what is known now, whatever is found out later.

        Returns:
            The same.
        """
        return replace(
            self,
            outcomes=self.outcomes.clone(),
            failures=list(self.failures),
            changes=list(self.changes),
            notes=list(self.notes),
        )

    def set(self, rows: pl.Series, outcome: str) -> None:
        """Give rows their outcome.

        Args:
            rows: the numbers of the rows.
            outcome: one of `crave_bulk.report.OUTCOMES`.
        """
        if len(rows):
            self.outcomes = self.outcomes.scatter(rows, pl.Series([outcome], dtype=OUTCOME))

    def note(self, text: str | None) -> None:
        """Say something once, if there is anything to say."""
        if text and text not in self.notes:
            self.notes.append(text)

    def keep_nothing(self, error: ContractError) -> None:
        """Say why the rows cannot be kept as they were; they are written all the same.

        Args:
            error: what reading them has met.
        """
        self.unkept = error.said if isinstance(error, Unreadable) else str(error)

    def knows(self, keys: pl.DataFrame) -> None:
        """Note the keys that rows have, where the frame does not say them.

        Args:
            keys: ``_row`` and the key.
        """
        self.keys = keys if self.keys is None else pl.concat([self.keys, keys])

    def reject(self, found: pl.DataFrame) -> None:
        """Refuse rows.

        Args:
            found: one line per broken rule.
        """
        if found.height:
            self.failures.append(found)
            self.set(found["row"].unique(), "rejected")

    def reopen(self) -> bool:
        """Take back what other rows were refused for that stood in their way; tell whether there are such rows."""
        lines = failures.gather(self.failures).with_columns(
            other=pl.col("stage").is_in(["unique", "reference"])
        )
        rows = lines.drop_nulls("row").group_by("row").agg(pl.col("other").all()).filter("other")["row"]
        if not len(rows):
            return False
        left = lines.filter(~pl.col("row").is_in(rows.implode()).fill_null(False)).drop("other")
        self.failures = [left] if left.height else []
        self.outcomes = self.outcomes.scatter(rows, None)
        return True

    def open(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Select the rows that have no outcome yet.

        Args:
            rows: with ``_row``.

        Returns:
            Those of them.
        """
        return rows.filter(self.outcomes.gather(rows["_row"]).is_null())
