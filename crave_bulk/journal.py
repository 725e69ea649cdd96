"""The journal: the rows that a batch changes, before and after, as what `undo` and `plan` need.

They are kept as three Arrow files a table, compressed, in one row of the journal: writing them costs a
fraction of what a row each would, and pruning them is one deletion. They hold the values as they travel
(see `Form`), beside the names and types of the columns: how they are put back follows from the catalog, and
nothing that the journal says is ever run as SQL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from crave_bulk import failures
from crave_bulk.arrow import pack, unpack
from crave_bulk.errors import BulkError, ContractError, DatabaseError
from crave_bulk.ledger import Ledger, insert_sql
from crave_bulk.pipeline.whole import Whole
from crave_bulk.session import Session
from crave_bulk.sql import PLAIN, Spelling
from crave_bulk.table import TableName

_ROWS = 250_000  # in one row of the journal; PostgreSQL holds a gigabyte in one value
_GONE = "crave_bulk: gone"  # no column of a table, as it is beside them

CHANGES = pl.Schema(
    {"row": pl.Int64(), "key": pl.String(), "column": pl.String(), "old": pl.String(), "new": pl.String()}
)


@dataclass(frozen=True, slots=True)
class Change:
    """The rows of one table that a batch has changed, by ``_row`` and the short columns of the wire.

    Attributes:
        wire: all columns of the table that can be written, and how they travel.
        before: the rows that were there.
        after: the same rows in the same order as they are now; all null where a row is gone.
        new: the rows that were not there.
        packed: the same as rows of the journal, where they were made already.
    """

    wire: Whole
    before: pl.DataFrame
    after: pl.DataFrame
    new: pl.DataFrame
    packed: tuple[dict[str, Any], ...] | None = None

    def pack(self) -> Change:
        """Make the rows of the journal now.

        Returns:
            The change with them.
        """
        return replace(self, packed=tuple(_parts(self)))

    @classmethod
    def between(cls, wire: Whole, was: pl.DataFrame, now: pl.DataFrame) -> Change:
        """Compare the rows of some keys at two times.

        Args:
            wire: all columns of the table.
            was: the rows that were there, each key once.
            now: those that are there, each key once.

        Returns:
            The change.
        """
        key = wire.shorts(wire.contract.key)
        after = was.select(key).join(
            now.with_columns(pl.col(key).name.suffix("_now")), on=key, how="left", maintain_order="left"
        )
        after = after.drop(key).rename({f"{name}_now": name for name in key}).select(now.columns)
        return cls(wire, was, after, now.join(was, on=key, how="anti", maintain_order="left"))

    @property
    def key(self) -> list[str]:
        """The short names of the key."""
        return self.wire.shorts(self.wire.contract.key)

    @property
    def now(self) -> pl.DataFrame:
        """The rows that are there now."""
        return pl.concat([self.after.filter(pl.col(self.key[0]).is_not_null()), self.new])

    def under(self, session: Session, wire: Whole) -> Change:
        """Take another description of the same table, which may name its columns in another way.

        Args:
            session: the connection, in a transaction.
            wire: the other, of whose columns as many or more travel as text.

        Returns:
            The same change.
        """
        names = {short: wire.short[name] for name, short in self.wire.short.items()}
        columns = ["_row", *wire.shorts(wire.contract.column_names)]
        before, after, new = (
            self.wire.convert(session, rows, wire).rename(names).select(columns)
            for rows in (self.before, self.after, self.new)
        )
        return Change(wire, before, after, new)

    def moved(self) -> Change:
        """Leave out the rows that are as they were.

        Returns:
            The rest.
        """
        pairs = zip(self.before.iter_columns(), self.after.iter_columns(), strict=True)
        differ = [was for was, now in pairs if was.name != "_row" and not was.equals(now, null_equal=True)]
        same = pl.repeat(True, self.before.height, eager=True)
        for was in differ:
            same &= was.eq_missing(self.after[was.name])
        return replace(self, before=self.before.filter(~same), after=self.after.filter(~same))

    def then(self, session: Session, later: Change) -> Change:
        """Add what was changed in the same table later on.

        Args:
            session: the connection, in a transaction.
            later: another change of the table.

        Returns:
            Both as one: the first state of each row, and the last.
        """
        if later.wire is not self.wire:
            wire = self.wire.rawer(later.wire.raw)
            return self.under(session, wire)._then(later.under(session, wire.rawer(self.wire.raw)))
        return self._then(later)

    def _then(self, later: Change) -> Change:
        seen = pl.concat([self.before.select(self.key), self.new.select(self.key)])
        was = later.before.join(seen, on=self.key, how="anti", maintain_order="left")
        touched = pl.concat([later.before.select(self.key), later.new.select(self.key)])
        kept = self.now.join(touched, on=self.key, how="anti", maintain_order="left")
        return Change.between(self.wire, pl.concat([self.before, was]), pl.concat([kept, later.now]))

    def cells(self) -> pl.DataFrame:
        """List every value that is another one than before.

        Returns:
            row (of the input, null where the call found the row by itself), key, column, old, new; as text.
        """
        contract, names = self.wire.contract, self.wire.contract.column_names
        pairs = [(self.before, self.after), (self.new.clear(), self.new)]
        lines = []
        for was, now in pairs:
            was = was if was.height else was.clear(now.height)
            old, new = self._readable(was), self._readable(now)
            rows = pl.concat([old.rename(lambda n: f"{n}_old"), new], how="horizontal").with_row_index("at")
            rows = rows.with_columns(key=pl.coalesce("key", "key_old"), row=pl.coalesce("row", "row_old"))
            # A row that is new or gone has a line for its key, and one for each value.
            moved = pl.all_horizontal(pl.col(f"v{names.index(n)}").is_null() for n in contract.key)
            came = pl.all_horizontal(pl.col(f"v{names.index(n)}_old").is_null() for n in contract.key)
            key = rows.filter(moved | came).select(
                "at",
                "row",
                "key",
                place=pl.lit(-1),
                column=pl.lit(", ".join(contract.key)),
                old=pl.when(~came).then("key"),
                new=pl.when(~moved).then("key"),
            )
            lines.append([key])
            heads = rows.select("at", "row", "key")
            for place, (name, *texts) in enumerate(
                zip(names, old.iter_columns(), new.iter_columns(), strict=False)
            ):
                values = was[self.wire.short[name]], now[self.wire.short[name]]
                if name not in contract.key and not values[0].equals(values[1], null_equal=True):
                    lines[-1].append(_cells(heads, place, name, texts, values))
        sorted_lines = [pl.concat(part).sort("at", "place") for part in lines]
        row = pl.when(pl.col("row") >= 0).then("row")
        return pl.concat(sorted_lines).with_columns(row=row).select(CHANGES.names()).cast(CHANGES)

    def _readable(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Write rows for people: the values as text, row, and key."""
        contract = self.wire.contract
        texts = self._texts(rows, contract.column_names)
        key = pl.DataFrame([texts[name] for name in contract.key])
        return pl.DataFrame(
            [
                *(text.alias(f"v{place}") for place, text in enumerate(texts.values())),
                rows["_row"].alias("row"),
                key.select(pl.concat_str(pl.all(), separator=", ")).to_series().alias("key"),
            ]
        )

    def _texts(self, rows: pl.DataFrame, names: list[str]) -> dict[str, pl.Series]:
        """Write values for people: as a frame has them, or as they travel if a column has some that none can hold."""
        try:
            return {s.name: failures.as_text(s) for s in self.wire.decode(rows, names).iter_columns()}
        except ContractError:
            if len(names) == 1:
                return {names[0]: rows[self.wire.short[names[0]]].cast(pl.String)}
            return {name: self._texts(rows, [name])[name] for name in names}


