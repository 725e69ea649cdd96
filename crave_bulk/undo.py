"""Undo: put the rows that a batch has changed back as they were, as a batch of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandera.polars as pa
import polars as pl

from crave_bulk import failures, journal
from crave_bulk.backends.codec import Codec, Form
from crave_bulk.errors import CHANGED_SINCE, TableNotFound, UndoRefused
from crave_bulk.journal import Stored, StoredColumn
from crave_bulk.ledger import Ledger
from crave_bulk.newer_columns import changed_lines, set_since
from crave_bulk.pipeline import cascades, dedupe, read
from crave_bulk.pipeline.attempt import Attempt
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.job import Job
from crave_bulk.pipeline.merge import Columns, Kind
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.staging import Staging
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.whole import Whole
from crave_bulk.pipeline.work import Turn, Work
from crave_bulk.report import OUTCOME
from crave_bulk.session import Session
from crave_bulk.sql import quote_all
from crave_bulk.table import Contract, FieldOptions, TableName


@dataclass(frozen=True, slots=True)
class Past:
    """The batches of one transaction, and what they have changed.

    Attributes:
        transaction_id: what they have in common.
        batch_ids: in the order in which they were written.
        tables: their tables.
        undoes: one of them has taken back others.
        settled: those that another of them has taken back already.
    """

    transaction_id: str
    batch_ids: list[str]
    tables: list[str]
    undoes: bool
    settled: frozenset[str] = frozenset()

    @property
    def standing(self) -> list[str]:
        """Those that stand."""
        return [batch_id for batch_id in self.batch_ids if batch_id not in self.settled]


def past(session: Session, ledger: Ledger, batch_id: str) -> Past:
    """Find the batches that were committed together with one.

    Args:
        session: a connection.
        ledger: where they are.
        batch_id: one of them.

    Returns:
        All of them.

    Raises:
        UndoRefused: there is no such batch, it was taken back already, or what it changed was not kept.
    """
    columns = ["batch_id", "transaction_id", "verb", "table", "undoable", "not_kept", "undone_by"]
    own = ledger.read(session, read.Selection({"batch_id": batch_id}, columns)) if _is_id(batch_id) else None
    if own is None or not own.height:
        raise UndoRefused(f"there is no batch {batch_id!r} in {ledger.name}", "see db.batches()")
    # The ids of batches sort by time, and a transaction has that of its first: no older ones need be looked at.
    first = own["transaction_id"][0]
    together = {"batch_id__gte": first, "transaction_id": first}
    found = ledger.read(session, read.Selection(together, columns, "batch_id"))
    within = found.filter(pl.col("undone_by").is_in(found["batch_id"].implode()))["batch_id"]
    for row in found.iter_rows(named=True):
        if row["undone_by"] is not None and (row["batch_id"] not in within or row["batch_id"] == batch_id):
            by = row["undone_by"]
            raise UndoRefused(
                f"batch {row['batch_id']} was taken back already, by batch {by}",
                f"db.undo({by!r}) brings it back",
            )
        if not row["undoable"]:
            why = row["not_kept"] or "it was written with undo=False, or its report says why"
            raise UndoRefused(
                f"batch {row['batch_id']} cannot be taken back, as the rows of table {row['table']} were not kept as they "
                f"were: {why}",
                "put them back by a batch of your own",
            )
    tables = list(dict.fromkeys(found["table"]))
    ids, undoes = found["batch_id"].to_list(), "undo" in found["verb"].to_list()
    return Past(first, ids, tables, undoes, frozenset(within))


def _is_id(text: str) -> bool:
    return isinstance(text, str) and len(text) == 36 and all(c in "0123456789abcdef-" for c in text)


@dataclass(slots=True)
class _Step:
    """What one step has to put back and to delete, and what has become of it so far.

    Attributes:
        stored: the step.
        wire: its table, as it is now.
        new: the keys of the rows that it made.
        back: the rows that it changed or deleted.
        stale: the keys of those that have changed since, and are left alone.
        gone: what became of the new ones.
        restored: what became of the others.
    """

    stored: Stored
    wire: Whole
    new: pl.DataFrame
    back: pl.DataFrame
    stale: pl.DataFrame
    gone: Verdict
    restored: Verdict

    @property
    def left(self) -> int:
        """How many rows are not done."""
        return len(_left(self.gone)) + len(_left(self.restored))


class UndoWork(Work):
    """Take back the batches of one transaction, the last of them first.

    Args:
        session: a connection.
        ledger: where they are.
        batch_id: one of them.
        force: leave rows alone that have changed since, and take back the rest.

    Raises:
        UndoRefused: they cannot be taken back.
    """

    verb = "undo"

    def __init__(self, session: Session, ledger: Ledger, batch_id: str, *, force: bool) -> None:
        self.ledger, self.force = ledger, force
        self.past = past(session, ledger, batch_id)
        self.clock, self.source = Clock(), pl.DataFrame()
        self._keys: list[pl.DataFrame] = []
        self._left: dict[str, pl.DataFrame] = {}  # the keys of rows that are left alone, by table

    @property
    def table(self) -> str:
        """The tables."""
        return ", ".join(self.past.tables)

    def about(self) -> str:
        """Name the batches."""
        return repr(self.past.batch_ids)

    def shared(self, session: Session, constraint: str) -> bool:  # noqa: ARG002
        """Tell that another writer can be to blame."""
        return True

    def accounts(self, verdict: Verdict) -> tuple[pl.DataFrame, pl.Series]:
        """Give every row that the batches had changed."""
        keys = pl.concat(self._keys, how="diagonal_relaxed") if self._keys else pl.DataFrame()
        one = keys.width and keys["table"].n_unique() <= 1
        return keys.drop("table") if one else keys, verdict.outcomes

    def write(self, turn: Turn) -> Verdict:
        """Put the rows back."""
        self._keys, self._left = [], {}
        verdict, changed = Verdict.over(0), list[pl.DataFrame]()
        try:
            with turn.session.atomic():
                self._take_all_back(turn, verdict, changed)
        except _InTheWay as others:
            changed = list(self._changed_since(turn))  # what has changed may be what is in the way
            if not any(lines.height for lines in changed):
                raise UndoRefused(str(others), "force=True takes back the rest") from None
        lines = pl.concat([pl.DataFrame(schema=CHANGED_SINCE), *changed])
        if lines.height and not self.force:
            raise UndoRefused(
                _refusal(self.past, lines),
                "see .rows for all of them; force=True leaves those rows alone and takes back the rest",
                lines,
            )
        if self.past.undoes:
            self.ledger.stand_again(turn.session, self.past.batch_ids, self.past.transaction_id)
        ids = self.past.standing
        if self.ledger.undone(turn.session, ids, turn.batch_id) < len(ids):
            raise UndoRefused("another has taken the batch back just now", "see db.batches()")
        return verdict

    def _take_all_back(self, turn: Turn, verdict: Verdict, changed: list[pl.DataFrame]) -> None:
        """Take the steps back, the last of them first; what is in the way of one may go with those before it."""
        waiting: list[_Step] = []
        for stored in self._steps(turn.session):
            step = self._begin(turn, stored, changed)
            moved = self._go_on(turn, step, verdict)
            while moved and waiting:
                waiting = [one for one in (*waiting, step) if one.left]
                moved = any(self._go_on(turn, one, verdict) for one in waiting)
            waiting = [one for one in (*waiting, step) if one.left]
        for step in waiting:
            self._account_for(verdict, step)

    def steps(self, session: Session, verdict: Verdict) -> list[journal.Change]:  # noqa: ARG002
        """Keep what was changed apart by the steps that were taken back, which have to be made in turn once more."""
        return verdict.changes

    def _steps(self, session: Session) -> Iterator[Stored]:
        """Read the steps of the batches, the last of them first."""
        for batch_id in reversed(self.past.batch_ids):
            stored = journal.load(session, self.ledger, batch_id)
            self._check_tables(session, batch_id, stored)
            if not stored and self._had_changed(session, batch_id):
                raise UndoRefused(
                    f"what batch {batch_id} has changed is not kept any more, only that of the newest "
                    f"{self.ledger.keep}",
                    "cb.connect(url, keep_undo=...) keeps more, of what is written from then on",
                )
            yield from reversed(stored)

    def _check_tables(self, session: Session, batch_id: str, stored: Sequence[Stored]) -> None:
        """Make sure that the steps are about the tables that the ledger names, and those that go along with them."""
        own = [step.table for step in stored if _named(step.table, self.table)]
        strange = [step.table for step in stored if step.table not in own]
        if strange:
            along = ", ".join(map(str, cascades.led_to(session, own)))
            strange = [table for table in strange if not _named(table, along)]
        if strange:
            why = f"it is about table {strange[0]}, which the batch did not write, and to which no reference leads"
            raise journal.unreadable(self.ledger, batch_id, why)

    def _had_changed(self, session: Session, batch_id: str) -> bool:
        """Tell whether a batch that is not in the journal should be there."""
        counts = self.ledger.read(
            session, read.Selection({"batch_id": batch_id}, ["inserted", "updated", "deleted"])
        )
        return bool(counts.select(pl.sum_horizontal(pl.all())).item())

    def _changed_since(self, turn: Turn) -> Iterator[pl.DataFrame]:
        """List the rows that are not as the last step that wrote them has left them."""
        seen: dict[str, pl.DataFrame] = {}
        for step in self._steps(turn.session):
            wire, step, now = self._now(turn, self._wire(turn.session, step), step)
            key = list(wire.contract.key)
            keys = step.keys(key)
            known = seen.get(wire.target, keys.clear())
            moved = _moved(step.after, now, key).join(known, on=key, how="anti")
            yield _changed(step, wire, now, moved)
            seen[wire.target] = pl.concat([known, keys])

    def _wire(self, session: Session, stored: Stored) -> Whole:
        """Describe the table of a step as it is now."""
        try:
            return _wire(session, self.ledger, stored)
        except TableNotFound as error:
            name = next(
                (t for t in (str(stored.table), stored.table.table) if t in self.past.tables), stored.table
            )
            raise UndoRefused(
                f"table {name} is gone, so the batch cannot be taken back", "create the table as it was"
            ) from error

    def _begin(self, turn: Turn, stored: Stored, changed: list[pl.DataFrame]) -> _Step:
        """Find what one step has to put back and to delete, and list what has changed since."""
        with self.clock.phase("dedupe", stored.after.height):
            wire, stored, now = self._now(turn, self._wire(turn.session, stored), stored)
            key = list(wire.contract.key)
            moved = _moved(stored.after, now, key)
            left = self._left.get(wire.target, moved.clear())
            mine = moved.join(left, on=key, how="anti", maintain_order="left")
            # A row that was left alone in a later step stays so, even if it is now as this one left it.
            changed.append(_changed(stored, wire, now, mine))
            made = stored.after.select(key).join(stored.before, on=key, how="anti", maintain_order="left")
            still = made.join(moved, on=key, how="anti", maintain_order="left")
            grown = set_since(turn.session, Staging(turn.session, self.clock, wire.shorts(key)), wire, still)
            changed.append(changed_lines(str(stored.table), wire, grown))
            mine = pl.concat([mine, grown.select(key)])
            moved = self._left[wire.target] = pl.concat([moved, grown.select(key), left]).unique(
                maintain_order=True
            )
        # The other way round: a unique value that was handed on goes back to whom it came from.
        back = stored.before.join(moved, on=key, how="anti", maintain_order="left")
        # Not reverse(), which loses the inner dtype of lists that are all null (polars 2.1).
        back = back[list(range(back.height - 1, -1, -1))] if back.height else back
        new = made.join(moved, on=key, how="anti", maintain_order="left")
        return _Step(stored, wire, new, back, mine, verdict_of(new), verdict_of(back))

    def _go_on(self, turn: Turn, step: _Step, verdict: Verdict) -> bool:
        """Take a step back as far as that is possible now, and tell whether anything has moved."""
        before = step.left
        with self.clock.phase("merge", before):
            self._in_turns(turn, step)
        parts = (step.gone, step.restored)
        verdict.changes += journal.steps(turn.session, [change for part in parts for change in part.changes])
        for part in parts:
            part.changes = []
        if not step.left:
            self._account_for(verdict, step)
        return step.left < before

    def _account_for(self, verdict: Verdict, step: _Step) -> None:
        """Say what became of the rows of one step."""
        key = list(step.wire.contract.key)
        stale = Verdict(pl.repeat("stale", step.stale.height, dtype=OUTCOME, eager=True))
        for part, rows in ((step.restored, step.back), (step.gone, step.new), (stale, step.stale)):
            self._account(verdict, part, rows.select(key), step.stored)

    def _account(self, verdict: Verdict, part: Verdict, keys: pl.DataFrame, stored: Stored) -> None:
        if not keys.height:
            return
        found = failures.gather(part.failures)
        if found.height and not self.force:
            line = found.row(0, named=True)
            raise _InTheWay(
                f"{_rows(found['row'].n_unique())} of table {stored.table} cannot be put back: {line['column']} = "
                f"{line['value']!r}: {line['message']}"
            )
        if found.height:
            verdict.failures.append(found.with_columns(pl.col("row") + len(verdict.outcomes)))
        verdict.outcomes = verdict.outcomes.append(part.outcomes)
        verdict.notes += part.notes
        self._keys.append(keys.select(pl.lit(str(stored.table)).alias("table"), pl.all()))

    def _now(self, turn: Turn, wire: Whole, stored: Stored) -> tuple[Whole, Stored, pl.DataFrame]:
        """Read the rows as they are, and keep others from changing them; give what was stored in the same form."""
        key, names = wire.contract.key, wire.contract.column_names
        keys = stored.keys(key)
        staging = Staging(turn.session, self.clock, wire.shorts(key))
        staging.put(keys.rename(wire.short, strict=False).with_row_index("_row").cast({"_row": pl.Int64}))
        lock = turn.session.backend.lock_rows.format(quote_all(key, "t."))
        now_as, found = wire.rows(turn.session, lambda w: dedupe.kept_sql(w, names, lock, w.read_all()))
        staging.close()
        long = {wire.short[name]: name for name in names}
        before, after = (
            wire.convert(turn.session, rows.rename(wire.short), now_as).rename(long)
            for rows in (stored.before, stored.after)
        )
        if found.select(wire.shorts(key)).is_duplicated().any():
            raise UndoRefused(
                f"several rows of table {wire.contract.name}{wire.with_children} have one key",
                "make it the key of one row again",
            )
        stored = replace(stored, table=wire.contract.name, before=before, after=after)
        return now_as, stored, found.rename(long)

    def _in_turns(self, turn: Turn, step: _Step) -> None:
        """Delete new rows and put the others back, each as far as the other lets it, until nothing moves any more.

        A new row may hold the unique value of a row that is put back, and another may refer to it until it is.
        """
        self._alternate(turn, step)
        some = _left(step.restored)
        # A new row may hold the unique value of a row that points at it: that one comes back without the value first.
        while step.wire.contract.unique and len(_left(step.gone)) and len(some):
            before = step.gone.copy(), step.restored.copy()
            try:
                with turn.session.atomic():
                    for job in _halfway_jobs(step.wire, step.back[some], step.stored):
                        step.restored.changes += self._run(turn, job, verdict_of(job.frame)).changes
                    self._alternate(turn, step)
                    stuck = some.is_in(_left(step.restored).implode())
                    if stuck.any():
                        raise _TooEarly
            except _TooEarly:
                (step.gone, step.restored), some = before, some.filter(~stuck)
            else:
                break

    def _alternate(self, turn: Turn, step: _Step) -> None:
        """Delete new rows and put the others back in turn, until nothing moves any more."""
        wire, before = step.wire, -1
        while step.left not in (0, before):
            before = step.left
            _try_again(
                step.gone, step.new, lambda rows: self._run(turn, _delete_job(wire, rows), verdict_of(rows))
            )
            _try_again(step.restored, step.back, lambda rows: self._put_back(turn, wire, rows, step.stored))

    def _put_back(self, turn: Turn, wire: Whole, rows: pl.DataFrame, stored: Stored) -> Verdict:
        """Put rows back; where unique values were exchanged in a circle, let go of all of them first."""
        verdict, loose = verdict_of(rows), _loose(wire)
        job = _back_job(wire, rows, stored)
        try:
            with turn.session.atomic():
                self._run(turn, job, verdict)
                if loose and "unique" in failures.gather(verdict.failures)["stage"]:
                    raise _TooEarly
        except _TooEarly:
            verdict = self._let_go_first(turn, wire, rows, stored)
        _note_others(turn.session, verdict, rows, wire)
        return verdict

    def _let_go_first(self, turn: Turn, wire: Whole, rows: pl.DataFrame, stored: Stored) -> Verdict:
        """Put rows back of which all let go of their unique values first; those that are refused keep theirs."""
        verdict, left = verdict_of(rows), pl.int_range(rows.height, eager=True)
        while len(left):
            some, job = rows[left], _back_job(wire, rows[left], stored)
            try:
                with turn.session.atomic():
                    let_go = self._run(turn, _loosening_job(wire, some, _loose(wire)), verdict_of(some))
                    found = self._run(turn, job, verdict_of(some))
                    if found.failures:
                        raise _TooEarly
            except _TooEarly:
                lines = failures.gather(found.failures)
                verdict.reject(lines.with_columns(row=left.gather(lines["row"])))
                left = left.filter(found.outcomes != "rejected")
            else:
                verdict.outcomes = verdict.outcomes.scatter(left, found.outcomes)
                verdict.changes, verdict.notes = let_go.changes + found.changes, found.notes
                break
        return verdict

    def _run(self, turn: Turn, job: Job, verdict: Verdict) -> Verdict:
        if job.frame.height:
            # What is deferred is checked at the commit, when all tables are as they were. What is refused on the way is
            # tried again when others are back, and no other writer is to blame: the rows are locked.
            Attempt(replace(turn, joined=True, last=True), job, verdict, self.clock).run()
        return verdict


def _named(table: TableName, names: str) -> bool:
    """Tell whether a table is one of a list, perhaps without its schema."""
    own = (str(table), str(replace(table, schema=None)))
    return any(f", {name}, ".lower() in f", {names}, ".lower() for name in own)


def _left(part: Verdict) -> pl.Series:
    """Number the rows that are not done."""
    return (part.outcomes.is_null() | (part.outcomes == "rejected")).arg_true()


def _try_again(part: Verdict, rows: pl.DataFrame, run: Callable[[pl.DataFrame], Verdict]) -> None:
    """Try the rows that are not done, and add what became of them."""
    left = _left(part)
    if not len(left):
        return
    found = run(rows[left])
    part.outcomes = part.outcomes.scatter(left, found.outcomes)
    lines = failures.gather(found.failures)
    part.failures = [lines.with_columns(row=left.gather(lines["row"]).cast(pl.Int64))]
    part.changes += found.changes
    part.notes += found.notes


class _TooEarly(Exception):
    pass


class _InTheWay(Exception):
    pass


def verdict_of(rows: pl.DataFrame) -> Verdict:
    """Begin with nothing known of some rows."""
    return Verdict.over(rows.height)


def _wire(session: Session, ledger: Ledger, stored: Stored) -> Whole:
    """Describe the table as the catalog has it now, and how the journal's values travel to it."""
    backend = session.backend
    stored = replace(stored, table=_shortest(session, stored.table))
    found = backend.reflect(session, stored.table)
    if found.read_only and not found.key:
        raise UndoRefused(f"table {stored.table} cannot be written", found.read_only)
    for column in stored.columns:
        _check_column(stored, column, found)
    forms = {column.name: backend.form(found.column(column.name)) for column in stored.columns}
    dtypes = stored.before.schema
    codecs = {c.name: _codec(ledger, stored, c, dtypes[c.name], forms[c.name], found) for c in stored.columns}
    _check_written(ledger, stored, forms, codecs, found)
    names = {column.name for column in stored.columns}
    own = {column.name for column in stored.columns if column.key}
    contract = Contract(
        name=stored.table,
        columns=tuple(
            replace(
                found.column(column.name),
                dtype=codecs[column.name].wire,
                required=False,
                coerce=False,
                options=FieldOptions(key=column.key),
                default_sql=None,
            )
            for column in stored.columns
        ),
        key=tuple(column.name for column in stored.columns if column.key),
        unique=tuple(key for key in (found.key, *found.unique) if set(key) <= names and set(key) != own),
        references=tuple(r for r in found.references if set(r.columns) <= names),
        schema=pa.DataFrameSchema(),
    )
    raw = {column.name for column in stored.columns if column.raw and not column.key}
    keys = {name: codecs[name] for name in contract.key}
    return Whole(contract, backend, keys, forms, raw=raw)


