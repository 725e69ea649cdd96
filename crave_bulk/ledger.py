"""The ledger: one row per batch, written in the batch's own transaction.

It is what tells, after a lost connection or a killed process, whether a batch was written. Its two tables
are declared like any other, so that `evolve` creates them on the first write and adds what a later version
needs; every column that is added later may be null, as an older version does not fill it in.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import polars as pl

from crave_bulk import evolve
from crave_bulk.backends.base import Backend
from crave_bulk.compare import Parameters
from crave_bulk.errors import (
    ConstraintViolated,
    PermissionRefused,
    TableNotFound,
    UndoRefused,
)
from crave_bulk.pipeline import read
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session
from crave_bulk.sql import quote_all
from crave_bulk.table import Contract, Table, TableName, contract_of, field

DEFAULT = "crave_bulk_batches"
_PATIENCE = 10  # seconds to wait for who is writing the same batch
_UNDONE = "undone "  # stands, with the id, before the ``once`` of a batch that was taken back: it may be written again
_UNIQUE = ("23505", "SQLITE_CONSTRAINT_UNIQUE")


class Batches(Table):
    """One row per batch that was written."""

    batch_id: str = field(key=True, uuid=True)
    transaction_id: str = field(uuid=True)  # the first batch of the transaction
    name: str | None
    verb: str
    table: str
    input: int
    inserted: int
    updated: int
    unchanged: int
    deleted: int
    duplicate: int
    ignored: int
    stale: int
    missing: int
    rejected: int
    seconds: float  # from the call to the commit
    timings: str = field(json=True)  # phase → seconds
    bytes: int  # of the frame, in memory
    peak_memory: int | None  # bytes, of the process so far
    retries: int
    started_at: pl.Datetime("us", "UTC")  # type: ignore[valid-type]
    finished_at: pl.Datetime("us", "UTC")  # type: ignore[valid-type]
    who: str  # user@host
    process: int
    versions: str = field(json=True)
    once: str | None = field(unique=True)  # what makes the batch one of a kind, until it is taken back
    content: (
        str | None
    )  # a hash of what was passed, where the batch is one of a kind, or adds to what is there
    report: pl.Binary | None  # what a re-run is told, where the batch is one of a kind
    undoable: bool
    not_kept: str | None  # why it cannot be taken back, where the rows were not kept as they were
    undone_by: str | None = field(uuid=True)

    class Config:
        """What is looked up besides the keys."""

        indexes: ClassVar = ["content"]


class Journal(Table):
    """The rows that a batch has changed, before and after."""

    batch_id: str = field(key=True, uuid=True)
    part: int = field(key=True)
    transaction_id: str = field(uuid=True)
    table: str
    columns: str = field(json=True)
    before: pl.Binary  # the rows that were there
    after: pl.Binary  # the same rows: which are gone, and the columns that differ
    new: pl.Binary  # the rows that were not there


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of the ledger, and the values that it binds."""

    sql: str
    parameters: pl.DataFrame | None


