"""Run one batch in a transaction: again where it must be, once where it was, and back where it was a plan."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from crave_bulk import journal, ledger, log, once, provenance
from crave_bulk.engine import next_id
from crave_bulk.errors import (
    CommitUnknown,
    ConnectionFailed,
    ConstraintViolated,
    DatabaseBusy,
    PlanStale,
    RejectedRows,
    TableNotFound,
)
from crave_bulk.fate import Fate
from crave_bulk.journal import Change
from crave_bulk.pipeline import read
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.work import Options, Turn, Work
from crave_bulk.pipeline.write import Raced
from crave_bulk.plan import Plan
from crave_bulk.report import Report
from crave_bulk.retry import again
from crave_bulk.session import Session

if TYPE_CHECKING:
    from crave_bulk.connections import Connections

# Another writer can take a key between the check and the merge: then everything is checked again, in turn with
# those that have met the same. What still fails in the last of these attempts is put down to the rows.
_RACES = 10


def run(db: Connections, options: Options, prepare: Callable[[], Work]) -> Report | Plan:
    """Run one batch.

    Args:
        db: the database; a transaction that is open in this thread is joined.
        options: how the caller wants it written.
        prepare: reads the table and the frame, before the transaction; called once.

    Returns:
        What became of each row; of a plan, what would.

    Raises:
        RejectedRows: rows were refused and ``on_reject="raise"``; nothing was written.
        TimedOut: it took too long; nothing was written.
        Cancelled: it was cancelled; nothing was written.
        BulkError: the database refused; nothing was written.
    """
    return Batch(db, options, prepare).run()


class Batch:
    """One batch on its way into the database.

    Args:
        db: the database.
        options: how the caller wants it written.
        prepare: reads the table and the frame.
        agrees: looks at what was done just before the commit, and raises where it is not what was planned.
    """

    def __init__(
        self,
        db: Connections,
        options: Options,
        prepare: Callable[[], Work],
        agrees: Callable[[Plan], None] | None = None,
    ) -> None:
        self.db, self.options, self._prepare, self._agrees = db, options, prepare, agrees
        self.name = db.name_of_batch
        self.id = next_id()
        self.work: Work | None = None
        self.started = dt.datetime.now(dt.UTC)
        self._start = time.perf_counter()
        self._once: once.Key | None = None
        self._notes: tuple[str, ...] = ()
        self._retries = self._races = 0
        self._settled = False  # nobody else can be to blame for what is refused
        self._joined = False
        self._result: Report | Plan | None = None

    def run(self) -> Report | Plan:
        """Run it, as often as it takes."""
        try:
            with self.db.watched(self.options.timeout) as watch:
                for attempt in again(watch, self._transient, self._tell):
                    with attempt:
                        self._run_once()
        except Raced as error:
            raise DatabaseBusy(
                "other writers keep changing the same rows: run the call again; nothing was written"
            ) from error
        except BaseException as error:
            if self.work is not None:
                log.failed(self.id, self.work.verb, self.work.table, error)
            raise
        return self._finished()

    def _run_once(self) -> None:
        try:
            with self.db.session() as session:
                self._joined = session.in_transaction
                if self.work is None:
                    self.work = self._prepare()
                    self._once = once.key(session, self.options.once, self.work, self.db.ledger is not None)
                self._attempt(session, self.work)
        except CommitUnknown as lost:
            # Without a batch in it, it was the ledger that was to be created, or a batch that was found there.
            nothing = self.db.ledger is not None and not lost.batches
            if nothing or not self.db.was_committed(lost):
                raise ConnectionFailed(f"{lost.__cause__}; nothing was written") from lost

    # -- what is tried again --

    def _transient(self, error: BaseException) -> bool:
        if isinstance(error, Raced):
            self._races += 1
            return True
        # A transaction that was opened outside has read what is locked or out of date by now.
        return self.db.may_pass(error) and not self._joined

    def _tell(self, attempt: int, error: BaseException) -> None:
        self._retries += 1
        log.retried(self.id, attempt, error)

    # -- one attempt --

    def _attempt(self, session: Session, work: Work) -> None:
        book = self.db.ledger
        if book is not None and not self.options.plan:
            with self.db.apart(session) as apart:
                book.ensure(apart)
        try:
            with session.atomic():
                if self._races and not self._joined and session.backend.wait_turn:
                    # Those who have met take turns from now on; else eight who bring the same new keys meet again.
                    session.execute(session.backend.wait_turn.format(ledger.number(f"write {work.table}")))
                if book is None or not self._replay(session, book, work):
                    self._write(session, book, work)
        except _RolledBack:
            pass
        except Raced as error:
            constraint = error.constraint
            self._settled = constraint is not None and not work.shared(session, constraint)
            raise

    def _replay(self, session: Session, book: ledger.Ledger, work: Work) -> bool:
        """Take the report of a batch that was written once already, where there is one."""
        key = self._once
        if key is None or (self.options.plan and not book.exists(session)):
            return False
        try:
            found = book.claim(session, key.text) if key.text else None
            self._notes = once.notes(session, book, key, work)
        except TableNotFound as error:
            book.forget()
            raise Raced from error  # somebody has dropped it
        if found is None or not found.height:
            return False
        report = once.replayed(session, key, work, found.row(0, named=True))
        pending = next((batch for batch in session.batches if batch.batch_id == report.batch_id), None)
        report = replace(report, database=self.db, fate=pending)
        self._result = Plan(report, [], None) if self.options.plan else report
        return True

    def _write(self, session: Session, book: ledger.Ledger | None, work: Work) -> None:
        """Write, and keep account of it in the same transaction."""
        options, keeps = self.options, self.options.undo and book is not None
        wanted = keeps or options.plan or self._agrees is not None
        last = self._settled or self._races >= _RACES - 1
        must = options.plan or self._agrees is not None
        verdict = work.write(Turn(session, self._joined, last, self.id, keeps=wanted, must=must, undo=keeps))
        refused = options.on_reject == "raise" and bool(verdict.failures)
        if options.plan or refused:
            report = self._report(work, verdict, written=False)
            changes = journal.combined(session, verdict.changes) if options.plan else []
            self._result = Plan(report, changes, self._again(work, verdict)) if options.plan else report
            raise _RolledBack
        if self._agrees:
            changes = journal.combined(session, verdict.changes)
            self._agrees(Plan(self._report(work, verdict, written=True), changes, None))
        fate = Fate(self.id)
        if book is None:
            self._result = replace(self._report(work, verdict, written=True), fate=fate)
            session.batches.append(fate)
            return
        kept = work.steps(session, verdict) if keeps and not verdict.unkept else None
        try:
            self._result = replace(self._record(session, book, work, verdict, kept), fate=fate)
        except ConstraintViolated as error:
            raise Raced from error  # another has written the same once, on a database where nobody waits in turn
        except TableNotFound as error:
            book.forget()
            raise Raced from error  # somebody has dropped it
        session.batches.append(fate)

    def _record(
        self,
        session: Session,
        book: ledger.Ledger,
        work: Work,
        verdict: Verdict,
        changes: Sequence[Change] | None,
    ) -> Report:
        """Write down what was done, and what it has changed, where that is kept."""
        first = session.batches[0].batch_id if session.batches else self.id
        with work.clock.phase("ledger", sum(c.before.height + c.new.height for c in changes or ())):
            journal.store(session, book, self.id, first, changes or ())
        report = self._report(work, verdict, written=True)
        row = provenance.entry(report, self.started, int(work.source.estimated_size()))
        row |= {
            "undoable": changes is not None,
            "not_kept": None if changes is not None else verdict.unkept or "it was written with undo=False",
            "transaction_id": first,
            "name": self.name,
        }
        if self._once is not None:
            row |= once.columns(self._once, report)
        with work.clock.phase("ledger", work.source.height):
            book.record(session, row)
        return report

    def _report(self, work: Work, verdict: Verdict, *, written: bool) -> Report:
        report = work.report(verdict, self.id, written=written)
        notes = (*self._notes, *verdict.notes)
        if verdict.unkept:
            notes += (f"This batch cannot be taken back: {verdict.unkept}.",)
        spent = time.perf_counter() - self._start
        return replace(report, seconds=spent, retries=self._retries, notes=notes, database=self.db)

    # -- afterwards --

    def _finished(self) -> Report | Plan:
        result, work = self._result, self.work
        assert result is not None and work is not None  # noqa: PT018, S101 - an attempt has ended without an error
        report = result.report if isinstance(result, Plan) else result
        if not report.replayed:
            report = replace(
                report,
                seconds=time.perf_counter() - self._start,
                timings=work.clock.frame(),
                retries=self._retries,
            )
        log.done(report)
        if isinstance(result, Plan):
            return replace(result, report=report)
        if not report.written:
            raise RejectedRows(report)
        return report

    def _again(self, work: Work, verdict: Verdict) -> Callable[[Callable[[Plan], None]], Report]:
        """Make the function that writes what was planned, if it comes to the same thing."""
        work.fixed(verdict)
        options, applied = replace(self.options, plan=False), list[str]()

        def apply(agrees: Callable[[Plan], None]) -> Report:
            if applied and self._stands(applied[-1]):
                raise PlanStale(
                    f"the plan was applied already, as batch {applied[-1]}; nothing more was written: to write it once "
                    "more, plan again"
                )
            work.clock = Clock()
            report = Batch(self.db, options, lambda: work, agrees).run()
            report = report if isinstance(report, Report) else report.report
            applied.append(report.batch_id)
            return report

        return apply

    def _stands(self, batch_id: str) -> bool:
        """Tell whether a batch was neither rolled back with its transaction nor taken back."""
        book = self.db.ledger
        if book is None:
            return True
        selection = read.Selection({"batch_id": batch_id}, ["undone_by"])
        found = self.db.reading(lambda session: book.read(session, selection))
        return found.height > 0 and found.item() is None


class _RolledBack(Exception):
    pass