def _shortest(session: Session, table: TableName) -> TableName:
    """Leave the schema out of a name if the table is found without it, as users write it."""
    if table.schema is None:
        return table
    plain = TableName(table.table)
    try:
        with session.shielded():
            found = session.backend.overview(session, plain).schema
    except TableNotFound:
        return table
    return plain if found is not None and found == table.schema else table


def _check_column(stored: Stored, column: StoredColumn, found: Contract) -> None:
    """Refuse to put values back into a column that is not there any more, or is another."""
    which = f"column {column.name!r} of table {stored.table}"
    if column.name not in found.column_names:
        raise UndoRefused(f"{which} is gone, so the batch cannot be taken back", "add the column as it was")
    there = found.column(column.name)
    if there.generated:
        raise UndoRefused(
            f"{which} is computed by the database now, so the batch cannot be taken back",
            "make it a column that can be written, as it was",
        )
    if _kind(there.sql_type or "") != _kind(column.type):
        raise UndoRefused(
            f"{which} was {column.type or 'without a type'} when the batch was written, and is "
            f"{there.sql_type or 'without a type'} now, so the batch cannot be taken back",
            "give the column the type that it had",
        )


def _kind(sql_type: str) -> str:
    """Leave out of a type how long its values may be."""
    return re.sub(r"\(.*?\)", "", sql_type).upper()


