"""Images: read the rows that a batch changes, before and after, for its journal and its plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import polars as pl

from crave_bulk.errors import ContractError, DatabaseError, about_rows
from crave_bulk.journal import Change
from crave_bulk.pipeline.cascades import Along
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.pipeline.whole import Whole, whole
from crave_bulk.pipeline.write import Raced
from crave_bulk.session import Session
from crave_bulk.sql import quote_all

_WORTH_A_THREAD = 5_000  # rows


class Images:
    """The rows of one table that a batch changes.

    Args:
        session: the connection, in the transaction of the batch.
        wire: the table; what it does not say of the table's columns is read from the catalog.

    Attributes:
        wire: all columns of the table that can be written.
        complete: the declaration has all of them.
        changes: what was changed so far, in order.
    """

    def __init__(self, session: Session, wire: Wire) -> None:
        self.session, self.wire = session, whole(session, wire)
        self.complete = self.wire.contract.column_names == wire.contract.column_names and all(
            self.wire.codecs[name].wire == wire.codecs[name].wire for name in wire.contract.column_names
        )
        # What others have made can be forbidden to read, or have a key that no frame can hold.
        self._safe = self.complete and not any(column.sql_type for column in wire.contract.columns)
        self.changes: list[Change] = []
        self._read_as = self.wire  # how the rows travelled that were last read as they were
        self.key = self.wire.shorts(self.wire.contract.key)
        self.names = self.wire.contract.column_names
        self.columns = self.wire.shorts(self.names)
        self._along: Along | None = None

    # -- before --

    def before(self, *, staged: str, deletes: bool) -> pl.DataFrame:
        """Read the rows that exist for the staged keys, and keep others from changing them.

        Args:
            staged: which of the staged rows, as ``s``; each key once.
            deletes: they are to be deleted.

        Returns:
            The short columns.

        Raises:
            ContractError: a row holds what no frame can, or the login may delete rows but not lock them.
        """
        return self._read(lambda wire: before_sql(wire, self._lock, staged), deletes=deletes)

    def before_where(self, where: str, parameters: pl.DataFrame | None, *, deletes: bool) -> pl.DataFrame:
        """Read the rows that meet a condition, and keep others from changing them.

        Args:
            where: the condition, in SQL, over ``t``.
            parameters: the values that it binds.
            deletes: they are to be deleted.

        Returns:
            The short columns.

        Raises:
            ContractError: as for `before`.
        """
        return self._read(
            lambda wire: f"SELECT {wire.read_all()} FROM {wire.target} AS t WHERE {where}{self._lock}",
            parameters,
            deletes=deletes,
        )

    def read(self, query: Callable[[Whole], str], numbers: Sequence[str]) -> pl.DataFrame:
        """Read rows as they are before the batch.

        Args:
            query: writes the query, which selects `numbers` and then `Whole.read_all`.
            numbers: 64-bit integers.

        Returns:
            `numbers` and the short columns.

        Raises:
            ContractError: a key holds what no frame can.
        """
        self.wire, found = self.wire.rows(self.session, query, numbers)
        self._read_as = self.wire
        return found

    def _read(
        self, query: Callable[[Whole], str], parameters: pl.DataFrame | None = None, *, deletes: bool
    ) -> pl.DataFrame:
        """Read rows, and what goes along with them; where that may fail, without harm to the transaction."""
        try:
            with nullcontext() if self._safe and not deletes else self.session.shielded():
                self.wire, before = self.wire.rows(self.session, query, parameters=parameters)
                self._read_as = self.wire
                if deletes:
                    self._along = Along(self.session, self.wire, before)
                return before
        except DatabaseError as error:
            if not about_rows(error):
                raise
            raise ContractError(error.said) from error

    def moving(self, before: pl.DataFrame, columns: Collection[str]) -> None:
        """Read the rows that change with some columns of others, as they point at them.

        Args:
            before: what stands there of those others.
            columns: the columns that are about to change.

        Raises:
            ContractError: a table that is concerned has no key, or may not be read.
        """
        before = self._read_as.convert(self.session, before, self.wire)
        try:
            with self.session.shielded():
                self._along = Along(self.session, self.wire, before, columns)
        except DatabaseError as error:
            if not about_rows(error):
                raise
            raise ContractError(error.said) from error

    def followed(self) -> None:
        """Keep what has changed with others."""
        self.changes += self._along.changes() if self._along else ()
        self._along = None

    @property
    def _lock(self) -> str:
        return self.session.backend.lock_rows.format(quote_all(self.wire.contract.key, "t."))

    def none(self) -> pl.DataFrame:
        """Make a frame of no rows."""
        return pl.DataFrame(schema={self.wire.short[n]: self.wire.codecs[n].wire for n in self.names})

    @property
    def pointing(self) -> list[dict[str, Any]] | None:
        """The references that point at the table, where a deletion has asked for them."""
        return self._along.pointing if self._along else None

    # -- after --

    def written(self, before: pl.DataFrame, rows: pl.DataFrame, *, numbered: bool = True) -> None:
        """Read the staged rows that were written as they are now.

        Args:
            before: what stood there.
            rows: ``_row``, ``inserted`` and the short columns of the key, of each that was written.
            numbered: ``_row`` is the number of an input row; else the call has found the rows by itself.

        Raises:
            Raced: a row was changed that was not there when the others were read.
        """
        if rows.height:
            last, was = self._touched(before, rows)
            was_as = self.wire
            self.wire, now = self.wire.rows(self.session, after_sql, ["_row"])
            now = now.join(last.select("_row"), on="_row", how="semi", maintain_order="left")
            self._add(Change.between(self.wire, was_as.convert(self.session, was, self.wire), now), numbered)

    def changed(self, before: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """Find the rows that are still there, and not as they were: a trigger did something else with them.

        Args:
            before: what stood there.
            rows: ``_row`` and the short columns of the key of those that were not written, staged.

        Returns:
            Those of `rows`.
        """
        self.wire, now = self.wire.rows(self.session, after_sql, ["_row"])
        was = self._read_as.convert(self.session, before, self.wire)
        changed = now.join(was, on=self.columns, how="anti", nulls_equal=True)
        return rows.filter(pl.col("_row").is_in(changed["_row"].implode()))

    def expect(self, before: pl.DataFrame, rows: pl.DataFrame, update: list[str]) -> Expected:
        """Prepare for what a merge is about to do, while the database is doing it.

        Args:
            before: what stands there.
            rows: ``_row``, ``mask`` and all short columns of each row that is to be written; each key once,
                and of a new row every column.
            update: the columns that an existing row takes over.

        Returns:
            What `known` takes where it came as expected.
        """
        rows = rows.with_columns(inserted=pl.col("mask") == -1)
        return Expected(rows.select("_row", "inserted"), lambda: self._change(before, rows, update))

    def known(self, expected: Expected, written: pl.DataFrame) -> bool:
        """Take the rows for what they were to become, if the database wrote just these.

        Args:
            expected: from `expect`.
            written: ``_row`` and ``inserted`` of each row that was written.

        Returns:
            Whether it did.
        """
        change = expected.result()
        if change is None or not expected.rows.sort("_row").equals(written.sort("_row")):
            return False
        self.changes.append(change)
        return True

    def _change(self, before: pl.DataFrame, rows: pl.DataFrame, update: list[str]) -> Change:
        if self.wire.raw:
            raise Raced  # what is written is not in the form of what stood there: it is read instead
        _, was = self._touched(before, rows)
        taken = rows.select("_row", *self.wire.shorts(update))
        now = was.drop(taken.columns[1:]).join(taken, on="_row", how="left", maintain_order="left")
        columns = ["_row", *self.columns]
        return Change(self.wire, was, now.select(columns), rows.filter("inserted").select(columns)).pack()

    def gone(self, before: pl.DataFrame, rows: pl.DataFrame, *, numbered: bool = True) -> None:
        """Take rows as deleted.

        Args:
            before: what stood there.
            rows: ``_row``, ``inserted`` and the short columns of the key, of each that was deleted.
            numbered: as for `written`.

        Raises:
            Raced: a row was deleted that was not there when the others were read.
        """
        if rows.height:
            _, was = self._touched(before, rows)
            self.followed()
            self._add(Change(self.wire, was, was.clear(was.height), was.clear()), numbered)

    def _touched(self, before: pl.DataFrame, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Select the last row of each key, and what stood there for it."""
        before = self._read_as.convert(self.session, before, self.wire)
        last = rows.select("_row", "inserted", *self.key)
        if len(last) > last.select(pl.struct(self.key).n_unique()).item():
            last = last.unique(self.key, keep="last", maintain_order=True)
        was = last.join(before, on=self.key, how="inner", maintain_order="left").drop("inserted")
        late = last.filter(~pl.col("inserted")).height - was.height
        if (
            late > 0
            and last.filter(~pl.col("inserted"))
            .join(before, on=self.key, how="anti")
            .join(rows.filter("inserted"), on=self.key, how="anti")
            .height
        ):
            raise Raced
        return last, was.select("_row", *self.columns)

    def _add(self, change: Change, numbered: bool) -> None:
        if not numbered:
            before, after, new = (
                part.with_columns(_row=pl.lit(-1, dtype=pl.Int64))
                for part in (change.before, change.after, change.new)
            )
            change = Change(change.wire, before, after, new)
        self.changes.append(change)


