"""PostgreSQL 15 and later, through libpq."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import adbc_driver_manager.dbapi
import adbc_driver_postgresql
import polars as pl

from crave_bulk import sql
from crave_bulk.backends import catalog, postgres_catalog, postgres_ddl, postgres_types
from crave_bulk.backends.base import Backend, MergeParts, Phrases, differs, on_conflict_merge
from crave_bulk.backends.codec import Codec
from crave_bulk.backends.ddl import Alteration, Missing
from crave_bulk.backends.postgres_constraints import cascades_sql, constraints_sql, dependents_sql
from crave_bulk.errors import BulkError, ConnectionFailed, ContractError, database_error
from crave_bulk.table import Column, Contract, TableName

if TYPE_CHECKING:
    from crave_bulk.session import Session

_MERGE_RETURNS_ACTION = 17  # the major version that brought MERGE … RETURNING merge_action()
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer names off without an error
_CREATING = 0x63726176655F62  # the advisory lock of whoever creates tables: "crave_b"
_BEFORE_ROW = 3  # bits of pg_trigger.tgtype: such a trigger can skip its row without an error
_LOST = "08006"  # connection_failure


class Postgres(Backend):
    """A PostgreSQL database, by its libpq URI."""

    name = "postgresql"
    begin = "BEGIN"
    in_memory = False
    pooled = True
    concurrent = True
    reads_back = True
    remote = True
    stops = True
    aborts = True
    # Only a nested loop keeps the order of the staged rows.
    orderly = tuple(  # type: ignore[assignment]
        f"SELECT set_config('enable_hashjoin', '{way}', true) AS h, set_config('enable_mergejoin', '{way}', true) AS m"
        for way in ("off", "on")
    )
    series = "generate_series(1, {}) AS g (i)"
    # By key, as two batches that wait for each other's rows deadlock; and so that others may still point at them.
    lock_rows = " ORDER BY {} FOR NO KEY UPDATE OF t"
    check_now = "SET CONSTRAINTS ALL IMMEDIATE"
    # The planner takes a small staging table, which nobody has analysed, for ten pages, and then scans a
    # target of up to some 8,000 pages rather than look up a few keys. And it knows nothing of a table that
    # was empty when it was last looked at: a MERGE of 200,000 rows into such a one became a nested loop of
    # sequential scans over what it had just inserted (436 s).
    avoid_scans = "SET LOCAL enable_seqscan = off"
    # IF NOT EXISTS looks first and creates then: two at once both find nothing (23505 in pg_type).
    creating = f"DO $$ BEGIN PERFORM pg_advisory_xact_lock({_CREATING}); END $$"
    wait_turn = "DO $$ BEGIN PERFORM pg_advisory_xact_lock({}); END $$"
    skip_locked = " FOR UPDATE SKIP LOCKED"
    wait_at_most = "SET LOCAL lock_timeout = '10s'"
    allow_scans = "SET LOCAL enable_seqscan = on"
    phrases = Phrases(
        mark="${0}",
        contains="strpos({0}, {1}) > 0",
        startswith="starts_with({0}, {1})",
        endswith="right({0}, length({1})) = {1}",
        element="{1} = ANY({0})",
        integer="({0})::bigint",
        real="({0})::double precision",
        text='(({0}) COLLATE "C")',
        # The driver commits the open transaction when a timestamptz is bound (adbc-driver-postgresql 1.13).
        moment="({0} AT TIME ZONE 'UTC')",
    )

    def __init__(self, url: str) -> None:
        self.label = without_password(url)
        if re.search(r"[@/?#\[\]]", _password(url)):
            raise ConnectionFailed(
                f"cannot connect to {self.label}: the password holds one of @ / ? # [ ], which a URL takes for "
                "something else: write it percent-encoded, as urllib.parse.quote(password, safe='') does"
            )
        try:
            database = adbc_driver_postgresql.connect(url)
            self._keeper = adbc_driver_manager.AdbcConnection(database)
        except adbc_driver_manager.Error as error:
            raise ConnectionFailed(
                f"cannot connect to {self.label}: {_clean(str(error))}: check the host, the port, the database "
                "and the login"
            ) from None  # the driver's error may hold the URL with its password
        self._database = adbc_driver_manager.dbapi._SharedDatabase(database)
        self.version = self._version()

    def _version(self) -> int:
        connection = self.connect()
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version_num')::int / 10000")
            version = int(cursor.fetchone()[0])
        connection.close()
        return version

    def connect(self) -> Any:
        """Open one more connection to the same database."""
        raw = adbc_driver_manager.AdbcConnection(self._database._db)
        connection = adbc_driver_manager.dbapi.Connection(self._database, raw, autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET work_mem = '64MB'")  # at 4 MB the joins of a bulk batch spill to disk
                # With scans switched off, versions before 18 count them as dear, and so compile every statement
                # to machine code first: ten times as long for a batch of ten rows.
                cursor.execute("SET jit = off")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the kept connection."""
        self._keeper.close()
        self._database.close()

    def table(self, name: TableName) -> str:
        """Quote a table's name, with its schema where it has one.

        Args:
            name: the name in parts.

        Returns:
            The quoted name.

        Raises:
            ContractError: a part is longer than PostgreSQL's names can be.
        """
        parts = [part for part in (name.schema, name.table) if part]
        return ".".join(sql.quote(_short(part)) for part in parts)

    def prepare(self, contract: Contract) -> list[str]:
        """Create the schema that a table lives in.

        Args:
            contract: the table to come.

        Returns:
            The schema where the name is qualified.
        """
        schema = contract.name.schema
        if not schema:
            return []
        # CREATE SCHEMA IF NOT EXISTS needs the right to create one, also where it is there.
        return [
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {sql.literal(_short(schema))}) "
            f"THEN CREATE SCHEMA {sql.quote(schema)}; END IF; END $$"
        ]

    def codec(self, column: Column) -> Codec:
        """Choose the type of a column and how its values get there.

        Args:
            column: a column of a contract.

        Returns:
            Its codec.

        Raises:
            ContractError: there is no exact form for the dtype, or the name is too long.
        """
        _short(column.name)
        return postgres_types.codec(column)

    def reflect(self, session: Session, name: TableName) -> Contract:
        """Read the contract of a table that exists from the catalog, in one query.

        Args:
            session: a connection.
            name: the table; without a schema, the search path finds it.

        Returns:
            The contract.

        Raises:
            TableNotFound: there is no such table.
            ContractError: a column has a name that a frame or a report cannot use.
            BulkError: the database refused.
        """
        found = session.fetch(postgres_catalog.facts_sql(self.table(name)))["facts"]
        if not len(found):
            raise catalog.not_found(name, session.fetch(postgres_catalog.TABLES_SQL)["name"].to_list())
        return catalog.contract(postgres_catalog.read_facts(name, found.item()))

    def holds(self, declared: Column, found: Column) -> bool:
        """Tell whether a column of the database will do for a declared one.

        Args:
            declared: the column as declared.
            found: the column as it is there.

        Returns:
            Whether its type is the same or a wider one.
        """
        return postgres_ddl.holds(declared, found)

    def alter(self, session: Session, contract: Contract, missing: Missing) -> Alteration:  # noqa: ARG002
        """Write the statements that add what a table lacks.

        Args:
            session: a connection.
            contract: the table, as declared.
            missing: what it lacks.

        Returns:
            The statements.
        """
        parents = [self.table(reference.table) for reference in missing.references]
        return Alteration(postgres_ddl.alterations(self.table(contract.name), missing, parents, self.version))

    def error(self, cause: Exception) -> BulkError:
        """Translate a driver's error by its SQLSTATE.

        Args:
            cause: what the driver raised.

        Returns:
            The error to raise from it.
        """
        details = {_text(key): _text(value) for key, value in getattr(cause, "details", None) or []}
        message = details.get("PG_DIAG_MESSAGE_PRIMARY") or _clean(str(cause))
        if detail := details.get("PG_DIAG_MESSAGE_DETAIL"):
            message = f"{message} ({detail.rstrip('.')})"
        code = getattr(cause, "sqlstate", None) or ""
        if not code and getattr(cause, "status_code", None) == adbc_driver_manager.AdbcStatusCode.IO:
            code = _LOST  # libpq itself noticed, so there is no SQLSTATE
        column = details.get("PG_DIAG_COLUMN_NAME")
        return database_error(
            code, message, details.get("PG_DIAG_CONSTRAINT_NAME"), (column,) if column else ()
        )

    def constraints_sql(self, name: TableName) -> str:
        """Ask which columns each constraint of a table is about.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON object.
        """
        return constraints_sql(self.table(name))

    def dependents_sql(self, name: TableName) -> str:
        """Ask which references of other tables forbid that rows of a table are deleted.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON list.
        """
        return dependents_sql(self.table(name))

    def cascades_sql(self, name: TableName) -> str:
        """Ask which references of other tables pass a deletion on.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON list.
        """
        return cascades_sql(self.table(name))

    def known_as(self, name: TableName) -> str:
        """Ask for a name that is a table's alone.

        Args:
            name: the table.

        Returns:
            A query of one text, its OID.
        """
        return f"SELECT {sql.literal(self.table(name))}::regclass::oid::text AS known_as"

    def facts(self, contract: Contract) -> str:
        """Write what a batch has to know of its table.

        Args:
            contract: the table.

        Returns:
            The select list; every deferred constraint, of whatever kind, has a trigger of its own.
        """
        table = sql.literal(self.table(contract.name))
        return (
            f"(SELECT c.relrowsecurity OR c.relhasrules OR EXISTS (SELECT 1 FROM pg_trigger AS g "
            f"WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgtype & {_BEFORE_ROW} = {_BEFORE_ROW}) "
            f"FROM pg_class AS c WHERE c.oid = {table}::regclass) AS watched, "
            f"{self._exact(contract, table)} AS exact, "
            f"EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = {table}::regclass AND tginitdeferred) AS deferred"
        )

    def _exact(self, contract: Contract, table: str) -> str:
        """Write whether a row will stand there as it is written; the partitions of a table have triggers of their own."""
        if any(column.sql_type for column in contract.columns):
            return "false"
        types = ", ".join(
            f"({sql.literal(column.name)}, {sql.literal(_full_name(self.codec(column).sql_type))})"
            for column in contract.columns
        )
        return (
            f"(EXISTS (SELECT 1 FROM pg_class WHERE oid = {table}::regclass AND relkind = 'r') AND NOT EXISTS "
            f"(SELECT 1 FROM pg_trigger WHERE tgrelid = {table}::regclass AND NOT tgisinternal) AND NOT EXISTS "
            f"(SELECT 1 FROM (VALUES {types}) AS d (name, type) LEFT JOIN pg_attribute AS a ON a.attrelid = "
            f"{table}::regclass AND a.attname = d.name WHERE format_type(a.atttypid, a.atttypmod) IS DISTINCT FROM d.type))"
        )

    def merge(self, parts: MergeParts) -> str:
        """Write the merge: ``MERGE`` where it can read back, which is also the faster of the two.

        Args:
            parts: what to write where.

        Returns:
            One statement.

        Example:
            >>> parts = MergeParts('"foods"', 'SELECT s._row, s.c0::uuid AS "id", s.c1 AS "n" FROM stage AS s',
            ...     ('"id"',), ('"id"', '"n"'), ('"n"',), (('"n"', "{}"),), (("{}::text", '"id"', "c0"),))
            >>> print(merge_statement(parts))
            MERGE INTO "foods" AS t
            USING (SELECT s._row, s.c0::uuid AS "id", s.c1 AS "n" FROM stage AS s) AS s ON t."id" = s."id"
            WHEN MATCHED AND (t."n" IS DISTINCT FROM s."n") THEN UPDATE SET "n" = s."n"
            WHEN NOT MATCHED THEN INSERT ("id", "n") VALUES (s."id", s."n")
            RETURNING s._row, merge_action() = 'INSERT' AS inserted
        """
        if self.version >= _MERGE_RETURNS_ACTION:
            return merge_statement(parts)
        # xmax is zero in a row version that no transaction has replaced or locked: a new row.
        return on_conflict_merge(parts, inserted="xmax = 0")

    def many(self, values: pl.Series) -> tuple[str, str, pl.Series]:
        """Bind many values as one array.

        Args:
            values: in a wire's dtype, without nulls.

        Returns:
            SQL for one of them, the table that they become, and the array.
        """
        return "u.v", "unnest({}) AS u (v)", values.implode()

    def like(self, pattern: str, *, fold: bool) -> tuple[str, str]:
        """Write the test of a text against a pattern.

        Args:
            pattern: as in SQL, with a backslash to escape.
            fold: whether the letters A to Z match both their cases.

        Returns:
            SQL in which ``{0}`` is the text and ``{1}`` the bound pattern, and the pattern to bind.
        """
        return f"{{0}} {'ILIKE' if fold else 'LIKE'} {{1}}", pattern


