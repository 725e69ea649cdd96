"""The DDL of a contract: the statement that creates its table, and the order of several."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

import polars as pl

from crave_bulk.backends.base import LONGEST_NAME, Backend
from crave_bulk.errors import ContractError
from crave_bulk.sql import quote, quote_all
from crave_bulk.table import Column, Contract, Pointer, Reference, TableName


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


def missing_indexes(contract: Contract, existing: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Select the wanted indexes that nothing which is there begins with."""
    there, missing = list(existing), set[tuple[str, ...]]()
    for index in sorted(contract.indexes, key=len, reverse=True):
        if not any(known[: len(index)] == index for known in there):
            there.append(index)
            missing.add(index)
    return [index for index in contract.indexes if index in missing]


def create_index(backend: Backend, name: TableName, columns: Sequence[str]) -> str:
    """Write the statement that creates an index.

    Example:
        >>> import crave_bulk as cb
        >>> with cb.connect() as db:
        ...     print(create_index(db.backend, TableName("orders"), ["customer", "at"]))
        CREATE INDEX "orders_customer_at_4bbc9b44_idx" ON "orders" ("customer", "at")
    """
    return f"CREATE INDEX {quote(index_name(name, columns))} ON {backend.table(name)} ({quote_all(columns)})"


def index_name(name: TableName, columns: Sequence[str]) -> str:
    """Name an index: readable, the same every time, in 63 bytes, and no other one's.

    All indexes of a database, or of a schema, share their names: ``a_b (c)`` and ``a (b_c)`` are told apart by a hash.
    """
    digest = hashlib.blake2s(repr((str(name), *columns)).encode(), digest_size=4).hexdigest()
    ending = f"_{digest}_idx"
    words = "_".join((name.table, *columns)).encode()[: LONGEST_NAME - len(ending)]
    return words.decode(errors="ignore") + ending


def create_statements(backend: Backend, contract: Contract) -> tuple[str, ...]:
    """Write all that creates a table with its indexes."""
    indexes = missing_indexes(contract, (contract.key, *contract.unique))
    return (
        *backend.prepare(contract),
        create_table(backend, contract),
        *(create_index(backend, contract.name, columns) for columns in indexes),
    )


def check_keys(backend: Backend, contract: Contract) -> None:
    """Refuse a key that the database cannot index.

    Args:
        backend: the database.
        contract: the table.

    Raises:
        ContractError: a key holds such a column.
    """
    for key in (contract.key, *contract.unique, *contract.indexes):
        if unordered := [name for name in key if backend.codec(contract.column(name)).sql_type == "json"]:
            raise ContractError(
                f"column {unordered[0]!r} of table {contract.name} is stored as JSON, which PostgreSQL cannot index: "
                "use a text column"
            )


def in_dependency_order(contracts: Sequence[Contract]) -> list[Contract]:
    """Sort tables so that each comes after those it references, and those that its lists point at.

    Lists may point in a circle, as no foreign key needs the other table to be there first.

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
    try:
        return _sorted(by_name, pointers=True)
    except CycleError:
        pass
    try:
        return _sorted(by_name, pointers=False)
    except CycleError as error:
        circle = " -> ".join(str(name) for name in error.args[1])
        raise ContractError(
            f"tables reference each other in a circle, {circle}: drop one reference"
        ) from error


def _sorted(by_name: dict[TableName, Contract], *, pointers: bool) -> list[Contract]:
    parents = {
        name: {r.table for r in (*c.references, *(c.pointers if pointers else ())) if r.table in by_name}
        - {name}
        for name, c in by_name.items()
    }
    return [by_name[name] for name in TopologicalSorter(parents).static_order()]


def _check_references(contract: Contract, by_name: dict[TableName, Contract]) -> None:
    """Refuse a reference that no database can hold; SQLite would do so only at the first insert."""
    references: list[Reference] = [*contract.references, *contract.pointers]
    for reference in references:
        parent = by_name.get(reference.table)
        if parent and isinstance(reference, Pointer):
            _check_pointer(contract, reference, parent)
        if parent and reference.targets not in (parent.key, *parent.unique):
            raise ContractError(
                f"table {contract.name}: {', '.join(reference.columns)} references {reference.table}."
                f"{', '.join(reference.targets)}, which is not unique: point at the parent's key, or declare that column unique=True"
            )
        mine = contract.column(reference.columns[0])
        if parent and not isinstance(mine.dtype, pl.List):
            _check_kinds(contract, mine, parent, parent.column(reference.targets[0]))


def _check_kinds(contract: Contract, mine: Column, parent: Contract, theirs: Column) -> None:
    """Refuse a column that can never equal the one it points at, as SQLite does not and PostgreSQL in its own words."""
    text = (pl.String, pl.Enum, pl.Categorical)
    both_text = isinstance(mine.dtype, text) and isinstance(theirs.dtype, text)
    both_numbers = mine.dtype.is_numeric() and theirs.dtype.is_numeric()
    same = both_text or both_numbers or type(mine.dtype) is type(theirs.dtype)
    if not same or mine.options.uuid != theirs.options.uuid:
        raise ContractError(
            f"table {contract.name}: {mine.name!r}, which is {_kind(mine)}, references {parent.name}.{theirs.name}, which is "
            f"{_kind(theirs)}: declare both alike"
        )


def _check_pointer(contract: Contract, pointer: Pointer, parent: Contract) -> None:
    """Refuse what a foreign key would: elements of another type; and a condition that no row can meet."""
    about = f"table {contract.name}: {', '.join(pointer.columns)} points at {parent.name}"
    dtypes = {column.name: column.dtype for column in parent.columns}
    for name, value in pointer.where:
        if name not in dtypes:
            raise ContractError(
                f"{about} where {name} is {value!r}, but it has no such column: {list(dtypes)}"
            )
        if not _can_be(dtypes[name], value):
            raise ContractError(
                f"{about} where {name} is {value!r}, but {name} is {dtypes[name]}: give such a value"
            )
    mine, theirs = contract.column(pointer.columns[0]), dtypes.get(pointer.targets[0])
    if pointer.each and theirs is not None and not _alike(mine, parent.column(pointer.targets[0])):
        raise ContractError(
            f"{about}.{pointer.targets[0]}, which is {_kind(parent.column(pointer.targets[0]))}, with elements of "
            f"{_kind(mine)}: declare both alike"
        )


def _can_be(dtype: pl.DataType, value: str | int | bool) -> bool:
    """Tell whether a value can stand in a column, and be compared there as it is written."""
    if isinstance(value, bool):
        return isinstance(dtype, pl.Boolean)
    if isinstance(value, int):
        return dtype.is_integer()
    return isinstance(dtype, pl.String | pl.Categorical) or (
        isinstance(dtype, pl.Enum) and value in dtype.categories
    )


def _alike(mine: Column, theirs: Column) -> bool:
    """Tell whether the elements of a list can be compared with a column."""
    inner = mine.dtype.inner if isinstance(mine.dtype, pl.List) else mine.dtype
    both = inner.is_integer() and theirs.dtype.is_integer()
    return (both or inner == theirs.dtype) and mine.options.uuid == theirs.options.uuid


def _kind(column: Column) -> str:
    return f"{column.dtype} with uuid=True" if column.options.uuid else str(column.dtype)
