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
        self.session, self._told = session, rows
        # By the catalog's own name, as a table may be called by several. The first is the table itself.
        self._wires: dict[str, Wire] = {}
        self._found: dict[str, pl.DataFrame] = {}  # what is concerned, as it is now
        self._gone: dict[str, pl.DataFrame] = {}  # the keys of those of them that are deleted
        self._children: dict[str, list[str]] = {}  # the tables that point
        self._own = session.fetch(session.backend.known_as(wire.contract.name)).item()
        self._know(self._own, wire, rows)
        pending = [self._own] if rows.height else []
        self._gone[self._own] = rows.select(self._key(self._own)).clear()
        going = {self._own: rows}
        while pending:
            name = pending.pop(0)
            for child, more in self._pass_on(name, going.pop(name)):
                going[child] = pl.concat([going[child], more]) if child in going else more
                pending += [child] if child not in pending else []

    def changes(self) -> Iterator[Change]:
        """Read what is there now of what went along; the farthest first, as it is put back last.

        Yields:
            A change for each table.
        """
        for name in self._farthest_first(self._own, set()):
            wire, was, key = self._wires[name], self._found[name], self._key(name)
            if name == self._own:
                was = was.join(self._told, on=key, how="anti", maintain_order="left")
            if was.height:
                numbered = was.with_columns(_row=pl.lit(-1, dtype=pl.Int64)).select("_row", *was.columns)
                change = Change.between(wire, numbered, self._now(wire, was.select(key))).moved()
                if change.before.height:
                    yield change

    def _farthest_first(self, name: str, seen: set[str]) -> Iterator[str]:
        """Name the tables that point at one before itself, however many ways lead to them."""
        seen.add(name)
        for child in self._children.get(name, ()):
            if child not in seen:
                yield from self._farthest_first(child, seen)
        yield name

    def _key(self, name: str) -> list[str]:
        wire = self._wires[name]
        return wire.shorts(wire.contract.key)

    def _know(self, name: str, wire: Wire, rows: pl.DataFrame) -> None:
        """Remember rows of a table."""
        self._wires.setdefault(name, wire)
        known = self._found.get(name, rows.clear())
        new = rows.join(known, on=self._key(name), how="anti", maintain_order="left")
        self._found[name] = pl.concat([known, new])

    def _pass_on(self, name: str, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
        """Read the rows that point at rows which are deleted, and give those that are deleted with them."""
        gone, key = self._gone.get(name), self._key(name)
        if gone is not None:
            rows = rows.join(gone, on=key, how="anti", maintain_order="left")
        self._gone[name] = rows.select(key) if gone is None else pl.concat([gone, rows.select(key)])
        parent = self._wires[name]
        references = json.loads(
            self.session.fetch(self.session.backend.cascades_sql(parent.contract.name)).item()
        )
        if not references or not rows.height:
            return
        self.session.ingest(_STAGE, rows.select(key))
        found = [(reference, *self._pointing(parent, name, reference)) for reference in references]
        self.session.execute(f"DROP TABLE {_STAGE}")
        self._children[name] = [child for _, child, _ in found]
        for reference, child, pointing in found:
            if reference["deletes"] and pointing.height:
                yield child, pointing

    def _pointing(self, parent: Wire, name: str, reference: dict[str, Any]) -> tuple[str, pl.DataFrame]:
        """Read the rows that point by one reference."""
        backend = self.session.backend
        table = TableName(reference["table"], reference["schema"])
        child = name if reference["own"] else reference["known_as"]
        wire = self._wires.get(child) or _whole(self.session, table)
        lock = backend.lock_rows.format(quote_all(wire.contract.key, "t."))
        query = pointing_sql(parent, wire, reference["columns"], reference["targets"]) + lock
        rows = wire.fetch(self.session, query, wire.contract.column_names)
        self._know(child, wire, rows)
        return child, rows

    def _now(self, wire: Wire, keys: pl.DataFrame) -> pl.DataFrame:
        names = wire.contract.column_names
        self.session.ingest(_STAGE, keys)
        staged = wire.staged(wire.contract.key, _STAGE)
        match = wire.equal(wire.contract.key, "t", "s")
        query = f"SELECT {wire.read(names)} FROM {wire.target} AS t JOIN ({staged}) AS s ON {match}"
        rows = wire.fetch(self.session, query, names)
        self.session.execute(f"DROP TABLE {_STAGE}")
        return rows.select(pl.lit(-1, dtype=pl.Int64).alias("_row"), pl.all())


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
