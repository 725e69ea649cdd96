"""Write: run the merge over the staging table, learn what it did, and find the rows it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from crave_bulk.backends.base import MergeParts
from crave_bulk.errors import ConstraintViolated, DatabaseError, about_rows
from crave_bulk.pipeline import dedupe
from crave_bulk.pipeline.bisect import bisect
from crave_bulk.pipeline.merge import Columns, Kind, delete_sql, insert_sql, merge_parts, update_sql
from crave_bulk.pipeline.resolve import FRESH
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.session import Session
from crave_bulk.sql import quote

_PIECE = 200_000  # rows; half a second for SQLite, whose driver cannot stop a statement
_FEW_WAVES = 4  # that many statements are no trouble
FOREIGN = ("23503", "SQLITE_CONSTRAINT_FOREIGNKEY")
RACES = ("23505", "23503")  # what another writer can cause between the check and the merge


class Raced(Exception):
    """Another writer may have come in between: everything is to be checked again.

    Attributes:
        constraint: what was broken, where the database named it.
    """

    def __init__(self, constraint: str | None = None) -> None:
        super().__init__("another writer came in between")
        self.constraint = constraint


class Writer:
    """The statements that write one batch."""

    def __init__(
        self,
        session: Session,
        wire: Wire,
        kind: Kind,
        columns: Columns,
        *,
        ignores: bool,
        watched: bool,
        check_now: str | None,
        last: bool,
    ) -> None:
        self.session, self.wire, self.kind, self.columns = session, wire, kind, columns
        self.ignores, self.check_now, self.last = ignores, check_now, last
        self.watched = watched
        # A delete that takes others along counts only those that it was told to delete.
        self.reads_back = session.backend.reads_back or watched or kind == "delete"
        self.overrides = False
        self._indexed = False

    def run(self, final: pl.DataFrame, *, waves: bool) -> tuple[pl.DataFrame, dict[int, DatabaseError]]:
        """Apply the staged rows, wave by wave; mostly there is one.

        Args:
            final: the rows to write, staged: ``_row``, ``wave``, ``mask`` and the short columns.
            waves: there may be several, of which one may find a row as the one before left it.

        Returns:
            ``_row`` of each row that was written, and ``inserted``; and the rows that were refused.

        Raises:
            Raced: another writer may be to blame.
            DatabaseError: no row is to blame.
        """
        done = [final.select("_row", inserted=pl.col("mask") == -1).clear()]
        errors: dict[int, DatabaseError] = {}
        self._indexed = False
        if waves and (at_once := self._in_order(final)) is not None:
            return at_once, errors
        for wave in final["wave"].unique().sort():
            for rows in self._pieces(final.filter(wave=wave)):
                done += self._write(rows, errors, exact=not waves, piece=rows.height < final.height)
        while waiting := self._without_parent(errors):
            # The parent may be a row of the batch that was written later: in another part, or in another wave.
            before = len(errors)
            for row in waiting:
                del errors[row]
            rows = final.filter(pl.col("_row").is_in(waiting))
            done += self._write(rows, errors, exact=not waves, listed=True)
            if len(errors) >= before:
                break
        return pl.concat(done), errors

    def _pieces(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Cut a batch that is so large that it could not be stopped for long; its rows do not depend on each other."""
        contract = self.wire.contract
        within = any(reference.table == contract.name for reference in contract.references)
        if self.session.backend.stops or within or rows.height <= _PIECE:
            yield rows
            return
        self._index()
        yield from rows.sort("_row").iter_slices(_PIECE)

    def _in_order(self, final: pl.DataFrame) -> pl.DataFrame | None:
        """Try to write many waves in one statement, which hands values over in its order, as a rule.

        A chain of rows that each take over the value of the next has as many waves as rows. No database
        promises an order, but its constraints see to it that what comes of it is right, or refused: then
        None is returned, and nothing was written.
        """
        key = self.wire.shorts(self.wire.contract.key)
        if (
            final["wave"].n_unique() <= _FEW_WAVES
            or FRESH in final.columns
            or final.select(key).is_duplicated().any()
        ):
            return None
        orderly, as_usual = self.session.backend.orderly
        try:
            with self.session.atomic():
                self.session.fetch(orderly)
                done = self._apply(final, "true ORDER BY s.wave, s._row", exact=False)
                self.session.fetch(as_usual)
        except (DatabaseError, Raced) as error:
            if isinstance(error, DatabaseError) and not about_rows(error):
                raise
            return None
        return done

    def _write(
        self,
        rows: pl.DataFrame,
        errors: dict[int, DatabaseError],
        *,
        exact: bool,
        listed: bool = False,
        piece: bool = False,
    ) -> list[pl.DataFrame]:
        """Write rows, in one statement or in as many as it takes to find those that are refused."""
        numbers = rows["_row"].sort().to_list()
        wave = "true" if listed else f"s.wave = {rows['wave'][0]}"

        def attempt(part: Sequence[int]) -> pl.DataFrame:
            where = wave
            if listed or not part:
                where += f" AND s._row IN ({', '.join(map(str, part)) or 'NULL'})"
            elif piece or len(part) < len(numbers):
                where += f" AND s._row BETWEEN {part[0]} AND {part[-1]}"
            chosen = rows if len(part) == len(numbers) else rows.filter(pl.col("_row").is_in(list(part)))
            return self._apply(chosen, where, exact=exact)

        return bisect(self.session, numbers, attempt, errors.__setitem__, self._index)

    def _without_parent(self, errors: Mapping[int, DatabaseError]) -> list[int]:
        """List the rows whose reference within the table was refused."""
        contract = self.wire.contract
        if self.kind == "delete" or not any(r.table == contract.name for r in contract.references):
            return []
        return [row for row, error in errors.items() if error.sqlstate in FOREIGN]

    def unreadable(self, rows: Sequence[int], name: str) -> dict[int, DatabaseError]:
        """Find the staged rows with a value that the database cannot read as its column's type.

        Args:
            rows: the numbers of the staged rows.
            name: the column to try.

        Returns:
            Row → what the database said.
        """
        errors: dict[int, DatabaseError] = {}

        def attempt(part: Sequence[int]) -> None:
            where = f"s._row BETWEEN {part[0]} AND {part[-1]}" if part else "false"
            staged = self.wire.staged([name], STAGE, where)
            # Not count(): the planner would not need the values for it.
            self.session.fetch(f"SELECT max(length(CAST(x.{quote(name)} AS text))) FROM ({staged}) AS x")

        def refuse(row: int, error: DatabaseError) -> None:
            error.columns = (name,)
            errors[row] = error

        bisect(self.session, rows, attempt, refuse, self._index)
        return errors

    def _index(self) -> None:
        """Let a part of the staging table be found without reading all of it."""
        if not self._indexed:
            self.session.execute(f"CREATE INDEX {STAGE}_rows ON {STAGE} (_row)")
        self._indexed = True

    def _apply(self, rows: pl.DataFrame, where: str, *, exact: bool) -> pl.DataFrame:
        """Run the statements over some staged rows, and learn what they wrote."""
        try:
            done = [self._run(statement, rows) for statement in self._statements(rows, where, exact)]
            if self.check_now:
                self.session.execute(self.check_now)
        except ConstraintViolated as error:
            if error.sqlstate in RACES and self.session.backend.concurrent and not self.last:
                raise Raced(error.constraint) from error
            raise
        if self.reads_back:
            none = rows.select("_row", inserted=pl.col("mask") == -1).clear()
            return pl.concat([none, *(part for part in done if isinstance(part, pl.DataFrame))])
        return self._counted(rows, sum(part for part in done if isinstance(part, int)), exact)

    def _statements(self, rows: pl.DataFrame, where: str, exact: bool) -> Iterator[str]:
        backend = self.session.backend
        if self.kind == "delete":
            yield delete_sql(self._parts(where))
        elif self.kind == "insert":
            yield insert_sql(self._parts(where), ignore=self.ignores)
        elif self.kind == "update":
            yield update_sql(self._parts(where, alive=self.wire.alive("t")), backend.updated)
        elif FRESH not in rows.columns:
            yield backend.merge(self._parts(where, self._differing(rows, exact)))
        else:
            # Existing rows are locked and were combined with; a row that appears only now is an error, and
            # not one to be replaced by what was combined without it.
            fresh = rows[FRESH] == 1
            if fresh.any():
                yield insert_sql(self._parts(f"{where} AND s.{FRESH} = 1"))
            if self.columns.compare and not fresh.all():
                yield update_sql(self._parts(f"{where} AND s.{FRESH} = 0"), backend.updated)

    def _parts(self, where: str, columns: Columns | None = None, alive: str = "true") -> MergeParts:
        parts = merge_parts(
            self.wire, columns or self.columns, where, read_keys=self.reads_back, overrides=self.overrides
        )
        return replace(parts, alive=alive)

    def _differing(self, rows: pl.DataFrame, exact: bool) -> Columns:
        """Leave columns alone that no row changes, which spares their indexes, where nobody else can."""
        columns = self.columns
        if self.session.backend.concurrent or not exact:
            return columns
        known, masks = columns.compare, [mask for mask in rows["mask"].unique() if mask > 0]
        update = [
            name
            for name in columns.update
            if name not in known or any(mask & dedupe.bit(known.index(name)) for mask in masks)
        ]
        return Columns(columns.insert, update, known)

    def _run(self, statement: str, rows: pl.DataFrame) -> pl.DataFrame | int:
        """Run one statement; where it does not read back, count what it wrote."""
        if not self.reads_back:
            self.session.execute(statement)
            return int(self.session.fetch("SELECT changes() AS written").item())
        done = self.session.fetch(statement)
        if "_row" in done.columns:
            return done.select(pl.col("_row").cast(pl.Int64), pl.col("inserted").cast(pl.Boolean))
        key = self.wire.shorts(self.wire.contract.key)
        found = rows.join(self.wire.from_wire(done, self.wire.contract.key), on=key, how="inner")
        if found.height < done.height:
            raise DatabaseError("a trigger of the database changes the key, so the row cannot be found again")
        if self.session.backend.concurrent:
            return found.select("_row", pl.col("inserted").cast(pl.Boolean))
        return found.select("_row", inserted=pl.col("mask") == -1)

    def _counted(self, rows: pl.DataFrame, written: int, exact: bool) -> pl.DataFrame:
        """Say what a merge did under the write lock, where what it should write is known."""
        if exact and written != rows.height:
            raise DatabaseError(
                f"the merge wrote {written} rows where {rows.height} were expected, so it was rolled back: please "
                "report this as a bug, with the definition of the table",
                sqlstate="SQLITE_INTERNAL",
            )
        return rows.select("_row", inserted=pl.col("mask") == -1)