def _cells(
    heads: pl.DataFrame, place: int, name: str, texts: Sequence[pl.Series], values: Sequence[pl.Series]
) -> pl.DataFrame:
    """List the values of one column that are others than before; as they travel if they look the same."""
    differ = values[0].ne_missing(values[1]).arg_true()
    old, new = (text.gather(differ) for text in texts)
    if isinstance(values[0].dtype, pl.String):
        alike = old.eq_missing(new)
        old, new = (
            values[0].gather(differ).zip_with(alike, old),
            values[1].gather(differ).zip_with(alike, new),
        )
    return heads[differ].with_columns(
        pl.lit(place).alias("place"), pl.lit(name).alias("column"), old.alias("old"), new.alias("new")
    )


def combined(session: Session, changes: Iterable[Change]) -> list[Change]:
    """Put the changes of each table together, in the order in which the tables were first changed.

    Args:
        session: the connection, in a transaction.
        changes: in the order in which they were made.

    Returns:
        One change a table.
    """
    found: dict[str, Change] = {}
    for change in changes:
        target = change.wire.target
        found[target] = found[target].then(session, change) if target in found else change
    return list(found.values())


def steps(session: Session, changes: Iterable[Change]) -> list[Change]:
    """Put changes of the same table together that come one after the other, so that they can be taken back in turn.

    Where another table was changed in between they stay apart, as its rows may need what was there only then: a leaf
    that is deleted, its parent that is deleted, and the leaf that is inserted again.

    Args:
        session: the connection, in a transaction.
        changes: in the order in which they were made.

    Returns:
        The steps, no two of one table in a row.
    """
    found: list[Change] = []
    for change in changes:
        same = found and found[-1].wire.target == change.wire.target
        found.append(found.pop().then(session, change) if same else change)
    return found


