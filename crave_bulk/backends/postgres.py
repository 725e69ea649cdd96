"""PostgreSQL 15 and later, through libpq."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import adbc_driver_manager
import adbc_driver_manager.dbapi
import adbc_driver_postgresql
import polars as pl

from crave_bulk import sql
from crave_bulk.backends.base import Backend, MergeParts, differs, on_conflict_merge
from crave_bulk.backends.codec import (
    Codec,
    Refusal,
    any_bad,
    decimal_refusals,
    inner_dtype,
    json_form,
    outside_years,
    sub_microsecond,
    text_form,
    unsupported,
)
from crave_bulk.errors import BulkError, ConnectionFailed, ContractError, database_error
from crave_bulk.table import Column, Contract, TableName

_MERGE_RETURNS_ACTION = 17  # the major version that brought MERGE … RETURNING merge_action()
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer names off without an error
_LARGEST = 2**63 - 1
_CREATING = 0x63726176655F62  # the advisory lock of whoever creates tables: "crave_b"
_LOST = "08006"  # connection_failure

_INTEGERS: dict[type[pl.DataType], str] = {
    pl.Int8: "smallint",
    pl.Int16: "smallint",
    pl.Int32: "integer",
    pl.Int64: "bigint",
    pl.UInt8: "smallint",
    pl.UInt16: "integer",
    pl.UInt32: "bigint",
    pl.UInt64: "bigint",
}
_NATIVE: dict[type[pl.DataType], str] = {
    pl.Boolean: "boolean",
    pl.Float32: "real",
    pl.Float64: "double precision",
    pl.Binary: "bytea",
}
_WIRE: dict[str, pl.DataType] = {"smallint": pl.Int16(), "integer": pl.Int32(), "bigint": pl.Int64()}

# PostgreSQL's calendar ends and its text has no NUL; https://www.postgresql.org/docs/current/datatype-datetime.html
_NUL = Refusal(
    "holds a NUL character, which PostgreSQL's text cannot", lambda x: x.str.contains("\0", literal=True)
)


class Postgres(Backend):
    """A PostgreSQL database, by its libpq URI."""

    name = "postgresql"
    begin = "BEGIN"
    in_memory = False
    pooled = True
    concurrent = True
    reads_back = True
    # The planner takes a small staging table, which nobody has analysed, for ten pages, and then scans a
    # target of up to some 8,000 pages rather than look up a few keys. And it knows nothing of a table that
    # was empty when it was last looked at: a MERGE of 200,000 rows into such a one became a nested loop of
    # sequential scans over what it had just inserted (436 s).
    avoid_scans = "SET LOCAL enable_seqscan = off"
    allow_scans = "SET LOCAL enable_seqscan = on"

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
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '64MB'")  # at 4 MB the joins of a bulk batch spill to disk
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
            A lock that makes creators wait for each other, and the schema where the name is qualified.
        """
        schema = contract.name.schema
        # IF NOT EXISTS looks first and creates then: two at once both find nothing (23505 in pg_type).
        lock = f"DO $$ BEGIN PERFORM pg_advisory_xact_lock({_CREATING}); END $$"
        return [lock, f"CREATE SCHEMA IF NOT EXISTS {sql.quote(_short(schema))}"] if schema else [lock]

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
        return _codec(column)

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
        return database_error(code, message, details.get("PG_DIAG_CONSTRAINT_NAME"))

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
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(parts.insert)}) "
        f"VALUES ({', '.join(f's.{name}' for name in parts.insert)})\n"
        f"RETURNING s._row, merge_action() = 'INSERT' AS inserted"
    )


def _codec(column: Column) -> Codec:
    dtype, options = column.dtype, column.options
    if isinstance(dtype, pl.String):
        if options.uuid:
            return Codec("uuid", dtype, stage="{}::uuid", read="{}::text")
        if options.json:
            return _json_column(Codec("json", dtype, refusals=(_NUL,)))
        return Codec("text", dtype, refusals=(_NUL,))
    if isinstance(dtype, pl.List):
        return _list_codec(column, inner_dtype(dtype))
    if isinstance(dtype, pl.Struct):
        return _json_column(json_form(dtype))
    return _scalar(dtype)