def merge_statement(parts: MergeParts) -> str:
    """Write a ``MERGE`` that reads back what it did; needs PostgreSQL 17.

    Args:
        parts: what to write where.

    Returns:
        One statement; a row that would not change is neither written nor read back.
    """
    match = " AND ".join(f"t.{name} = s.{name}" for name in parts.key)
    sets = ", ".join(f"{name} = s.{name}" for name in parts.update)
    matched = (
        f"WHEN MATCHED AND ({differs(parts, 's')}) THEN UPDATE SET {sets}\n"
        if parts.update and parts.compare
        else ""
    )
    return (
        f"MERGE INTO {parts.target} AS t\n"
        f"USING ({parts.source}) AS s ON {match}\n"
        f"{matched}"
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(parts.insert)}){parts.overriding} "
        f"VALUES ({', '.join(f's.{name}' for name in parts.insert)})\n"
        f"RETURNING s._row, merge_action() = 'INSERT' AS inserted"
    )


def _full_name(sql_type: str) -> str:
    """Write a type as ``format_type`` does."""
    short = {"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone"}
    short["time"] = "time without time zone"
    one = sql_type.removesuffix("[]")
    return short.get(one, one.replace(", ", ",")) + "[]" * sql_type.endswith("[]")


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _short(name: str) -> str:
    if len(name.encode()) > _LONGEST_NAME:
        raise ContractError(
            f"{name!r} is longer than {_LONGEST_NAME} bytes, where PostgreSQL cuts names off: choose a shorter one"
        )
    return name