class Ledger:
    """The tables of batches and before-images of one database.

    Args:
        backend: the database.
        name: the table of batches; that of the before-images has ``_journal`` behind it.
        keep: of how many transactions the before-images are kept.

    Attributes:
        ready: the tables are known to be there.
    """

    def __init__(self, backend: Backend, name: str, keep: int) -> None:
        self.name, self.keep, self.backend = name, keep, backend
        table = TableName.parse(name)
        self.batches = Wire(named(Batches, table), backend)
        self.journal = Wire(named(Journal, replace(table, table=f"{table.table}_journal")), backend)
        self.ready = False

    def ensure(self, session: Session) -> None:
        """Create the tables on the first write, or add the columns that they lack.

        Args:
            session: a connection.

        Raises:
            PermissionRefused: the login may not create them.
            BulkError: the database refused.
        """
        # No lock among threads: one that waits here for another's transaction would keep that from going on.
        if self.ready:
            return
        try:
            evolve.evolve(session, [self.batches.contract, self.journal.contract])
        except PermissionRefused as error:
            said = getattr(error.__cause__, "said", error.said)
            raise PermissionRefused(
                f"the table of batches {self.name!r} cannot be created: {said}; nothing was written: "
                "grant the login what it lacks, let another create it, name one elsewhere by "
                "cb.connect(url, ledger='schema.table'), or do without by cb.connect(url, ledger=False)",
                sqlstate=error.sqlstate,
                said=error.said,
            ) from error
        self.ready = not session.in_transaction  # what a block has created may yet be rolled back

    def exists(self, session: Session) -> bool:
        """Tell whether anything was written to the ledger yet, without creating it.

        Args:
            session: a connection.

        Returns:
            Whether its tables are there.
        """
        if not self.ready:
            try:
                with session.shielded():
                    self.backend.reflect(session, self.batches.contract.name)
            except TableNotFound:
                return False
        return True

    def forget(self) -> None:
        """Look again before the next write, as the tables are gone."""
        self.ready = False

    def record(self, session: Session, row: Mapping[str, Any]) -> None:
        """Write the row of a batch.

        Args:
            session: the connection, in the transaction of the batch.
            row: column → value, of all columns that are not null.

        Raises:
            ConstraintViolated: the batch is there already, or another of its name.
            BulkError: the database refused.
        """
        statement = insert_sql(self.batches, self.backend, row)
        session.execute(statement.sql, statement.parameters)

    def committed(self, session: Session, batch_id: str) -> bool:
        """Find out whether a batch was written whose connection was lost during the commit.

        The server may still be at it, so that looking is not enough: a row of the same key waits for the
        outcome of the one that may be on its way, and is then refused, or is rolled back.

        Args:
            session: another connection.
            batch_id: the batch.

        Returns:
            Whether it is in the ledger.

        Raises:
            DatabaseBusy: it could not be found out in time.
            BulkError: the database refused.
        """
        if self._find(session, "batch_id", batch_id, ["batch_id"]).height:
            return True
        try:
            with session.atomic():
                if self.backend.wait_at_most:
                    session.execute(self.backend.wait_at_most.format(_PATIENCE))
                self.record(session, _placeholder(self.batches.contract, batch_id))
                raise _NotThere
        except _NotThere:
            return False
        except ConstraintViolated:
            return True

    def claim(self, session: Session, once: str) -> pl.DataFrame:
        """Make others wait who write the same once, and see whether it was written.

        Args:
            session: the connection, in the transaction of the batch.
            once: what makes the batch one of a kind.

        Returns:
            Its row in the ledger, or none.

        Raises:
            BulkError: the database refused.
        """
        if self.backend.wait_turn:
            session.execute(self.backend.wait_turn.format(number(once)))
        columns = ["batch_id", "verb", "table", "content", "report", "started_at"]
        return self._find(session, "once", once, columns)

    def equal(self, session: Session, content: str) -> pl.DataFrame:
        """Find the last batch of the same content that was not taken back.

        Args:
            session: a connection.
            content: the hash of what was passed.

        Returns:
            Its ``batch_id`` and ``started_at``, or no row.

        Raises:
            BulkError: the database refused.
        """
        found = self._find(session, "content", content, ["batch_id", "started_at", "undone_by"])
        return found.filter(pl.col("undone_by").is_null()).sort("started_at").tail(1)

    def read(self, session: Session, selection: read.Selection) -> pl.DataFrame:
        """Read rows of the ledger.

        Args:
            session: a connection.
            selection: which, and which columns.

        Returns:
            The rows; none where nothing was written yet.

        Raises:
            BulkError: the database refused.
        """
        wire, columns = self.batches, list(selection.columns or self.batches.contract.column_names)
        try:
            # A ledger that only an older version has written to lacks the columns that came later.
            there = session.columns(f"SELECT * FROM {wire.target} LIMIT 0")
        except TableNotFound:
            self.forget()
            return wire.decode(wire.encode(_empty(wire.contract), None), columns)
        known = [name for name in columns if name in there]
        rows = read.run(session, wire, read.build(wire, self.backend, replace(selection, columns=known)))
        lacking = [wire.contract.column(name) for name in columns if name not in there]
        return rows.with_columns(pl.lit(None, c.dtype).alias(c.name) for c in lacking).select(columns)

    def kept(self, session: Session) -> set[str]:
        """Read of which batches the journal has something.

        Args:
            session: a connection.

        Returns:
            Their ids.

        Raises:
            BulkError: the database refused.
        """
        query = f"SELECT DISTINCT {self.journal.read(['batch_id'])} FROM {self.journal.target} AS t"
        try:
            return set(self.journal.fetch(session, query, ["batch_id"]).to_series())
        except TableNotFound:
            return set()

    def _find(self, session: Session, column: str, value: str, columns: Sequence[str]) -> pl.DataFrame:
        selection = read.Selection({column: value}, list(columns))
        return read.run(session, self.batches, read.build(self.batches, self.backend, selection))

    def parts(self, session: Session, batch_id: str) -> pl.DataFrame:
        """Read what the journal has of a batch.

        Args:
            session: a connection.
            batch_id: the batch.

        Returns:
            Its rows, in their order.

        Raises:
            BulkError: the database refused.
        """
        selection = read.Selection({"batch_id": batch_id}, None, "part", None, True)
        return read.run(session, self.journal, read.build(self.journal, self.backend, selection))

    def undone(self, session: Session, batch_ids: Sequence[str], by: str) -> int:
        """Mark batches as taken back, which lets them be written once more.

        Args:
            session: the connection, in the transaction of the undo.
            batch_ids: the batches.
            by: the batch that takes them back.

        Returns:
            How many there were that nobody had taken back.

        Raises:
            BulkError: the database refused.
        """
        parameters = Parameters(self.backend)
        batch = self._bind(parameters, "undone_by", by)
        spelling = self.backend.spelling
        chosen = spelling.listed("batch_id", (self._bind(parameters, "batch_id", one) for one in batch_ids))
        once = f" {spelling.op('||')} ".join([repr(_UNDONE), "CAST(batch_id AS text)", "once"])
        sql = (
            f"UPDATE {self.batches.target} SET undone_by = {batch}, once = {once} "
            f"WHERE {chosen} AND undone_by IS NULL RETURNING 1 AS one"
        )
        return session.fetch(sql, parameters.frame()).height

    def stand_again(self, session: Session, batch_ids: Sequence[str], transaction_id: str) -> None:
        """Let batches stand again, as what had taken them back is taken back itself.

        Args:
            session: the connection, in the transaction of the undo.
            batch_ids: what had taken them back.
            transaction_id: their transaction; what they had taken back of it is taken back with them.

        Raises:
            UndoRefused: the same was written once more meanwhile.
            BulkError: the database refused.
        """
        parameters = Parameters(self.backend)
        spelling = self.backend.spelling
        chosen = spelling.listed("undone_by", (self._bind(parameters, "undone_by", one) for one in batch_ids))
        own = self._bind(parameters, "transaction_id", transaction_id)
        others = spelling.compare("transaction_id", "<>", own)
        start = len(_UNDONE) + 36 + 1  # after what `undone` has put before it, with the id
        sql = (
            f"UPDATE {self.batches.target} SET undone_by = NULL, once = {spelling.fn('substr')}(once, {start}) "
            f"WHERE {chosen} AND {others} RETURNING 1 AS one"
        )
        try:
            session.fetch(sql, parameters.frame())
        except ConstraintViolated as error:
            raise UndoRefused(
                "the batch that would stand again was written once more since it was taken back, and would count twice",
                "take back the one that was written since, then this one",
            ) from error

    def _bind(self, parameters: Parameters, name: str, value: Any) -> str:
        column, codec = self.batches.contract.column(name), self.batches.codecs[name]
        series = pl.Series(name, [value], dtype=column.dtype).to_frame().select(codec.encode(pl.col(name)))
        return codec.stage.format(parameters.bind(series.to_series()))


