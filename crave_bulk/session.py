"""One connection at work: statements in, frames out, nested transactions, and a listener for each statement."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import adbc_driver_manager
import polars as pl
import pyarrow as pa

from crave_bulk import forks
from crave_bulk.backends.base import Backend
from crave_bulk.errors import (
    BulkError,
    CommitUnknown,
    ConnectionFailed,
    ContractError,
    DatabaseBusy,
    DatabaseError,
    HeldHere,
    held_beside,
    held_by_thread,
)
from crave_bulk.fate import Fate, State
from crave_bulk.watch import Statement, Watch

_SHORT = 0.1  # seconds to wait for a lock at a stretch
# Seconds to wait for a lock that another transaction of the program may hold: one of this thread, or of another.
_HELD_HERE, _HELD_BESIDE = 10, 30


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


class NotText(ContractError):
    """The database has given text that is not UTF-8, which Polars would take for UTF-8 and fail on later.

    Attributes:
        column: the place of the column in the result.
        row: what else stands in the row, by the place of its column.
    """

    def __init__(self, column: int, number: int, row: dict[int, Any]) -> None:
        super().__init__(f"column {column + 1} of row {number + 1} holds text that is not UTF-8")
        self.column, self.row = column, row


def _checked(table: pa.Table) -> pa.Table:
    """Make sure that text is UTF-8, which neither SQLite nor a PostgreSQL database in SQL_ASCII does."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        for place, column in enumerate(table.columns):
            if (number := _first_bad(column)) is not None:
                others = table.slice(number, 1).drop_columns(table.column_names[place])
                places = [other for other in range(table.num_columns) if other != place]
                good = {p: c for p, c in zip(places, others.columns, strict=True) if _first_bad(c) is None}
                raise NotText(place, number, {p: c[0].as_py() for p, c in good.items()}) from error
    return table


