"""Interplay: which rows of a batch can change what becomes of which others.

Rows meet where they mean the same row of the table, claim or give up the same value of a unique key, or
point at each other. It is asked only where a row was refused: what was found of the rows that met it does
not hold any more, and of all others it does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Sequence

import polars as pl

from crave_bulk.pipeline.constraints import hashable

Pairs = Iterable[tuple[int, Hashable]]


class Interplay:
    """The groups of rows that meet, each in input order, and the rows that point at rows.

    Args:
        claims: columns that hold values which rows may meet in: ``_row`` and the columns, under a name
            that tells which claims can be equal.
        held: pairs of claims that one row of the table holds: who takes over the one meets the other.
        points: rows that point at a value of a claim, and the name of that claim.

    Example:
        >>> rows = pl.DataFrame({"_row": [0, 1, 2, 3], "id": [7, 8, 7, 9], "boss": [None, None, 8, 7]})
        >>> ids, bosses = rows.select("_row", "id"), rows.select("_row", "boss")
        >>> meeting = Interplay([("id", ids)], [], [("id", bosses)])
        >>> meeting.after([0]), meeting.after([1]), meeting.after([3])
        ({2, 3}, {2, 3}, set())
        >>> meeting.rounds([0, 2, 3])
        [[0], [2], [3]]
    """

    def __init__(
        self,
        claims: Iterable[tuple[str, pl.DataFrame]],
        held: Iterable[tuple[tuple[str, pl.DataFrame], tuple[str, pl.DataFrame]]],
        points: Iterable[tuple[str, pl.DataFrame]],
    ) -> None:
        self._root: dict[Hashable, Hashable] = {}
        self._claims: dict[int, set[Hashable]] = {}
        for name, frame in claims:
            for row, value in _values(frame):
                claim = (name, value)
                self._claims.setdefault(row, set()).add(claim)
                self._join(row, claim)
        for (left, ours), (right, theirs) in held:
            for a, b in zip(ours.rows(), theirs.rows(), strict=True):
                self._join((left, _whole(a)), (right, _whole(b)))
        self._groups: dict[Hashable, list[int]] = {}
        for row in sorted(self._claims):
            self._groups.setdefault(self._find(row), []).append(row)
        self._pointing: dict[Hashable, set[int]] = {}
        for name, frame in points:
            for row, value in _values(frame):
                self._pointing.setdefault((name, value), set()).add(row)

    def after(self, rows: Collection[int]) -> set[int]:
        """Find the rows that rows may have stood in the way of, or have helped: later ones, and those that point there.

        Args:
            rows: their numbers.

        Returns:
            The numbers of all rows that depend on one of them, by whatever detours.
        """
        found: set[int] = set()
        since: dict[Hashable, float] = {}  # from here on all rows of a group are found
        waiting = list(rows)
        while waiting:
            row = waiting.pop()
            group = self._find(row)
            until = since.get(group, math.inf)
            since[group] = min(until, row + 1)
            met = {other for other in self._groups.get(group, ()) if row < other < until}
            for claim in self._claims.get(row, ()):
                met |= self._pointing.get(claim, set()) - {row}
            waiting += [other for other in met if other not in found]
            found.update(met)
        return found

    def group(self, rows: Collection[int]) -> set[int]:
        """Find all rows that meet rows.

        Args:
            rows: their numbers.

        Returns:
            The numbers of the rows of their groups.
        """
        return {other for row in rows for other in self._groups.get(self._find(row), ())}

    def rounds(self, rows: Collection[int]) -> list[list[int]]:
        """Put rows into an order in which each comes after those that it depends on.

        Args:
            rows: their numbers.

        Returns:
            Rounds of rows that do not meet; one that points at a later row comes after it.
        """
        bearing: dict[Hashable, list[int]] = {}
        for row, claims in self._claims.items():
            for claim in claims:
                bearing.setdefault(claim, []).append(row)
        parents: dict[int, set[int]] = {}
        among = set(rows)
        for claim, bearers in bearing.items():
            for child in self._pointing.get(claim, ()):
                # A parent that comes later is waited for only where there is none before it, among these rows or others.
                earlier = {row for row in bearers if row <= child}
                parents.setdefault(child, set()).update((earlier or set(bearers)) & among - {child})
        level: dict[int, int] = {}
        last: dict[Hashable, int] = {}
        for row in sorted(rows, key=lambda row: (any(p > row for p in parents.get(row, ())), row)):
            group = self._find(row)
            before = [level.get(parent, -1) for parent in parents.get(row, ())]
            level[row] = last[group] = 1 + max([last.get(group, -1), *before])
        found: list[list[int]] = [[] for _ in range(1 + max(level.values(), default=-1))]
        for row in sorted(level):
            found[level[row]].append(row)
        return found

    def _find(self, node: Hashable) -> Hashable:
        root = self._root.setdefault(node, node)
        while root != self._root[root]:
            self._root[root] = self._root[self._root[root]]
            root = self._root[root]
        self._root[node] = root
        return root

    def _join(self, one: Hashable, other: Hashable) -> None:
        self._root[self._find(one)] = self._find(other)


def _values(frame: pl.DataFrame) -> Pairs:
    """Give each row its value; a NULL is equal to none."""
    return ((row, _whole(value)) for row, *value in frame.drop_nulls().iter_rows())


def _whole(value: Sequence[object]) -> Hashable:
    return tuple(map(hashable, value))
