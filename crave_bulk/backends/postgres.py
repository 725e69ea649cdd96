"""PostgreSQL 15 and later, through libpq."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import adbc_driver_manager.dbapi
import adbc_driver_postgresql
import polars as pl

from crave_bulk import sql
from crave_bulk.backends import catalog, postgres_catalog, postgres_ddl, postgres_types, postgres_url
from crave_bulk.backends.base import (
    LONGEST_NAME,
    Backend,
    Decimals,
    Encoding,
    MergeParts,
    Phrases,
    differs,
    on_conflict_merge,
)
from crave_bulk.backends.codec import Codec, Form
from crave_bulk.backends.ddl import Alteration, Missing
from crave_bulk.backends.postgres_constraints import constraints_sql, pointing_sql, uniques_sql
from crave_bulk.errors import (
    BulkError,
    ConnectionFailed,
    ContractError,
    DatabaseError,
    PermissionRefused,
    database_error,
)
from crave_bulk.retry import again
from crave_bulk.table import Column, Contract, TableName
from crave_bulk.watch import Watch

if TYPE_CHECKING:
    from crave_bulk.session import Session

_MERGE_RETURNS_ACTION = 17  # the major version that brought MERGE … RETURNING merge_action()
_CREATING = 0x63726176655F62  # the advisory lock of whoever creates tables: "crave_b"
_BEFORE_ROW = 3  # bits of pg_trigger.tgtype: such a trigger can skip its row without an error
_LOST = "08006"  # connection_failure

# What the role, the database, the URL or the environment may have set otherwise, and what then goes wrong.
_SETTINGS = {
    "client_encoding": "UTF8",  # text would be stored as mojibake
    "standard_conforming_strings": "on",  # a backslash would end our literals early
    "quote_all_identifiers": "off",  # the catalog would write types and defaults in another way
    "DateStyle": "ISO",  # ranges and composites travel as text
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",  # floats within them would be rounded
    "bytea_output": "hex",
    "xmloption": "content",  # xml that is no document would be refused
    "array_nulls": "on",  # NULL in an array that travels as text would become the word
    "gin_fuzzy_search_limit": "0",  # a query would leave rows out
    "work_mem": "64MB",  # at 4 MB the joins of a bulk batch spill to disk
    # With scans switched off, versions before 18 count them as dear, and so compile every statement
    # to machine code first: ten times as long for a batch of ten rows.
    "jit": "off",
}


# What staging needs; its refusal comes from the driver without a SQLSTATE.
_RIGHTS = (
    "CASE WHEN NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY') THEN "
    "pg_catalog.format('GRANT TEMPORARY ON DATABASE %I TO %I', pg_catalog.current_database(), current_user) END, "
    "pg_catalog.current_setting('transaction_read_only')"
)


def settings_sql(settings: Mapping[str, str]) -> str:
    """Write the one statement that sets what a session needs.

    Types and collations are those of pg_catalog because it is searched first, as it always is unless the search path
    names it: what names it later no longer does.

    Example:
        >>> print(settings_sql({"jit": "off"}))
        SELECT pg_catalog.set_config('jit', 'off', false), pg_catalog.set_config('search_path',
        pg_catalog.regexp_replace(pg_catalog.current_setting('search_path'), ', *"?pg_catalog"? *(?=,|$)', '', 'gi'), false), ...
    """
    path = "pg_catalog.current_setting('search_path')"
    values = {name: sql.literal(value) for name, value in settings.items()}
    values["search_path"] = f"pg_catalog.regexp_replace({path}, ', *\"?pg_catalog\"? *(?=,|$)', '', 'gi')"
    calls = (f"pg_catalog.set_config({sql.literal(name)}, {value}, false)" for name, value in values.items())
    return f"SELECT {', '.join(calls)}, {_RIGHTS}"


_READY = settings_sql(_SETTINGS)
OWN = sql.Spelling("OPERATOR(pg_catalog.{})", "pg_catalog.{}", "pg_temp.{}", compares_null=False)
_READING_TYPES = "-c search_path=pg_catalog,pg_temp -c quote_all_identifiers=off -c client_encoding=UTF8"


# The {0} of these is the name of the table, as a literal.
_WATCHED = sql.pinned(
    "(SELECT c.relrowsecurity OR c.relhasrules OR EXISTS (SELECT 1 FROM pg_catalog.pg_trigger AS g "
    "WHERE (g.tgrelid [=] c.oid OR g.tgrelid [=] ANY (SELECT p.relid FROM pg_catalog.pg_partition_tree(c.oid) AS p)) "
    f"AND NOT g.tgisinternal AND (g.tgtype [&] {_BEFORE_ROW}) [=] {_BEFORE_ROW}) "
    "FROM pg_catalog.pg_class AS c WHERE c.oid [=] {0}::regclass) AS watched"
)
_TRIGGERED = sql.pinned(
    "EXISTS (SELECT 1 FROM pg_catalog.pg_trigger AS g WHERE NOT g.tgisinternal AND (g.tgrelid [=] {0}::regclass "
    "OR g.tgrelid [=] ANY (SELECT p.relid FROM pg_catalog.pg_partition_tree({0}::regclass) AS p))) AS triggered"
)
_DEFERRED = sql.pinned(
    "EXISTS (SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid [=] {0}::regclass AND tginitdeferred) AS deferred"
)
_INHERITED = sql.pinned(
    "EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_inherits AS i ON i.inhparent [=] c.oid "
    "WHERE c.oid [=] {0}::regclass AND c.relkind [=] 'r') AS inherited"
)
_FOLLOWED = sql.pinned(
    "EXISTS (SELECT 1 FROM pg_catalog.pg_constraint AS f WHERE f.confrelid [=] {0}::regclass AND f.contype [=] 'f' "
    "AND f.confupdtype [=] ANY ('{{c,n,d}}')) AS followed"
)
# The rows of some parents cannot all be seen by this login; the database itself looks at them with the owner's eyes.
_BLIND = sql.pinned(
    "(SELECT pg_catalog.json_agg((SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM "
    "pg_catalog.unnest(f.conkey) WITH ORDINALITY AS k (num, n) JOIN pg_catalog.pg_attribute AS a "
    "ON a.attrelid [=] f.conrelid AND a.attnum [=] k.num))::text FROM pg_catalog.pg_constraint AS f "
    "WHERE f.conrelid [=] {0}::regclass AND f.contype [=] 'f' AND (pg_catalog.row_security_active(f.confrelid) "
    "OR NOT pg_catalog.has_any_column_privilege(f.confrelid, 'SELECT'))) AS blind"
)
_UNCHECKED = sql.pinned(
    "SELECT coalesce(pg_catalog.json_agg((SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM "
    "pg_catalog.unnest(f.conkey) WITH ORDINALITY AS k (num, n) JOIN pg_catalog.pg_attribute AS a "
    "ON a.attrelid [=] f.conrelid AND a.attnum [=] k.num)), '[]')::text AS found FROM pg_catalog.pg_constraint AS f "
    "WHERE f.conrelid [=] {0}::regclass AND f.contype [=] 'f' AND NOT f.convalidated"
)
_FOLDS = sql.pinned(
    "EXISTS (SELECT 1 FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_collation AS l ON l.oid [=] a.attcollation "
    "WHERE a.attrelid [=] {0}::regclass AND a.attname::text [=] ANY (ARRAY[{1}]::text[]) AND NOT l.collisdeterministic) AS folds"
)
_KIND = sql.pinned(
    "(SELECT c.relkind::text FROM pg_catalog.pg_class AS c WHERE c.oid [=] {0}::regclass) AS kind"
)
_KNOWN_AS = sql.pinned(
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS known_as FROM pg_catalog.pg_class AS c "
    "JOIN pg_catalog.pg_namespace AS n ON n.oid [=] c.relnamespace WHERE c.oid [=] {0}::regclass"
)
_TYPE = "pg_catalog.format_type(a.atttypid, a.atttypmod)"
_EXACT = sql.pinned(
    "(EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE oid [=] {0}::regclass AND relkind [=] 'r') AND NOT EXISTS "
    "(SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid [=] {0}::regclass AND NOT tgisinternal) AND NOT EXISTS "
    "(SELECT 1 FROM (VALUES {1}) AS d (name, type) LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid [=] "
    f"{{0}}::regclass AND a.attname [=] d.name WHERE {OWN.differs(_TYPE, 'd.type')}))"
)


_UNTRANSLATABLE = "22P05"
_ANY_CHARACTER = ("UTF8", "SQL_ASCII")  # which takes any bytes for text


def _encoding(name: str) -> Encoding:
    return Encoding(
        name, f"SELECT pg_catalog.convert({{}}::bytea, 'UTF8', {sql.literal(name)}) AS converted", {}
    )


def _lacked(message: str, encoding: Encoding | None) -> str:
    """Name the character of a statement that the database lacks, of which the server shows the bytes."""
    sent = bytes.fromhex("".join(re.findall(r"0x([0-9a-f]{2})", message)))
    if encoding is None or re.findall('"([^"]+)"', message)[:1] != ["UTF8"]:
        return message  # it was read, not sent
    return (
        f"{encoding.name}, the encoding of the database, lacks the character {sent.decode(errors='replace')!r}, so no name, "
        "condition or value there can hold it: leave it out"
    )


class Postgres(Backend):
    """A PostgreSQL database, by its libpq URI."""

    name = "postgresql"
    begin = "BEGIN"
    in_memory = False
    pooled = True
    concurrent = True
    reads_back = True
    not_tables = MappingProxyType(postgres_catalog.NOT_TABLES)
    remote = True
    stops = True
    aborts = True
    # Only a nested loop keeps the order of the staged rows.
    orderly = tuple(  # type: ignore[assignment]
        f"SELECT pg_catalog.set_config('enable_hashjoin', '{way}', true) AS h, "
        f"pg_catalog.set_config('enable_mergejoin', '{way}', true) AS m"
        for way in ("off", "on")
    )
    series = "pg_catalog.generate_series(1, {}) AS g (i)"
    # By key, as two batches that wait for each other's rows deadlock; and so that others may still point at them.
    lock_rows = " ORDER BY {} FOR NO KEY UPDATE OF t"
    held_by = sql.pinned(
        "t.tableoid::regclass::text AS holder, t.tableoid [<>] '{}'::regclass::oid AS inherited"
    )
    check_now = "SET CONSTRAINTS ALL IMMEDIATE"
    # The planner takes a small staging table, which nobody has analysed, for ten pages, and then scans a
    # target of up to some 8,000 pages rather than look up a few keys. And it knows nothing of a table that
    # was empty when it was last looked at: a MERGE of 200,000 rows into such a one became a nested loop of
    # sequential scans over what it had just inserted (436 s).
    widest = 1_600
    avoid_scans = "SET LOCAL enable_seqscan = off"
    # IF NOT EXISTS looks first and creates then: two at once both find nothing (23505 in pg_type).
    creating = f"DO $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock({_CREATING}); END $$"
    wait_turn = "DO $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock({}); END $$"
    skip_locked = " FOR UPDATE SKIP LOCKED"
    wait_at_most = "SET LOCAL lock_timeout = '{}s'"
    allow_scans = "SET LOCAL enable_seqscan = on"
    phrases = Phrases(
        mark="${0}",
        contains=sql.pinned("pg_catalog.strpos({0}, {1}) [>] 0"),
        startswith="pg_catalog.starts_with({0}, {1})",
        endswith=sql.pinned("pg_catalog.right({0}, pg_catalog.length({1})) [=] {1}"),
        element=sql.pinned("{1} [=] ANY({0})"),
        integer="({0})::bigint",
        real="({0})::double precision",
        text='(({0}) COLLATE "C")',
        array="pg_catalog.json_build_array({0})::text",
        shown="{0}::text",
        # The driver commits the open transaction when a timestamptz is bound (adbc-driver-postgresql 1.13).
        moment="({0} AT TIME ZONE 'UTC')",
    )

    spelling = OWN

    def __init__(self, url: str) -> None:
        self.label = postgres_url.without_password(url)
        if wrong := postgres_url.problem(url):
            raise ConnectionFailed(
                f"cannot connect to {self.label}: {wrong}: correct the URL; what is special in a user, a password or an "
                "option is written percent-encoded, as urllib.parse.quote(password, safe='') does"
            )
        self._secrets = postgres_url.secrets(url)
        database, error = _opened(url)
        if database is None:  # raised here, as the driver's error may hold what the URL keeps secret
            raise ConnectionFailed(
                f"cannot connect to {self.label}: {self._without_secrets(error)}: check the host, the port, the "
                "database and the login"
            )
        self._database = adbc_driver_manager.dbapi._SharedDatabase(database)
        self.version, self.encoding = self._about()

    def _without_secrets(self, text: str) -> str:
        """Keep the server's and libpq's words, unless they quote an option that is not shown."""
        words = "|".join(map(re.escape, self._secrets))
        if words and re.search(rf"(?<!\w)(?:{words})(?!\w)", text):
            return "the reason is not shown, as it quotes an option of the URL"
        return text

    def _about(self) -> tuple[int, Encoding | None]:
        """Ask for the major version, and for the encoding where it lacks characters."""
        # The connection that the driver has looked at the types with may still count for the server.
        for attempt in again(Watch(), lambda error: isinstance(error, ConnectionFailed)):
            with attempt:
                connection = self.connect()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_catalog.current_setting('server_version_num')::integer AS version, "
                "pg_catalog.current_setting('server_encoding') AS encoding"
            )
            version, encoding = cursor.fetchone()
        connection.close()
        return int(version) // 10_000, None if encoding in _ANY_CHARACTER else _encoding(encoding)

    def connect(self) -> Any:
        """Open one more connection to the same database.

        Raises:
            ConnectionFailed: the server cannot be reached, or refuses.
        """
        try:
            raw = adbc_driver_manager.AdbcConnection(self._database._db)
        except adbc_driver_manager.Error as cause:
            refused = str(self.error(cause))
        else:
            return self._ready(
                adbc_driver_manager.dbapi.Connection(self._database.clone(), raw, autocommit=True)
            )
        # Raised here, as the driver's error may hold what the URL keeps secret.
        raise ConnectionFailed(self._without_secrets(refused))

    def _ready(self, connection: Any) -> Any:
        try:
            with connection.cursor() as cursor:
                cursor.execute(_READY)
                self._lacking, self._read_only = cursor.fetchone()[-2:]
        except adbc_driver_manager.Error as cause:
            connection.close()
            raise self.error(cause) from cause
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Release what the connections share."""
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
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE {OWN.equal('nspname', sql.literal(_short(schema)))}) "
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

    def form(self, column: Column) -> Form:
        """Choose how every value travels that a column of the database can hold.

        Args:
            column: a column that was found in the database.

        Returns:
            Its form.
        """
        return postgres_types.form(column)

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
        found = session.fetch(postgres_catalog.overview_sql(self.table(name)))["facts"]
        if not len(found):
            raise catalog.not_found(name, session.fetch(postgres_catalog.TABLES_SQL)["name"].to_list())
        return postgres_catalog.read_overview(found.item())

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

    def keeps(self, declared: Column, found: Column) -> str:
        """Write the test for a value of a declared column that a column of another type keeps as it is.

        Args:
            declared: the column as declared.
            found: the column as it is there.

        Returns:
            SQL over the staging table's column; nothing if every value is kept.
        """
        return postgres_ddl.keeps(declared, found)

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

    def behind(self, name: TableName, column: Column) -> str | None:
        """Write the statement that sets a sequence past all values that are there.

        Args:
            name: the table.
            column: one of its columns.

        Returns:
            The statement; None where the values do not come from a sequence.
        """
        sequence = re.search(r"nextval\(('(?:[^']|'')*')", column.default_sql or "")
        if sequence is None:
            return None
        return f"SELECT setval({sequence[1]}, (SELECT max({sql.quote(column.name)}) FROM {self.table(name)}))"

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
        message = _lacked(message, self.encoding) if code == _UNTRANSLATABLE else message
        column = details.get("PG_DIAG_COLUMN_NAME")
        return database_error(
            code, message, details.get("PG_DIAG_CONSTRAINT_NAME"), (column,) if column else ()
        )

    def not_staged(self, error: DatabaseError) -> BulkError:
        """Name the right that a login lacks to create the staging table.

        Args:
            error: what the driver said, without a SQLSTATE.

        Returns:
            The error to raise in its place, or the same.
        """
        if self._read_only == "on":
            return database_error("25006", "the session is read-only, as that of a standby server is")
        if self._lacking:
            return PermissionRefused(
                "the login may not create temporary tables, which rows are staged in [42501]: "
                f"{self._lacking}, or connect with another; nothing was written",
                sqlstate="42501",
                said="the login may not create temporary tables [42501]",
            )
        return error

    def constraints_sql(self, name: TableName) -> str:
        """Ask which columns each constraint of a table is about.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON object.
        """
        return constraints_sql(self.table(name))

    def uniques_sql(self, name: TableName) -> str:
        """Ask which unique keys a table has, and what keeps rows from being matched by them.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON list.
        """
        return uniques_sql(self.table(name))

    def pointing_sql(self, name: TableName) -> str:
        """Ask which references point at a table, and what they do when its rows are deleted.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON list.
        """
        return pointing_sql(self.table(name))

    def unchecked_sql(self, name: TableName) -> str | None:
        """Ask which references of a table are ``NOT VALID``.

        Args:
            name: the table.

        Returns:
            A query of one JSON list of lists of columns.
        """
        return _UNCHECKED.format(sql.literal(self.table(name)))

    def known_as(self, name: TableName) -> str:
        """Ask for a name that is a table's alone.

        Args:
            name: the table.

        Returns:
            A query of one text: the quoted name, with the schema where it is found.
        """
        return _KNOWN_AS.format(sql.literal(self.table(name)))

    def facts(self, contract: Contract) -> str:
        """Write what a batch has to know of its table.

        Args:
            contract: the table.

        Returns:
            The select list; every deferred constraint, of whatever kind, has a trigger of its own.
        """
        table = sql.literal(self.table(contract.name))
        shown = (_WATCHED, _TRIGGERED, _DEFERRED, _INHERITED, _FOLLOWED, _KIND, _BLIND)
        facts = ", ".join(part.format(table) for part in shown)
        folds = _FOLDS.format(table, ", ".join(map(sql.literal, contract.key)))
        return f"{facts}, {folds}, {self._exact(contract, table)} AS exact, false AS lenient"

    def _exact(self, contract: Contract, table: str) -> str:
        """Write whether a row will stand there as it is written; the partitions of a table have triggers of their own."""
        if any(column.sql_type for column in contract.columns):
            return "false"
        types = ", ".join(
            f"({sql.literal(column.name)}, {sql.literal(_full_name(self.codec(column).sql_type))})"
            for column in contract.columns
        )
        return _EXACT.format(table, types)

    def decimal(self, operator: str, left: Decimals, right: Decimals, scale: int) -> str | None:  # noqa: ARG002
        """Write an exact computation with decimals and whole numbers, as ``numeric`` does it.

        Args:
            operator: ``+ - *``.
            left: one of them.
            right: the other.
            scale: how many decimals the result has.

        Returns:
            A SQL expression.
        """
        return f"(({left.sql})::numeric {OWN.op(operator)} ({right.sql})::numeric)"

    def merge(self, parts: MergeParts) -> str:
        """Write the merge: ``MERGE`` where it can read back, which is also the faster of the two.

        Args:
            parts: what to write where.

        Returns:
            One statement.

        Example:
            >>> parts = MergeParts('"foods"', 'SELECT s._row, s.c0::uuid AS c0, s.c1 AS c1 FROM stage AS s', {'"id"': "c0", '"n"': "c1"},
            ...     ('"id"',), ('"id"', '"n"'), ('"n"',), (('"n"', Codec("bigint", pl.Int64())),), (("{}::text", '"id"', "c0"),))
            >>> print(merge_statement(parts))
            MERGE INTO "foods" AS t
            USING (SELECT s._row, s.c0::uuid AS c0, s.c1 AS c1 FROM stage AS s) AS s ON t."id" = s.c0
            WHEN MATCHED AND (t."n" IS DISTINCT FROM s.c1) THEN UPDATE SET "n" = s.c1
            WHEN NOT MATCHED THEN INSERT ("id", "n") VALUES (s.c0, s.c1)
            RETURNING s._row, merge_action() = 'INSERT' AS inserted
        """
        if self.version >= _MERGE_RETURNS_ACTION:
            return merge_statement(parts)
        if not parts.versions:  # what the statement cannot see yet was not there
            same = " AND ".join(OWN.equal(f"was.{name}", f"t.{name}") for name in parts.key)
            return on_conflict_merge(
                parts, inserted=f"NOT EXISTS (SELECT 1 FROM {parts.target} AS was WHERE {same})"
            )
        # xmax is zero in a row version that no transaction has replaced or locked: a new row.
        return on_conflict_merge(parts, inserted=OWN.equal("xmax", "0"))

    def many(self, values: pl.Series) -> tuple[str, str, pl.Series]:
        """Bind many values as one array.

        Args:
            values: in a wire's dtype, without nulls.

        Returns:
            SQL for one of them, the table that they become, and the array.
        """
        return "u.v", "pg_catalog.unnest({}) AS u (v)", values.implode()

    def like(self, pattern: str, *, fold: bool) -> tuple[str, str]:
        """Write the test of a text against a pattern.

        Args:
            pattern: as in SQL, with a backslash to escape.
            fold: whether the letters A to Z match both their cases.

        Returns:
            SQL in which ``{0}`` is the text and ``{1}`` the bound pattern, and the pattern to bind.
        """
        return OWN.compare("{0}", "~~*" if fold else "~~", "{1}"), pattern


