"""Take SQLite's locks on a file so that they are a connection's own, and not the whole process's.

SQLite takes POSIX locks, which do not hold against another copy of SQLite in the same process, such as Python's
``sqlite3``, and which that copy drops when it closes the file (https://www.sqlite.org/howtocorrupt.html, 2.2).
A connection that is opened with ``nolock=1`` takes none. Here the same bytes are locked in the same order
(https://www.sqlite.org/lockingv3.html) by open file description locks (``fcntl(2)``): they hold against every
other user of the file, in this process and outside, and only their owner drops them.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_manager
import adbc_driver_manager.dbapi
import adbc_driver_sqlite.dbapi

from crave_bulk.backends import sqlite_handles
from crave_bulk.backends.sqlite_handles import (
    IN_WAL_MODE,
    JOURNAL_MODE,
    RESERVED,
    SHARED,
    WAL,
    InTheWay,
    flock,
    told,
)

BEGIN = "BEGIN IMMEDIATE"
CACHE = 256  # MiB of pages that a connection keeps in memory
PATIENCE = 1.0  # seconds to wait for another copy of SQLite in this process

_OPENED = 2  # handles of the driver: of its database and of its connection (adbc-driver-sqlite 1.13)
_PENDING = (RESERVED[0] - 1, 1)
_CHANGES = (4, 24)  # where a file's header tells how often it was changed: how many bytes, and where
_UNKNOWN = -1  # stands for a process: the system does not tell who has the lock of a handle
_PAUSES = (0.001, 0.005)  # seconds between two looks at a lock: the first and the longest
_COMMITS = 5  # times as long to wait for a commit
_TRIES = 5  # to close a file that others use
_BUSY_TIMEOUT = re.compile(r"PRAGMA busy_timeout = (\d+)")
_BEGIN_TO_READ = "SELECT 1 FROM sqlite_master LIMIT 1"
_QUERIES = re.compile(r"\s*(SELECT|VALUES|EXPLAIN|WITH(?!.*\b(INSERT|UPDATE|DELETE)\b))\b", re.I | re.S)
_READS = re.compile(rf"{_QUERIES.pattern}|\s*PRAGMA\b", re.I | re.S)
_TUNES = re.compile(r"PRAGMA (foreign_keys|cache_size|page_size|temp_store) = ")
_WRITES_ROWS = re.compile(r"\s*(INSERT|UPDATE|DELETE|WITH)\b", re.I)

_handles: set[int] = set()


@cache
def available() -> bool:
    """Find out whether the system has locks that belong to a handle, which some sandboxes leave out."""
    if sys.platform == "win32":  # SQLite's own locks are such there
        return False
    import fcntl

    if not hasattr(fcntl, "F_OFD_SETLK"):
        return False
    with tempfile.TemporaryFile() as file:
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, flock(fcntl.F_WRLCK, *RESERVED))
        except OSError:
            return False
    return True


def connect(path: Path, *, read_only: bool) -> Any:
    """Open a connection to a file.

    Args:
        path: the file, which is created if need be.
        read_only: never write to it.

    Returns:
        The connection, which has its own locks, unless the file is in WAL mode or the system has none such.

    Raises:
        OSError: the file cannot be opened.
        adbc_driver_manager.Error: it cannot be opened as a database.
    """
    if not available():
        return _connect(_uri(path, read_only) if read_only else str(path.absolute()))
    handle, writable = _open(path, read_only)
    locks, closing = _Locks(path, handle, writable), lambda: None
    try:
        if os.pread(handle, *JOURNAL_MODE) == WAL:
            connection = _connect_in_wal_mode(path, locks, handle, read_only=read_only)
        else:
            connection = _connect(f"{_uri(path, read_only)}&nolock=1")
            connection.cursor = lambda adbc_stmt_kwargs=None: _Cursor(connection, locks, adbc_stmt_kwargs)
            connection.keeping_out = locks.keeping_out
            connection.reader = _Reader(path, locks, handle)
            closing = connection.reader.close
    except BaseException:
        sqlite_handles.close_later(path, locks.close)
        raise
    sqlite_handles.hold(handle, _OPENED)
    connection.close = _all(
        closing, lambda: sqlite_handles.hold(handle, -_OPENED), connection.close, locks.close
    )
    return connection


def _connect_in_wal_mode(path: Path, locks: _Locks, handle: int, *, read_only: bool) -> Any:
    """Open a file whose log has locks of its own, in another file, which only SQLite itself can take.

    Nobody may open it meanwhile: another copy in this process would begin the log anew. Where other processes have it
    open, they read and write on.
    """
    if locks.alone():
        connection = _connect(f"{_uri(path, read_only)}&vfs=unix-none")
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA locking_mode = EXCLUSIVE")  # then it needs no locks in the other file
        return connection
    connection = _connect(_uri(path, read_only))
    sqlite_handles.share(handle, 1)
    connection.once_open = lambda: _keep_newcomers_out(path, connection, locks)
    connection.keeping_out = locks.keeping_out
    connection.close = _all(lambda: sqlite_handles.share(handle, -1), locks.release, connection.close)
    return connection


def _keep_newcomers_out(path: Path, connection: Any, locks: _Locks) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
        cursor.execute(_BEGIN_TO_READ)  # takes the locks that last as long as the connection
    locks.let_nobody_in()
    if sqlite_handles.others(path):  # it came in between
        raise InTheWay(IN_WAL_MODE)


def _connect(uri: str) -> Any:
    return adbc_driver_sqlite.dbapi.connect(uri, autocommit=True)


def _uri(path: Path, read_only: bool) -> str:
    return f"file:{quote(path.absolute().as_posix())}?mode={'ro' if read_only else 'rwc'}"


def _open(path: Path, read_only: bool) -> tuple[int, bool]:
    """Open the file for its locks: to write if possible, as else it can be locked only to read."""
    writable = True
    try:
        handle = os.open(path, os.O_RDWR if read_only else os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        handle, writable = os.open(path, os.O_RDONLY), False
    _handles.add(handle)
    sqlite_handles.hold(handle, 1)
    return handle, writable


def _in_fork() -> None:
    """Leave the locks to the parent: they would outlive it otherwise."""
    while _handles:
        handle = _handles.pop()
        sqlite_handles.hold(handle, -1)
        os.close(handle)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_fork)


def _all(*steps: Callable[[], None]) -> Callable[[], None]:
    """Make a function that runs several, each once, also if one of them fails or is interrupted."""
    left = list(steps)

    def close() -> None:
        if left:
            try:
                left.pop(0)()
            finally:
                close()

    return close


class _Reader:
    """A second connection to a file, for what is read while another copy of SQLite in this process has it open.

    It cannot write, so SQLite fails where it takes a journal for left behind, rather than to roll it back.
    """

    def __init__(self, path: Path, locks: _Locks, handle: int) -> None:
        self._path, self._locks, self._handle = path, locks, handle
        self._connection: Any = None

    def cursor(self, statement: str, options: Mapping[str, Any]) -> Any:
        """Open a cursor, if a statement is one to be read by this connection.

        Args:
            statement: the statement.
            options: of the driver.

        Returns:
            The cursor, or None.
        """
        locks = self._locks
        if locks.in_transaction or locks.changed or not _QUERIES.match(statement):
            return None
        # SQLite would delete the journal of a file that is empty.
        if not sqlite_handles.others(self._path) or not os.fstat(self._handle).st_size:
            return None
        if self._connection is None:
            self._connection = _connect(f"{_uri(self._path, read_only=True)}&nolock=1")
            sqlite_handles.hold(self._handle, _OPENED)
        return _Cursor(self._connection, locks, options, only_reads=True)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            sqlite_handles.hold(self._handle, -_OPENED)
            self._connection.close()


class _Cursor(adbc_driver_manager.dbapi.Cursor):
    """A cursor that has the locks which its statement needs."""

    def __init__(
        self, connection: Any, locks: _Locks, options: Mapping[str, Any] | None, *, only_reads: bool = False
    ) -> None:
        self._locks, self._alone, self._reading, self._only_reads = locks, False, False, only_reads
        super().__init__(connection, options, dbapi_backend=connection._backend)

    def execute(self, operation: Any, parameters: Any = None) -> Any:
        """Run a statement."""
        if timeout := _BUSY_TIMEOUT.fullmatch(operation):
            self._locks.seconds = int(timeout[1]) / 1000
            return self
        if operation == BEGIN:
            return self._begin()
        if operation in ("COMMIT", "ROLLBACK"):
            return self._end(operation)
        if not self._locks.in_transaction:
            if _TUNES.match(operation) and self._locks.postpone(operation):
                return self
            return self._execute_alone(operation, parameters)
        if _WRITES_ROWS.match(operation) and self._locks.outgrown():
            self._locks.exclude()
            super().execute("PRAGMA cache_spill = ON")
        return super().execute(operation, parameters)

    def _execute_alone(self, operation: str, parameters: Any) -> Any:
        if self._alone:
            self._leave()
            self._locks.release()
        self._alone = True
        if not _TUNES.match(operation) and not _QUERIES.match(operation):
            self._locks.changed = True
        if not _READS.match(operation):
            self._locks.exclude()
            self._tune()
            return super().execute(operation, parameters)
        if self._only_reads:
            self._locks.share_with(self._is_there_a_journal)
            return super().execute(operation, parameters)
        self._locks.share()
        if _QUERIES.match(operation):
            # Once SQLite is reading, it looks for no journal any more. Who wants to write must not wait for the whole query.
            super().execute("BEGIN")
            self._reading = True
            super().execute(_BEGIN_TO_READ)
            self._locks.under_way()
            return super().execute(operation, parameters)
        super().execute(operation, parameters)
        self._locks.under_way()
        return self

    def _is_there_a_journal(self) -> bool:
        """Begin to read, unless there is a journal that seems to be left behind."""
        super().execute("BEGIN")
        self._reading = True
        try:
            super().execute(_BEGIN_TO_READ)
        except adbc_driver_manager.Error as error:
            self._leave()
            if "readonly" in str(error):  # SQLITE_READONLY_ROLLBACK
                return True
            raise
        return False

    def _begin(self) -> Any:
        self._locks.reserve()
        try:
            self._tune()
            # Changed pages stay in memory until the commit, as before that others may read the file.
            super().execute("PRAGMA cache_spill = OFF")
            super().execute(BEGIN)
        except BaseException:
            self._locks.release()
            raise
        self._locks.begun()
        return self

    def _tune(self) -> None:
        for statement in self._locks.postponed:
            super().execute(statement)
        self._locks.postponed.clear()

    def _end(self, operation: str) -> Any:
        if operation == "COMMIT":
            self._locks.exclude()
            super().execute(operation)
            self._locks.release()
            return self
        try:
            return super().execute(operation)
        finally:
            self._locks.release()

    def adbc_ingest(self, table_name: str, data: Any, *args: Any, **options: Any) -> int:
        """Write a frame into a temporary table."""
        self._locks.ingested += data.estimated_size()
        return super().adbc_ingest(table_name, data, *args, **options)

    def close(self) -> None:
        """Close the cursor, and drop the locks if its statement was no part of a transaction."""
        try:
            self._leave()
            super().close()
        except BaseException:  # Ctrl-C; with an open statement the connection could not be closed
            super().close()
            raise
        finally:
            if self._alone:
                self._alone = False
                self._locks.release()

    def _leave(self) -> None:
        """End the statement before, which is no part of a transaction: who waits for a lock must have none."""
        if self._reading:
            self._reading = False
            with suppress(adbc_driver_manager.Error):
                super().execute("ROLLBACK")


def _locked() -> adbc_driver_manager.OperationalError:
    """Build the error in SQLite's words."""
    return adbc_driver_manager.OperationalError(
        "database is locked", status_code=adbc_driver_manager.AdbcStatusCode.IO
    )