# -- in the database -----------------------------------------------------------------------------------


def store(
    session: Session, ledger: Ledger, batch_id: str, transaction_id: str, changes: Sequence[Change]
) -> None:
    """Keep what a batch has changed, and let go of what the oldest batches have.

    Args:
        session: the connection, in the transaction of the batch.
        ledger: where the journal is.
        batch_id: the batch.
        transaction_id: the first batch of its transaction.
        changes: what `steps` gives.

    Raises:
        BulkError: the database refused.
    """
    number = -1
    for change in changes:
        number += 1  # a number that is left out parts the steps
        for part in change.packed or _parts(change):
            row = {"batch_id": batch_id, "part": number, "transaction_id": transaction_id, **part}
            statement = insert_sql(ledger.journal, session.backend, row)
            session.execute(statement.sql, statement.parameters)
            number += 1
    if changes:
        backend = session.backend
        session.execute(prune_sql(ledger.journal.target, ledger.keep, backend.skip_locked, backend.spelling))


def prune_sql(journal: str, keep: int, skip_locked: str, spelling: Spelling = PLAIN) -> str:
    """Write the statement that lets go of all but the newest transactions, whose batches go together.

    Args:
        journal: the quoted table.
        keep: how many stay.
        skip_locked: ends a query: leaves rows out that another is deleting just now, rather than wait for it.
        spelling: how the database's own operators are written.

    Returns:
        One statement; ids sort by time.

    Example:
        >>> print(prune_sql('"j"', 20, ""))
        DELETE FROM "j" WHERE (batch_id, part) IN (SELECT batch_id, part FROM "j" WHERE transaction_id <
        (SELECT DISTINCT transaction_id FROM "j" ORDER BY transaction_id DESC LIMIT 1 OFFSET 19))
    """
    oldest = f"SELECT DISTINCT transaction_id FROM {journal} ORDER BY transaction_id DESC LIMIT 1 OFFSET {keep - 1}"
    old = spelling.compare("transaction_id", "<", f"({oldest})")
    chosen = f"SELECT batch_id, part FROM {journal} WHERE {old}{skip_locked}"
    return f"DELETE FROM {journal} WHERE {spelling.among('(batch_id, part)', chosen)}"


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column as the journal has it.

    Attributes:
        name: of the column.
        type: as the catalog wrote it then.
        key: it is part of the key.
        raw: its values travelled as text, as `Form.raw` writes them.
    """

    name: str
    type: str
    key: bool
    raw: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """The rows of one table that a step of a batch has changed, as the journal has them.

    Attributes:
        batch_id: the batch.
        part: the number of the last row of the journal that it is in.
        table: the table, with the schema where it was found.
        columns: of each column what is needed to put its values back.
        changed: the columns that the step changed in rows that stayed.
        before: the columns by their names, as they travelled.
        after: the same of the rows that the step left.
    """

    batch_id: str
    part: int
    table: TableName
    columns: tuple[StoredColumn, ...]
    changed: tuple[str, ...]
    before: pl.DataFrame
    after: pl.DataFrame

    def keys(self, key: Sequence[str]) -> pl.DataFrame:
        """Select the keys of all its rows, each once."""
        return pl.concat([self.before.select(key), self.after.select(key)]).unique(maintain_order=True)

    def and_more(self, part: Stored) -> Stored:
        """Add the next part of the same step."""
        return replace(
            self,
            part=part.part,
            changed=tuple(dict.fromkeys((*self.changed, *part.changed))),
            before=pl.concat([self.before, part.before]),
            after=pl.concat([self.after, part.after]),
        )

    def of_one_step(self, part: Stored) -> bool:
        """Tell whether a part goes on with the same table, whose values travel in the same way."""
        return (self.part + 1, self.table, self.columns) == (part.part, part.table, part.columns)


def load(session: Session, ledger: Ledger, batch_id: str) -> list[Stored]:
    """Read what a batch has changed.

    Args:
        session: a connection.
        ledger: where the journal is.
        batch_id: the batch.

    Returns:
        One for each of its steps, in their order; none where the journal does not have it.

    Raises:
        DatabaseError: the journal does not hold what was written to it.
        BulkError: the database refused.
    """
    found: list[Stored] = []
    for row in ledger.parts(session, batch_id).iter_rows(named=True):
        try:
            part = _stored(row)
        except (BulkError, pl.exceptions.PolarsError, ValueError, TypeError, KeyError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise unreadable(ledger, batch_id, said) from error
        found.append(found.pop().and_more(part) if found and found[-1].of_one_step(part) else part)
    return found


def unreadable(ledger: Ledger, batch_id: str, why: str) -> DatabaseError:
    """Build the error for a row of the journal that is not as it was written.

    Args:
        ledger: where the journal is.
        batch_id: the batch.
        why: what is wrong with it.

    Returns:
        The error.
    """
    return DatabaseError(
        f"the row of batch {batch_id} in the journal {ledger.journal.contract.name} cannot be read, as somebody has changed "
        f"it or the database has damaged it ({why}); nothing was changed: correct the data by hand, or restore a backup"
    )


def _stored(row: dict[str, Any]) -> Stored:
    """Read a row of the journal, which may hold anything."""
    columns = tuple(_column(part) for part in json.loads(row["columns"]))
    names = [column.name for column in columns]
    if len(set(names)) < len(names) or not any(column.key for column in columns):
        raise ValueError("a column is there twice, or there is no key")
    before, after, new = (unpack(row[side]) for side in ("before", "after", "new"))
    changed = [name for name in after.columns if name != _GONE]
    if before.columns != names or new.schema != before.schema or not set(changed) <= set(names):
        raise ValueError("its rows have other columns than it says")
    dtypes = before.schema
    if dict(after.schema) != {**{name: dtypes[name] for name in changed}, _GONE: pl.Boolean()}:
        raise ValueError("the rows before and after are not of one kind")
    if after.height != before.height or after[_GONE].has_nulls():
        raise ValueError("there are not as many rows after as before")
    key = [column.name for column in columns if column.key]
    stays = before.with_columns(after.drop(_GONE)).filter(
        ~after[_GONE]
    )  # what is not there is as it was before
    left = pl.concat([stays, new])
    for rows in (before, left):
        if rows.select(key).drop_nulls().is_duplicated().any():
            raise ValueError("a row is there twice")
    table = TableName.parse(row["table"])
    return Stored(str(row["batch_id"]), int(row["part"]), table, columns, tuple(changed), before, left)


def _column(part: dict[str, Any]) -> StoredColumn:
    """Read what the journal says of a column."""
    kinds = {"name": str, "type": str, "key": bool, "raw": bool}
    if set(part) != set(kinds) or not all(isinstance(part[name], kind) for name, kind in kinds.items()):
        raise ValueError("a column is not described as it should be")
    return StoredColumn(**part)


def _parts(change: Change) -> Iterable[dict[str, Any]]:
    """Write a change as rows of the journal."""
    contract, wire = change.wire.contract, change.wire
    columns = [
        asdict(StoredColumn(c.name, c.sql_type or "", c.name in contract.key, c.name in wire.raw))
        for c in contract.columns
    ]
    names = {wire.short[name]: name for name in contract.column_names}
    before, after, new = (
        rows.select(list(names)).rename(names) for rows in (change.before, change.after, change.new)
    )
    gone = after[contract.key[0]].is_null().alias(_GONE)
    # Of a row that stays, only the columns that differ in some row are kept twice.
    differ = [
        now
        for was, now in zip(before.iter_columns(), after.iter_columns(), strict=True)
        if not now.equals(was, null_equal=True) and not (now.eq_missing(was) | gone).all()
    ]
    after = pl.DataFrame([*differ, gone])
    # A step that comes to nothing is kept too: it tells that the journal has the batch, and parts its neighbours.
    for start in range(0, max(before.height, new.height, 1), _ROWS):
        yield {
            "table": str(replace(contract.name, schema=wire.schema) if wire.schema else contract.name),
            "columns": json.dumps(columns),
            **{
                side: pack(rows.slice(start, _ROWS))
                for side, rows in (("before", before), ("after", after), ("new", new))
            },
        }
