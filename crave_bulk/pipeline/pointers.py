"""Pointers: the references of lists, and those with a condition, which no foreign key can hold.

The values that rows point with are taken from the batch and bound as one, so one statement for each
pointer asks for the parents of a batch of any size. It costs by the batch, as the values are looked up.
"""

from __future__ import annotations

import polars as pl

from crave_bulk.backends.codec import Codec, inner_dtype
from crave_bulk.compare import Parameters
from crave_bulk.errors import ConstraintViolated
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session
from crave_bulk.sql import FALSE, PLAIN, TRUE, Spelling, literal, quote
from crave_bulk.table import Column, FieldOptions, Pointer


def missing_sql(
    source: str, item: str, read: str, parent: str, pointer: Pointer, spelling: Spelling = PLAIN
) -> str:
    """Ask which of many values have no parent.

    Args:
        source: the table that the bound values become.
        item: SQL for one of them, in the type of the column.
        read: SQL template from there to the wire.
        parent: the other table, quoted.
        pointer: what the values point at.
        spelling: how the database's own operators are written.

    Returns:
        A query: ``item``, the values without a parent.

    Example:
        >>> from crave_bulk.table import TableName
        >>> pointer = Pointer(("food_id",), TableName("entities"), ("id",), where=(("type", "food"), ("old", False)))
        >>> print(missing_sql("json_each(?1)", "value", "{}", '"entities"', pointer))
        SELECT v.item AS item FROM (SELECT value AS item FROM json_each(?1)) AS v
        WHERE NOT EXISTS (SELECT 1 FROM "entities" AS p WHERE p."id" = v.item AND p."type" = 'food' AND p."old" = (1 IS NULL))
    """
    tests = [spelling.equal(f"p.{quote(pointer.targets[0])}", "v.item")]
    tests += [spelling.equal(f"p.{quote(name)}", _literal(value)) for name, value in pointer.where]
    return (
        f"SELECT {read.format('v.item')} AS item FROM (SELECT {item} AS item FROM {source}) AS v\n"
        f"WHERE NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE {' AND '.join(tests)})"
    )


def condition_value(value: str | int | bool) -> str:
    """Write a value of a condition, as people write SQL.

    Args:
        value: text, a whole number or a boolean.

    Returns:
        A literal.

    Example:
        >>> condition_value("food"), condition_value(3), condition_value(True)
        ("'food'", '3', 'true')
    """
    return literal(value) if isinstance(value, str) else str(value).lower()


