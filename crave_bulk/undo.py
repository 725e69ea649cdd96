"""Undo: put the rows that a batch has changed back as they were, as a batch of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandera.polars as pa
import polars as pl

from crave_bulk import failures, journal
from crave_bulk.backends.codec import Codec
from crave_bulk.errors import CHANGED_SINCE, TableNotFound, UndoRefused
from crave_bulk.journal import Stored
from crave_bulk.ledger import Ledger
from crave_bulk.pipeline import dedupe, read
from crave_bulk.pipeline.attempt import Attempt
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.job import Job
from crave_bulk.pipeline.merge import Columns
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.staging import Staging
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.work import Turn, Work
from crave_bulk.report import OUTCOME
from crave_bulk.session import Session
from crave_bulk.sql import quote_all
from crave_bulk.table import Column, Contract, FieldOptions


@dataclass(frozen=True, slots=True)
class Past:
    """The batches of one transaction, and what they have changed.

    Attributes:
        transaction_id: what they have in common.
        batch_ids: in the order in which they were written.
        tables: their tables.
        undoes: one of them has taken back others.
    """

    transaction_id: str
    batch_ids: list[str]
    tables: list[str]
    undoes: bool


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
    columns = ["batch_id", "transaction_id", "verb", "table", "undoable", "undone_by"]
    own = ledger.read(session, read.Selection({"batch_id": batch_id}, columns)) if _is_id(batch_id) else None
    if own is None or not own.height:
        raise UndoRefused(f"there is no batch {batch_id!r} in {ledger.name}: see db.batches()")
    # The ids of batches sort by time, and a transaction has that of its first: no older ones need be looked at.
    first = own["transaction_id"][0]
    together = {"batch_id__gte": first, "transaction_id": first}
    found = ledger.read(session, read.Selection(together, columns, "batch_id"))
    for row in found.iter_rows(named=True):
        if row["undone_by"] is not None:
            raise UndoRefused(f"batch {row['batch_id']} was taken back already, by batch {row['undone_by']}")
        if not row["undoable"]:
            raise UndoRefused(
                f"batch {row['batch_id']} ({row['table']}) cannot be taken back: it was written with undo=False, or its "
                "report says why the rows could not be kept as they were"
            )
    tables = ", ".join(found["table"]).split(", ")
    return Past(
        first, found["batch_id"].to_list(), list(dict.fromkeys(tables)), "undo" in found["verb"].to_list()
    )


def _is_id(text: str) -> bool:
    return isinstance(text, str) and len(text) == 36 and all(c in "0123456789abcdef-" for c in text)


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
        verdict, changed = Verdict.over(0), [pl.DataFrame(schema=CHANGED_SINCE)]
        try:
            with turn.session.atomic():
                changed += [self._take_back(turn, step, verdict) for step in self._steps(turn.session)]
        except _InTheWay as others:
            changed += self._changed_since(turn)  # what has changed may be what is in the way
            if not any(lines.height for lines in changed):
                raise UndoRefused(str(others)) from None
        lines = pl.concat(changed)
        if lines.height and not self.force:
            raise UndoRefused(_refusal(self.past, lines), lines)
        if self.past.undoes:
            self.ledger.stand_again(turn.session, self.past.batch_ids)
        ids = self.past.batch_ids
        if self.ledger.undone(turn.session, ids, turn.batch_id) < len(ids):
            raise UndoRefused("another has taken the batch back just now; nothing was changed")
        return verdict

    def _steps(self, session: Session) -> Iterator[Stored]:
        """Read the steps of the batches, the last of them first."""
        for batch_id in reversed(self.past.batch_ids):
            stored = journal.load(session, self.ledger, batch_id)
            if not stored and self._had_changed(session, batch_id):
                raise UndoRefused(
                    f"what batch {batch_id} has changed is not kept any more, only that of the newest "
                    f"{self.ledger.keep}: cb.connect(url, keep_undo=...) keeps more"
                )
            yield from reversed(stored)

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
            wire = _wire(turn.session, step)
            key = list(wire.contract.key)
            now, keys = self._now(turn, wire, step), step.keys(key)
            known = seen.get(wire.target, keys.clear())
            yield _changed(step, wire, now, _moved(step.after, now, key).join(known, on=key, how="anti"))
            seen[wire.target] = pl.concat([known, keys])

    def _take_back(self, turn: Turn, stored: Stored, verdict: Verdict) -> pl.DataFrame:
        """Put the rows of one step back, and list what has changed since."""
        wire = _wire(turn.session, stored)
        key = list(wire.contract.key)
        with self.clock.phase("dedupe", stored.after.height):
            now = self._now(turn, wire, stored)
            moved = _moved(stored.after, now, key)
            left = self._left.get(wire.target, moved.clear())
            # A row that was left alone in a later step stays so, even if it is now as this one left it.
            changed = _changed(stored, wire, now, moved.join(left, on=key, how="anti"))
            moved = self._left[wire.target] = pl.concat([moved, left]).unique(maintain_order=True)
        # The other way round: a unique value that was handed on goes back to whom it came from.
        back = stored.before.join(moved, on=key, how="anti", maintain_order="left")
        # Not reverse(), which loses the inner dtype of lists that are all null (polars 2.1).
        back = back[list(range(back.height - 1, -1, -1))] if back.height else back
        new = stored.after.select(key).join(stored.before, on=key, how="anti", maintain_order="left")
        new = new.join(moved, on=key, how="anti", maintain_order="left")
        with self.clock.phase("merge", back.height + new.height):
            gone = self._delete(turn, wire, new, late=False)
            restored = self._put_back(turn, wire, back)
            gone = self._delete(turn, wire, new, late=True) if gone is None else gone
        for part, rows in ((restored, back), (gone, new)):
            self._account(verdict, part, rows.select(key), stored)
        mine = moved.join(left, on=key, how="anti", maintain_order="left")
        stale = Verdict(pl.repeat("stale", mine.height, dtype=OUTCOME, eager=True))
        self._account(verdict, stale, mine, stored)
        return changed

    def _account(self, verdict: Verdict, part: Verdict | None, keys: pl.DataFrame, stored: Stored) -> None:
        if part is None or not keys.height:
            return
        found = failures.gather(part.failures)
        if found.height and not self.force:
            line = found.row(0, named=True)
            raise _InTheWay(
                f"{_rows(found['row'].n_unique())} of table {stored.table} cannot be put back: {line['column']} = "
                f"{line['value']!r}: {line['message']}; nothing was changed: force=True takes back the rest"
            )
        if found.height:
            verdict.failures.append(found.with_columns(pl.col("row") + len(verdict.outcomes)))
        verdict.outcomes = verdict.outcomes.append(part.outcomes)
        verdict.changes += part.changes
        verdict.notes += part.notes
        self._keys.append(keys.select(pl.lit(str(stored.table)).alias("table"), pl.all()))

    def _now(self, turn: Turn, wire: Wire, stored: Stored) -> pl.DataFrame:
        """Read the rows as they are, and keep others from changing them."""
        key, names = wire.contract.key, wire.contract.column_names
        keys = stored.keys(key)
        staging = Staging(turn.session, self.clock, wire.shorts(key))
        staging.put(keys.rename(wire.short, strict=False).with_row_index("_row").cast({"_row": pl.Int64}))
        lock = turn.session.backend.lock_rows.format(quote_all(key, "t."))
        found = wire.fetch(turn.session, dedupe.kept_sql(wire, names, lock), names)
        staging.close()
        return found.rename({wire.short[name]: name for name in names})

    def _delete(self, turn: Turn, wire: Wire, keys: pl.DataFrame, *, late: bool) -> Verdict | None:
        """Delete rows; before the others are put back, None where one is still referred to."""
        verdict = verdict_of(keys)
        if not keys.height:
            return verdict
        try:
            with turn.session.atomic():
                self._run(turn, _delete_job(wire, keys), verdict)
                if verdict.failures and not late:
                    raise _TooEarly
        except _TooEarly:
            return None
        return verdict

    def _put_back(self, turn: Turn, wire: Wire, rows: pl.DataFrame) -> Verdict:
        """Put rows back; where unique values were exchanged in a circle, let go of all of them first."""
        verdict, loose = verdict_of(rows), _loose(wire)
        try:
            with turn.session.atomic():
                self._run(turn, _merge_job(wire, rows), verdict)
                if loose and "unique" in failures.gather(verdict.failures)["stage"]:
                    raise _TooEarly
        except _TooEarly:
            let_go = self._run(turn, _loosening_job(wire, rows, loose), verdict_of(rows))
            verdict = self._run(turn, _merge_job(wire, rows), verdict_of(rows))
            verdict.changes = let_go.changes + verdict.changes
        _note_others(verdict, rows, wire)
        return verdict

    def _run(self, turn: Turn, job: Job, verdict: Verdict) -> Verdict:
        if job.frame.height:
            # What is deferred is checked at the commit, when all tables are as they were.
            Attempt(replace(turn, joined=True), job, verdict, self.clock).run()
        return verdict


class _TooEarly(Exception):
    pass


class _InTheWay(Exception):
    pass


def verdict_of(rows: pl.DataFrame) -> Verdict:
    """Begin with nothing known of some rows."""
    return Verdict.over(rows.height)


def _wire(session: Session, stored: Stored) -> Wire:
    """Make the wire of the journal's own values, which need no declaration."""
    try:
        found = session.backend.reflect(session, stored.table)
    except TableNotFound as error:
        raise UndoRefused(f"table {stored.table} is gone, so the batch cannot be taken back") from error
    if gone := [c["name"] for c in stored.columns if c["name"] not in found.column_names]:
        raise UndoRefused(
            f"column {gone[0]!r} of table {stored.table} is gone, so the batch cannot be taken back"
        )
    names = {column["name"] for column in stored.columns}
    own = {column["name"] for column in stored.columns if column["key"]}
    columns = tuple(
        Column(
            column["name"],
            stored.before.schema[column["name"]],
            nullable=found.column(column["name"]).nullable,
            required=False,
            coerce=False,
            options=FieldOptions(key=column["key"]),
            identity_always=column["identity_always"],
        )
        for column in stored.columns
    )
    contract = Contract(
        name=stored.table,
        columns=columns,
        key=tuple(column["name"] for column in stored.columns if column["key"]),
        unique=tuple(key for key in (found.key, *found.unique) if set(key) <= names and set(key) != own),
        references=tuple(r for r in found.references if set(r.columns) <= names),
        schema=pa.DataFrameSchema(),
    )
    codecs = {
        column["name"]: Codec(
            "",
            stored.before.schema[column["name"]],
            stage=column["stage"],
            read=column["read"],
            compare=column["compare"],
        )
        for column in stored.columns
    }
    return Wire(contract, session.backend, codecs)


