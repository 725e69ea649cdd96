"""One attempt at one batch, in an open transaction: the steps share what they learn of the rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import polars as pl

from crave_bulk.errors import ContractError, DatabaseError
from crave_bulk.pipeline import combine, dedupe, defaults, inheritance, reasons, resolve
from crave_bulk.pipeline.absent import AbsentRows
from crave_bulk.pipeline.accounts import Accounts
from crave_bulk.pipeline.checks import Checks
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.combine import VALUE
from crave_bulk.pipeline.constraints import Settled
from crave_bulk.pipeline.facts import facts_of
from crave_bulk.pipeline.images import Expected
from crave_bulk.pipeline.interplay import Interplay
from crave_bulk.pipeline.job import Job, Others
from crave_bulk.pipeline.narrower import narrowed
from crave_bulk.pipeline.orphaned import orphaned_note
from crave_bulk.pipeline.pointers import Pointed
from crave_bulk.pipeline.stage import STAGE, with_keys, without
from crave_bulk.pipeline.staging import Staging
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.work import Turn
from crave_bulk.pipeline.write import Raced, Unordered, Writer
from crave_bulk.sql import TRUE, quote_all
from crave_bulk.table import Reference

_PASSES = 20  # then the rows whose outcomes depend on each other are applied one after the other


@dataclass(slots=True)
class Refused:
    """What one pass over the rows has refused.

    Attributes:
        failures: one line per row and rule.
        ignored: rows whose key was taken, where that is no error.
        because: a row that was refused for its key → the row that has the key.
        impossible: the rows that could not be combined with those before them.
        unsure: rows that were left aside, as what they mean depends on a row that was refused.
    """

    failures: list[pl.DataFrame] = field(default_factory=list)
    ignored: set[int] = field(default_factory=set)
    because: dict[int, int] = field(default_factory=dict)
    impossible: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)

    @property
    def rows(self) -> set[int]:
        """The numbers of all that will not be written."""
        return self.ignored.union(*(found["row"] for found in self.failures))


class _Again(Exception):
    """The rows are to be applied anew, without some that are refused whatever becomes of the others.

    Attributes:
        refused: what the pass has refused.
        without: the numbers of those rows.
        tried: the database was asked to write the others, and so they are refused for good.
    """

    def __init__(self, refused: Refused, without: Collection[int], *, tried: bool = False) -> None:
        super().__init__("other rows depended on a row that was refused")
        self.refused, self.without, self.tried = refused, without, tried


class _Rekeyed(Exception):
    """The rows are to be applied anew, some of them under the keys that a trigger gives them.

    Attributes:
        keys: ``_row`` and the short columns of those keys.
    """

    def __init__(self, keys: pl.DataFrame) -> None:
        super().__init__("a trigger gives rows the keys of others")
        self.keys = keys


class _OneByOne(Exception):
    """Some rows are to be applied one after the other, when the others are written.

    Attributes:
        rows: their numbers.
    """

    def __init__(self, rows: set[int]) -> None:
        super().__init__("what becomes of some rows shows only if they are written one after the other")
        self.rows = rows


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
        self._renamed: list[pl.DataFrame] = []  # what keys they have then
        self._rekeyed: set[int] = set()  # the rows that a trigger has moved onto others
        self._groups = pl.DataFrame()  # what rows that are matched by another key have in common
        self._views: list[pl.DataFrame] = []  # the rows of a pass, as they came and as they turned out to be
        self._passes = 0  # over the same rows
        self._rows = pl.DataFrame()  # all that are not done, as they came
        self._aside: list[tuple[Refused, set[int]]] = []  # what was refused in earlier passes over them
        self._known: list[pl.DataFrame] = []  # the key of each row that is done
        self._apart: set[int] = set()  # the rows that are written one after the other
        self._standing: list[pl.DataFrame] = []  # what there was of their keys
        self.staging = Staging(session, clock, self.key)
        self.accounts = Accounts(session, job, verdict)
        facts = facts_of(session, job.wire)
        self.exact = facts.exact
        self._inherited = facts.inherited
        self._followed = facts.followed
        if not self.exact:
            self.wire = narrowed(session, self.wire)
        self.first = not facts.some  # the target is empty: there is nothing to compare with
        self.writer = Writer(
            session,
            self.wire,
            job.kind,
            job.columns,
            ignores=job.ignores,
            watched=facts.watched,
            triggered=facts.triggered,
            check_now=session.backend.check_now if facts.deferred and not turn.joined else None,
            last=turn.last,
            strict=facts.strict,
            revives=job.revives,
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
            spares=job.spares,
            unordered=job.others is not None,
            blind=facts.blind,
        )

    def run(self) -> None:
        """Stage, compare, check and merge, and say what became of each row."""
        spelt = self._as_spelt()
        if spelt is not None:
            Attempt(self.turn, spelt, self.verdict, self.clock).run()
            return
        absent = self._absent(self.job.others) if self.job.others else None
        with self.clock.phase("stage", self.job.frame.height):
            accepted = self.verdict.outcomes.is_null()
            rows = self.wire.encode(self.job.frame, None if accepted.all() else accepted)
        if self.job.renamed is not None:
            rows = with_keys(rows, self.job.renamed, self.key)
            self._note_keys(self.job.renamed)
        rows = self._distinct(self._castable(rows))
        self._apply_all(rows)
        while absent:
            self.staging.close()
            absent.must_not_hold(self._renamed)
            if not (absent.delete_the_rest() and self.verdict.reopen()):
                break
            self._apply_all(rows)  # which may point elsewhere now, so that more of the others can go
        if self._apart:
            self.accounts.sum_up(pl.concat(self._known), self._apart, self._unmoved())
        self.staging.close()

    def _as_spelt(self) -> Job | None:
        """Find the keys that others have written in other forms, and do the job under those; None if there are none."""
        wire, job = self.wire, self.job
        accepted = self.verdict.outcomes.is_null()
        if self.first or not accepted.any():
            return None
        matched = job.on or wire.contract.key
        if not any(wire.codecs[name].spellings for name in matched):
            return None
        with self.clock.phase("dedupe", job.frame.height):
            self.staging.put(wire.encode(job.frame, accepted, dict.fromkeys([*wire.contract.key, *matched])))
            found = dedupe.spelt(self.session, wire, matched)
            self.staging.drop()
        if not found.height:
            return None
        if job.on:
            raise ContractError(
                f"table {wire.contract.name} has a row with {', '.join(matched)} = {', '.join(map(str, found.row(0)[1:]))}, which "
                "another program wrote in another form than crave_bulk, so that it would not be found by on=: match the "
                "rows by the key of the table; nothing was written"
            )
        return replace(job, wire=wire.as_spelt(), renamed=found)

    def _absent(self, others: Others) -> AbsentRows:
        """Delete what is not in the frame, as far as it may go before the frame is written."""

        def run(job: Job, verdict: Verdict) -> None:
            Attempt(self.turn, job, verdict, self.clock).run()

        absent = AbsentRows(self.session, self.job, others, self.verdict, run)
        absent.find(self.staging, watched=self.writer.watched)
        absent.delete_what_may_go()
        return absent

    def _stand_apart(self, rows: pl.DataFrame, apart: set[int]) -> None:
        """Note the rows that will be written one after the other, and what there is of their keys before."""
        self._apart |= apart
        rows = self._identify(rows, Refused())
        self._standing.append(self._stored(rows.select("_row", *self.key)))

    def _unmoved(self) -> pl.DataFrame:
        """Select the keys whose rows are as they were, after all."""
        there = pl.concat(self._standing).unique(self.key, keep="first")
        now = self._stored(there.select(self.key).with_row_index("_row"))
        return now.join(there, on=now.columns, how="semi", nulls_equal=True).select(self.key)

    def _stored(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Read what stands under some keys."""
        self.staging.put(keys)
        names = [*self.wire.contract.key, *self.job.columns.compare]
        return self.wire.fetch(self.session, dedupe.kept_sql(self.wire, names), names)

    # -- which row is which --

    def _identify(self, rows: pl.DataFrame, refused: Refused) -> pl.DataFrame:
        """Give each row its key, where the frame does not say it."""
        contract, on = self.wire.contract, self.job.on
        self.made = self.made.clear()
        if on:
            self.staging.put(rows)
            rows = resolve.by_unique(self.session, self.wire, rows, on)
        if any(contract.column(name).default_sql for name in contract.key):
            self.made = rows.filter(pl.any_horizontal(pl.col(self.key).is_null()))["_row"]
            rows = self._made_keys(rows, refused) if len(self.made) else rows
        # A merge names the key of every row, also of those that exist.
        named = contract.column_names if self.job.restores else contract.key
        self.writer.overrides = any(contract.column(name).identity_always for name in named)
        if on:
            return self._own_keys(rows, refused)
        self._refuse_brought(rows, resolve.repeated_keys(rows, self.key, self.made), refused)
        return without(rows, refused.rows)

    def _made_keys(self, rows: pl.DataFrame, refused: Refused) -> pl.DataFrame:
        """Have the database make the keys that are lacking."""
        if not any(self.wire.contract.column(name).insert_only for name in self.wire.contract.key):
            return resolve.made_keys(self.session, self.wire, rows)
        self.staging.put(rows)
        rows, errors = resolve.drawn_keys(self.session, self.wire, rows, self.job.columns.insert)
        lagging = reasons.about_key(self.session, self.wire, errors)
        errors = {row: error for row, error in errors.items() if row not in lagging}
        refused.failures.append(reasons.refusals(self.session, self.wire, self.job.frame, errors))
        if lagging:
            unknown = rows.filter(pl.col("_row").is_in(lagging))
            keys = unknown.select("_row").hstack(self.wire.decode(unknown, self.wire.contract.key))
            refused.failures.append(reasons.lagging_failures(self.wire, keys))
        return rows

    def _own_keys(self, rows: pl.DataFrame, refused: Refused) -> pl.DataFrame:
        """Refuse new rows of another unique key that bring a key which is taken.

        The next row of its group may bring a key of its own, so the group waits.
        """
        self._groups = rows.select("_row", "group", resolve.FRESH)
        givers = without(rows, refused.rows).filter(
            pl.col(resolve.FRESH) == 1, pl.col("_row") == pl.col("group")
        )
        self._refuse_brought(givers, resolve.usurpers(givers, self.key), refused)
        if givers.height and not self.first:
            self.staging.put(givers.select("_row", *self.key))
            self._refuse_key(givers, dedupe.taken(self.session, self.wire), refused)
        if refused.rows:
            waiting = rows.filter(pl.col("group").is_in(list(refused.rows)))["_row"]
            refused.unsure |= set(waiting) - refused.rows
            rows = without(rows, set(waiting))
        return rows.drop("group")

    def _refuse_brought(self, rows: pl.DataFrame, found: pl.DataFrame, refused: Refused) -> None:
        """Refuse rows whose key an earlier row of the batch has brought."""
        refused.because |= dict(found.rows())
        self._refuse_key(rows, found["_row"], refused, earlier=True)

    def _refuse_key(
        self, rows: pl.DataFrame, numbers: pl.Series, refused: Refused, *, earlier: bool = False
    ) -> None:
        """Refuse rows whose key is taken; that of a key which was made shows that its sequence lags behind."""
        made = numbers.is_in(self.made.implode())
        if made.any():
            lagging = rows.filter(pl.col("_row").is_in(numbers.filter(made).implode()))
            keys = lagging.select("_row").hstack(self.wire.decode(lagging, self.wire.contract.key))
            refused.failures.append(reasons.lagging_failures(self.wire, keys))
        if not made.all():
            brought = numbers.filter(~made)
            refused.failures.append(reasons.key_failures(self.wire, self.job.frame, brought, earlier=earlier))

    def _distinct(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Refuse rows that mean the same row, where they are not to be combined."""
        if not self.job.distinct:
            return rows
        same = self.wire.shorts(self.job.on) if self.job.on else self.key
        filled = rows.drop_nulls(same)
        repeated = filled.filter(pl.struct(same).is_duplicated())["_row"]
        self.verdict.reject(reasons.repeat_failures(self.wire, self.job.frame, repeated))
        return self.verdict.open(rows)

    def _castable(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Refuse what the database cannot read as the column's type, where only it can tell."""
        codecs = {n: c for n, c in self.wire.codecs.items() if c.fallible or c.kept}
        if not codecs or not rows.height:
            return rows
        self.staging.put(rows)
        for name, codec in codecs.items():
            numbers = rows["_row"].to_list()
            errors = self.writer.unreadable(numbers, name) if codec.fallible else {}
            errors |= self.writer.unreadable(numbers, name, codec.sql_type) if codec.casts else {}
            self.verdict.reject(reasons.refusals(self.session, self.wire, self.job.frame, errors))
            if errors:
                rows = self.verdict.open(rows)
                self.staging.put(rows)
            if codec.kept:
                self.verdict.reject(
                    reasons.changed(self.wire, self.job.frame, name, self.writer.changed(name))
                )
        return self.verdict.open(rows)

    # -- the steps --

    def _apply_all(self, rows: pl.DataFrame) -> None:
        """Apply the rows that have no outcome yet."""
        pending = [rows]
        while pending:
            rows = self.verdict.open(pending.pop(0))
            if not rows.height:
                continue
            pending = self._apply(rows) + pending
            self.first = self.first and not self._known  # what was made may be written by now

    def _apply(self, rows: pl.DataFrame) -> list[pl.DataFrame]:
        """Apply rows, as often as it takes until no row depends on one that is refused.

        Returns:
            What is to be applied after that: mostly nothing.
        """
        self._passes, self._aside = 0, []
        moved: list[pl.DataFrame] = []
        while rows.height and not moved:
            self._rows = rows
            live = without(rows, self._lost)
            noted = set(self._rekeyed), list(self._renamed), self.verdict.rekeyed
            try:
                moved = self._pass(live) if live.height else []
            except _OneByOne as apart:
                rounds = self._meeting().rounds(apart.rows)
                self._stand_apart(rows, apart.rows)
                parts = [list(set(rows["_row"]) - apart.rows), *rounds]
                return [rows.filter(pl.col("_row").is_in(part)) for part in parts]
            except _Rekeyed as others:
                rows = with_keys(rows, others.keys, self.key)
                self._note_keys(others.keys)
                continue
            except _Again as again:
                self._rekeyed, self._renamed, self.verdict.rekeyed = noted
                self._passes += 1
                self._aside.append((again.refused, set(again.without)))
                if not again.tried:
                    continue
            # What was refused before the database was asked holds as far as the database had no other say.
            for refused, numbers in self._aside:
                self._record(refused, numbers)
            rows, self._aside = self.verdict.open(rows), []
        return moved

    @property
    def _lost(self) -> set[int]:
        """The rows that are refused as far as is known before the database is asked."""
        return set().union(*(numbers for _, numbers in self._aside))

    def _pass(self, raw: pl.DataFrame) -> list[pl.DataFrame]:
        """Apply rows all at once, and return those that a trigger has moved onto others.

        Raises:
            _Again: rows that are refused have had to do with others; nothing was written.
            _OneByOne: what becomes of some rows does not show if they are written at once; nothing was.
        """
        refused = Refused()
        self.checks.forget()
        rows = self._identify(raw, refused)
        if self._inherited:
            self._check_inheritance(rows)
        self.repeats = rows.select(pl.struct(self.key).n_unique()).item() < rows.height
        states, stale = self._combine(rows, refused)
        compared = self._stage_and_compare(states, refused)
        candidates = self._candidates(compared)
        self._views = [self._rows, rows, states, candidates]
        settled = self._check(candidates)
        self._follow_triggers(candidates, settled)
        self._refuse(refused, settled)
        self._stand_without(rows, refused, self._hopeless(candidates, settled))
        before = self._before(candidates)
        final = self._final(candidates, settled)
        expected = self._expect(before, final, settled)
        with self._met(rows, settled, refused) as look:
            with self.clock.phase("merge", final.height):
                written, errors = self.writer.run(final, waves=bool(settled.waves))
                self.writer.blame(errors)
                live = without(rows, settled.gone)
                moved = self._moved(live, errors) if self.writer.moved or self.writer.keys else []
                waiting = {row for part in moved for row in part["_row"]}
                skipped, stored = self.accounts.skipped(without(final, waiting), written, errors)
                written, errors = pl.concat([written, stored]), errors | skipped
            look(errors, skipped)
        self._after(before, compared, written, expected)
        with self.clock.phase("report", rows.height):
            self._record(refused, refused.rows)
            self.verdict.reject(
                reasons.refusals(self.session, self.wire, self.job.frame, errors, self.job.kind)
            )
            self.verdict.set(stale, "stale")
            done = without(rows, waiting)
            self._known.append(done.select("_row", *self.key))
            if self.job.on or len(self.made):
                self.verdict.knows(done.select("_row").hstack(self.wire.decode(done, self.wire.contract.key)))
            self.accounts.close(
                without(compared, waiting), candidates, settled, written, repeats=self.repeats
            )
        return moved

    # -- rows that had to do with a row that is refused --

    def _refuse(self, refused: Refused, settled: Settled) -> None:
        """Add what the checks have refused."""
        refused.failures += reasons.settled_failures(self.wire, self.job.frame, settled)
        refused.ignored |= set(settled.ignored)

    def _record(self, refused: Refused, rows: Collection[int]) -> None:
        """Write down rows that are refused, or ignored."""
        for found in refused.failures:
            self.verdict.reject(found.filter(pl.col("row").is_in(list(rows))))
        self.verdict.set(pl.Series(sorted(refused.ignored & set(rows)), dtype=pl.Int64), "ignored")

    def _hopeless(self, candidates: pl.DataFrame, settled: Settled) -> set[int]:
        """Select the rows that are refused whatever becomes of others: their own parent is nowhere."""
        contract, job = self.wire.contract, self.job
        own = [r for r in (*contract.references, *contract.pointers) if r.table == contract.name]
        borne = {name for reference in own for name in reference.targets}
        # What others bear may depend on which of them are refused, and so may the key that `on` gives to a row.
        if not settled.hopeless or job.ignores or job.on or job.newer or borne & job.combined:
            return set()
        if self.repeats and self._states_decide:
            # A later row of a key may have its pointer from the one before.
            candidates = candidates.filter(pl.struct(self.key).is_first_distinct())
        return settled.hopeless & set(candidates["_row"])

    def _stand_without(self, rows: pl.DataFrame, refused: Refused, hopeless: set[int]) -> None:
        """Begin anew where a row was judged by what a refused row had to do with it."""
        gone = refused.rows
        if not gone:
            return
        unsure = refused.unsure | {row for row, other in refused.because.items() if other in gone}
        if self.job.on:
            others = self._groups.filter(pl.col(resolve.FRESH) == 1, pl.col("group").is_in(list(gone)))
            unsure |= set(others["_row"]) - set(others["group"])
        later, combined = self._combined_with(rows, gone)
        unsure |= later if self._states_decide else later & refused.impossible
        if unsure or combined:
            self._begin_anew(refused, unsure, hopeless)

    @property
    def _states_decide(self) -> bool:
        """Whether what rows of a key come to decides which of them are refused."""
        contract = self.wire.contract
        checked = {name for unique in contract.unique for name in unique}
        checked |= {
            name for reference in (*contract.references, *contract.pointers) for name in reference.columns
        }
        checked |= {name for name in self.job.defaulted if not contract.column(name).nullable}
        return self.job.newer is not None or bool(checked & self.job.combined)

    def _combined_with(self, rows: pl.DataFrame, gone: Collection[int]) -> tuple[set[int], set[int]]:
        """Find the rows that came after a refused row of their key; and all that were combined with one.

        What comes of lists is known of the last row of a key alone, and so the rows before it are among the latter.
        """
        if not (self.repeats and self.job.combines):
            return set(), set()
        lost = rows.filter(pl.col("_row").is_in(list(gone)))
        first = lost.group_by(self.key).agg(since=pl.col("_row").min())
        met = rows.select("_row", *self.key).join(first, on=self.key, how="inner")
        return set(met.filter(pl.col("_row") > pl.col("since"))["_row"]), set(met["_row"]) - set(gone)

    def _begin_anew(self, refused: Refused, unsure: set[int], hopeless: set[int]) -> None:
        gone = refused.rows
        if unsure:
            unsure = (unsure | self._meeting().after(unsure)) - hopeless
        if self._passes > _PASSES and unsure:
            raise _OneByOne(unsure)
        raise _Again(refused, gone - unsure or {min(gone)})

    @contextmanager
    def _met(
        self, rows: pl.DataFrame, settled: Settled, refused: Refused
    ) -> Iterator[Callable[[Mapping[int, DatabaseError], Mapping[int, DatabaseError]], None]]:
        """Take back what is written where the database refuses a row that others had to do with."""
        meets = self.repeats or bool(settled) or self.writer.within or bool(self.job.on or self._aside)
        meets = meets or self.writer.watched

        def look(errors: Mapping[int, DatabaseError], skipped: Mapping[int, DatabaseError]) -> None:
            if skipped and self.writer.watched:
                # A trigger that leaves a row out may have done something else for it, which goes as the row does.
                refusals = reasons.refusals(self.session, self.wire, self.job.frame, skipped, self.job.kind)
                refused.failures.append(refusals)
                # What else was refused may have had to do with them, and is judged anew.
                unsure = self._meeting().after(list(skipped))
                for _, numbers in self._aside:
                    numbers -= unsure
                raise _Again(refused, set(skipped), tried=True)
            if errors and meets:
                self._look(rows, settled, refused, errors)

        with self.session.atomic() if meets else nullcontext():
            try:
                yield look
            except Unordered:
                raise _OneByOne(self._meeting().group(settled.waves)) from None

    def _look(
        self, rows: pl.DataFrame, settled: Settled, refused: Refused, errors: Mapping[int, DatabaseError]
    ) -> None:
        meeting = self._meeting()
        unsure = meeting.after(list(errors))
        live = without(rows, settled.gone)
        same = live.join(
            live.filter(pl.col("_row").is_in(list(errors))).select(self.key), on=self.key, how="semi"
        )
        superseded = set(same["_row"]) - set(errors)
        if not (unsure or superseded):
            return
        if self._passes > _PASSES or (superseded and self.job.combines):
            # Which of the rows that were combined is to blame shows only if they are written one after the other.
            apart = set(same["_row"])
            raise _OneByOne(apart | meeting.after(apart))
        found = reasons.refusals(self.session, self.wire, self.job.frame, errors, self.job.kind)
        refused.failures.append(found)
        for _, numbers in self._aside:
            numbers -= unsure
        raise _Again(refused, refused.rows - unsure or {min(errors)}, tried=True)

    def _meeting(self) -> Interplay:
        """Find out which rows of this pass meet."""
        contract, name = self.wire.contract, ", ".join
        own = [r for r in (*contract.references, *contract.pointers) if r.table == contract.name]
        sets = dict.fromkeys([contract.key, *contract.unique, *(reference.targets for reference in own)])
        claims, points = [], []
        for view in self._views:
            for columns in sets:
                claims.append((name(columns), view.select("_row", *self.wire.shorts(columns))))
            points += [(name(reference.targets), self._points(view, reference)) for reference in own]
        held = [
            (
                (name(contract.key), there.select(self.key)),
                (name(unique), there.select(self.wire.shorts(unique))),
            )
            for unique, there in self.checks.holders.items()
        ]
        return Interplay(claims, held, points)

    def _points(self, view: pl.DataFrame, reference: Reference) -> pl.DataFrame:
        """Select what rows point at within the table; a row that was there before stays, whatever is refused."""
        known = self.checks.parents.get(reference)
        if isinstance(known, Pointed):
            return known.items
        columns = self.wire.shorts(reference.columns)
        points = view.select("_row", *columns)
        if known is None or reference.targets != self.wire.contract.key:
            return points
        return points.join(known, on=columns, how="semi")

    # -- images --

    def _follow_triggers(self, candidates: pl.DataFrame, settled: Settled) -> None:
        """Begin anew where what stands in the way of a row is what a trigger makes the row itself."""
        held = [row for row, (_, _, ours) in settled.refused.items() if not ours]
        if self.job.kind != "merge" or self.job.on or not held:
            return
        brought = set(held) - set(self.made)
        keys = self.writer.led_onto(candidates.filter(pl.col("_row").is_in(list(brought))))
        if keys.height:
            raise _Rekeyed(keys)

    def _moved(self, rows: pl.DataFrame, errors: dict[int, DatabaseError]) -> list[pl.DataFrame]:
        """Note which keys a trigger has changed, and give the rows that it has moved onto others, to be applied again."""
        none = rows.select("_row", *self.key).clear()
        keys, moved = pl.concat([none, *self.writer.keys]), pl.concat([none, *self.writer.moved])
        # Also a row that is unchanged would be written after the row that was moved onto it.
        there = with_keys(rows.select(none.columns), keys, self.key)
        later = moved.join(there, on=self.key, how="inner").filter(pl.col("_row_right") > pl.col("_row"))
        twice = self._rekeyed & set(moved["_row"])
        why = "a trigger of the database gives the row the key of a later row of the frame: leave one of them out"
        errors |= {row: DatabaseError(why) for row in {*later["_row"], *twice}}
        moved = without(moved, errors)
        self._rekeyed |= set(moved["_row"])
        self._note_keys(pl.concat([keys, moved]))
        part = rows.join(moved, on="_row", how="semi", maintain_order="left")
        part = with_keys(part.drop(resolve.FRESH, strict=False), moved, self.key)
        return [part] if part.height else []

    def _note_keys(self, known: pl.DataFrame) -> None:
        """Note the keys that rows have in place of those of the frame."""
        self._renamed.append(known)
        found = known.select("_row").hstack(self.wire.decode(known, self.wire.contract.key))
        earlier = [] if self.verdict.rekeyed is None else [without(self.verdict.rekeyed, set(found["_row"]))]
        self.verdict.rekeyed = pl.concat([*earlier, found])

    def _check_inheritance(self, rows: pl.DataFrame) -> None:
        """Refuse what cannot be done through a table from which others inherit."""
        self.staging.put(rows.select("_row", *self.key))
        key = self.wire.contract.key
        keys = f"SELECT DISTINCT {', '.join(self.key)} FROM ({self.wire.staged(key, STAGE)}) AS k"
        source = f"JOIN ({keys}) AS s ON {self.wire.equal(key, 't', 's')}"
        inheritance.check(self.session, self.wire, source, self.job.kind, undo=self.turn.undo)

    def _before(self, candidates: pl.DataFrame) -> pl.DataFrame | None:
        """Read what stands in the table for the rows that may be written, and what may change with them, if it is wanted."""
        before = self._stands_there(candidates)
        if before is not None and self.images and self.job.kind == "delete":
            self.verdict.note(orphaned_note(self.session, self.images.wire, before))
        if before is not None and self.images and self._followed and self.job.kind in ("merge", "update"):
            try:
                self.images.moving(before, self.job.columns.update)
            except ContractError as error:
                self._unkept(error)
                return None
        return before

    def _stands_there(self, candidates: pl.DataFrame) -> pl.DataFrame | None:
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
        self.verdict.keep_nothing(error)
        self.images = None

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
            if self.job.kind != "delete":
                self.images.followed()
            if expected is not None and self.images.known(expected, written):
                return
            rows = staged.select("_row", *self.key)
            rekeyed = pl.concat([rows.clear(), *self.writer.keys]).with_columns(inserted=pl.lit(True))
            written = without(written, set(rekeyed["_row"]))
            if self.job.kind == "delete":
                # SQLite does not name the rows that went along with others before their turn came.
                gone = self.verdict.outcomes.gather(rows["_row"]).eq_missing("deleted")
                went = rows.filter(gone | rows["_row"].is_in(written["_row"].implode()))
                self.images.gone(before, went.with_columns(inserted=pl.lit(False)))
            else:
                self.images.written(before, rows.join(written, on="_row", maintain_order="left"))
            if rekeyed.height:
                self.staging.put(rekeyed.drop("inserted").with_columns(wave=pl.lit(0, dtype=pl.Int32)))
                self.images.written(before.clear(), rekeyed)

    def _combine(self, rows: pl.DataFrame, refused: Refused) -> tuple[pl.DataFrame, pl.Series]:
        """Give each row the state of its key after it; return the stale rows apart."""
        job, none = self.job, pl.Series([], dtype=pl.Int64)
        if not (job.looks_back or (job.rules and self.repeats)):
            return rows, none
        names = [*job.rules, *([job.newer] if job.newer else [])]
        rules = {VALUE + name: rule for name, rule in job.rules.items()}
        best = {VALUE + name: wanted for name, wanted in self.wire.contract.best.items()}
        with self.clock.phase("dedupe", rows.height):
            chosen = [job.frame[name].gather(rows["_row"]).alias(VALUE + name) for name in names]
            values = rows.select("_row", *self.key).with_columns(chosen)
            there = self._existing(rows, names) if job.looks_back else values.clear().drop("_row")
            if job.looks_back:
                fresh = rows.join(there, on=self.key, how="anti")["_row"]
                rows = rows.with_columns(fresh=pl.col("_row").is_in(fresh.implode()).cast(pl.Int32))
                rows, values = self._with_nulls(rows, values, fresh, refused)
            stale = combine.stale(values, there, self.key, VALUE + job.newer) if job.newer else none
            rows, values = without(rows, set(stale)), without(values, set(stale))
            while True:
                found = combine.combine(values, there, self.key, rules, best)
                if not found.impossible.height:
                    break
                first = values.join(found.impossible, on="_row").group_by(self.key).agg(pl.col("_row").min())
                culprits = found.impossible.join(first, on="_row", how="semi", maintain_order="left")
                refused.failures.append(reasons.impossible_failures(job, culprits))
                refused.impossible |= set(culprits["_row"])
                rows, values = without(rows, refused.impossible), without(values, refused.impossible)
        encoded = [
            self.wire.codecs[name].encode(pl.col(VALUE + name)).alias(self.wire.short[name])
            for name in job.rules
        ]
        return rows.with_columns(found.rows.select(encoded)), stale

    def _with_nulls(
        self, rows: pl.DataFrame, values: pl.DataFrame, fresh: pl.Series, refused: Refused
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Take defaults back from rows that exist, and refuse those whose null would replace what may not be null."""
        job = self.job
        if not job.defaulted:
            return rows, values
        nulls = defaults.written_nulls(rows, fresh, self.key, job.defaulted)
        for name, numbers in defaults.forbidden(self.wire, job.rules, rows, nulls).items():
            if len(numbers):
                refused.failures.append(reasons.null_failures(name, numbers))
        rows, values = (defaults.with_nulls(part, self.wire, nulls) for part in (rows, values))
        return without(rows, refused.rows), without(values, refused.rows)

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

    def _stage_and_compare(self, rows: pl.DataFrame, refused: Refused) -> pl.DataFrame:
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
                rows = self._compare(rows, refused)
            if self.job.kind in ("update", "delete"):
                missing = rows.filter(mask=-1)["_row"]
                self.verdict.set(missing, "missing")
                rows = without(rows, set(missing))
        return rows

    def _compare(self, rows: pl.DataFrame, refused: Refused) -> pl.DataFrame:
        if self.job.kind in ("insert", "delete"):
            taken = dedupe.taken(self.session, self.wire)
            there = pl.col("_row").is_in(taken.implode())
            if self.job.kind == "delete":
                return rows.with_columns(mask=pl.when(there).then(1).otherwise(-1).cast(pl.Int64))
            self._refuse_taken(rows, taken, refused)
            return rows.with_columns(mask=there.cast(pl.Int64) - 1)
        alive = self.wire.alive("t") if self.job.kind == "update" and not self.job.revives else TRUE
        compare = self.job.columns.compare
        held = self._changes_and_held(rows, alive)
        rows = dedupe.changes(self.session, self.wire, rows, compare, alive) if held is None else held
        if len(self.made):
            # A key that was made is for a new row, even where a sequence lags behind the table.
            taken = rows.filter(pl.col("_row").is_in(self.made.implode()) & (pl.col("mask") != -1))["_row"]
            if len(taken):
                self._refuse_taken(rows, taken, refused)
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
                self.wire, rows, self.job.columns.compare, alive, self.images
            )
        except ContractError as error:
            self._unkept(error)
            return None
        return rows

    def _refuse_taken(self, rows: pl.DataFrame, taken: pl.Series, refused: Refused) -> None:
        """Account for new rows whose key exists in the table."""
        made = taken.is_in(self.made.implode())
        self._refuse_key(rows, taken.filter(made), refused)
        brought = taken.filter(~made)
        if self.job.ignores:
            self.verdict.set(brought, "ignored")
        elif len(brought):
            self.verdict.reject(reasons.key_failures(self.wire, self.job.frame, brought))

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
                settled = self.checks.dependents()
                self.verdict.note(self.checks.note)
                return settled
            return self.checks.run(candidates, first=self.first, meeting=self._meeting)

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
        several = settled.waves and not self.writer.within
        return final.filter(moves | (pl.col("wave").max().over(self.key) > 0) if several else moves)

    # -- stage --

    def _in_waves(self, rows: pl.DataFrame, settled: Settled) -> pl.DataFrame:
        """Combine rows of one key: in each wave the last one stands, of an insert the first.

        The other rows have no wave: they are staged to be checked, as what a key holds in between
        matters to unique keys, and are not written.
        """
        wave = pl.lit(0, dtype=pl.Int32)
        last = (
            not settled.waves or self.writer.within
        )  # one row stands for each key, rather than for each wave
        if settled.waves:
            wave = pl.col("_row").replace_strict(settled.waves, default=0, return_dtype=pl.Int32)
        rows = without(rows.with_columns(wave=wave), settled.gone)
        if self.repeats:
            one = (
                pl.struct(self.key).is_first_distinct()
                if self.inserts
                else pl.struct(*self.key, *([] if last else ["wave"])).is_last_distinct()
            )
            rows = rows.with_columns(wave=pl.when(one).then("wave"))
        if not last and resolve.FRESH in rows.columns:
            later = pl.col("wave") > pl.col("wave").min().over(self.key)  # an earlier wave has made the row
            rows = rows.with_columns(pl.when(later).then(0).otherwise(resolve.FRESH).alias(resolve.FRESH))
        return rows
