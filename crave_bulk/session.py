"""One connection at work: statements in, frames out, nested transactions, and a listener for each statement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import adbc_driver_manager
import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.errors import BulkError, CommitUnknown, ConnectionFailed, DatabaseBusy, DatabaseError
from crave_bulk.watch import Statement, Watch

_SHORT = 0.1  # seconds to wait for a lock at a stretch


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of each statement, and whether of the values that it binds as well."""

    call: Callable[[str], None]
    values: bool = False

    def tell(self, statement: str, parameters: pl.DataFrame | None) -> None:
        """Tell of a statement that is about to run.

        Args:
            statement: the statement.
            parameters: the values that it binds.
        """
        bound = f"\n-- values: {parameters.row(0)}" if self.values and parameters is not None else ""
        self.call(statement + bound)


class Session:
    """The statements of one connection, in one thread.

    Attributes:
        broken: the connection is not to be used again.
        watch: says whether the call that runs just now may go on.
        batches: the ids of the batches that the open transaction holds.
    """

    def __init__(self, connection: Any, backend: Backend, listeners: Sequence[Listener] = ()) -> None:
        self.backend = backend
        self.broken = False
        self.watch = Watch()
        self.batches: list[str] = []
        self._connection = connection
        self._listeners = listeners
        self._depth = 0
        self._failed = False  # a statement of the open transaction, which PostgreSQL then aborts

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._depth > 0

    def execute(self, statement: str, parameters: pl.DataFrame | None = None) -> None:
        """Run a statement that reads nothing back.

        Args:
            statement: one statement; what follows a semicolon would be ignored by SQLite's driver.
            parameters: one row of values that the driver binds to numbered placeholders.

        Raises:
            BulkError: the database refused it.
        """
        with self._cursor(statement, parameters) as cursor:
            cursor.execute(statement, parameters)

    def fetch(self, statement: str, parameters: pl.DataFrame | None = None) -> pl.DataFrame:
        """Run a statement and read its rows.

        Args:
            statement: one statement.
            parameters: one row of values that the driver binds to numbered placeholders.

        Returns:
            The rows; the dtypes are the driver's, which infers them on SQLite.

        Raises:
            BulkError: the database refused it.
        """
        with self._cursor(statement, parameters) as cursor:
            cursor.execute(statement, parameters)
            return pl.DataFrame(cursor.fetch_arrow_table())

    def columns(self, statement: str) -> list[str]:
        """Ask which columns a query has, without reading a row.

        Args:
            statement: one query.

        Returns:
            The names.

        Raises:
            BulkError: the database refused it.
        """
        with self._cursor(statement) as cursor:
            cursor.execute(statement)
            return [column[0] for column in cursor.description]

    def ingest(self, name: str, frame: pl.DataFrame) -> None:
        """Create a temporary table from a frame, in the open transaction.

        The driver creates the table, so that its types are those of the frame: appending to a table
        whose types differ corrupts values or fails.

        Args:
            name: the table's name, which must be free.
            frame: the rows.

        Raises:
            BulkError: the database refused it.
        """
        with self._cursor(f"-- ingest {frame.height} rows into {name}") as cursor:
            cursor.adbc_ingest(name, frame, mode="create", temporary=True)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Run a block all or nothing: the outermost is a transaction, a nested one a savepoint.

        Yields:
            Nothing.

        Raises:
            BulkError: the transaction could not be begun or committed.
        """
        depth, savepoint = self._depth, f"crave_bulk_{self._depth}"
        self._failed = self._failed and depth > 0
        if depth:
            self.execute(f"SAVEPOINT {savepoint}")
        else:
            self._begin()
        self._depth += 1
        known = len(self.batches) if depth else 0
        del self.batches[known:]
        interrupted = False
        try:
            yield
            if self._failed and self.backend.aborts:
                raise self._ended()
            if depth:
                self.execute(f"RELEASE SAVEPOINT {savepoint}")
            else:
                interrupted = self._commit()
        except BaseException:
            del self.batches[known:]
            self._roll_back(
                [f"ROLLBACK TO SAVEPOINT {savepoint}", f"RELEASE SAVEPOINT {savepoint}"]
                if depth
                else ["ROLLBACK"]
            )
            raise
        finally:
            self._depth = depth
        if interrupted:
            raise KeyboardInterrupt

    def _begin(self) -> None:
        """Begin a transaction; where that waits for a lock, look now and then whether the call may still wait."""
        patience = self.backend.patience
        if patience is None:
            self.execute(self.backend.begin)
            return None
        deadline = time.monotonic() + patience.seconds
        self._set(patience.statement, _SHORT)
        try:
            while True:
                try:
                    return self.execute(self.backend.begin)
                except DatabaseBusy:
                    if time.monotonic() > deadline:
                        raise
        finally:
            self._set(patience.statement, patience.seconds)

    def _set(self, statement: str, seconds: float) -> None:
        """Set how long the connection waits for a lock."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement.format(int(seconds * 1000)))

    def _commit(self) -> bool:
        """Commit, which nothing stops once it has begun; tell whether somebody pressed Ctrl-C meanwhile."""
        self.watch.check()
        try:
            with self._cursor("COMMIT", stoppable=False) as cursor:
                cursor.execute("COMMIT")
        except ConnectionFailed as error:
            raise CommitUnknown(
                f"{error}; the connection was lost while the transaction was committed, so it is not known whether "
                "that came to be: look at the data before the call is run again",
                tuple(self.batches),
            ) from error
        return bool(cursor._stmt.interrupted)

    def _roll_back(self, statements: list[str]) -> None:
        """Take the block back; a clean-up that fails marks the connection and never hides the first error."""
        try:
            for statement in statements:
                with self._cursor(statement, stoppable=False) as cursor:
                    cursor.execute(statement)
            self._failed = False
        except BulkError:
            self.broken = True

    def _ended(self) -> BulkError:
        """Build the error for a transaction that cannot go on."""
        return DatabaseError(
            "the transaction has ended, as the database refused a statement or the connection was lost: nothing of "
            "it was written; leave the block and run it again"
        )

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Run a block whose failure leaves an open transaction as it was.

        Yields:
            Nothing.
        """
        with self.atomic() if self._depth else nullcontext():
            yield

    @contextmanager
    def _cursor(
        self, statement: str, parameters: pl.DataFrame | None = None, *, stoppable: bool = True
    ) -> Iterator[Any]:
        """Open a cursor for one statement; a clean-up and a commit run to their end."""
        if self.broken and self._depth:
            raise self._ended()  # SQLite would go on without a transaction
        for listener in self._listeners:
            listener.tell(statement, parameters)
        # An open cursor makes closing its connection raise, so each is closed at once.
        with self._connection.cursor(adbc_stmt_kwargs=self.backend.statement_options) as cursor:
            cursor._stmt = running = Statement(cursor._stmt, stoppable=stoppable and self.backend.stops)
            try:
                with self.watch.running(running) if stoppable else nullcontext():
                    yield cursor
            except adbc_driver_manager.Error as cause:
                error = self.backend.error(cause)
                self.broken = self.broken or isinstance(error, ConnectionFailed)
                self._failed = self._depth > 0
                if stoppable and running.interrupted:
                    raise KeyboardInterrupt from None
                raise (self.watch.error if stoppable and self.watch.error else error) from cause
            if stoppable and running.interrupted:
                self._failed = self._depth > 0
                raise KeyboardInterrupt
