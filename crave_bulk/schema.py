"""The DDL of a contract: the statement that creates its table, and the order of several."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from crave_bulk.backends.base import Backend
from crave_bulk.errors import ContractError
from crave_bulk.sql import quote, quote_all
from crave_bulk.table import Contract, TableName


def create_table(backend: Backend, contract: Contract) -> str:
    """Write the statement that creates a table, if it is not there.

    Args:
        backend: whose types and names to use.
        contract: the table.

    Returns:
        One ``CREATE TABLE IF NOT EXISTS``.

    Raises:
        ContractError: a key holds a column that the database cannot index.

    Example:
        >>> import crave_bulk as cb
        >>> class Names(cb.Table):
        ...     food_id: str = cb.field(key=True, references="foods.food_id")
        ...     alias: str = cb.field(key=True)
        ...     rank: int
        >>> with cb.connect() as db:
        ...     print(create_table(db.backend, cb.table.contract_of(Names)))
        CREATE TABLE IF NOT EXISTS "Names" (
          "food_id" TEXT NOT NULL,
          "alias" TEXT NOT NULL,
          "rank" INTEGER NOT NULL,
          PRIMARY KEY ("food_id", "alias"),
          FOREIGN KEY ("food_id") REFERENCES "foods" ("food_id")
        )
    """
    lines = [
        f"{quote(column.name)} {backend.codec(column).sql_type}{'' if column.nullable else ' NOT NULL'}"
        for column in contract.columns
    ]
    check_keys(backend, contract)
    lines.append(f"PRIMARY KEY ({quote_all(contract.key)})")
    lines += [f"UNIQUE ({quote_all(key)})" for key in contract.unique]
    lines += [
        f"FOREIGN KEY ({quote_all(r.columns)}) REFERENCES {backend.table(r.table)} ({quote_all(r.targets)})"
        for r in contract.references
    ]
    body = ",\n  ".join(lines)
    return f"CREATE TABLE IF NOT EXISTS {backend.table(contract.name)} (\n  {body}\n)"


def check_keys(backend: Backend, contract: Contract) -> None:
    """Refuse a key that the database cannot index.

    Args:
        backend: the database.
        contract: the table.

    Raises:
        ContractError: a key holds such a column.
    """
    for key in (contract.key, *contract.unique):
        if unordered := [name for name in key if backend.codec(contract.column(name)).compare != "{}"]:
            raise ContractError(
                f"column {unordered[0]!r} of table {contract.name} is stored as JSON, which PostgreSQL cannot index: "
                "use a text column as the key"
            )


def in_dependency_order(contracts: Sequence[Contract]) -> list[Contract]:
    """Sort tables so that each comes after those it references.

    Args:
        contracts: the tables, in any order; references to others or to themselves do not matter.

    Returns:
        The same tables, parents first.

    Raises:
        ContractError: tables reference each other in a circle, or a column that is not unique.
    """
    by_name = {contract.name: contract for contract in contracts}
    for contract in contracts:
        _check_references(contract, by_name)
    parents = {c.name: {r.table for r in c.references if r.table in by_name} - {c.name} for c in contracts}
    try:
        return [by_name[name] for name in TopologicalSorter(parents).static_order()]
    except CycleError as error:
        circle = " -> ".join(str(name) for name in error.args[1])
        raise ContractError(
            f"tables reference each other in a circle, {circle}: drop one reference"
        ) from error


def _check_references(contract: Contract, by_name: dict[TableName, Contract]) -> None:
    """Refuse a reference that no database can hold; SQLite would do so only at the first insert."""
    for reference in contract.references:
        parent = by_name.get(reference.table)
        if parent and reference.targets not in (parent.key, *parent.unique):
            raise ContractError(
                f"table {contract.name}: {', '.join(reference.columns)} references {reference.table}."
                f"{', '.join(reference.targets)}, which is not unique: point at the parent's key, or declare that column unique=True"
            )
