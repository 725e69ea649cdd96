"""Run the steps of one batch in order, in one transaction, and account for every row."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from crave_bulk import failures
from crave_bulk.engine import value
from crave_bulk.errors import ConstraintViolated, DatabaseBusy, RejectedRows
from crave_bulk.pipeline import constraints, dedupe
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.constraints import Settled
from crave_bulk.pipeline.intake import Intake, fit, to_polars
from crave_bulk.pipeline.merge import Columns, apply_wave, columns_to_write, insert_sql, merge_parts
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.pipeline.validate import validate
from crave_bulk.report import OUTCOME, Report
from crave_bulk.session import Session
from crave_bulk.table import Contract, Reference

Verb = Literal["insert", "upsert"]
OnConflict = Literal["error", "ignore"]
OnReject = Literal["raise", "keep"]

_SMALL = 10_000  # rows; above, a hash join over a target of the like size is the better plan
# Another writer can take a key between the check and the merge, or wait for us as we wait for it: then
# everything is checked again.
_ATTEMPTS = 5
_RACES = ("23505", "23503")  # unique_violation, foreign_key_violation: any other constraint fails again


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller asked for."""

    verb: Verb
    contract: Contract
    on_conflict: OnConflict = "error"
    on_reject: OnReject = "raise"


@dataclass(slots=True)
class _Verdict:
    """What is known of the rows so far: outcome by row (null: not yet), and the failures."""

    outcomes: pl.Series
    failures: list[pl.DataFrame]

    def set(self, rows: pl.Series, outcome: str | pl.Series) -> None:
        values = pl.Series([outcome], dtype=OUTCOME) if isinstance(outcome, str) else outcome
        if len(rows):
            self.outcomes = self.outcomes.scatter(rows, values)

    def reject(self, found: pl.DataFrame) -> None:
        self.failures.append(found)
        self.set(found["row"].unique(), "rejected")


def run(
    open_session: Callable[[], AbstractContextManager[Session]], wire: Wire, call: Call, source: Any
) -> Report:
    """Run one batch: validate → dedupe → stage → merge → report.

    Args:
        open_session: gives a connection; a transaction that is open in this thread is joined.
        wire: the table on its database.
        call: what to do.
        source: a frame of any kind.

    Returns:
        What became of each row.

    Raises:
        ContractError: the frame does not fit the table.
        RejectedRows: rows were refused and ``on_reject="raise"``; nothing was written.
        BulkError: the database refused; nothing was written.
    """
    start, clock = time.perf_counter(), Clock()
    frame = to_polars(source)
    with clock.phase("validate", frame.height):
        intake = fit(call.contract, frame)
        checked = validate(call.contract, wire.codecs, intake.frame)
    with clock.phase("merge", frame.height), open_session() as session:
        verdict, refused = _write(session, wire, call, intake, checked.frame, checked.failures, clock)
    with clock.phase("report", frame.height):
        found, batch_id = failures.gather(verdict.failures), str(value("SELECT uuidv7()"))
    report = Report(
        verb=call.verb,
        table=str(call.contract.name),
        batch_id=batch_id,
        committed=not refused,
        source=frame,
        keys_by_row=checked.frame.select(call.contract.key),
        outcomes_by_row=verdict.outcomes,
        failures=found,
        timings=clock.frame(),
        seconds=time.perf_counter() - start,
    )
    if refused:
        raise RejectedRows(report)
    return report


class _Refused(Exception):
    pass


def _write(
    session: Session,
    wire: Wire,
    call: Call,
    intake: Intake,
    frame: pl.DataFrame,
    invalid: pl.DataFrame,
    clock: Clock,
) -> tuple[_Verdict, bool]:
    """Run the transaction, again where another writer came in between; tell whether it was refused."""
    columns = columns_to_write(call.contract, intake) if call.verb == "upsert" else Columns([], [])
    for attempt in range(1, _ATTEMPTS + 1):
        verdict = _Verdict(pl.repeat(None, frame.height, dtype=OUTCOME, eager=True), [])
        verdict.reject(invalid)
        batch = _Batch(session, wire, call, columns, frame, verdict, clock)
        try:
            with session.atomic():
                batch.run()
                if batch.refused:
                    raise _Refused
        except _Refused:
            return verdict, True
        except (ConstraintViolated, DatabaseBusy) as error:
            raced = isinstance(error, DatabaseBusy) or error.sqlstate in _RACES
            if not (raced and session.backend.concurrent) or attempt == _ATTEMPTS or session.in_transaction:
                raise
            time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - two that met must not meet again
            continue
        return verdict, False
    raise AssertionError  # the last attempt returns or raises


