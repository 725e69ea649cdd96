"""Run the steps of one batch in order, in one transaction, and account for every row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from crave_bulk import failures
from crave_bulk.errors import ConstraintViolated, RejectedRows
from crave_bulk.pipeline import constraints
from crave_bulk.pipeline.constraints import Settled
from crave_bulk.pipeline.dedupe import classify
from crave_bulk.pipeline.intake import Intake, fit, new_uuids, to_polars
from crave_bulk.pipeline.merge import Columns, apply_wave, columns_to_write, insert_sql, merge_parts
from crave_bulk.pipeline.stage import KEYS, STAGE, Wire, staged
from crave_bulk.pipeline.validate import validate
from crave_bulk.report import OUTCOME, PHASES, Report
from crave_bulk.session import Session
from crave_bulk.table import Contract

Verb = Literal["insert", "upsert"]
OnConflict = Literal["error", "ignore"]
OnReject = Literal["raise", "keep"]

_ATTEMPTS = (
    3  # another writer can take a key between the check and the merge; then everything is checked again
)


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller asked for."""

    verb: Verb
    contract: Contract
    on_conflict: OnConflict = "error"
    on_reject: OnReject = "raise"


class _Clock:
    """Seconds and rows by phase; a phase within a phase counts for itself alone."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._rows: dict[str, int] = {}
        self._inner = [0.0]

    @contextmanager
    def phase(self, name: str, rows: int) -> Iterator[None]:
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self._seconds[name] = self._seconds.get(name, 0.0) + spent - self._inner.pop()
            self._rows[name] = rows
            self._inner[-1] += spent

    def frame(self) -> pl.DataFrame:
        names = [name for name in PHASES if name in self._seconds]
        return pl.DataFrame(
            {
                "batch": [1] * len(names),
                "phase": names,
                "seconds": [self._seconds[name] for name in names],
                "rows": [self._rows[name] for name in names],
            },
            schema={"batch": pl.Int64, "phase": pl.String, "seconds": pl.Float64, "rows": pl.Int64},
        )


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
    start, clock = time.perf_counter(), _Clock()
    frame = to_polars(source)
    with clock.phase("validate", frame.height):
        intake = fit(call.contract, frame)
        checked = validate(call.contract, wire.codecs, intake.frame)
    with open_session() as session:
        verdict, refused = _write(session, wire, call, intake, checked.frame, checked.failures, clock)
    with clock.phase("report", frame.height):
        report = Report(
            verb=call.verb,
            table=str(call.contract.name),
            batch_id=new_uuids(1)[0],
            committed=not refused,
            key=call.contract.key,
            source=frame,
            frame=checked.frame,
            outcomes_by_row=verdict.outcomes,
            failures=failures.gather(verdict.failures),
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
    clock: _Clock,
) -> tuple[_Verdict, bool]:
    """Run the transaction, again where another writer came in between; tell whether it was refused."""
    columns = columns_to_write(call.contract, intake) if call.verb == "upsert" else Columns([], [])
    for attempt in range(1, _ATTEMPTS + 1):
        verdict = _Verdict(pl.repeat(None, frame.height, dtype=OUTCOME, eager=True), [])
        verdict.reject(invalid)
        batch = _Batch(session, wire, call, columns, frame, verdict, clock)
        try:
            with clock.phase("merge", frame.height), session.atomic():
                batch.run()
                if call.on_reject == "raise" and any(part.height for part in verdict.failures):
                    raise _Refused
        except _Refused:
            return verdict, True
        except ConstraintViolated:
            if not session.backend.concurrent or attempt == _ATTEMPTS:
                raise
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
        clock: _Clock,
    ) -> None:
        self.session, self.wire, self.call, self.columns = session, wire, call, columns
        self.frame, self.verdict, self.clock = frame, verdict, clock
        self.key = wire.shorts(call.contract.key)
        self.inserts = call.verb == "insert"

    def run(self) -> None:
        """Dedupe, stage, check and merge, unless a refusal has settled the batch already."""
        accepted = self.verdict.outcomes.is_null()
        with self.clock.phase("dedupe", int(accepted.sum())):
            rows = self.wire.encode(self.frame, None if accepted.all() else accepted)
            target_is_empty = self._target_is_empty()
            rows = self._classify(rows, rows.clear() if target_is_empty else self._existing(rows))
            candidates = self._candidates(rows)
            final = self._final(candidates, Settled())
        settled, written = self._stage_and_merge(candidates, final, target_is_empty)
        with self.clock.phase("report", rows.height):
            self._account(rows, settled, written)

    @property
    def _refused(self) -> bool:
        """Whether nothing will be written, because some row is refused."""
        return self.call.on_reject == "raise" and any(part.height for part in self.verdict.failures)

    # -- dedupe --

    def _target_is_empty(self) -> bool:
        """Ask whether there are rows at all: a first load then needs no comparison."""
        some = self.session.fetch(f"SELECT EXISTS (SELECT 1 FROM {self.wire.target}) AS some")
        return not some.item()

    def _existing(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Fetch the rows that exist for the batch's keys: by key, through a temporary table of keys."""
        contract, wire = self.call.contract, self.wire
        unique = [name for key in contract.unique for name in key]
        names = list(dict.fromkeys([*contract.key, *self.columns.compare, *([] if self.inserts else unique)]))
        with staged(self.session, KEYS, rows.select(self.key).unique()):
            found = self.session.fetch(
                f"SELECT {wire.read(names)} FROM {wire.target} AS t\n"
                f"JOIN ({wire.staged(contract.key, KEYS)}) AS s ON {wire.equal(contract.key, 't', 's')}"
            )
        return wire.from_wire(found, names)

    def _classify(self, rows: pl.DataFrame, existing: pl.DataFrame) -> pl.DataFrame:
        unique = [] if self.inserts else [name for key in self.call.contract.unique for name in key]
        return classify(
            rows, existing, self.key, self.wire.shorts(self.columns.compare), self.wire.shorts(unique)
        )

    def _candidates(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Select the rows that may have to be written; others end here, as unchanged or as taken."""
        if self.inserts:
            self._taken(rows.filter("present")["_row"])
            return rows.filter(~pl.col("present"))
        differs = pl.col("differs")
        # A key with one changed row keeps them all: what they hold in between matters to unique keys.
        return rows.filter(differs if not self._repeats(rows) else differs.any().over(self.key))

    def _repeats(self, rows: pl.DataFrame) -> bool:
        return int(rows.select(pl.struct(self.key).n_unique()).item()) < rows.height

    def _final(self, candidates: pl.DataFrame, settled: Settled) -> pl.DataFrame:
        """Combine rows of the same key: the last one stands, in each wave."""
        gone = [*settled.refused, *settled.ignored, *settled.orphans]
        waves = pl.lit(0, dtype=pl.Int32)
        if settled.waves:
            waves = pl.col("_row").replace_strict(settled.waves, default=0, return_dtype=pl.Int32)
        rows = candidates.with_columns(wave=waves)
        if gone:
            rows = rows.filter(~pl.col("_row").is_in(gone))
        if self.inserts:
            return rows.filter(pl.struct(self.key).is_first_distinct()) if self._repeats(rows) else rows
        if self._repeats(rows):
            rows = rows.filter(pl.struct(*self.key, "wave").is_last_distinct())
        moves = pl.col("wave").max().over(self.key) > 0 if settled.waves else False
        return rows.filter(pl.col("differs") | moves)

    # -- stage, check, merge --

    def _stage_and_merge(
        self, candidates: pl.DataFrame, final: pl.DataFrame, target_is_empty: bool
    ) -> tuple[Settled, pl.DataFrame]:
        """Stage what may be written, check it there, and merge; stage again if a check changed it."""
        settled = Settled()
        to_check = self._needs_checks(candidates, final)
        if not candidates.height:
            return settled, self._predicted(final)
        with self._staged(candidates if to_check else final, final):
            if to_check:
                with self.clock.phase("merge", candidates.height):
                    settled = self._check(candidates, target_is_empty)
            if not settled and not self._refused:
                return settled, self._merge(final)
        final = self._final(candidates, settled)
        if self._refused:
            return settled, self._predicted(final)
        with self._staged(final, final):
            return settled, self._merge(final)

    def _needs_checks(self, candidates: pl.DataFrame, final: pl.DataFrame) -> bool:
        contract = self.call.contract
        return bool(contract.unique or contract.references) or (
            self.inserts and final.height < candidates.height
        )

    @contextmanager
    def _staged(self, rows: pl.DataFrame, final: pl.DataFrame) -> Iterator[None]:
        """Stage rows in key order, so that concurrent loads of the same keys meet them alike."""
        with self.clock.phase("stage", rows.height):
            if rows.height != final.height:
                waves = final.select("_row", "wave")
                rows = rows.join(waves, on="_row", how="left", maintain_order="left")
            else:
                rows = final
            self.session.ingest(STAGE, rows.drop("present", "differs").sort(self.key))
        yield
        self.session.execute(f"DROP TABLE {STAGE}")

    def _check(self, candidates: pl.DataFrame, target_is_empty: bool) -> Settled:
        """Ask for missing parents and competing rows until nothing new is refused."""
        contract, orphans = self.call.contract, set[int]()
        holders = {unique: self._holders(unique, target_is_empty) for unique in contract.unique}
        missing = {r: constraints.missing_parents(self.session, self.wire, r) for r in contract.references}
        while True:
            rows = candidates.filter(~pl.col("_row").is_in(list(orphans))) if orphans else candidates
            settled = constraints.settle(
                self.wire, rows, holders, inserts=self.inserts, ignore=self.call.on_conflict == "ignore"
            )
            standing = (
                rows.filter(~pl.col("_row").is_in([*settled.refused, *settled.ignored])) if settled else rows
            )
            found = {r: constraints.orphans(self.wire, standing, values, r) for r, values in missing.items()}
            if not any(map(len, found.values())):
                break
            for reference, numbers in found.items():
                orphans.update(numbers)
                self.verdict.reject(constraints.orphan_failures(self.frame, numbers, reference))
        settled.orphans = sorted(orphans)
        for found_failures in constraints.unique_failures(self.wire, self.frame, settled):
            self.verdict.reject(found_failures)
        return settled

    def _holders(self, unique: tuple[str, ...], target_is_empty: bool) -> pl.DataFrame:
        names = list(dict.fromkeys([*self.call.contract.key, *unique]))
        if target_is_empty:
            return pl.DataFrame(schema={self.wire.short[n]: self.wire.codecs[n].wire for n in names})
        return self.wire.from_wire(self.session.fetch(constraints.holders_sql(self.wire, unique)), names)

    def _merge(self, final: pl.DataFrame) -> pl.DataFrame:
        """Apply the staged rows, wave by wave; mostly there is one."""
        with self.clock.phase("merge", final.height):
            done = []
            for wave in range(int(final["wave"].max() or 0) + 1) if final.height else ():  # type: ignore[arg-type]
                parts = merge_parts(self.wire, self.columns, wave)
                ignore = self.call.on_conflict == "ignore"
                statement = (
                    insert_sql(parts, ignore=ignore) if self.inserts else self.session.backend.merge(parts)
                )
                done.append(apply_wave(self.session, self.wire, statement))
            return pl.concat(done) if done else self._predicted(final)

    def _predicted(self, final: pl.DataFrame) -> pl.DataFrame:
        """Say what a merge would do, where none is run."""
        return final.select(*self.key, inserted=~pl.col("present"))

    # -- report --

    def _taken(self, rows: pl.Series) -> None:
        """Account for inserts whose key exists in the table."""
        if self.call.on_conflict == "ignore":
            self.verdict.set(rows, "ignored")
        elif len(rows):
            self.verdict.reject(constraints.key_failures(self.wire, self.frame, rows))

    def _account(self, rows: pl.DataFrame, settled: Settled, written: pl.DataFrame) -> None:
        """Give every accepted row its outcome, from what the database wrote."""
        self.verdict.set(pl.Series(settled.ignored, dtype=pl.Int64), "ignored")
        open_rows = rows.filter(self.verdict.outcomes.gather(rows["_row"]).is_null())
        if self._repeats(open_rows):
            last = open_rows.select(pl.struct(self.key).is_last_distinct()).to_series()
            self.verdict.set(open_rows.filter(~last)["_row"], "duplicate")
            open_rows = open_rows.filter(last)
        by_key = written.group_by(self.key).agg(pl.col("inserted").max()) if settled.waves else written
        ended = open_rows.join(
            by_key.with_columns(written=True), on=self.key, how="left", maintain_order="left"
        )
        self.verdict.set(ended["_row"], ended.select(self._outcome()).to_series())

    def _outcome(self) -> pl.Expr:
        """Read the outcome of a key's last row; SQLite leaves ``inserted`` to the lock-protected check."""
        inserted = pl.coalesce("inserted", ~pl.col("present"))
        changed = pl.when(inserted).then(pl.lit("inserted")).when("differs").then(pl.lit("updated"))
        untouched = pl.lit("ignored" if self.inserts else "unchanged")
        return (
            pl.when("written").then(changed.otherwise(pl.lit("unchanged"))).otherwise(untouched).cast(OUTCOME)
        )
