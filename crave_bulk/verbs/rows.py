"""The verbs that write the rows of a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

from crave_bulk.connections import Connections, one_of
from crave_bulk.errors import ContractError, shown
from crave_bulk.pipeline import batch, transaction
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.work import Once, OnReject, Options
from crave_bulk.plan import Plan
from crave_bulk.report import Report
from crave_bulk.table import Table
from crave_bulk.where import settled_where


class RowVerbs(Connections):
    """Insert, upsert, update, delete and sync: what became of each row is in the report."""

    @overload
    def insert(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        on_conflict: batch.OnConflict = "error",
        on_reject: OnReject = "raise",
        plan: Literal[False] = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def insert(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        on_conflict: batch.OnConflict = "error",
        on_reject: OnReject = "raise",
        plan: Literal[True],
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Plan: ...

    def insert(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        on_conflict: batch.OnConflict = "error",
        on_reject: OnReject = "raise",
        plan: bool = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report | Plan:
        """Insert new rows.

        Args:
            table: the table, or the name of an existing one.
            frame: a Polars DataFrame or LazyFrame, a pandas frame (whose named index levels count as columns) or a
                pyarrow table. It may leave out a key that is made.
            on_conflict: a row whose key exists is rejected (``error``) or left alone (``ignore``).
            on_reject: ``raise`` writes nothing when a row is refused; ``keep`` writes the others.
            plan: write nothing; return a `Plan` of what would change, which can be applied.
            once: a name for this batch, or True for its content: where it was written before, nothing is done
                and its first report is returned.
            undo: keep the rows as they were, so that `Database.undo` can put them back.
            timeout: seconds that the call may take.

        Returns:
            What became of each row.

        Raises:
            ContractError: the frame does not fit the table.
            RejectedRows: rows were refused and ``on_reject="raise"``; carries the report.
            TimedOut, Cancelled: the call was stopped; nothing was written.
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]})).counts
            {'input': 2, 'inserted': 2}
        """
        one_of("on_conflict", on_conflict, ("error", "ignore"))
        options = Options(on_reject, plan, once, undo, timeout)
        return self._write("insert", table, frame, options, on_conflict=on_conflict)

    @overload
    def upsert(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        on: str | Sequence[str] | None = None,
        newer: str | None = None,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: Literal[False] = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def upsert(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        on: str | Sequence[str] | None = None,
        newer: str | None = None,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: Literal[True],
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Plan: ...

    def upsert(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        on: str | Sequence[str] | None = None,
        newer: str | None = None,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: bool = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report | Plan:
        """Insert rows whose key is new, and merge those whose key exists into what is there.

        Each column is merged by its rule (see `field`); most are simply replaced. Columns that the
        frame leaves out keep their values in existing rows. Rows of the same key in one frame are
        combined in their order by the same rules. A row that was marked as deleted is revived, and what it
        adds is added to its old total. A null takes the default of its column in a new row only; in a row that exists
        it means what the merge rule says.

        A batch that adds or appends is written as often as it is run; its report says if an equal one was written before.

        Args:
            table: the table, or the name of an existing one.
            frame: a Polars DataFrame or LazyFrame, a pandas frame (whose named index levels count as columns) or a
                pyarrow table. It has the key, unless rows are matched by `on`.
            on: another unique key to match rows by; the row that is there keeps its key. A row with a NULL in it is
                rejected.
            newer: a column, such as ``"updated_at"``, by which the newest row wins: one that is older
                than the row that is there is ``stale``.
            duplicates: rows of the same key are combined (``combine``) or all rejected (``error``).
            on_reject: ``raise`` writes nothing when a row is refused; ``keep`` writes the others.
            plan: write nothing; return a `Plan` of what would change, which can be applied.
            once: a name for this batch, or True for its content: where it was written before, nothing is done
                and its first report is returned.
            undo: keep the rows as they were, so that `Database.undo` can put them back.
            timeout: seconds that the call may take.

        Returns:
            What became of each row.

        Raises:
            ContractError: the frame does not fit the table.
            RejectedRows: rows were refused and ``on_reject="raise"``; carries the report.
            TimedOut, Cancelled: the call was stopped; nothing was written.
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.upsert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.upsert(Foods, pl.DataFrame({"food_id": [2, 3], "name": ["rye", "cake"]})).counts
            {'input': 2, 'inserted': 1, 'updated': 1}
        """
        columns = None if on is None else (on,) if isinstance(on, str) else on
        if not isinstance(columns, list | tuple | None) or not all(
            isinstance(n, str) and n for n in columns or [""] * (columns is not None)
        ):
            raise ContractError(
                f"on={shown(on)} is not understood: name the column of a unique key, or list its columns"
            )
        columns = None if columns is None else tuple(columns)
        options = Options(on_reject, plan, once, undo, timeout)
        return self._write("upsert", table, frame, options, on=columns, newer=newer, duplicates=duplicates)

    @overload
    def update(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: Literal[False] = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def update(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: Literal[True],
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Plan: ...

    def update(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: bool = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report | Plan:
        """Set the columns of the frame in the rows that exist, by key; insert nothing.

        A value is set as it is: merge rules are for `upsert`. Rows that are marked as deleted are missing.

        Args:
            table: the table, or the name of an existing one.
            frame: the key, and the columns to set.
            duplicates: of rows of the same key the last one stands (``combine``), or all are rejected
                (``error``).
            on_reject: ``raise`` writes nothing when a row is refused; ``keep`` writes the others.
            plan: write nothing; return a `Plan` of what would change, which can be applied.
            once: a name for this batch, or True for its content: where it was written before, nothing is done
                and its first report is returned.
            undo: keep the rows as they were, so that `Database.undo` can put them back.
            timeout: seconds that the call may take.

        Returns:
            What became of each row: ``missing`` where its key is not there.

        Raises:
            ContractError: the frame does not fit the table.
            RejectedRows: rows were refused and ``on_reject="raise"``; carries the report.
            TimedOut, Cancelled: the call was stopped; nothing was written.
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.update(Foods, pl.DataFrame({"food_id": [2, 9], "name": ["rye", "cake"]})).counts
            {'input': 2, 'updated': 1, 'missing': 1}
        """
        options = Options(on_reject, plan, once, undo, timeout)
        return self._write("update", table, frame, options, duplicates=duplicates)

    @overload
    def delete(
        self,
        table: type[Table] | str,
        keys: Any,
        *,
        hard: bool = False,
        on_reject: OnReject = "raise",
        plan: Literal[False] = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def delete(
        self,
        table: type[Table] | str,
        keys: Any,
        *,
        hard: bool = False,
        on_reject: OnReject = "raise",
        plan: Literal[True],
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Plan: ...

    def delete(
        self,
        table: type[Table] | str,
        keys: Any,
        *,
        hard: bool = False,
        on_reject: OnReject = "raise",
        plan: bool = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report | Plan:
        """Delete the rows of some keys; mark them instead where the table has a ``soft_delete`` field.

        Args:
            table: the table, or the name of an existing one.
            keys: a frame that has the key columns, or a list, a series or an array of keys.
            hard: remove the rows even so.
            on_reject: ``raise`` deletes nothing when a row is refused; ``keep`` deletes the others.
            plan: write nothing; return a `Plan` of what would change, which can be applied.
            once: a name for this batch, or True for its content: where it was written before, nothing is done
                and its first report is returned.
            undo: keep the rows as they were, so that `Database.undo` can put them back.
            timeout: seconds that the call may take.

        Returns:
            What became of each key: ``missing`` where it is not there.

        Raises:
            ContractError: the keys do not fit the table.
            RejectedRows: rows were refused, as others refer to them, and ``on_reject="raise"``.
            TimedOut, Cancelled: the call was stopped; nothing was written.
            BulkError: the database refused; nothing was deleted.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.delete(Foods, [1, 9]).counts
            {'input': 2, 'deleted': 1, 'missing': 1}
        """
        options = Options(on_reject, plan, once, undo, timeout)
        return self._write("delete", table, keys, options, hard=hard)

    @overload
    def sync(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        within: Mapping[str, Any] | str | None = None,
        hard: bool = False,
        allow_empty: bool = False,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: Literal[False] = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def sync(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        within: Mapping[str, Any] | str | None = None,
        hard: bool = False,
        allow_empty: bool = False,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: Literal[True],
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Plan: ...

    def sync(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        within: Mapping[str, Any] | str | None = None,
        hard: bool = False,
        allow_empty: bool = False,
        duplicates: batch.Duplicates = "combine",
        on_reject: OnReject = "raise",
        plan: bool = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report | Plan:
        """Make the table hold the rows of the frame and no others: insert, update and delete.

        The table equals the frame afterwards: merge rules do not apply, and every value replaces what is there.
        A row whose key is in the frame is never deleted, also where the frame's row is refused, and no cascade
        touches it. The other rows go first, so that their unique values are free; those that rows of the table
        refer to go last, and then the rows of the frame that claim their unique values are written. One that cannot go
        even then, as rows that stay refer to it or the database keeps it, is rejected.

        Args:
            table: the table, or the name of an existing one.
            frame: the rows that the table shall have.
            within: a condition, as in `read`, that a row must meet to be deleted. Rows of the frame are
                written whether they meet it or not.
            hard: remove rows that could be marked as deleted.
            allow_empty: take a frame without rows for "delete all" rather than for a mistake.
            duplicates: rows of the same key are combined (``combine``) or all rejected (``error``).
            on_reject: ``raise`` writes nothing when a row is refused; ``keep`` writes the others.
            plan: write nothing; return a `Plan` of what would change, which can be applied.
            once: a name for this batch, or True for its content: where it was written before, nothing is done
                and its first report is returned.
            undo: keep the rows as they were, so that `Database.undo` can put them back.
            timeout: seconds that the call may take.

        Returns:
            What became of each row of the frame and then of each row that was to be deleted, see `Report.deleted`.

        Raises:
            ContractError: the frame does not fit the table, or is empty.
            RejectedRows: rows were refused and ``on_reject="raise"``; carries the report.
            TimedOut, Cancelled: the call was stopped; nothing was written.
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.sync(Foods, pl.DataFrame({"food_id": [2, 3], "name": ["bread", "cake"]})).counts
            {'input': 3, 'inserted': 1, 'unchanged': 1, 'deleted': 1}
        """
        return self._write(
            "sync",
            table,
            frame,
            Options(on_reject, plan, once, undo, timeout),
            within=settled_where(within),
            hard=hard,
            allow_empty=allow_empty,
            duplicates=duplicates,
        )

    def _write(
        self, verb: batch.Verb, table: type[Table] | str, frame: Any, options: Options, **more: Any
    ) -> Report | Plan:
        one_of("duplicates", more.get("duplicates", "combine"), ("combine", "error"))

        def prepare() -> batch.RowWork:
            contract = self._contract(table, write=True)
            return batch.prepare(
                self.session, Wire(contract, self.backend), batch.Call(verb, contract, **more), frame
            )

        return transaction.run(self, options, prepare)