class _Batch:
    """One attempt at one batch, in an open transaction: the steps share what they learn of the rows."""

    def __init__(
        self,
        session: Session,
        wire: Wire,
        call: Call,
        columns: Columns,
        frame: pl.DataFrame,
        verdict: _Verdict,
        clock: Clock,
    ) -> None:
        self.session, self.wire, self.call, self.columns = session, wire, call, columns
        self.frame, self.verdict, self.clock = frame, verdict, clock
        self.key = wire.shorts(call.contract.key)
        self.inserts = call.verb == "insert"
        self.ignores = call.on_conflict == "ignore"
        self.repeats = False  # some key is in the batch more than once
        self.first = False  # the target is empty: there is nothing to compare with
        self.moved: set[int] = set()  # the masks that occur among rows that may be written
        self.avoiding = False  # the planner is kept from scanning the target
        self.staged: int | None = None  # rows in the staging table, where there is one

    def run(self) -> None:
        """Stage, compare, check and merge, unless a refusal has settled the batch already."""
        accepted = self.verdict.outcomes.is_null()
        self.first = not self.session.fetch(
            f"SELECT EXISTS (SELECT 1 FROM {self.wire.target}) AS some"
        ).item()
        with self.clock.phase("stage", int(accepted.sum())):
            rows = self.wire.encode(self.frame, None if accepted.all() else accepted)
            self.repeats = rows.select(pl.struct(self.key).n_unique()).item() < rows.height
        if not rows.height:
            return
        self._stage(self._in_waves(rows, Settled()))
        if rows.height < _SMALL:
            self._avoid_scans()
        with self.clock.phase("dedupe", rows.height):
            rows = self._compare(rows)
            candidates = self._candidates(rows)
            left_out = self._left_out_of_checks() if candidates.height else []
            if left_out:
                candidates = dedupe.kept(self.session, self.wire, candidates, left_out)
        if left_out:
            self._stage(self._in_waves(candidates, Settled()))
        settled, written = self._check_and_merge(candidates)
        self._unstage()
        if self.avoiding and self.session.backend.allow_scans:
            self.session.execute(self.session.backend.allow_scans)
        with self.clock.phase("report", rows.height):
            self._account(rows, candidates, settled, written)

    @property
    def refused(self) -> bool:
        """Whether nothing will be written, because some row is refused."""
        return self.call.on_reject == "raise" and any(part.height for part in self.verdict.failures)

    # -- stage --

    def _stage(self, rows: pl.DataFrame) -> None:
        """Ingest rows into the staging table, in place of what was there."""
        self._unstage()
        with self.clock.phase("stage", rows.height):
            rows = rows.drop("mask", strict=False)
            if rows.height < _SMALL:
                rows = rows.sort(self.key)  # two small batches meet in one order, and so do not deadlock
            self.session.ingest(STAGE, rows)
        self.staged = rows.height

    def _unstage(self) -> None:
        if self.staged is not None:
            self.session.execute(f"DROP TABLE {STAGE}")
        self.staged = None

    def _in_waves(self, rows: pl.DataFrame, settled: Settled) -> pl.DataFrame:
        """Combine rows of one key: in each wave the last one stands, of an insert the first.

        The other rows have no wave: they are staged to be checked, as what a key holds in between
        matters to unique keys, and are not written.
        """
        wave = pl.lit(0, dtype=pl.Int32)
        if settled.waves:
            wave = pl.col("_row").replace_strict(settled.waves, default=0, return_dtype=pl.Int32)
        rows = rows.with_columns(wave=wave)
        rows = without(rows, settled.gone)
        if self.repeats:
            one = (
                pl.struct(self.key).is_first_distinct()
                if self.inserts
                else pl.struct(*self.key, "wave").is_last_distinct()
            )
            rows = rows.with_columns(wave=pl.when(one).then("wave"))
        return rows

    def _avoid_scans(self) -> None:
        """Keep the planner to the target's indexes: for all of a small batch, and for every merge."""
        if not self.avoiding and self.session.backend.avoid_scans:
            self.session.execute(self.session.backend.avoid_scans)
            self.avoiding = True

    # -- dedupe --

    def _compare(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add ``mask``: -1 for a row that is new, 0 for one that changes nothing, else what differs."""
        if self.first:
            return rows.with_columns(mask=pl.lit(-1, dtype=pl.Int64))
        if self.inserts:
            taken = dedupe.taken(self.session, self.wire)
            self._refuse_taken(taken)
            return rows.with_columns(mask=pl.col("_row").is_in(taken.implode()).cast(pl.Int64) - 1)
        return dedupe.changes(self.session, self.wire, rows, self.columns.compare)

    def _refuse_taken(self, rows: pl.Series) -> None:
        """Account for inserts whose key exists in the table."""
        if self.ignores:
            self.verdict.set(rows, "ignored")
        elif len(rows):
            self.verdict.reject(constraints.key_failures(self.wire, self.frame, rows))

    def _candidates(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Select the rows that may be written; a key with one changed row keeps all of its rows."""
        moves = pl.col("mask") != 0
        masks = set(rows["mask"].unique())
        self.moved = masks - {0}
        if 0 not in masks:
            return rows
        return rows.filter(moves.any().over(self.key) if self.repeats and not self.inserts else moves)

    def _left_out_of_checks(self) -> list[str]:
        """Name the checked columns that an upsert leaves alone: there, what stands in the table counts."""
        contract = self.call.contract
        checked = {name for key in contract.unique for name in key} | {
            name for r in contract.references for name in r.columns
        }
        untouched = checked - {*contract.key, *self.columns.update}
        some_exist = self.moved != {-1} and not self.inserts
        return [name for name in contract.column_names if name in untouched] if some_exist else []

    # -- check and merge --

    def _check_and_merge(self, candidates: pl.DataFrame) -> tuple[Settled, pl.DataFrame]:
        """Check what may be written, and write it; stage again where that makes the work smaller."""
        if not candidates.height:
            return Settled(), self._predicted(candidates)
        # An upsert passes over rows that change nothing, so few of them may stay; an insert must not meet
        # the rows that are taken.
        enough = candidates.height if self.inserts else 2 * candidates.height
        if enough < (self.staged or 0):
            self._stage(self._in_waves(candidates, Settled()))
        with self.clock.phase("merge", candidates.height):
            settled = self._check(candidates)
            final = self._in_waves(candidates, settled).filter(pl.col("wave").is_not_null())
            if self.refused:
                return settled, self._predicted(final)
            if settled:
                self._stage(final)
            return settled, self._merge(self._moving(final, settled), settled)

    def _moving(self, final: pl.DataFrame, settled: Settled) -> pl.DataFrame:
        """Leave out rows that will change nothing; in a key with several waves, each may."""
        moves = pl.col("mask") != 0
        return final.filter(moves | (pl.col("wave").max().over(self.key) > 0) if settled.waves else moves)

    def _check(self, candidates: pl.DataFrame) -> Settled:
        """Ask for missing parents and competing rows until nothing new is refused."""
        contract = self.call.contract
        holders = {unique: self._holders(unique) for unique in contract.unique}
        missing = {r: constraints.missing_parents(self.session, self.wire, r) for r in contract.references}
        orphans: dict[Reference, set[int]] = {reference: set() for reference in contract.references}
        while True:
            lost = set().union(*orphans.values())
            rows = without(candidates, lost)
            if self._find_orphans(rows, missing, orphans):
                continue
            settled = constraints.settle(
                self.wire, candidates, holders, lost, inserts=self.inserts, ignore=self.ignores
            )
            # Only when no other row is missing its parent is a refusal final, and its children orphans.
            if not self._find_orphans(without(rows, settled.gone), missing, orphans):
                break
        self._reject(settled, orphans)
        return settled

    def _find_orphans(
        self, rows: pl.DataFrame, missing: dict[Reference, pl.DataFrame], orphans: dict[Reference, set[int]]
    ) -> bool:
        """Add the rows whose parent is neither in the table nor among the rows; tell whether any are new."""
        before = sum(map(len, orphans.values()))
        for reference, values in missing.items():
            orphans[reference].update(constraints.orphans(self.wire, rows, values, reference))
        return sum(map(len, orphans.values())) > before

    def _reject(self, settled: Settled, orphans: dict[Reference, set[int]]) -> None:
        """Write down every row that is refused; one that is ignored is not asked for its parent."""
        for reference, found in orphans.items():
            numbers = sorted(found.difference(settled.ignored))
            settled.orphans += numbers
            if numbers:
                rows = pl.Series(numbers, dtype=pl.Int64)
                self.verdict.reject(constraints.orphan_failures(self.frame, rows, reference))
        for found_failures in constraints.unique_failures(self.wire, self.frame, settled):
            self.verdict.reject(found_failures)

    def _holders(self, unique: tuple[str, ...]) -> pl.DataFrame:
        """Ask who holds a unique value that the batch claims, unless it claims no value anew."""
        names = list(dict.fromkeys([*self.call.contract.key, *unique]))
        if self.first or not self._moves(unique):
            return pl.DataFrame(schema={self.wire.short[n]: self.wire.codecs[n].wire for n in names})
        return self.wire.fetch(self.session, constraints.holders_sql(self.wire, unique), names)

    def _moves(self, names: Sequence[str]) -> bool:
        """Tell whether some row is new, or changes one of some columns."""
        compare = self.columns.compare
        bits = sum({dedupe.bit(compare.index(name)) for name in names if name in compare})
        return any(mask == -1 or mask & bits for mask in self.moved)

    def _differs(self, name: str) -> bool:
        """Tell whether some existing row takes another value in a compared column."""
        value = dedupe.bit(self.columns.compare.index(name))
        return any(mask > 0 and mask & value for mask in self.moved)

    def _merge(self, final: pl.DataFrame, settled: Settled) -> pl.DataFrame:
        """Apply the staged rows, wave by wave; mostly there is one."""
        backend, columns = self.session.backend, self.columns
        if not backend.concurrent and not settled.waves:
            # Nobody else can change a row meanwhile: leaving equal columns alone spares their indexes.
            known = self.columns.compare
            update = [name for name in columns.update if name not in known or self._differs(name)]
            columns = Columns(update, columns.compare)
        done = [self._predicted(final.clear())]
        self._avoid_scans()
        for wave in final["wave"].unique().sort():
            parts = merge_parts(self.wire, backend, columns, wave)
            statement = insert_sql(parts, ignore=self.ignores) if self.inserts else backend.merge(parts)
            done.append(
                apply_wave(
                    self.session, self.wire, statement, final.filter(wave=wave), only=not settled.waves
                )
            )
        return pl.concat(done)

    def _predicted(self, final: pl.DataFrame) -> pl.DataFrame:
        """Say what a merge would do, where none is run."""
        return final.filter(pl.col("mask") != 0).select("_row", inserted=pl.col("mask") == -1)

    # -- report --

    def _account(
        self, rows: pl.DataFrame, candidates: pl.DataFrame, settled: Settled, written: pl.DataFrame
    ) -> None:
        """Give every accepted row its outcome, from what the database wrote."""
        self.verdict.set(pl.Series(settled.ignored, dtype=pl.Int64), "ignored")
        last = rows.filter(self.verdict.outcomes.gather(rows["_row"]).is_null())
        if self.repeats:
            is_last = last.select(pl.struct(self.key).is_last_distinct()).to_series()
            self.verdict.set(last.filter(~is_last)["_row"], "duplicate")
            last = last.filter(is_last)
        self.verdict.set(last["_row"], "ignored" if self.inserts else "unchanged")
        if settled.waves:
            written = self._by_last_row(candidates, last, written)
        for inserted, outcome in ((True, "inserted"), (False, "updated")):
            self.verdict.set(written.filter(inserted=inserted)["_row"], outcome)

    def _by_last_row(
        self, candidates: pl.DataFrame, last: pl.DataFrame, written: pl.DataFrame
    ) -> pl.DataFrame:
        """Sum up the waves of a key on its last row; one that ended where it began is unchanged."""
        keys = candidates.join(written, on="_row").group_by(self.key).agg(pl.col("inserted").any())
        ended = last.join(keys, on=self.key, how="inner")
        return ended.filter((pl.col("mask") != 0) | pl.col("inserted")).select("_row", "inserted")


def without(rows: pl.DataFrame, numbers: Collection[int]) -> pl.DataFrame:
    """Leave rows out.

    Args:
        rows: with ``_row``.
        numbers: the rows to leave out.

    Returns:
        The others.

    Example:
        >>> without(pl.DataFrame({"_row": [0, 1, 2]}), {1})["_row"].to_list()
        [0, 2]
    """
    return rows.filter(~pl.col("_row").is_in(list(numbers))) if numbers else rows