def _first_bad(column: pa.ChunkedArray) -> int | None:
    """Find the first text that is not UTF-8."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return None
    for number, value in enumerate(column.cast(pa.large_binary())):
        try:
            (value.as_py() or b"").decode()
        except UnicodeDecodeError:
            return number
    return None


class Session:
    """The statements of one connection, in one thread.

    Attributes:
        broken: the connection is not to be used again.
        watch: says whether the call that runs just now may go on.
        batches: the batches that the open transaction holds.
        rivals: lists the other open transactions of this thread, which cannot go on while this one waits.
        beside: tells whether other threads have transactions open, one of which may wait for this thread to end.
    """

    def __init__(self, connection: Any, backend: Backend, listeners: Sequence[Listener] = ()) -> None:
        self.backend = backend
        self.broken = False
        self.watch = Watch()
        self.batches: list[Fate] = []
        self._cause: DatabaseError | None = None  # why the transaction has ended by itself
        self.rivals: Callable[[], Sequence[Session]] = tuple
        self.beside: Callable[[], bool] = bool
        self._connection = connection
        self._process = os.getpid()
        self._listeners = listeners
        self._blocks: list[object] = []  # that are open, each within the one before it
        self._crossed = False  # a block was left before one that was begun within it
        self._failed = False  # a statement of the open transaction, which PostgreSQL then aborts

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._blocks)

    @property
    def outlived(self) -> bool:
        """Whether the transaction is over, and some of its blocks have not been left."""
        return self._crossed and self.in_transaction

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
            forks.polars_runs()
            return pl.DataFrame(_checked(cursor.fetch_arrow_table()))

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
            ContractError: a table of the database cannot be so wide.
            BulkError: the database refused it.
        """
        if frame.width > self.backend.widest:
            raise ContractError(
                f"{frame.width:,} columns are to be staged, and a table of {self.backend.name} has at most "
                f"{self.backend.widest:,}, some of which crave_bulk needs itself: split the table into two of one key; nothing was written"
            )
        try:
            with self._cursor(f"-- ingest {frame.height} rows into {name}") as cursor:
                cursor.adbc_ingest(name, frame, mode="create", temporary=True)
        except DatabaseError as error:
            if error.sqlstate:
                raise
            raise self.backend.not_staged(error) from error.__cause__

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Run a block all or nothing: the outermost is a transaction, a nested one a savepoint.

        Yields:
            Nothing.

        Raises:
            BulkError: the transaction could not be begun or committed.
        """
        depth, block = len(self._blocks), object()
        savepoint = f"crave_bulk_{depth}"
        self._failed = self._failed and depth > 0
        known = len(self.batches) if depth else 0
        del self.batches[known:]
        interrupted = False
        try:
            self.execute(f"SAVEPOINT {savepoint}") if depth else self._begin()
            self._blocks.append(block)
            if not depth:
                self._limit_waits()
            yield
            self._check_order(block)
            if self._crossed or (self._failed and self.backend.aborts):
                raise self._ended()
            if depth:
                self.execute(f"RELEASE SAVEPOINT {savepoint}")
            else:
                interrupted = self._commit()
                self._end(0, "committed")
        except BaseException as error:
            # Of a commit whose answer was lost it is found out by another connection.
            self._end(known, "pending" if isinstance(error, CommitUnknown) else "rolled back")
            if block in self._blocks:
                if isinstance(error, KeyboardInterrupt):
                    del self._blocks[self._blocks.index(block) + 1 :]  # it may have skipped their ends
                self._check_order(block)
                self._roll_back(
                    [f"ROLLBACK TO SAVEPOINT {savepoint}", f"RELEASE SAVEPOINT {savepoint}"]
                    if depth and not self._crossed
                    else ["ROLLBACK"],
                    error,
                )
            elif not isinstance(error, BulkError):
                self.broken = True  # Ctrl-C: nobody knows whether the block was begun
            raise
        finally:
            if block in self._blocks:
                self._blocks.remove(block)
        if interrupted:
            raise KeyboardInterrupt

    def _end(self, known: int, state: State) -> None:
        """Say what became of the batches of a block that has ended."""
        for batch in self.batches[known:]:
            batch.state = state
        del self.batches[known:]

    def _check_order(self, block: object) -> None:
        """Give up the transaction if a block is left before one that was begun within it."""
        self._crossed = self._crossed or self._blocks[-1] is not block

    def _begin(self) -> None:
        """Begin a transaction; where that waits for a lock, look now and then whether the call may still wait."""
        patience = self.backend.patience.seconds if self.backend.patience and not self.rivals() else 0
        deadline = time.monotonic() + patience
        self.wait(_SHORT)
        while True:
            try:
                return self.execute(self.backend.begin)
            except DatabaseBusy as error:
                if isinstance(error, HeldHere) or time.monotonic() >= deadline:
                    raise

    def _limit_waits(self) -> None:
        """Set how long the statements of a transaction wait for locks, which may be those of a rival."""
        if self.backend.patience:
            self.wait(self.backend.patience.seconds)
        rivals = self.rivals()
        if not self.backend.wait_at_most or not (rivals or self.beside()):
            return
        for session in (*rivals, self):
            with suppress(BulkError):
                session.execute(self.backend.wait_at_most.format(_HELD_HERE if rivals else _HELD_BESIDE))

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
        seconds = min(seconds, _SHORT) if self.rivals() else seconds
        seconds = seconds if left is None else min(seconds, left)
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(self.backend.patience.statement.format(int(seconds * 1000) + 1))
        except adbc_driver_manager.Error as cause:
            raise self.backend.error(cause) from cause

    def _commit(self) -> bool:
        """Commit, which nothing stops once it has begun; tell whether somebody pressed Ctrl-C meanwhile."""
        self.watch.check()
        self._check_process()
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

    def _check_process(self) -> None:
        forks.check_same(self._process, f"the session on {self.backend.label}")

    def _roll_back(self, statements: list[str], error: BaseException) -> None:
        """Take the block back; a clean-up that does not come to its end gives up the connection.

        It never hides the first error.
        """
        usable, self.broken = not self.broken, True
        with suppress(Exception):
            for statement in statements:
                with self._cursor(statement, clean_up=True) as cursor:
                    cursor.execute(statement)
            self._failed, self.broken = False, not usable or self._crossed
        if self.broken and self._cause is None and isinstance(error, DatabaseError):
            self._cause = (
                error  # such as RAISE(ROLLBACK) of a trigger, which leaves no savepoint to go back to
            )

    def _ended(self) -> BulkError:
        """Build the error for a transaction that cannot go on."""
        why = (
            "one of its blocks was left before another that was begun within it, as generators do that take turns"
            if self._crossed
            else f"the database refused a statement and rolled back everything ({self._cause.said})"
            if self._cause is not None
            else "the database refused a statement or the connection was lost"
        )
        return DatabaseError(
            f"the transaction has ended, as {why}: nothing of it was written; leave the block and run it again"
        )

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Run a block whose failure leaves an open transaction as it was.

        Yields:
            Nothing.
        """
        with self.atomic() if self._blocks else nullcontext():
            yield

    @contextmanager
    def _cursor(
        self, statement: str, parameters: pl.DataFrame | None = None, *, clean_up: bool = False
    ) -> Iterator[Any]:
        """Open a cursor for one statement; a clean-up and a commit run to their end."""
        self._check_process()
        if self.broken and self._blocks and not clean_up:
            raise self._ended()  # SQLite would go on without a transaction
        self._tell(statement, parameters, clean_up)
        # An open cursor makes closing its connection raise, so each is closed at once.
        with self.backend.cursor(self._connection, statement) as cursor:
            cursor._stmt = running = Statement(cursor._stmt, stoppable=self.backend.stops and not clean_up)
            try:
                with nullcontext() if clean_up else self.watch.running(running):
                    yield cursor
            except adbc_driver_manager.Error as cause:
                error = self._translated(cause)
                self.broken = self.broken or isinstance(error, ConnectionFailed)
                self._failed = self.in_transaction
                if running.interrupted and not clean_up:
                    raise KeyboardInterrupt from None
                stopped = None if clean_up else self.watch.reason
                raise (stopped or error) from cause
            if running.interrupted and not clean_up:
                self._failed = self.in_transaction
                raise KeyboardInterrupt

    def _translated(self, cause: adbc_driver_manager.Error) -> BulkError:
        """Translate a driver's error; a lock that a rival may hold is not waited for again."""
        error = self.backend.error(cause)
        if (
            not isinstance(error, DatabaseBusy)
            or isinstance(error, HeldHere)
            or error.sqlstate.startswith("40")
        ):
            return error
        if self.rivals():
            return held_by_thread(self.backend.label, error.sqlstate)
        return held_beside(self.backend.label, error) if self.beside() else error

    def _tell(self, statement: str, parameters: pl.DataFrame | None, clean_up: bool) -> None:
        """Tell the listeners; one that fails must not keep a transaction from being ended."""
        for listener in self._listeners:
            with suppress(Exception) if clean_up else nullcontext():
                listener.tell(statement, parameters)
