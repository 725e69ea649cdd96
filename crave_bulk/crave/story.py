"""Story: what became of each row of an ingestion, of each name, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from crave_bulk import failures
from crave_bulk.engine import next_id
from crave_bulk.report import OUTCOMES, TIMINGS, Counts, Report

_REVIEW = "review"
_OUTCOME = pl.Enum([*OUTCOMES, _REVIEW])


class Tally(Counts):
    """Outcome → rows, ``review`` among them; any outcome that does not occur counts 0."""

    def __missing__(self, outcome: str) -> int:
        return 0 if outcome == _REVIEW else super().__missing__(outcome)


@dataclass(frozen=True, eq=False, repr=False)
class Ingested(Report):
    """What became of each mention, and of each name in it.

    The outcomes are those of the mentions: ``inserted``, ``updated`` and ``unchanged`` (known, with or without news),
    ``duplicate`` (a later row is the same source for the same connection), ``review`` (held), ``rejected``.

    Attributes:
        resolved: what `crave_bulk.crave.resolve` gave, one line per different name.
        ids: row, temp_id, type, name → entity_id: for the restaurant and the food of each row.
        reports: the reports of what was written: entities, connections, mentions and so on.
    """

    resolved: pl.DataFrame = field(default_factory=pl.DataFrame)
    ids: pl.DataFrame = field(default_factory=pl.DataFrame)
    reports: dict[str, Report] = field(default_factory=dict)

    @cached_property
    def counts(self) -> Counts:
        """Outcome → rows, and ``input``."""
        found = dict(self.outcomes_by_row.value_counts().iter_rows())
        return Tally(
            input=len(self.outcomes_by_row),
            **{name: found[name] for name in (*OUTCOMES, _REVIEW) if name in found},
        )


class Story:
    """Keeps account of an ingestion while it runs.

    Args:
        source: the extraction.
    """

    def __init__(self, source: Any) -> None:
        self.source: pl.DataFrame = source.collect() if isinstance(source, pl.LazyFrame) else source
        self.started = time.perf_counter()
        self.rejected = failures.none()
        self.resolved = pl.DataFrame()
        self.ids = pl.DataFrame()
        self.reports: dict[str, Report] = {}
        self._outcomes: list[pl.DataFrame] = []
        self._spent: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block.

        Args:
            name: of the phase.

        Yields:
            Nothing.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] = self._spent.get(name, 0.0) + time.perf_counter() - start

    def again(self) -> Story:
        """Begin anew after the validation, as each attempt of a transaction does.

        Returns:
            A story that knows what was rejected.
        """
        story = Story(self.source)
        story.started, story.rejected, story._spent = self.started, self.rejected, dict(self._spent)
        return story

    def reject(self, found: pl.DataFrame) -> None:
        """Write down the rows that are refused.

        Args:
            found: a frame of failures.
        """
        self.rejected = found

    def outcome(self, rows: pl.Series, outcome: str) -> None:
        """Write down what became of rows.

        Args:
            rows: their numbers.
            outcome: of all of them.
        """
        self._outcomes.append(
            pl.DataFrame(
                {"row": rows, "outcome": pl.Series([outcome], dtype=_OUTCOME).new_from_index(0, len(rows))}
            )
        )

    def outcomes(self, rows: pl.Series, report: Report) -> None:
        """Write down what a verb says became of rows.

        Args:
            rows: their numbers here, in the order of the verb's frame.
            report: of the verb.
        """
        self._outcomes.append(
            pl.DataFrame({"row": rows, "outcome": report.outcomes["outcome"].cast(pl.String).cast(_OUTCOME)})
        )

    def add(self, name: str, report: Report) -> None:
        """Write down what a verb did.

        Args:
            name: what it wrote.
            report: of the verb.
        """
        self.reports[name] = report

    def refused(self) -> Ingested:
        """Tell that nothing was written, as rows are no mentions."""
        return self._told(None, written=False)

    def told(self, database: Any) -> Ingested:
        """Tell what became of everything.

        Args:
            database: where it was written.

        Returns:
            The report.
        """
        return self._told(database, written=True)

    def _told(self, database: Any, *, written: bool) -> Ingested:
        batches = [report.batch_id for report in self.reports.values()]
        return Ingested(
            verb="ingest",
            table="mentions",
            batch_id=min(batches, default=next_id()),
            written=written,
            failures=self.rejected,
            timings=self._timings(),
            seconds=time.perf_counter() - self.started,
            source=self.source,
            keys_by_row=pl.DataFrame({"row": pl.int_range(self.source.height, dtype=pl.Int64, eager=True)}),
            outcomes_by_row=self._by_row(),
            retries=sum(report.retries for report in self.reports.values()),
            database=database,
            fate=next((report.fate for report in self.reports.values()), None),
            resolved=self.resolved,
            ids=self.ids,
            reports=self.reports,
        )

    def _by_row(self) -> pl.Series:
        rows = pl.DataFrame({"row": pl.int_range(self.source.height, dtype=pl.Int64, eager=True)})
        self.outcome(self.rejected["row"].unique(), "rejected")
        known = pl.concat(self._outcomes)
        # Without the rows that are refused the others would have been written.
        return rows.join(known, on="row", how="left", maintain_order="left")["outcome"].fill_null("inserted")

    def _timings(self) -> pl.DataFrame:
        own = [(1, phase, seconds, self.source.height) for phase, seconds in self._spent.items()]
        parts = [pl.DataFrame(own, schema=TIMINGS, orient="row"), *(r.timings for r in self.reports.values())]
        spent = (
            pl.concat(parts)
            .group_by("phase", maintain_order=True)
            .agg(pl.col("seconds").sum(), pl.col("rows").sum())
        )
        return spent.select(pl.lit(1, pl.Int64).alias("batch"), "phase", "seconds", "rows")
