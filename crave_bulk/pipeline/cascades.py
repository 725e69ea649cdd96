"""Cascades: the rows of other tables that a deletion takes along or changes, by the references that say so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from crave_bulk.errors import ContractError
from crave_bulk.journal import Change
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session
from crave_bulk.sql import quote, quote_all
from crave_bulk.table import TableName

_STAGE = "crave_bulk_along"  # the staging table proper holds the rows that are deleted


class Along:
    """What goes along with the rows of a deletion.

    Args:
        session: the connection, in the transaction of the batch.
        wire: the table that is deleted from.
        rows: the short columns of the rows that go.

    Raises:
        ContractError: a table that is concerned has no key, so that its rows cannot be told apart.
    """

    def __init__(self, session: Session, wire: Wire, rows: pl.DataFrame) -> None:
        self.session = session
        self._found: dict[str, tuple[Wire, pl.DataFrame]] = {wire.target: (wire, rows)}
        self._own, self._told = wire.target, rows
        pending = [(wire, rows)] if rows.height else []
        while pending:
            parent, gone = pending.pop(0)
            pending += self._children(parent, gone)

    def changes(self) -> Iterator[Change]:
        """Read what is there now of what went along; the farthest first, as it is put back last.

        Yields:
            A change for each table.
        """
        for target, (wire, was) in reversed(self._found.items()):
            key = wire.shorts(wire.contract.key)
            if target == self._own:
                was = was.join(self._told, on=key, how="anti", maintain_order="left")
            if was.height:
                with_numbers = was.with_columns(_row=pl.lit(-1, dtype=pl.Int64)).select("_row", *was.columns)
                now = self._now(wire, was.select(key)).select("_row", *was.columns)
                yield Change.between(wire, with_numbers, now)

    def _children(self, parent: Wire, gone: pl.DataFrame) -> Iterator[tuple[Wire, pl.DataFrame]]:
        """Read the rows that point at some, and give those that are deleted with them."""
        backend = self.session.backend
        references = json.loads(self.session.fetch(backend.cascades_sql(parent.contract.name)).item())
        if not references:
            return
        self.session.ingest(_STAGE, gone.select(parent.shorts(parent.contract.key)))
        for reference in references:
            child, rows = self._pointing(parent, reference)
            key = child.shorts(child.contract.key)
            _, known = self._found.get(child.target, (child, rows.clear()))
            new = rows.join(known, on=key, how="anti", maintain_order="left")
            self._found[child.target] = (child, pl.concat([known, new]))
            if reference["deletes"] and new.height:
                yield child, new
        self.session.execute(f"DROP TABLE {_STAGE}")

    def _pointing(self, parent: Wire, reference: dict[str, Any]) -> tuple[Wire, pl.DataFrame]:
        backend = self.session.backend
        name = TableName(reference["table"], reference["schema"])
        child = self._found.get(backend.table(name), (None,))[0] or _whole(self.session, name)
        names = child.contract.column_names
        lock = backend.lock_rows.format(quote_all(child.contract.key, "t."))
        query = pointing_sql(parent, child, reference["columns"], reference["targets"]) + lock
        return child, child.fetch(self.session, query, names)

    def _now(self, wire: Wire, keys: pl.DataFrame) -> pl.DataFrame:
        names = wire.contract.column_names
        self.session.ingest(_STAGE, keys)
        staged = wire.staged(wire.contract.key, _STAGE)
        match = wire.equal(wire.contract.key, "t", "s")
        query = f"SELECT {wire.read(names)} FROM {wire.target} AS t JOIN ({staged}) AS s ON {match}"
        rows = wire.fetch(self.session, query, names)
        self.session.execute(f"DROP TABLE {_STAGE}")
        return rows.with_columns(_row=pl.lit(-1, dtype=pl.Int64))


def _whole(session: Session, name: TableName) -> Wire:
    contract = session.backend.reflect(session, name)
    if not contract.key:
        raise ContractError(f"rows of table {name}, which has no key, go along with those that are deleted")
    wire = Wire(contract, session.backend)
    return wire.only(tuple(column for column in contract.columns if not column.generated))


def pointing_sql(parent: Wire, child: Wire, columns: list[str], targets: list[str]) -> str:
    """Ask for the rows of a table that point at staged rows of another.

    Args:
        parent: the table that is pointed at, whose keys are staged.
        child: the table that points.
        columns: its columns that do.
        targets: the parent's columns, in the same order.

    Returns:
        A query over the short columns of the child.
    """
    key = parent.contract.key
    chosen = (
        f"SELECT {quote_all(targets, 'p.')} FROM {parent.target} AS p "
        f"JOIN ({parent.staged(key, _STAGE)}) AS s ON {parent.equal(key, 'p', 's')}"
    )
    points = ", ".join(f"t.{quote(column)}" for column in columns)
    return f"SELECT {child.read(child.contract.column_names)} FROM {child.target} AS t WHERE ({points}) IN ({chosen})"