def _codec(
    ledger: Ledger, stored: Stored, column: StoredColumn, dtype: pl.DataType, form: Form, found: Contract
) -> Codec:
    """Choose how the stored values of a column travel; those of a key may do as a frame's of some declaration."""
    as_frame = ledger.backend.codec(found.column(column.name))
    if not column.key:
        wanted = form.raw if column.raw else form.plain
        if wanted.wire == dtype:
            return wanted
    else:
        ways = [form.plain, as_frame, form.raw]
        if _are_decimals(stored, column.name, found.column(column.name).dtype):
            ways = [as_frame, *ways]
        for one in ways:
            if one.wire == dtype:
                return one
        if dtype.is_numeric() and form.plain.wire.is_numeric():
            return Codec("", dtype)
    raise journal.unreadable(
        ledger,
        stored.batch_id,
        f"column {column.name!r} holds {dtype}, which is not how a value of type {column.type!r} is kept",
    )


def _are_decimals(stored: Stored, name: str, dtype: pl.DataType) -> bool:
    """Tell whether the text of a key is what frames of the column have, with all its decimals."""
    if not isinstance(dtype, pl.Decimal):
        return False
    decimals = rf"^-?\d+\.\d{{{dtype.scale}}}$" if dtype.scale else r"^-?\d+$"
    values = pl.concat([stored.before[name], stored.after[name]])
    return bool(values.dtype == pl.String and values.str.contains(decimals).all())


