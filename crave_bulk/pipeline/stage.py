"""Stage: encode rows for the wire and ingest them into a temporary table.

In the staging table the columns are called ``c0``, ``c1``, …, so that no name of a user's can clash,
and keep the types that the driver gave them; `Wire` writes the SQL that turns them into the target's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.backends.codec import Codec
from crave_bulk.errors import ContractError
from crave_bulk.session import Session
from crave_bulk.sql import quote
from crave_bulk.table import Column, Contract

STAGE = "crave_bulk_stage"


class Wire:
    """A table's columns on their way to one database: short names, codecs, and the SQL between them."""

    def __init__(self, contract: Contract, backend: Backend, codecs: dict[str, Codec] | None = None) -> None:
        self.contract, self.backend = contract, backend
        self.codecs = codecs or {column.name: backend.codec(column) for column in contract.columns}
        self.short = {name: f"c{i}" for i, name in enumerate(self.codecs)}
        self.target = backend.table(contract.name)

    def over(self, contract: Contract) -> Wire:
        """Take another contract of the same table.

        Args:
            contract: the contract.

        Returns:
            Its wire.
        """
        codecs = {c.name: self.codecs.get(c.name) or self.backend.codec(c) for c in contract.columns}
        return Wire(contract, self.backend, codecs)

    def only(self, columns: tuple[Column, ...]) -> Wire:
        """Leave columns out; the others keep their short names.

        Args:
            columns: those that stay.

        Returns:
            The wire of those.
        """
        names = [column.name for column in columns]
        fewer = Wire(
            replace(self.contract, columns=columns), self.backend, {n: self.codecs[n] for n in names}
        )
        fewer.short = {name: self.short[name] for name in names}
        return fewer

    def shorts(self, names: Iterable[str]) -> list[str]:
        """Give the short names of columns.

        Args:
            names: columns of the contract.

        Returns:
            Their names in the staging table, in the same order.
        """
        return [self.short[name] for name in names]

    def encode(
        self, frame: pl.DataFrame, accepted: pl.Series | None, names: Iterable[str] | None = None
    ) -> pl.DataFrame:
        """Encode a frame for the wire.

        Args:
            frame: all columns of the contract.
            accepted: which rows to take, None for all; what is refused may not even be encodable.
            names: which columns, None for all.

        Returns:
            ``_row`` (the number of the input row) and the short columns.
        """
        rows = frame.with_row_index("_row")
        if accepted is not None:
            rows = rows.filter(accepted)
        chosen = self.codecs if names is None else names
        encoded = [self.codecs[name].encode(pl.col(name)).alias(self.short[name]) for name in chosen]
        return rows.select(pl.col("_row").cast(pl.Int64), *encoded)

    def fetch(
        self,
        session: Session,
        query: str,
        names: Sequence[str],
        *,
        numbers: Sequence[str] = (),
        parameters: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Run a query over columns of the table, and bring them to the wire's dtypes.

        Args:
            session: the connection.
            query: selects the short columns of `names`, in their order, as `read` writes them.
            names: columns of the contract.
            numbers: what the query selects before them, such as ``_row``: 64-bit integers.
            parameters: the values that the query binds.

        Returns:
            `numbers`, and the short columns in the dtypes of `encode`.
        """
        dtypes: list[pl.DataType] = [pl.Int64()] * len(numbers)
        typed = session.backend.typed(query, dtypes + [self.codecs[name].wire for name in names])
        fetched = session.fetch(typed or query, parameters).slice(0 if typed is None else 1)
        fetched.columns = [*numbers, *self.shorts(names)]
        return self.from_wire(fetched, names).cast(dict.fromkeys(numbers, pl.Int64))

    def from_wire(self, fetched: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
        """Bring short columns to the wire's dtypes, where the driver gave others.

        Args:
            fetched: short columns as the driver gave them.
            names: the columns of the contract among them.

        Returns:
            The same columns in the dtypes of `encode`; others are left alone.
        """
        with self._held():
            return fetched.with_columns(pl.col(self.short[n]).cast(self.codecs[n].wire) for n in names)

    def decode(self, rows: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
        """Bring short columns to the table's names and dtypes.

        Args:
            rows: short columns in the wire's dtypes.
            names: the columns of the contract among them.

        Returns:
            The columns as the contract has them.
        """
        with self._held():
            return rows.select(self.codecs[n].decode(pl.col(self.short[n])).alias(n) for n in names)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Say what is wrong where another program has written what the columns of a frame cannot hold."""
        try:
            yield
        except pl.exceptions.PolarsError as error:
            raise ContractError(
                f"table {self.contract.name} holds a value that its columns in a frame cannot: "
                f"{str(error).splitlines()[0]}"
            ) from error

    def read(self, names: Iterable[str], alias: str = "t") -> str:
        """Write the select list that reads columns of the target.

        Args:
            names: columns of the contract.
            alias: the target's alias.

        Returns:
            Such as ``t."id"::text AS c0, t."name" AS c1``.
        """
        return ", ".join(
            f"{self.codecs[n].read.format(f'{alias}.{quote(n)}')} AS {self.short[n]}" for n in names
        )

    def staged(self, names: Iterable[str], table: str, where: str = "true", extra: Sequence[str] = ()) -> str:
        """Write the sub-query that gives staged rows the target's names and types.

        Args:
            names: columns of the contract.
            table: the staging table.
            where: a condition over it, as ``s``.
            extra: columns of its own, such as ``s._row``.

        Returns:
            Such as ``SELECT s.c0::uuid AS "id" FROM crave_bulk_stage AS s WHERE true``.
        """
        columns = [f"{self.codecs[n].stage.format(f's.{self.short[n]}')} AS {quote(n)}" for n in names]
        return f"SELECT {', '.join([*extra, *columns])} FROM {table} AS s WHERE {where}"

    def equal(self, names: Iterable[str], left: str, right: str) -> str:
        """Write the join condition over columns that hold no NULL.

        Args:
            names: columns of the contract.
            left: one alias.
            right: the other.

        Returns:
            Such as ``t."id" = s."id"``.
        """
        return " AND ".join(f"{left}.{quote(n)} = {right}.{quote(n)}" for n in names)

    def alive(self, alias: str = "t") -> str:
        """Write the condition under which a row is not marked as deleted.

        Args:
            alias: the target's alias.

        Returns:
            Such as ``t."deleted_at" IS NULL``; ``true`` where the table has no such column.
        """
        mark = self.contract.soft_delete
        if mark is None:
            return "true"
        test = "IS NOT TRUE" if isinstance(mark.dtype, pl.Boolean) else "IS NULL"
        return f"{alias}.{quote(mark.name)} {test}"


def without(rows: pl.DataFrame, numbers: Collection[int]) -> pl.DataFrame:
    """Leave rows out.

    Args:
        rows: with ``_row``.
        numbers: the rows to leave out.

    Returns:
        The others.

    Example:
        >>> without(pl.DataFrame({"_row": [0, 1, 2]}), {1})["_row"].to_list()
        [0, 2]
    """
    return rows.filter(~pl.col("_row").is_in(list(numbers))) if numbers else rows
