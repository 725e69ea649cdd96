"""SQLite, embedded: the default database."""

from __future__ import annotations

import errno
import json
import re
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import adbc_driver_manager
import adbc_driver_sqlite.dbapi
import polars as pl

from crave_bulk import sql
from crave_bulk.backends import (
    catalog,
    sqlite_catalog,
    sqlite_ddl,
    sqlite_handles,
    sqlite_locks,
    sqlite_types,
)
from crave_bulk.backends.base import Backend, Decimals, MergeParts, Patience, Phrases, on_conflict_merge
from crave_bulk.backends.codec import Codec, Form
from crave_bulk.backends.ddl import Alteration, Missing
from crave_bulk.errors import (
    BulkError,
    ConnectionFailed,
    ContractError,
    DatabaseBusy,
    DatabaseError,
    HeldHere,
    database_error,
)
from crave_bulk.retry import again
from crave_bulk.table import Column, Contract, Reference, TableName
from crave_bulk.watch import Watch

if TYPE_CHECKING:
    from crave_bulk.session import Session

_ON_CONNECT = (
    "PRAGMA busy_timeout = 100",  # milliseconds; first, so that the others wait as well
    "PRAGMA foreign_keys = ON",  # does nothing inside a transaction, so it is set here
    f"PRAGMA cache_size = -{sqlite_locks.CACHE * 1024}",  # KiB; a million rows merge in 7 s rather than 11
)
_WAITING = "PRAGMA busy_timeout = 10000"  # last: who opens a locked file looks now and then whether to go on
_ON_CONNECT_FILE = (
    "PRAGMA page_size = 16384",  # bytes, of a new file: bulk loads take a fifth less than with 4,096
    "PRAGMA temp_store = MEMORY",  # staging tables; they are as large as the batch, which is in memory too
    # Not journal_mode = WAL: it would be a lasting change of somebody's file, a bulk load is no faster
    # with it, and a sqlite3 connection of the same process would lose rows (see sqlite_handles).
)

# The driver passes on neither SQLite's result code nor a SQLSTATE (adbc-driver-sqlite 1.13: sqlstate,
# vendor_code and details are all empty), only sqlite3_errmsg(). Its texts are constants of the library
# (sqlite3ErrStr and the constraint messages), so the code is read back from how the text begins.
_OVERFLOW = "abs(-9223372036854775807 - 1)"  # the one function that fails rather than give a float
_LIMIT = 2**63 - 1024  # the largest float below what 64 bits hold
_MOST_ZEROS = 18  # of the largest power of ten that they hold
_CODES = (
    ("UNIQUE constraint failed: ", "SQLITE_CONSTRAINT_UNIQUE"),
    ("NOT NULL constraint failed: ", "SQLITE_CONSTRAINT_NOTNULL"),
    ("CHECK constraint failed: ", "SQLITE_CONSTRAINT_CHECK"),
    ("FOREIGN KEY constraint failed", "SQLITE_CONSTRAINT_FOREIGNKEY"),
    ("no such table: ", "SQLITE_NO_TABLE"),
    ("no such column: ", "SQLITE_NO_COLUMN"),
    ("integer overflow", "22003"),  # numeric_value_out_of_range, as PostgreSQL says
    ("interrupted", "SQLITE_INTERRUPT"),
    ("database is locked", "SQLITE_BUSY"),
    ("database table is locked", "SQLITE_LOCKED"),
    ("database schema is locked", "SQLITE_LOCKED"),
    ("attempt to write a readonly database", "SQLITE_READONLY"),
    ("database or disk is full", "SQLITE_FULL"),
    ("unable to open database file", "SQLITE_CANTOPEN"),
    ("file is not a database", "SQLITE_NOTADB"),
    ("database disk image is malformed", "SQLITE_CORRUPT"),
)

_ZEROS = {pl.Int64: "0", pl.Float64: "0.0", pl.String: "''", pl.Binary: "x''"}  # every dtype on this wire


