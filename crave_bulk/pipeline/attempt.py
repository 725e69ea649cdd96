"""One attempt at one batch, in an open transaction: the steps share what they learn of the rows."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from crave_bulk.errors import ConstraintViolated, ContractError, DatabaseError
from crave_bulk.pipeline import combine, conditional, dedupe, reasons, resolve
from crave_bulk.pipeline.accounts import Accounts
from crave_bulk.pipeline.checks import Checks
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.combine import VALUE
from crave_bulk.pipeline.constraints import Settled, key_values
from crave_bulk.pipeline.images import Expected
from crave_bulk.pipeline.job import Job, Others
from crave_bulk.pipeline.stage import STAGE, without
from crave_bulk.pipeline.staging import Staging
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.work import Turn
from crave_bulk.pipeline.write import Raced, Writer
from crave_bulk.sql import quote_all


class Attempt:
    """The steps of one attempt."""

    def __init__(self, turn: Turn, job: Job, verdict: Verdict, clock: Clock) -> None:
        self.job, self.verdict, self.clock = job, verdict, clock
        self.turn, session = turn, turn.session
        self.session = session
        self.images = turn.images(job.wire)
        verdict.changes = self.images.changes if self.images else []
        self._held: pl.DataFrame | None = (
            None  # the rows that may be changed, as the comparison has read them
        )
        self.wire = job.wire
        self.key = job.wire.shorts(job.wire.contract.key)
        self.inserts = job.kind == "insert"
        self.made = pl.Series([], dtype=pl.Int64)  # the rows whose keys the database made
        self.repeats = False  # some key is in the batch more than once
        self.staging = Staging(session, clock, self.key)
        self.accounts = Accounts(session, job, verdict)
        facts = session.fetch(
            f"SELECT EXISTS (SELECT 1 FROM {self.wire.target}) AS some, {session.backend.facts(self.wire.contract)}"
        )
        self.exact = bool(facts["exact"][0])
        self.first = not facts["some"][0]  # the target is empty: there is nothing to compare with
        self.writer = Writer(
            session,
            job.wire,
            job.kind,
            job.columns,
            ignores=job.ignores,
            watched=bool(facts["watched"][0]),
            check_now=session.backend.check_now if facts["deferred"][0] and not turn.joined else None,
            last=turn.last,
        )
        self.accounts.watched = self.writer.watched
        self.checks = Checks(
            session,
            job.wire,
            job.columns.compare,
            job.kind,
            job.ignores,
            joined=turn.joined,
            alone=job.alone,
        )

    def run(self) -> None:
        """Stage, compare, check and merge, and say what became of each row."""
        late = self._delete_others(self.job.others) if self.job.others else False
        with self.clock.phase("stage", self.job.frame.height):
            accepted = self.verdict.outcomes.is_null()
            rows = self.wire.encode(self.job.frame, None if accepted.all() else accepted)
        rows = self._identify(rows)
        pending, replayed = [rows], rows.select("_row", *self.key).clear()
        while pending:
            rows = pending.pop(0)
            if not rows.height:
                continue
            self.repeats = rows.select(pl.struct(self.key).n_unique()).item() < rows.height
            again = self._apply(rows)
            replayed = pl.concat([replayed, *(part.select(replayed.columns) for part in again)])
            pending = again + pending
            self.first, self.made = False, self.made.clear()  # what was made may be written by now
        self.accounts.sum_up(replayed)
        if late and self.job.others:
            self._delete_others(self.job.others, late=True)
        self.staging.close()

    def _delete_others(self, others: Others, *, late: bool = False) -> bool:
        """Delete what is not in the frame: before the writes, which may take over its unique values.

        Where what goes is still referred to, it goes after them, as they may point elsewhere; tell whether
        that is to come.
        """
        key = self.wire.contract.key
        no_key = [f.filter(pl.col("column").is_in(key))["row"] for f in self.verdict.failures]
        rows = pl.Series(range(self.job.frame.height), dtype=pl.Int64)
        valid = ~rows.is_in(pl.concat(no_key).implode()) if no_key else None
        self.staging.put(self.wire.encode(self.job.frame, valid, key))
        match = self.wire.equal(key, "t", "s")
        absent = f"NOT EXISTS (SELECT 1 FROM ({self.wire.staged(key, STAGE)}) AS s WHERE {match})"
        backend = self.session.backend
        statement = conditional.deletion(self.wire, backend, others.within, absent, hard=others.hard)
        try:
            with self.clock.phase("merge", self.job.frame.height), self.session.atomic():
                found = conditional.execute(
                    self.turn, self.wire, statement, self.images, self.staging, self.verdict
                )
        except ConstraintViolated as error:
            if late:
                raise ConstraintViolated(
                    f"rows of table {self.wire.contract.name} that are not in the frame cannot be deleted: "
                    f"{error.said}; nothing was written: delete first what refers to them, or limit the sync by within=",
                    sqlstate=error.sqlstate,
                    constraint=error.constraint,
                    said=error.said,
                ) from error
            return True
        self.verdict.deleted = found
        return False

    # -- which row is which --

    def _identify(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Give each row its key, where the frame does not say it."""
        contract, made = self.wire.contract, False
        rows = self._castable(rows)
        if self.job.on and rows.height:
            self.staging.put(rows)
            rows = resolve.by_unique(self.session, self.wire, rows, self.job.on)
        if any(contract.column(name).default_sql for name in contract.key):
            nulls = rows.select("_row", made=pl.any_horizontal(pl.col(self.key).is_null()))
            self.made = nulls.filter("made")["_row"]
            made = bool(len(self.made))
            rows = resolve.made_keys(self.session, self.wire, rows) if made else rows
        # A merge names the key of every row, also of those that exist.
        self.writer.overrides = any(contract.column(name).identity_always for name in contract.key)
        if self.job.on and rows.height:
            rows = self._own_keys(rows)
        if self.job.on or made:
            self.verdict.keys = rows.select("_row").hstack(self.wire.decode(rows, contract.key))
        if self.job.distinct:
            same = rows.filter(pl.struct(self.key).is_duplicated())["_row"]
            self.verdict.reject(reasons.repeat_failures(self.wire, self.job.frame, same))
        return self.verdict.open(rows).drop("group", strict=False)

    def _own_keys(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Refuse new rows of another unique key that bring a key which is taken."""
        self._refuse_taken(resolve.usurpers(rows, self.key))
        fresh = rows.filter(pl.col(resolve.FRESH) == 1)
        if fresh.height and not self.first:
            self.staging.put(fresh.select("_row", *self.key))
            self._refuse_taken(dedupe.taken(self.session, self.wire))
        return rows

    def _castable(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Refuse what the database cannot read as the column's type, where only it can tell."""
        names = [name for name in self.wire.contract.column_names if self.wire.codecs[name].fallible]
        if not names or not rows.height:
            return rows
        self.staging.put(rows)
        numbers = rows["_row"].to_list()
        for name in names:
            errors = self.writer.unreadable(numbers, name)
            self.verdict.reject(reasons.refusals(self.session, self.wire, self.job.frame, errors))
        return self.verdict.open(rows)

    # -- the steps --

    def _apply(self, rows: pl.DataFrame) -> list[pl.DataFrame]:
        """Apply rows, and return those that must be applied again, as what they met was refused itself."""
        gone: set[int] = set()
        while True:
            live = without(rows, gone)
            states, stale = self._combine(live)
            compared = self._stage_and_compare(states)
            candidates = self._candidates(compared)
            settled = self._check(candidates)
            refused = self._stand_without(live, settled)
            if not refused:
                break
            gone |= refused
        before = self._before(candidates)
        final = self._final(candidates, settled)
        expected = self._expect(before, final, settled)
        with self.clock.phase("merge", final.height):
            written, errors = self.writer.run(final, waves=bool(settled.waves))
            errors |= self.accounts.skipped(final, written, errors)
        self._after(before, compared, written, expected)
        again = self._again(rows, live, settled, errors)
        later = {row for part in again for row in part["_row"]}
        with self.clock.phase("report", rows.height):
            self._reject(settled.only(settled.gone - later))
            errors = {row: error for row, error in errors.items() if row not in later}
            self.verdict.reject(
                reasons.refusals(self.session, self.wire, self.job.frame, errors, self.job.kind)
            )
            self.verdict.set(stale.filter(~stale.is_in(list(later))), "stale")
            self.accounts.close(without(compared, later), candidates, settled, written, repeats=self.repeats)
        return again

    def _before(self, candidates: pl.DataFrame) -> pl.DataFrame | None:
        """Read what stands in the table for the rows that may be written, where somebody wants it."""
        if self.images is None or self._held is not None:
            return self._held
        if self.inserts or (candidates["mask"] == -1).all():
            return self.images.none()
        with self.clock.phase("ledger", candidates.height):
            try:
                return self.images.before(staged="s.wave IS NOT NULL", deletes=self.job.kind == "delete")
            except ContractError as error:
                self._unkept(error)
                return None

    def _unkept(self, error: ContractError) -> None:
        """Go on without the rows as they were, which cannot be read into a frame."""
        if self.turn.must:
            raise error
        self.verdict.unkept, self.images = str(error), None

    def _expect(self, before: pl.DataFrame | None, final: pl.DataFrame, settled: Settled) -> Expected | None:
        """Work out what stands there after the merge, where nothing but the merge can have a say in it."""
        images, columns = self.images, self.job.columns
        if images is None or before is None or not final.height or self.job.kind == "delete":
            return None
        every = len(columns.insert) == len(images.names) or not (final["mask"] == -1).any()
        if not (every and images.complete and self.exact) or settled.waves:
            return None
        return images.expect(before, final, columns.update)

    def _after(
        self,
        before: pl.DataFrame | None,
        staged: pl.DataFrame,
        written: pl.DataFrame,
        expected: Expected | None,
    ) -> None:
        """Find out what stands there now for the rows that were written.

        They may be others than were to be: a staged row that changed nothing does so where another writer
        has changed its row meanwhile.
        """
        if self.images is None or before is None:
            return
        with self.clock.phase("ledger", written.height):
            if expected is not None and self.images.known(expected, written):
                return
            rows = staged.select("_row", *self.key)
            if self.job.kind == "delete":
                # SQLite does not name the rows that went along with others before their turn came.
                gone = self.verdict.outcomes.gather(rows["_row"]).eq_missing("deleted")
                went = rows.filter(gone | rows["_row"].is_in(written["_row"].implode()))
                self.images.gone(before, went.with_columns(inserted=pl.lit(False)))
            else:
                self.images.written(before, rows.join(written, on="_row", maintain_order="left"))

    def _again(
        self,
        rows: pl.DataFrame,
        live: pl.DataFrame,
        settled: Settled,
        errors: Mapping[int, DatabaseError],
    ) -> list[pl.DataFrame]:
        """Select what the database's refusals change: it is then applied one after the other.

        Rows that were combined into a row that was refused stand for themselves now; and rows that a
        refused row stood in the way of may be free to go.
        """
        if not errors:
            return []
        refused = rows.filter(pl.col("_row").is_in(list(errors)))
        combined = live.clear()
        if self.repeats and not self.inserts:
            of_key = without(live, settled.gone).join(
                refused.select(self.key), on=self.key, how="semi", maintain_order="left"
            )
            combined = of_key.filter(pl.len().over(self.key) > 1)
        freed = rows.filter(pl.col("_row").is_in(list(settled.held_by(key_values(refused, self.key)))))
        if self.repeats:  # a row whose key was written since would take that back
            written = without(live, settled.gone).group_by(self.key).agg(since=pl.col("_row").max())
            since = freed.join(written, on=self.key, how="left", maintain_order="left")["since"]
            freed = freed.filter(since.is_null() | (since < freed["_row"]) | since.is_in(list(errors)))
        place = pl.int_range(pl.len()).over(self.key)
        parts = combined.with_columns(place=place).partition_by("place", maintain_order=True)
        # Whether such a row is new depends on those before it, so only the comparison can tell.
        names = [name for name in rows.columns if name != resolve.FRESH]
        return [part.select(names) for part in [*parts, freed] if part.height]

    def _combine(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """Give each row the state of its key after it; return the stale rows apart."""
        job, none = self.job, pl.Series([], dtype=pl.Int64)
        if not (job.looks_back or (job.rules and self.repeats)):
            return rows, none
        names = [*job.rules, *([job.newer] if job.newer else [])]
        rules = {VALUE + name: rule for name, rule in job.rules.items()}
        best = {VALUE + name: wanted for name, wanted in self.wire.contract.best.items()}
        with self.clock.phase("dedupe", rows.height):
            chosen = job.frame.select(pl.col(name).alias(VALUE + name) for name in names)
            values = rows.select("_row", *self.key).hstack(chosen[rows["_row"]])
            there = self._existing(rows, names) if job.looks_back else values.clear().drop("_row")
            if job.looks_back:
                fresh = rows.join(there, on=self.key, how="anti")["_row"]
                rows = rows.with_columns(fresh=pl.col("_row").is_in(fresh.implode()).cast(pl.Int32))
            stale = combine.stale(values, there, self.key, VALUE + job.newer) if job.newer else none
            rows, values = without(rows, set(stale)), without(values, set(stale))
            while True:
                found = combine.combine(values, there, self.key, rules, best)
                if not found.impossible.height:
                    break
                first = values.join(found.impossible, on="_row").group_by(self.key).agg(pl.col("_row").min())
                culprits = found.impossible.join(first, on="_row", how="semi", maintain_order="left")
                self.verdict.reject(reasons.impossible_failures(job, culprits))
                rows, values = self.verdict.open(rows), self.verdict.open(values)
        encoded = [
            self.wire.codecs[name].encode(pl.col(VALUE + name)).alias(self.wire.short[name])
            for name in job.rules
        ]
        return rows.with_columns(found.rows.select(encoded)), stale

    def _existing(self, rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
        """Fetch what stands in some columns of the batch's keys, and keep others from changing it."""
        key = self.wire.contract.key
        if self.first:
            held = self.wire.encode(self.job.frame.clear(), None)
        else:
            self.staging.put(rows.select("_row", *self.key))
            self.staging.avoid_scans(rows)
            lock = self.session.backend.lock_rows.format(quote_all(key, "t."))
            query = dedupe.kept_sql(self.wire, [*key, *names], lock)
            held = self.wire.fetch(self.session, query, [*key, *names])
        return held.select(self.key).hstack(self.wire.decode(held, names).rename(lambda name: VALUE + name))

    def _stage_and_compare(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add ``mask``: -1 for a row that is new, 0 for one that changes nothing, else what differs."""
        self._held = None
        if not rows.height:
            return rows.with_columns(mask=pl.lit(0, dtype=pl.Int64))
        if self.first:
            rows = rows.with_columns(mask=pl.lit(-1, dtype=pl.Int64))
        self.staging.put(self._in_waves(rows, Settled()))
        self.staging.avoid_scans(rows)
        with self.clock.phase("dedupe", rows.height):
            if not self.first:
                rows = self._compare(rows)
            if self.job.kind in ("update", "delete"):
                missing = rows.filter(mask=-1)["_row"]
                self.verdict.set(missing, "missing")
                rows = without(rows, set(missing))
        return rows

    def _compare(self, rows: pl.DataFrame) -> pl.DataFrame:
        if self.job.kind in ("insert", "delete"):
            taken = dedupe.taken(self.session, self.wire)
            there = pl.col("_row").is_in(taken.implode())
            if self.job.kind == "delete":
                return rows.with_columns(mask=pl.when(there).then(1).otherwise(-1).cast(pl.Int64))
            self._refuse_taken(taken)
            return rows.with_columns(mask=there.cast(pl.Int64) - 1)
        alive = self.wire.alive("t") if self.job.kind == "update" else "true"
        compare = self.job.columns.compare
        held = self._changes_and_held(rows, alive)
        rows = dedupe.changes(self.session, self.wire, rows, compare, alive) if held is None else held
        if len(self.made):
            # A key that was made is for a new row, even where a sequence lags behind the table.
            taken = rows.filter(pl.col("_row").is_in(self.made.implode()) & (pl.col("mask") != -1))["_row"]
            if len(taken):
                self._refuse_taken(taken)
                rows = without(rows, set(taken))
                self.staging.put(self._in_waves(rows, Settled()))
        if resolve.FRESH in rows.columns and self.session.backend.concurrent:
            # A row that was not there when its key was looked up, and is now: what was made of it did not count it.
            late = (pl.col(resolve.FRESH) == 1) & (pl.col("mask") != -1)
            if rows.select(late.any()).item():
                raise Raced
        return rows

    def _changes_and_held(self, rows: pl.DataFrame, alive: str) -> pl.DataFrame | None:
        """Read the rows that change while comparing, where nobody else writes until the merge."""
        if self.images is None or self.session.backend.concurrent:
            return None
        try:
            rows, self._held = dedupe.changes_and_held(
                self.session, self.wire, rows, self.job.columns.compare, alive, self.images.wire
            )
        except ContractError as error:
            self._unkept(error)
            return None
        return rows

    def _refuse_taken(self, rows: pl.Series) -> None:
        """Account for new rows whose key exists in the table."""
        if self.job.ignores:
            self.verdict.set(rows, "ignored")
        elif len(rows):
            self.verdict.reject(reasons.key_failures(self.wire, self.job.frame, rows))

    def _candidates(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Select the rows that may be written; a key with one changed row keeps all of its rows."""
        moves = pl.col("mask") != 0
        masks = set(rows["mask"].unique())
        self.checks.moved = masks - {0}
        if 0 in masks:
            rows = rows.filter(moves.any().over(self.key) if self.repeats and not self.inserts else moves)
        left_out = self.checks.left_out() if rows.height else []
        if left_out:
            with self.clock.phase("dedupe", rows.height):
                rows = dedupe.kept(self.session, self.wire, rows, left_out)
            self.staging.put(self._in_waves(rows, Settled()))
        return rows

    def _check(self, candidates: pl.DataFrame) -> Settled:
        """Check what may be written; stage again where that makes the work smaller."""
        if not candidates.height:
            return Settled()
        # A merge passes over rows that change nothing, so few of them may stay; an insert must not meet
        # the rows that are taken.
        enough = candidates.height if self.inserts else 2 * candidates.height
        if enough < (self.staging.rows or 0):
            self.staging.put(self._in_waves(candidates, Settled()))
        with self.clock.phase("merge", candidates.height):
            if self.job.kind == "delete":
                return self.checks.dependents()
            return self.checks.run(candidates, first=self.first)

    def _stand_without(self, rows: pl.DataFrame, settled: Settled) -> set[int]:
        """Refuse the first row of each key that is refused, where its other rows were combined with it."""
        if not (self.repeats and settled.gone and (self.job.rules or self.job.newer)):
            return set()
        gone = pl.DataFrame({"_row": sorted(settled.gone)}, schema={"_row": pl.Int64})
        of_key = rows.select("_row", *self.key).join(gone.select("_row", gone=True), on="_row", how="left")
        several = of_key.filter(pl.len().over(self.key) > 1).filter("gone")
        refused = set(several.select(pl.col("_row").min().over(self.key)).to_series())
        if refused:
            self._reject(settled.only(refused))
        return refused

    def _reject(self, settled: Settled) -> None:
        """Write down every row that is refused, and every one that is ignored."""
        for found in reasons.settled_failures(self.wire, self.job.frame, settled):
            self.verdict.reject(found)
        self.verdict.set(pl.Series(settled.ignored, dtype=pl.Int64), "ignored")

    def _final(self, candidates: pl.DataFrame, settled: Settled) -> pl.DataFrame:
        """Stage what is to be written, and select it: the last row of each key and wave, if it changes anything."""
        final = self._in_waves(candidates, settled).filter(pl.col("wave").is_not_null())
        if settled and final.height:
            # What stays is staged already, unless rows wait for others or stand in for those that are gone.
            if settled.waves or self.repeats:
                self.staging.put(final)
            else:
                self.staging.take_out(settled.gone, final)
        if final.height:
            self.staging.avoid_scans()
        moves = pl.col("mask") != 0
        return final.filter(moves | (pl.col("wave").max().over(self.key) > 0) if settled.waves else moves)

    # -- stage --

    def _in_waves(self, rows: pl.DataFrame, settled: Settled) -> pl.DataFrame:
        """Combine rows of one key: in each wave the last one stands, of an insert the first.

        The other rows have no wave: they are staged to be checked, as what a key holds in between
        matters to unique keys, and are not written.
        """
        wave = pl.lit(0, dtype=pl.Int32)
        if settled.waves:
            wave = pl.col("_row").replace_strict(settled.waves, default=0, return_dtype=pl.Int32)
        rows = without(rows.with_columns(wave=wave), settled.gone)
        if self.repeats:
            one = (
                pl.struct(self.key).is_first_distinct()
                if self.inserts
                else pl.struct(*self.key, "wave").is_last_distinct()
            )
            rows = rows.with_columns(wave=pl.when(one).then("wave"))
        if settled.waves and resolve.FRESH in rows.columns:
            later = pl.col("wave") > pl.col("wave").min().over(self.key)  # an earlier wave has made the row
            rows = rows.with_columns(pl.when(later).then(0).otherwise(resolve.FRESH).alias(resolve.FRESH))
        return rows
