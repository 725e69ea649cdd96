"""Every error that crave_bulk raises, and the map from a database's own codes to them.

    BulkError                   anything that crave_bulk refuses or cannot do
    ├── ContractError           a table declaration, or a frame that does not fit its table
    │   └── Unreadable          a row of the database holds what a frame cannot
    ├── RejectedRows            rows were refused and ``on_reject="raise"``; carries the report
    ├── PlanStale               the target has changed since the plan was made
    ├── UndoRefused             a batch cannot be taken back; carries the rows that changed since
    ├── Cancelled               ``db.cancel()`` stopped the call
    ├── TimedOut                the time of a call, or the database's own limit, is up
    ├── ConnectionFailed        the database is not there, refuses the login, or was lost
    │   └── CommitUnknown       it was lost during the commit, and nothing tells whether that came to be
    └── DatabaseError           the database refused a statement
        ├── TableNotFound       no such table
        ├── ReadOnlyDatabase    the database, the file or the login may only read
        ├── PermissionRefused   the login may not do this
        ├── ConstraintViolated  a unique, reference, NOT NULL or CHECK constraint
        ├── DatabaseBusy        a lock, a deadlock or a serialization failure: run it again
        └── DatabaseFull        no room on the disk, or a quota

Each message says what happened, where, and what to do next; the driver's own error is kept as the
cause. The class is chosen by SQLSTATE, the exact code before its class of two characters, and never
by searching a message for words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from crave_bulk.fate import Fate
    from crave_bulk.report import Report

_SHOWN = 61
_IN_A_WRITE = "change the value in the database, or leave the column out of the call; nothing was written"
CHANGED_SINCE = dict.fromkeys(("table", "key", "column", "written", "found"), pl.String)


class BulkError(Exception):
    """Base of every error that crave_bulk raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process with all attributes; `Exception` would call the class with its message alone."""
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[BulkError], args: tuple[Any, ...]) -> BulkError:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def shown(value: Any) -> str:
    """Write a value that was passed for a message: shortened, and never failing itself.

    Example:
        >>> shown(10**5000), shown("a" * 100)
        ('<int>', "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…")
    """
    try:
        text = repr(value)
    except Exception:  # a number of too many digits, or an object that has no repr
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class ContractError(BulkError):
    """A table declaration is wrong, or a frame does not fit its table."""


class Unreadable(ContractError):
    """A row of the database holds a value that a frame cannot, as another program has written it.

    Attributes:
        columns: the columns that hold such values.
        said: the message without what to do.
        is_text: the value can be read as text.
    """

    def __init__(
        self, said: str, columns: tuple[str, ...], advice: str = _IN_A_WRITE, *, is_text: bool = True
    ) -> None:
        super().__init__(f"{said}: {advice}")
        self.columns, self.said, self.is_text = columns, said, is_text


class RejectedRows(BulkError):
    """Rows were refused, so nothing was written.

    Attributes:
        report: what became of each row; see `Report.rejected` and `Report.failures`.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report.refusal())
        self.report = report


class PlanStale(BulkError):
    """The target has changed since the plan was made, or the plan was applied already; nothing was written."""


class UndoRefused(BulkError):
    """A batch cannot be taken back; nothing was changed.

    Attributes:
        rows: what has changed since, one line per row and column: table, key, column, written (by the batch),
            found (now); empty where something else is in the way.
        reason: why, as a sentence.
        advice: what to do.
    """

    def __init__(self, reason: str, advice: str = "", rows: pl.DataFrame | None = None) -> None:
        super().__init__(reason, advice)
        self.reason, self.advice = reason, advice
        self.rows = pl.DataFrame(schema=CHANGED_SINCE) if rows is None else rows

    def __str__(self) -> str:
        return f"{self.reason}; nothing was changed{f': {self.advice}' if self.advice else ''}"


class Cancelled(BulkError):
    """The call was cancelled from another thread; nothing was written."""


class TimedOut(BulkError):
    """The time of a call, or the database's own limit for a statement, is up; nothing was written."""


class ConnectionFailed(BulkError):
    """The database is not there, refuses the login, or was lost on the way."""


