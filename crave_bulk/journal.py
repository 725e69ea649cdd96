"""The journal: the rows that a batch changes, before and after, as what `undo` and `plan` need.

They are kept as two Arrow files a table, compressed, in one row of the journal: writing them costs a
fraction of what a row each would, and pruning them is one deletion. They hold the values as they travel
(see `Codec`), beside the SQL that reads and writes them, so that no declaration is needed to put them back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from crave_bulk import failures
from crave_bulk.arrow import pack, unpack
from crave_bulk.backends.codec import Codec
from crave_bulk.ledger import Ledger, insert_sql
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session
from crave_bulk.table import Column, TableName

_ROWS = 250_000  # in one row of the journal; PostgreSQL holds a gigabyte in one value
_GONE = "crave_bulk: gone"  # no column of a table, as it is beside them

CHANGES = pl.Schema(
    {"row": pl.Int64(), "key": pl.String(), "column": pl.String(), "old": pl.String(), "new": pl.String()}
)


@dataclass(frozen=True, slots=True)
class Change:
    """The rows of one table that a batch has changed, by ``_row`` and the short columns of the wire.

    Attributes:
        wire: all columns of the table that can be written.
        before: the rows that were there.
        after: the same rows in the same order as they are now; all null where a row is gone.
        new: the rows that were not there.
        packed: the same as rows of the journal, where they were made already.
    """

    wire: Wire
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
    def between(cls, wire: Wire, was: pl.DataFrame, now: pl.DataFrame) -> Change:
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

    def under(self, wire: Wire) -> Change:
        """Take another wire of the same columns, which may number them differently.

        Args:
            wire: the other.

        Returns:
            The same change.
        """
        names = {short: wire.short[name] for name, short in self.wire.short.items()}
        columns = ["_row", *wire.shorts(wire.contract.column_names)]
        before, after, new = (
            rows.rename(names).select(columns) for rows in (self.before, self.after, self.new)
        )
        return Change(wire, before, after, new)

    def moved(self) -> Change:
        """Leave out the rows that are as they were.

        Returns:
            The rest.
        """
        values = [name for name in self.before.columns if name != "_row"]
        same = pl.DataFrame(
            [self.before[name].eq_missing(self.after[name]).alias(name) for name in values]
        ).select(pl.all_horizontal(pl.all()).alias("same"))["same"]
        return replace(self, before=self.before.filter(~same), after=self.after.filter(~same))

    def then(self, later: Change) -> Change:
        """Add what was changed in the same table later on.

        Args:
            later: another change of the table.

        Returns:
            Both as one: the first state of each row, and the last.
        """
        later = later.under(self.wire)
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
            old, new = self._readable(was, now.height), self._readable(now, now.height)
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
            lines.append([key, *(_cells(rows, n, i) for i, n in enumerate(names) if n not in contract.key)])
        sorted_lines = [pl.concat(part).sort("at", "place") for part in lines]
        row = pl.when(pl.col("row") >= 0).then("row")
        return pl.concat(sorted_lines).with_columns(row=row).select(CHANGES.names()).cast(CHANGES)

    def _readable(self, rows: pl.DataFrame, height: int) -> pl.DataFrame:
        """Write rows for people: row, key, and the values as text; as many nulls where there are none."""
        contract = self.wire.contract
        if rows.height < height:
            rows = rows.clear(height)
        values = self.wire.decode(rows, contract.column_names)
        texts = {name: failures.as_text(values[name]) for name in contract.column_names}
        key = pl.DataFrame([texts[name] for name in contract.key])
        return pl.DataFrame(
            [
                rows["_row"].alias("row"),
                key.select(pl.concat_str(pl.all(), separator=", ")).to_series().alias("key"),
                *(text.alias(f"v{place}") for place, text in enumerate(texts.values())),
            ]
        )


def _cells(rows: pl.DataFrame, name: str, place: int) -> pl.DataFrame:
    """List the values of one column that are others than before."""
    old, new = f"v{place}_old", f"v{place}"
    return rows.filter(pl.col(old).ne_missing(pl.col(new))).select(
        "at", "row", "key", place=pl.lit(place), column=pl.lit(name), old=old, new=new
    )


def combined(changes: Iterable[Change]) -> list[Change]:
    """Put the changes of each table together, in the order in which the tables were first changed.

    Args:
        changes: in the order in which they were made.

    Returns:
        One change a table.
    """
    found: dict[str, Change] = {}
    for change in changes:
        target = change.wire.target
        found[target] = found[target].then(change) if target in found else change
    return list(found.values())


def steps(changes: Iterable[Change]) -> list[Change]:
    """Put changes of the same table together that come one after the other, so that they can be taken back in turn.

    Where another table was changed in between they stay apart, as its rows may need what was there only then: a leaf
    that is deleted, its parent that is deleted, and the leaf that is inserted again.

    Args:
        changes: in the order in which they were made.

    Returns:
        The steps, no two of one table in a row.
    """
    found: list[Change] = []
    for change in changes:
        same = found and found[-1].wire.target == change.wire.target
        found.append(found.pop().then(change) if same else change)
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
    parts = [part for change in changes for part in change.packed or _parts(change)]
    for number, part in enumerate(parts):
        row = {"batch_id": batch_id, "part": number, "transaction_id": transaction_id, **part}
        statement = insert_sql(ledger.journal, session.backend, row)
        session.execute(statement.sql, statement.parameters)
    if parts:
        session.execute(prune_sql(ledger.journal.target, ledger.keep, session.backend.skip_locked))


def prune_sql(journal: str, keep: int, skip_locked: str) -> str:
    """Write the statement that lets go of all but the newest transactions, whose batches go together.

    Args:
        journal: the quoted table.
        keep: how many stay.
        skip_locked: ends a query: leaves rows out that another is deleting just now, rather than wait for it.

    Returns:
        One statement; ids sort by time.

    Example:
        >>> print(prune_sql('"j"', 20, ""))
        DELETE FROM "j" WHERE (batch_id, part) IN (SELECT batch_id, part FROM "j" WHERE transaction_id <
        (SELECT DISTINCT transaction_id FROM "j" ORDER BY transaction_id DESC LIMIT 1 OFFSET 19))
    """
    oldest = f"SELECT DISTINCT transaction_id FROM {journal} ORDER BY transaction_id DESC LIMIT 1 OFFSET {keep - 1}"
    return (
        f"DELETE FROM {journal} WHERE (batch_id, part) IN (SELECT batch_id, part FROM {journal} "
        f"WHERE transaction_id < ({oldest}){skip_locked})"
    )


def load(session: Session, ledger: Ledger, batch_id: str) -> list[Stored]:
    """Read what a batch has changed.

    Args:
        session: a connection.
        ledger: where the journal is.
        batch_id: the batch.

    Returns:
        One for each of its steps, in their order; none where the journal does not have it.

    Raises:
        BulkError: the database refused.
    """
    found: list[Stored] = []
    for row in ledger.parts(session, batch_id).iter_rows(named=True):
        before, after, new = (unpack(row[side]) for side in ("before", "after", "new"))
        gone = after[_GONE]
        stays = before.with_columns(after.drop(_GONE)).filter(~gone)  # what is not there is as it was before
        part = Stored(
            TableName.parse(row["table"]), json.loads(row["columns"]), before, pl.concat([stays, new])
        )
        same = found and found[-1].table == part.table
        found.append(found.pop().and_more(part) if same else part)
    return found


@dataclass(frozen=True, slots=True)
class Stored:
    """The rows of one table that a step of a batch has changed, as the journal has them.

    Attributes:
        table: the table.
        columns: of each column its name and how it travels.
        before: the columns by their names, in the wire's dtypes.
        after: the same of the rows that the step left.
    """

    table: TableName
    columns: list[dict[str, Any]]
    before: pl.DataFrame
    after: pl.DataFrame

    def keys(self, key: Sequence[str]) -> pl.DataFrame:
        """Select the keys of all its rows, each once."""
        return pl.concat([self.before.select(key), self.after.select(key)]).unique(maintain_order=True)

    def and_more(self, part: Stored) -> Stored:
        """Add the next part of the same step."""
        return Stored(
            self.table,
            self.columns,
            pl.concat([self.before, part.before]),
            pl.concat([self.after, part.after]),
        )


def _parts(change: Change) -> Iterable[dict[str, Any]]:
    """Write a change as rows of the journal."""
    contract = change.wire.contract
    columns = [
        _described(column, change.wire.codecs[column.name], column.name in contract.key)
        for column in contract.columns
    ]
    names = {change.wire.short[name]: name for name in contract.column_names}
    before, after, new = (
        rows.drop("_row").rename(names) for rows in (change.before, change.after, change.new)
    )
    gone = after[contract.key[0]].is_null().alias(_GONE)
    # Of a row that stays, only the columns that differ in some row are kept twice.
    differ = [s for s in after.iter_columns() if not (s.eq_missing(before[s.name]) | gone).all()]
    after = pl.DataFrame([*differ, gone])
    # A step that comes to nothing is kept too: it tells that the journal has the batch, and parts its neighbours.
    for start in range(0, max(before.height, new.height, 1), _ROWS):
        yield {
            "table": str(contract.name),
            "columns": json.dumps(columns),
            **{
                side: pack(rows.slice(start, _ROWS))
                for side, rows in (("before", before), ("after", after), ("new", new))
            },
        }


def _described(column: Column, codec: Codec, key: bool) -> dict[str, Any]:
    return {
        "name": column.name,
        "key": key,
        "stage": codec.stage,
        "read": codec.read,
        "compare": codec.compare,
        "identity_always": column.identity_always,
    }
