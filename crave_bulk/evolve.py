"""Create tables, and add to those that exist what their declarations have and they lack.

Nothing is ever dropped or narrowed: columns that nobody declared, wider types and NULL where the
declaration has none are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from crave_bulk.backends.base import Backend
from crave_bulk.backends.ddl import Missing, fill_of
from crave_bulk.errors import (
    BulkError,
    ConstraintViolated,
    ContractError,
    DatabaseBusy,
    DatabaseError,
    TableNotFound,
)
from crave_bulk.schema import check_keys, create_index, create_statements, missing_indexes
from crave_bulk.session import Session
from crave_bulk.table import Contract, Reference, TableName

_NOT_UNIQUE = "42830"  # invalid_foreign_key
_OFF = "PRAGMA foreign_keys = OFF"
_ON = ("PRAGMA legacy_alter_table = OFF", "PRAGMA foreign_keys = ON")


@dataclass(frozen=True, slots=True)
class Change:
    """What one table needs.

    Attributes:
        contract: the table, as declared.
        statements: in their order.
        references: those that are added.
        rebuilds: the table is replaced by a copy of itself.
    """

    contract: Contract
    statements: tuple[str, ...]
    references: tuple[Reference, ...]
    rebuilds: bool = False


def create(session: Session, contracts: Sequence[Contract]) -> None:
    """Create tables, all or none; those that exist are left as they are.

    Args:
        session: a connection.
        contracts: the tables, parents first.

    Raises:
        ContractError: a table cannot be created as declared, or exists and is another one.
        BulkError: the database refused; no table was created.
    """
    backend = session.backend
    with session.atomic():
        _wait_for_others(session)
        for contract in contracts:
            if not _exists(session, contract):
                for statement in create_statements(backend, contract):
                    session.execute(statement)
            found = backend.reflect(session, contract.name)
            _check_references(session, contract)
            if missing := [name for name in contract.column_names if name not in found.column_names]:
                raise ContractError(
                    f"table {contract.name} exists but has no column {missing[0]!r}: add the column with "
                    "db.evolve(...), or declare the table under another name"
                )
            if problems := disagreements(backend, contract, found):
                raise ContractError(f"table {contract.name} exists, but {problems[0]}")


def _exists(session: Session, contract: Contract) -> bool:
    try:
        session.backend.reflect(session, contract.name)
    except TableNotFound:
        return False
    return True


def evolve(session: Session, contracts: Sequence[Contract], *, plan: bool = False) -> list[str]:
    """Add to the database what declared tables have and it lacks, all or nothing.

    Args:
        session: a connection.
        contracts: the tables, parents first.
        plan: write the statements, and run none.

    Returns:
        The statements that were run, or would be.

    Raises:
        ContractError: a difference cannot be settled by adding something; nothing was changed.
        ConstraintViolated: rows break a new constraint; nothing was changed.
        BulkError: the database refused; nothing was changed.
    """
    changes = _changes(session, contracts)
    if plan or not changes:
        return _statements(changes)
    rebuilt = [change.contract.name for change in changes if change.rebuilds]
    if not rebuilt:
        return _apply(session, contracts)
    if session.in_transaction:
        raise ContractError(
            f"table {rebuilt[0]} has to be rebuilt for this, which SQLite cannot do within a transaction: call "
            "db.evolve outside of it"
        )
    with _without_foreign_keys(session):
        return _apply(session, contracts, rebuilds=True)


def disagreements(backend: Backend, declared: Contract, found: Contract) -> list[str]:
    """Compare the types of the columns that a declaration and a table have in common.

    Args:
        backend: whose types they are.
        declared: the table, as declared.
        found: the table, as it is in the database.

    Returns:
        For each column whose type will not do, what to say.
    """
    problems = []
    for column in declared.columns:
        if column.name in found.column_names:
            there = found.column(column.name)
            if not backend.holds(column, there):
                problems.append(
                    f"its column {column.name!r} is {there.sql_type or 'without a type'} there, where the declaration "
                    f"needs {backend.codec(column).sql_type}: declare what is there or change it yourself, or use "
                    f"the table as it is, by its name {str(declared.name)!r}"
                )
    return problems


# -- what is missing -----------------------------------------------------------------------------------


def _changes(session: Session, contracts: Sequence[Contract]) -> list[Change]:
    backend, changes, problems = session.backend, [], []
    for contract in contracts:
        try:
            found = backend.reflect(session, contract.name)
        except TableNotFound:
            changes.append(Change(contract, create_statements(backend, contract), contract.references))
            continue
        missing = _missing(backend, contract, found)
        problems += [
            f"table {contract.name}: {problem}" for problem in disagreements(backend, contract, found)
        ]
        problems += _unfilled(session, contract, missing)
        if missing and not problems:
            check_keys(backend, contract)
            altered = backend.alter(session, contract, missing)
            changes.append(Change(contract, altered.statements, missing.references, altered.rebuilds))
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise ContractError(f"the database cannot be brought to the declarations by adding to it:{lines}")
    return changes


def _missing(backend: Backend, declared: Contract, found: Contract) -> Missing:
    keys = {frozenset(key) for key in (found.key, *found.unique)}
    wanted = dict.fromkeys((declared.key, *declared.unique))
    unique = tuple(key for key in wanted if frozenset(key) not in keys)
    indexes = missing_indexes(declared, (*unique, *found.indexes))
    known = {_identity(backend, found.name, reference) for reference in found.references}
    return Missing(
        columns=tuple(c for c in declared.columns if c.name not in found.column_names),
        unique=unique,
        references=tuple(r for r in declared.references if _identity(backend, declared.name, r) not in known),
        indexes=tuple(create_index(backend, declared.name, columns) for columns in indexes),
    )


def _identity(
    backend: Backend, own: TableName, reference: Reference
) -> tuple[frozenset[tuple[str, str]], str]:
    """Tell references apart by their pairs of columns and their table, however its schema is written."""
    other = reference.table
    name = TableName(other.table) if backend.name == "postgresql" else other
    table = "itself" if other == own else backend.table(name).casefold()
    return frozenset(zip(reference.columns, reference.targets, strict=True)), table


def _unfilled(session: Session, contract: Contract, missing: Missing) -> list[str]:
    """Find new columns that rows would have no value for."""
    bare = [c.name for c in missing.columns if not c.nullable and fill_of(c) is None]
    if not bare:
        return []
    count = session.backend.spelling.fn("count")
    query = f"SELECT {count}(*) AS n FROM (SELECT 1 FROM {session.backend.table(contract.name)} LIMIT 1) AS t"
    if not session.fetch(query).item():
        return []
    return [
        f"table {contract.name} has rows, and its new column {name!r} may not be null: give the field a default, or "
        "nullable=True"
        for name in bare
    ]


# -- running -------------------------------------------------------------------------------------------


def _statements(changes: Sequence[Change]) -> list[str]:
    statements = [statement for change in changes for statement in change.statements]
    return [_OFF, *statements, _ON[1]] if any(change.rebuilds for change in changes) else statements


def _apply(session: Session, contracts: Sequence[Contract], *, rebuilds: bool = False) -> list[str]:
    with session.atomic():
        _wait_for_others(session)
        changes = _changes(session, contracts)  # again, as another may just have made them
        if not rebuilds and any(change.rebuilds for change in changes):
            raise DatabaseBusy("a table was changed by another program meanwhile: run the call again")
        for change in changes:
            try:
                for statement in change.statements:
                    session.execute(statement)
                if change.references:
                    _check_references(session, change.contract)
                    _check_rows(session, change)
            except BulkError as error:
                raise _explained(change, error) from error
    return _statements(changes)


def _wait_for_others(session: Session) -> None:
    if session.backend.creating:
        session.execute(session.backend.creating)


def _check_references(session: Session, contract: Contract) -> None:
    try:
        for statement in session.backend.after_create(contract):
            session.execute(statement)
    except (DatabaseError, ContractError) as error:
        points = "; ".join(map(str, contract.references))
        raise ContractError(
            f"table {contract.name} has a reference that does not hold ({points}): {error}; create the parent "
            "first, and point at its key or at a column that is unique by itself"
        ) from error


def _check_rows(session: Session, change: Change) -> None:
    for reference in change.references:
        query = session.backend.orphans(change.contract, reference)
        rows = int(session.fetch(query).item()) if query else 0
        if rows:
            raise ConstraintViolated(
                f"{rows} rows point at no row of {reference.table} ({reference}): correct them and run the call again",
                constraint=str(reference),
            )


def _explained(change: Change, error: BulkError) -> BulkError:
    """Say which table it was, as not every database does."""
    text = f"table {change.contract.name} was not changed, nor any other: {error}"
    if isinstance(error, DatabaseError) and error.sqlstate == _NOT_UNIQUE:
        text += f": in {'; '.join(map(str, change.references))}, point at a key or at a column that is unique by itself"
    if isinstance(error, DatabaseError):
        return type(error)(text, sqlstate=error.sqlstate, constraint=error.constraint)
    return type(error)(text)


@contextmanager
def _without_foreign_keys(session: Session) -> Iterator[None]:
    """Rebuild tables while references are not enforced: else DROP TABLE would delete their children's rows."""
    session.execute(_OFF)
    try:
        yield
    finally:
        try:
            for statement in _ON:
                session.execute(statement)
        except BulkError:
            session.broken = True  # the connection is not used again