def _check_written(
    ledger: Ledger,
    stored: Stored,
    forms: Mapping[str, Form],
    codecs: Mapping[str, Codec],
    found: Contract,
) -> None:
    """Refuse text that nothing has written, if the database would take it for NULL."""
    own = {
        c.name for c in stored.columns if c.key and _are_decimals(stored, c.name, found.column(c.name).dtype)
    }
    for name, form in forms.items():
        if form.written and codecs[name].stage == form.raw.stage and name not in own:
            for rows in (stored.before, stored.after):
                if not rows[name].str.contains(form.written).all():
                    raise journal.unreadable(ledger, stored.batch_id, f"column {name!r} holds no values")


def _back_job(wire: Whole, rows: pl.DataFrame, stored: Stored) -> Job:
    """Make the job that puts rows back: all columns of those that are gone, of others those that were changed."""
    contract = wire.contract
    names = contract.column_names
    # The loose ones as well: they may have been let go of on the way.
    put_back = {*stored.changed, *_loose(wire)}
    changed = [n for n in names if n in put_back and not contract.column(n).identity_always]
    there = rows.join(stored.after, on=contract.key, how="semi").height
    # Also with a table that inherits: an update reaches its rows, an insert would add others.
    kind: Kind = "update" if there == rows.height else "merge"
    return Job(wire, kind, Columns(names, changed, changed), {}, rows, restores=True)