class CommitUnknown(ConnectionFailed):
    """The connection was lost during the commit, and nothing tells whether the batch was written.

    Attributes:
        batches: the batches of the transaction.
    """

    def __init__(self, message: str, batches: tuple[Fate, ...] = ()) -> None:
        super().__init__(message)
        self.batches = batches


class DatabaseError(BulkError):
    """The database refused a statement.

    Attributes:
        sqlstate: the five characters of the SQL standard (PostgreSQL), or the name of the result
            code (SQLite), such as ``SQLITE_BUSY``; empty where the driver gave none.
        constraint: the constraint's name (PostgreSQL) or columns (SQLite), where one was broken.
        said: the database's own words, with the code.
        columns: the columns that it named.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str = "",
        constraint: str | None = None,
        said: str = "",
        columns: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.said = said or message
        self.columns = columns


class TableNotFound(DatabaseError):
    """There is no such table."""


class ReadOnlyDatabase(DatabaseError):
    """The database, the file or the login may only read."""


class PermissionRefused(DatabaseError):
    """The login may not do this."""


class ConstraintViolated(DatabaseError):
    """A unique, reference, NOT NULL or CHECK constraint was broken."""


class DatabaseBusy(DatabaseError):
    """A lock, a deadlock or a serialization failure: the same call may succeed if run again."""


class HeldHere(DatabaseBusy):
    """Something else in this process or thread is in the way: waiting longer for it is of no use."""


class DatabaseFull(DatabaseError):
    """No room is left on the disk, or a quota is used up."""


_BY_CODE: dict[str, type[BulkError]] = {
    # PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
    "08": ConnectionFailed,
    "57P01": ConnectionFailed,
    "57P02": ConnectionFailed,
    "57P03": ConnectionFailed,
    "42P01": TableNotFound,
    "42703": ContractError,
    "42501": PermissionRefused,
    "25006": ReadOnlyDatabase,
    "23": ConstraintViolated,
    "40": DatabaseBusy,
    "55P03": DatabaseBusy,
    "53100": DatabaseFull,
    "57014": TimedOut,  # statement_timeout, or another program's cancel: our own is told apart before
    # SQLite: https://www.sqlite.org/rescode.html
    "SQLITE_CONSTRAINT_UNIQUE": ConstraintViolated,
    "SQLITE_CONSTRAINT_NOTNULL": ConstraintViolated,
    "SQLITE_CONSTRAINT_CHECK": ConstraintViolated,
    "SQLITE_CONSTRAINT_FOREIGNKEY": ConstraintViolated,
    "SQLITE_BUSY": DatabaseBusy,
    "SQLITE_LOCKED": DatabaseBusy,
    "SQLITE_READONLY": ReadOnlyDatabase,
    "SQLITE_FULL": DatabaseFull,
    "SQLITE_CANTOPEN": ConnectionFailed,
    "SQLITE_NOTADB": ConnectionFailed,
    "SQLITE_CORRUPT": DatabaseError,
    "SQLITE_NO_TABLE": TableNotFound,
    "SQLITE_NO_COLUMN": ContractError,
}

_NEXT_STEP: dict[type[BulkError], str] = {
    ContractError: "add the column to the table in the database, or correct the declaration",
    TableNotFound: "create it with db.create(...), or check its name and schema",
    ReadOnlyDatabase: "connect with a login or a file that may be written",
    PermissionRefused: "grant the login what it lacks, or connect with another",
    ConstraintViolated: "correct the rows that break it and run the call again; nothing was written",
    DatabaseBusy: "run the call again; nothing was written",
    DatabaseFull: "make room and run the call again; nothing was written",
    TimedOut: "raise the limit of the database, or write fewer rows at once; nothing was written",
    ConnectionFailed: "check that the database is there and reachable, then run the call again",
}


def error_class(code: str) -> type[BulkError]:
    """Choose the error class for a database's code: the exact code first, then its class.

    Args:
        code: a SQLSTATE (five characters) or the name of a SQLite result code.

    Returns:
        The class to raise; `DatabaseError` for a code that has no class of its own.

    Example:
        >>> error_class("23505").__name__, error_class("SQLITE_BUSY").__name__, error_class("22003").__name__
        ('ConstraintViolated', 'DatabaseBusy', 'DatabaseError')
    """
    return _BY_CODE.get(code) or _BY_CODE.get(code[:2], DatabaseError)


def database_error(
    code: str, message: str, constraint: str | None = None, columns: tuple[str, ...] = ()
) -> BulkError:
    """Build the error for what a database said, ending with what to do next.

    Args:
        code: a SQLSTATE, or the name of a SQLite result code.
        message: the database's own words, without secrets.
        constraint: the constraint that was broken, where there is one.
        columns: the columns that the database named.

    Returns:
        The error, to be raised ``from`` the driver's.

    Example:
        >>> print(database_error("SQLITE_BUSY", "database is locked"))
        database is locked [SQLITE_BUSY]: run the call again; nothing was written
    """
    kind = error_class(code)
    said = f"{message} [{code}]" if code else message
    text = f"{said}: {_NEXT_STEP[kind]}" if kind in _NEXT_STEP else said
    if issubclass(kind, DatabaseError):
        return kind(text, sqlstate=code, constraint=constraint, said=said, columns=columns)
    return kind(text)


def held_by_thread(label: str, sqlstate: str) -> HeldHere:
    """Build the error for a call that waits for a transaction that cannot go on before the call has ended.

    Args:
        label: the database.
        sqlstate: what the database said.

    Returns:
        The error.
    """
    return HeldHere(
        f"another task or generator of this thread has a transaction open on {label}, which cannot go on while this call "
        "waits for it: end that transaction first, or run each whole transaction by asyncio.to_thread(function); "
        "nothing was written",
        sqlstate=sqlstate,
    )


def held_beside(label: str, error: DatabaseBusy) -> DatabaseBusy:
    """Build the error for a lock that a transaction of another thread may hold.

    Args:
        label: the database.
        error: what the database said.

    Returns:
        The error.
    """
    return DatabaseBusy(
        f"{error}; another thread of this program has a transaction open on {label}: if it waits for this call to end, as "
        "join() does, make the call where the transaction was opened, or after it has ended",
        sqlstate=error.sqlstate,
    )


# What a row can be to blame for. PostgreSQL: data exception, constraint, trigger, RAISE in a function, view
# with check option; row level security has the code of any other missing right. SQLite gives the words of
# a trigger's RAISE without a code.
_ROWS = {"22", "23", "09", "27", "38", "39", "44", "P0"}
# Classes of PostgreSQL itself that are about the statement, the connection, the server or another transaction. Any
# other, such as ZZ001, is what somebody's trigger or function says of a row.
_NOT_ROWS = frozenset(
    [
        "00",
        "01",
        "02",
        "03",
        "08",
        "0A",
        "0B",
        "0F",
        "0L",
        "0P",
        "0Z",
        "20",
        "21",
        "24",
        "25",
        "26",
        "28",
        "2B",
        "2D",
        "2F",
        "34",
        "3B",
        "3D",
        "3F",
        "40",
        "42",
        "53",
        "54",
        "55",
        "57",
        "58",
        "72",
        "F0",
        "HV",
        "XX",
    ]
)
_CODE = 5  # characters of a SQLSTATE
# 54000: a value that no index can hold. 21000: two rows that are one to ON CONFLICT, as a trigger has given them one key.
_ROWS_EXACT = {
    "42501",
    "54000",
    "21000",
    "",
    *(code for code in _BY_CODE if code.startswith("SQLITE_CONSTRAINT")),
}


def about_rows(error: DatabaseError) -> bool:
    """Tell whether single rows may be to blame for what the database refused.

    Args:
        error: the refusal.

    Returns:
        False where the trouble is a lock, the disk, the statement or the server.

    Example:
        >>> [about_rows(DatabaseError("no", sqlstate=code)) for code in ("23514", "ZZ001", "57014")]
        [True, True, False]
    """
    code = error.sqlstate
    unknown = len(code) == _CODE and code[:2] not in _NOT_ROWS
    return code in _ROWS_EXACT or code[:2] in _ROWS or unknown
