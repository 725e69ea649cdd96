"""The journal: the rows that a batch changes, before and after, as what `undo` and `plan` need.

They are kept as two Arrow files a table, compressed, in one row of the journal: writing them costs a
fraction of what a row each would, and pruning them is one deletion. They hold the values as they travel
(see `Codec`), beside the SQL that reads and writes them, so that no declaration is needed to put them back.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from crave_bulk import failures
from crave_bulk.backends.codec import Codec
from crave_bulk.ledger import Ledger, insert_sql, one_row
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session
from crave_bulk.table import Column, TableName

_ROWS = 250_000  # in one row of the journal; PostgreSQL holds a gigabyte in one value

CHANGES = pl.Schema(
    {"row": pl.Int64(), "key": pl.String(), "column": pl.String(), "old": pl.String(), "new": pl.String()}
)


@dataclass(frozen=True, slots=True)
class Change:
    """The rows of one table that a batch has changed.

    Attributes:
        wire: all columns of the table.
        before: ``_row`` and the short columns of each row that was there, in the wire's dtypes.
        after: the same of each that is there now.
    """

    wire: Wire
    before: pl.DataFrame
    after: pl.DataFrame

    @property
    def key(self) -> list[str]:
        """The short names of the key."""
        return self.wire.shorts(self.wire.contract.key)

    def then(self, later: Change) -> Change:
        """Add what was changed in the same table later on.

        Args:
            later: another change of the table.

        Returns:
            Both as one: the first state of each row, and the last.
        """
        seen = pl.concat([self.before.select(self.key), self.after.select(self.key)])
        new = later.before.join(seen, on=self.key, how="anti", maintain_order="left")
        touched = pl.concat([later.before.select(self.key), later.after.select(self.key)])
        kept = self.after.join(touched, on=self.key, how="anti", maintain_order="left")
        return Change(self.wire, pl.concat([self.before, new]), pl.concat([kept, later.after]))

    def cells(self) -> pl.DataFrame:
        """List every value that is another one than before.

        Returns:
            row (of the input, null where the call found the row by itself), key, column, old, new; as text.
        """
        contract = self.wire.contract
        before, after = self._readable(self.before), self._readable(self.after)
        both = before.join(
            after, on="key", how="full", coalesce=True, suffix="_new", maintain_order="left_right"
        )
        rows = both.with_row_index("at").with_columns(
            was=pl.col("row").is_not_null(),
            stays=pl.col("row_new").is_not_null(),
            row=pl.coalesce("row_new", "row"),
        )
        # A row that is new or gone has a line for its key, and one for each value.
        key = rows.filter(pl.col("was") != pl.col("stays")).select(
            "at",
            "row",
            "key",
            place=pl.lit(-1),
            column=pl.lit(", ".join(contract.key)),
            old=pl.when("was").then("key"),
            new=pl.when("stays").then("key"),
        )
        others = [
            rows.filter(pl.col(f"v{place}").ne_missing(pl.col(f"v{place}_new"))).select(
                "at",
                "row",
                "key",
                place=pl.lit(place),
                column=pl.lit(name),
                old=f"v{place}",
                new=f"v{place}_new",
            )
            for place, name in enumerate(contract.column_names)
            if name not in contract.key
        ]
        lines = pl.concat([key, *others]).sort("at", "place")
        return (
            lines.with_columns(row=pl.when(pl.col("row") >= 0).then("row"))
            .select(CHANGES.names())
            .cast(CHANGES)
        )

    def _readable(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Write rows for people: row, key, and the values as text."""
        contract = self.wire.contract
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


# -- in the database -----------------------------------------------------------------------------------


def store(session: Session, ledger: Ledger, batch_id: str, changes: Sequence[Change]) -> None:
    """Keep what a batch has changed, and let go of what the oldest batches have.

    Args:
        session: the connection, in the transaction of the batch.
        ledger: where the journal is.
        batch_id: the batch.
        changes: one a table.

    Raises:
        BulkError: the database refused.
    """
    parts = [part for change in changes for part in _parts(change)]
    for number, part in enumerate(parts):
        row = one_row(ledger.journal.contract, {"batch_id": batch_id, "part": number, **part})
        statement = insert_sql(ledger.journal, session.backend, row)
        session.execute(statement.sql, statement.parameters)
    if parts:
        session.execute(prune_sql(ledger.journal.target, ledger.keep, session.backend.skip_locked))


def prune_sql(journal: str, keep: int, skip_locked: str) -> str:
    """Write the statement that lets go of all but the newest batches.

    Args:
        journal: the quoted table.
        keep: how many batches stay.
        skip_locked: ends a query: leaves rows out that another is deleting just now, rather than wait for it.

    Returns:
        One statement; the ids of batches sort by time.

    Example:
        >>> print(prune_sql('"j"', 20, ""))
        DELETE FROM "j" WHERE (batch_id, part) IN (SELECT batch_id, part FROM "j" WHERE batch_id <
        (SELECT batch_id FROM "j" WHERE part = 0 ORDER BY batch_id DESC LIMIT 1 OFFSET 19))
    """
    oldest = f"SELECT batch_id FROM {journal} WHERE part = 0 ORDER BY batch_id DESC LIMIT 1 OFFSET {max(keep, 1) - 1}"
    return (
        f"DELETE FROM {journal} WHERE (batch_id, part) IN (SELECT batch_id, part FROM {journal} "
        f"WHERE batch_id < ({oldest}){skip_locked})"
    )


def load(session: Session, ledger: Ledger, batch_id: str) -> list[Stored]:
    """Read what a batch has changed.

    Args:
        session: a connection.
        ledger: where the journal is.
        batch_id: the batch.

    Returns:
        One for each table, in the order in which they were changed; none where the journal does not have it.

    Raises:
        BulkError: the database refused.
    """
    rows = ledger.parts(session, batch_id)
    found: dict[str, Stored] = {}
    for table, columns, before, after in rows.select("table", "columns", "before", "after").iter_rows():
        part = Stored(TableName.parse(table), json.loads(columns), _frame(before), _frame(after))
        found[table] = found[table].and_more(part) if table in found else part
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Stored:
    """The rows of one table that a batch has changed, as the journal has them.

    Attributes:
        table: the table.
        columns: of each column its name and how it travels.
        before: the columns by their names, in the wire's dtypes.
        after: the same of the rows that the batch left.
    """

    table: TableName
    columns: list[dict[str, Any]]
    before: pl.DataFrame
    after: pl.DataFrame

    def and_more(self, part: Stored) -> Stored:
        """Add the next part of the same table."""
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
    for start in range(0, max(change.before.height, change.after.height), _ROWS):
        yield {
            "table": str(contract.name),
            "columns": json.dumps(columns),
            **{
                side: _file(rows.slice(start, _ROWS).drop("_row").rename(names))
                for side, rows in (("before", change.before), ("after", change.after))
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


def _file(rows: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    rows.write_ipc(file, compression="zstd")
    return file.getvalue()


def _frame(file: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(file))
