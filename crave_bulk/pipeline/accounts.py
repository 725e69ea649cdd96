"""Accounts: what became of each row, from what the database did, not from what was hoped."""

from __future__ import annotations

import polars as pl

from crave_bulk.errors import DatabaseError
from crave_bulk.pipeline import dedupe
from crave_bulk.pipeline.constraints import Settled
from crave_bulk.pipeline.job import Job
from crave_bulk.pipeline.reasons import refusals
from crave_bulk.pipeline.stage import without
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.write import Raced
from crave_bulk.session import Session


class Accounts:
    """The outcomes of one batch.

    Attributes:
        watched: triggers or rules may skip rows without an error.
    """

    def __init__(self, session: Session, job: Job, verdict: Verdict) -> None:
        self.session, self.job, self.verdict = session, job, verdict
        self.key = job.wire.shorts(job.wire.contract.key)
        self.watched = False

    def close(
        self,
        rows: pl.DataFrame,
        final: pl.DataFrame,
        candidates: pl.DataFrame,
        settled: Settled,
        written: pl.DataFrame,
        *,
        repeats: bool,
    ) -> None:
        """Give every row its outcome, from what the database wrote.

        Args:
            rows: the rows of this pass, with their ``mask``.
            final: those that were to be written.
            candidates: those that might have been.
            settled: what became of rows that competed.
            written: ``_row`` and ``inserted`` of each row that was written.
            repeats: some key is there more than once.
        """
        last = self.verdict.open(rows)
        missed = without(self.verdict.open(final), set(written["_row"]))
        if repeats:
            is_last = last.select(pl.struct(self.key).is_last_distinct()).to_series()
            self.verdict.set(last.filter(~is_last)["_row"], "duplicate")
            last = last.filter(is_last)
        self.verdict.set(last["_row"], "ignored" if self.job.kind == "insert" else "unchanged")
        if settled.waves:
            written = self._by_last_row(candidates, last, written)
        self.verdict.set(written.filter("inserted")["_row"], "inserted")
        self.verdict.set(written.filter(~pl.col("inserted"))["_row"], self.job.changed)
        if missed.height and not settled.waves:
            self._explain_missed(missed)

    def _by_last_row(
        self, candidates: pl.DataFrame, last: pl.DataFrame, written: pl.DataFrame
    ) -> pl.DataFrame:
        """Sum up the waves of a key on its last row; one that ended where it began is unchanged."""
        keys = candidates.join(written, on="_row").group_by(self.key).agg(pl.col("inserted").any())
        ended = last.join(keys, on=self.key, how="inner")
        return ended.filter((pl.col("mask") != 0) | pl.col("inserted")).select("_row", "inserted")

    def _explain_missed(self, missed: pl.DataFrame) -> None:
        """Find out why the database did not write rows, and said nothing: another writer, or a trigger."""
        missed = missed.sort("_row").drop("mask")
        now = self._compare_again(missed)
        if not self.watched:
            # Another writer has left the row just so, or deleted it, and may have changed it since.
            now = now.with_columns(mask=pl.when(pl.col("mask") == -1).then(-1).otherwise(0))
        equal, absent = pl.col("mask") == 0, pl.col("mask") == -1
        if self.job.kind == "delete":
            self.verdict.set(now.filter(absent)["_row"], "missing")
            left = now.filter(~absent) if self.watched else now.clear()
        elif self.job.kind == "update":
            self.verdict.set(now.filter(absent)["_row"], "missing")
            left = now.filter(~absent & ~equal)
        elif self.job.kind == "insert" and self.job.ignores:
            left = now.filter(absent)
        else:
            left = now.filter(~equal)
            if self.session.backend.concurrent and not self.watched and left.height:
                raise Raced  # the row was there, and another writer has deleted it
        skipped = DatabaseError(
            "a trigger or a rule of the database left the row out without an error", sqlstate=""
        )
        self.verdict.reject(
            refusals(
                self.session, self.job.wire, self.job.frame, dict.fromkeys(left["_row"].to_list(), skipped)
            )
        )

    def _compare_again(self, rows: pl.DataFrame) -> pl.DataFrame:
        if self.job.kind in ("insert", "delete"):
            there = dedupe.taken(self.session, self.job.wire)
            mask = pl.when(pl.col("_row").is_in(there.implode())).then(1).otherwise(-1)
            return rows.with_columns(mask=mask.cast(pl.Int64))
        return dedupe.changes(self.session, self.job.wire, rows, self.job.columns.compare)
