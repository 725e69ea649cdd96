"""Accounts: what became of each row, from what the database did, not from what was hoped."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import polars as pl

from crave_bulk.errors import DatabaseError
from crave_bulk.pipeline import dedupe
from crave_bulk.pipeline.constraints import Settled
from crave_bulk.pipeline.job import Job
from crave_bulk.pipeline.stage import without
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.write import KEPT, Raced
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
        candidates: pl.DataFrame,
        settled: Settled,
        written: pl.DataFrame,
        *,
        repeats: bool,
    ) -> None:
        """Give every row its outcome, from what the database wrote.

        Args:
            rows: the rows of this pass that are done, with their ``mask``.
            candidates: those that might have been written.
            settled: what became of rows that competed.
            written: ``_row`` and ``inserted`` of each row that was written.
            repeats: some key is there more than once.
        """
        last = self.verdict.open(rows)
        if repeats:
            is_last = last.select(pl.struct(self.key).is_last_distinct()).to_series()
            self.verdict.set(last.filter(~is_last)["_row"], "duplicate")
            last = last.filter(is_last)
        self.verdict.set(last["_row"], "ignored" if self.job.kind == "insert" else "unchanged")
        if settled.waves:
            written = self._by_last_row(candidates, last, written)
        self.verdict.set(written.filter("inserted")["_row"], "inserted")
        self.verdict.set(written.filter(~pl.col("inserted"))["_row"], self.job.changed)

    def sum_up(self, keys: pl.DataFrame, apart: Collection[int], unmoved: pl.DataFrame) -> None:
        """Account for keys whose rows were written one after the other as if they had been combined.

        Args:
            keys: ``_row`` and the key of all rows.
            apart: the numbers of those rows.
            unmoved: the keys whose rows are as they were before the batch.
        """
        several = keys.filter(pl.col("_row").is_in(list(apart))).select(self.key)
        rows = keys.join(several, on=self.key, how="semi").sort("_row")
        rows = rows.with_columns(outcome=self.verdict.outcomes.gather(rows["_row"]))
        best = {"inserted": 0, self.job.changed: 1, "unchanged": 2}
        written = rows.filter(pl.col("outcome").is_in(list(best)))
        rank = pl.col("outcome").cast(pl.String).replace_strict(best, return_dtype=pl.Int8)
        last = (
            written.with_columns(rank=rank)
            .group_by(self.key)
            .agg(pl.col("_row").last(), pl.col("rank").min())
        )
        self.verdict.set(without(written, set(last["_row"]))["_row"], "duplicate")
        moved = last.join(unmoved, on=self.key, how="anti")
        for outcome, place in best.items():
            self.verdict.set(moved.filter(rank=place)["_row"], outcome)
        unmoved = last.join(unmoved, on=self.key, how="semi").filter(pl.col("rank") > 0)
        self.verdict.set(unmoved["_row"], "unchanged")

    def _by_last_row(
        self, candidates: pl.DataFrame, last: pl.DataFrame, written: pl.DataFrame
    ) -> pl.DataFrame:
        """Sum up the waves of a key on its last row; one that ended where it began is unchanged."""
        keys = candidates.join(written, on="_row").group_by(self.key).agg(pl.col("inserted").any())
        ended = last.join(keys, on=self.key, how="inner")
        return ended.filter((pl.col("mask") != 0) | pl.col("inserted")).select("_row", "inserted")

    def skipped(
        self, final: pl.DataFrame, written: pl.DataFrame, errors: Mapping[int, DatabaseError]
    ) -> tuple[dict[int, DatabaseError], pl.DataFrame]:
        """Find out why the database did not write rows, and said nothing: another writer, or a trigger.

        Args:
            final: the rows that were to be written, staged.
            written: ``_row`` of those that were.
            errors: those that were refused.

        Returns:
            The rows that a trigger or a rule has skipped; and ``_row`` and ``inserted`` of those that a trigger has
            stored in its own way, as in a table that inherits.

        Raises:
            Raced: another writer has deleted a row.
        """
        missed = without(without(final, set(written["_row"])), errors)
        missed = missed.filter(pl.struct(self.key).is_last_distinct()).sort("_row")
        stored = written.clear()
        if not missed.height:
            return {}, stored
        now = self._compare_again(missed.drop("mask"))
        concurrent = self.session.backend.concurrent
        if concurrent and not self.watched:
            # Another writer has left the row just so, or deleted it, and may have changed it since.
            now = now.with_columns(mask=pl.when(pl.col("mask") == -1).then(-1).otherwise(0))
        absent, left = now.filter(mask=-1), now.filter(pl.col("mask") > 0)
        kind = self.job.kind
        if kind == "delete":  # where nobody else can have deleted it, it went along with another row
            self.verdict.set(absent["_row"], "missing" if concurrent else "deleted")
            return dict.fromkeys(
                now.filter(pl.col("mask") != -1)["_row"].to_list(), DatabaseError(KEPT)
            ), stored
        if kind == "update":
            self.verdict.set(absent["_row"], "missing")
        elif kind == "insert":
            left = absent if self.job.ignores else now
        elif concurrent and not self.watched and absent.height:
            raise Raced  # the row was there, and another writer has deleted it
        else:
            left = now.filter(pl.col("mask") != 0)
        if self.watched and kind in ("insert", "merge") and not self.job.ignores:
            new = now.join(missed.filter(mask=-1), on="_row", how="semi").filter(pl.col("mask") != -1)
            stored, left = new.select("_row", inserted=pl.lit(True)), without(left, set(new["_row"]))
        why = "a trigger, a rule or a policy of the database left the row out without an error"
        return {row: DatabaseError(why) for row in left["_row"].to_list()}, stored

    def _compare_again(self, rows: pl.DataFrame) -> pl.DataFrame:
        if self.job.kind in ("insert", "delete"):
            there = dedupe.taken(self.session, self.job.wire)
            mask = pl.when(pl.col("_row").is_in(there.implode())).then(1).otherwise(-1)
            return rows.with_columns(mask=mask.cast(pl.Int64))
        return dedupe.changes(self.session, self.job.wire, rows, self.job.columns.compare)
