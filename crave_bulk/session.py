"""One connection at work: statements in, frames out, nested transactions, and a listener for each statement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
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
        known = len(self.batches) if depth else 0
        del self.batches[known:]
        interrupted = False
        try:
            self.execute(f"SAVEPOINT {savepoint}") if depth else self._begin()
            self._depth += 1
            if not depth and self.backend.patience:
                self.wait(self.backend.patience.seconds)
            yield
            if self._failed and self.backend.aborts:
                raise self._ended()
            if depth:
                self.execute(f"RELEASE SAVEPOINT {savepoint}")
            else:
                interrupted = self._commit()
        except BaseException as error:
            del self.batches[known:]
            if self._depth > depth:
                self._roll_back(
                    [f"ROLLBACK TO SAVEPOINT {savepoint}", f"RELEASE SAVEPOINT {savepoint}"]
                    if depth
                    else ["ROLLBACK"]
                )
            elif not isinstance(error, BulkError):
                self.broken = True  # Ctrl-C: nobody knows whether the block was begun
            raise
        finally:
            self._depth = depth
        if interrupted:
            raise KeyboardInterrupt

    def _begin(self) -> None:
        """Begin a transaction; where that waits for a lock, look now and then whether the call may still wait."""
        deadline = time.monotonic() + (self.backend.patience.seconds if self.backend.patience else 0)
        self.wait(_SHORT)
        while True:
            try:
                return self.execute(self.backend.begin)
            except DatabaseBusy:
                if time.monotonic() >= deadline:
                    raise

    def wait(self, seconds: float) -> None:
        """Set how long the connection waits for a lock, where it cannot be interrupted.

        Args:
            seconds: at most as long as the call may take.

        Raises:
            BulkError: the database refused.
        """
        if self.backend.patience is None:
            return
        left = self.watch.left
        seconds = seconds if left is None else min(seconds, left)
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(self.backend.patience.statement.format(int(seconds * 1000) + 1))
        except adbc_driver_manager.Error as cause:
            raise self.backend.error(cause) from cause

    def _commit(self) -> bool:
        """Commit, which nothing stops once it has begun; tell whether somebody pressed Ctrl-C meanwhile."""
        self.watch.check()
        try:
            with self._cursor("COMMIT", clean_up=True) as cursor:
                cursor.execute("COMMIT")
        except ConnectionFailed as error:
            raise CommitUnknown(
                f"{error}; the connection was lost while the transaction was committed, so it is not known whether "
                "that came to be: look at the data before the call is run again",
                tuple(self.batches),
            ) from error
        return bool(cursor._stmt.interrupted)

    def _roll_back(self, statements: list[str]) -> None:
        """Take the block back; a clean-up that does not come to its end gives up the connection.

        It never hides the first error.
        """
        usable, self.broken = not self.broken, True
        with suppress(Exception):
            for statement in statements:
                with self._cursor(statement, clean_up=True) as cursor:
                    cursor.execute(statement)
            self._failed, self.broken = False, not usable

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
        self, statement: str, parameters: pl.DataFrame | None = None, *, clean_up: bool = False
    ) -> Iterator[Any]:
        """Open a cursor for one statement; a clean-up and a commit run to their end."""
        if self.broken and self._depth and not clean_up:
            raise self._ended()  # SQLite would go on without a transaction
        self._tell(statement, parameters, clean_up)
        # An open cursor makes closing its connection raise, so each is closed at once.
        with self._connection.cursor(adbc_stmt_kwargs=self.backend.statement_options) as cursor:
            cursor._stmt = running = Statement(cursor._stmt, stoppable=self.backend.stops and not clean_up)
            try:
                with nullcontext() if clean_up else self.watch.running(running):
                    yield cursor
            except adbc_driver_manager.Error as cause:
                error = self.backend.error(cause)
                self.broken = self.broken or isinstance(error, ConnectionFailed)
                self._failed = self._depth > 0
                if running.interrupted and not clean_up:
                    raise KeyboardInterrupt from None
                stopped = None if clean_up else self.watch.reason
                raise (stopped or error) from cause
            if running.interrupted and not clean_up:
                self._failed = self._depth > 0
                raise KeyboardInterrupt

    def _tell(self, statement: str, parameters: pl.DataFrame | None, clean_up: bool) -> None:
        """Tell the listeners; one that fails must not keep a transaction from being ended."""
        for listener in self._listeners:
            with suppress(Exception) if clean_up else nullcontext():
                listener.tell(statement, parameters)
