"""What differs between databases: one `Backend` a database, as small as it can be.

A new database is one new file here. Everything else in crave_bulk is one code path for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import polars as pl

from crave_bulk.backends.catalog import Overview
from crave_bulk.backends.codec import Codec, Form
from crave_bulk.backends.ddl import Alteration, Missing
from crave_bulk.errors import BulkError, DatabaseError
from crave_bulk.sql import PLAIN, TRUE, Spelling, chain
from crave_bulk.table import Column, Contract, Reference, TableName

if TYPE_CHECKING:
    from crave_bulk.pipeline.facts import Facts
    from crave_bulk.session import Session


LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer names off without an error


@dataclass(frozen=True, slots=True)
class MergeParts:
    """What a merge statement is made of; every name in it is quoted already.

    Attributes:
        target: the table that is written.
        source: a sub-query over the staging table: ``_row``, and columns typed as the target's.
        short: column → its name in `source`, which is one of our own: SQLite does not let a column of a sub-query be
            called ``true``.
        key: the key columns.
        insert: the columns of a new row.
        update: the columns that an existing row takes over.
        compare: the columns that decide whether an existing row changes at all, each with its codec.
        returning: what is read back of each written row: SQL form, column, and name in the result;
            nothing where the database does not need to.
        alive: a condition that an existing row must meet to be updated.
        overriding: what an insert says to write a key that the database always makes up itself.
        spelling: how the database's own operators are written.
        versions: the versions of a row can be told apart, as those of a partitioned table cannot.
        strict: what makes a broken constraint an error, whatever the definition of the table says of it.
    """

    target: str
    source: str
    short: Mapping[str, str]
    key: tuple[str, ...]
    insert: tuple[str, ...]
    update: tuple[str, ...]
    compare: tuple[tuple[str, Codec], ...]
    returning: tuple[tuple[str, str, str], ...]
    alive: str = TRUE
    overriding: str = ""
    spelling: Spelling = PLAIN
    versions: bool = True
    strict: str = ""

    @property
    def match(self) -> str:
        """The condition that the target ``t`` and the source ``s`` have the same key."""
        return " AND ".join(self.spelling.equal(f"t.{name}", f"s.{self.short[name]}") for name in self.key)

    def new(self, name: str, alias: str = "s") -> str:
        """The value of a column in the row that comes, which is one of the source, or ``excluded``."""
        return f"{alias}.{name if alias == 'excluded' else self.short[name]}"

    def values(self, names: Iterable[str]) -> str:
        """Those of several columns, as a list."""
        return ", ".join(map(self.new, names))


@dataclass(frozen=True, slots=True)
class Decimals:
    """An expression of decimals, or of whole numbers, which have none."""

    sql: str
    codec: Codec
    scale: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection waits for a lock by itself.

    Attributes:
        statement: sets it, ``{}`` being milliseconds.
        seconds: what it is as a rule.
    """

    statement: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Phrases:
    """How one database says what a condition needs; ``{0}`` is a value of a row, ``{1}`` a bound one.

    Attributes:
        mark: the placeholder of the bound value number ``{0}``.
        contains: text holds text, to the letter.
        startswith: text begins with text.
        endswith: text ends with text.
        element: a list has an element.
        integer: a whole number of 64 bits.
        real: a floating-point number of 64 bits.
        text: text that sorts by code points, and of whose letters only A to Z have a case.
        array: a JSON array as text, of the values in ``{0}``.
        shown: any value as text for people.
        moment: a moment with a zone, from the placeholder ``{0}`` of one without, in UTC.
    """

    mark: str
    contains: str
    startswith: str
    endswith: str
    element: str
    integer: str
    real: str
    text: str
    array: str
    shown: str
    moment: str = "{0}"


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding of a database that lacks characters.

    Attributes:
        name: of the encoding.
        has: a query that fails if a text holds a character that it lacks, ``{}`` being the text as UTF-8.
        known: what was asked for before.
    """

    name: str
    has: str
    known: dict[str, bool]


class Backend(ABC):
    """One kind of database: its connections, types, errors and dialect."""

    name: str
    label: str  # the URL without its password, for people
    begin: str
    in_memory: bool
    pooled: bool  # connections are kept open between calls
    concurrent: bool  # other writers can come between a check and the merge
    driver_error: type[Exception] = adbc_driver_manager.Error
    avoid_scans: str | None = None  # keeps the planner from scanning the target …
    allow_scans: str | None = None  # … until here, as a batch may be part of a larger transaction
    reads_back: bool  # a merge says which rows it wrote; else they are counted, under the write lock
    creating: str | None = None  # makes those who create or change tables wait for each other
    patience: Patience | None = None  # where the wait for a lock cannot be interrupted
    wait_turn: str | None = None  # makes those who run it with the same number wait for each other's commit
    skip_locked: str = ""  # ends a query: passes over rows that another transaction is about to delete
    wait_at_most: str | None = None  # ends the wait for another's lock with an error after {} seconds
    series: str  # a table that counts to {} in its column i
    lock_rows: str = ""  # ends a query, {} being the key: keeps other writers from its rows until the commit
    counts_on: bool = False  # a number that is made is above all that are there, not the next of a sequence
    orderly: tuple[str, str] = ("SELECT 1", "SELECT 1")  # has rows written as they come; and as usual again
    widest: int  # how many columns a table can have
    remote: bool  # a connection can be lost on the way, and had again
    stops: bool  # a statement that runs can be stopped from another thread
    aborts: bool  # a statement that fails ends the transaction, back to the last savepoint
    not_tables: Mapping[str, str]  # a kind of what has columns, and why it cannot be written
    strict: str = ""  # makes a broken constraint an error, behind INSERT or UPDATE; nothing if it always is
    updated: str = "t."  # what RETURNING calls the target of an UPDATE … FROM
    check_now: str | None = None  # has the deferred constraints checked before the commit
    statement_options: dict[str, str] = {}  # noqa: RUF012 - the driver's own, never changed
    held_by: str = (
        ""  # of a row of `t`, where {} may be inherited from: ``holder``, and whether that is ``inherited``
    )
    phrases: Phrases
    encoding: Encoding | None = None  # where it is not UTF-8
    spelling = PLAIN

    @cached_property
    def seen(self) -> dict[str, Facts]:
        """What was found of tables before, by their quoted names."""
        return {}

    @abstractmethod
    def connect(self) -> Any:
        """Open one more ADBC connection, ready for use."""

    @abstractmethod
    def close(self) -> None:
        """Release what the connections share."""

    def cursor(self, connection: Any, statement: str) -> Any:  # noqa: ARG002 - SQLite chooses by it
        """Open a cursor for a statement.

        Args:
            connection: one that `connect` has opened.
            statement: the statement.

        Returns:
            The cursor.
        """
        return connection.cursor(adbc_stmt_kwargs=self.statement_options)

    @abstractmethod
    def table(self, name: TableName) -> str:
        """Quote the name of a table.

        Args:
            name: the name in parts.

        Returns:
            The quoted name.
        """

    @abstractmethod
    def codec(self, column: Column) -> Codec:
        """Choose how a column's values travel.

        Args:
            column: a column of a contract.

        Returns:
            Its codec.

        Raises:
            ContractError: the database has no exact form for the dtype.
        """

    @abstractmethod
    def form(self, column: Column) -> Form:
        """Choose how every value travels that a column of the database can hold.

        Args:
            column: a column that was found in the database.

        Returns:
            Its form, which depends on nothing but its type.
        """

    @abstractmethod
    def overview(self, session: Session, name: TableName) -> Overview:
        """Read from the catalog, in a short query, which columns a table has.

        Args:
            session: a connection.
            name: the table.

        Returns:
            What was found.

        Raises:
            TableNotFound: there is no such table.
            BulkError: the database refused.
        """

    @abstractmethod
    def reflect(self, session: Session, name: TableName) -> Contract:
        """Read the contract of a table that exists from the catalog.

        Args:
            session: a connection.
            name: the table, or a view, which can be read only.

        Returns:
            The contract, which says by `Contract.read_only` whether it can be written.

        Raises:
            TableNotFound: there is no such table.
            ContractError: a column has a name that a frame or a report cannot use.
            BulkError: the database refused.
        """

    @abstractmethod
    def error(self, cause: Exception) -> BulkError:
        """Translate a driver's error.

        Args:
            cause: what the driver raised.

        Returns:
            The error of `crave_bulk.errors` to raise from it.
        """

    def not_staged(self, error: DatabaseError) -> BulkError:
        """Say why a staging table could not be created, where the driver does not.

        Args:
            error: what the driver said, without a code.

        Returns:
            The error to raise in its place, or the same.
        """
        return error

    def typed(self, query: str, dtypes: Sequence[pl.DataType]) -> str | None:  # noqa: ARG002
        """Write a query so that the driver knows its types, where it would otherwise guess.

        Args:
            query: the query.
            dtypes: the dtypes on the wire, in the order of its columns.

        Returns:
            A query whose first row is to be dropped, or None where the driver knows.
        """
        return None

    def constraints_sql(self, name: TableName) -> str | None:  # noqa: ARG002
        """Ask which columns each constraint of a table is about, where errors do not say.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON object: name → ``columns`` and ``whole``, false where it holds
            for some rows only; None where errors do say.
        """
        return None

    @abstractmethod
    def uniques_sql(self, name: TableName) -> str:
        """Ask which unique keys and unique indexes a table has, and what keeps rows from being matched by them.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON list of ``name``, ``columns``; ``others``, columns that an expression or a
            condition names; ``expression``; and ``flaws``, keys of `catalog._FLAWS`.
        """

    @abstractmethod
    def pointing_sql(self, name: TableName) -> str:
        """Ask which references point at a table, from other tables or from itself, and what they do on deletion.

        Args:
            name: the table.

        Returns:
            A query: ``found``, a JSON list of ``schema``, ``table``, ``columns``, ``targets``; ``forbids``,
            whether a row that is pointed at cannot be deleted; else ``deletes``, whether the rows that point are
            deleted with it rather than set to NULL or a default; ``follows``, whether they change when what they point
            at is changed, and ``cascades``, whether they take it over; ``own``, whether it is the table itself that
            points; ``known_as``, as of `known_as`; and ``indexed``, whether an index finds the rows that point.
        """

    def unchecked_sql(self, name: TableName) -> str | None:  # noqa: ARG002
        """Ask which references of a table were never checked for all of its rows.

        Args:
            name: the table.

        Returns:
            A query of one JSON list of lists of columns; None if any reference may not have been.
        """
        return None

    @abstractmethod
    def known_as(self, name: TableName) -> str:
        """Ask for a name that is a table's alone, however it is called.

        Args:
            name: the table.

        Returns:
            A query of one text.
        """

    @abstractmethod
    def facts(self, contract: Contract) -> str:
        """Write what a batch has to know of its table.

        Args:
            contract: the table.

        Returns:
            SQL expressions in a select list: ``watched``, whether triggers or rules may skip rows without
            an error; ``triggered``, whether there are triggers at all, which may write under another key; ``exact``,
            whether a row will stand there just as it is written, as there are no triggers and every column has the
            type that was declared; ``deferred``, whether constraints are checked at the commit; ``inherited``,
            whether other tables than its partitions inherit from it; ``lenient``, whether a constraint may leave
            rows out, or delete others, without an error; ``followed``, whether a reference to it may change with what it
            points at (``ON UPDATE``); ``kind``, of which `not_tables` knows some; ``blind``, a JSON list of the
            references, by their columns, to tables of which the login may not see every row; and ``folds``, whether
            the key has a collation by which different texts are equal.
        """

    def computed(self, operator: str, left: str, right: str, *, real: bool) -> str:  # noqa: ARG002 - SQLite minds it
        """Write a computation that fails if its result is beyond 64 bits, or what a float can hold.

        Args:
            operator: ``+ - * / %``.
            left: a number of 64 bits.
            right: another.
            real: they are floats.

        Returns:
            A SQL expression.
        """
        return f"({left} {self.spelling.op(operator)} {right})"

    def rescaled(self, codec: Codec, dtype: pl.DataType, scale: int) -> str | None:  # noqa: ARG002
        """Write a whole number or a decimal as one of more decimals, exactly.

        Args:
            codec: of its column.
            dtype: of its column.
            scale: how many decimals it is to have.

        Returns:
            A SQL template; None if it cannot be written exactly.
        """
        return "{0}"

    @abstractmethod
    def decimal(self, operator: str, left: Decimals, right: Decimals, scale: int) -> str | None:
        """Write an exact computation with decimals and whole numbers.

        Args:
            operator: ``+ - *``.
            left: one of them.
            right: the other.
            scale: how many decimals the result has.

        Returns:
            A SQL expression of such decimals; None if the database cannot compute exactly with what it has.
        """

    @abstractmethod
    def merge(self, parts: MergeParts) -> str:
        """Write the statement that inserts new rows and updates changed ones.

        Args:
            parts: what to write where.

        Returns:
            One statement. Where `reads_back`, it gives for each written row its ``_row``, or else its
            key as in `parts.returning`, and ``inserted``.
        """

    @abstractmethod
    def many(self, values: pl.Series) -> tuple[str, str, pl.Series]:
        """Bind many values as one.

        Args:
            values: in a wire's dtype, without nulls.

        Returns:
            SQL for one of them, the table that they become, with ``{}`` for the placeholder, and what
            to bind.
        """

    @abstractmethod
    def like(self, pattern: str, *, fold: bool) -> tuple[str, str]:
        """Write the test of a text against a pattern.

        Args:
            pattern: ``%`` stands for any text, ``_`` for one character; a backslash takes the next
                character as it is.
            fold: whether the letters A to Z match both their cases.

        Returns:
            SQL in which ``{0}`` is the text and ``{1}`` the bound pattern, and the pattern to bind.
        """

    def prepare(self, contract: Contract) -> list[str]:  # noqa: ARG002
        """Write what must run before a table is created.

        Args:
            contract: the table to come.

        Returns:
            The statements, often none.
        """
        return []

    def after_create(self, contract: Contract) -> list[str]:  # noqa: ARG002
        """Write what must succeed once a table is created.

        Args:
            contract: the table.

        Returns:
            The statements, often none.
        """
        return []

    @abstractmethod
    def holds(self, declared: Column, found: Column) -> bool:
        """Tell whether a column of the database holds every value of a declared one, and compares with it.

        Args:
            declared: the column as declared.
            found: the column as it is there.

        Returns:
            Whether its type is the same or a wider one.
        """

    @abstractmethod
    def keeps(self, declared: Column, found: Column) -> str:
        """Write the test for a value of a declared column that a column of another type keeps as it is.

        Args:
            declared: the column as declared.
            found: the column as it is there.

        Returns:
            SQL over the staging table's column, false if the value would be changed and the database say nothing;
            nothing if it never is.
        """

    @abstractmethod
    def alter(self, session: Session, contract: Contract, missing: Missing) -> Alteration:
        """Write the statements that add what a table lacks.

        Args:
            session: a connection.
            contract: the table, as declared.
            missing: what it lacks.

        Returns:
            The statements.

        Raises:
            BulkError: the database refused.
        """

    def behind(self, name: TableName, column: Column) -> str | None:  # noqa: ARG002
        """Write the statement that brings the source of a column's values past all that are there.

        Args:
            name: the table.
            column: one of its columns, whose values the database makes.

        Returns:
            The statement; None where that never lags behind.
        """
        return None

    def orphans(self, contract: Contract, reference: Reference) -> str | None:  # noqa: ARG002
        """Ask how many rows break a reference that was just added.

        Args:
            contract: the table.
            reference: one of its references.

        Returns:
            A query of one number, or None where the database has checked that itself.
        """
        return None

    def codecs(self, contract: Contract) -> dict[str, Codec]:
        """Choose the codec of every column.

        Args:
            contract: the table.

        Returns:
            The codecs by column name, in order.
        """
        return {column.name: self.codec(column) for column in contract.columns}


def on_conflict_merge(parts: MergeParts, inserted: str = "") -> str:
    """Write a merge as ``INSERT … ON CONFLICT DO UPDATE``, which SQLite and every PostgreSQL take.

    Args:
        parts: what to write where.
        inserted: SQL over the written row that tells a new row from an updated one, if it is read back.

    Returns:
        One statement; a row that would not change is neither written nor read back.

    Example:
        >>> parts = MergeParts('"foods"', 'SELECT s.c0 AS c0, s.c1 AS c1 FROM stage AS s', {'"id"': "c0", '"name"': "c1"},
        ...     ('"id"',), ('"id"', '"name"'), ('"name"',), (('"name"', Codec("text", pl.String())),), (("{}", '"id"', "c0"),))
        >>> print(on_conflict_merge(parts, "xmax = 0"))
        INSERT INTO "foods" AS t ("id", "name")
        SELECT s.c0, s.c1 FROM (SELECT s.c0 AS c0, s.c1 AS c1 FROM stage AS s) AS s WHERE true
        ON CONFLICT ("id") DO UPDATE SET "name" = excluded."name"
        WHERE t."name" IS DISTINCT FROM excluded."name"
        RETURNING "id" AS c0, xmax = 0 AS inserted
    """
    action = "DO NOTHING"
    if parts.update and parts.compare:
        action = f"DO UPDATE SET {assignments(parts, 'excluded')}\nWHERE {differs(parts, 'excluded')}"
    # WHERE true: without it SQLite reads ON as the join of the SELECT.
    return (
        f"INSERT{parts.strict} INTO {parts.target} AS t ({', '.join(parts.insert)}){parts.overriding}\n"
        f"SELECT {parts.values(parts.insert)} FROM ({parts.source}) AS s WHERE true\n"
        f"ON CONFLICT ({', '.join(parts.key)}) {action}{read_back(parts, inserted)}"
    )


def assignments(parts: MergeParts, new: str) -> str:
    """Write what an existing row takes over; a value that is the same in another form stays in its own.

    Args:
        parts: what to write where.
        new: the alias of the new row; the existing one is ``t``.

    Returns:
        What follows ``SET``.
    """
    forms = {name: codec.exact for name, codec in parts.compare if codec.compare != "{}"}

    def value(name: str) -> str:
        comes = parts.new(name, new)
        if name not in forms:
            return comes
        old, now = forms[name].format(f"t.{name}"), forms[name].format(comes)
        return f"CASE WHEN {parts.spelling.differs(old, now)} THEN {comes} ELSE t.{name} END"

    return ", ".join(f"{name} = {value(name)}" for name in parts.update)


def differs(parts: MergeParts, new: str) -> str:
    """Write the condition under which an existing row changes, NULL counting as a value.

    Args:
        parts: what to write where.
        new: the alias of the new row; the existing one is ``t``.

    Returns:
        One boolean expression.
    """
    return chain(
        [
            parts.spelling.differs(codec.exact.format(f"t.{name}"), codec.exact.format(parts.new(name, new)))
            for name, codec in parts.compare
        ],
        "OR",
    )


def read_back(parts: MergeParts, inserted: str, prefix: str = "") -> str:
    """Write what a statement reads back of each row; an ``INSERT`` knows the target's columns only.

    Args:
        parts: what to write where.
        inserted: SQL over the written row that tells a new row from an updated one.
        prefix: the target's alias and a dot, where another table is in sight.

    Returns:
        A ``RETURNING`` clause on a line of its own, or nothing.
    """
    if not parts.returning:
        return ""
    keys = ", ".join(f"{form.format(prefix + name)} AS {short}" for form, name, short in parts.returning)
    return f"\nRETURNING {keys}, {inserted} AS inserted"
