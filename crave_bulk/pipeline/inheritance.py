"""Inheritance: a table's rows may be held by tables that inherit from it (PostgreSQL), where its key and its undo do not reach."""

from __future__ import annotations

import polars as pl

from crave_bulk.errors import ContractError
from crave_bulk.pipeline.merge import Kind
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session


def check(
    session: Session,
    wire: Wire,
    source: str,
    kind: Kind,
    *,
    undo: bool,
    parameters: pl.DataFrame | None = None,
) -> None:
    """Refuse a write that meets rows of a table that inherits, if it could not be done or taken back rightly.

    Args:
        session: the connection.
        wire: the table that is written to.
        source: what follows the table, as ``t``, in a query for the rows that are concerned.
        kind: how they are written.
        undo: it is to be possible to take the batch back.
        parameters: the values that `source` binds.

    Raises:
        ContractError: it could not; the message names the table that holds a row.
    """
    key, shorts = wire.contract.key, wire.shorts(wire.contract.key)
    query = f"SELECT {held_by_sql(wire, session.backend.held_by)}, {wire.read(key)} FROM {wire.target} AS t {source}"
    found = session.fetch(query, parameters)
    rows = wire.readable(found, key)
    inherited = rows.filter("inherited")
    if not inherited.height:
        return
    name = wire.contract.name
    twice = rows.filter(pl.struct(shorts).is_duplicated())
    row = (twice.filter("inherited") if twice.height else inherited).row(0, named=True)
    which = ", ".join(str(row[short]) for short in shorts)
    holder = row["holder"]
    if twice.height:
        raise ContractError(
            f"key {which} is there twice, in table {name} or in tables that inherit from it, such as {holder}: through "
            f"{name} nothing tells the rows apart, so nothing was written: write to {holder} by its own name"
        )
    if kind == "merge":
        raise ContractError(
            f"the row of key {which} of table {name} is held by table {holder}, which inherits from it, and an upsert or a "
            f"sync would not find it there: nothing was written: write to {holder} by its own name, or use an update"
        )
    if kind == "delete" and undo:
        raise ContractError(
            f"the row of key {which} of table {name} is held by table {holder}, which inherits from it, so its deletion "
            f"through {name} could not be taken back: nothing was written: delete it from {holder} by its own name, or "
            "pass undo=False"
        )


def held_by_sql(wire: Wire, held_by: str) -> str:
    """Write which table holds a row, and whether it is another than the one that is written to."""
    return held_by.format(wire.target.replace("'", "''"))
