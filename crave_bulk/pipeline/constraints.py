"""Constraints: which rows another row stands in the way of, and which have no parent.

The questions go to the database as anti-joins over the staging table, so they cost by the batch. What
comes back is usually nothing. Where rows do compete for a key or a unique value, the outcome depends on
their order, and on whether an earlier row was itself refused: only those rows, and no others, are
settled one after the other, exactly as if they had been sent one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.session import Session
from crave_bulk.sql import quote
from crave_bulk.table import Reference

Value = tuple[Any, ...]


@dataclass(slots=True)
class Settled:
    """What became of rows that compete.

    Attributes:
        refused: the number of the input row → the unique key it breaks and the key of the row that
            holds the value, and whether that is an earlier row of the batch.
        ignored: rows whose key was taken, where that is no error; `passed` says by whom.
        orphans: reference → rows whose parent does not exist.
        hopeless: those of them whose parent is no row of the batch either, whatever becomes of that.
        lacking: reference of a list → ``_row`` and ``item``, the elements whose parent does not exist.
        depended: reference of another table, as from there → rows that cannot go while it points at them.
        waves: input row → the wave in which it must be written, where that is not the first: a value
            that one row gives up can be taken by another only afterwards.
    """

    refused: dict[int, tuple[tuple[str, ...], Value, bool]] = field(default_factory=dict)
    ignored: list[int] = field(default_factory=list)
    orphans: dict[Reference, set[int]] = field(default_factory=dict)
    hopeless: set[int] = field(default_factory=set)
    depended: dict[Reference, set[int]] = field(default_factory=dict)
    waves: dict[int, int] = field(default_factory=dict)
    passed: dict[int, tuple[tuple[str, ...], Value]] = field(default_factory=dict)
    lacking: dict[Reference, pl.DataFrame] = field(default_factory=dict)

    @property
    def gone(self) -> set[int]:
        """The rows that are not written."""
        return {*self.refused, *self.ignored}.union(*self.orphans.values(), *self.depended.values())

    def __bool__(self) -> bool:
        return bool(self.gone or self.waves)


# -- what the database is asked ------------------------------------------------------------------------


def holders_sql(wire: Wire, unique: Sequence[str]) -> str:
    """Ask who else holds a unique value that the batch claims.

    Args:
        wire: the table.
        unique: the columns of one unique key.

    Returns:
        A query: the unique columns and the key of each holder.
    """
    key = wire.contract.key
    names = list(dict.fromkeys([*key, *unique]))
    return (
        f"SELECT DISTINCT {wire.read(names)} FROM {wire.target} AS t\n"
        f"JOIN ({wire.staged(names, STAGE)}) AS s ON {wire.equal(unique, 't', 's')}\n"
        f"WHERE NOT ({wire.equal(key, 't', 's')})"
    )


def orphans_sql(wire: Wire, backend: Backend, reference: Reference) -> str:
    """Ask which referenced values have no parent.

    Args:
        wire: the table.
        backend: whose names to use.
        reference: the column, and what it points at.

    Returns:
        A query: the distinct values without a parent.
    """
    shorts, spelling = wire.shorts(reference.columns), wire.backend.spelling
    filled = " AND ".join(f"{short} IS NOT NULL" for short in shorts)
    # The staged values are made distinct first, so that each parent is looked up once.
    values = wire.staged(
        reference.columns, f"(SELECT DISTINCT {', '.join(shorts)} FROM {spelling.temp(STAGE)} WHERE {filled})"
    )
    same = " AND ".join(
        spelling.equal(f"p.{quote(target)}", f"s.{wire.short[column]}")
        for column, target in zip(reference.columns, reference.targets, strict=True)
    )
    return (
        f"SELECT {wire.read_staged(reference.columns)} FROM ({values}) AS s\n"
        f"WHERE NOT EXISTS (SELECT 1 FROM {backend.table(reference.table)} AS p WHERE {same})"
    )


def depended_sql(wire: Wire, backend: Backend, reference: Reference, *, within: bool = False) -> str:
    """Ask which staged rows another table refers to.

    Args:
        wire: the table.
        backend: whose names to use.
        reference: the other table, its columns, and the columns here that they point at.
        within: it is the table itself that refers, and staged rows may refer to each other.

    Returns:
        A query: ``_row``.
    """
    key = wire.contract.key
    staged = (
        f" AND NOT EXISTS (SELECT 1 FROM ({wire.staged(key, STAGE)}) AS o WHERE {wire.equal(key, 'c', 'o')})"
    )
    points = " AND ".join(
        wire.backend.spelling.equal(f"c.{quote(column)}", f"t.{quote(target)}")
        for column, target in zip(reference.columns, reference.targets, strict=True)
    )
    return (
        f"SELECT s._row FROM ({wire.staged(key, STAGE, extra=['s._row'])}) AS s\n"
        f"JOIN {wire.target} AS t ON {wire.equal(key, 't', 's')}\n"
        f"WHERE EXISTS (SELECT 1 FROM {backend.table(reference.table)} AS c WHERE {points}{staged if within else ''})"
    )


def links_sql(wire: Wire, backend: Backend, reference: Reference) -> str:
    """Ask which staged rows refer to each other, as they stand in the table.

    Args:
        wire: the table.
        backend: whose names to use.
        reference: its columns, and its columns that they point at.

    Returns:
        A query: ``parent`` and ``child``, the numbers of the rows.
    """
    key = wire.contract.key
    staged = wire.staged(key, STAGE, extra=["s._row"])
    points = " AND ".join(
        backend.spelling.equal(f"c.{quote(column)}", f"t.{quote(target)}")
        for column, target in zip(reference.columns, reference.targets, strict=True)
    )
    return (
        f"SELECT s._row AS parent, o._row AS child FROM ({staged}) AS s\n"
        f"JOIN {wire.target} AS t ON {wire.equal(key, 't', 's')}\n"
        f"JOIN {backend.table(reference.table)} AS c ON {points}\n"
        f"JOIN ({staged}) AS o ON {wire.equal(key, 'c', 'o')}"
    )


def missing_parents(session: Session, wire: Wire, reference: Reference) -> pl.DataFrame:
    """Fetch the referenced values that have no parent in the database.

    Args:
        session: the connection, with the batch staged.
        wire: the table.
        reference: the column, and what it points at.

    Returns:
        The short columns of distinct values, mostly empty.
    """
    query = orphans_sql(wire, session.backend, reference)
    return wire.fetch(session, query, reference.columns, checked=False)


def orphans(wire: Wire, rows: pl.DataFrame, missing: pl.DataFrame, reference: Reference) -> pl.Series:
    """Find the rows whose parent does not exist.

    Args:
        wire: the table.
        rows: ``_row`` and the short columns, of all rows that may be written.
        missing: the values that have no parent in the database.
        reference: the column, and what it points at.

    Returns:
        The numbers of the rows; a parent among `rows` counts as present.
    """
    shorts = wire.shorts(reference.columns)
    if reference.table == wire.contract.name:
        missing = missing.join(rows, left_on=shorts, right_on=wire.shorts(reference.targets), how="anti")
    if not missing.height:
        return pl.Series([], dtype=pl.Int64)
    return rows.join(missing, on=shorts, how="semi", maintain_order="left")["_row"]


# -- rows that compete ---------------------------------------------------------------------------------


def settle(
    wire: Wire,
    rows: pl.DataFrame,
    holders: dict[tuple[str, ...], pl.DataFrame],
    orphans: Collection[int] = (),
    *,
    inserts: bool,
    ignore: bool = False,
    unordered: bool = False,
) -> Settled:
    """Settle the rows that compete for a value, in the order of the input.

    Args:
        wire: the table.
        rows: ``_row`` and the short columns, of all rows that may be written.
        holders: unique key → the rows of the database that hold a claimed value.
        orphans: rows that are refused unless they are ignored, and so claim nothing.
        inserts: the verb is insert: every row is a row of its own, and its key a value to compete for.
        ignore: a row whose key was taken is ignored rather than refused.
        unordered: a row may also take a value that only a later row gives up.

    Returns:
        The refused and ignored rows, and the waves; empty where no row competes.
    """
    key = wire.contract.key
    uniques = [key, *holders] if inserts else list(holders)
    rivals = _rivals(wire, rows, holders, inserts)
    settled = Settled()
    if rivals.height:
        contest = _Contest(wire, uniques, holders, orphans, key if inserts else None, ignore)
        contest.run(rivals, settled, unordered=unordered)
    return settled


def _rivals(
    wire: Wire, rows: pl.DataFrame, holders: dict[tuple[str, ...], pl.DataFrame], inserts: bool
) -> pl.DataFrame:
    """Select the rows that compete, with all other rows of their keys, as those may give up a value."""
    key = wire.shorts(wire.contract.key)
    found = [rows.filter(pl.struct(key).is_duplicated())] if inserts else []
    for unique, held in holders.items():
        columns = wire.shorts(unique)
        filled = rows.drop_nulls(columns)
        found.append(filled.filter(pl.struct(columns).is_duplicated()))
        if held.height:
            found += [filled.join(held, on=columns, how="semi"), rows.join(held, on=key, how="semi")]
    rivals = pl.concat([part.select(key) for part in found]).unique() if found else rows.clear().select(key)
    return rows.join(rivals, on=key, how="semi").sort("_row") if rivals.height else rows.clear()


class _Contest:
    """Rows that compete, played one after the other.

    This is the one loop over rows in the package. Whether a row is refused depends on whether each
    earlier one was, which no set-based form decides in a bounded number of passes.
    """

    def __init__(
        self,
        wire: Wire,
        uniques: list[tuple[str, ...]],
        holders: dict[tuple[str, ...], pl.DataFrame],
        orphans: Collection[int],
        insert_key: tuple[str, ...] | None,
        ignore: bool,
    ) -> None:
        self._orphans = orphans
        self._wire, self._uniques, self._insert_key, self._ignore = wire, uniques, insert_key, ignore
        self._holder: dict[tuple[int, Value], Value] = {}
        self._holds: dict[tuple[int, Value], Value] = {}
        self._released: dict[tuple[int, Value], int] = {}
        self._wave: dict[Value, int] = {}
        for number, unique in enumerate(uniques):
            if unique in holders:
                for owner, value in self._pairs(holders[unique], unique):
                    self._take(number, value, owner)

    def run(self, rivals: pl.DataFrame, settled: Settled, *, unordered: bool) -> None:
        """Play the rows in order and write down what becomes of each."""
        values = [[value for _, value in self._pairs(rivals, unique)] for unique in self._uniques]
        keys, rows = self._values(rivals, self._wire.contract.key), rivals["_row"].to_list()
        alone, left, before = Counter(keys), list(range(len(rows))), len(rows) + 1
        while len(left) < before:
            before = len(left)
            for at in left:
                # A row of an insert is an owner of its own, even where its key is another's.
                owner: Value = (*keys[at], rows[at]) if self._insert_key else keys[at]
                self._play(rows[at], owner, [column[at] for column in values], settled)
            if not unordered:
                break
            # One of several rows of a key keeps its turn.
            left = [at for at in left if rows[at] in settled.refused and alone[keys[at]] == 1]

    def _play(self, row: int, owner: Value, claims: list[Value], settled: Settled) -> None:
        settled.refused.pop(row, None)
        for number, value in enumerate(claims):
            holder = self._holder.get((number, value))
            if holder is not None and holder != owner:
                unique = self._uniques[number]
                if self._ignore and unique == self._insert_key:
                    settled.ignored.append(row)
                    settled.passed[row] = (unique, holder[: len(self._wire.contract.key)])
                elif row not in self._orphans:
                    ours = holder in self._wave
                    settled.refused[row] = (unique, holder[: len(self._wire.contract.key)], ours)
                return
        if row in self._orphans:
            return
        wave = self._accept(owner, claims)
        if wave:
            settled.waves[row] = wave

    def _accept(self, owner: Value, claims: list[Value]) -> int:
        """Hand over the values, and return the wave in which that can be written."""
        wave = self._wave.get(owner, 0)
        for number, value in enumerate(claims):
            if self._holder.get((number, value)) is None:
                wave = max(wave, self._released.get((number, value), -1) + 1)
        for number, value in enumerate(claims):
            before = self._holds.get((number, owner))
            if before is not None and before != value:
                self._holder.pop((number, before), None)
                self._released[number, before] = wave
            self._take(number, value, owner)
        self._wave[owner] = wave
        return wave

    def _take(self, number: int, value: Value, owner: Value) -> None:
        self._holds[number, owner] = value
        if None not in value:  # NULL is never equal to NULL: such a row competes with none
            self._holder[number, value] = owner

    def _pairs(self, frame: pl.DataFrame, unique: Sequence[str]) -> Iterator[tuple[Value, Value]]:
        return zip(self._values(frame, self._wire.contract.key), self._values(frame, unique), strict=True)

    def _values(self, frame: pl.DataFrame, names: Sequence[str]) -> list[Value]:
        return [tuple(map(hashable, row)) for row in frame.select(self._wire.shorts(names)).rows()]


def hashable(value: Any) -> Any:
    """Give a value that equals another where a database says so: NaN is itself there, a list has its items."""
    if isinstance(value, list):
        return tuple(map(hashable, value))
    return "NaN" if value != value else value
