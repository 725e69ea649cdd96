"""The verbs that read and write the rows that meet a condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from crave_bulk.connections import Connections, one_of
from crave_bulk.errors import DatabaseError, RejectedRows, about_rows
from crave_bulk.pipeline import batch, conditional, read
from crave_bulk.pipeline.stage import Wire
from crave_bulk.report import Report
from crave_bulk.table import Table
from crave_bulk.where import Where


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
    ) -> pl.DataFrame:
        """Read rows as a frame with the table's dtypes.

        Args:
            table: the table or, by its name, any table or view of the database.
            where: a mapping of columns and lookups to values, all of which must hold, such as
                ``{"type": "soup", "price__lt": 5}``; or a SQL condition, such as
                ``"type = 'soup' AND price < 5"``. The lookups are lt, lte, gt, gte, ne, in, notin,
                isnull, contains, startswith, endswith and between.
            columns: which columns, in this order; None for all.
            order_by: columns to sort by, ``-name`` for descending; nulls come last. None: the order
                of the database, which is no order.
            limit: rows at most.
            include_deleted: read rows that are marked as deleted, too.

        Returns:
            The frame.

        Raises:
            ContractError: a column is not in the table, or holds what another program wrote and no frame can;
                or the condition is not understood.
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
        contract = self._contract(table)
        wire = Wire(contract, self.backend)
        selection = read.Selection(where, columns, order_by, limit, include_deleted)
        query = read.build(wire, self.backend, selection)
        with self.session() as session, session.shielded():
            return read.run(session, wire, query)

    def update_where(
        self,
        table: type[Table] | str,
        changes: Mapping[str, Any],
        where: Where,
        *,
        on_reject: batch.OnReject = "raise",
    ) -> Report:
        """Set columns to values in the rows that meet a condition, by one statement.

        Rows that have these values already are left alone, and so are those that are marked as deleted.
        Rules that are about whole rows (checks of the table rather than of a column) are not judged.

        Args:
            table: the table, or the name of an existing one.
            changes: column to value; None is NULL.
            where: as for `read`, but not empty.
            on_reject: ``raise`` writes nothing when the database refuses a row; ``keep`` writes the others.

        Returns:
            The rows that changed, each as ``updated``.

        Raises:
            ContractError: the condition or a value is wrong, breaks a rule, or is of a key column.
            RejectedRows: the database refused rows and ``on_reject="raise"``; carries the report.
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
        one_of("on_reject", on_reject, ("raise", "keep"))
        wire = Wire(self._contract(table, write=True), self.backend)
        call = batch.Call("update", wire.contract, on_reject=on_reject)
        return self._found(
            "update_where",
            lambda: conditional.update_where(self.session, wire, changes, where),
            lambda: batch.run(
                self.session,
                wire,
                call,
                self._keys(wire, where).join(conditional.changed_values(wire, changes), how="cross"),
            ),
        )

    def delete_where(
        self,
        table: type[Table] | str,
        where: Where,
        *,
        hard: bool = False,
        on_reject: batch.OnReject = "raise",
    ) -> Report:
        """Delete the rows that meet a condition, by one statement.

        Where the table has a ``soft_delete`` column, rows are marked in it and stay.

        Args:
            table: the table, or the name of an existing one.
            where: as for `read`, but not empty.
            hard: remove the rows, also those that are marked as deleted.
            on_reject: ``raise`` deletes nothing when the database refuses a row; ``keep`` deletes the others.

        Returns:
            The rows that were deleted, each as ``deleted``.

        Raises:
            ContractError: the condition is wrong.
            RejectedRows: the database refused rows and ``on_reject="raise"``; carries the report.
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
        one_of("on_reject", on_reject, ("raise", "keep"))
        wire = Wire(self._contract(table, write=True), self.backend)
        call = batch.Call("delete", wire.contract, on_reject=on_reject, hard=hard)
        return self._found(
            "delete_where",
            lambda: conditional.delete_where(self.session, wire, where, hard=hard),
            lambda: batch.run(self.session, wire, call, self._keys(wire, where, deleted=hard)),
        )

    def restore_where(self, table: type[Table] | str, where: Where) -> Report:
        """Take back the soft deletion of the rows that meet a condition, by one statement.

        Args:
            table: a table with a ``soft_delete`` column.
            where: as for `read`, but not empty.

        Returns:
            The rows that were restored, each as ``updated``.

        Raises:
            ContractError: the condition is wrong, or the table has no ``soft_delete`` column.
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
        return conditional.restore_where(
            self.session, Wire(self._contract(table, write=True), self.backend), where
        )

    def _found(self, verb: str, at_once: Callable[[], Report], by_key: Callable[[], Report]) -> Report:
        """Write what meets a condition in one statement; where rows are refused, by key, which finds them."""
        try:
            return at_once()
        except DatabaseError as error:
            if not about_rows(error):
                raise
        try:
            return replace(by_key(), verb=verb)
        except RejectedRows as refused:
            raise RejectedRows(replace(refused.report, verb=verb)) from refused

    def _keys(self, wire: Wire, where: Where, *, deleted: bool = False) -> pl.DataFrame:
        selection = read.Selection(where, list(wire.contract.key), None, None, deleted)
        with self.session() as session:
            return read.run(session, wire, read.build(wire, self.backend, selection))
