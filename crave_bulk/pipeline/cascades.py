"""Cascades: the rows that a deletion takes along, or that change with what they point at, by the references that say so."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.errors import ContractError
from crave_bulk.journal import Change
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.whole import Whole, whole
from crave_bulk.schema import create_index
from crave_bulk.session import Session
from crave_bulk.sql import quote, quote_all
from crave_bulk.table import TableName

_STAGE = "crave_bulk_along"  # the staging table proper holds the rows that are deleted


def pointing_at(session: Session, name: TableName) -> list[dict[str, Any]]:
    """Ask which references point at a table."""
    found: list[dict[str, Any]] = json.loads(session.fetch(session.backend.pointing_sql(name)).item())
    return found


def unindexed_note(backend: Backend, name: TableName, pointing: Sequence[dict[str, Any]]) -> str | None:
    """Say which rows that point at a table are not found by an index, and what to do about it."""
    lacking = [part for part in pointing if not part["indexed"]]
    if not lacking:
        return None
    tables = [TableName(part["table"], part["schema"]) for part in lacking]
    where = [f"{table} ({', '.join(part['columns'])})" for table, part in zip(tables, lacking, strict=True)]
    indexes = [
        create_index(backend, table, part["columns"]) for table, part in zip(tables, lacking, strict=True)
    ]
    return (
        f"Each deletion from {name} reads all of {' and of '.join(where)}, where no index finds the rows that point at it: "
        f"run {'; '.join(indexes)}; or declare the table with references= and call db.evolve."
    )


def leads_back(session: Session, name: TableName, pointing: Sequence[dict[str, Any]]) -> bool:
    """Tell whether references of other tables can pass a deletion on until it comes to the same table again."""
    seen: set[str] = set()
    pending = [part for part in pointing if part["deletes"] and not part["own"]]
    own = session.fetch(session.backend.known_as(name)).item() if pending else ""
    while pending:
        part = pending.pop()
        if part["known_as"] in seen:
            continue
        seen.add(part["known_as"])
        further = pointing_at(session, TableName(part["table"], part["schema"]))
        if any(part["known_as"] == own and not part["forbids"] for part in further):
            return True
        pending += [part for part in further if part["deletes"] and not part["own"]]
    return False


def led_to(session: Session, names: Iterable[TableName]) -> set[TableName]:
    """List the tables whose rows may change when rows of others are deleted."""
    found, pending = set[TableName](), list(names)
    while pending:
        children = {TableName(p["table"], p["schema"]) for p in pointing_at(session, pending.pop())} - found
        found |= children
        pending += children
    return found


_Part = tuple[str, frozenset[str] | None]  # a table, and which columns of its rows change; None if they go


def _is_followed(reference: dict[str, Any], moves: frozenset[str] | None) -> bool:
    """Tell whether a reference takes rows along, or changes them, when what they point at goes or changes."""
    if moves is None:
        return not reference["forbids"]
    return bool(reference["follows"] and moves & set(reference["targets"]))


class Along:
    """What goes along with the rows of a deletion, or changes with rows that are updated.

    Args:
        session: the connection, in the transaction of the batch.
        wire: the table that is written to.
        rows: the short columns of the rows that go, or change.
        moves: the columns that change; None if the rows go.

    Attributes:
        pointing: the references that point at the table; None where no row goes.

    Raises:
        ContractError: a table that is concerned has no key, so that its rows cannot be told apart.
    """

    def __init__(
        self, session: Session, wire: Whole, rows: pl.DataFrame, moves: Collection[str] | None = None
    ) -> None:
        self.session, self._told = session, rows
        self.pointing: list[dict[str, Any]] | None = None
        # By the catalog's own name, as a table may be called by several. The first is the table itself.
        self._wires: dict[str, Whole] = {}
        self._found: dict[str, pl.DataFrame] = {}  # what is concerned, as it is now
        self._seen: dict[
            _Part, pl.DataFrame
        ] = {}  # the keys of those that are deleted, or changed, and were followed
        self._children: dict[str, list[str]] = {}  # the tables that point
        self._cascaded: dict[str, set[str]] = {}  # their columns that take over what they point at
        self._own = session.fetch(session.backend.known_as(wire.contract.name)).item()
        self._know(self._own, wire, rows)
        first = (self._own, None if moves is None else frozenset(moves))
        pending = [first] if rows.height else []
        going = {first: rows.select(self._key(self._own))}
        while pending:
            part = pending.pop(0)
            for further, more in self._pass_on(part, going.pop(part)):
                going[further] = pl.concat([going[further], more]) if further in going else more
                pending += [further] if further not in pending else []

    def others(self) -> pl.DataFrame:
        """Give the keys of further rows of the table itself that are deleted or changed."""
        key = self._key(self._own)
        return self._found[self._own].join(self._told, on=key, how="anti").select(key)

    def changes(self) -> Iterator[Change]:
        """Read what is there now of what went along; the farthest first, as it is put back last.

        Yields:
            A change for each table.
        """
        for name in self._farthest_first(self._own, set()):
            keys = self._found[name].select(self._key(name))
            if name == self._own:
                keys = keys.join(self._told, on=keys.columns, how="anti", maintain_order="left")
            if keys.height:
                now = self._now(name, keys)
                was = keys.join(self._found[name], on=keys.columns, maintain_order="left").select(
                    now.columns[1:]
                )
                numbered = was.select(pl.lit(-1, dtype=pl.Int64).alias("_row"), pl.all())
                numbered, now = self._without_cascaded(name, numbered, now)
                change = Change.between(self._wires[name], numbered, now).moved()
                if change.before.height:
                    yield change

    def _without_cascaded(
        self, name: str, was: pl.DataFrame, now: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Leave out rows that only took over what they point at: they do so again when that is put back."""
        columns = [self._wires[name].short[column] for column in self._cascaded.get(name, ())]
        same = was.columns
        if columns:
            others = [column for column in was.columns if column not in columns]
            key = self._key(name)
            alike = was.join(now, on=others, how="semi", nulls_equal=True).join(
                now, on=same, how="anti", nulls_equal=True
            )
            was, now = (part.join(alike, on=key, how="anti", maintain_order="left") for part in (was, now))
        return was, now

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

    def _know(self, name: str, wire: Whole, rows: pl.DataFrame) -> None:
        """Remember rows of a table, all of them as they travel now."""
        known = self._found.get(name, rows.clear())
        known = self._wires.get(name, wire).convert(self.session, known, wire)
        self._wires[name] = wire
        new = rows.join(known, on=self._key(name), how="anti", maintain_order="left")
        self._found[name] = pl.concat([known, new])

    def _pass_on(self, part: _Part, rows: pl.DataFrame) -> Iterator[tuple[_Part, pl.DataFrame]]:
        """Read the rows that point at rows which go or change, and give the keys of those that do so with them."""
        (name, moves), seen = part, self._seen.get(part)
        key = self._key(name)
        if seen is not None:
            rows = rows.join(seen, on=key, how="anti", maintain_order="left")
        self._seen[part] = rows.select(key) if seen is None else pl.concat([seen, rows.select(key)])
        parent = self._wires[name]
        found = pointing_at(self.session, parent.contract.name)
        if name == self._own:
            self.pointing = found
        references = [reference for reference in found if _is_followed(reference, moves)]
        if not references or not rows.height:
            return
        self.session.ingest(_STAGE, rows.select(key))
        along = [(reference, *self._pointing(parent, name, reference)) for reference in references]
        self.session.execute(f"DROP TABLE {self.session.backend.spelling.temp(_STAGE)}")
        self._children[name] = [*self._children.get(name, ()), *(child for _, child, _ in along)]
        for reference, child, pointing in along:
            if moves is not None and reference["cascades"]:
                self._cascaded[child] = self._cascaded.get(child, set()) | set(reference["columns"])
            if pointing.height:
                deleted = moves is None and reference["deletes"]
                columns = None if deleted else frozenset(reference["columns"])
                yield (child, columns), pointing.select(self._key(child))

    def _pointing(self, parent: Wire, name: str, reference: dict[str, Any]) -> tuple[str, pl.DataFrame]:
        """Read the rows that point by one reference."""
        backend = self.session.backend
        table = TableName(reference["table"], reference["schema"])
        child = name if reference["own"] else reference["known_as"]
        wire = self._wires.get(child) or _whole(self.session, table)
        lock = backend.lock_rows.format(quote_all(wire.contract.key, "t."))
        wire, rows = wire.rows(
            self.session,
            lambda all_of: pointing_sql(parent, all_of, reference["columns"], reference["targets"]) + lock,
        )
        self._know(child, wire, rows)
        return child, rows

    def _now(self, name: str, keys: pl.DataFrame) -> pl.DataFrame:
        wire = self._wires[name]
        self.session.ingest(_STAGE, keys)
        staged = wire.staged(wire.contract.key, _STAGE)
        match = wire.equal(wire.contract.key, "t", "s")
        wire, rows = wire.rows(
            self.session,
            lambda all_of: (
                f"SELECT {all_of.read_all()} FROM {all_of.target} AS t JOIN ({staged}) AS s ON {match}"
            ),
        )
        self._know(name, wire, rows.clear())
        self.session.execute(f"DROP TABLE {self.session.backend.spelling.temp(_STAGE)}")
        return rows.select(pl.lit(-1, dtype=pl.Int64).alias("_row"), pl.all())


def _whole(session: Session, name: TableName) -> Whole:
    contract = session.backend.reflect(session, name)
    if not contract.key:
        raise ContractError(f"rows of table {name}, which has no key, go along with those that are deleted")
    return whole(session, Wire(contract, session.backend))


def pointing_sql(parent: Wire, child: Whole, columns: list[str], targets: list[str]) -> str:
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
    pointing = child.backend.spelling.among(f"({points})", chosen)
    return f"SELECT {child.read_all()} FROM {child.target} AS t WHERE {pointing}"
