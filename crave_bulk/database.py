"""Connect, and the verbs: thin, each hands over to the pipeline."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import polars as pl
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, Pool, QueuePool

from crave_bulk.backends.base import Backend
from crave_bulk.backends.postgres import Postgres
from crave_bulk.backends.sqlite import SQLite
from crave_bulk.errors import ConnectionFailed, ContractError, DatabaseBusy, DatabaseError
from crave_bulk.pipeline import batch, conditional, read
from crave_bulk.pipeline.stage import Wire
from crave_bulk.report import Report
from crave_bulk.schema import create_table, in_dependency_order
from crave_bulk.session import Listener, Session
from crave_bulk.table import Contract, Table, TableName, contract_of
from crave_bulk.where import Where

_BACKENDS: dict[str, type[SQLite | Postgres]] = {
    "sqlite": SQLite,
    "postgresql": Postgres,
    "postgres": Postgres,
}
_POOL_SECONDS = 30.0


def connect(url: str = "sqlite://") -> Database:
    """Connect to a database.

    Args:
        url: ``sqlite://`` (in memory), ``sqlite:///file.db``, ``sqlite:////absolute/file.db``, with
            ``?mode=ro`` to read only; or any libpq URI, ``postgresql://user@host/name?sslmode=…``.

    Returns:
        The database: a context manager, pooled, and safe to share between threads.

    Raises:
        ContractError: the URL is not understood.
        ConnectionFailed: the database is not there or refuses the login.

    Example:
        >>> with connect() as db:
        ...     print(db)
        <Database sqlite://>
    """
    scheme, separator, rest = str(url).partition("://")
    kind = _BACKENDS.get(scheme.lower()) if separator else None
    if kind is None:
        raise ContractError(
            "the database URL is not understood: use 'sqlite:///file.db', or 'postgresql://user@host/name'"
        )
    return Database(kind(f"{scheme.lower()}://{rest}"))


class Database:
    """A database, and the verbs that write to it and read from it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._listeners: list[Listener] = []
        self._local = threading.local()
        self._pool = _pool(backend)
        self._closed = False

    # -- verbs --

    def create(self, *tables: type[Table]) -> None:
        """Create tables in dependency order, all or none; those that exist are left as they are.

        Args:
            tables: the tables.

        Raises:
            ContractError: a table cannot be created as declared, references go in a circle, or a table
                exists and lacks columns of the declaration.
            BulkError: the database refused; no table was created.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     db.read(Foods).shape
            (0, 2)
        """
        contracts = in_dependency_order([contract_of(table) for table in tables])
        with self.session() as session, session.atomic():
            for contract in contracts:
                for statement in (*self.backend.prepare(contract), create_table(self.backend, contract)):
                    session.execute(statement)
                have = session.columns(f"SELECT * FROM {self.backend.table(contract.name)} LIMIT 0")
                self._check_references(session, contract)
                if missing := [name for name in contract.column_names if name not in have]:
                    raise ContractError(
                        f"table {contract.name} exists but has no column {missing[0]!r}: add the column, or "
                        "declare the table under another name"
                    )

    def _check_references(self, session: Session, contract: Contract) -> None:
        try:
            for statement in self.backend.after_create(contract):
                session.execute(statement)
        except (DatabaseError, ContractError) as error:
            points = "; ".join(map(str, contract.references))
            raise ContractError(
                f"table {contract.name} has a reference that does not hold ({points}): {error}; create the parent "
                "first, and point at its key or at a column that is unique by itself"
            ) from error

    def insert(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        on_conflict: batch.OnConflict = "error",
        on_reject: batch.OnReject = "raise",
    ) -> Report:
        """Insert new rows.

        Args:
            table: the table, or the name of an existing one.
            frame: a Polars DataFrame or LazyFrame, a pandas frame or a pyarrow table.
            on_conflict: a row whose key exists is rejected (``error``) or left alone (``ignore``).
            on_reject: ``raise`` writes nothing when a row is refused; ``keep`` writes the others.

        Returns:
            What became of each row.

        Raises:
            ContractError: the frame does not fit the table.
            RejectedRows: rows were refused and ``on_reject="raise"``; carries the report.
            BulkError: the database refused; nothing was written.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]})).counts
            {'input': 2, 'inserted': 2}
        """
        _one_of("on_conflict", on_conflict, ("error", "ignore"))
        return self._write("insert", table, frame, on_reject, on_conflict=on_conflict)

    def upsert(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        on: str | Sequence[str] | None = None,
        newer: str | None = None,
        duplicates: batch.Duplicates = "combine",
        on_reject: batch.OnReject = "raise",
    ) -> Report:
        """Insert rows whose key is new, and merge those whose key exists into what is there.

        Each column is merged by its rule (see `field`); most are simply replaced. Columns that the
        frame leaves out keep their values in existing rows. Rows of the same key in one frame are
        combined in their order by the same rules. A row that was marked as deleted is revived.

        Args:
            table: the table, or the name of an existing one.
            frame: a Polars DataFrame or LazyFrame, a pandas frame or a pyarrow table.
            on: another unique key to match rows by; the row that is there keeps its key.
            newer: a column, such as ``"updated_at"``, by which the newest row wins: one that is older
                than the row that is there is ``stale``.
            duplicates: rows of the same key are combined (``combine``) or all rejected (``error``).
            on_reject: ``raise`` writes nothing when a row is refused; ``keep`` writes the others.

        Returns:
            What became of each row.

        Raises:
            ContractError: the frame does not fit the table.
            RejectedRows: rows were refused and ``on_reject="raise"``; carries the report.
            BulkError: the database refused; nothing was written.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     _ = db.upsert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.upsert(Foods, pl.DataFrame({"food_id": [2, 3], "name": ["rye", "cake"]})).counts
            {'input': 2, 'inserted': 1, 'updated': 1}
        """
        columns = (on,) if isinstance(on, str) else tuple(on) if on else None
        return self._write("upsert", table, frame, on_reject, on=columns, newer=newer, duplicates=duplicates)

    def update(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        duplicates: batch.Duplicates = "combine",
        on_reject: batch.OnReject = "raise",
    ) -> Report:
        """Set the columns of the frame in the rows that exist, by key; insert nothing.

        A value is set as it is: merge rules are for `upsert`. Rows that are marked as deleted are missing.

        Args:
            table: the table, or the name of an existing one.
            frame: the key, and the columns to set.
            duplicates: of rows of the same key the last one stands (``combine``), or all are rejected
                (``error``).
            on_reject: ``raise`` writes nothing when a row is refused; ``keep`` writes the others.

        Returns:
            What became of each row: ``missing`` where its key is not there.

        Raises:
            ContractError: the frame does not fit the table.
            RejectedRows: rows were refused and ``on_reject="raise"``; carries the report.
            BulkError: the database refused; nothing was written.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.update(Foods, pl.DataFrame({"food_id": [2, 9], "name": ["rye", "cake"]})).counts
            {'input': 2, 'updated': 1, 'missing': 1}
        """
        return self._write("update", table, frame, on_reject, duplicates=duplicates)

    def delete(
        self,
        table: type[Table] | str,
        keys: Any,
        *,
        hard: bool = False,
        on_reject: batch.OnReject = "raise",
    ) -> Report:
        """Delete the rows of some keys; mark them instead where the table has a ``soft_delete`` field.

        Args:
            table: the table, or the name of an existing one.
            keys: a frame that has the key columns, or a list of keys.
            hard: remove the rows even so.
            on_reject: ``raise`` deletes nothing when a row is refused; ``keep`` deletes the others.

        Returns:
            What became of each key: ``missing`` where it is not there.

        Raises:
            ContractError: the keys do not fit the table.
            RejectedRows: rows were refused, as others refer to them, and ``on_reject="raise"``.
            BulkError: the database refused; nothing was deleted.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.delete(Foods, [1, 9]).counts
            {'input': 2, 'deleted': 1, 'missing': 1}
        """
        return self._write("delete", table, keys, on_reject, hard=hard)

    def sync(
        self,
        table: type[Table] | str,
        frame: Any,
        *,
        within: Mapping[str, Any] | str | None = None,
        hard: bool = False,
        allow_empty: bool = False,
        duplicates: batch.Duplicates = "combine",
        on_reject: batch.OnReject = "raise",
    ) -> Report:
        """Make the table hold the rows of the frame and no others: insert, update and delete.

        A row whose key is in the frame is never deleted, also where the frame's row is refused.

        Args:
            table: the table, or the name of an existing one.
            frame: the rows that the table shall have.
            within: a condition, as in `read`, that a row must meet to be deleted; the rest of the table
                is left alone.
            hard: remove rows that could be marked as deleted.
            allow_empty: take a frame without rows for "delete all" rather than for a mistake.
            duplicates: rows of the same key are combined (``combine``) or all rejected (``error``).
            on_reject: ``raise`` writes nothing when a row is refused; ``keep`` writes the others.

        Returns:
            What became of each row of the frame and then of each row that was deleted, see `Report.deleted`.

        Raises:
            ContractError: the frame does not fit the table, or is empty.
            RejectedRows: rows were refused and ``on_reject="raise"``; carries the report.
            BulkError: the database refused; nothing was written.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.sync(Foods, pl.DataFrame({"food_id": [2, 3], "name": ["bread", "cake"]})).counts
            {'input': 3, 'inserted': 1, 'unchanged': 1, 'deleted': 1}
        """
        return self._write(
            "sync",
            table,
            frame,
            on_reject,
            within=within,
            hard=hard,
            allow_empty=allow_empty,
            duplicates=duplicates,
        )

    def read(
        self,
        table: type[Table] | str,
        *,
        where: Where = None,
        columns: Sequence[str] | None = None,
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
        include_deleted: bool = False,
    ) -> pl.DataFrame:
        """Read rows as a frame with the table's dtypes.

        Args:
            table: the table or, by its name, any table or view of the database.
            where: a mapping of columns and lookups to values, all of which must hold, such as
                ``{"type": "soup", "price__lt": 5}``; or a SQL condition, such as
                ``"type = 'soup' AND price < 5"``. The lookups are lt, lte, gt, gte, ne, in, notin,
                isnull, contains, startswith, endswith and between.
            columns: which columns, in this order; None for all.
            order_by: columns to sort by, ``-name`` for descending; nulls come last. None: the order
                of the database, which is no order.
            limit: rows at most.
            include_deleted: read rows that are marked as deleted, too.

        Returns:
            The frame.

        Raises:
            ContractError: a column is not in the table, or holds what another program wrote and no frame can;
                or the condition is not understood.
            TableNotFound: there is no table of that name.
            BulkError: the database refused.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.read(Foods, columns=["name"], order_by="-food_id").rows()
            [('bread',), ('soup',)]
        """
        contract = self._contract(table)
        wire = Wire(contract, self.backend)
        selection = read.Selection(where, columns, order_by, limit, include_deleted)
        query = read.build(wire, self.backend, selection)
        try:
            with self.session() as session:
                return read.run(session, wire, query)
        except pl.exceptions.PolarsError as error:
            raise ContractError(
                f"table {contract.name} holds a value that its columns in a frame cannot: {str(error).splitlines()[0]}"
            ) from error

    def update_where(self, table: type[Table] | str, changes: Mapping[str, Any], where: Where) -> Report:
        """Set columns to values in the rows that meet a condition, by one statement.

        Rows that have these values already are left alone, and so are those that are marked as deleted.
        Rules that are about whole rows (checks of the table rather than of a column) are not judged.

        Args:
            table: the table, or the name of an existing one.
            changes: column to value; None is NULL.
            where: as for `read`, but not empty.

        Returns:
            The rows that changed, each as ``updated``.

        Raises:
            ContractError: the condition or a value is wrong, breaks a rule, or is of a key column.
            BulkError: the database refused; nothing was written.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.update_where(Foods, {"name": "rye"}, where={"food_id__gt": 1}).counts
            {'input': 1, 'updated': 1}
        """
        return conditional.update_where(
            self.session, Wire(self._contract(table, write=True), self.backend), changes, where
        )

    def delete_where(self, table: type[Table] | str, where: Where, *, hard: bool = False) -> Report:
        """Delete the rows that meet a condition, by one statement.

        Where the table has a ``soft_delete`` column, rows are marked in it and stay.

        Args:
            table: the table, or the name of an existing one.
            where: as for `read`, but not empty.
            hard: remove the rows, also those that are marked as deleted.

        Returns:
            The rows that were deleted, each as ``deleted``.

        Raises:
            ContractError: the condition is wrong.
            BulkError: the database refused; nothing was written.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     _ = db.insert(Foods, pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}))
            ...     db.delete_where(Foods, "name LIKE 's%'").deleted["food_id"].to_list()
            [1]
        """
        return conditional.delete_where(
            self.session, Wire(self._contract(table, write=True), self.backend), where, hard=hard
        )

    def restore_where(self, table: type[Table] | str, where: Where) -> Report:
        """Take back the soft deletion of the rows that meet a condition, by one statement.

        Args:
            table: a table with a ``soft_delete`` column.
            where: as for `read`, but not empty.

        Returns:
            The rows that were restored, each as ``updated``.

        Raises:
            ContractError: the condition is wrong, or the table has no ``soft_delete`` column.
            BulkError: the database refused; nothing was written.

        Example:
            >>> from crave_bulk import Table, field
            >>> class Notes(Table):
            ...     note_id: int = field(key=True)
            ...     deleted: bool = field(soft_delete=True, default=False)
            >>> with connect() as db:
            ...     db.create(Notes)
            ...     _ = db.insert(Notes, pl.DataFrame({"note_id": [1, 2]}))
            ...     _ = db.delete_where(Notes, {"note_id": 2})
            ...     db.restore_where(Notes, "true").counts, db.read(Notes).height
            ({'input': 1, 'updated': 1}, 2)
        """
        return conditional.restore_where(
            self.session, Wire(self._contract(table, write=True), self.backend), where
        )

    # -- connections --

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Borrow a connection; within a transaction of this thread, its own.

        Yields:
            The session.

        Raises:
            ConnectionFailed: no connection could be had.
            DatabaseBusy: all connections of the pool are in use.
        """
        current = getattr(self._local, "session", None)
        if current is not None:
            yield current
            return
        borrowed = self._borrow()
        session = Session(borrowed.dbapi_connection, self.backend, self._listeners)
        self._local.session = session
        try:
            yield session
        finally:
            self._local.session = None
            if session.broken:
                borrowed.invalidate()
            borrowed.close()
            if session.broken:
                lost, self._pool = self._pool, self._pool.recreate()
                lost.dispose()  # where one connection is lost, so are the idle ones

    def _borrow(self) -> Any:
        if self._closed:
            raise ConnectionFailed(f"{self!r} was closed: connect again")
        try:
            return self._pool.connect()
        except PoolTimeout as error:
            raise DatabaseBusy(
                f"all connections to {self.backend.label} were in use for {_POOL_SECONDS:.0f} s: use fewer threads"
            ) from error
        except self.backend.driver_error as error:
            raise ConnectionFailed(str(self.backend.error(error))) from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run several verbs as one: all are committed at the end of the block, or none.

        A block within a block is a savepoint: an exception takes back what was done in the innermost
        block that it leaves, and nothing else. Each thread has its own transaction.

        Yields:
            Nothing.

        Raises:
            BulkError: the transaction could not be begun or committed; nothing was written.

        Example:
            >>> from crave_bulk.examples import Foods
            >>> with connect() as db:
            ...     db.create(Foods)
            ...     with db.transaction():
            ...         _ = db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["soup"]}))
            ...         _ = db.delete(Foods, [1])
            ...     db.read(Foods).height
            0
        """
        with self.session() as session, session.atomic():
            yield

    def trace(self, listener: Listener) -> None:
        """Show every SQL statement from now on.

        Args:
            listener: called with each statement before it runs, such as ``print``.
        """
        self._listeners.append(listener)

    def close(self) -> None:
        """Close all connections; a database in memory is gone then."""
        if not self._closed:
            self._closed = True
            self._pool.dispose()
            self.backend.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Database {self.backend.label}>"

    def _contract(self, table: type[Table] | str, *, write: bool = False) -> Contract:
        """Take a table's declaration, or read that of an existing table from the catalog.

        Args:
            table: a subclass of `Table`, or the name of an existing table.
            write: it is to be written.

        Returns:
            The contract.

        Raises:
            ContractError: it is neither, or it is to be written and cannot be.
            TableNotFound: there is no table of that name.
        """
        if not isinstance(table, str):
            return contract_of(table)
        with self.session() as session:
            contract = self.backend.reflect(session, TableName.parse(table))
        if write and contract.read_only:
            raise ContractError(contract.read_only)
        return contract

    def _write(
        self,
        verb: batch.Verb,
        table: type[Table] | str,
        frame: Any,
        on_reject: batch.OnReject,
        **options: Any,
    ) -> Report:
        _one_of("on_reject", on_reject, ("raise", "keep"))
        _one_of("duplicates", options.get("duplicates", "combine"), ("combine", "error"))
        contract = self._contract(table, write=True)
        call = batch.Call(verb, contract, on_reject=on_reject, **options)
        return batch.run(self.session, Wire(contract, self.backend), call, frame)


def _pool(backend: Backend) -> Pool:
    """Choose the pool; sessions begin, commit and roll back themselves, so it resets nothing."""
    if not backend.pooled:
        return NullPool(backend.connect, reset_on_return=None)
    # A database in memory has one connection, for which threads wait: more would lock each other out
    # at once (SQLITE_LOCKED), as the busy timeout does not apply within a shared cache.
    size, more = (1, 0) if backend.in_memory else (5, 20)
    return QueuePool(
        backend.connect, pool_size=size, max_overflow=more, timeout=_POOL_SECONDS, reset_on_return=None
    )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ContractError(f"{name}={value!r} is not known: use {' or '.join(map(repr, allowed))}")