class Expected:
    """What a merge is expected to do, worked out in another thread meanwhile, where that is worth one.

    Args:
        rows: ``_row`` and ``inserted`` of each row that is to be written.
        work: makes the change that comes of it.
    """

    def __init__(self, rows: pl.DataFrame, work: Callable[[], Change]) -> None:
        self.rows, self._work = rows, work
        self._thread: ThreadPoolExecutor | None = None
        if rows.height >= _WORTH_A_THREAD:
            self._thread = ThreadPoolExecutor(1, "crave_bulk-journal")
            self._work = self._thread.submit(work).result

    def result(self) -> Change | None:
        """Wait for the change; None where a row is not there that should be."""
        try:
            return self._work()
        except Raced:
            return None
        finally:
            if self._thread is not None:
                self._thread.shutdown()


def before_sql(wire: Whole, lock: str, staged: str) -> str:
    """Ask what stands in the table for the staged keys.

    Args:
        wire: all columns of the table.
        lock: what keeps other writers from the rows until the end of the transaction.
        staged: which of the staged rows, as ``s``; each key once.

    Returns:
        A query over the short columns.
    """
    key = wire.contract.key
    return (
        f"SELECT {wire.read_all()} FROM {wire.target} AS t\n"
        f"JOIN ({wire.staged(key, STAGE, staged)}) AS s ON {wire.equal(key, 't', 's')}{lock}"
    )


def after_sql(wire: Whole) -> str:
    """Ask what stands in the table for the staged rows.

    Args:
        wire: all columns of the table.

    Returns:
        A query: ``_row`` and the short columns.

    Example:
        >>> import crave_bulk as cb
        >>> from crave_bulk.examples import Foods
        >>> with cb.connect() as db:
        ...     db.create(Foods)
        ...     with db.session() as session:
        ...         foods = whole(session, Wire(cb.table.contract_of(Foods), db.backend))
        ...     print(after_sql(foods).partition('FROM "foods" AS t')[2])
        <BLANKLINE>
        JOIN (SELECT s._row, s.c0 AS c0 FROM crave_bulk_stage AS s WHERE s.wave IS NOT NULL) AS s
        ON t."food_id" = s.c0
    """
    key = wire.contract.key
    staged = wire.staged(key, STAGE, "s.wave IS NOT NULL", ["s._row"])
    return (
        f"SELECT s._row, {wire.read_all()} FROM {wire.target} AS t\n"
        f"JOIN ({staged}) AS s\nON {wire.equal(key, 't', 's')}"
    )