class _NotThere(Exception):
    pass


def _placeholder(contract: Contract, batch_id: str) -> dict[str, Any]:
    """Make a row that is never committed."""
    zero = {
        pl.String: "{}",
        pl.Int64: 0,
        pl.Float64: 0.0,
        pl.Boolean: False,
        pl.Datetime: dt.datetime.now(dt.UTC),
    }
    row = {c.name: zero[type(c.dtype)] for c in contract.columns if not c.nullable}
    return {**row, "batch_id": batch_id, "transaction_id": batch_id}


def number(name: str) -> int:
    """Number a lock by a name.

    Args:
        name: any text.

    Returns:
        63 bits of its hash.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1


def _empty(contract: Contract) -> pl.DataFrame:
    return pl.DataFrame(schema={column.name: column.dtype for column in contract.columns})


def named(table: type[Table], name: TableName) -> Contract:
    """Declare a table under another name.

    Args:
        table: the declaration.
        name: the name.

    Returns:
        The contract.
    """
    return replace(contract_of(table), name=name)


def insert_sql(wire: Wire, backend: Backend, values: Mapping[str, Any]) -> Statement:
    """Write the statement that inserts one row by bound values; a staging table would cost more.

    Args:
        wire: the table.
        backend: the database.
        values: column → value; those that are None are left out.

    Returns:
        The statement.

    Example:
        >>> import crave_bulk as cb
        >>> from crave_bulk.examples import Foods
        >>> with cb.connect() as db:
        ...     wire = Wire(contract_of(Foods), db.backend)
        ...     print(insert_sql(wire, db.backend, {"food_id": 1, "name": "soup"}).sql)
        INSERT INTO "foods" ("food_id", "name") VALUES (?1, ?2)
    """
    columns = [column for column in wire.contract.columns if values.get(column.name) is not None]
    names = [column.name for column in columns]
    row = pl.DataFrame(
        [tuple(values[name] for name in names)], {c.name: c.dtype for c in columns}, orient="row"
    )
    parameters = Parameters(backend)
    encoded = row.select(wire.codecs[name].encode(pl.col(name)).alias(name) for name in names)
    bound = [wire.codecs[s.name].stage.format(parameters.bind(s)) for s in encoded.iter_columns()]
    return Statement(
        f"INSERT INTO {wire.target} ({quote_all(names)}) VALUES ({', '.join(bound)})", parameters.frame()
    )