class _Locks:
    """The locks of one connection.

    Attributes:
        seconds: how long to wait for a lock.
        in_transaction: whether they are kept from statement to statement.
        changed: whether the connection may see anything, such as temporary tables, that another one does not.
        ingested: bytes that the transaction has staged.
        postponed: statements to be run before the connection writes.
    """

    def __init__(self, path: Path, handle: int, writable: bool) -> None:
        import fcntl

        self.seconds, self.in_transaction, self.ingested, self.changed = 0.1, False, 0, False
        self.postponed: list[str] = []
        self._path, self._handle, self._writable = path, handle, writable
        self._journal = sqlite_handles.beside(path, "-journal")
        self._log = sqlite_handles.beside(path, "-wal")
        self._fcntl = fcntl  # which Windows lacks; connections are also closed when Python ends, and imports nothing more
        self._read, self._write, self._none = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
        self._exclusive, self._open = False, True

    def share(self) -> None:
        """Let nobody change the file, nor begin to write until the statement is under way."""
        self._wait(self._try_to_share)

    def postpone(self, statement: str) -> bool:
        """Put off a statement until the connection writes, if it may have to wait for somebody else's transaction."""
        postponed = sqlite_handles.others(self._path)
        if postponed:
            self.postponed.append(statement)
        return postponed

    def share_with(self, journal: Callable[[], bool]) -> None:
        """Let nobody change the file while a connection reads that cannot write, once that finds no journal."""

        def attempt() -> int | None:
            holder = self._try_to_read()
            if holder is None and journal():
                self.release()
                return self._asked(self._write, RESERVED) or os.getpid()
            return holder

        self._wait(attempt)

    def under_way(self) -> None:
        """Let others begin to write, as SQLite has looked for what a crash has left behind."""
        self._lock(self._none, RESERVED)

    def reserve(self) -> None:
        """Let nobody else begin to write; others may go on reading."""
        self._wait(self._try_to_reserve)

    def exclude(self) -> None:
        """Let nobody else read or write."""
        if self._exclusive:
            return
        if not self.in_transaction:
            self.reserve()
        try:
            self._wait(self._try_to_exclude)
        except BaseException:
            if self.in_transaction:
                self._let_read()
            else:
                self.release()
            raise

    def begun(self) -> None:
        """Keep the locks until the end of the transaction that has begun."""
        self.in_transaction, self.ingested, self.changed = True, 0, True
        if self._writable:
            # Only now: SQLite must not see it while it rolls back what was left behind.
            self._lock(self._write, RESERVED)
        self._let_read()

    def release(self) -> None:
        """Drop all locks."""
        self._lock(self._none, (_PENDING[0], 1 + 1 + SHARED[1]))
        self.in_transaction = self._exclusive = False

    def alone(self) -> bool:
        """Have the file alone, unless another process has it open.

        Raises:
            InTheWay: something in this process has it open.
            adbc_driver_manager.Error: another connection has it alone.
        """
        if not self._writable:
            return False
        holder = self._try_to_exclude()
        if holder is None and not self._log.exists():
            return True
        # Who has it open here has no lock any more if anything in this process has closed the file.
        others = sqlite_handles.others(self._path)
        if holder is None and not others:
            return True
        self.release()
        if others or holder == os.getpid():
            raise InTheWay(IN_WAL_MODE)
        if holder == _UNKNOWN:
            raise _locked()
        return False

    def let_nobody_in(self) -> None:
        """Let nobody begin to read or write, for as long as the handle is open; who has begun may go on."""
        if self._writable:
            self._wait(lambda: self._lock(self._write, _PENDING))

    @contextmanager
    def keeping_out(self) -> Iterator[bool]:
        """Let nobody begin to read or write, so that closing the file takes no lock away; tell whether that holds."""
        self.release()
        try:
            yield not self._writable or any(self._try_to_keep_out() for _ in range(_TRIES))
        finally:
            self.release()

    def _try_to_keep_out(self) -> bool:
        """Take the lock which everybody who begins to read has for a moment."""
        if self._lock(self._write, _PENDING) is None:
            return True
        time.sleep(_PAUSES[0])
        return False

    def close(self) -> None:
        """Close the handle, whose number may be that of another from then on."""
        if self._open:
            self._open = False
            _handles.discard(self._handle)
            sqlite_handles.hold(self._handle, -1)
            os.close(self._handle)

    def outgrown(self) -> bool:
        """Tell whether the transaction may change more pages than are kept in memory."""
        size = self.ingested or os.fstat(self._handle).st_size
        return not self._exclusive and size > CACHE * 2**20

    def _let_read(self) -> None:
        """Go back from excluding others to what a transaction needs."""
        self._lock(self._read, SHARED)
        self._lock(self._none, _PENDING)
        self._exclusive = False

    def _wait(self, attempt: Callable[[], int | None]) -> None:
        """Try until nobody is in the way, or the time is up, or the caller may be who keeps the lock."""
        start, pause, changes, still = time.monotonic(), _PAUSES[0], self._changes(), time.monotonic()
        while (holder := attempt()) is not None:
            here, now = holder == os.getpid(), time.monotonic()
            before, changes = changes, self._changes()
            still = now if changes != before else still
            if here and now - still > PATIENCE * (1 if self._commits_nothing() else _COMMITS):
                raise InTheWay("is in the middle of reading it or of a transaction on it")
            if now - start > (max(self.seconds, PATIENCE * (_COMMITS + 1)) if here else self.seconds):
                raise _locked()
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _commits_nothing(self) -> bool:
        """Tell whether no other copy of SQLite in this process has begun to commit, which a slow disk makes long."""
        return self._asked(self._read, _PENDING) != os.getpid()

    def _changes(self) -> bytes:
        """Read how often the file was changed: while that grows, others come to their end."""
        return os.pread(self._handle, *_CHANGES)

    def _try_to_read(self) -> int | None:
        holder = self._lock(self._read, _PENDING)
        if holder is None:
            holder = self._lock(self._read, SHARED)
            self._lock(self._none, _PENDING)
        return holder

    def _try_to_share(self) -> int | None:
        holder = self._try_to_read()
        if holder is None:
            holder = self._try_to_keep_journal()
            if holder is not None:
                self.release()
        return holder

    def _try_to_keep_journal(self) -> int | None:
        """Make sure that SQLite takes a journal for left behind, and rolls it back, only where it is.

        SQLite asks whether somebody holds the lock to write, and is not told of another copy in this process.
        """
        if sqlite_handles.hot(self._journal):
            writer = self._asked(self._write, RESERVED)
            if writer is None:
                # A lock of this process is gone, too, once anything in it has closed the file.
                return os.getpid() if sqlite_handles.others(self._path) else self._try_to_exclude()
        elif not sqlite_handles.others(self._path):
            return None
        else:
            writer = self._lock(self._read, RESERVED)
            if writer is None:
                return _UNKNOWN if sqlite_handles.hot(self._journal) else None
        return writer if writer == os.getpid() or sqlite_handles.others(self._path) else None

    def _try_to_reserve(self) -> int | None:
        holder = self._try_to_share()
        if holder is None and self._writable and not self._exclusive:  # else SQLite says that it cannot write
            holder = self._lock(self._write, RESERVED)
            if holder is not None:
                self.release()
        return holder

    def _try_to_exclude(self) -> int | None:
        if not self._writable:
            return None
        holder = self._lock(self._write, _PENDING)  # from now on nobody begins to read
        if holder is None:
            holder = self._lock(self._write, SHARED)
        self._exclusive = holder is None
        return holder

    def _lock(self, kind: int, where: tuple[int, int]) -> int | None:
        """Change a lock; if somebody is in the way, tell which process, as far as the system knows."""
        if not self._open:
            return None
        try:
            self._fcntl.fcntl(self._handle, self._fcntl.F_OFD_SETLK, flock(kind, *where))
        except (BlockingIOError, PermissionError):
            return self._asked(kind, where) or _UNKNOWN
        except OSError as error:  # such as a file system of the network that has no locks
            raise adbc_driver_manager.OperationalError(
                f"the file cannot be locked: {error.strerror}",
                status_code=adbc_driver_manager.AdbcStatusCode.IO,
            ) from error
        return None

    def _asked(self, kind: int, where: tuple[int, int]) -> int | None:
        """Ask which process is in the way of a lock: -1 if its lock is a handle's own."""
        found, holder = told(self._fcntl.fcntl(self._handle, self._fcntl.F_OFD_GETLK, flock(kind, *where)))
        return None if found == self._none else holder
