"""The report: what became of every row of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from crave_bulk import card
from crave_bulk.errors import UndoRefused
from crave_bulk.fate import Fate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTCOMES = (
    "inserted",
    "updated",
    "unchanged",
    "deleted",
    "duplicate",
    "ignored",
    "stale",
    "missing",
    "rejected",
)
OUTCOME = pl.Enum(OUTCOMES)


class Counts(dict[str, int]):
    """Outcome → rows, for the outcomes that occur; any other outcome counts 0.

    Example:
        >>> counts = Counts(input=2, inserted=2)
        >>> counts["rejected"], counts
        (0, {'input': 2, 'inserted': 2})
    """

    def __missing__(self, outcome: str) -> int:
        if outcome in OUTCOMES:
            return 0
        raise KeyError(outcome)


PHASES = ("validate", "dedupe", "stage", "merge", "ledger", "report")
TIMINGS = {"batch": pl.Int64, "phase": pl.String, "seconds": pl.Float64, "rows": pl.Int64}


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What became of each row of one call.

    Attributes:
        verb: such as ``insert`` or ``delete_where``.
        table: the table's name.
        batch_id: a time-ordered UUID: the correlation id of the batch.
        written: whether anything was written; false on the report that `RejectedRows` carries, whose
            outcomes then say what each row would have become.
        failures: one line per broken rule: row, stage, rule, column, value, message; without a row number where
            it is a row that the call found in the table by itself.
        timings: one line per phase: batch, phase, seconds, rows.
        seconds: of the whole call.
        source: the frame as it was passed.
        keys_by_row: the key of each accounted row: first those of `source`, then the rows of the table
            that the call found by itself, as ``delete_where`` and ``sync`` do.
        outcomes_by_row: the outcome of each, in the same order.
        retries: how often it was tried again, as others were in the way or the connection was lost.
        replayed: it was written before, and nothing was done now; this is what became of the rows then.
        notes: what else there is to know.
        database: where it was written.
        fate: what became of the transaction that it was part of; None if the call was one of its own.
    """

    verb: str
    table: str
    batch_id: str
    written: bool
    failures: pl.DataFrame
    timings: pl.DataFrame
    seconds: float
    source: pl.DataFrame = field(repr=False)
    keys_by_row: pl.DataFrame = field(repr=False)
    outcomes_by_row: pl.Series = field(repr=False)
    retries: int = 0
    replayed: bool = False
    notes: tuple[str, ...] = ()
    database: Any = field(default=None, repr=False)
    fate: Fate | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the database behind where the report goes to another process."""
        return {**self.__dict__, "database": None}

    @property
    def committed(self) -> bool:
        """Whether anything was written, for good: within a ``db.transaction()``, only when that has ended."""
        return self.written and (self.fate is None or self.fate.state == "committed")

    @property
    def _lost(self) -> bool:
        return self.fate is not None and self.fate.state == "rolled back"

    @cached_property
    def counts(self) -> Counts:
        """Outcome → rows, and ``input``; the outcomes sum to the input, and one that is not listed is 0.

        What the call found in the table by itself (``update_where``, ``delete_where``, the rows that
        ``sync`` deletes) counts as input, as each such row has an outcome too.
        """
        found = dict(self.outcomes_by_row.value_counts().iter_rows())
        return Counts(
            input=len(self.outcomes_by_row), **{name: found[name] for name in OUTCOMES if name in found}
        )

    @cached_property
    def outcomes(self) -> pl.DataFrame:
        """What became of each row: row, outcome; one line per input row, in order.

        Rows that the call found in the table by itself follow, without a row number.
        """
        rows = pl.int_range(len(self.outcomes_by_row), dtype=pl.Int64, eager=True)
        rows = rows.set(rows >= self.source.height, None)
        return pl.DataFrame({"row": rows, "outcome": self.outcomes_by_row})

    @cached_property
    def rejected(self) -> pl.DataFrame:
        """The input rows that were refused, with ``_row`` and ``_reasons`` (a list of texts)."""
        reason = pl.format("{}: {}", "rule", "message")
        reasons = self.failures.group_by("row").agg(_reasons=reason).rename({"row": "_row"})
        rows = self.source.with_row_index("_row").with_columns(pl.col("_row").cast(pl.Int64))
        return rows.join(reasons, on="_row", how="inner", maintain_order="left")

    @property
    def keys(self) -> pl.DataFrame:
        """The key of each row that is in the table now: ``_row`` and the key columns.

        For rows that were inserted, updated or unchanged; with it, a key that was generated finds the
        row that it was made for. None if the transaction of the batch was rolled back.
        """
        return self._keys(["inserted", "updated", "unchanged"])

    @property
    def deleted(self) -> pl.DataFrame:
        """The key of each row that was deleted: ``_row`` and the key columns."""
        return self._keys(["deleted"])

    def _keys(self, outcomes: list[str]) -> pl.DataFrame:
        chosen = self.outcomes_by_row.is_in(outcomes) & self.written & (not self._lost)
        return (
            self.keys_by_row.with_columns(_row=self.outcomes["row"])
            .select("_row", pl.exclude("_row"))
            .filter(chosen)
        )

    @property
    def rows_per_second(self) -> float:
        """Input rows over seconds, from the call to the report."""
        return self.counts["input"] / self.seconds if self.seconds else 0.0

    def undo(self, *, force: bool = False) -> Report:
        """Take the batch back, as ``db.undo`` does.

        Args:
            force: take back the rows that nobody has changed since, and leave the others.

        Returns:
            What became of each row that the batch had changed.

        Raises:
            UndoRefused: rows have changed since, or there is nothing to take back.
            BulkError: the database refused; nothing was changed.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     report = db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["soup"]}))
            ...     report.undo().counts, db.read(Foods).height
            ({'input': 1, 'deleted': 1}, 0)
        """
        if not self.written:
            raise UndoRefused(f"batch {self.batch_id} wrote nothing, so there is nothing to take back")
        if self._lost:
            raise UndoRefused(
                f"batch {self.batch_id} was rolled back with its transaction, so there is nothing to take back"
            )
        if self.database is None:
            raise UndoRefused(
                "the report has left its database", f"take the batch back by db.undo({self.batch_id!r})"
            )
        report: Report = self.database.undo(self.batch_id, force=force)
        return report

    def plot(self) -> Figure:
        """Draw the time per phase per batch.

        Returns:
            A matplotlib figure with one stacked bar per batch, in seconds.

        Example:
            >>> from crave_bulk import examples
            >>> examples.report().plot().axes[0].get_xlabel()
            'seconds'
        """
        from crave_bulk.chart import plot_timings  # matplotlib takes a second to import

        return plot_timings([self])

    def refusal(self) -> str:
        """Say in one line why nothing was written, and where to look.

        Returns:
            The message of `RejectedRows`.
        """
        first = self.failures.row(0, named=True)
        value = "" if first["value"] is None else f" = {card.shorten(repr(first['value']))}"
        about = f"{first['column']}{value}: " if first["column"] else ""
        which = "one that was to be deleted" if first["row"] is None else f"row {first['row']}"
        where = "failures" if self.failures["row"].has_nulls() else "rejected"
        return (
            f"{self.counts['rejected']:,} of {self.counts['input']:,} rows for table {self.table} were refused, so "
            f"nothing was written; the first is {which}: {about}{first['message']}. "
            f'See .report.{where} for all of them; on_reject="keep" writes the other rows'
        )

    def top_reasons(self, limit: int = 5) -> pl.DataFrame:
        """Count the rules that were broken most.

        Args:
            limit: how many lines at most.

        Returns:
            stage, rule, column, rows; the most frequent first.
        """
        counted = self.failures.group_by("stage", "rule", "column", maintain_order=True).len("rows")
        return counted.sort("rows", descending=True, maintain_order=True).head(limit)

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        done = (
            "  NOTHING WRITTEN NOW; this is what became of each row the first time" if self.replayed else ""
        )
        done = done if self.written else "  NOTHING WRITTEN; this is what would have become of each row"
        if self.fate is not None and self.fate.state != "committed":
            done = (
                "  ROLLED BACK with its transaction"
                if self._lost
                else "  PENDING until its transaction is committed"
            )
        yield f"{self.verb} {self.table}: {card.sentence(self.counts)}{done}"
        yield f"  {self.seconds:.3f} s, {self.rows_per_second:,.0f} rows/s  ({card.phases(self.timings)})"
        for stage, rule, column, rows in self.top_reasons().iter_rows():
            yield f"  rejected at {stage}: {rows:,} x {rule}{f' on {column}' if column else ''}"
        if more := self.top_reasons(limit=1_000).height - 5 if self.failures.height else 0:
            yield from [f"  ... and {more} more rules, see .failures"] if more > 0 else []
        yield from (f"  {note}" for note in self.notes)
        tries = f" ({self.retries} retries)" if self.retries else ""
        yield f"  batch {self.batch_id}{tries}"

    def _repr_html_(self) -> str:
        return card.html(self)