def _halfway_jobs(wire: Whole, rows: pl.DataFrame, stored: Stored) -> Iterator[Job]:
    """Make the jobs that put rows back without their unique values: NULL where that may be, else what is there now."""
    contract, loose = wire.contract, _loose(wire)
    rows = _with_nulls(rows, loose)
    tight = {name for key in contract.unique for name in key} - set(loose)
    names = [n for n in contract.column_names if n in {*stored.changed, *loose} - tight]
    names = [n for n in names if not contract.column(n).identity_always]
    there = rows.join(stored.after, on=contract.key, how="semi", maintain_order="left")
    if names:
        yield Job(wire, "update", Columns([*contract.key, *names], names, names), {}, there)
    yield _back_job(wire, rows.join(stored.after, on=contract.key, how="anti", maintain_order="left"), stored)


def _loose(wire: Whole) -> list[str]:
    """Name the columns of unique keys that may be NULL, and so hold nothing."""
    contract = wire.contract
    unique = {name for key in contract.unique for name in key} - set(contract.key)
    return [column.name for column in contract.columns if column.name in unique and column.nullable]


def _loosening_job(wire: Whole, rows: pl.DataFrame, names: list[str]) -> Job:
    """Make the job that sets columns of some rows to NULL."""
    return Job(
        wire, "update", Columns([*wire.contract.key, *names], names, names), {}, _with_nulls(rows, names)
    )