def _clean(text: str) -> str:
    """Take the driver's wrapping off a message."""
    text = re.sub(r"^[A-Z_]+: (\[libpq\] )?", "", text.strip())
    return " ".join(text.removeprefix("Failed to connect: ").split())


# The parameters of a URL that are shown; any other might be a secret.
_SHOWN = {"host", "hostaddr", "port", "dbname", "user", "sslmode", "application_name", "connect_timeout"}
_LOGIN = re.compile(r"^(?P<user>[^:@/]*)(?::(?P<password>.*))?@", re.DOTALL)  # up to the last @


def _password(url: str) -> str:
    """Find the password that stands before the host, as written."""
    login = _LOGIN.match(url.partition("://")[2])
    return (login["password"] or "") if login else ""


def without_password(url: str) -> str:
    """Take the password out of a URL, wherever one may stand.

    Args:
        url: a libpq URI.

    Returns:
        The URL with ``***`` in its place.

    Example:
        >>> without_password("postgresql://ann:s3#cr@t@db/crave?sslmode=require&passwd=x")
        'postgresql://ann:***@db/crave?sslmode=require&passwd=***'
    """
    scheme, _, rest = url.partition("://")
    rest = _LOGIN.sub(lambda login: f"{login['user']}{':***' if login['password'] else ''}@", rest)
    place, mark, options = rest.partition("?")
    shown = [
        option if option.partition("=")[0] in _SHOWN else f"{option.partition('=')[0]}=***"
        for option in options.split("&")
    ]
    return f"{scheme}://{place}{mark}{'&'.join(shown) if mark else ''}"
