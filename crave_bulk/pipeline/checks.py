"""Checks: ask the database for missing parents and competing rows, and settle what they mean."""

from __future__ import annotations

import json
from collections.abc import Sequence

import polars as pl

from crave_bulk.pipeline import constraints, dedupe
from crave_bulk.pipeline.constraints import Settled
from crave_bulk.pipeline.merge import Kind
from crave_bulk.pipeline.pointers import Pointed
from crave_bulk.pipeline.stage import Wire, without
from crave_bulk.session import Session
from crave_bulk.table import Pointer, Reference, TableName


class Checks:
    """The unique keys and references of a table, over the rows of one batch.

    Attributes:
        moved: the masks that occur among the rows that may be written (see `dedupe.changes`): what no
            row changes need not be asked for.
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
    ) -> None:
        self.session, self.wire, self.compare, self.kind, self.ignores = session, wire, compare, kind, ignores
        self.moved: set[int] = set()
        self.alone = alone  # what would be deleted or changed by a reference is in the way as well
        self.joined = joined  # an outer transaction may still bring the parents of deferred references

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

    def run(self, candidates: pl.DataFrame, *, first: bool) -> Settled:
        """Ask for missing parents and competing rows until nothing new is refused.

        Args:
            candidates: the rows that may be written, staged: ``_row``, ``mask`` and the short columns.
            first: the target is empty.

        Returns:
            What becomes of those that may not be written, and the order in which the others must.
        """
        holders = {unique: self._holders(unique, first) for unique in self._uniques()}
        parents = {reference: self._parents(reference, candidates) for reference in self._references()}
        orphans: dict[Reference, set[int]] = {reference: set() for reference in parents}
        while True:
            lost: set[int] = set().union(*orphans.values())
            rows = without(candidates, lost)
            if self._find_orphans(rows, parents, orphans):
                continue
            settled = constraints.settle(
                self.wire, candidates, holders, lost, inserts=self.kind == "insert", ignore=self.ignores
            )
            # Only when no other row is missing its parent is a refusal final, and its children orphans.
            if not self._find_orphans(without(rows, settled.gone), parents, orphans, final=True):
                break
        # A row that is ignored is not asked for its parent.
        ignored = set(settled.ignored)
        settled.orphans = {
            reference: found - ignored for reference, found in orphans.items() if found - ignored
        }
        settled.lacking = {p: known.lacking for p, known in parents.items() if isinstance(known, Pointed)}
        return settled

    def dependents(self) -> Settled:
        """Ask which of the staged rows cannot be deleted, as other tables refer to them.

        Returns:
            Those rows.
        """
        backend, depended = self.session.backend, {}
        found = json.loads(self.session.fetch(backend.dependents_sql(self.wire.contract.name)).item())
        if self.alone:
            found += json.loads(self.session.fetch(backend.cascades_sql(self.wire.contract.name)).item())
        for part in found:
            table = TableName(part["table"], part["schema"])
            reference = Reference(tuple(part["columns"]), table, tuple(part["targets"]))
            if self.joined and self._deferred(reference):
                continue  # the transaction may still delete what refers to it
            within = self.alone and part["own"]
            rows = self.session.fetch(constraints.depended_sql(self.wire, backend, reference, within=within))
            depended[reference] = set(rows["_row"].to_list())
        return Settled(depended=depended)

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

    def _find_orphans(
        self,
        rows: pl.DataFrame,
        parents: dict[Reference, pl.DataFrame | Pointed],
        orphans: dict[Reference, set[int]],
        *,
        final: bool = False,
    ) -> bool:
        """Add the rows whose parent is neither in the table nor among the rows; tell whether any are new."""
        before = sum(map(len, orphans.values()))
        for reference, known in parents.items():
            if isinstance(known, Pointed):
                orphans[reference].update(known.orphans(rows, final=final))
            else:
                orphans[reference].update(constraints.orphans(self.wire, rows, known, reference))
        return sum(map(len, orphans.values())) > before

    def _uniques(self) -> list[tuple[str, ...]]:
        return [unique for unique in self.wire.contract.unique if self._moves(unique)]

    def _references(self) -> list[Reference]:
        """Select what is to be checked; a pointer stands for the plain reference of its column."""
        contract = self.wire.contract
        pointing = {pointer.columns for pointer in contract.pointers}
        plain = [reference for reference in contract.references if reference.columns not in pointing]
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
