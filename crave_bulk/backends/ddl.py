"""What a table lacks, and the change that adds it, in the same words for every database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from crave_bulk.backends.codec import Codec
from crave_bulk.table import Column, Reference


@dataclass(frozen=True, slots=True)
class Missing:
    """What a declaration has and the table in the database has not.

    Attributes:
        columns: in the order of the declaration.
        unique: unique keys, the key among them.
        references: to tables that are there by then.
        indexes: the statements that create them.
    """

    columns: tuple[Column, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    references: tuple[Reference, ...] = ()
    indexes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.columns or self.unique or self.references or self.indexes)


@dataclass(frozen=True, slots=True)
class Alteration:
    """The statements that add what a table lacks.

    Attributes:
        statements: in their order.
        rebuilds: they replace the table by a copy, which must happen while references are not enforced.
    """

    statements: tuple[str, ...]
    rebuilds: bool = False


def fill_of(column: Column) -> Any:
    """Find what the rows that exist get in a new column.

    Args:
        column: of a declaration.

    Returns:
        The field's default; ``"now"`` where only ``on_update`` is declared; None for NULL.
    """
    return column.options.on_update if column.options.default is None else column.options.default


def on_wire(column: Column, codec: Codec) -> Any:
    """Encode a field's default for the wire.

    Args:
        column: with a constant default.
        codec: its codec.

    Returns:
        The value in Python.

    Example:
        >>> from crave_bulk.backends.sqlite_types import codec
        >>> from crave_bulk.table import FieldOptions
        >>> price = Column("price", pl.Decimal(8, 2), False, True, False, FieldOptions(default=1))
        >>> on_wire(price, codec(price))
        '1.00'
    """
    value = pl.Series("value", [column.options.default], dtype=column.dtype)
    return value.to_frame().select(codec.encode(pl.col("value"))).to_series().to_list()[0]
