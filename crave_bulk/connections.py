"""The connections of a database: a pool, a session for each task or thread, transactions, and tables by name."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, Pool, PoolProxiedConnection, QueuePool

from crave_bulk import forks
from crave_bulk.backends.base import Backend
from crave_bulk.errors import (
    BulkError,
    Cancelled,
    CommitUnknown,
    ConnectionFailed,
    ContractError,
    DatabaseBusy,
    HeldHere,
    held_by_thread,
    shown,
)
from crave_bulk.ledger import Ledger, number
from crave_bulk.retry import again
from crave_bulk.scalar import is_utf8
from crave_bulk.scopes import Scope, entered, innermost
from crave_bulk.session import Listener, Session
from crave_bulk.table import Contract, Table, TableName, contract_of
from crave_bulk.watch import Watch

T = TypeVar("T")
_POOL_SECONDS = 30.0  # to wait for a connection,
_POOL_WAIT = 0.1  # at a stretch


_names: ContextVar[Mapping[Connections, str | None]] = ContextVar(
    "crave_bulk_names", default=MappingProxyType({})
)


class Connections:
    """What every verb needs: a session, and the contract of its table."""

    def __init__(self, backend: Backend, ledger: Ledger | None = None) -> None:
        self.backend = backend
        self.ledger = ledger
        self._listeners: list[Listener] = []
        self._borrowed: set[Scope] = set()  # the blocks that have a connection
        self._pool = _pool(backend)
        self._pooling = threading.Lock()
        self._watches: set[Watch] = set()
        self.closed = False
        self._process = os.getpid()
        forks.taken_along(self)

    @contextmanager
    def session(self, *, reading: bool = False) -> Iterator[Session]:
        """Borrow a connection; within a transaction of this task or thread, its own.

        Args:
            reading: the block reads only, so that it need not be part of a transaction that has ended.

        Yields:
            The session.

        Raises:
            ConnectionFailed: no connection could be had.
            DatabaseBusy: all connections of the pool are in use.
        """
        current = self._scope()
        joined = current.session if current else None
        if joined is not None and not (reading and joined.outlived):
            yield joined
            return
        watch = (current and current.watch) or Watch()
        borrowed, pool = self._borrow(watch)
        session = Session(borrowed.dbapi_connection, self.backend, self._listeners)
        session.watch = watch
        try:
            with entered(self, session, watch) as scope:
                session.rivals = lambda: self._rivals(scope)
                session.beside = self._beside
                self._borrowed.add(scope)
                try:
                    if self.backend.patience and (watch.left is not None or session.rivals()):
                        session.wait(self.backend.patience.seconds)
                    yield session
                finally:
                    self._borrowed.discard(scope)
        finally:
            # Ctrl-C may come just where a block is left, and skip its end: no transaction goes back into the pool.
            self._give_back(borrowed, pool, broken=session.broken or session.in_transaction)

    def _scope(self) -> Scope | None:
        """Find the block that a call is part of; one that comes from a copy of its context is not.

        Raises:
            BulkError: the call would be taken for a part of a transaction that another task or thread has opened.
        """
        self._check_process()
        scope = innermost(self)
        if scope is None or scope.here():
            return scope
        if scope.session is not None and scope.session.in_transaction:
            raise BulkError(
                f"a transaction on {self.backend.label} is open in the task or thread that has started this one, and "
                "is not shared: make the call where the transaction was opened, or run the whole block here, as "
                "asyncio.to_thread(function) does, started outside of it; nothing was written"
            )
        return None

    def _check_process(self) -> None:
        forks.check_same(self._process, repr(self))

    def _rivals(self, scope: Scope | None) -> list[Session]:
        """List the other open transactions of this thread, which cannot go on while a call of it waits for them."""
        here = threading.get_ident()
        return [
            other.session
            for other in list(self._borrowed)
            if other is not scope and other.thread == here and other.session and other.session.in_transaction
        ]

    def _beside(self) -> bool:
        """Tell whether other threads have transactions open."""
        here = threading.get_ident()
        return any(
            other.thread != here and other.session is not None and other.session.in_transaction
            for other in list(self._borrowed)
        )

    @contextmanager
    def apart(self, session: Session) -> Iterator[Session]:
        """Borrow another connection where a transaction is open and others would have to wait for its end.

        Args:
            session: the connection of this thread.

        Yields:
            Another; or the same, where the server has no connection left: then others wait.
        """
        if not (session.in_transaction and self.backend.remote) or (self.ledger and self.ledger.ready):
            yield session
            return
        try:
            borrowed, pool = self._borrow(session.watch)
        except ConnectionFailed:
            borrowed = None
        if borrowed is None:
            yield session
            return
        other = Session(borrowed.dbapi_connection, self.backend, self._listeners)
        other.watch = session.watch
        try:
            yield other
        finally:
            self._give_back(borrowed, pool, broken=other.broken or other.in_transaction)

    def _give_back(self, borrowed: PoolProxiedConnection, pool: Pool, *, broken: bool) -> None:
        """Give a connection back, unless it is broken, or its pool was given up while it was away."""
        if self._process != os.getpid():
            forks.keep(borrowed)
            return
        with self._pooling:
            if broken and pool is self._pool:
                self._pool = pool.recreate()  # where one connection is lost, so are the idle ones
            if broken or self.closed or pool is not self._pool:
                borrowed.invalidate()
            borrowed.close()
            if pool is not self._pool:
                pool.dispose()

    def _borrow(self, watch: Watch) -> tuple[PoolProxiedConnection, Pool]:
        """Have a connection, waiting in short stretches, so that a call can be stopped meanwhile."""
        deadline = time.monotonic() + _POOL_SECONDS
        while True:
            if self.closed:
                raise ConnectionFailed(f"{self!r} was closed: connect again")
            watch.check()
            pool = self._pool
            try:
                return pool.connect(), pool
            except PoolTimeout as error:
                own = len(self._rivals(None))  # none where the last one was given back just now
                if own and isinstance(pool, QueuePool) and own >= pool.checkedout():
                    raise held_by_thread(self.backend.label, "") from error
                if time.monotonic() > deadline:
                    raise DatabaseBusy(
                        f"all connections to {self.backend.label} were in use for {_POOL_SECONDS:.0f} s: use fewer threads"
                    ) from error
            except DatabaseBusy as error:  # a SQLite file that another has locked
                late = self.backend.patience is None or time.monotonic() > deadline
                if isinstance(error, HeldHere) or late:
                    raise
                if self._rivals(None):
                    raise held_by_thread(self.backend.label, error.sqlstate) from error
            except self.backend.driver_error as error:
                raise ConnectionFailed(str(self.backend.error(error))) from None

    @property
    def in_transaction(self) -> bool:
        """Whether this task or thread has a transaction open."""
        self._check_process()
        scope = innermost(self)
        return scope is not None and scope.here() and bool(scope.session and scope.session.in_transaction)

    @contextmanager
    def transaction(self, *, turn: str | None = None) -> Iterator[None]:
        """Run several verbs as one: all are committed at the end of the block, or none.

        A block within a block is a savepoint: an exception takes back what was done in the innermost
        block that it leaves, and nothing else.

        A transaction belongs to the task or thread that opened it. Calls of others are not part of it; those that
        were started within it are refused until it has ended. Calls block, so in asyncio a function that holds the
        whole block is run by ``await asyncio.to_thread(function)``.

        Args:
            turn: transactions of one turn wait for each other, whichever client runs them, so that what one reads
                stays true until it is committed; on SQLite all that write do so anyway.

        Yields:
            Nothing.

        Raises:
            BulkError: the transaction could not be begun or committed, or was opened in another task or thread;
                nothing was written.

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
        if turn is not None and not (isinstance(turn, str) and is_utf8(turn)):
            raise ContractError(f"turn={shown(turn)} is not text")
        with self._transaction(turn, lambda error: isinstance(error, ConnectionFailed)):
            yield

    @contextmanager
    def _transaction(self, turn: str | None, again_if: Callable[[BaseException], bool]) -> Iterator[None]:
        """Run a transaction, which is begun once more if the connection that was waiting in the pool was lost."""
        joined = self.in_transaction
        try:
            with self.watched(None) as watch, ExitStack() as stack:
                for attempt in again(watch, lambda e: not joined and again_if(e) and self.may_pass(e)):
                    with attempt, ExitStack() as begun:
                        session = begun.enter_context(self.session())
                        begun.enter_context(session.atomic())
                        if turn is not None and self.backend.wait_turn:
                            session.execute(self.backend.wait_turn.format(number(f"turn {turn}")))
                        stack.push(begun.pop_all())
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
        if not callable(work):
            raise ContractError(f"{shown(work)} cannot be called: pass a function without arguments")
        joined, results = self.in_transaction, list[T]()
        with self.watched(None) as watch:
            for attempt in again(watch, lambda error: not joined and self.may_pass(error)):
                with attempt, self._transaction(turn, lambda _: False):
                    results.append(work())
        return results[-1]

    def reading(self, work: Callable[[Session], T]) -> T:
        """Run a function that only reads, and again where others were in the way or the connection was lost.

        Args:
            work: reads by the session that it is given.

        Returns:
            What the function returned in the end.

        Raises:
            BulkError: the database refused.

        Example:
            >>> import crave_bulk as cb
            >>> with cb.connect() as db:
            ...     db.reading(lambda session: session.fetch("SELECT 1 AS one").item())
            1
        """
        return self.completely(work, reading=True)

    def completely(self, work: Callable[[Session], T], *, reading: bool = False) -> T:
        """Run a function that does all or nothing, and again where others were in the way or the connection was lost.

        Args:
            work: uses the session that it is given.
            reading: it only reads.

        Returns:
            What the function returned in the end.

        Raises:
            BulkError: the database refused; nothing was changed.
        """
        scope, results = self._scope(), list[T]()
        joined = scope is not None and scope.session is not None  # which is as lost the next time
        with self.watched(None) as watch:
            for attempt in again(watch, lambda error: not joined and self.may_pass(error)):
                with attempt, self.session(reading=reading) as session, session.shielded():
                    results.append(work(session))
        return results[-1]

    @contextmanager
    def watched(self, timeout: float | None) -> Iterator[Watch]:
        """Let a block be cancelled, or run out of time.

        Args:
            timeout: seconds, None for as long as it needs.

        Yields:
            The watch.
        """
        scope = self._scope()
        outer, session = (scope.watch, scope.session) if scope else (None, None)
        if outer is not None and timeout is None:
            yield outer
            return
        with Watch(timeout, within=outer) as watch, entered(self, session, watch):
            self._watches.add(watch)
            if session is not None:
                session.watch = watch
            try:
                yield watch
            finally:
                self._watches.discard(watch)
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
        self._check_process()
        watches = list(self._watches)
        for watch in watches:
            watch.stop(
                Cancelled("the call was cancelled; nothing was written: run it again when it is wanted")
            )
        return len(watches)

    def may_pass(self, error: BaseException) -> bool:
        """Tell whether what has failed may succeed the next time.

        Args:
            error: what was raised.

        Returns:
            Whether others were in the way, or the connection was lost; a file that cannot be opened is not lost.
        """
        kinds = (DatabaseBusy, ConnectionFailed) if self.backend.remote else (DatabaseBusy,)
        return (
            isinstance(error, kinds) and not isinstance(error, CommitUnknown | HeldHere) and not self.closed
        )

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
                    found = self.ledger.committed(session, lost.batches[0].batch_id)
        except BulkError as error:
            raise CommitUnknown(
                f"the connection was lost while batch {lost.batches[0].batch_id} was committed, and the database cannot be "
                f"asked whether it was ({error}): when it is back, look for that batch in db.batches() before the call "
                "is run again"
            ) from error
        for batch in lost.batches:
            batch.state = "committed" if found else "rolled back"
        return found

    @property
    def name_of_batch(self) -> str | None:
        """What an operation calls the batches that are written just now."""
        self._check_process()
        return _names.get().get(self)

    @contextmanager
    def named(self, name: str | None) -> Iterator[None]:
        """Give the batches of a block a name in the ledger.

        Args:
            name: any text, or None.

        Yields:
            Nothing.
        """
        self._check_process()
        outer = _names.get()
        _names.set({**outer, self: name})
        try:
            yield
        finally:
            _names.set(outer)

    def trace(self, listener: Callable[[str], None], *, values: bool = False) -> None:
        """Show every SQL statement from now on.

        Args:
            listener: called with each statement before it runs, such as ``print``.
            values: show the values that a statement binds, too, which may be those of rows.
        """
        self._check_process()
        self._listeners.append(Listener(listener, values))

    def close(self) -> None:
        """Close all connections; a database in memory is gone then. In a fork, leave them to its parent."""
        if not self.closed:
            self.closed = True
            if self._process != os.getpid():
                return
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
        self._check_process()
        if not isinstance(table, str):
            return contract_of(table)
        name = TableName.parse(table)
        contract = self.reading(lambda session: self.backend.reflect(session, name))
        if write and contract.read_only:
            raise ContractError(contract.read_only)
        return contract


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