def _scalar(dtype: pl.DataType) -> Codec:
    if sql_type := _INTEGERS.get(type(dtype)):
        wire = _WIRE[sql_type]
        too_large = Refusal(f"is above {_LARGEST}, the largest bigint", lambda x: x > _LARGEST)
        refusals = (too_large,) if isinstance(dtype, pl.UInt64) else ()
        return Codec(sql_type, wire, lambda x: x.cast(wire), lambda x: x.cast(dtype), refusals=refusals)
    if sql_type := _NATIVE.get(type(dtype)):
        return Codec(sql_type, dtype)
    match dtype:
        case pl.Date():
            return Codec("date", dtype, refusals=outside_years(dtype))
        case pl.Time():
            return Codec("time", dtype, refusals=sub_microsecond(dtype))
        case pl.Datetime():
            return _moment(dtype)
        case pl.Duration():
            # Polars cannot read an interval back, so it is asked for as a number of microseconds.
            return Codec(
                "interval",
                pl.Duration("us"),
                lambda x: x.cast(pl.Duration("us")),
                lambda x: x.cast(dtype),
                read="(EXTRACT(EPOCH FROM {}) * 1000000)::bigint",
                refusals=sub_microsecond(dtype),
            )
        case pl.Decimal():
            return Codec(
                f"numeric({dtype.precision}, {dtype.scale})",
                pl.String(),
                lambda x: x.cast(pl.String),
                lambda x: x.cast(dtype),
                stage=f"{{}}::numeric({dtype.precision}, {dtype.scale})",
                read="{}::text",
                refusals=decimal_refusals(dtype),
            )
        case pl.Enum() | pl.Categorical():
            form = text_form(dtype) or Codec("text", dtype)
            return replace(form, sql_type="text", refusals=(_nul_category(),))
    raise unsupported(dtype)


def _nul_category() -> Refusal:
    return replace(_NUL, bad=lambda x: _NUL.bad(x.cast(pl.String)))


def _moment(dtype: pl.Datetime) -> Codec:
    zone = dtype.time_zone
    wire = pl.Datetime("us", "UTC" if zone else None)

    def encode(x: pl.Expr) -> pl.Expr:
        moment = x.cast(pl.Datetime("us", zone))
        return moment.dt.convert_time_zone("UTC") if zone else moment

    def decode(x: pl.Expr) -> pl.Expr:
        return (x.dt.convert_time_zone(zone) if zone else x).cast(dtype)

    sql_type = "timestamptz" if zone else "timestamp"
    return Codec(sql_type, wire, encode, decode, refusals=(*sub_microsecond(dtype), *outside_years(dtype)))


def _list_codec(column: Column, inner: pl.DataType) -> Codec:
    """Store a list as an array where its elements have an exact form in one, else as JSON."""
    if column.options.json or isinstance(inner, pl.List | pl.Struct | pl.Duration | pl.Array):
        return _json_column(json_form(column.dtype))
    element = Codec("uuid", inner) if column.options.uuid else _scalar_or_text(inner)
    encode, decode, dtype = element.encode, element.decode, element.wire
    read = "{}"
    if isinstance(inner, pl.Time | pl.Decimal) or column.options.uuid:
        form = text_form(inner)
        encode, decode, dtype = (form.encode, form.decode, form.wire) if form else (encode, decode, dtype)
        read = "{}::text[]"
    bad = any_bad(element.refusals)
    return Codec(
        f"{element.sql_type}[]",
        pl.List(dtype),
        lambda x: x.list.eval(encode(pl.element())),
        lambda x: x.list.eval(decode(pl.element())),
        stage="{}::" + f"{element.sql_type}[]",
        read=read,
        refusals=(
            Refusal(
                "holds an element that PostgreSQL cannot", lambda x: x.list.eval(bad(pl.element())).list.any()
            ),
        )
        if bad
        else (),
    )


def _scalar_or_text(dtype: pl.DataType) -> Codec:
    return Codec("text", dtype, refusals=(_NUL,)) if isinstance(dtype, pl.String) else _scalar(dtype)


def _json_column(form: Codec) -> Codec:
    """Store JSON as ``json``: it keeps the text to the letter, which ``jsonb`` does not."""
    return replace(form, sql_type="json", stage="{}::json", read="{}::text", compare="{}::text")


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