def _merge_job(wire: Wire, rows: pl.DataFrame) -> Job:
    """Make the job that puts rows back: all their columns, as they were."""
    contract = wire.contract
    names = [c.name for c in contract.columns if c.options.key or not c.identity_always]
    changed = [name for name in names if name not in contract.key]
    return Job(wire, "merge", Columns(names, changed, changed), {}, rows)


def _loose(wire: Wire) -> list[str]:
    """Name the columns of unique keys that may be NULL, and so hold nothing."""
    contract = wire.contract
    unique = {name for key in contract.unique for name in key} - set(contract.key)
    return [column.name for column in contract.columns if column.name in unique and column.nullable]


def _loosening_job(wire: Wire, rows: pl.DataFrame, names: list[str]) -> Job:
    """Make the job that sets columns of some rows to NULL."""
    frame = rows.with_columns(pl.lit(None, rows.schema[name]).alias(name) for name in names)
    return Job(wire, "update", Columns([*wire.contract.key, *names], names, names), {}, frame)


def _delete_job(wire: Wire, keys: pl.DataFrame) -> Job:
    """Make the job that deletes rows by their keys."""
    contract = wire.contract
    columns = tuple(contract.column(name) for name in contract.key)
    only_key = replace(contract, columns=columns, unique=(), references=())
    codecs = {name: wire.codecs[name] for name in contract.key}
    return Job(
        Wire(only_key, wire.backend, codecs),
        "delete",
        Columns(list(contract.key), [], []),
        {},
        keys,
        changed="deleted",
        alone=True,
    )


def _moved(after: pl.DataFrame, now: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Find the keys whose rows are not as the batch has left them."""
    names = after.columns
    left = after.join(now, on=names, how="anti", nulls_equal=True)
    new = now.select(names).join(after, on=names, how="anti", nulls_equal=True)
    return pl.concat([left.select(key), new.select(key)]).unique(maintain_order=True)


def _note_others(verdict: Verdict, rows: pl.DataFrame, wire: Wire) -> None:
    """Say where rows are not quite as they were, as a trigger has changed them on the way back."""
    others = 0
    for change in journal.combined(verdict.changes):
        names = {change.wire.short[name]: name for name in wire.contract.column_names}
        left = change.now.rename(names).select(rows.columns)
        others += left.join(rows, on=rows.columns, how="anti", nulls_equal=True).height
    if others:
        verdict.notes.append(
            f"{_rows(others)} of table {wire.contract.name} could not be put back exactly: a trigger of the database "
            "has changed what was written."
        )


def _changed(stored: Stored, wire: Wire, now: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
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
        f"{first['table']}: {first['column']} was {first['written']!r} and is {first['found']!r}; nothing was changed: "
        "see .rows for all of them; force=True leaves those rows alone and takes back the rest"
    )


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"