class SQLite(Backend):
    """A SQLite file, or a private database in memory."""

    name = "sqlite"
    concurrent = False
    reads_back = False
    remote = False
    stops = False  # the driver's StatementCancel is not implemented (adbc-driver-sqlite 1.13)
    patience = Patience("PRAGMA busy_timeout = {}", 10)
    aborts = False
    counts_on = True
    widest = 2_000
    # A constraint may be declared with ON CONFLICT IGNORE, REPLACE or ROLLBACK, which leave rows out, delete others or end
    # the transaction, and say nothing; what a statement says of conflicts goes before that. It holds for the statements
    # of triggers too, so it is said only where it must be.
    strict = " OR ABORT"
    not_tables = MappingProxyType({"view": sqlite_catalog.VIEW})
    updated = ""  # it does not know the alias, nor any table but the target
    series = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n)"
    # The write lock is taken at once: what a batch reads first is still true when it writes.
    begin = sqlite_locks.BEGIN
    # As bytes, because SQLite's functions on text stop at a NUL character.
    phrases = Phrases(
        mark="?{0}",
        contains="instr(CAST({0} AS BLOB), CAST({1} AS BLOB)) > 0",
        startswith="substr(CAST({0} AS BLOB), 1, length(CAST({1} AS BLOB))) = CAST({1} AS BLOB)",
        endswith="substr(CAST({0} AS BLOB), -length(CAST({1} AS BLOB))) = CAST({1} AS BLOB)",
        element="EXISTS (SELECT 1 FROM json_each({0}) WHERE atom = {1})",
        integer="({0})",
        real="CAST({0} AS REAL)",
        text="({0})",
        array="json_array({0})",
        shown="quote({0})",
    )
    # The driver reserves memory for a whole batch of rows per column, used or not.
    statement_options = {"adbc.sqlite.query.batch_rows": "65536"}  # noqa: RUF012

    def __init__(self, url: str) -> None:
        place, _, options = url.partition("://")[2].partition("?")
        if place and not place.startswith("/"):
            raise ContractError(
                f"{url!r} has two slashes: write sqlite:///{place} for a file, or sqlite:// for memory"
            )
        if options not in ("", "mode=ro"):
            raise ContractError(f"the option {options!r} of {url!r} is not known: the only one is ?mode=ro")
        path = unquote(place.removeprefix("/"))
        if "\0" in path:
            raise ConnectionFailed(
                f"cannot open {url!r}: a file's name cannot hold a NUL: take %00 out of it"
            )
        self.in_memory = path in ("", ":memory:")
        self._read_only = options == "mode=ro"
        self._path = Path(path).absolute()  # also after os.chdir
        if self.in_memory:
            # Named, so that connections share it; unique, so that two databases do not.
            self._uri = f"file:crave_bulk_{uuid.uuid4().hex}?mode=memory&cache=shared"
            self.label = "sqlite://"
        else:
            self.label = f"sqlite:///{path}"
        # A database in memory lives as long as some connection to it. A file is not kept open between
        # calls: Python's own sqlite3 is another copy of SQLite in this process, and when it closes the
        # file, the process loses all its POSIX locks on it (see sqlite_handles).
        self.pooled = self.in_memory
        self._keeper = self.connect() if self.in_memory else None
        if not self.in_memory:
            with suppress(HeldHere):  # the first call looks again
                for attempt in again(Watch(), _is_busy):
                    with attempt:
                        self.connect().close()

    def connect(self) -> Any:
        """Open one more connection to the same database.

        Raises:
            BulkError: the file cannot be opened, is locked, or is not a database.
        """
        try:
            connection = self._open()
        except (adbc_driver_manager.Error, OSError) as error:
            if isinstance(busy := self.error(error), DatabaseBusy):
                raise busy from None
            raise ConnectionFailed(
                f"cannot open {self.label}: {_why_not(error, self._path, self._read_only)}"
            ) from error
        pragmas = _ON_CONNECT if self.in_memory or self._read_only else _ON_CONNECT + _ON_CONNECT_FILE
        try:
            with connection.cursor() as cursor:
                for pragma in (*pragmas, _WAITING):
                    cursor.execute(pragma)
        except BaseException as error:
            connection.close()
            if not isinstance(error, adbc_driver_manager.Error):
                raise  # Ctrl-C
            if "file is not a database" in str(error):  # SQLITE_NOTADB, see _CODES
                raise ConnectionFailed(f"{self._path} is not a SQLite database: check the path") from error
            raise self.error(error) from error
        return connection

    def _open(self) -> Any:
        if self.in_memory:
            return adbc_driver_sqlite.dbapi.connect(self._uri, autocommit=True)
        locks = sqlite_locks.available()
        deadline = time.monotonic() + sqlite_locks.PATIENCE
        while True:
            try:
                return sqlite_handles.opened(
                    self._path,
                    lambda: sqlite_locks.connect(self._path, read_only=self._read_only),
                    read_only=self._read_only,
                    locks=locks,
                )
            except sqlite_handles.InTheWay:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def cursor(self, connection: Any, statement: str) -> Any:
        """Open a cursor for a statement.

        Args:
            connection: one that `connect` has opened.
            statement: the statement.

        Returns:
            The cursor, which may be that of a connection beside it which only reads.

        Raises:
            adbc_driver_manager.Error: that one cannot be opened.
        """
        reader = getattr(connection, "reader", None)
        beside = reader and reader.cursor(statement, self.statement_options)
        return beside or super().cursor(connection, statement)

    def close(self) -> None:
        """Close the kept connection; a database in memory is gone with it."""
        if self._keeper is not None:
            self._keeper.close()

    def table(self, name: TableName) -> str:
        """Quote a table's name; SQLite has no schemas, so ``sales.orders`` is one name with a dot in it.

        Args:
            name: the name in parts.

        Returns:
            The quoted name.
        """
        return sql.quote(_plain(name))

    def codec(self, column: Column) -> Codec:
        """Choose how a column is stored: natively where that is exact, else as text.

        Args:
            column: a column of a contract.

        Returns:
            Its codec.

        Raises:
            ContractError: there is no exact form for the dtype.
        """
        return sqlite_types.codec(column)

    def form(self, column: Column) -> Form:
        """Choose how every value travels that a column of the database can hold.

        Args:
            column: a column that was found in the database.

        Returns:
            Its form.
        """
        return sqlite_types.form(column)

    def overview(self, session: Session, name: TableName) -> catalog.Overview:
        """Read from the catalog which columns a table has.

        Args:
            session: a connection.
            name: the table.

        Returns:
            What was found.

        Raises:
            TableNotFound: there is no such table.
            BulkError: the database refused.
        """
        found = session.fetch(sqlite_catalog.overview_sql(_plain(name))).item()
        if not json.loads(found):
            raise catalog.not_found(name, session.fetch(sqlite_catalog.TABLES_SQL)["name"].to_list())
        return sqlite_catalog.read_overview(found)

    def reflect(self, session: Session, name: TableName) -> Contract:
        """Read the contract of a table that exists from the catalog, in one query.

        Args:
            session: a connection.
            name: the table, in any case, as SQLite finds it.

        Returns:
            The contract.

        Raises:
            TableNotFound: there is no such table.
            ContractError: a column has a name that a frame or a report cannot use.
            BulkError: the database refused.
        """
        # As bytes: Polars takes any text from the driver for UTF-8, and panics where a damaged file has other.
        found = session.fetch(sqlite_catalog.facts_sql(_plain(name))).to_series().cast(pl.Binary).item()
        try:
            text = found.decode()
        except UnicodeDecodeError as error:
            raise DatabaseError(
                f"the catalog of {self.label} holds text that is no UTF-8: the file is damaged; restore it from a backup",
                sqlstate="SQLITE_CORRUPT",
            ) from error
        facts = sqlite_catalog.read_facts(name, _plain(name), text)
        if facts is None:
            raise catalog.not_found(name, session.fetch(sqlite_catalog.TABLES_SQL)["name"].to_list())
        return catalog.contract(facts)

    def holds(self, declared: Column, found: Column) -> bool:
        """Tell whether a column of the database will do for a declared one.

        Args:
            declared: the column as declared.
            found: the column as it is there.

        Returns:
            Whether it holds every value in the same form.
        """
        return sqlite_ddl.holds(declared, found)

    def keeps(self, declared: Column, found: Column) -> str:
        """Write the test for a value of a declared column that a column of another type keeps as it is.

        Args:
            declared: the column as declared.
            found: the column as it is there.

        Returns:
            SQL over the staging table's column; nothing if every value is kept.
        """
        return sqlite_ddl.keeps(declared, found)

    def alter(self, session: Session, contract: Contract, missing: Missing) -> Alteration:
        """Write the statements that add what a table lacks; a rebuild where SQLite cannot add it.

        Args:
            session: a connection.
            contract: the table, as declared.
            missing: what it lacks.

        Returns:
            The statements.

        Raises:
            ContractError: it is no table of its own that could be changed.
            BulkError: the database refused.
        """
        found = session.fetch(sqlite_ddl.existing_sql(_plain(contract.name)))["found"]
        if not len(found):
            raise ContractError(f"{contract.name} is a view or a temporary table: change it where it is made")
        parents = [self.table(reference.table) for reference in missing.references]
        return sqlite_ddl.alteration(sqlite_ddl.read_existing(found.item()), missing, parents)

    def orphans(self, contract: Contract, reference: Reference) -> str:
        """Ask how many rows break a reference that was just added, which SQLite does not check by itself.

        Args:
            contract: the table.
            reference: one of its references.

        Returns:
            A query of one number.
        """
        return sqlite_ddl.orphans_sql(_plain(contract.name), reference.columns, _plain(reference.table))

    def error(self, cause: Exception) -> BulkError:
        """Translate a driver's error by the code behind SQLite's constant texts.

        Args:
            cause: what the driver raised.

        Returns:
            The error to raise from it.
        """
        if isinstance(cause, sqlite_handles.InTheWay):
            return HeldHere(
                f"something else in this process, such as a sqlite3 or SQLAlchemy connection, {cause} ({self.label}): read "
                "its results to the end, commit and close it, then run the call again; nothing was written",
                sqlstate="SQLITE_BUSY",
            )
        text = str(cause).partition("\nquery:")[0]
        for noise in (
            "INTEGRITY: ",
            "INVALID_ARGUMENT: ",
            "IO: ",
            "[SQLite] ",
            "Failed to prepare query: ",
            "Failed to step query: ",
        ):
            text = text.removeprefix(noise)
        code = next((code for start, code in _CODES if text.startswith(start)), "")
        if re.fullmatch(r"table .* has no column named .*", text):
            code = "SQLITE_NO_COLUMN"
        constraint = text.partition("constraint failed: ")[2] or None
        # The columns of a key; of a CHECK its name, or its text with the columns in it.
        columns = tuple(re.findall(r"\w+", constraint)) if constraint else ()
        if constraint and code != "SQLITE_CONSTRAINT_CHECK":
            columns = tuple(part.rpartition(".")[2] for part in constraint.split(", "))
        return database_error(code, text, constraint, columns)

    def after_create(self, contract: Contract) -> list[str]:
        """Write what finds a reference that SQLite would accept now and trip over at the next write.

        Args:
            contract: the table that was created.

        Returns:
            Statements that fail where a parent or its column is not there, or is not unique.
        """
        if not contract.references:
            return []
        parents = [
            f"SELECT {sql.quote_all(r.targets, 'p.')} FROM {self.table(r.table)} AS p LIMIT 0"
            for r in contract.references
        ]
        return [*parents, f"PRAGMA foreign_key_check({self.table(contract.name)})"]

    def typed(self, query: str, dtypes: Sequence[pl.DataType]) -> str:
        """Put a row of zeros before a query's rows, which tells the driver the types of its columns.

        The driver infers a column's type from its first batch of rows, and fails when a later one does
        not fit, as when the first text comes after many NULLs.

        Args:
            query: the query.
            dtypes: the dtypes on the wire, in the order of its columns.

        Returns:
            A query whose first row is to be dropped.

        Example:
            >>> import crave_bulk as cb
            >>> with cb.connect() as db:
            ...     print(db.backend.typed('SELECT a AS c0, b AS c1 FROM t', [pl.Int64(), pl.String()]))
            SELECT 0 AS v0, '' AS v1 UNION ALL SELECT * FROM (SELECT a AS c0, b AS c1 FROM t)
        """
        zeros = ", ".join(f"{_ZEROS[type(dtype)]} AS v{i}" for i, dtype in enumerate(dtypes))
        return f"SELECT {zeros} UNION ALL SELECT * FROM ({query})"

    def uniques_sql(self, name: TableName) -> str:
        """Ask which unique keys a table has, and what keeps rows from being matched by them.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON list.
        """
        return sqlite_catalog.uniques_sql(self._literal(name))

    def pointing_sql(self, name: TableName) -> str:
        """Ask which references point at a table, and what they do when its rows are deleted.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON list.
        """
        return sqlite_catalog.pointing_sql(self._literal(name))

    def known_as(self, name: TableName) -> str:
        """Ask for a name that is a table's alone.

        Args:
            name: the table.

        Returns:
            A query of one text: the name in small letters, as its case does not matter.
        """
        return f"SELECT lower({self._literal(name)}) AS known_as"

    def _literal(self, name: TableName) -> str:
        return sql.literal(self.table(name)[1:-1].replace('""', '"'))

    def facts(self, contract: Contract) -> str:
        """Write what a batch has to know of its table.

        Args:
            contract: the table.

        Returns:
            The select list; a deferred reference cannot be checked before the commit here.
        """
        table = self._literal(contract.name)
        triggered = f"EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND tbl_name = {table} COLLATE NOCASE)"
        types = ", ".join(
            f"({sql.literal(c.name)}, {sql.literal(self.codec(c).sql_type.upper())})"
            for c in contract.columns
        )
        found = f"(SELECT count(*) FROM pragma_table_info({table}) WHERE (name, upper(type)) IN (VALUES {types})) = {len(contract.columns)}"
        exact = "false" if any(c.sql_type for c in contract.columns) else f"({found} AND NOT {triggered})"
        lenient = f"EXISTS (SELECT 1 FROM sqlite_master WHERE name = {table} COLLATE NOCASE AND sql LIKE '%CONFLICT%')"
        followed = "EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND sql LIKE '%ON UPDATE%')"
        key = ", ".join(map(sql.literal, contract.key))
        folds = (
            f'EXISTS (SELECT 1 FROM pragma_index_list({table}) AS l JOIN pragma_index_xinfo(l.name) AS x WHERE l."unique" '
            f"AND x.key AND x.coll <> 'BINARY' AND x.name IN ({key}))"
        )
        kind = f"(SELECT type FROM sqlite_master WHERE name = {table} COLLATE NOCASE AND type IN ('table', 'view'))"
        return (
            f"{triggered} AS watched, {triggered} AS triggered, {exact} AS exact, false AS deferred, false AS inherited, "
            f"{lenient} AS lenient, {followed} AS followed, {kind} AS kind, "
            f"NULL AS blind, {folds} AS folds"
        )

    def computed(self, operator: str, left: str, right: str, *, real: bool) -> str:
        """Write a computation that fails as it does on PostgreSQL, where SQLite would go on with a float or infinity.

        Args:
            operator: ``+ - * / %``.
            left: a number of 64 bits.
            right: another.
            real: they are floats.

        Returns:
            A SQL expression.
        """
        if real:
            lost = "abs(v) = 9e999 AND abs(a) <> 9e999 AND abs(b) <> 9e999"
            if operator in "*/":
                lost += " OR v = 0 AND a <> 0 AND b <> 0 AND abs(b) <> 9e999"
        else:
            lost = "typeof(v) = 'real' AND typeof(a) = 'integer' AND typeof(b) = 'integer'"
        return (
            f"(SELECT CASE WHEN {lost} THEN {_OVERFLOW} ELSE v END FROM (SELECT a, b, a {operator} b AS v FROM "
            f"(SELECT {left} AS a, {right} AS b)))"
        )

    def decimal(self, operator: str, left: Decimals, right: Decimals, scale: int) -> str | None:
        """Write an exact computation with decimals that are text, by whole numbers of 64 bits; beyond these it fails.

        Args:
            operator: ``+ - *``.
            left: one of them.
            right: the other.
            scale: how many decimals the result has.

        Returns:
            A SQL expression of text; None if a column has its decimals as floats.
        """
        numbers = []
        for part in (left, right):
            if not (part.whole or part.codec.sql_type.startswith("DECIMAL_TEXT")):
                return None
            digits = f"(SELECT replace({part.sql}, '.', '') AS d)"
            fits = f"CASE WHEN abs(CAST(d AS REAL)) >= {_LIMIT} THEN {_OVERFLOW} ELSE CAST(d AS INTEGER) END"
            number = part.sql if part.whole else f"(SELECT {fits} FROM {digits})"
            more = 0 if operator == "*" else scale - part.scale
            if more > _MOST_ZEROS:
                return None
            numbers.append(self.computed("*", number, str(10**more), real=False) if more else number)
        computed = self.computed(operator, *numbers, real=False)
        if not scale:
            return f"CAST({computed} AS TEXT)"
        text = f"iif(v < 0, '-', '') || substr(d, 1, length(d) - {scale}) || '.' || substr(d, -{scale})"
        return (
            f"(SELECT CASE WHEN v IS NOT NULL THEN {text} END FROM "
            f"(SELECT v, printf('%0{scale + 1}d', abs(v)) AS d FROM (SELECT {computed} AS v)))"
        )

    def rescaled(self, codec: Codec, dtype: pl.DataType, scale: int) -> str | None:
        """Write a whole number or a decimal as text of more decimals.

        Args:
            codec: of its column.
            dtype: of its column.
            scale: how many decimals it is to have.

        Returns:
            A SQL template; None if SQLite has the column's decimals as floats.
        """
        if isinstance(dtype, pl.Decimal):
            if not codec.sql_type.startswith("DECIMAL_TEXT"):
                return None
            more, point = scale - dtype.scale, "" if dtype.scale else "."
            return f"({{0}} || '{point}{'0' * more}')" if more else "{0}"
        return f"(CAST({{0}} AS TEXT) || '.{'0' * scale}')" if scale else "CAST({0} AS TEXT)"

    def merge(self, parts: MergeParts) -> str:
        """Write the merge; which rows are new is known from before, as the write lock is held.

        Args:
            parts: what to write where.

        Returns:
            One statement.
        """
        return on_conflict_merge(parts, inserted=sql.FALSE)

    def many(self, values: pl.Series) -> tuple[str, str, pl.Series]:
        """Bind many values as one JSON array.

        Args:
            values: in a wire's dtype, without nulls.

        Returns:
            SQL for one of them, the table that they become, and the array.
        """
        binary = isinstance(values.dtype, pl.Binary)
        texts = json.dumps((values.bin.encode("hex") if binary else values).to_list())
        return "unhex(value)" if binary else "value", "json_each({})", pl.Series([texts])

    def like(self, pattern: str, *, fold: bool) -> tuple[str, str]:
        """Write the test of a text against a pattern; ``GLOB`` minds the case, which ``LIKE`` does not.

        Args:
            pattern: as in SQL, with a backslash to escape.
            fold: whether the letters A to Z match both their cases.

        Returns:
            SQL in which ``{0}`` is the text and ``{1}`` the bound pattern, and the pattern to bind.

        Example:
            >>> import crave_bulk as cb
            >>> with cb.connect() as db:
            ...     db.backend.like("100!%_*%".replace("!", chr(92)), fold=False)
            ('{0} GLOB {1}', '100%?[*]*')
        """
        if fold:
            return "{0} LIKE {1} ESCAPE '\\'", pattern
        return "{0} GLOB {1}", re.sub(r"\\(.)|([%_*?\[])", _glob, pattern, flags=re.DOTALL)


def _glob(part: re.Match[str]) -> str:
    """Write one escaped or special character of a pattern for ``GLOB``."""
    wild = {"%": "*", "_": "?"}.get(part[2] or "")
    taken = part[1] or part[2]
    return wild or (f"[{taken}]" if taken in "*?[" else taken)


def _plain(name: TableName) -> str:
    return name.table if name.schema in (None, "main") else f"{name.schema}.{name.table}"


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, DatabaseBusy) and not isinstance(error, HeldHere)


def _why_not(error: Exception, path: Path, read_only: bool) -> str:
    """Say why a file could not be opened, which the driver does not ("failed to allocate memory")."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open: close some that are not needed any more"
    folder = path.absolute().parent
    if path.is_dir():
        return "it is a folder: name a file"
    if not folder.is_dir():
        return f"the folder {folder} does not exist: create it first"
    if read_only and not path.exists():
        return "the file does not exist, and mode=ro never creates one: check the path"
    if not path.exists():
        return "the file does not exist and cannot be created here: choose a folder that may be written"
    return "the file cannot be read: check its permissions"
