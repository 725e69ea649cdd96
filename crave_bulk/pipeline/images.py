"""Images: read the rows that a batch changes, before and after, for its journal and its plan."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from crave_bulk.journal import Change
from crave_bulk.pipeline import dedupe
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.pipeline.write import Raced
from crave_bulk.session import Session
from crave_bulk.sql import quote_all


class Images:
    """The rows that one batch changes.

    Args:
        session: the connection, in the transaction of the batch.
        wire: the table; what it does not say of the table's columns is read from the catalog.

    Attributes:
        changes: what was changed so far, in order.
    """

    def __init__(self, session: Session, wire: Wire) -> None:
        self.session, self.wire = session, whole(session, wire)
        self.changes: list[Change] = []
        self.key = self.wire.shorts(self.wire.contract.key)
        self.names = self.wire.contract.column_names

    def before(self) -> pl.DataFrame:
        """Read the rows that exist for the staged keys, and keep others from changing them.

        Returns:
            The short columns.
        """
        lock = self.session.backend.lock_rows.format(quote_all(self.wire.contract.key, "t."))
        return self.wire.fetch(self.session, dedupe.kept_sql(self.wire, self.names, lock), self.names)

    def before_where(self, where: str, parameters: pl.DataFrame | None) -> pl.DataFrame:
        """Read the rows that meet a condition, and keep others from changing them.

        Args:
            where: the condition, in SQL, over ``t``.
            parameters: the values that it binds.

        Returns:
            The short columns.
        """
        lock = self.session.backend.lock_rows.format(quote_all(self.wire.contract.key, "t."))
        query = f"SELECT {self.wire.read(self.names)} FROM {self.wire.target} AS t WHERE {where}{lock}"
        return self.wire.fetch(self.session, query, self.names, parameters=parameters)

    def none(self) -> pl.DataFrame:
        """Make a frame of no rows."""
        return pl.DataFrame(schema={self.wire.short[n]: self.wire.codecs[n].wire for n in self.names})

    def written(
        self, before: pl.DataFrame, rows: pl.DataFrame, *, remain: bool = True, numbered: bool = True
    ) -> None:
        """Read the rows that were written as they are now.

        Args:
            before: what stood there.
            rows: ``_row``, ``inserted`` and the short columns of the key, of each that was written; staged
                where they remain.
            remain: they are still there, rather than deleted.
            numbered: ``_row`` is the number of an input row; else the call has found the rows by itself.

        Raises:
            Raced: a row was changed that was not there when the others were read.
        """
        if not rows.height:
            return
        keys = rows.select("_row", *self.key)
        late = rows.filter(~pl.col("inserted")).join(before, on=self.key, how="anti")
        if late.join(rows.filter("inserted"), on=self.key, how="anti").height:
            raise Raced
        keys = keys.unique(self.key, keep="last", maintain_order=True)
        was = before.join(keys, on=self.key, how="inner", maintain_order="left").select(
            "_row", *before.columns
        )
        now = was.clear()
        if remain:
            found = self.wire.fetch(self.session, after_sql(self.wire), self.names, numbered=True)
            now = found.join(keys.select("_row"), on="_row", how="semi", maintain_order="left")
        if not numbered:
            was, now = (part.with_columns(_row=pl.lit(-1, dtype=pl.Int64)) for part in (was, now))
        self.changes.append(Change(self.wire, was, now))


def whole(session: Session, wire: Wire) -> Wire:
    """Add the columns that a table has and its declaration has not, and leave out those that it computes.

    Args:
        session: a connection.
        wire: the table.

    Returns:
        A wire of all columns that can be written, those of the declaration first.
    """
    found = session.columns(f"SELECT * FROM {wire.target} LIMIT 0")
    contract = wire.contract
    known = contract.columns
    if set(found) - set(contract.column_names):
        table = session.backend.reflect(session, contract.name)
        known = (*known, *(c for c in table.columns if c.name not in contract.column_names))
    if known is contract.columns and not any(column.generated for column in known):
        return wire
    # The declared columns keep their short names, as the staging table has them.
    whole = wire.over(replace(contract, columns=known))
    written = tuple(column for column in known if not column.generated)
    return whole.only(written)


def after_sql(wire: Wire) -> str:
    """Ask what stands in the table for the staged rows.

    Args:
        wire: all columns of the table.

    Returns:
        A query: ``_row`` and the short columns.

    Example:
        >>> import crave_bulk as cb
        >>> from crave_bulk.examples import Foods
        >>> with cb.connect() as db:
        ...     print(after_sql(Wire(cb.table.contract_of(Foods), db.backend)))
        SELECT s._row, t."food_id" AS c0, t."name" AS c1 FROM "foods" AS t
        JOIN (SELECT s._row, s.c0 AS "food_id" FROM crave_bulk_stage AS s WHERE s.wave IS NOT NULL) AS s
        ON t."food_id" = s."food_id"
    """
    key = wire.contract.key
    staged = wire.staged(key, STAGE, "s.wave IS NOT NULL", ["s._row"])
    return (
        f"SELECT s._row, {wire.read(wire.contract.column_names)} FROM {wire.target} AS t\n"
        f"JOIN ({staged}) AS s\nON {wire.equal(key, 't', 's')}"
    )