def _opened(url: str) -> tuple[adbc_driver_manager.AdbcDatabase | None, str]:
    """Have the driver read the server's types, or give the reason why it cannot.

    It does so with operators that it does not qualify, and reads the names of functions as text.
    """
    database, error = _initialised(postgres_url.with_option(url, _READING_TYPES))
    if database is None and "unsupported startup parameter" in error:  # PgBouncer's, which has no SQLSTATE
        database, error = _initialised(url)
    if database is not None:
        database.set_options(uri=url)
    return database, error


def _initialised(url: str) -> tuple[adbc_driver_manager.AdbcDatabase | None, str]:
    try:
        return adbc_driver_postgresql.connect(url), ""
    except adbc_driver_manager.Error as error:
        return None, _clean(str(error))


def merge_statement(parts: MergeParts) -> str:
    """Write a ``MERGE`` that reads back what it did; needs PostgreSQL 17.

    Args:
        parts: what to write where.

    Returns:
        One statement; a row that would not change is neither written nor read back.
    """
    sets = ", ".join(f"{name} = {parts.new(name)}" for name in parts.update)
    matched = (
        f"WHEN MATCHED AND ({differs(parts, 's')}) THEN UPDATE SET {sets}\n"
        if parts.update and parts.compare
        else ""
    )
    inserted = parts.spelling.equal("merge_action()", "'INSERT'")
    return (
        f"MERGE INTO {parts.target} AS t\n"
        f"USING ({parts.source}) AS s ON {parts.match}\n"
        f"{matched}"
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(parts.insert)}){parts.overriding} "
        f"VALUES ({parts.values(parts.insert)})\n"
        f"RETURNING s._row, {inserted} AS inserted"
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
    if len(name.encode()) > LONGEST_NAME:
        raise ContractError(
            f"{name!r} is longer than {LONGEST_NAME} bytes, where PostgreSQL cuts names off: choose a shorter one"
        )
    return name


def _clean(text: str) -> str:
    """Take the driver's wrapping off a message."""
    text = re.sub(r"^[A-Z_]+: (\[libpq\] )?", "", text.partition("\nQuery was:")[0].strip())
    return " ".join(text.removeprefix("Failed to connect: ").split())
