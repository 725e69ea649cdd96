"""Write: run the merge over the staging table, learn what it did, and find the rows it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from crave_bulk.backends.base import MergeParts
from crave_bulk.compare import Parameters
from crave_bulk.errors import ConstraintViolated, DatabaseError, about_rows
from crave_bulk.pipeline import dedupe
from crave_bulk.pipeline.bisect import bisect
from crave_bulk.pipeline.merge import (
    Columns,
    Kind,
    delete_sql,
    insert_sql,
    let_go_sql,
    merge_parts,
    touch_sql,
    update_sql,
)
from crave_bulk.pipeline.resolve import FRESH
from crave_bulk.pipeline.stage import STAGE, Wire, without
from crave_bulk.session import Session
from crave_bulk.sql import FALSE, TRUE, Spelling, quote

_PIECE = 200_000  # rows; half a second for SQLite, whose driver cannot stop a statement
_FEW_WAVES = 4  # that many statements are no trouble
_DATA_EXCEPTION = "22"  # the class of SQLSTATEs
FOREIGN = ("23503", "SQLITE_CONSTRAINT_FOREIGNKEY")
KEPT = "the row is still there: a trigger, a rule or a policy of the database kept it"
_REKEYED = (
    "a trigger of the database changes the key or removes the row, so the row cannot be followed: give it the key that "
    "the trigger makes of it"
)
RACES = ("23505", "23503")  # what another writer can cause between the check and the merge


class Raced(Exception):
    """Another writer may have come in between: everything is to be checked again.

    Attributes:
        constraint: what was broken, where the database named it.
    """

    def __init__(self, constraint: str | None = None) -> None:
        super().__init__("another writer came in between")
        self.constraint = constraint


class Renamed(Raced):
    """A trigger gives rows keys that decide which other rows are deleted: everything is to be done again.

    Attributes:
        keys: ``_row`` and the short columns of those keys.
    """

    def __init__(self, keys: pl.DataFrame) -> None:
        super().__init__()
        self.keys = keys


_NO_VERSIONS = "0A000"  # PostgreSQL up to 16 cannot read back whether a row of a partitioned table is new


class _Apart(DatabaseError):
    """Triggers or policies have done something else with some rows, and said nothing.

    Attributes:
        rows: their numbers.
    """

    def __init__(self, why: str, rows: Sequence[int]) -> None:
        super().__init__(why)
        self.rows = rows


class _TakenBack(Exception):
    pass


class Unordered(Exception):
    """No order of statements writes the rows, as they hand on values and point at each other."""


class Writer:
    """The statements that write one batch.

    Attributes:
        keys: the keys of the rows that a trigger has given another one: ``_row`` and the short columns.
        moved: the same of the rows that a trigger gives a key which exists, and that were not written.
    """

    def __init__(
        self,
        session: Session,
        wire: Wire,
        kind: Kind,
        columns: Columns,
        *,
        ignores: bool,
        watched: bool,
        triggered: bool,
        check_now: str | None,
        last: bool,
        strict: str,
        revives: bool,
    ) -> None:
        self.session, self.wire, self.kind, self.columns = session, wire, kind, columns
        self.spelling = session.backend.spelling
        self.ignores, self.check_now, self.last = ignores, check_now, last
        self.watched, self.triggered, self.strict = watched, triggered, strict
        self._alive = TRUE if revives else wire.alive("t")  # which rows may be updated
        self.keys: list[pl.DataFrame] = []
        self.moved: list[pl.DataFrame] = []
        # A delete that takes others along counts only those that it was told to delete.
        self.reads_back = session.backend.reads_back or watched or kind == "delete"
        self.overrides = False
        self.within = any(reference.table == wire.contract.name for reference in wire.contract.references)
        self._indexed, self._versions = False, True

    def run(self, final: pl.DataFrame, *, waves: bool) -> tuple[pl.DataFrame, dict[int, DatabaseError]]:
        """Apply the staged rows, wave by wave; mostly there is one.

        Args:
            final: the rows to write, staged: ``_row``, ``wave``, ``mask`` and the short columns.
            waves: there may be several, of which one may find a row as the one before left it.

        Returns:
            ``_row`` of each row that was written, and ``inserted``; and the rows that were refused.

        Raises:
            Raced: another writer may be to blame.
            Unordered: the rows must be written one after the other.
            DatabaseError: no row is to blame.
        """
        done = [final.select("_row", inserted=pl.col("mask") == -1).clear()]
        errors: dict[int, DatabaseError] = {}
        self._indexed = False
        self.keys, self.moved = [], []
        if waves and (at_once := self._in_order(final)) is not None:
            return at_once, errors
        if waves and self.within:
            raise Unordered
        for wave in final["wave"].unique().sort():
            for rows in self._pieces(final.filter(wave=wave)):
                done += self._write(rows, errors, exact=not waves, piece=rows.height < final.height)
        while waiting := self._without_parent(errors):
            # The parent may be a row of the batch that was written later, in another part. The child of a row that is
            # deleted may go later.
            before = len(errors)
            for row in waiting:
                del errors[row]
            rows = final.filter(pl.col("_row").is_in(waiting))
            done += self._write(rows, errors, exact=not waves, listed=True)
            if len(errors) >= before:
                break
        if self.kind == "delete" and (circle := self._without_parent(errors)):
            done += self._let_go(final.filter(pl.col("_row").is_in(circle)), errors)
        return pl.concat(done), errors

    def _let_go(self, rows: pl.DataFrame, errors: dict[int, DatabaseError]) -> list[pl.DataFrame]:
        """Delete rows that point at each other: SQLite's RESTRICT keeps each by the others, PostgreSQL's does not."""
        contract = self.wire.contract
        own = {n for r in contract.references if r.table == contract.name for n in r.columns} - set(
            contract.key
        )
        points = [quote(c.name) for c in contract.columns if c.name in own and c.nullable]
        if not points:
            return []
        numbers = self.spelling.listed("s._row", map(str, rows["_row"]))
        refused: dict[int, DatabaseError] = {}
        try:
            with self.session.atomic():
                self.session.execute(let_go_sql(self._parts(numbers), points))
                done = self._write(rows, refused, exact=False, listed=True)
                if refused:
                    raise _TakenBack
        except _TakenBack:
            return []
        except DatabaseError as error:  # such as of a trigger
            if not about_rows(error):
                raise
            return []
        for row in rows["_row"]:
            del errors[row]
        return done

    def _pieces(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Cut a batch that is so large that it could not be stopped for long; its rows do not depend on each other."""
        if self.session.backend.stops or self.within or rows.height <= _PIECE:
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
        few = final["wave"].n_unique() <= _FEW_WAVES or FRESH in final.columns
        if not self.within and (few or final.select(key).is_duplicated().any()):
            return None
        orderly, as_usual = self.session.backend.orderly
        try:
            with self.session.atomic():
                self.session.fetch(orderly)
                where = "s.wave IS NOT NULL" + ("" if FRESH in final.columns else " ORDER BY s.wave, s._row")
                done = self._apply(final, where, exact=False)
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
        spelling = self.session.backend.spelling
        wave = TRUE if listed else spelling.equal("s.wave", str(rows["wave"][0]))

        apart: dict[int, DatabaseError] = {}

        def attempt(part: Sequence[int]) -> pl.DataFrame:
            where = f"{wave} AND {_numbered(spelling, part, listed=listed)}"
            if part and not (listed or piece) and len(part) == len(numbers):
                where = wave
            if apart:
                where += f" AND NOT {spelling.listed('s._row', map(str, apart))}"
            chosen = rows if len(part) == len(numbers) else rows.filter(pl.col("_row").is_in(list(part)))
            some = listed or len(part) < len(numbers)
            return self._apply(without(chosen, apart), where, exact=exact, some=some)

        def refuse(number: int, error: DatabaseError) -> None:
            row = rows.filter(_row=number)
            if isinstance(error, ConstraintViolated) and self._may_be_rekeyed(row, error):
                self._collide(row, one(number), errors, error)
            else:
                errors[number] = error

        def one(number: int) -> str:
            return f"{wave} AND {spelling.equal('s._row', str(number))}"

        done = bisect(
            self.session, numbers, attempt, refuse, self._index, lambda e: self._knows_better(e, apart)
        )
        if self.kind != "delete":  # only one by one it can be told which key a row was given
            return done + [self._write_one(rows.filter(_row=n), one(n), errors) for n in sorted(apart)]
        errors |= apart
        return done

    def _knows_better(self, error: DatabaseError, apart: dict[int, DatabaseError]) -> bool:
        """Tell whether the same rows can be tried in another way: without those that a trigger led elsewhere."""
        if error.sqlstate == _NO_VERSIONS and self._versions:
            self._versions = False
            return True
        if not isinstance(error, _Apart) or apart.keys() >= set(error.rows):
            return False
        apart.update(dict.fromkeys(error.rows, error))
        return True

    def _write_one(self, row: pl.DataFrame, where: str, errors: dict[int, DatabaseError]) -> pl.DataFrame:
        """Insert one row, and learn the key that it has then."""
        written = row.select("_row", inserted=pl.lit(True))
        try:
            if not self._is_new(row):
                raise DatabaseError(_REKEYED)
            with self.session.atomic():
                key = self._read_key(insert_sql(self._parts(where), ignore=self.ignores))
                if key.height and not self._is_there(key):
                    raise DatabaseError(_REKEYED)
                if self.check_now:
                    self.session.execute(self.check_now)
        except ConstraintViolated as error:
            if not self._may_be_rekeyed(row, error):
                raise
            self._collide(row, where, errors, error)
            return written.clear()
        except DatabaseError as error:
            if not about_rows(error):
                raise
            errors[row["_row"][0]] = error
            return written.clear()
        self.keys.append(row.select("_row").head(key.height).hstack(key))
        return written.head(key.height)

    def _collide(
        self, row: pl.DataFrame, where: str, errors: dict[int, DatabaseError], error: ConstraintViolated
    ) -> None:
        """Note under which key a row would stand that the database has refused, if another row has that key."""
        key = self._key_of(where)
        if key is None or not key.height:
            if not self.last:
                raise Raced(error.constraint) from error
            errors[row["_row"][0]] = error
        elif self.kind == "merge":
            self.moved.append(row.select("_row").hstack(key))
        else:
            text = ", ".join(map(str, self.wire.decode(key, self.wire.contract.key).row(0)))
            why = f"a trigger of the database gives the row the key {text}, and a row with it exists already"
            errors[row["_row"][0]] = DatabaseError(
                why, sqlstate=error.sqlstate, constraint=error.constraint, columns=self.wire.contract.key
            )

    def _key_of(self, where: str) -> pl.DataFrame | None:
        """Find the key that a new row would have, if another row has it; nothing is written."""
        try:
            with self.session.atomic():
                key = self._read_key(touch_sql(self._parts(where), self._touched()))
                raise _TakenBack
        except _TakenBack:
            return key
        except DatabaseError as error:
            if not about_rows(error):
                raise
            return None

    def led_onto(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Find the keys that a trigger would give to new rows, where they exist already; nothing is written.

        Args:
            rows: of the staged rows ``_row``, ``mask`` and the short columns.

        Returns:
            ``_row`` and the short columns of the key, of each row that would get such a key.
        """
        names = self.wire.shorts(self.wire.contract.key)
        found = [rows.select("_row", *names).clear()]
        for row in rows.iter_slices(1) if self.triggered else ():
            key = (
                self._key_of(self.spelling.equal("s._row", str(row["_row"][0])))
                if self._is_new(row)
                else None
            )
            if key is not None and key.height and not key.equals(row.select(names)):
                found.append(row.select("_row").hstack(key))
        return pl.concat(found)

    def _touched(self) -> str:
        """Choose a column that may be set."""
        column = self.wire.contract.column
        return quote(next(name for name in self.columns.insert if not column(name).identity_always))

    def _read_key(self, statement: str) -> pl.DataFrame:
        names = self.wire.contract.key
        return self.wire.from_wire(self.session.fetch(statement), names).select(self.wire.shorts(names))

    def _is_there(self, key: pl.DataFrame) -> bool:
        parameters, names = Parameters(self.session.backend), self.wire.contract.key
        values = [parameters.bind(key[self.wire.short[name]]) for name in names]
        tests = " AND ".join(
            self.spelling.equal(f"t.{quote(name)}", self.wire.codecs[name].stage.format(value))
            for name, value in zip(names, values, strict=True)
        )
        query = f"SELECT EXISTS (SELECT 1 FROM {self.wire.target} AS t WHERE {tests}) AS found"
        return bool(self.session.fetch(query, parameters.frame()).item())

    def _is_new(self, row: pl.DataFrame) -> bool:
        merges = self.kind in ("insert", "merge")
        return self.session.backend.concurrent and merges and row["mask"][0] == -1

    def _may_be_rekeyed(self, rows: pl.DataFrame, error: ConstraintViolated) -> bool:
        return self.triggered and error.sqlstate == "23505" and (rows.height > 1 or self._is_new(rows))

    def _without_parent(self, errors: Mapping[int, DatabaseError]) -> list[int]:
        """List the rows whose reference within the table was refused, or of which one kept them from going."""
        if not self.within:
            return []
        return [row for row, error in errors.items() if error.sqlstate in FOREIGN]

    def blame(self, errors: Mapping[int, DatabaseError]) -> None:
        """Name the column of each value that the database could not convert, which PostgreSQL does not say.

        Args:
            errors: row → what the database said; is told the columns.
        """
        unnamed = {
            n: e for n, e in errors.items() if e.sqlstate.startswith(_DATA_EXCEPTION) and not e.columns
        }
        if not unnamed:
            return
        found = self.session.backend.reflect(self.session, self.wire.contract.name)
        types = {column.name: column.sql_type for column in found.columns}
        for name in self.columns.insert:
            if name in types and unnamed:
                for row in self.unreadable(sorted(unnamed), name, types[name], listed=True):
                    unnamed.pop(row).columns = (name,)

    def unreadable(
        self, rows: Sequence[int], name: str, sql_type: str | None = None, *, listed: bool = False
    ) -> dict[int, DatabaseError]:
        """Find the staged rows with a value that the database cannot read as its column's type.

        Args:
            rows: the numbers of the staged rows.
            name: the column to try.
            sql_type: the type of the target's column; None if the cast of the codec says enough.
            listed: the rows do not follow each other.

        Returns:
            Row → what the database said.
        """
        errors: dict[int, DatabaseError] = {}

        def attempt(part: Sequence[int]) -> None:
            spelling = self.session.backend.spelling
            where = _numbered(spelling, part, listed=listed)
            staged = self.wire.staged([name], STAGE, where)
            value = f"x.{self.wire.short[name]}"
            value = f"CAST({value} AS {sql_type})" if sql_type else value
            # Not count(): the planner would not need the values for it.
            longest = f"{spelling.fn('max')}({spelling.fn('length')}(CAST({value} AS text)))"
            self.session.fetch(f"SELECT {longest} FROM ({staged}) AS x")

        def refuse(row: int, error: DatabaseError) -> None:
            error.columns = (name,)
            errors[row] = error

        bisect(self.session, rows, attempt, refuse, self._index)
        return errors

    def changed(self, name: str) -> pl.Series:
        """Find the staged rows with a value that the column's type would change.

        Args:
            name: the column.

        Returns:
            The numbers of the rows.
        """
        test = self.wire.codecs[name].kept.format(f"s.{self.wire.short[name]}")
        stage = self.session.backend.spelling.temp(STAGE)
        found = self.session.fetch(f"SELECT s._row FROM {stage} AS s WHERE NOT ({test})")
        return found["_row"].cast(pl.Int64).sort()

    def _index(self) -> None:
        """Let a part of the staging table be found without reading all of it."""
        if not self._indexed:
            stage = self.session.backend.spelling.temp(STAGE)
            self.session.execute(f"CREATE INDEX {STAGE}_rows ON {stage} (_row)")
        self._indexed = True

    def _apply(self, rows: pl.DataFrame, where: str, *, exact: bool, some: bool = False) -> pl.DataFrame:
        """Run the statements over some staged rows, and learn what they wrote.

        Of `some` that were written together at first, one may lack its parent only because that is among the others.
        """
        try:
            done = [self._run(statement, rows) for statement in self._statements(rows, where, exact)]
            if self.kind == "delete" and self.watched:
                self._must_be_gone(where)
            elif self.triggered and self.kind != "delete":
                self._must_be_there(where, done)
            if self.check_now:
                self.session.execute(self.check_now)
        except ConstraintViolated as error:
            ours = rows.height and self._may_be_rekeyed(rows, error)
            ours = ours or (some and self.within and error.sqlstate in FOREIGN)
            if error.sqlstate in RACES and self.session.backend.concurrent and not (self.last or ours):
                raise Raced(error.constraint) from error
            raise
        if self.reads_back:
            none = rows.select("_row", inserted=pl.col("mask") == -1).clear()
            return pl.concat([none, *(part for part in done if isinstance(part, pl.DataFrame))])
        return self._counted(rows, sum(part for part in done if isinstance(part, int)), exact)

    def _must_be_gone(self, where: str) -> None:
        if kept := self._there(where):
            raise _Apart(KEPT, kept)

    def _must_be_there(self, where: str, done: Sequence[pl.DataFrame | int]) -> None:
        written = [row for part in done if isinstance(part, pl.DataFrame) for row in part["_row"]]
        if lost := sorted(set(written) - set(self._there(where))):
            raise _Apart(_REKEYED, lost)

    def _there(self, where: str) -> list[int]:
        key = self.wire.contract.key
        staged = self.wire.staged(key, STAGE, where, ["s._row"])
        query = f"SELECT s._row FROM ({staged}) AS s JOIN {self.wire.target} AS t ON {self.wire.equal(key, 't', 's')}"
        rows: list[int] = self.session.fetch(query)["_row"].cast(pl.Int64).to_list()
        return rows

    def _statements(self, rows: pl.DataFrame, where: str, exact: bool) -> Iterator[str]:
        backend = self.session.backend
        if self.kind == "delete":
            yield delete_sql(self._parts(where))
        elif self.kind == "insert":
            yield insert_sql(self._parts(where), ignore=self.ignores)
        elif self.kind == "update":
            yield update_sql(self._parts(where, alive=self._alive), backend.updated)
        elif FRESH not in rows.columns:
            yield backend.merge(self._parts(where, self._differing(rows, exact)))
        else:
            # Existing rows are locked and were combined with; a row that appears only now is an error, and
            # not one to be replaced by what was combined without it.
            fresh = rows[FRESH] == 1
            if fresh.any():
                yield insert_sql(self._parts(f"{where} AND {self._is_fresh(1)}"))
            if self.columns.compare and not fresh.all():
                yield update_sql(self._parts(f"{where} AND {self._is_fresh(0)}"), backend.updated)

    def _is_fresh(self, flag: int) -> str:
        return self.session.backend.spelling.equal(f"s.{FRESH}", str(flag))

    def _parts(self, where: str, columns: Columns | None = None, alive: str = TRUE) -> MergeParts:
        parts = merge_parts(
            self.wire, columns or self.columns, where, read_keys=self.reads_back, overrides=self.overrides
        )
        return replace(parts, alive=alive, versions=self._versions, strict=self.strict)

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
        done = self.wire.from_wire(done, self.wire.contract.key)
        found = rows.join(done, on=key, how="inner")
        if found.height < done.height:
            if found.height < rows.height:
                raise _Apart(_REKEYED, rows.join(found, on="_row", how="anti")["_row"].to_list())
            # A row that was equal, and was not to be written, until another writer changed it.
            found = self._staged_keys().join(done, on=key, how="inner")
        if self.session.backend.concurrent:
            return found.select("_row", pl.col("inserted").cast(pl.Boolean))
        return found.select("_row", inserted=pl.col("mask") == -1)

    def _staged_keys(self) -> pl.DataFrame:
        """Read the keys of all staged rows, also of those that were not to be written."""
        key = self.wire.contract.key
        columns = ", ".join(f"s.{short}" for short in ("_row", *self.wire.shorts(key)))
        staged = self.session.fetch(f"SELECT {columns} FROM {self.session.backend.spelling.temp(STAGE)} AS s")
        return self.wire.from_wire(staged, key)

    def _counted(self, rows: pl.DataFrame, written: int, exact: bool) -> pl.DataFrame:
        """Say what a merge did under the write lock, where what it should write is known."""
        if exact and written != rows.height:
            raise DatabaseError(
                f"the merge wrote {written} rows where {rows.height} were expected, so it was rolled back: please "
                "report this as a bug, with the definition of the table",
                sqlstate="SQLITE_INTERNAL",
            )
        return rows.select("_row", inserted=pl.col("mask") == -1)


def _numbered(spelling: Spelling, rows: Sequence[int], *, listed: bool) -> str:
    """Write that a staged row is one of some, which follow each other unless they are listed."""
    if not rows:
        return FALSE
    return spelling.listed("s._row", map(str, rows)) if listed else _between(spelling, rows)


def _between(spelling: Spelling, rows: Sequence[int]) -> str:
    """Write that a staged row is between the first and the last of some."""
    first, last = (
        spelling.compare("s._row", ">=", str(rows[0])),
        spelling.compare("s._row", "<=", str(rows[-1])),
    )
    return f"{first} AND {last}"
