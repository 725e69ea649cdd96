"""The connections of a database: a pool, a session for each thread, transactions, and tables by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, Pool, PoolProxiedConnection, QueuePool

from crave_bulk.backends.base import Backend
from crave_bulk.errors import (
    BulkError,
    Cancelled,
    CommitUnknown,
    ConnectionFailed,
    ContractError,
    DatabaseBusy,
)
from crave_bulk.ledger import Ledger, number
from crave_bulk.retry import again
from crave_bulk.session import Listener, Session
from crave_bulk.table import Contract, Table, TableName, contract_of
from crave_bulk.watch import Watch

T = TypeVar("T")
_POOL_SECONDS = 30.0  # to wait for a connection,
_POOL_WAIT = 0.1  # at a stretch


class Connections:
    """What every verb needs: a session, and the contract of its table."""

    def __init__(self, backend: Backend, ledger: Ledger | None = None) -> None:
        self.backend = backend
        self.ledger = ledger
        self._listeners: list[Listener] = []
        self._local = threading.local()
        self._pool = _pool(backend)
        self._pooling = threading.Lock()
        self._watches: set[Watch] = set()
        self.closed = False

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
        borrowed, pool = self._borrow()
        session = Session(borrowed.dbapi_connection, self.backend, self._listeners)
        session.watch = getattr(self._local, "watch", None) or session.watch
        self._local.session = session
        try:
            if session.watch.left is not None and self.backend.patience:
                session.wait(self.backend.patience.seconds)
            yield session
        finally:
            self._local.session = None
            # Ctrl-C may come just where a block is left, and skip its end: no transaction goes back into the pool.
            self._give_back(borrowed, pool, broken=session.broken or session.in_transaction)

    @contextmanager
    def apart(self, session: Session) -> Iterator[Session]:
        """Borrow another connection where a transaction is open and others would have to wait for its end.

        Args:
            session: the connection of this thread.

        Yields:
            Another, or the same.
        """
        if not (session.in_transaction and self.backend.remote) or (self.ledger and self.ledger.ready):
            yield session
            return
        borrowed, pool = self._borrow()
        other = Session(borrowed.dbapi_connection, self.backend, self._listeners)
        other.watch = session.watch
        try:
            yield other
        finally:
            self._give_back(borrowed, pool, broken=other.broken or other.in_transaction)

    def _give_back(self, borrowed: PoolProxiedConnection, pool: Pool, *, broken: bool) -> None:
        """Give a connection back, unless it is broken, or its pool was given up while it was away."""
        with self._pooling:
            if broken and pool is self._pool:
                self._pool = pool.recreate()  # where one connection is lost, so are the idle ones
            if broken or self.closed or pool is not self._pool:
                borrowed.invalidate()
            borrowed.close()
            if pool is not self._pool:
                pool.dispose()

    def _borrow(self) -> tuple[PoolProxiedConnection, Pool]:
        """Have a connection, waiting in short stretches, so that a call can be stopped meanwhile."""
        watch = getattr(self._local, "watch", None) or Watch()
        deadline = time.monotonic() + _POOL_SECONDS
        while True:
            if self.closed:
                raise ConnectionFailed(f"{self!r} was closed: connect again")
            watch.check()
            pool = self._pool
            try:
                return pool.connect(), pool
            except PoolTimeout as error:
                if time.monotonic() > deadline:
                    raise DatabaseBusy(
                        f"all connections to {self.backend.label} were in use for {_POOL_SECONDS:.0f} s: use fewer threads"
                    ) from error
            except DatabaseBusy:  # a SQLite file that another has locked
                if self.backend.patience is None or time.monotonic() > deadline:
                    raise
            except self.backend.driver_error as error:
                raise ConnectionFailed(str(self.backend.error(error))) from None

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        session = getattr(self._local, "session", None)
        return session is not None and session.in_transaction

    @contextmanager
    def transaction(self, *, turn: str | None = None) -> Iterator[None]:
        """Run several verbs as one: all are committed at the end of the block, or none.

        A block within a block is a savepoint: an exception takes back what was done in the innermost
        block that it leaves, and nothing else. Each thread has its own transaction.

        Args:
            turn: transactions of one turn wait for each other, whichever client runs them, so that what one reads
                stays true until it is committed; on SQLite all that write do so anyway.

        Yields:
            Nothing.

        Raises:
            BulkError: the transaction could not be begun or committed; nothing was written.

        Example:
            >>> import polars as pl, crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     with db.transaction():
            ...         _ = db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["soup"]}))
            ...         _ = db.delete(Foods, [1])
            ...     db.read(Foods).height
            0
        """
        try:
            with self.watched(None), self.session() as session, session.atomic():
                if turn is not None and self.backend.wait_turn:
                    session.execute(self.backend.wait_turn.format(number(f"turn {turn}")))
                yield
        except CommitUnknown as lost:
            if not self.was_committed(lost):
                raise ConnectionFailed(f"{lost.__cause__}; nothing of the transaction was written") from lost

    def atomically(self, work: Callable[[], T], *, turn: str | None = None) -> T:
        """Run a function as one transaction, and again where others were in the way or the connection was lost.

        Args:
            work: calls the verbs of this database; what else it does may be done more than once.
            turn: see `transaction`.

        Returns:
            What the function returned in the end. Within a transaction it is run once, as a block of it.

        Raises:
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl, crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     db.atomically(lambda: db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["soup"]}))).counts
            {'input': 1, 'inserted': 1}
        """
        joined, results = self.in_transaction, list[T]()
        with self.watched(None) as watch:
            for attempt in again(watch, lambda error: not joined and _may_pass(error)):
                with attempt, self.transaction(turn=turn):
                    results.append(work())
        return results[-1]

    @contextmanager
    def watched(self, timeout: float | None) -> Iterator[Watch]:
        """Let a block be cancelled, or run out of time.

        Args:
            timeout: seconds, None for as long as it needs.

        Yields:
            The watch.
        """
        outer, session = getattr(self._local, "watch", None), getattr(self._local, "session", None)
        if outer is not None and timeout is None:
            yield outer
            return
        with Watch(timeout, within=outer) as watch:
            self._watches.add(watch)
            self._local.watch = watch
            if session is not None:
                session.watch = watch
            try:
                yield watch
            finally:
                self._watches.discard(watch)
                self._local.watch = outer
                if session is not None:
                    session.watch = outer or Watch()

    def cancel(self) -> int:
        """Stop, from another thread, whatever writes to the database through this object just now.

        Each such call raises `Cancelled`, and nothing of it is written. A call whose commit has begun
        comes to its end.

        Returns:
            How many calls and transactions were told to stop.

        Example:
            >>> import crave_bulk as cb
            >>> with cb.connect() as db:
            ...     db.cancel()
            0
        """
        watches = list(self._watches)
        for watch in watches:
            watch.stop(
                Cancelled("the call was cancelled; nothing was written: run it again when it is wanted")
            )
        return len(watches)

    def was_committed(self, lost: CommitUnknown) -> bool:
        """Find out by another connection what became of a commit whose answer was lost.

        Args:
            lost: what was raised.

        Returns:
            Whether the transaction was committed.

        Raises:
            CommitUnknown: there is no ledger to tell, or the database cannot be reached.
        """
        if self.ledger is None or not lost.batches:
            raise lost
        try:
            for attempt in again(Watch(), lambda error: isinstance(error, BulkError)):
                with attempt, self.session() as session:
                    found = self.ledger.committed(session, lost.batches[0])
        except BulkError as error:
            raise CommitUnknown(
                f"the connection was lost while batch {lost.batches[0]} was committed, and the database cannot be "
                f"asked whether it was ({error}): when it is back, look for that batch in db.batches() before the call "
                "is run again"
            ) from error
        return found

    @property
    def name_of_batch(self) -> str | None:
        """What an operation calls the batches that this thread writes just now."""
        return getattr(self._local, "name", None)

    @contextmanager
    def named(self, name: str | None) -> Iterator[None]:
        """Give the batches of a block a name in the ledger.

        Args:
            name: any text, or None.

        Yields:
            Nothing.
        """
        outer, self._local.name = self.name_of_batch, name
        try:
            yield
        finally:
            self._local.name = outer

    def trace(self, listener: Callable[[str], None], *, values: bool = False) -> None:
        """Show every SQL statement from now on.

        Args:
            listener: called with each statement before it runs, such as ``print``.
            values: show the values that a statement binds, too, which may be those of rows.
        """
        self._listeners.append(Listener(listener, values))

    def close(self) -> None:
        """Close all connections; a database in memory is gone then."""
        if not self.closed:
            self.closed = True
            self._pool.dispose()
            self.backend.close()

    def __enter__(self) -> Self:
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
        with self.session() as session, session.shielded():
            contract = self.backend.reflect(session, TableName.parse(table))
        if write and contract.read_only:
            raise ContractError(contract.read_only)
        return contract


def _may_pass(error: BaseException) -> bool:
    """Tell whether a transaction that failed may succeed the next time."""
    return isinstance(error, DatabaseBusy | ConnectionFailed) and not isinstance(error, CommitUnknown)


def _pool(backend: Backend) -> Pool:
    """Choose the pool; sessions begin, commit and roll back themselves, so it resets nothing."""
    if not backend.pooled:
        return NullPool(backend.connect, reset_on_return=None)
    # A database in memory has one connection, for which threads wait: more would lock each other out
    # at once (SQLITE_LOCKED), as the busy timeout does not apply within a shared cache.
    size, more = (1, 0) if backend.in_memory else (5, 20)
    return QueuePool(
        backend.connect, pool_size=size, max_overflow=more, timeout=_POOL_WAIT, reset_on_return=None
    )


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Check an option that is one of a few words.

    Args:
        name: the option.
        value: what was passed.
        allowed: the words.

    Raises:
        ContractError: it is none of them.
    """
    if value not in allowed:
        raise ContractError(f"{name}={value!r} is not known: use {' or '.join(map(repr, allowed))}")