def _with_nulls(rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    dtypes = rows.schema
    return rows.with_columns(pl.lit(None, dtypes[name]).alias(name) for name in names)


def _delete_job(wire: Wire, keys: pl.DataFrame) -> Job:
    """Make the job that deletes rows by their keys."""
    contract = wire.contract
    own = tuple(reference for reference in contract.references if reference.table == contract.name)
    points = {name for reference in own for name in reference.columns} - set(contract.key)
    columns = tuple(contract.column(name) for name in (*contract.key, *sorted(points)))
    narrow = replace(contract, columns=columns, unique=(), references=own)
    codecs = {column.name: wire.codecs[column.name] for column in columns}
    return Job(
        Wire(narrow, wire.backend, codecs),
        "delete",
        Columns(list(contract.key), [], []),
        {},
        keys.with_columns(
            pl.lit(None, column.dtype).alias(column.name) for column in columns[len(contract.key) :]
        ),
        changed="deleted",
        alone=True,
    )


def _moved(after: pl.DataFrame, now: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Find the keys whose rows are not as the batch has left them."""
    names = after.columns
    left = after.join(now, on=names, how="anti", nulls_equal=True)
    new = now.select(names).join(after, on=names, how="anti", nulls_equal=True)
    return pl.concat([left.select(key), new.select(key)]).unique(maintain_order=True)


def _note_others(session: Session, verdict: Verdict, rows: pl.DataFrame, wire: Whole) -> None:
    """Say where rows are not quite as they were, as a trigger has changed them on the way back."""
    others = 0
    for change in journal.combined(session, verdict.changes):
        as_one = wire.rawer(change.wire.raw)
        back = wire.convert(session, rows.rename(wire.short), as_one)
        left = change.under(session, change.wire.rawer(wire.raw)).now
        left = left.rename({change.wire.short[n]: wire.short[n] for n in rows.columns}).select(back.columns)
        others += left.join(back, on=back.columns, how="anti", nulls_equal=True).height
    if others:
        verdict.notes.append(
            f"{_rows(others)} of table {wire.contract.name} could not be put back exactly: a trigger of the database "
            "has changed what was written."
        )


def _changed(stored: Stored, wire: Whole, now: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """List the values that are not as the batch has left them."""
    key = list(wire.contract.key)

    def rows(frame: pl.DataFrame) -> pl.DataFrame:
        chosen = frame.join(moved, on=key, how="semi", maintain_order="left")
        return chosen.rename(wire.short).with_columns(_row=pl.lit(-1, dtype=pl.Int64))

    cells = journal.Change.between(wire, rows(stored.after), rows(now)).cells()
    return cells.select(pl.lit(str(stored.table)).alias("table"), "key", "column", written="old", found="new")


def _refusal(past: Past, lines: pl.DataFrame) -> str:
    rows = lines.select(pl.struct("table", "key").n_unique()).item()
    first = lines.row(0, named=True)
    return (
        f"{_rows(rows)} that batch {past.batch_ids[-1]} wrote {'has' if rows == 1 else 'have'} changed since; the first "
        f"is {first['key']} of table "
        f"{first['table']}: {first['column']} was {first['written']!r} and is {first['found']!r}"
    )


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"
