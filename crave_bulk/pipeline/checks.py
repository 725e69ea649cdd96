"""Checks: ask the database for missing parents and competing rows, and settle what they mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import polars as pl

from crave_bulk.pipeline import constraints, dedupe
from crave_bulk.pipeline.cascades import Along, leads_back, pointing_at, unindexed_note
from crave_bulk.pipeline.constraints import Settled
from crave_bulk.pipeline.images import before_sql
from crave_bulk.pipeline.interplay import Interplay
from crave_bulk.pipeline.merge import Kind
from crave_bulk.pipeline.pointers import Pointed
from crave_bulk.pipeline.stage import STAGE, Wire, without
from crave_bulk.pipeline.whole import whole
from crave_bulk.session import Session
from crave_bulk.sql import TRUE
from crave_bulk.table import Pointer, Reference, TableName


class Checks:
    """The unique keys and references of a table, over the rows of one batch.

    Attributes:
        moved: the masks that occur among the rows that may be written (see `dedupe.changes`): what no
            row changes need not be asked for.
        note: what there is to say about the cost of a deletion.
        holders: unique key → the rows of the table that hold a value which the batch claims.
        parents: reference → the values without a parent in the table.
    """

    def __init__(
        self,
        session: Session,
        wire: Wire,
        compare: Sequence[str],
        kind: Kind,
        ignores: bool,
        *,
        joined: bool,
        alone: bool = False,
        spares: bool = False,
        blind: Collection[frozenset[str]],
        unordered: bool = False,
    ) -> None:
        self.session, self.wire, self.compare, self.kind, self.ignores = session, wire, compare, kind, ignores
        self.blind = blind
        self.moved: set[int] = set()
        self.note: str | None = None
        self.unordered = unordered  # the end counts, and not the order of the rows
        self.alone = alone  # what would be deleted or changed by a reference is in the way as well
        self.spares = spares  # whatever refers to it in the table itself is in the way
        self.holders: dict[tuple[str, ...], pl.DataFrame] = {}
        self.parents: dict[Reference, pl.DataFrame | Pointed] = {}
        self.joined = joined  # an outer transaction may still bring the parents of deferred references

    def forget(self) -> None:
        """Forget what was found of other rows."""
        self.holders, self.parents = {}, {}

    def left_out(self) -> list[str]:
        """Name the checked columns that a write leaves alone: there, what stands in the table counts.

        Returns:
            Columns, in the order of the table.
        """
        if self.moved == {-1} or self.kind in ("insert", "delete"):
            return []
        contract = self.wire.contract
        checked = {name for unique in self._uniques() for name in unique}
        for reference in self._references():
            checked |= {*reference.columns, *self._judged(reference)}
        untouched = checked - {*contract.key, *self.compare}
        return [name for name in contract.column_names if name in untouched]

    def run(self, candidates: pl.DataFrame, *, first: bool, meeting: Callable[[], Interplay]) -> Settled:
        """Ask for missing parents and competing rows until nothing new is refused.

        Args:
            candidates: the rows that may be written, staged: ``_row``, ``mask`` and the short columns.
            first: the target is empty.
            meeting: tells which rows meet.

        Returns:
            What becomes of those that may not be written, and the order in which the others must.
        """
        self.holders = {unique: self._holders(unique, first) for unique in self._uniques()}
        self.parents = {reference: self._parents(reference, candidates) for reference in self._references()}
        orphans = self._orphans(candidates)
        hopeless: set[int] = set().union(*orphans.values())
        while True:
            lost: set[int] = set().union(*orphans.values())
            rows = without(candidates, lost)
            if self._add(orphans, self._orphans(rows)):
                continue
            settled = constraints.settle(
                self.wire,
                candidates,
                self.holders,
                lost,
                inserts=self.kind == "insert",
                ignore=self.ignores,
                unordered=self.unordered,
            )
            # A row may miss a parent that is refused only because of another row that misses its own.
            late = self._orphans(without(rows, settled.gone), final=True)
            sure = _sure(set().union(*late.values()) - settled.gone, meeting)
            if not self._add(orphans, {reference: found & sure for reference, found in late.items()}):
                break
        settled.hopeless = hopeless
        # A row that is ignored is not asked for its parent.
        ignored = set(settled.ignored)
        settled.orphans = {
            reference: found - ignored for reference, found in orphans.items() if found - ignored
        }
        settled.lacking = {
            p: known.lacking for p, known in self.parents.items() if isinstance(known, Pointed)
        }
        return settled

    def dependents(self) -> Settled:
        """Ask which of the staged rows cannot be deleted, as rows that stay refer to them.

        Returns:
            Those rows.
        """
        backend, name = self.session.backend, self.wire.contract.name
        pointing = pointing_at(self.session, name)
        self.note = unindexed_note(backend, name, pointing)
        depended: dict[Reference, set[int]] = {}
        within: list[Reference] = []
        for part in pointing:
            own = part["own"] and (self.spares or self.alone or part["forbids"])
            if not (own or part["forbids"] or self.alone):
                continue
            reference = self._pointing(part)
            spared = own and self.spares
            if part["forbids"] and self.joined and not spared and self._deferred(reference):
                continue  # the transaction may still delete what refers to it
            within += [reference] if own else []
            rows = self.session.fetch(constraints.depended_sql(self.wire, backend, reference, within=own))
            depended[reference] = set(rows["_row"].to_list())
        if self.spares and leads_back(self.session, name, pointing) and self._comes_back():
            circle = next(part for part in pointing if part["deletes"] and not part["own"])
            staged = self.session.fetch(f"SELECT s._row FROM {backend.spelling.temp(STAGE)} AS s")["_row"]
            depended[self._pointing(circle)] = set(staged.to_list())
        for reference in within if any(depended.values()) else ():
            depended[reference] |= self._leads_to(within, set().union(*depended.values()))
        return Settled(depended=depended)

    def _pointing(self, part: dict[str, Any]) -> Reference:
        """Give a reference of the catalog, by the table's own name if it is the table itself that points."""
        table = self.wire.contract.name if part["own"] else TableName(part["table"], part["schema"])
        return Reference(tuple(part["columns"]), table, tuple(part["targets"]))

    def _comes_back(self) -> bool:
        """Tell whether a deletion of the staged rows reaches other rows of the table by way of other tables."""
        wire, rows = whole(self.session, self.wire).rows(
            self.session, lambda all_of: before_sql(all_of, "", TRUE)
        )
        return bool(Along(self.session, wire, rows).others().height)

    def _leads_to(self, within: Sequence[Reference], stay: set[int]) -> set[int]:
        """Find the staged rows that rows which stay refer to, directly or by way of other staged rows."""
        links = pl.concat(
            self.session.fetch(constraints.links_sql(self.wire, self.session.backend, reference)).cast(
                pl.Int64
            )
            for reference in within
        )
        found: set[int] = set()
        fresh = stay
        while fresh:
            parents = links.filter(pl.col("child").is_in(list(fresh)))["parent"]
            fresh = set(parents) - stay - found
            found |= fresh
        return found

    def _deferred(self, reference: Reference) -> bool:
        """Tell whether a reference of another table is checked at the commit."""
        other = self.session.backend.reflect(self.session, reference.table)
        return any(r.deferred and r.columns == reference.columns for r in other.references)

    def _parents(self, reference: Reference, candidates: pl.DataFrame) -> pl.DataFrame | Pointed:
        """Ask which parents are missing; only the rows whose pointers are new or change are asked for theirs."""
        if not isinstance(reference, Pointer):
            return constraints.missing_parents(self.session, self.wire, reference)
        bits = self._bits(reference.columns)
        points = candidates.filter((pl.col("mask") == -1) | (pl.col("mask") & bits != 0))
        return Pointed(self.session, self.wire, reference, points)

    def _orphans(self, rows: pl.DataFrame, *, final: bool = False) -> dict[Reference, set[int]]:
        """Find the rows whose parent is neither in the table nor among the rows."""
        return {
            reference: set(
                known.orphans(rows, final=final)
                if isinstance(known, Pointed)
                else constraints.orphans(self.wire, rows, known, reference)
            )
            for reference, known in self.parents.items()
        }

    def _add(self, orphans: dict[Reference, set[int]], found: dict[Reference, set[int]]) -> bool:
        """Add what was found, and tell whether any of it is new."""
        before = sum(map(len, orphans.values()))
        for reference, rows in found.items():
            orphans[reference] |= rows
        return sum(map(len, orphans.values())) > before

    def _uniques(self) -> list[tuple[str, ...]]:
        return [unique for unique in self.wire.contract.unique if self._moves(unique)]

    def _references(self) -> list[Reference]:
        """Select what is to be checked; a pointer stands for the plain reference of its column."""
        contract = self.wire.contract
        pointing = {pointer.columns for pointer in contract.pointers}
        plain = [
            reference
            for reference in contract.references
            if reference.columns not in pointing and frozenset(reference.columns) not in self.blind
        ]
        return [
            reference
            for reference in (*plain, *contract.pointers)
            if self._moves(reference.columns) and not (reference.deferred and self.joined)
        ]

    def _judged(self, reference: Reference) -> set[str]:
        """Name the columns that tell whether a row of the batch can be a parent."""
        if not isinstance(reference, Pointer) or reference.table != self.wire.contract.name:
            return set()
        return {*reference.targets, *(name for name, _ in reference.where)}

    def _holders(self, unique: tuple[str, ...], first: bool) -> pl.DataFrame:
        """Ask who holds a unique value that the batch claims."""
        names = list(dict.fromkeys([*self.wire.contract.key, *unique]))
        if first:
            return pl.DataFrame(schema={self.wire.short[n]: self.wire.codecs[n].wire for n in names})
        return self.wire.fetch(self.session, constraints.holders_sql(self.wire, unique), names)

    def _moves(self, names: Sequence[str]) -> bool:
        """Tell whether some row is new, or changes one of some columns."""
        bits = self._bits(names)
        return any(mask == -1 or mask & bits for mask in self.moved)

    def _bits(self, names: Sequence[str]) -> int:
        return sum({dedupe.bit(self.compare.index(name)) for name in names if name in self.compare})


def _sure(refused: set[int], meeting: Callable[[], Interplay]) -> set[int]:
    """Select the rows that are refused whatever becomes of the others; the first where all depend on each other."""
    if len(refused) < 2:
        return refused
    return refused - meeting().after(refused) or {min(refused)}
