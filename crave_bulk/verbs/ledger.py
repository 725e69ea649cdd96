"""The verbs that read the ledger, and take batches back."""

from __future__ import annotations

from typing import Literal, overload

import polars as pl

from crave_bulk.connections import Connections
from crave_bulk.errors import ContractError
from crave_bulk.ledger import Ledger
from crave_bulk.pipeline import read, transaction
from crave_bulk.pipeline.work import Options
from crave_bulk.plan import Plan
from crave_bulk.report import Report
from crave_bulk.session import Session
from crave_bulk.undo import UndoWork
from crave_bulk.where import Where


class LedgerVerbs(Connections):
    """Look at the batches that were written, and take one back."""

    def batches(self, *, where: Where = None, limit: int | None = None) -> pl.DataFrame:
        """Read the ledger: one row per batch that was written, the newest first.

        Args:
            where: a condition, as in `read`, such as ``{"table": "foods"}``.
            limit: rows at most.

        Returns:
            batch_id, transaction_id (shared by the batches of one transaction), name, verb, table, input and
            the rows of each outcome, seconds, timings (JSON: seconds by phase), bytes (of the frame),
            peak_memory (bytes, of the process so far), retries, started_at, finished_at, who, process,
            versions (JSON), undoable (as things stand now), not_kept (why what it changed was not kept) and undone_by.

        Raises:
            ContractError: the database keeps no ledger, or the condition is wrong.
            BulkError: the database refused.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.batches()["verb", "table", "input", "inserted"].rows()
            [('insert', 'foods', 2, 2)]
        """
        book = self._book()
        shown = [n for n in book.batches.contract.column_names if n not in ("once", "content", "report")]
        selection = read.Selection(where, shown, "-batch_id", limit)

        def found(session: Session) -> tuple[pl.DataFrame, set[str]]:
            rows = book.read(session, selection)
            return rows, book.kept(session) if rows.height else set()

        rows, kept = self.reading(found)
        changed = pl.sum_horizontal("inserted", "updated", "deleted") > 0
        there = pl.col("batch_id").is_in(list(kept)) | ~changed
        return rows.with_columns(undoable=pl.col("undoable") & there & pl.col("undone_by").is_null())

    @overload
    def undo(
        self,
        batch_id: str,
        *,
        force: bool = False,
        plan: Literal[False] = False,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def undo(
        self, batch_id: str, *, force: bool = False, plan: Literal[True], timeout: float | None = None
    ) -> Plan: ...

    def undo(
        self, batch_id: str, *, force: bool = False, plan: bool = False, timeout: float | None = None
    ) -> Report | Plan:
        """Take a committed batch back: what it inserted, updated or deleted becomes as it was.

        The batches of one transaction are taken back together. The undo is a batch itself, and can be
        taken back too. What triggers did to other tables is not known, and stays.

        Args:
            batch_id: see `batches`, or `Report.batch_id`.
            force: leave rows alone that have changed since (they are ``stale``), and take back the rest.
            plan: write nothing; return a `Plan` of what would change.
            timeout: seconds that the call may take.

        Returns:
            What became of each row that the batches had changed.

        Raises:
            UndoRefused: there is no such batch, it is taken back already or was not kept, or rows have
                changed since, which the error lists; nothing was changed.
            BulkError: the database refused; nothing was changed.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["soup"]}))
            ...     wrong = db.upsert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["?", "?"]}))
            ...     db.undo(wrong.batch_id).counts, db.read(Foods).rows()
            ({'input': 2, 'updated': 1, 'deleted': 1}, [(1, 'soup')])
        """
        book = self._book()

        def prepare() -> UndoWork:
            with self.session() as session, session.shielded():
                return UndoWork(session, book, batch_id, force=force)

        return transaction.run(self, Options("keep", plan=plan, timeout=timeout), prepare)

    def _book(self) -> Ledger:
        if self.ledger is None:
            raise ContractError("this database was connected with ledger=False: connect without it")
        return self.ledger