def _literal(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return TRUE if value else FALSE
    return condition_value(value)


class Pointed:
    """The values that rows point with, and which of them have no parent.

    Args:
        session: the connection.
        wire: the table that points.
        pointer: what it points at.
        points: ``_row`` and the short columns of the rows that are asked for their parents.

    Attributes:
        lacking: ``_row`` and ``item`` of what was found without a parent so far.
    """

    def __init__(self, session: Session, wire: Wire, pointer: Pointer, points: pl.DataFrame) -> None:
        self._wire, self._pointer = wire, pointer
        self._codec = _item_codec(wire, pointer)
        self._items = self._of_each_row(points)
        self._missing = self._ask(session)
        self.lacking = self._items.clear()

    @property
    def items(self) -> pl.DataFrame:
        """``_row`` and ``item``, the values that rows point with."""
        return self._items

    @property
    def missing(self) -> bool:
        """Whether some value has no parent in the database."""
        return self._missing.height > 0

    def orphans(self, rows: pl.DataFrame, *, final: bool) -> pl.Series:
        """Find the rows whose parent does not exist, or is not what it must be.

        Args:
            rows: ``_row`` and the short columns, of all rows that may be written.
            final: no other row is refused, so that the last of each key is what will stand there.

        Returns:
            The numbers of the rows; a parent among `rows` counts as present if it meets the condition.
        """
        within = self._pointer.table == self._wire.contract.name
        if not (self.missing or within):
            return self._items["_row"].clear()
        items = self._items.join(rows.select("_row"), on="_row", how="semi", maintain_order="left")
        found = items.join(self._missing, on="item", how="semi", maintain_order="left")
        if within:
            found = self._within(items, found, self._parents(rows), final=final)
        self.lacking = pl.concat([self.lacking, found])
        return found["_row"].unique(maintain_order=True)

    def _within(
        self, items: pl.DataFrame, found: pl.DataFrame, parents: pl.DataFrame, *, final: bool
    ) -> pl.DataFrame:
        """Let rows of the batch be parents, and take away those that the batch turns into something else."""
        if final:
            parents = parents.unique("item", keep="last", maintain_order=True)
        found = found.join(parents.filter("meets"), on="item", how="anti", maintain_order="left")
        if final:
            turned = items.join(
                parents.filter(~pl.col("meets")), on="item", how="semi", maintain_order="left"
            )
            found = pl.concat([found, turned]).unique(maintain_order=True)
        return found

    def _parents(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Give what rows of the batch can be pointed at by, and whether they meet the condition."""
        target = self._wire.short[self._pointer.targets[0]]
        item = pl.col(target).cast(self._items.schema["item"], strict=False)
        tests = [self._meets(name, value) for name, value in self._pointer.where]
        return rows.select(item=item, meets=pl.all_horizontal(pl.lit(True), *tests)).drop_nulls("item")

    def _meets(self, name: str, value: str | int | bool) -> pl.Expr:
        have = self._wire.codecs[name].decode(pl.col(self._wire.short[name]))
        have = have.cast(pl.String) if isinstance(value, str) else have
        return (have == value).fill_null(False)

    def _of_each_row(self, points: pl.DataFrame) -> pl.DataFrame:
        """Give each value that a row points with; a null points at nothing."""
        name = self._pointer.columns[0]
        value = pl.col(self._wire.short[name])
        if not self._pointer.each:
            return points.select("_row", item=value).drop_nulls("item")
        lists = points.select("_row", item=self._wire.codecs[name].decode(value))
        items = lists.filter(pl.col("item").list.len() > 0).explode("item").drop_nulls("item")
        return items.with_columns(self._codec.encode(pl.col("item")))

    def _ask(self, session: Session) -> pl.DataFrame:
        """Fetch the values that have no parent in the database, mostly none."""
        values = self._items["item"].unique(maintain_order=True)
        if not len(values):
            return self._items.select("item").clear()
        parameters = Parameters(session.backend)
        item, table, bound = session.backend.many(values)
        query = missing_sql(
            table.format(parameters.bind(bound)),
            self._codec.stage.format(item),
            self._codec.read,
            session.backend.table(self._pointer.table),
            self._pointer,
            session.backend.spelling,
        )
        typed = session.backend.typed(query, [values.dtype])
        found = session.fetch(typed or query, parameters.frame()).slice(0 if typed is None else 1)
        found.columns = ["item"]
        return found.cast({"item": values.dtype})


def check_values(session: Session, wire: Wire, values: pl.DataFrame) -> None:
    """Check that the values which one statement sets point at what they must.

    Args:
        session: the connection.
        wire: the table.
        values: columns of the table, one row.

    Raises:
        ConstraintViolated: there is no such parent; the rows are to be written one by one, which names them.
    """
    encoded = wire.encode(values, None, values.columns)
    for pointer in wire.contract.pointers:
        if pointer.columns[0] in values.columns and Pointed(session, wire, pointer, encoded).missing:
            raise ConstraintViolated(f"{pointer} does not hold: no such row is there", sqlstate="23503")


def _item_codec(wire: Wire, pointer: Pointer) -> Codec:
    """Choose how the values travel: as the column does, or as its elements would in a column of their own."""
    column = wire.contract.column(pointer.columns[0])
    if not isinstance(column.dtype, pl.List):
        return wire.codecs[column.name]
    options = FieldOptions(uuid=column.options.uuid)
    inner = inner_dtype(column.dtype)
    return wire.backend.codec(
        Column("item", inner, nullable=True, required=False, coerce=False, options=options)
    )
