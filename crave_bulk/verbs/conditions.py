"""The verbs that read and write the rows that meet a condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

import polars as pl

from crave_bulk.connections import Connections, one_of
from crave_bulk.errors import DatabaseError, about_rows
from crave_bulk.pipeline import batch, conditional, read, transaction
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.work import Once, OnReject, Options, Work
from crave_bulk.plan import Plan
from crave_bulk.report import Report
from crave_bulk.scalar import settled
from crave_bulk.table import Contract, Table
from crave_bulk.where import Where, computing, settled_where


class ConditionVerbs(Connections):
    """Read, update, delete and restore what meets a condition."""

    def read(
        self,
        table: type[Table] | str,
        *,
        where: Where = None,
        columns: Sequence[str] | None = None,
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
        include_deleted: bool = False,
        unreadable: read.OnUnreadable = "error",
    ) -> pl.DataFrame:
        """Read rows as a frame with the table's dtypes.

        Args:
            table: the table or, by its name, any table or view of the database.
            where: a mapping of columns and lookups to values, all of which must hold, such as
                ``{"type": "soup", "price__lt": 5}``; or a SQL condition, such as
                ``"type = 'soup' AND price < 5"``. The lookups are lt, lte, gt, gte, ne, in, notin,
                isnull, contains, startswith, endswith and between. As in SQL, ne, ``<>`` and notin pass over
                NULLs. ``lower``, ``upper`` and ``ILIKE`` know the letters A to Z alone.
            columns: which columns, in this order; None for all.
            order_by: columns to sort by, ``-name`` for descending; nulls come last. None: the order
                of the database, which is no order.
            limit: rows at most.
            include_deleted: read rows that are marked as deleted, too.
            unreadable: what to do with values that the column's dtype cannot hold, as another program wrote
                them: on SQLite 2.5 in an INTEGER column, 31 February, or seconds since 1970 in a DATETIME
                column, which could be milliseconds (an integer is read as milliseconds only if it is too large
                for seconds); on PostgreSQL infinity, a year before 1 or after 9999, NaN in a numeric column, an
                interval of months; on both, JSON that a list or a struct cannot hold. ``error`` raises, naming the column and the row; ``text`` reads the columns
                that hold such values as text, a blob of SQLite as ``X'00FF'``, and the others as ever.

        Returns:
            The frame.

        Raises:
            ContractError: a column is not in the table, or the condition is not understood.
            Unreadable: a row holds what a frame cannot, and ``unreadable="error"``.
            TableNotFound: there is no table of that name.
            BulkError: the database refused.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.read(Foods, columns=["name"], order_by="-food_id").rows()
            [('bread',), ('soup',)]
        """
        one_of("unreadable", unreadable, ("error", "text"))
        wire = Wire(self._contract(table), self.backend)
        selection = read.Selection(settled_where(where), columns, order_by, limit, include_deleted)
        with computing():
            return self.reading(lambda session: read.rows(session, wire, selection, unreadable))

    @overload
    def update_where(
        self,
        table: type[Table] | str,
        changes: Mapping[str, Any],
        where: Where,
        *,
        on_reject: OnReject = "raise",
        plan: Literal[False] = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def update_where(
        self,
        table: type[Table] | str,
        changes: Mapping[str, Any],
        where: Where,
        *,
        on_reject: OnReject = "raise",
        plan: Literal[True],
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Plan: ...

    def update_where(
        self,
        table: type[Table] | str,
        changes: Mapping[str, Any],
        where: Where,
        *,
        on_reject: OnReject = "raise",
        plan: bool = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report | Plan:
        """Set columns to values in the rows that meet a condition, by one statement.

        Rows that have these values already are left alone, and so are those that are marked as deleted.
        Rules that are about whole rows (checks of the table rather than of a column) are not judged.

        Args:
            table: the table, or the name of an existing one.
            changes: column to value; None is NULL.
            where: as for `read`, but not empty.
            on_reject: ``raise`` writes nothing when the database refuses a row; ``keep`` writes the others.
            plan: write nothing; return a `Plan` of what would change, which can be applied.
            once: a name for this batch, or True for its content: where it was written before, nothing is done
                and its first report is returned.
            undo: keep the rows as they were, so that `Database.undo` can put them back.
            timeout: seconds that the call may take.

        Returns:
            The rows that changed, each as ``updated``.

        Raises:
            ContractError: the condition or a value is wrong, breaks a rule, or is of a key column.
            RejectedRows: the database refused rows and ``on_reject="raise"``; carries the report.
            TimedOut, Cancelled: the call was stopped; nothing was written.
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.update_where(Foods, {"name": "rye"}, where={"food_id__gt": 1}).counts
            {'input': 1, 'updated': 1}
        """
        where = settled_where(where)
        if isinstance(changes, Mapping):
            changes = {name: settled(value) for name, value in changes.items()}
        return self._found(
            table,
            Options(on_reject, plan, once, undo, timeout),
            lambda contract: batch.Call(
                "update", contract, called="update_where", said=conditional.said(changes, where)
            ),
            lambda wire: conditional.update_where(wire, changes, where),
            lambda wire: self._keys(wire, where).join(conditional.changed_values(wire, changes), how="cross"),
        )

    @overload
    def delete_where(
        self,
        table: type[Table] | str,
        where: Where,
        *,
        hard: bool = False,
        on_reject: OnReject = "raise",
        plan: Literal[False] = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def delete_where(
        self,
        table: type[Table] | str,
        where: Where,
        *,
        hard: bool = False,
        on_reject: OnReject = "raise",
        plan: Literal[True],
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Plan: ...

    def delete_where(
        self,
        table: type[Table] | str,
        where: Where,
        *,
        hard: bool = False,
        on_reject: OnReject = "raise",
        plan: bool = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report | Plan:
        """Delete the rows that meet a condition, by one statement.

        Where the table has a ``soft_delete`` column, rows are marked in it and stay.

        Args:
            table: the table, or the name of an existing one.
            where: as for `read`, but not empty.
            hard: remove the rows, also those that are marked as deleted.
            on_reject: ``raise`` deletes nothing when the database refuses a row; ``keep`` deletes the others.
            plan: write nothing; return a `Plan` of what would change, which can be applied.
            once: a name for this batch, or True for its content: where it was written before, nothing is done
                and its first report is returned.
            undo: keep the rows as they were, so that `Database.undo` can put them back.
            timeout: seconds that the call may take.

        Returns:
            The rows that were deleted, each as ``deleted``.

        Raises:
            ContractError: the condition is wrong.
            RejectedRows: the database refused rows and ``on_reject="raise"``; carries the report.
            TimedOut, Cancelled: the call was stopped; nothing was written.
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.delete_where(Foods, "name LIKE 's%'").deleted["food_id"].to_list()
            [1]
        """
        where = settled_where(where)
        return self._found(
            table,
            Options(on_reject, plan, once, undo, timeout),
            lambda contract: batch.Call(
                "delete", contract, hard=hard, called="delete_where", said=conditional.said(where, hard)
            ),
            lambda wire: conditional.delete_where(wire, where, hard=hard),
            lambda wire: self._keys(wire, where, deleted=hard),
        )

    @overload
    def restore_where(
        self,
        table: type[Table] | str,
        where: Where,
        *,
        on_reject: OnReject = "raise",
        plan: Literal[False] = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report: ...

    @overload
    def restore_where(
        self,
        table: type[Table] | str,
        where: Where,
        *,
        on_reject: OnReject = "raise",
        plan: Literal[True],
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Plan: ...

    def restore_where(
        self,
        table: type[Table] | str,
        where: Where,
        *,
        on_reject: OnReject = "raise",
        plan: bool = False,
        once: Once = None,
        undo: bool = True,
        timeout: float | None = None,
    ) -> Report | Plan:
        """Take back the soft deletion of the rows that meet a condition, by one statement.

        Args:
            table: a table with a ``soft_delete`` column.
            where: as for `read`, but not empty.
            on_reject: ``"raise"`` writes nothing if a row is refused, ``"keep"`` restores the others.
            plan: write nothing; return a `Plan` of what would change, which can be applied.
            once: a name for this batch, or True for its content: where it was written before, nothing is done
                and its first report is returned.
            undo: keep the rows as they were, so that `Database.undo` can put them back.
            timeout: seconds that the call may take.

        Returns:
            The rows that were restored, each as ``updated``.

        Raises:
            ContractError: the condition is wrong, or the table has no ``soft_delete`` column.
            RejectedRows: rows were refused, such as one whose unique value is taken; nothing was written.
            TimedOut, Cancelled: the call was stopped; nothing was written.
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl
            >>> from crave_bulk import Table, connect, field
            >>> class Notes(Table):
            ...     note_id: int = field(key=True)
            ...     deleted: bool = field(soft_delete=True, default=False)
            >>> with connect() as db:
            ...     db.create(Notes)
            ...     _ = db.insert(Notes, pl.DataFrame({"note_id": [1, 2]}))
            ...     _ = db.delete_where(Notes, {"note_id": 2})
            ...     db.restore_where(Notes, "true").counts, db.read(Notes).height
            ({'input': 1, 'updated': 1}, 2)
        """
        where = settled_where(where)
        return self._found(
            table,
            Options(on_reject, plan, once, undo, timeout),
            lambda contract: batch.Call(
                "update", contract, revives=True, called="restore_where", said=conditional.said(where)
            ),
            lambda wire: conditional.restore_where(wire, where),
            lambda wire: self._marked_keys(wire, where),
        )

    def _found(
        self,
        table: type[Table] | str,
        options: Options,
        call: Callable[[Contract], batch.Call],
        at_once: Callable[[Wire], Work],
        rows: Callable[[Wire], pl.DataFrame],
    ) -> Report | Plan:
        """Write what meets a condition in one statement; where rows are refused, by key, which finds them."""
        try:
            return transaction.run(self, options, lambda: at_once(self._wire(table)))
        except DatabaseError as error:
            if not about_rows(error):
                raise

        def by_key() -> Work:
            wire = self._wire(table)
            return batch.prepare(self.session, wire, call(wire.contract), rows(wire))

        return transaction.run(self, options, by_key)

    def _wire(self, table: type[Table] | str) -> Wire:
        return Wire(self._contract(table, write=True), self.backend)

    def _marked_keys(self, wire: Wire, where: Where) -> pl.DataFrame:
        """Read the keys of the rows that are marked as deleted, and the value that takes the mark away."""
        mark, key = wire.contract.soft_delete, list(wire.contract.key)
        assert mark is not None  # noqa: S101 - the statement was run before
        query = read.build(wire, self.backend, read.Selection(where, [*key, mark.name], None, None, True))
        with computing():
            rows = self.reading(lambda session: read.run(session, wire, query)).sort(key)
        is_marked = (
            pl.col(mark.name) if isinstance(mark.dtype, pl.Boolean) else pl.col(mark.name).is_not_null()
        )
        return rows.filter(is_marked).with_columns(conditional.restored(mark))

    def _keys(self, wire: Wire, where: Where, *, deleted: bool = False) -> pl.DataFrame:
        key = list(wire.contract.key)
        query = read.build(wire, self.backend, read.Selection(where, key, None, None, deleted))
        # In the same order on every database, as an earlier row may take what a later one wants.
        with computing():
            return self.reading(lambda session: read.run(session, wire, query)).sort(key)
